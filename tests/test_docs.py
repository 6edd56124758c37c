"""The documentation, without the packages that build the site: links and anchors, repeated figures, YAML keys, and the
worked examples of `docs/contributing.md`, which really run."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from zero2chat import stages
from zero2chat.cli import main, parser
from zero2chat.core.errors import UserError
from zero2chat.core.registry import modules
from zero2chat.recipes.recipe import load_recipe

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
RECIPES = sorted((ROOT / "recipes").rglob("README.md"))
PARTS = sorted((ROOT / "src").glob("*/README.md"))
COURSE = sorted((ROOT / "docs" / "course").glob("*.md"))
PAGES = [ROOT / "README.md", *DOCS, *COURSE, *RECIPES, *PARTS, ROOT / "chat_templates" / "README.md"]
WRITTEN = [ROOT / "README.md", *DOCS]

_FENCE = re.compile(r"^ *(```+)([^\n`]*)\n(.*?)^ *\1\s*$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`+[^`\n]+`+")
_LINK = re.compile(r"\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
# A path of the repository, whole, as the text names it in backticks.
_PATH = re.compile(
    r"(?:src|recipes|docs|tests|benchmarks|chat_templates|accelerate_configs|\.ci)/[\w./-]*|constraints\.txt|pyproject\.toml"
)
_EXAMPLE = re.compile(r".*/(mine/.*|(test_)?(opposites|manners|words)\.py)")  # what a reader writes
_IMPORTED = re.compile(r"(zero2chat\.(?:stages|rewards)\.\w+)(?:\.(\w+))?")


def _prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def _blocks(page: Path, *languages: str) -> list[str]:
    found = _FENCE.findall(page.read_text(encoding="utf-8"))
    return [textwrap.dedent(code) for _, language, code in found if language.strip() in languages]


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MyST name them."""
    found: set[str] = set()
    for heading in _HEADING.findall(_prose(page)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        number = next(i for i in range(len(found) + 1) if f"{slug}-{i}" not in found and (i or slug not in found))
        found.add(f"{slug}-{number}" if number else slug)
    return found


def _codes(page: Path) -> list[str]:
    return [code.strip("`") for code in _CODE.findall(_prose(page))]


def _rows(page: Path) -> list[list[str]]:
    """The cells of a page's tables; in code a bar is text."""
    lines = [line for line in _prose(page).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


# ---- links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_link_leads_to_a_file_and_to_a_heading_in_it(page):
    for target in _LINK.findall(_CODE.sub("", _prose(page))):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.is_file(), target
        assert file.is_relative_to(ROOT), target
        assert not anchor or anchor in _anchors(file), target


def test_every_page_is_in_the_sites_menu():
    menu = {line for page in DOCS for block in _blocks(page, "{toctree}") for line in block.split()}
    assert {page.stem for page in DOCS} - {"index"} <= menu
    assert {"/README", "/recipes/README", "/recipes/*/README", "/chat_templates/README"} <= menu


def test_recipes_are_listed_with_their_hardware():
    rows = [row for row in _rows(ROOT / "docs" / "recipes.md") if len(row) == 3 and "(../recipes/" in row[0]]
    assert len(rows) > 20  # a new recipe need not be listed
    for name, _, hardware in rows:
        assert re.search(r"\d.* (cores|GPUs?)\b", hardware), name


def test_the_table_of_what_each_recipe_trains_is_what_its_steps_say(monkeypatch):
    monkeypatch.chdir(ROOT)
    rows = _rows(ROOT / "docs" / "recipes.md")
    rows = rows[rows.index(["recipe", "stages that train"]) + 2 :]
    assert len(rows) > 30  # a new recipe need not be listed
    for recipe, listed in rows:
        trained = dict.fromkeys(f"`{step.stage}`" for step in load_recipe(recipe.strip("`")) if step.trains)
        assert listed == ", ".join(trained), recipe


# ---- what the pages name


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_files_stages_and_rewards_that_a_page_names_are_there(page):
    for code in _codes(page):
        if _PATH.fullmatch(code) and not _EXAMPLE.fullmatch(code):
            assert (ROOT / code).exists(), code
        named = _IMPORTED.fullmatch(code)
        if named:
            file = ROOT / "src" / Path(*named[1].split(".")).with_suffix(".py")
            assert file.is_file(), code
            names = {node.name for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)}
            assert not named[2] or named[2] in names, code


def test_the_table_of_stages_is_what_the_stages_say_of_themselves():
    rows = [row for row in _rows(ROOT / "docs" / "stages.md") if len(row) == 2]
    table = ((name.strip("`"), text) for name, text in rows[rows.index(["stage", "what it makes"]) + 2 :])
    listed = {name: text for name, text in table if name in stages.names()}
    assert len(listed) > 20  # a new stage need not be listed
    assert {name: stages.load(name).story.partition(". ")[0].rstrip(".") + "." for name in listed} == listed


@pytest.fixture(scope="module")
def keys() -> set[str]:
    """What a YAML may set, of any stage."""
    kinds = [kind for name in stages.names() for kind in stages.load(name).arguments]
    return {"steps"} | {field.name for kind in kinds for field in dataclasses.fields(kind)}


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_the_yaml_of_a_page_has_only_keys_that_a_stage_knows_and_its_python_compiles(page, keys):
    for block in _blocks(page, "yaml"):
        assert yaml.safe_load(block).keys() <= keys, block
    for block in _blocks(page, "python"):
        compile(block, str(page), "exec")


# ---- figures


def test_the_readme_is_a_landing_page():
    assert len((ROOT / "README.md").read_text().split()) <= 700


def test_the_readmes_results_are_those_of_the_recipes_pages():
    rows = [row for row in _rows(ROOT / "README.md") if len(row) == 3]
    (head, _, *rows) = rows
    assert len(rows) == 7
    recipes = [re.search(r"\((recipes/\w+/README\.md)#expected-scores\)", cell)[1] for cell in head[1:]]  # type: ignore[index]
    for label, *cells in rows:
        name = label[label.index("`") : label.rindex("`") + 1]
        for recipe, cell in zip(recipes, cells, strict=True):
            found = [row for row in _rows(ROOT / recipe) if len(row) == 6 and f"({name})" in row[0]]
            if cell == "–":
                assert not found, (recipe, name)
            else:
                ((_, _, end, interval, _, _),) = found
                assert cell == f"{end} ({interval})", (recipe, name)


def test_the_readmes_word_problems_are_those_of_the_recipes_pages_and_results_json_has_what_the_readme_says():
    rows = [row for row in _rows(ROOT / "README.md") if len(row) == 4 and row[1].isdigit()]
    assert len(rows) == 3
    pages = [
        " ".join((ROOT / "recipes" / name / "README.md").read_text().split()) for name in ("quickstart", "assistant")
    ]
    for label, _, *cells in rows:
        for page, cell in zip(pages, cells, strict=True):
            assert cell.removesuffix(")") in page, (label, cell)
    lacks = not re.search("asdiv|svamp", (ROOT / "docs" / "results.json").read_text())
    assert lacks == ("but those of ASDiv and SVAMP" in (ROOT / "README.md").read_text())


def test_the_assistants_scores_are_those_of_results_json():
    """`docs/results.json` is written by `make results`; the page rounds its shares to tenths of a percent."""
    results = json.loads((ROOT / "docs" / "results.json").read_text(encoding="utf-8"))
    rows = [row for row in _rows(ROOT / "recipes" / "assistant" / "README.md") if len(row) == 6]
    named = [(name, row) for row in rows for name in re.findall(r"\(`(\w+)`\)$", row[0])]
    assert len(named) > 20
    for name, (_, sft, end, interval, n, _) in named:
        steps = [("evaluate_sft", sft)] * (name != "win_rate") + [("evaluate", end)]
        for step, cell in steps:
            key = f"assistant.{step}.{name}"
            metric = results.get(key) or results[f"assistant.{step}.accuracy_{name}"]
            assert abs(float(cell.strip("%")) - 100 * metric["value"]) < 0.051, (step, name)
        assert n == str(metric["n"]), name
        low, high = (float(end) for end in interval.split(" to "))
        assert max(abs(low - 100 * metric["low"]), abs(high - 100 * metric["high"])) < 0.051, name


def test_the_web_pages_languages_are_counted_on_one_page():
    folder = ROOT / "recipes" / "debian-docs"
    kept = yaml.safe_load((folder / "corpus.yaml").read_text())["crawl"]["languages"]["keep"]
    assert f"one of {len(kept)} languages" in (folder / "README.md").read_text()
    for page in PAGES:
        assert not re.search(r"(twenty|seventeen) languages", page.read_text()), page


def test_the_quickstarts_prose_is_as_large_as_its_page_says():
    (size,) = re.findall(r"collects ([\d.]+) MB of prose", (ROOT / "recipes" / "quickstart" / "README.md").read_text())
    (prose, *_) = yaml.safe_load((ROOT / "recipes" / "quickstart" / "corpus.yaml").read_text())["datasets"]
    files = sorted(path for pattern in prose["data_files"] for path in ROOT.glob(pattern))[: prose["n"]]
    assert float(size) == round(sum(path.stat().st_size for path in files) / 1e6, 1)


def test_grpos_log_is_printed_as_its_page_says():
    from zero2chat.trainers.callbacks import _shown

    rows = [row for row in _rows(ROOT / "docs" / "grpo.md") if len(row) == 3]
    named = {row[0].strip("`"): row[1] for row in rows[rows.index(["key", "printed as", "meaning"]) + 2 :]}
    printed = {key: label for key, label in named.items() if label and "," not in key}
    assert len(printed) == 7
    for key, label in printed.items():
        assert f" | {label} " in _shown({"step": 1, key: 0.5}, 2, None), key


def test_the_verifiers_page_says_what_the_verifier_says():
    from zero2chat_verifier.verify import verify_answer

    page = (ROOT / "docs" / "math-verifier.md").read_text()
    strict, right = page.split("## What stays strict")[1].split("These answers are right:")
    for text, correct, least in ((strict, False, 14), (right, True, 6)):
        rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|", text, re.MULTILINE)
        assert len(rows) >= least
        for answer, gold in rows:
            assert verify_answer(rf"\boxed{{{answer}}}", gold).correct is correct, (answer, gold)


# ---- the worked examples


def _section(title: str) -> str:
    text = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
    return re.split(r"^## ", text.split(f"\n## {title}\n")[1], flags=re.MULTILINE)[0]


def _code(section: str, language: str) -> list[str]:
    return [code for _, name, code in _FENCE.findall(section) if name == language]


def _tests(code: str) -> Iterator[Callable[..., None]]:
    scope: dict[str, Any] = {}
    exec(compile(code, "contributing.md", "exec"), scope)
    found = [value for name, value in scope.items() if name.startswith("test_")]
    assert found
    yield from found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory as a user's, from which modules are imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("title", "file"), [("task", "my_tasks/opposites.py"), ("reward", "my_rewards/manners.py")])
def test_the_example_of_a_task_and_of_a_reward_run(title, file, here):
    section = _section(f"A {title}")
    assert f"`{file}`" in section
    module, test, *_ = _code(section, "python")
    (here / file).parent.mkdir()
    (here / file).write_text(module)
    for run in _tests(test):
        run()


def test_the_examples_pass_the_linter(tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "src").symlink_to(ROOT / "src")  # so that its imports are first-party
    (tmp_path / "my_tasks").mkdir()
    for title in ("A task", "A reward", "A stage"):
        for i, code in enumerate(_code(_section(title), "python")):
            name = "opposites" if title == "A task" and i == 0 else f"{title[2:]}_{i}"
            (tmp_path / "my_tasks" / f"{name}.py").write_text(code)
    for command in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", "my_tasks"]
        done = subprocess.run(ruff, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_the_example_of_a_stage_runs(here, monkeypatch):
    module, test = _code(_section("A stage"), "python")
    (here / "words.py").write_text(module)
    monkeypatch.setattr(stages, "__path__", [*stages.__path__, str(here)])
    monkeypatch.setattr(stages.__spec__, "submodule_search_locations", stages.__path__)
    modules.cache_clear()
    for run in _tests(test):
        run(here)
    assert stages.load("words").story.startswith("The number of words in a corpus.")
    with pytest.raises(UserError, match="words: longest: expected at least 1, got 0"):
        stages.load("words").build({"dataset": "x", "longest": 0}, "words")
    sys.modules.pop("zero2chat.stages.words")
    modules.cache_clear()


def test_the_example_of_a_recipe_runs(here, capsys):
    section = _section("A recipe")
    recipe, sft = _code(section, "yaml")
    folder = here / "recipes" / "mine"
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(recipe)
    (folder / "sft.yaml").write_text(sft)
    for name in ("accelerate_configs", "chat_templates"):
        (here / name).symlink_to(ROOT / name)
    main(["run", "recipes/mine", "--dry-run"])
    launched, report = capsys.readouterr().out.splitlines()
    assert launched == sft.splitlines()[0].removeprefix("# ")
    assert report.startswith("python -m zero2chat.stages.report --output_dir runs/mine/report")
    for step in load_recipe("recipes/mine"):
        step.arguments()
    (shell,) = _code(section, "console")
    commands = [shlex.split(line.removeprefix("$ "))[1:] for line in shell.splitlines()]
    assert [command[0] for command in commands] == ["run", "preview", "plan"]
    for command in commands:
        parser().parse_args(command)
    main(commands[2])
    assert "config             single_gpu" in capsys.readouterr().out

"""The course: nine chapters, each a page and a notebook with three exercises whose checks tell right from wrong."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

ROOT = Path(__file__).parents[2]
COURSE = ROOT / "docs" / "course"
CHAPTERS = tuple(page.stem for page in sorted(COURSE.glob("[0-9]*_*.md")))
EXERCISES = ("1", "2", "3")
each_chapter = pytest.mark.parametrize("chapter", CHAPTERS)

# A wrong answer to each exercise, such as a learner might give; the right ones are on the page of solutions.
WRONG = {
    "1": {
        "1": "answer_1 = 17  # characters",
        "2": "answer_2 = 'th'  # the first merge",
        "3": "answer_3 = val_loss / math.log(2)  # bits per token",
    },
    "2": {
        "1": "answer_1 = config.vocab_size * config.hidden_size",
        "2": "answer_2 = r'\\frac{1}{2}'",
        "3": "def nucleus(probabilities, p):\n    return {int(probabilities.argmax())}",
    },
    "3": {
        "1": "def mask_of(ids):\n    return [1] * len(ids)",
        "2": "answer_2 = '1/1'",
        "3": "answer_3 = 'Hello, please end my turn.'",
    },
    "4": {"1": "answer_1 = 0.5", "2": "answer_2 = 'K^2'", "3": "answer_3 = 'It is nice.'"},
    "5": {
        "1": "answer_1 = 0.5",
        "2": "answer_2 = -3  # not clipped",
        "3": "def k3(logps, ref_logps):\n    return logps - ref_logps",
    },
    "6": {
        "1": "answer_1 = '3/4'  # not divided by the standard deviation",
        "2": "answer_2 = '0.7071'",
        "3": "def brief_and_right(completions, answer, **columns):\n    return [1.0] * len(completions)",
    },
    "7": {"1": "program_1 = '2**100'", "2": "answer_2 = '1/k'", "3": "def my_auroc(values, positive):\n    return 0.5"},
    "8": {
        "1": "answer_1 = 0.9",
        "2": "answer_2 = 'Yes, of course.'",
        "3": "def paired_change(before, after):\n    return 0.0, 0.0, 0.0",
    },
    "9": {
        "1": "answer_1 = 2 / 3  # without the exponential",
        "2": "answer_2 = 16 * 20 * 20  # without the mask",
        "3": "def attention(queries, keys):\n    return (queries @ keys.T / queries.shape[1] ** 0.5).softmax(-1)",
    },
}


def _cells(chapter: str) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads((COURSE / f"{chapter}.ipynb").read_text(encoding="utf-8"))["cells"]
    return cells


def _code(chapter: str) -> dict[str, str]:
    """The code cells by their ids, in order."""
    return {cell["id"]: "".join(cell["source"]) for cell in _cells(chapter) if cell["cell_type"] == "code"}


def _solutions() -> dict[str, dict[str, str]]:
    """The code of the page of solutions, by chapter and exercise."""
    found: dict[str, dict[str, str]] = {}
    pattern = re.compile(r"^### Exercise (\d)\.(\d)\n.*?^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
    for chapter, number, code in pattern.findall((COURSE / "solutions.md").read_text(encoding="utf-8")):
        found.setdefault(chapter, {})[number] = code
    return found


@each_chapter
def test_a_notebook_is_valid_and_shows_what_its_cells_print(chapter: str) -> None:
    text = (COURSE / f"{chapter}.ipynb").read_text(encoding="utf-8")
    notebook = json.loads(text)
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert set(notebook) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in notebook["cells"]:
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", cell["id"])
        assert isinstance(cell["metadata"], dict)
        assert isinstance(cell["source"], list)
        assert all(line.endswith("\n") for line in cell["source"][:-1])
        if cell["cell_type"] == "code":
            assert set(cell) == {"cell_type", "id", "metadata", "source", "outputs", "execution_count"}
            assert cell["execution_count"]
            for output in cell["outputs"]:  # neither errors nor warnings, which name folders of a machine
                assert output["output_type"] == "display_data" or output["name"] == "stdout", output
            assert cell["outputs"] or not re.search(r"^print\(", "".join(cell["source"]), re.MULTILINE)
            compile("".join(cell["source"]), cell["id"], "exec")
        else:
            assert cell["cell_type"] == "markdown"
            assert set(cell) == {"cell_type", "id", "metadata", "source"}
    assert text == json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"  # as Jupyter saves it: small diffs


@each_chapter
def test_a_notebook_imports_in_its_first_cell(chapter: str) -> None:
    first, *others = _code(chapter).values()
    assert re.search(r"^from zero2chat", first, re.MULTILINE)
    exec(compile(first, chapter, "exec"), {})
    assert not any(re.search(r"^\s*(?:import|from) ", code, re.MULTILINE) for code in others)


@each_chapter
def test_a_notebook_has_three_exercises(chapter: str) -> None:
    code, number = _code(chapter), chapter[0]
    assert [name for name in code if name.startswith(("exercise-", "check-"))] == [
        f"{kind}-{n}" for n in EXERCISES for kind in ("exercise", "check")
    ]
    texts = {cell["id"]: "".join(cell["source"]) for cell in _cells(chapter) if cell["cell_type"] == "markdown"}
    for n in EXERCISES:
        assert texts[f"exercise-{n}-text"].startswith(f"## Exercise {n}: ")
        (name,) = re.findall(r"^(\w+) = None  # ", code[f"exercise-{n}"], re.MULTILINE)
        assert f"verdict({n}, {name}, " in re.sub(r"\s+", " ", code[f"check-{n}"]).replace("( ", "(")
    assert set(WRONG[number]) == set(_solutions()[number]) == set(EXERCISES)


def test_sentences_about_scores_agree_with_the_saved_outputs() -> None:
    def said(chapter: str, cell: str) -> str:
        return next("".join(one["source"]) for one in _cells(chapter) if one["id"] == cell)

    def printed(chapter: str) -> str:
        cells = [cell for cell in _cells(chapter) if cell["cell_type"] == "code"]
        return "".join("".join(output.get("text", ())) for cell in cells for output in cell["outputs"])

    six = re.findall(r"^accuracy_(\w+) +([\d.]+)% → +([\d.]+)%", printed(CHAPTERS[5]), re.MULTILINE)
    change = {name: round(float(after) - float(before), 1) for name, before, after in six}
    assert "smaller than the 4 points" in said(CHAPTERS[5], "gain-text")
    assert abs(change["word_problems"]) < 4 > abs(change["sampled_word_problems"])

    sizes = re.findall(r"^(ours|GPT-\d) +([\d,]+) tokens in the vocabulary +([\d.]+) bytes", printed(CHAPTERS[0]), re.M)
    (_, *ours), (_, *gpt2), (_, *gpt4) = [(name, int(size.replace(",", "")), float(rate)) for name, size, rate in sizes]
    assert ours < gpt2
    assert gpt4[1] < gpt2[1]  # as the text says: a larger vocabulary, of another text, compresses less here


def test_the_page_about_conversations_describes_the_quickstarts_sft() -> None:
    page = (COURSE / f"{CHAPTERS[2]}.md").read_text(encoding="utf-8")
    settings = yaml.safe_load((ROOT / "recipes/quickstart/sft.yaml").read_text(encoding="utf-8"))
    assert f"../../{settings['chat_template_path']})" in page
    assert f"`overlong: {settings['overlong']}`" in page


@pytest.mark.parametrize("file", sorted([*COURSE.glob("*.md"), *COURSE.glob("*.ipynb")]), ids=lambda file: file.name)
def test_links_lead_somewhere(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".ipynb":
        cells = _cells(file.stem)
        text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert links
    for link in links:
        if not link.startswith("https://"):
            assert (file.parent / link.partition("#")[0]).resolve().exists(), link


def _make_miniature(folder: Path) -> None:
    """The quickstart's steps in `folder`, of a few updates each."""
    for name in ("recipes", "accelerate_configs", "chat_templates"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "data").symlink_to(ROOT / "data")
    tiny = runpy.run_path(str(ROOT / "tests/test_readme.py"))["TINY"] | {
        f"{step}.logging_steps": "1" for step in ("reward", "ppo", "grpo")
    }
    settings = [word for key, value in tiny.items() for word in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "zero2chat.cli", "run", "recipes/quickstart", *settings]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quickstart's runs where `make quickstart` has made all of them, else those of a miniature of it."""
    made = ROOT / "runs" / "quickstart"
    if (made / "report" / "metrics.json").exists():
        return made
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # one miniature for all of pytest's processes
    folder = shared / "miniature"
    with FileLock(shared / "miniature.lock"):
        if not folder.exists():
            made = tmp_path_factory.mktemp("made")
            _make_miniature(made)
            made.rename(folder)  # complete, or not at all
    return folder / "runs" / "quickstart"


@pytest.mark.slow
@pytest.mark.timeout(900)  # the first one may train the miniature, in eleven processes
@each_chapter
def test_a_notebook_runs_and_its_checks_tell_right_from_wrong(chapter: str, runs: Path) -> None:
    number = chapter[0]
    answers = {n: {"wrong": WRONG[number][n], "right": _solutions()[number][n]} for n in EXERCISES}
    script = Path(__file__).with_name("run_notebook.py")
    given = {
        "env": os.environ | {"ZERO2CHAT_RUNS": str(runs), "MPLBACKEND": "agg"},
        "cwd": COURSE,
    }  # as Jupyter runs it
    command = [sys.executable, script, COURSE / f"{chapter}.ipynb", json.dumps(answers)]
    done = subprocess.run(command, **given, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    verdicts = re.findall(r"^Exercise (\d): (.+)$", done.stdout, re.MULTILINE)
    assert verdicts == [(n, said) for n in EXERCISES for said in ("not answered", "not yet", "right")]

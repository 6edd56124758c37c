"""The commands that take a recipe or a step's YAML."""

from __future__ import annotations

import argparse
from typing import Any

from zero2chat.cli.command import JSON, arg, command, console, without_progress_bars


@command(
    "run a recipe, step by step; finished steps are skipped",
    arg("recipe", metavar="RECIPE", help="a folder, such as recipes/quickstart"),
    arg("--only", metavar="STEP", help="run only this step, or all steps that this claim reads"),
    arg("--from", dest="from_", metavar="STEP", help="start at this step"),
    arg("--restart", metavar="STEP", help="run this step and all steps after it again"),
    arg("--set", action="append", default=[], metavar="STEP.KEY=VALUE", help="override a setting; repeatable"),
    arg("--accelerate-config", metavar="NAME", help="config in accelerate_configs/ for all steps"),
    arg("--seeds", type=int, default=1, metavar="N", help="train with N seeds; needs a `claims` step (default 1)"),
    arg("--jobs", type=int, default=1, metavar="N", help="run up to N steps at once, sharing the cores (default 1)"),
    arg("--dry-run", action="store_true", help="print the commands without running them"),
    JSON,
)
def run(args: argparse.Namespace) -> dict[str, Any]:
    from zero2chat.recipes import runner

    return runner.run(
        args.recipe,
        only=args.only,
        from_=args.from_,
        restart=args.restart,
        overrides=args.set,
        accelerate_config=args.accelerate_config,
        dry_run=args.dry_run,
        seeds=args.seeds,
        jobs=args.jobs,
    )


@command(
    "show rows as the model sees them: tokens, loss mask, lengths",
    arg("--config", required=True, metavar="X.yaml", help="a step's YAML, such as recipes/quickstart/sft.yaml"),
    arg("--stage", metavar="S", help="the stage, if the YAML's first comment does not name it"),
    arg("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting; repeatable"),
    arg("--n", type=int, default=3, metavar="N", help="number of rows (default %(default)s)"),
    arg("--row", type=int, metavar="I", help="show only row I"),
    JSON,
)
def preview(args: argparse.Namespace) -> dict[str, Any] | None:
    without_progress_bars()
    from zero2chat.recipes import preview

    stage, rows = preview.open_rows(args.config, args.stage, args.set)
    numbers = preview.chosen(rows, args.n, args.row)
    if args.json:
        return preview.as_json(stage, rows, numbers)
    preview.show(rows, numbers, console())
    return None


@command(
    "estimate memory, time and cost of a recipe's training steps",
    arg("recipe", metavar="RECIPE", help="a folder, such as recipes/chat-qwen3-0.6b"),
    arg("--gpu", required=True, metavar="NAME", help="such as h100, a100, l40s or 4090"),
    arg("--gpus", type=int, default=1, metavar="N", help="GPUs per node (default %(default)s)"),
    arg("--nodes", type=int, default=1, metavar="N", help="number of nodes (default %(default)s)"),
    arg("--mfu", type=float, default=0.4, metavar="SHARE", help="assumed MFU (default %(default)s)"),
    arg("--price", type=float, metavar="DOLLARS", help="price of one GPU-hour"),
    JSON,
)
def plan(args: argparse.Namespace) -> dict[str, Any]:
    without_progress_bars()
    from zero2chat.recipes.plan import plan, show

    made = plan(args.recipe, args.gpu, args.gpus, args.nodes, args.mfu, args.price)
    if not args.json:
        show(made, console())
    return made


@command(
    "write a recipe for your own model and data",
    arg("recipe", metavar="RECIPE", help="a new folder, such as my-recipe"),
    arg("--model", required=True, metavar="MODEL", help="a model folder, or a Hub name"),
    arg(
        "--data",
        required=True,
        action="append",
        metavar="FILE",
        help="conversations, preference pairs, or prompts with answers (docs/data.md); repeatable",
    ),
    arg("--eval", dest="held_out", metavar="FILE", help="rows for the evaluation (default: some of --data)"),
    arg(
        "--steps", default="", metavar="STEPS", help="sft, dpo, grpo or several, such as sft,dpo (default: by the data)"
    ),
    arg("--gpu", metavar="NAME", help="such as h100, a100, l40s or 4090 (default: this machine's CPU)"),
    arg("--gpus", type=int, metavar="N", help="number of GPUs (default: 1)"),
    arg(
        "--export",
        choices=("merged", "f32", "f16", "q8_0", "q4_k_m"),
        help="end the recipe with a merged model, or with GGUF of this type (needs `make gguf`)",
    ),
    arg("--push", metavar="NAME", help="end the recipe with a push to this private repository, such as me/my-model"),
    arg("--dry-run", action="store_true", help="print the files without writing them"),
    JSON,
)
def new(args: argparse.Namespace) -> dict[str, Any]:
    without_progress_bars()
    from zero2chat.recipes.new_recipe import new, show

    steps = [step.strip() for step in args.steps.split(",") if step.strip()]
    made = new(
        args.recipe,
        args.model,
        args.data,
        args.held_out,
        steps,
        args.gpu,
        args.gpus,
        args.dry_run,
        args.export,
        args.push,
    )
    if not args.json:
        show(made, console())
    return made

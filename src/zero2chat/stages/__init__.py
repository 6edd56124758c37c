"""What a stage is. Each stage's file ends in `STAGE = Stage(...)`; `names` finds the files without importing them."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from zero2chat.core import config
from zero2chat.core.errors import UserError, end_with_run, exit_on_mistake, known, nearest
from zero2chat.core.fingerprints import read_metrics
from zero2chat.core.registry import modules
from zero2chat.core.runs import Run, write_jsonl
from zero2chat.stages.command_line import read_arguments
from zero2chat.stages.open_run import open_run

if TYPE_CHECKING:
    from rich.table import Table

    from zero2chat.data.prepared import Prepared
    from zero2chat.models.training_job import Job
    from zero2chat.report.section import Section

Kind = Literal["plain", "trains", "answers"]
Load = Callable[[Any], tuple[Any, Any]]  # a model's path → the model, on its device, and its tokenizer


class Result(NamedTuple):
    """What a stage measures: metrics, samples and history for the report, and `lines` for the file `keeps`."""

    metrics: Mapping[str, Any]
    samples: Sequence[Mapping[str, Any]] = ()
    lines: Sequence[Mapping[str, Any]] | None = None  # None: no file
    history: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage. Its YAML fills the dataclasses in `arguments`; its functions get one instance of each.

    A stage has `run`, which does the work, or `measure`, which measures a model. `zero2chat preview` needs `prepare`,
    and `plan` needs `cost`. Without an `output_dir`, a stage with `measure` only prints; other stages need one.
    """

    name: str  # of its file
    story: str  # what it makes: for the model card, the documentation and `zero2chat STAGE --help`
    kind: Kind  # plain: one Python process; the others run under `accelerate launch`
    arguments: tuple[type, ...]
    limits: str = ""  # of the model, for its card
    prepare: Callable[..., Prepared] | None = None  # (*arguments) → tokenizer and rows as the trainer gets them
    run: Callable[..., None] | None = None  # (run, *arguments): ends in `run.finish` or `finish_model_folder`
    measure: Callable[..., Result] | None = None  # (arguments, load): `load(path)` → (model, tokenizer)
    keeps: str | Path = ""  # the file in the run folder for the lines of `measure`
    check: Callable[..., Any] | None = None  # (*arguments) → raises `UserError` before the run folder is created
    identity: Callable[..., dict[str, Any]] | None = None  # (settings, *arguments) → settings the result depends on
    beside: tuple[str, ...] = ()  # files written beside the run folder; if one is missing, the run is not done
    again: Callable[..., None] | None = None  # (*arguments): what a finished run prints again
    joins: bool = False  # only combines other steps' results, and runs again when those change
    judges: str = ""  # the setting that holds claims, each of which `zero2chat run --only` can name
    cost: Callable[..., Job] | None = None  # (job, empty_model, *arguments) → the job with this stage's own costs added
    section: Section | None = None  # what the report shows of a run
    positional: str = ""  # the keys that a command's words before its first option set, in order

    def __post_init__(self) -> None:
        if not any(hasattr(one, "output_dir") for one in self.arguments):
            raise TypeError(f"stage {self.name!r}: none of its arguments has the field `output_dir: str | None = None`")
        if self.kind not in get_args(Kind) or not (self.run or self.measure):
            raise TypeError(f"stage {self.name!r}: give it `run` or `measure`, and a kind: plain, trains or answers")

    def build(self, settings: Mapping[str, Any], where: str) -> tuple[Any, ...]:
        """Build the arguments from settings. Raises `UserError` for an unknown or refused setting."""
        if self.kind == "trains":
            from zero2chat.trainers.arguments import build_training

            return build_training(self.arguments, settings, where)
        return config.build(self.arguments, settings, where)

    def parse(self, argv: Sequence[str] | None = None) -> tuple[dict[str, Any], tuple[Any, ...]]:
        """Parse `--config X.yaml [--key value …]`. Returns the given settings, and the arguments built from them."""
        settings, where = read_arguments(sys.argv[1:] if argv is None else argv)
        return settings, self.build(settings, where)

    def main(self, argv: Sequence[str] | None = None) -> None:
        """Start or resume the stage's run, unless the run is done."""
        settings, arguments = self.parse(argv)
        common = next(one for one in arguments if hasattr(one, "output_dir"))
        folder = Path(common.output_dir or "")
        beside = [folder.parent / file for file in self.beside]
        is_done = bool(common.output_dir) and read_metrics(folder) is not None and all(file.exists() for file in beside)
        if not is_done and self.kind == "trains":  # a finished run is skipped wherever it is launched
            from zero2chat.trainers.arguments import prepare_machine

            prepare_machine(arguments)
        if not is_done and self.check is not None:
            self.check(*arguments)
        settings = self.identity(settings, *arguments) if self.identity is not None else settings
        run = open_run(common.output_dir, self.name, settings)
        run.story, run.limits = self.story, self.limits
        if is_done:
            print(f"{run.folder}: done already")
            if self.again is not None:
                self.again(*arguments)
            return
        if self.kind != "plain":
            from transformers import set_seed

            set_seed(common.seed)
        try:
            (self.run or self._measured)(run, *arguments)
        except UserError:
            run.withdraw()
            raise
        except Exception as error:
            if (line := known(error)) and any(run.folder.glob("checkpoint-*/checkpoint.json")):
                raise UserError(f"{line}; the last checkpoint is kept") from error
            raise

    def _measured(self, run: Run, args: Any) -> None:
        """Run a stage that declares `measure`."""
        from rich.console import Console

        from zero2chat.models.hardware import start_processes
        from zero2chat.models.loading import load_model

        assert self.measure is not None
        state = start_processes()

        def load(path: str) -> tuple[Any, Any]:
            model, tokenizer = load_model(path, args.dtype)
            return model.to(state.device), tokenizer

        result = self.measure(args, load)
        if state.is_main_process:
            Console(highlight=False).print(as_table(result.metrics))
            run.clear()
            if result.lines is not None:
                (run.folder / self.keeps).parent.mkdir(exist_ok=True)
                write_jsonl(run.folder / self.keeps, result.lines)
            for line in result.history:
                run.log(line)
            run.replace_samples(0, result.samples)
        run.finish(result.metrics)

    def command(self) -> None:
        """Run `main` as a program: a user's mistake prints one line and exits with code 2."""
        end_with_run()
        with exit_on_mistake():
            self.main()

    def help(self) -> str:
        """Return the help text: the stage's own settings, one per line, and the names of other configs it accepts."""
        keys: dict[str, str] = {}
        for kind in self.arguments:
            own = [base for base in kind.__mro__ if base.__module__.startswith("zero2chat")]
            declared = {name for base in own for name in inspect.get_annotations(base)}
            keys |= {one.name: one.metadata.get("help", "") for one in fields(kind) if one.name in declared}
        others = [kind.__name__ for kind in self.arguments if not kind.__module__.startswith("zero2chat")]
        name = self.name + (f" [{self.positional.upper()} …]" if self.positional else "")
        lines = [f"usage: zero2chat {name} [--config X.yaml] [--key value …]", "", self.story, ""]
        if self.measure is not None:  # for the command without `output_dir`, which only prints
            keys["json"] = "Print the metrics as JSON, without a run folder."
            keys |= {"out": "File for the stage's output, without a run folder."} if self.keeps else {}
        lines += [f"  --{key:<28} {text}".rstrip() for key, text in keys.items()]
        return "\n".join(lines + [f"\nand the settings of {' and '.join(others)}"] * bool(others))


def as_table(metrics: Mapping[str, Any]) -> Table:
    """Return a table for the terminal, with one row per metric and unrounded values."""
    from rich.table import Table

    table = Table("metric", "value", "95%", "n", box=None, pad_edge=False)
    for name, one in metrics.items():
        ends = f"{one['low']:,} to {one['high']:,}" if "low" in one else ""
        table.add_row(name, f"{one['value']:,}", ends, f"{one['n']:,}" if "n" in one else "")
    return table


def names() -> list[str]:
    """Return the names of all stages."""
    return list(modules("stages"))


def load(name: str) -> Stage:
    """Import a stage. Raises `UserError` if no stage has this name."""
    if name not in names():
        raise UserError(f"unknown stage '{name}'{nearest(name, names())}")
    stage: Stage = importlib.import_module(modules("stages")[name]).STAGE
    return stage

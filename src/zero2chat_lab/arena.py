"""Arena: rate models by pairwise comparison of their answers to the same prompts.

    zero2chat run recipes/claims --only arena

Reads models and the held-out rows of tasks. The judge is gold (the task's score or taste) or a reward model. Writes
each pair with its verdict to `pairs.jsonl`, and Bradley-Terry ratings on the Elo scale (`elo.py`). `zero2chat arena`
runs it from the shell.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch

from zero2chat import tasks
from zero2chat.core import stats
from zero2chat.core.config import Range
from zero2chat.core.errors import UserError
from zero2chat.core.runs import is_main_process
from zero2chat.core.stats import Metrics
from zero2chat.evaluation.tasks import TaskSpec, read_specs, rows_and_prompts
from zero2chat.inference.generate import answer, answer_each
from zero2chat.models.chat_template import prepare_chat_template
from zero2chat.models.loading import find_model, load_tokenizer, naming
from zero2chat.models.reward_model import load_reward_model, score_texts
from zero2chat.report.samples import SampleTable
from zero2chat.report.section import Bars, Section
from zero2chat.stages import Load, Result, Stage
from zero2chat_lab.elo import ScoredPair, fit_ratings

FILE = "pairs.jsonl"  # in the run's folder: one line per pair of answers
_SHOWN = 2  # pairs per two models saved as samples


@dataclass
class ArenaArguments:
    """The models, the tasks and the judge. Without reward_model the judge is gold."""

    output_dir: str | None = None
    models: list[str] = field(default_factory=list, metadata={"help": "Two or more model folders or Hub names."})
    tasks: list[dict] = field(default_factory=list, metadata={"help": "Tasks, each with n, split, options, samples."})
    taste: bool = field(default=False, metadata={"help": "Judge by the tasks' taste instead of their score."})
    reward_model: str | None = None
    resamples: Annotated[int, Range(min=100)] = field(
        default=1000, metadata={"help": "Bootstrap resamples of the prompts, for intervals."}
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    chat_template_path: str | None = field(default=None, metadata={"help": "Chat template for models without one."})
    eval_batch_size: Annotated[int, Range(min=1)] = 128
    seed: int = field(default=0, metadata={"help": "Seed for resamples and sampling."})

    def __post_init__(self) -> None:
        if len(self.models) < 2:
            raise ValueError(f"models: expected two or more, got {len(self.models)}")
        if not self.tasks:
            raise ValueError("tasks: the list is empty: add at least one task")
        if self.taste and self.reward_model:
            raise ValueError("`taste` and `reward_model` exclude each other: set only one of them")
        # Checked here too, so that a recipe fails before its first step runs.
        for spec in read_specs(self.tasks):
            if self.taste:
                tasks.load_taste(spec.task)
        names_of(self.models)


class Bout(NamedTuple):
    """Two answers to one prompt, the score of a's answer (1, ½ for a draw, or 0), and the judge's value of each."""

    prompt: int
    task: str
    messages: Sequence[dict[str, Any]]
    models: tuple[int, int]
    answers: tuple[str, str]
    score: float = 0.5
    why: dict[str, Any] = {}  # noqa: RUF012 - never changed


def measure(args: ArenaArguments, load: Load) -> Result:
    """Return the metrics, the first decided pairs as samples, and all pairs. Every rank must call this."""
    _look(args)
    bouts = list(_bouts(args, load))
    if not is_main_process():
        return Result({})
    if args.reward_model is not None:
        bouts = _rewarded(args, bouts)
    names = names_of(args.models)
    return Result(_measure(args, names, bouts), _samples(names, bouts), [_line(bout, names) for bout in bouts])


def _look(args: ArenaArguments) -> None:
    """Raises `UserError`, before any model answers, if a model is missing or has no chat template."""
    for path in filter(None, [args.reward_model, *args.models]):
        find_model(path)
        with naming(path):
            template = None if path == args.reward_model else args.chat_template_path
            prepare_chat_template(load_tokenizer(path), template, replace=False)


def names_of(paths: Sequence[str]) -> list[str]:
    """Return the shortest distinct suffixes of the paths. Raises `UserError` for a duplicate path."""
    if twice := [path for i, path in enumerate(paths) if path in paths[:i]]:
        raise UserError(f"models: {twice[0]} is listed twice: list each model once")
    parts = [Path(path).parts for path in paths]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(some[-depth:]) for some in parts]
        if len(set(names)) == len(names):
            return names
    return list(paths)


# ---- answers


def _bouts(args: ArenaArguments, load: Load) -> Iterator[Bout]:
    """Yield all pairs of answers to all prompts. The models answer one after another; gold verdicts are included."""
    specs = read_specs(args.tasks)
    entries = [(spec, *rows_and_prompts(spec)) for spec in specs]
    said: list[list[list[list[str]]]] = []  # by model, task, prompt: one answer, or `samples`
    for path in args.models:
        model, tokenizer = load(path)
        prepare_chat_template(tokenizer, args.chat_template_path, replace=False)
        said.append([_answers(model, tokenizer, spec, prompts, args) for spec, _, prompts in entries])
        if is_main_process():
            print(f"{path}: {sum(len(prompts) for _, _, prompts in entries):,} prompts answered", flush=True)
    number = itertools.count()
    for k, (spec, rows, prompts) in enumerate(entries):
        gold: tasks.Taste | None = None
        if args.reward_model is None:
            gold = tasks.load_taste(spec.task) if args.taste else tasks.load(spec.task).score
        for i, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
            n, answers = next(number), [by_task[k][i] for by_task in said]
            for a, b in itertools.combinations(range(len(answers)), 2):
                for pair in zip(answers[a], answers[b], strict=True):
                    bout = Bout(n, str(spec.label), prompt, (a, b), pair)
                    yield _by_worth(bout, *(gold(row, text) for text in pair)) if gold else bout


def _answers(model: Any, tokenizer: Any, spec: TaskSpec, prompts: Any, args: ArenaArguments) -> list[list[str]]:
    """Generate one greedy answer per prompt, or `samples` at temperature 1."""
    limits = (spec.max_new_tokens, 1.0, args.eval_batch_size, args.seed)
    if spec.samples:
        return [[a.content for a in some] for some in answer_each(model, tokenizer, prompts, spec.samples, *limits)]
    greedy = answer(model, tokenizer, prompts, spec.max_new_tokens, batch_size=args.eval_batch_size)
    return [[a.content] for a in greedy]


# ---- verdicts


def _by_worth(bout: Bout, a: float, b: float) -> Bout:
    return bout._replace(score=1.0 if a > b else 0.0 if a < b else 0.5, why={"worth_a": a, "worth_b": b})


def _rewarded(args: ArenaArguments, bouts: Sequence[Bout]) -> list[Bout]:
    model, tokenizer = load_reward_model(args.reward_model, args.dtype)
    device = torch.accelerator.current_accelerator(check_available=True)
    chats = {
        (bout.prompt, text): [*bout.messages, {"role": "assistant", "content": text}]
        for bout in bouts
        for text in bout.answers
    }
    raw, _ = score_texts(model.to(device or "cpu"), tokenizer, list(chats.values()), args.eval_batch_size)
    worth = dict(zip(chats, raw, strict=True))
    return [_by_worth(bout, *(worth[bout.prompt, text] for text in bout.answers)) for bout in bouts]


# ---- metrics


def _measure(args: ArenaArguments, names: Sequence[str], bouts: Sequence[Bout]) -> Metrics:
    """Compute ratings, the best model first, and pairwise win rates."""
    comparisons = [ScoredPair(bout.prompt, *bout.models, bout.score) for bout in bouts]
    ratings = fit_ratings(comparisons, len(names), args.resamples, args.seed)
    order = sorted(range(len(names)), key=lambda i: -ratings.models[i].value)
    fought = [sum(i in c[1:3] for c in comparisons) for i in range(len(names))]

    def metric(estimate: Any, n: int) -> dict[str, Any]:
        return {key: round(value, 1) for key, value in estimate._asdict().items()} | {"n": n, "seed": args.seed}

    metrics = {f"rating_{names[i]}": metric(ratings.models[i], fought[i]) for i in order}
    for a, b in itertools.combinations(order, 2):
        of_prompt: dict[int, list[float]] = {}
        for c in comparisons:
            if {c.a, c.b} == {a, b}:
                of_prompt.setdefault(c.prompt, []).append(c.score if c.a == a else 1 - c.score)
        if of_prompt:  # answers to one prompt are correlated: the interval is over prompts
            won = sum(sum(some) / len(some) for some in of_prompt.values())
            metrics[f"win_rate_{names[a]}_against_{names[b]}"] = stats.rate(won, len(of_prompt), args.seed)
    return metrics | {
        "prompts": {"value": len({c.prompt for c in comparisons})},
        "comparisons": {"value": len(comparisons)},
        "draw_rate": stats.rate(sum(c.score == 0.5 for c in comparisons), len(comparisons)),
        "draws_added": {"value": ratings.draws},
    }


def _line(bout: Bout, names: Sequence[str]) -> dict[str, Any]:
    sides = {f"model_{side}": names[i] for side, i in zip("ab", bout.models, strict=True)}
    sides |= {f"answer_{side}": text for side, text in zip("ab", bout.answers, strict=True)}
    return {"prompt": bout.messages, "task": bout.task} | sides | {"score_a": bout.score} | bout.why


def _samples(names: Sequence[str], bouts: Sequence[Bout]) -> list[dict[str, Any]]:
    """Return the first decided pairs of every two models: the winner's answer, and the loser's."""
    shown: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for bout in bouts:
        some = shown.setdefault(bout.models, [])
        if bout.score == 0.5 or len(some) == _SHOWN:
            continue
        won = 0 if bout.score > 0.5 else 1
        some.append(
            {"prompt": bout.messages[-1]["content"], "completion": bout.answers[won], "task": bout.task}
            | {"winner": names[bout.models[won]], "other": bout.answers[1 - won], "loser": names[bout.models[1 - won]]}
        )
    return [sample for some in shown.values() for sample in some]


STAGE = Stage(
    name="arena",
    story="Ratings of models whose answers to the same prompts were compared pairwise.",
    kind="answers",
    arguments=(ArenaArguments,),
    positional="models",
    measure=measure,
    keeps=FILE,
    section=Section(
        title="Who is best?",
        story="All models answer the same prompts. For each pair of answers, one wins or it is a draw. Many such "
        "comparisons give Elo-style ratings, as in chess: a lead of 400 points means ten wins for each loss.",
        metrics={
            "rating": "rating of the best model",
            "comparisons": "comparisons of two answers",
            "draw_rate": "draws",
            "draws_added": "draws added, because a model won every comparison: the intervals are wide",
        },
        figures=(
            Bars("Ratings, with 95% intervals over prompts.", {"rating": "rating_(.+)"}, "rating", dots=True),
            Bars("Win rates; a draw is half.", {"win_rate": "win_rate_(.+)_(against)_(.+)"}),
        ),
        samples=SampleTable(
            "An example pair",
            "The first pair with a winner; not cherry-picked.",
            columns={"asked": "prompt", "won": "completion", "by": "winner", "lost": "other", "loser": "loser"},
            n=1,
        ),
    ),
)

if __name__ == "__main__":
    STAGE.command()

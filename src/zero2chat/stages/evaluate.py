"""Evaluation: a model answers each task's test rows, greedily and sampled.

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat.stages.evaluate --config recipes/quickstart/evaluate.yaml

Reads a model. Writes its accuracy on each task, pass@1 and pass@k, with counts and 95% intervals, the number of
contaminated questions (those that occur in the `contamination` texts), and the best constant answer's score. Tasks may
use tools. Standard benchmarks (`harness`) run in lm-evaluation-harness. If the model is one of our runs, its model card
gets the scores, too.

`scores.jsonl` has each row's score. With `compare_to`, another evaluation's folder, `change_<label>` is the mean paired
difference to it. A task with `against`, another model's folder, gives a win rate by the task's taste. Answers to
`questions` are saved, not scored. `datasets` are rows of one's own, scored by reward functions, a judge, the math
verifier, and metrics of the `evaluate` library.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zero2chat import tasks
from zero2chat.core import stats
from zero2chat.core.config import MeasuringArguments, Range
from zero2chat.core.errors import UserError
from zero2chat.core.runs import Run, digest, is_main_process, read_jsonl, write_atomically
from zero2chat.core.stats import Metrics
from zero2chat.core.text import on_terminal
from zero2chat.data.decontamination import find_seen, read_training_sources, training_texts
from zero2chat.data.rows import local_files
from zero2chat.evaluation.lm_eval import find_tasks, read_harness, run_harness
from zero2chat.evaluation.own_data import evaluate_own_data, load_rows, read_own_data
from zero2chat.evaluation.tasks import Scored, TaskSpec, evaluate_tasks, read_specs, rows_and_prompts
from zero2chat.hub.model_card import add_scores
from zero2chat.inference.generate import answer
from zero2chat.inference.tool_format import Tools, make_tools
from zero2chat.models.chat_template import end_turn, prepare_chat_template
from zero2chat.models.hardware import is_on_cpu, start_processes
from zero2chat.models.loading import load_model
from zero2chat.models.tokenization import split_thought
from zero2chat.report.parts import esc, paragraph, spoken, table, to_text
from zero2chat.report.section import TASK_SCORES, Section
from zero2chat.report.steps import StepResult
from zero2chat.stages import Stage

HARNESS = "harness.json"  # the unchanged results of lm-evaluation-harness
SCORES = "scores.jsonl"  # one line per evaluated row
FIRST_QUESTIONS = "first questions"  # the `task` of their samples
_LONGEST_REPLY = 64  # maximum tokens of an answer to a first question
_SHOWN = 6  # answers of two compared models saved as samples


@dataclass
class EvaluateArguments(MeasuringArguments):
    dtype: Literal["auto", "float32", "bfloat16", "float16"] | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Precision of the weights; default: float32 on a CPU, on a GPU as saved."}
    )
    model_revision: str = "main"
    attn_implementation: str | None = None
    load_in_8bit: bool = field(default=False, metadata={"help": "Weights in 8 bits (LLM.int8, bitsandbytes)."})
    load_in_4bit: bool = field(default=False, metadata={"help": "Weights in 4 bits (NF4, bitsandbytes)."})
    chat_template_path: str | None = None
    tasks: list[dict] = field(default_factory=list, metadata={"help": "Tasks, each with n, samples, options."})
    datasets: list[dict] = field(
        default_factory=list,
        metadata={"help": "Your own rows: each a source with `rewards`, `metrics` (by name or path) or both."},
    )
    harness: list[dict] = field(
        default_factory=list, metadata={"help": "Tasks of lm-evaluation-harness, each with num_fewshot, limit, …"}
    )
    contamination: list[dict] = field(
        default_factory=list, metadata={"help": "Training data to check against: paths, or load_dataset's keys."}
    )
    tools: dict = field(default_factory=dict, metadata={"help": "Tools by name, for tasks with `tools: true`."})
    compare_to: str | None = field(
        default=None, metadata={"help": "Run folder of another evaluation, to report the change on the same rows."}
    )
    questions: list[str] = field(
        default_factory=list, metadata={"help": "Questions to answer greedily; the answers are saved, not scored."}
    )
    question_tools: bool = field(default=False, metadata={"help": "Give the tools for `questions` too."})
    eval_batch_size: Annotated[int, Range(min=1)] = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.tasks or self.datasets or self.harness or self.questions):
            raise ValueError("tasks, datasets and harness are empty: add at least one entry, or set `questions`")
        if any(not question.strip() for question in self.questions):
            raise ValueError("questions: a question is empty: fill it in, or remove it")
        if self.question_tools and not (self.questions and self.tools):
            raise ValueError("question_tools: it needs `questions` and `tools`: set them, or remove it")
        if self.compare_to is not None and not (self.tasks or self.datasets):
            raise ValueError("compare_to: only `tasks` and `datasets` can be compared: add one, or remove compare_to")
        if self.load_in_8bit and self.load_in_4bit:
            raise ValueError("load_in_8bit and load_in_4bit: set one of them")
        if self.load_in_4bit and self.dtype == "auto":
            raise ValueError("load_in_4bit: dtype auto is not supported: set dtype, such as bfloat16")
        # Checked here too, so that a recipe fails before its first step runs:
        labels = [spec.label for spec in read_specs(self.tasks, self.tools, two_models=True)]
        for own in read_own_data(self.datasets, self.tools):
            if own.label in labels:
                raise ValueError(f"datasets: a task has the label '{own.label}', too: set another `label`")
        read_harness(self.harness)
        read_training_sources(self.contamination)


def run(run: Run, args: EvaluateArguments) -> None:
    entries, standard = read_specs(args.tasks, args.tools, two_models=True), read_harness(args.harness)
    specs, compared = ([spec for spec in entries if (spec.against is None) == alone] for alone in (True, False))
    managers = find_tasks(standard)
    own = [(spec, load_rows(spec)) for spec in read_own_data(args.datasets, args.tools)]
    earlier: dict[tuple[str, str], list[float | None]] = {}
    if args.compare_to is not None:
        digests = {str(spec.label): [digest(row) for row in rows_and_prompts(spec)[0]] for spec in specs}
        earlier = read_scores(args.compare_to, digests | {str(spec.label): rows.digests() for spec, rows in own})
    for source in read_training_sources(args.contamination):
        local_files(source)  # they are read at the end: a missing file must be found now
    state = start_processes()
    # Without a chat template the prompts are plain text for a base model.
    chats = bool(entries or own or args.questions or any(spec.apply_chat_template for spec in standard))
    model, tokenizer = _open(str(args.model_name_or_path), args, args.model_revision, chats)
    model.to(state.device)
    tools = make_tools(args.tools)

    metrics, samples, scored = evaluate_tasks(
        model, tokenizer, specs, batch_size=args.eval_batch_size, seed=args.seed, tools=tools
    )
    metrics |= _over_tasks(scored, specs)
    asked_own: list[tuple[list[str], list[str]]] = []
    for data, rows in own:
        found, shown, more = evaluate_own_data(model, tokenizer, data, rows, args.eval_batch_size, tools)
        metrics, samples, scored = metrics | found, samples + shown, scored + more
        asked_own.append((list(found), [prompt[-1]["content"] for prompt in rows.prompts]))
    seeds = {str(spec.label): spec.seed for spec in specs} | {str(data.label): data.seed for data, _ in own}
    metrics |= _changes(scored, earlier, seeds)
    for pair in compared:
        other, its_tokenizer = _open(str(pair.against), args)
        other.to(state.device)
        rate, shown = _win_rate(pair, (other, its_tokenizer), (model, tokenizer), args.eval_batch_size, tools)
        del other  # free it before loading the next one
        metrics[_name_of_win_rate(pair)] = rate
        samples += shown
    if args.questions:
        at_hand = tools if args.question_tools else None
        samples += _first_questions(model, tokenizer, args.questions, args.eval_batch_size, at_hand)
    asked = [(_scores_of(spec, metrics), _questions_of(spec) if args.contamination else []) for spec in entries]
    asked += asked_own
    raw = {}
    for spec in standard:
        result = run_harness(model, tokenizer, spec, managers[spec.include_path], args.eval_batch_size)
        if result is not None:
            metrics |= result.metrics
            raw[spec.label] = result.raw
            asked.append((list(result.metrics), result.questions))
    if state.is_main_process:
        run.replace_samples(0, samples)
        write_scores(run.folder, scored)
        _say_what_was_seen(metrics, asked, args.contamination)
        _say_the_rest(metrics, args.compare_to)
        if raw:
            write_atomically(run.folder / HARNESS, json.dumps(raw, indent=2) + "\n")
    run.finish(metrics | {"bytes_model": {"value": model.get_memory_footprint()}})
    if state.is_main_process:
        add_scores(str(args.model_name_or_path), run.folder, metrics)


def _open(
    path: str, args: EvaluateArguments, revision: str = "main", chats: bool = True
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a chat model and its tokenizer. Raises `UserError` if it is missing or has no chat template."""
    options: dict[str, Any] = {"attn_implementation": args.attn_implementation}
    # In fp32 an 8B model and its batch of keys and values would fill a GPU.
    dtype = args.dtype or ("float32" if args.load_in_8bit or args.load_in_4bit or is_on_cpu() else "auto")
    if args.load_in_8bit or args.load_in_4bit:
        from trl import ModelConfig, get_quantization_config  # trl takes seconds

        quantized = ModelConfig(dtype=dtype, load_in_8bit=args.load_in_8bit, load_in_4bit=args.load_in_4bit)
        options["quantization_config"] = get_quantization_config(quantized)
    model, tokenizer = load_model(path, dtype, revision, **options)
    if chats:
        prepare_chat_template(tokenizer, args.chat_template_path)
    if chats and args.chat_template_path is not None:
        # A base model's generation config has only the end-of-document token, so it would not stop after a turn.
        try:
            end_turn(model, tokenizer)
        except UserError as error:
            if is_main_process():
                print(f"{path}: only the model's own EOS tokens end an answer: {error}", flush=True)
    return model, tokenizer


# ---- row by row


def write_scores(folder: Path, scored: Sequence[Scored]) -> None:
    """Write one line of `scores.jsonl` per row, and of own data per score, without the answer's text."""
    left_out = [("text",) if one.by else ("text", "by") for one in scored]
    lines = (
        {key: value for key, value in asdict(one).items() if key not in without}
        for one, without in zip(scored, left_out, strict=True)
    )
    write_atomically(folder / SCORES, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def read_scores(folder: str, rows: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], list[float | None]]:
    """Read another evaluation's scores, by label and scorer, for the labels in `rows`, with their rows' digests.

    Raises `UserError` if the folder has no scores, none of these labels, or a label with other rows.
    """
    path = Path(folder) / SCORES
    if not path.is_file():
        raise UserError(f"compare_to: {folder}: no {SCORES}: give the run folder of a finished evaluate step")
    kept: dict[tuple[str, str], list[tuple[str, float | None]]] = {}
    try:
        for line in read_jsonl(path):
            score = None if line["score"] is None else float(line["score"])
            kept.setdefault((line["label"], line.get("by", "")), []).append((line["row"], score))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"compare_to: {path} cannot be read ({error}): run its step again") from error
    found = {}
    for (label, by), lines in kept.items():
        if label not in rows:
            continue
        if [row for row, _ in lines] != list(rows[label]):
            raise UserError(
                f"compare_to: {folder} evaluated '{label}' on other rows: set the same task, n, seed, split and "
                "options in both, or another label in one of them"
            )
        found[label, by] = [score for _, score in lines]
    if not found:
        raise UserError(f"compare_to: {folder} evaluated none of these tasks: use the same labels in both")
    return found


def _changes(
    scored: Sequence[Scored], earlier: Mapping[tuple[str, str], Sequence[float | None]], seeds: Mapping[str, int]
) -> Metrics:
    """Return `change_<label>`, of own data `change_<score>_<label>`: the mean paired difference to another evaluation's
    scores."""
    metrics = {}
    for (label, by), before in earlier.items():
        after = [one.score for one in scored if (one.label, one.by) == (label, by)]
        pairs = [pair for pair in zip(before, after, strict=False) if None not in pair]
        if pairs:  # none: this evaluation lacks the score
            changes = [b - a for a, b in pairs if a is not None and b is not None]
            metrics[f"change_{by}_{label}" if by else f"change_{label}"] = stats.mean(changes, seeds[label])
    return metrics


def _over_tasks(scored: Sequence[Scored], specs: Sequence[TaskSpec]) -> Metrics:
    """Return `needless_calls` if some tasks need no tool, and `declined_within_reach` if some are out of reach."""
    labels = {spec.label for spec in specs if spec.needless}
    called = [one.called for one in scored if one.label in labels]
    metrics = {"needless_calls": stats.rate(sum(called), len(called))} if called else {}
    declines = {spec.label: found for spec in specs if (found := tasks.load(spec.task).declines) is not None}
    apart = declines.keys() | {spec.label for spec in specs if spec.declines}
    within = [one for one in scored if one.label not in apart]
    if declines and within:
        declined = next(iter(declines.values()))
        metrics["declined_within_reach"] = stats.rate(
            # Declining may be right for some rows of a task, such as what was never said in the conversation.
            sum(one.score != 1 and declined(split_thought(one.text)[1]) for one in within),
            len(within),
        )
    return metrics


# ---- two models


def _name_of_win_rate(spec: TaskSpec) -> str:
    return "win_rate" if spec.label == "win_rate" else f"win_rate_{spec.label}"


def _win_rate(
    spec: TaskSpec,
    other: tuple[PreTrainedModel, PreTrainedTokenizerBase],
    ours: tuple[PreTrainedModel, PreTrainedTokenizerBase],
    batch_size: int,
    tools: Tools | None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the win rate against the other model, and the first answers of both as samples."""
    taste = tasks.load_taste(spec.task)
    rows, prompts = rows_and_prompts(spec)
    at_hand = tools if spec.tools else None
    theirs, our = (
        answer(*opened, prompts, spec.max_new_tokens, 1.0, batch_size, spec.seed, at_hand) for opened in (other, ours)
    )
    before, after = ([taste(row, a.content) for row, a in zip(rows, some, strict=True)] for some in (theirs, our))
    samples = [
        {
            "prompt": row["question"],
            "completion": one.whole or one.text,
            "other": another.whole or another.text,
            "task": spec.label,
            "won": stats.win_rate([gold], [our_gold])["value"],
        }
        for row, another, one, gold, our_gold in zip(rows, theirs, our, before, after, strict=True)
    ]
    return stats.win_rate(before, after, spec.seed), samples[:_SHOWN]


# ---- first questions


def _first_questions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    batch_size: int,
    tools: Tools | None,
) -> list[dict[str, Any]]:
    """Answer typed questions, each in a new conversation; print the answers and return them as unscored samples."""
    prompts = [[{"role": "user", "content": question}] for question in questions]
    found = answer(model, tokenizer, prompts, _LONGEST_REPLY, batch_size=batch_size, tools=tools)
    if is_main_process():
        for question, said in zip(questions, found, strict=True):
            print(on_terminal(f"{question}\n  {' '.join(said.text.split())[:200]}"), flush=True)
    return [
        {
            "prompt": question,
            "completion": said.whole or said.text,
            "task": FIRST_QUESTIONS,
            "said": said.text,
            "calls": said.calls,
        }
        for question, said in zip(questions, found, strict=True)
    ]


# ---- what is printed


def _scores_of(spec: TaskSpec, metrics: dict[str, dict[str, Any]]) -> list[str]:
    kinds = ("accuracy", "accuracy_sampled", "pass_at_1", f"pass_at_{spec.samples}")
    if spec.against is not None:
        return [_name_of_win_rate(spec)]
    return [name for name in (f"{kind}_{spec.label}" for kind in kinds) if name in metrics]


def _questions_of(spec: TaskSpec) -> list[str]:
    rows = tasks.load(spec.task).rows(spec.split, spec.seed, spec.n, **spec.options)
    return [row["question"] for row in rows]


def _say_what_was_seen(
    metrics: dict[str, dict[str, Any]], asked: Sequence[tuple[list[str], list[str]]], entries: Sequence[Any]
) -> None:
    """Print each score with its number of contaminated questions, which also goes into `metrics`."""
    seen = set()
    if entries:
        everything = (question for _, some in asked for question in some)
        seen = find_seen(everything, training_texts(read_training_sources(entries)))
    for names, questions in asked:
        count = sum(question in seen for question in questions)
        said = f"{count} of {len(questions)} questions seen in training" if entries else "not checked"
        for name in names:
            metrics[name] |= {"contaminated": count} if entries else {}
            print(f"{name}: {metrics[name]['value']:.3f}; contamination: {said}", flush=True)


def _say_the_rest(metrics: Metrics, compare_to: str | None) -> None:
    """Print changes and other rates. Scores and win rates are printed with their contamination."""
    for name, metric in metrics.items():
        if name.startswith("change_") or name in ("needless_calls", "declined_within_reach"):
            since = f" since {Path(str(compare_to)).name}" if name.startswith("change_") else ""
            sign = "+" if since else ""
            between = f"{metric['low']:{sign}.3f} to {metric['high']:{sign}.3f}"
            print(f"{name}: {metric['value']:{sign}.3f}{since} (95%: {between}; n = {metric['n']})", flush=True)


def _check(args: EvaluateArguments) -> None:
    find_tasks(read_harness(args.harness))


def _main_metrics(step: StepResult) -> dict[str, str]:
    """Return metric → label: of tasks, the user's own data and harness tasks, then what every evaluation has."""
    own = {
        f"{score}_{label}": f"{score}, {label}"
        for label in step.named("stop_rate_(.+)")
        for score in step.named(rf"(?!(?:change|constant|accuracy|stop_rate)_)(.+)_{re.escape(label)}")
    }
    win_rates = {f"win_rate_{task}": f"win rate, {task}" for task in step.named("win_rate_(.+)")}
    return {
        "accuracy": "accuracy, mean over tasks",
        "accuracy_sampled": "accuracy when sampled",
        "pass_at_1": "pass@1",
        "pass_at_8": "pass@8",
        **own,
        **win_rates,
        **{name: name for name in step.named(r"(.+\..+)")},
        "needless_calls": "of answers call a tool although none is needed",
        "declined_within_reach": "abstention rate on answerable questions",
        "stop_rate": "of answers end with the EOS token",
        "bytes_model": "model weights",
    }


def _typed_questions(steps: Sequence[StepResult]) -> str:
    """Return a table of several evaluations' answers to the same typed questions; "" for fewer than two."""
    typed = {step.name: [s for s in step.samples if s.get("task") == FIRST_QUESTIONS] for step in steps}
    answers = {name: {to_text(s["prompt"]): s for s in found} for name, found in typed.items() if found}
    questions = dict.fromkeys(question for found in answers.values() for question in found)
    rows = (
        (
            esc(question),
            *(spoken(found[question].get("said"), 200) if question in found else "" for found in answers.values()),
        )
        for question in questions
    )
    text = "Questions as a newcomer types them, each in a new conversation, answered greedily after each step."
    return paragraph(text, "story") + table(("question", *map(esc, answers)), rows) if len(answers) > 1 else ""


STAGE = Stage(
    name="evaluate",
    story="Scores of a model on tasks and standard benchmarks, with counts and 95% intervals.",
    kind="answers",
    arguments=(EvaluateArguments,),
    check=_check,
    run=run,
    section=Section(
        title="The exam",
        story="Evaluation. The project's tasks ask held-out questions that their training rows do not contain. A score "
        "on a few hundred questions is noisy, so each is shown with its 95% interval: about 95 of a hundred such "
        "intervals contain the true score. The best constant answer is the score of giving the same, best answer to "
        "every question. Scores without a count of contaminated questions were not checked for contamination.",
        metrics=_main_metrics,
        figures=(TASK_SCORES,),
        together=_typed_questions,
        together_title="The same questions after each step",
    ),
)
main = STAGE.main

if __name__ == "__main__":
    STAGE.command()

"""Evaluation: a model answers each task's test rows, greedily and sampled.

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat.stages.evaluate --config recipes/quickstart/evaluate.yaml

Reads a model. Writes its accuracy, pass@1 and pass@k on each task, with counts and 95% intervals. Also writes the score
of the best constant answer, and the number of contaminated questions (found in the `contamination` texts). Tasks may
use tools. Standard benchmarks (`harness`) run in lm-evaluation-harness. If one of our runs made the model, the scores
are also added to its model card.

`scores.jsonl` has each row's score. If `compare_to` names another evaluation's folder, `change_<label>` is the mean
paired difference from that evaluation. If a task's `against` names another model's folder, the task gives a win rate,
judged by its taste. Answers to `questions` are saved, not scored. `datasets` are the user's own rows. Reward functions,
a judge, the math verifier, or metrics of the `evaluate` library score them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from zero2chat.core.config import Range
from zero2chat.core.runs import Run, is_main_process, write_atomically
from zero2chat.data.decontamination import read_training_sources
from zero2chat.data.rows import local_files
from zero2chat.evaluation.comparison import compare_with, win_rate_name
from zero2chat.evaluation.lm_eval import find_tasks, read_harness, run_harness
from zero2chat.evaluation.models import open_evaluated
from zero2chat.evaluation.own_data import OwnData, evaluate_own_data, load_rows, read_own_data
from zero2chat.evaluation.scores import (
    changes_since,
    metrics_over_tasks,
    print_changes,
    questions_of,
    read_scores,
    report_contamination,
    scores_of,
    write_scores,
)
from zero2chat.evaluation.tasks import TaskSpec, answer_questions, evaluate_tasks, read_specs
from zero2chat.hub.model_card import add_scores
from zero2chat.inference.tool_format import make_tools
from zero2chat.report.section import TASK_SCORES, Section
from zero2chat.stages import Stage
from zero2chat.stages.shared import MeasuringArguments, evaluation_metrics

HARNESS = "harness.json"  # the unchanged results of lm-evaluation-harness


@dataclass
class EvaluateArguments(MeasuringArguments):
    entries: ClassVar[dict[str, type]] = {"tasks": TaskSpec, "datasets": OwnData}
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
            raise ValueError("questions: an entry is empty: write a question, or remove the entry")
        if self.question_tools and not (self.questions and self.tools):
            raise ValueError("question_tools: `questions` or `tools` is not set: set both, or remove question_tools")
        if self.compare_to is not None and not (self.tasks or self.datasets):
            raise ValueError("compare_to: no `tasks` or `datasets` to compare: add some, or remove compare_to")
        if self.load_in_8bit and self.load_in_4bit:
            raise ValueError("load_in_8bit and load_in_4bit: set only one of them")
        if self.load_in_4bit and self.dtype == "auto":
            raise ValueError("load_in_4bit: dtype auto is not supported: set dtype, such as bfloat16")
        # Checked here too, so that a recipe fails before its first step runs:
        labels = [spec.label for spec in read_specs(self.tasks, self.tools, evaluates=True)]
        for own in read_own_data(self.datasets, self.tools):
            if own.label in labels:
                raise ValueError(f"datasets: the label '{own.label}' is also a task's: set another `label`")
        read_harness(self.harness)
        read_training_sources(self.contamination)


def run(run: Run, args: EvaluateArguments) -> None:
    entries, standard = read_specs(args.tasks, args.tools, evaluates=True), read_harness(args.harness)
    specs, compared = ([spec for spec in entries if (spec.against is None) == alone] for alone in (True, False))
    managers = find_tasks(standard)
    own = [(spec, load_rows(spec)) for spec in read_own_data(args.datasets, args.tools)]
    earlier: dict[tuple[str, str], list[float | None]] = {}
    if args.compare_to is not None:
        digests = {str(spec.label): spec.digests() for spec in specs}
        earlier = read_scores(args.compare_to, digests | {str(spec.label): rows.digests() for spec, rows in own})
    for source in read_training_sources(args.contamination):
        local_files(source)  # they are read at the end: a missing file must be found now

    # Load. Without a chat template the prompts are plain text for a base model.
    chats = bool(entries or own or args.questions or any(spec.apply_chat_template for spec in standard))
    path = str(args.model_name_or_path)
    model, tokenizer = open_evaluated(path, args, args.model_revision, chats)
    tools = make_tools(args.tools)

    # Evaluate: tasks, own data, other models on the same rows, typed questions, standard benchmarks.
    metrics, samples, scored = evaluate_tasks(
        model, tokenizer, specs, batch_size=args.eval_batch_size, seed=args.seed, tools=tools, folder=path
    )
    metrics |= metrics_over_tasks(scored, specs)
    own_questions: list[tuple[list[str], list[str]]] = []
    for data, rows in own:
        measures, shown, more = evaluate_own_data(model, tokenizer, data, rows, args.eval_batch_size, tools)
        metrics, samples, scored = metrics | measures, samples + shown, scored + more
        own_questions.append((list(measures), [prompt[-1]["content"] for prompt in rows.prompts]))
    seeds = {str(spec.label): spec.seed for spec in specs} | {str(data.label): data.seed for data, _ in own}
    metrics |= changes_since(scored, earlier, seeds)
    for pair in compared:
        other, its_tokenizer = open_evaluated(str(pair.against), args)
        rate, shown = compare_with(pair, (other, its_tokenizer), (model, tokenizer), args.eval_batch_size, tools)
        del other  # free it before loading the next one
        metrics[win_rate_name(pair)] = rate
        samples += shown
    if args.questions:
        at_hand = tools if args.question_tools else None
        samples += answer_questions(model, tokenizer, args.questions, args.eval_batch_size, at_hand)
    questions = [(scores_of(spec, metrics), questions_of(spec) if args.contamination else []) for spec in entries]
    questions += own_questions
    raw = {}
    for spec in standard:
        result = run_harness(model, tokenizer, spec, managers[spec.include_path], args.eval_batch_size)
        if result is not None:
            measures, its_questions, raw[spec.label] = result
            metrics |= measures
            questions.append((list(measures), its_questions))

    # Save.
    if is_main_process():
        run.replace_samples(0, samples)
        write_scores(run.folder, scored)
        report_contamination(metrics, questions, args.contamination)
        print_changes(metrics, args.compare_to)
        if raw:
            write_atomically(run.folder / HARNESS, json.dumps(raw, indent=2) + "\n")
    run.finish(metrics | {"bytes_model": {"value": model.get_memory_footprint()}})
    if is_main_process():
        add_scores(path, run.folder, metrics)


STAGE = Stage(
    name="evaluate",
    story="Scores of a model on tasks and standard benchmarks, with counts and 95% intervals.",
    kind="answers",
    arguments=(EvaluateArguments,),
    check=lambda args: find_tasks(read_harness(args.harness)),
    run=run,
    section=Section(
        title="The exam",
        story="Evaluation. Scores are noisy: about 95 of a hundred 95% intervals contain the true score. Scores "
        "without a count of contaminated questions were not checked for contamination.",
        metrics=evaluation_metrics,
        figures=(TASK_SCORES,),
    ),
)

if __name__ == "__main__":
    STAGE.command()

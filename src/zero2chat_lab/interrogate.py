"""Interrogation: find what the model knows by asking repeatedly, and teach it to abstain where it is wrong.

    zero2chat run recipes/claims --only interrogate

Reads a model, and training questions with known answers: rows of a task, or of a file. The model answers each question
`answers` times. The training row of a known question has the model's own answer; that of a consistently wrong one has a
refusal. Llama 3 was taught its limits in this way (arXiv:2407.21783, section 4.3.6; see also R-Tuning,
arXiv:2311.09677). The rows are in `data/train.jsonl`, an `sft` dataset. `zero2chat interrogate` does the same from the
shell.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zero2chat import tasks
from zero2chat.core import stats
from zero2chat.core.config import Range
from zero2chat.core.errors import UserError
from zero2chat.core.fingerprints import REVIEWED, UNREVIEWED
from zero2chat.core.runs import is_main_process
from zero2chat.core.stats import Metrics
from zero2chat.inference.samplers import ask_model
from zero2chat.models.chat_template import prepare_chat_template
from zero2chat.report.samples import SampleTable
from zero2chat.report.section import Bars, Section
from zero2chat.stages import Load, Result, Stage
from zero2chat.stages.shared import MeasuringArguments
from zero2chat_lab.abstention import REFUSALS, agreement, contains, words
from zero2chat_lab.questions import (
    RIGHT,
    VERDICTS,
    Question,
    check_sources,
    questions_of,
    refuse_cut,
    statement,
    verdict_of,
)
from zero2chat_lab.shared import auroc_of

# Kinds of questions. Only the first two become rows: in between nothing is certain, and a model that already abstains
# has nothing to learn.
KINDS = ("known", "unknown", "unsure", "declined")
_SHOWN = 3  # samples per kind
_HELD_OUT = re.compile(r"\s*(?:val|dev|test|eval|all\b)")  # parts of a split such as train+test


@dataclass
class InterrogateArguments(MeasuringArguments):
    """The model, the sources of questions, and the thresholds."""

    datasets: list[dict] = field(
        default_factory=list, metadata={"help": "Training questions: a task, or a file (path) with answers."}
    )
    answers: Annotated[int, Range(min=2)] = field(default=8, metadata={"help": "Answers sampled per question."})
    temperature: Annotated[float, Range(above=0, why="all answers would be equal")] = 1.0
    max_new_tokens: Annotated[int, Range(min=1)] = 48
    refuse_below: float = field(default=0.25, metadata={"help": "Refuse below this share of correct answers."})
    keep_above: float = field(default=0.75, metadata={"help": "Known above this share of correct answers."})
    refuse: Literal["at_once", "at_the_gap"] = field(
        default="at_once",
        metadata={"help": "Refuse at_once, or at_the_gap: before the first fact that it does not know."},
    )
    chat_template_path: str | None = None
    eval_batch_size: Annotated[int, Range(min=1)] = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.refuse_below <= self.keep_above < 1:
            raise ValueError(
                f"refuse_below {self.refuse_below:g} and keep_above {self.keep_above:g}: set shares above 0 and below "
                "1, with refuse_below at most keep_above"
            )
        for source in check_sources("datasets", self.datasets):
            if any(_HELD_OUT.match(part) for part in source.split.split("+")):
                raise ValueError(f"{source.label}: split '{source.split}' is held out: set `split: train`")


class Finding(NamedTuple):
    """A question with all answers, and one of `VERDICTS` per answer."""

    question: Question
    answers: list[str]
    verdicts: list[str]
    agreement: float  # share of answers that agree with the majority
    common: int | None  # index of the first answer that does
    kind: str
    taught: str | None  # the answer in the training row

    def share(self, verdict: str) -> float:
        return self.verdicts.count(verdict) / len(self.verdicts)


def interrogate(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, args: InterrogateArguments
) -> tuple[Metrics, list[Finding]]:
    """Return the metrics and all findings. Every rank must call this: each answers a share, and rank 0 judges."""
    prepare_chat_template(tokenizer, args.chat_template_path, replace=False)
    questions = [question for _, question in questions_of(args.datasets, "train")]
    ask = ask_model(model, tokenizer, args.answers, args.temperature, args.max_new_tokens, args.eval_batch_size)
    said, _ = ask([question.prompt for question in questions], args.seed)
    refuse_cut([one["why"] == "cut" and not one["content"] for some in said for one in some], args.max_new_tokens)
    if not is_main_process():
        return {}, []
    texts = [[one["content"] for one in some] for some in said]
    verdicts = [[verdict_of(question, text) for text in some] for question, some in zip(questions, texts, strict=True)]
    rng = random.Random(f"interrogate {args.seed}")
    findings = []
    for question, some, replies, judged in zip(questions, texts, said, verdicts, strict=True):
        share, common = agreement([statement(question, text) for text in some])
        kind = kind_of(judged, args.refuse_below, args.keep_above)
        right = [one["content"] for one, v in zip(replies, judged, strict=True) if v == RIGHT and one["why"] is None]
        taught = rng.choice(REFUSALS) if kind == "unknown" else None
        if kind == "known" and right:  # the model's own complete answer
            taught = right[0].strip()
        if taught and args.refuse == "at_the_gap":
            # One wording of answers and refusals: with several, a small model blends them.
            begun = before_unknown(question, some, kind, args.keep_above * len(some))
            if begun is None and kind == "unknown":  # the answer that spells the names as the question does
                begun = max((before_gap(text, statement(question, text)) for text in some), key=question.names_in)
            if begun is not None:
                taught = begun + REFUSALS[0]
        findings.append(Finding(question, some, judged, share, common, kind, taught))
    return _measure(findings, args.seed), findings


def before_gap(text: str, said: Hashable | None) -> str:
    """Return an answer up to where it states the fact `said`, with three dots; empty if it starts there or abstains.
    Before that point a small model cannot tell whether it knows."""
    stated = {word for word, _ in words(said)} if isinstance(said, str) else said if isinstance(said, frozenset) else ()
    places = [at for word, at in words(text) if word in stated]
    begun = text[: min(places, default=0)].strip()
    return f"{begun}... " if begun else ""


def before_unknown(question: Question, answers: Sequence[str], kind: str, fewest: float) -> str | None:
    """Return a task's right answer up to the first fact that at most `fewest` answers contain, with three dots.

    The requested fact is known if the question's `kind` says so. None if no fact is unknown, or if the task cannot tell
    which facts an answer states (`stated`). Raises `UserError` if the answer lacks a fact.
    """
    task = tasks.load(question.task) if question.task is not None else None
    if task is None or task.stated is None:
        return None
    right = task.demonstration(question.row, random.Random(0))
    for fact in task.stated(question.row):
        if kind == "known" and fact == question.answer:
            continue
        if sum(contains(answer, fact) for answer in answers) <= fewest:
            place = re.search(rf"\b{re.escape(fact)}\b", right)
            if place is None:
                raise UserError(f"task '{task.name}': stated() gives '{fact}', which the demonstration '{right}' lacks")
            return f"{right[: place.start()].strip()}... "
    return None


def kind_of(verdicts: Sequence[str], refuse_below: float, keep_above: float) -> str:
    """Return one of `KINDS`. Unknown questions are mostly answered wrong, and rarely correctly."""
    right, wrong, none = (verdicts.count(verdict) / len(verdicts) for verdict in VERDICTS)
    if right > keep_above:
        return "known"
    if none >= 0.5:
        return "declined"
    return "unknown" if right < refuse_below and wrong > 0.5 else "unsure"


# ---- metrics, rows and samples


def _measure(findings: Sequence[Finding], seed: int) -> Metrics:
    """Compute the metrics. Answers to one question are correlated, so intervals are over questions."""
    metrics: Metrics = {"questions": {"value": len(findings)}}
    sources = list(dict.fromkeys(finding.question.source for finding in findings))
    for name in ["", *(f"_{source}" for source in sources if len(sources) > 1)]:
        some = [finding for finding in findings if not name or finding.question.source == name[1:]]
        for verdict in VERDICTS:
            shares = [finding.share(verdict) for finding in some]
            metrics[f"{verdict}_rate{name}"] = stats.rate(sum(shares), len(some), seed)
        for kind in KINDS:
            metrics[f"{kind}_rate{name}"] = stats.rate(sum(f.kind == kind for f in some), len(some), seed)
    metrics["agreement"] = stats.mean([finding.agreement for finding in findings], seed)
    attempted = [(f.agreement, f.verdicts[f.common] == RIGHT) for f in findings if f.common is not None]
    metrics |= auroc_of("auroc_agreement", attempted, seed)
    metrics["conversations"] = {"value": sum(finding.taught is not None for finding in findings)}
    metrics["refusals"] = {"value": sum((finding.taught or "").endswith(REFUSALS) for finding in findings)}
    return metrics


def as_rows(args: InterrogateArguments, findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return the conversations, each with its origin."""
    lines: list[dict[str, Any]] = []
    for finding in findings:
        if finding.taught is not None:
            messages = [*finding.question.prompt, {"role": "assistant", "content": finding.taught}]
            origin: dict[str, Any] = {
                "model": args.model_name_or_path,
                "source": finding.question.source,
                "kind": finding.kind,
            }
            origin |= {"right": finding.share(RIGHT), "answers": len(finding.answers), "truth": finding.question.answer}
            lines.append({"messages": messages, "origin": origin, "review": UNREVIEWED})
    return lines


def samples_of(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return the first questions of each kind, with the majority answer and the training answer."""
    shown: Counter[str] = Counter()
    samples = []
    for finding in findings:
        shown[finding.kind] += 1
        if shown[finding.kind] <= _SHOWN:
            samples.append(
                {
                    "prompt": finding.question.prompt[-1]["content"],
                    "completion": finding.answers[finding.common or 0],
                    "task": f"{finding.kind}, {finding.question.source}",
                    "score": finding.share(RIGHT),
                    "answer": finding.question.answer,
                    "answers": finding.answers,
                    "taught": finding.taught,
                }
            )
    return samples


def measure(args: InterrogateArguments, load: Load) -> Result:
    metrics, findings = interrogate(*load(args.model_name_or_path), args)
    return Result(metrics, samples_of(findings), as_rows(args, findings))


STAGE = Stage(
    name="interrogate",
    story="What a model knows about a task or about questions in a file, and rows that teach it to decline unknown "
    "questions.",
    kind="answers",
    arguments=(InterrogateArguments,),
    positional="model_name_or_path",
    measure=measure,
    keeps=REVIEWED,
    section=Section(
        title="What does it know?",
        story="A model trained only on confident answers learns to be confident, whether it knows or not. So it is "
        "asked what it may know, each question many times. Questions that it consistently answers correctly are "
        "known. For questions that it consistently gets wrong, refusals are written as training rows, so that it "
        "learns to abstain when it is uncertain.",
        metrics={
            "correct_rate": "of answers are correct",
            "wrong_rate": "of answers are wrong, without abstaining",
            "abstention_rate": "of answers abstain",
            "auroc_agreement": "AUROC of self-agreement as a predictor of correctness (chance: 0.5)",
            "known_rate": "of questions are known",
            "unknown_rate": "of questions are consistently wrong: refusals are written",
            "conversations": "training conversations written",
        },
        figures=(
            Bars(
                "Correct, wrong and abstaining answers by source, with 95% intervals over questions.",
                {verdict: f"{verdict}_rate(?:_(.+))?" for verdict in ("correct", "wrong", "abstention")},
                "rate",
            ),
        ),
        samples=SampleTable(
            "Questions, all answers, and what is taught",
            columns={"question": "prompt", "answers": "answers", "true answer": "answer", "training row": "taught"},
            n=10,
            spread=True,
        ),
    ),
)

if __name__ == "__main__":
    STAGE.command()

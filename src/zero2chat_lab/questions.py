"""Questions with known answers, from tasks or files, and verdicts: an answer is right, wrong or an abstention."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from zero2chat import tasks
from zero2chat.core.errors import UserError
from zero2chat.core.runs import is_main_process
from zero2chat.data.sources import Source, read_sources
from zero2chat.evaluation.own_data import OwnData, load_rows
from zero2chat_lab.abstention import abstains, contains, gist, normal

RIGHT, WRONG, DECLINED = VERDICTS = ("correct", "wrong", "abstention")


class Question(NamedTuple):
    source: str
    prompt: list[dict[str, str]]
    answer: str
    task: str | None = None  # the task that judges answers, with its row; None: judged by their words
    row: dict[str, Any] = {}  # noqa: RUF012 - never changed

    def names_in(self, text: str) -> int:
        """Count the words of the question in the text: an answer may get these wrong, too."""
        return len(set(normal(self.prompt[-1]["content"]).split()) & set(normal(text).split()))


@dataclass
class _Rows(OwnData):
    """Rows with reference answers, judged by their words."""

    def __post_init__(self) -> None:
        Source.__post_init__(self)


def check_sources(name: str, entries: Sequence[Any]) -> list[Source]:
    """Return the sources, read before a recipe's first step runs. Raises for invalid entries, and for equal labels."""
    sources = read_sources(entries)
    if len({source.label for source in sources}) < len(sources):
        raise ValueError(f"{name}: two entries have the same label: set `label`")
    return sources


def questions_of(
    datasets: Sequence[Any], split: Literal["train", "held-out"] = "held-out"
) -> list[tuple[str, Question]]:
    """Return the questions, each with a key. Questions with the same key (a task's rows about one thing, or a file's
    conversation) are in the same half. A file's repeated rows are asked once, because they would count as further
    evidence. Raises `UserError` for rows without reference answers."""
    questions: list[tuple[str, Question]] = []
    for source in read_sources(datasets):
        if source.tools:
            raise UserError(f"{source.label}: the questions are asked without tools: remove `tools`")
        if source.task is not None:
            if split == "held-out" and source.split == "train":
                raise UserError(
                    f"{source.label}: split: the model may have been trained on train rows: set `split: validation`"
                )
            task = tasks.load(source.task)
            for row in task.rows(source.split, source.seed, source.n, **source.options):
                question = Question(str(source.label), task.prompt(row), row["answer"], source.task, row)
                questions.append((f"{source.task} {row['key']}", question))
            continue
        rows = load_rows(_Rows(**asdict(source)))
        if not rows.references:
            raise UserError(f"{source.label}: no reference answers: add a column `answer`")
        if rows.schemas:
            raise UserError(f"{source.label}: questions use no tools: remove the column `tools`")
        if empty := [i for i, reference in enumerate(rows.references) if not normal(reference)]:
            raise UserError(
                f"{rows.names[empty[0]]}: the reference answer {rows.references[empty[0]]!r} has no word to compare: "
                f"remove such rows ({len(empty)} of {len(rows.prompts)})"
            )
        once = dict(zip(rows.digests(), zip(rows.prompts, rows.references, strict=True), strict=True))
        for prompt, reference in once.values():
            conversation = "\n".join(turn["content"] for turn in prompt)
            questions.append((conversation, Question(str(source.label), prompt, reference)))
        if len(once) < len(rows.prompts) and is_main_process():
            print(f"{source.label}: {len(rows.prompts) - len(once)} repeated rows are asked once", flush=True)
    return questions


def refuse_cut(cut: Sequence[bool], max_new_tokens: int) -> None:
    """Raises `UserError` if most answers were truncated within their reasoning, so that no answer can be judged."""
    if 2 * sum(cut) > len(cut):
        raise UserError(
            f"max_new_tokens {max_new_tokens}: {sum(cut)} of {len(cut)} answers were cut while reasoning: raise it"
        )


def statement(question: Question, text: str) -> Hashable | None:
    """Return what an answer states, comparable across answers; None if it abstains."""
    if question.task is not None and (said := tasks.load(question.task).said) is not None:
        return said(question.row, text)
    return None if abstains(text) else gist(question.prompt[-1]["content"], text)


def verdict_of(question: Question, text: str) -> str:
    """Judge one answer by the task's score, or by its words; returns one of `VERDICTS`."""
    if question.task is not None:
        right = tasks.load(question.task).score(question.row, text) >= 1
        return RIGHT if right else DECLINED if statement(question, text) is None else WRONG
    return RIGHT if contains(text, question.answer) else DECLINED if abstains(text) else WRONG

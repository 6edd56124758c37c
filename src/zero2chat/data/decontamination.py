"""Contamination: find evaluation questions in training texts, to report their number or to remove the texts.

`find_seen` reports, and prefers false positives. As in Brown et al. 2020 (arXiv:2005.14165, section 4), a question is
contaminated if 13 of its consecutive words (or all, if it is shorter) occur anywhere in a text.

`Decontamination` removes whole texts, and must avoid false positives. The words must also identify the question:

- No other evaluation question has them. Words that several questions share ("Choose the best answer to the following
  …") are only phrasing. A question without words of its own must occur as a whole.
- At least `LEAST` of them are not numbers. "2 + 3 = ?" has the words 2 and 3, which many books contain in sequence.
  Such a question only counts if it is a whole text: a document, or a turn of a conversation. (Brown et al. use at
  least 8 words, from windows of long examples. Ours are whole questions, and many have 5 to 7 words.)

Each removal's question and shared words are recorded, to expose a rule that is too broad.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from datasets import Dataset

from zero2chat import tasks
from zero2chat.core.errors import UserError
from zero2chat.core.fingerprints import strings
from zero2chat.core.runs import Run, is_main_process, write_jsonl
from zero2chat.core.text import words
from zero2chat.data.rows import first_rows, load_table, require_column
from zero2chat.data.sources import BUILDERS, Source, read_sources

WORDS = 13
LEAST = 5  # words that are not numbers
FILE = "decontaminated.jsonl"  # in the run's folder: one line per removed text
_COLUMNS = ("question", "problem", "prompt", "text")  # default columns with a dataset's questions
Words = tuple[str, ...]
T = TypeVar("T")


def in_a_row(text: Sequence[T], length: int) -> Iterator[tuple[T, ...]]:
    """Yield all n-grams of the text, with n = `length` words or tokens."""
    return zip(*(text[start:] for start in range(length)), strict=False)


def _known_by(question: Words) -> set[Words]:
    """Return the n-grams that identify a question: all runs of `WORDS` words, or a shorter question as a whole."""
    return set(in_a_row(question, min(len(question), WORDS)))


class _Finder:
    """Finds word sequences anywhere in a text: compares a sequence's first words, then all its words."""

    def __init__(self, wanted: Iterable[Words]):
        self._by_start: dict[Words, list[Words]] = defaultdict(list)
        for row in wanted:
            self._by_start[row[:LEAST]].append(row)
        self._starts = [{s for s in self._by_start if len(s) == length} for length in range(1, LEAST + 1)]

    def find(self, text: Sequence[str]) -> Iterator[Words]:
        for length, starts in enumerate(self._starts, start=1):
            if not starts or starts.isdisjoint(in_a_row(text, length)):  # nearly always, and fast
                continue
            for i, start in enumerate(in_a_row(text, length)):
                if start in starts:
                    yield from (row for row in self._by_start[start] if tuple(text[i : i + len(row)]) == row)


# ---- reporting


def read_training_sources(entries: Sequence[Any]) -> list[Source]:
    """Read a YAML's `contamination:` list: sources or paths. Raises `UserError` as `read_sources` does."""
    given = [{"path": entry} if isinstance(entry, str) else entry for entry in entries]
    return read_sources(given, where="contamination") if given else []


def training_texts(sources: Iterable[Source]) -> Iterator[str]:
    """Yield each text in each row: documents, turns of conversations, both answers of preference pairs, problems.

    A task's texts are the demonstrations that `sft` uses. Raises `UserError` if a source cannot be loaded.
    """
    from zero2chat.data.conversations import load_conversations  # imports torch and TRL, which a corpus does not need

    for source in sources:
        if source.task is not None:
            # Tool results are excluded: they come from running the tools.
            rows: Iterable[Any] = map(json.loads, load_conversations(replace(source, tools=False))["messages"])
        else:
            rows = first_rows(load_table(source), source.n).rows
        for row in rows:
            yield from (text for _, text in strings(row))


def find_seen(questions: Iterable[str], texts: Iterable[str]) -> set[str]:
    """Return the questions that share `WORDS` consecutive words with a text. A shorter question must occur as a whole.

    Case, accents, punctuation and spaces are ignored. Scripts without spaces are compared character by character. The
    texts are read once, and may be larger than memory.
    """
    of = {question: _known_by(tuple(words(question, pairs=False))) for question in questions}
    finder = _Finder(set().union(*of.values()))
    seen = {row for text in texts for row in finder.find(words(text, pairs=False))}
    return {question for question, rows in of.items() if not seen.isdisjoint(rows)}


# ---- removal


class Questions:
    """Evaluation questions (question → evaluation set), and the search for these questions, as described above."""

    def __init__(self, questions: Mapping[str, str]):
        whole = {tuple(words(question, pairs=False)): (question, label) for question, label in questions.items()}
        self._whole = {text: origin for text, origin in whole.items() if text}
        self._longest = max(map(len, self._whole), default=0)
        shared = Counter(row for text in self._whole for row in _known_by(text))
        self._of: dict[Words, tuple[str, str]] = {}
        for text, origin in self._whole.items():
            telling = {row for row in _known_by(text) if shared[row] == 1 and _tells(row)}
            self._of |= dict.fromkeys(telling or ({text} if _tells(text) else ()), origin)
        self._finder = _Finder(self._of)

    def __len__(self) -> int:
        return len(self._whole)

    def find(self, text: str) -> dict[str, str] | None:
        """Return a `question` in the text, the question's evaluation set `exam`, and the matching `words`; or None."""
        tokens = words(text, pairs=False)
        row = tuple(tokens) if len(tokens) <= self._longest and tuple(tokens) in self._whole else None
        row = row or next(self._finder.find(tokens), None)
        if row is None:
            return None
        question, label = self._whole.get(row) or self._of[row]
        return {"question": question, "exam": label, "words": " ".join(row)}


def _tells(row: Collection[str]) -> bool:
    return sum(not word.isdecimal() for word in row) >= LEAST


def read_held_out(entries: Sequence[Any]) -> list[Source]:
    """Read a YAML's `decontaminate:` list: evaluation sets, given as in `datasets` or only by path.

    The default split of a task or a dataset is `test`; a file has no splits. A task needs `n`. Raises `UserError` as
    `datasets` does, and for a task's training rows.
    """
    given = [{"path": entry} if isinstance(entry, str) else entry for entry in entries]
    for i, entry in enumerate(given):
        if isinstance(entry, dict):
            path = str(entry.get("path"))
            is_file = path in BUILDERS.values() or Path(path).suffix.lower() in BUILDERS
            given[i] = {"split": "train" if is_file else "test"} | entry
            if "task" in entry and given[i]["split"] == "train":
                raise UserError(f"decontaminate[{i}]: task '{entry['task']}': split 'train' is training data")
    return read_sources(given, where="decontaminate") if given else []


def load_questions(sources: Iterable[Source]) -> Questions:
    """Load the questions. Raises `UserError` if an evaluation set cannot be loaded, or has no questions."""
    labels: dict[str, str] = {}
    for source in sources:
        questions = _questions_of(source)
        if not any(words(question) for question in questions):
            raise UserError(f"{source.label}: no questions found: set `column` to the column of questions")
        labels |= {question: str(source.label) for question in questions if question not in labels}
    return Questions(labels)


def _questions_of(source: Source) -> list[str]:
    """Return the questions of a task, or those in a dataset's `column` (default: the first existing column of
    `question`, `problem`, `prompt` and `text`). In a list of messages, the last message is the question."""
    if source.task is not None:
        rows = tasks.load(source.task).rows(source.split, source.seed, source.n, **source.options)
        return [row["question"] for row in rows]
    table = first_rows(load_table(source), source.n)
    own = [name for name in _COLUMNS if name in table.column_names] if source.column == "text" else []
    column = own[0] if own else source.column
    require_column(table, column, source.label)
    texts = [[text for key, text in strings(value) if key in ("", "content")] for value in table[column]]
    return [some[-1] for some in texts if some]


class Decontamination:
    """The evaluation sets of a stage's `decontaminate:`. If there are none, nothing is removed."""

    def __init__(self, entries: Sequence[Any]):
        sources = read_held_out(entries)
        self._questions = load_questions(sources) if sources else None
        self._labels = [str(source.label) for source in sources]
        self._removed: list[dict[str, str]] = []
        self._rows = 0

    def clean(
        self, rows: Dataset, column: str, where: Sequence[str], read: Callable[[Any], Any] = lambda value: value
    ) -> Dataset:
        """Return the rows whose texts contain no question. `read` extracts the texts from `column`; `where` names rows.

        Raises `UserError` if no row remains.
        """
        if self._questions is None:
            return rows
        indices = []
        for i, value in enumerate(rows[column]):
            texts = (text for _, text in strings(read(value)))
            removed = next((match | {"text": text} for text in texts if (match := self._questions.find(text))), None)
            if removed is None:
                indices.append(i)
            else:
                self._removed.append({"where": where[i]} | removed)
        self._rows += len(rows)
        if not indices:
            last, question = self._removed[-1]["where"], self._removed[-1]["question"]
            raise UserError(f"decontaminate: every row contains an evaluation question, such as {last}: {question}")
        return rows if len(indices) == len(rows) else rows.select(indices)

    def finish(self, run: Run) -> dict[str, dict[str, Any]]:
        """Record and print the removed rows. Returns their number, in total and per evaluation set."""
        if self._questions is None:
            return {}
        removed = Counter(line["exam"] for line in self._removed)
        if is_main_process():
            write_jsonl(run.folder / FILE, self._removed)
            counts = ", ".join(f"{label} {n:,}" for label, n in removed.most_common()) or "none"
            print(
                f"decontaminate: {len(self._removed):,} of {self._rows:,} rows contain one of {len(self._questions):,} "
                f"questions ({counts}): removed, see {Path(run.folder) / FILE}",
                flush=True,
            )
        metrics = {"decontaminated": {"value": len(self._removed), "n": self._rows}}
        return metrics | {f"decontaminated_{label}": {"value": removed[label]} for label in dict.fromkeys(self._labels)}

"""The commands for a model's tools and for the answer verifier."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

from zero2chat.cli.command import add, decoded, option, print_json
from zero2chat.core.errors import UserError, as_mistakes_of
from zero2chat.core.text import on_terminal

_MODULE = "cli.tool_commands"


def add_to(commands: Any) -> None:
    run = add(
        commands, _MODULE, "python", "run a program from stdin in a sandbox; exits with 1 if it fails", "show_text"
    )
    option(run, "--engine", "E", "monty (a subset of Python) or bubblewrap (CPython; Linux)", default="monty")
    option(run, "--timeout", 5.0, "time limit")

    build = add(commands, _MODULE, "index", "build a search index; with --config X.yaml, the stage", "show_index")
    option(build, "source", "SOURCE", "a folder of .txt and .md files, or a dataset: a folder, a file, a Hub name")
    option(build, "--out", "FOLDER", "a new folder for the index", required=True)
    option(build, "--column", "C", "dataset column with texts", default="text")
    option(build, "--characters", 600, "maximum passage length")

    look = add(commands, _MODULE, "search", "show what a search call returns; exits with 1 if it fails", "show_text")
    option(look, "query", "QUERY", "", type=decoded)
    option(look, "--in", "WHERE", "an index", dest="where", required=True)
    option(look, "--passages", 3, "maximum number of passages")
    option(look, "--characters", 1000, "maximum length of the result")

    check = add(commands, _MODULE, "verify", "check an answer against a gold answer; prints JSON with the reason")
    option(check, "--gold", "G", "the reference answer", type=decoded)
    option(check, "--answer", "A", "an answer, or a text that ends with one", type=decoded)
    option(check, "--file", "ROWS.jsonl", "rows with the fields gold and answer; one result per line")


def python(engine: str, timeout: float) -> dict[str, Any]:
    from zero2chat_sandbox import SandboxError
    from zero2chat_sandbox.python import LONGEST, Limits, run

    if sys.stdin is None or sys.stdin.isatty():
        raise UserError("python: no program on stdin: use zero2chat python < code.py")
    with as_mistakes_of(SandboxError):
        result = run(sys.stdin.read(LONGEST + 1), engine, Limits(seconds=timeout))
    return {"stdout": result.stdout, "value": result.value, "error": result.error, "text": result.text}


def index(source: str, out: str, column: str, characters: int) -> dict[str, Any]:
    from tqdm import tqdm

    from zero2chat.data.documents import read_documents
    from zero2chat.tools.bm25 import write_index

    watched = sys.stderr.isatty()
    number, documents = read_documents(source, column)
    made = write_index(out, tqdm(documents, "reading", number, disable=not watched), source, characters, watched)
    return {"index": out} | {key: made[key] for key in ("documents", "passages", "repeated")}


def show_index(made: dict[str, Any], _: Any) -> None:
    counts = f"{made['passages']:,} passages from {made['documents']:,} documents"
    print(f"{made['index']}: {counts}; duplicates removed: {made['repeated']:,}")


def search(query: str, where: str, passages: int, characters: int) -> dict[str, Any]:
    from zero2chat.tools.search import Search, as_text

    results = Search(where, passages, characters).search(query)
    return {"query": query, "passages": [passage._asdict() for passage in results], "text": as_text(results)}


def show_text(result: dict[str, Any], _: Any) -> None:
    print(on_terminal(result["text"]))


def verify(gold: Any, answer: Any, file: str | None) -> None:
    from zero2chat_verifier.verify import verify_answer

    if (file is None) == (gold is None) or (gold is None) != (answer is None):
        raise UserError("verify: expected --gold with --answer, or --file")
    reasons: Counter[str] = Counter()
    for reference, given in [(gold, answer)] if file is None else _rows_to_verify(file):
        print_json((verdict := verify_answer(given, reference))._asdict())
        reasons[verdict.reason] += 1
    if file is not None:
        print(*(f"{reason}: {n}" for reason, n in reasons.most_common()), sep=", ", file=sys.stderr)


def _rows_to_verify(file: str) -> list[list[str]]:
    """Return `[gold, answer]` for each row. Raises `UserError` if a row lacks either of the two."""
    from zero2chat.data.rows import load_table
    from zero2chat.data.sources import Source

    table = load_table(Source(path=file, label="verify"))
    for i, row in enumerate(table.rows):
        for name in ("gold", "answer"):
            if isinstance(row.get(name), bool) or not isinstance(row.get(name), str | int | float):
                raise UserError(f"{table.where(i)}: no text in the column '{name}'")
    return [[str(row["gold"]), str(row["answer"])] for row in table.rows]


def join_answers(words: list[str]) -> list[str]:
    """Join verify's `--gold -x` to `--gold=-x`: argparse would read `-x` as an option."""
    joined: list[str] = []
    for word in words:
        if joined and joined[0] == "verify" and joined[-1] in ("--gold", "--answer"):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined

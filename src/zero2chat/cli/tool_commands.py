"""The commands for a model's tools and for the verifier of answers."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from zero2chat.cli.command import JSON, arg, command, print_json, text
from zero2chat.core.errors import UserError, as_mistakes_of
from zero2chat.core.text import on_terminal


@command(
    "run a program from stdin in a sandbox; exits with 1 if it fails",
    arg(
        "--engine",
        default="monty",
        metavar="E",
        help="monty (fast, a subset of Python) or bubblewrap (CPython; Linux; default %(default)s)",
    ),
    arg("--timeout", type=float, default=5.0, metavar="SECONDS", help="time limit (default %(default)s)"),
    JSON,
)
def python(args: argparse.Namespace) -> None:
    from zero2chat_sandbox import SandboxError
    from zero2chat_sandbox.python import LONGEST, Limits, run

    if sys.stdin is None or sys.stdin.isatty():
        raise UserError("python: no program on stdin: use zero2chat python < code.py")
    try:
        code = sys.stdin.read(LONGEST + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"python: cannot read stdin: {error}") from error
    with as_mistakes_of(SandboxError):
        result = run(code, args.engine, Limits(seconds=args.timeout))
    if args.json:
        print_json({"stdout": result.stdout, "value": result.value, "error": result.error, "text": result.text})
    else:
        print(on_terminal(result.text))
    if result.error is not None:
        sys.stdout.flush()
        sys.exit(1)


@command(
    "build a search index from documents; with --config X.yaml, the stage",
    arg(
        "source",
        metavar="SOURCE",
        help="a folder of .txt and .md files; a dataset: a folder such as runs/quickstart/corpus, a JSONL, CSV or "
        "Parquet file, a Hub name",
    ),
    arg("--out", required=True, metavar="FOLDER", help="a new folder for the index"),
    arg("--column", default="text", metavar="C", help="dataset column with texts (default %(default)s)"),
    arg("--source-column", metavar="C", help="dataset column with source names (default: row numbers)"),
    arg("--split", default="train", metavar="S", help="dataset split (default %(default)s)"),
    arg("--characters", type=int, default=600, metavar="N", help="maximum passage length (default %(default)s)"),
    JSON,
)
def index(args: argparse.Namespace) -> dict[str, Any]:
    from rich.console import Console
    from rich.progress import track

    from zero2chat.data.documents import read_documents
    from zero2chat.tools.bm25 import write_index

    watched = sys.stderr.isatty()
    number, documents = read_documents(args.source, args.column, args.source_column, args.split)
    shown = track(documents, "reading", total=number, console=Console(stderr=True), disable=not watched)
    made = write_index(args.out, shown, args.source, args.characters, progress=watched)
    if not args.json:
        repeated = f"; duplicates removed: {made['repeated']:,}" if made["repeated"] else ""
        print(f"{args.out}: {made['passages']:,} passages from {made['documents']:,} documents{repeated}")
    return {"index": args.out} | {key: made[key] for key in ("documents", "passages", "repeated")}


@command(
    "show what a model's search call returns; exits with 1 if it fails",
    arg("query", type=text, metavar="QUERY"),
    arg(
        "--in",
        dest="where",
        required=True,
        metavar="WHERE",
        help="an index folder, a SearXNG URL, or a table: {query: text} in a .json file",
    ),
    arg("--passages", type=int, default=3, metavar="N", help="maximum number of passages (default %(default)s)"),
    arg("--characters", type=int, default=1000, metavar="N", help="maximum length of the result (default %(default)s)"),
    JSON,
)
def search(args: argparse.Namespace) -> dict[str, Any]:
    from zero2chat.tools.search import as_text, open_search
    from zero2chat.tools.search_types import SearchFailed

    try:
        found = open_search(args.where, args.passages, args.characters).search(args.query)
    except SearchFailed as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    if not args.json:
        print(on_terminal(as_text(found)))
    passages = [{"text": one.text, "source": one.source, "score": one.score} for one in found]
    return {"query": args.query, "passages": passages}


@command(
    "check an answer against a gold answer; prints JSON with the reason",
    arg("--gold", type=text, metavar="G", help="the reference answer"),
    arg("--answer", type=text, metavar="A", help="an answer, or a text that ends with one"),
    arg("--file", metavar="ROWS.jsonl", help="rows with the fields gold and answer; one result per line"),
    arg("--json", action="store_true", help="has no effect: the output is always JSON"),
)
def verify(args: argparse.Namespace) -> None:
    from zero2chat_verifier import VerifierError
    from zero2chat_verifier.rows import read_rows
    from zero2chat_verifier.verify import verify_answer

    if (args.file is None) == (args.gold is None) or (args.gold is None) != (args.answer is None):
        raise UserError("verify: expected --gold with --answer, or --file")
    with as_mistakes_of(VerifierError):
        rows = [(args.gold, args.answer)] if args.file is None else read_rows(args.file)
    for gold, answer in rows:
        print_json(verify_answer(answer, gold)._asdict())

"""Whether the tests would notice: one-line faults in `src`, drawn at random, and the tests that catch them.

    python tests/faults.py --draw                # draw them anew from today's `src`, into faults.json
    python tests/faults.py --list
    python tests/faults.py --run 0 1 2           # apply each, run the tests of its room, say which test failed
    python tests/faults.py --run --keep caught.json   # all of them; remember those that are caught
    python tests/faults.py --run --against caught.json   # and fail if one of these is not caught any more

A fault is an operator (`<` for `<=`, `and` for `or`, `+` for `-`), a bound (n + 1 for n), a negated condition or mask,
or a keyword argument that is left out. The sources stay as they are: the tests read a copy of `src`.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
LIST = ROOT / "tests" / "faults.json"
N, SEED, SECONDS = 60, 45, 400
_SWAPS: dict[type, str] = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.In: "not in",
    ast.NotIn: "in",
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "+",
    ast.And: "or",
    ast.Or: "and",
}


class Fault(NamedTuple):
    """A line of a file, what stands there, and what stands there instead."""

    file: str
    line: int
    old: str
    new: str


def _edits(tree: ast.AST, lines: list[str]) -> Iterator[tuple[int, int, int, str]]:
    """Yield (line, start, end, text) of each possible fault that lies within one line."""

    def between(left: ast.expr, right: ast.expr, new: str) -> Iterator[tuple[int, int, int, str]]:
        if left.end_lineno == right.lineno and left.end_col_offset is not None:
            gap = lines[right.lineno - 1].encode()[left.end_col_offset : right.col_offset].decode()
            if "(" not in gap and ")" not in gap:
                yield right.lineno, left.end_col_offset, right.col_offset, f" {new} "

    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _SWAPS:
            yield from between(node.left, node.comparators[0], _SWAPS[type(node.ops[0])])
        elif isinstance(node, ast.BoolOp):
            yield from between(node.values[0], node.values[1], _SWAPS[type(node.op)])
        elif isinstance(node, ast.BinOp) and type(node.op) in _SWAPS:
            yield from between(node.left, node.right, _SWAPS[type(node.op)])
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.Invert):
            yield node.lineno, node.col_offset, node.operand.col_offset, ""
        elif isinstance(node, ast.Constant) and type(node.value) is int and node.end_lineno == node.lineno:
            yield node.lineno, node.col_offset, node.end_col_offset or 0, str(node.value + 1)
        elif isinstance(node, ast.Call):
            for keyword in node.keywords:
                line = lines[keyword.lineno - 1].encode()
                if keyword.arg and keyword.end_lineno == keyword.lineno and keyword.end_col_offset is not None:
                    end = keyword.end_col_offset
                    end += 2 if line[end : end + 2] == b", " else line[end : end + 1] == b","
                    yield keyword.lineno, keyword.col_offset, end, ""


def draw() -> list[Fault]:
    """Draw the faults: of each file at most one, of files at random."""
    rng, chosen = random.Random(SEED), list[Fault]()
    files = sorted(path for path in (ROOT / "src").rglob("*.py") if len(path.read_text().splitlines()) > 30)
    for path in rng.sample(files, len(files)):
        text = path.read_text()
        lines = text.splitlines()
        edits = sorted(set(_edits(ast.parse(text), lines)))
        for line, start, end, new in rng.sample(edits, min(len(edits), 20)):
            whole = lines[line - 1].encode()
            changed = (whole[:start] + new.encode() + whole[end:]).decode()
            try:
                ast.parse("\n".join([*lines[: line - 1], changed, *lines[line:]]))
            except SyntaxError:
                continue
            if changed.strip() and changed != lines[line - 1]:
                chosen.append(Fault(str(path.relative_to(ROOT)), line, lines[line - 1], changed))
                break
        if len(chosen) == N:
            break
    return chosen


def tests_of(file: str) -> list[str]:
    """Return the tests to run for a file of `src`: those with its name, then its room's."""
    parts = Path(file).with_suffix("").parts[1:]
    package = parts[0].removeprefix("zero2chat").strip("_")
    room = package or (parts[1] if len(parts) > 2 else "")
    own = sorted((ROOT / "tests").rglob(f"test_{parts[-1]}.py")) + sorted(
        (ROOT / "tests").rglob(f"test_{parts[-1]}_*.py")
    )
    rest = sorted((ROOT / "tests" / room).rglob("test_*.py")) if (ROOT / "tests" / room).is_dir() and room else []
    more = [ROOT / "tests" / "test_digests.py"] if room in ("data", "trainers", "models") else []
    return list(dict.fromkeys(str(path.relative_to(ROOT)) for path in [*own, *rest, *more]))


def catch(fault: Fault) -> str | None:
    """Return the first test that fails with the fault; None if all pass."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "clone"
        ignored = shutil.ignore_patterns("runs", ".venv*", ".git", "__pycache__", "exports", ".peers", ".gguf")
        shutil.copytree(ROOT, copy, ignore=ignored, symlinks=True)
        lines = (copy / fault.file).read_text().splitlines()
        places = [i for i, line in enumerate(lines) if line.strip() == fault.old.strip()]
        if not places:
            return "not there any more: the line has changed"
        lines[min(places, key=lambda i: abs(i - fault.line))] = fault.new
        (copy / fault.file).write_text("\n".join(lines) + "\n")
        env = os.environ | {"PYTHONPATH": str(copy / "src"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider"]
        try:
            done = subprocess.run(
                [*command, *tests_of(fault.file)], cwd=copy, env=env, capture_output=True, text=True, timeout=SECONDS
            )
        except subprocess.TimeoutExpired:
            return None
        failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        return failed[0][:160] if failed else None if done.returncode == 0 else f"exit code {done.returncode}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--draw", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--run", nargs="*", type=int)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--against", type=Path)
    given, caught = parser.parse_args(), dict[str, str | None]()
    if given.draw:
        LIST.write_text(json.dumps([fault._asdict() for fault in draw()], indent=1) + "\n")
    drawn = [Fault(**fault) for fault in json.loads(LIST.read_text())]
    for i, fault in enumerate(drawn):
        if given.list:
            print(f"{i}: {fault.file}:{fault.line}\n   {fault.old.strip()}\n   {fault.new.strip()}")
        elif given.run is not None and (not given.run or i in given.run):
            caught[f"{fault.file}: {fault.old.strip()}"] = test = catch(fault)
            print(f"{i}: {fault.file}:{fault.line}: {test or 'not caught'}", flush=True)
            if given.keep:
                given.keep.write_text(json.dumps(caught, indent=1))
    if given.against:
        lost = [
            key for key, test in json.loads(given.against.read_text()).items() if test and not caught.get(key, test)
        ]
        sys.exit("\n".join(["not caught any more:", *lost]) if lost else 0)


if __name__ == "__main__":
    main()

"""Print each room's lines beside its number, for `make lint`. Exit code 1 if a room, or a file, is over.

    python tests/rooms.py

The numbers are in pyproject.toml, under `[tool.zero2chat.rooms]`. A room is over if it has more lines than its number
and the `headroom` together, so that an addition need not change the number. Lines are those of all Python files. Lines
of code are neither blank, comment, docstring nor import.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
LONGEST, LONGEST_STAGE = 400, 200  # lines of a file, unless its first line says why it "is long: …"; of a stage
_LAYOUT = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER, tokenize.COMMENT}


def count(source: str) -> tuple[int, int]:
    """Return a module's lines of code, and its lines with a comment or docstring."""
    texts, imports = set[int](), set[int]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports |= _lines(node)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node
        ):
            texts |= _lines(node.body[0])
    comments, code = set[int](), set[int]()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments.add(token.start[0])
        elif token.type not in _LAYOUT:
            code |= set(range(token.start[0], token.end[0] + 1))
    return len(code - texts - imports), len(texts | comments)


def _lines(node: ast.AST) -> set[int]:
    return set(range(node.lineno, node.end_lineno + 1))  # type: ignore[attr-defined]


def main() -> int:
    """Print the table and what is over; return the exit code."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["zero2chat"]
    limits, headroom = settings["rooms"], settings["headroom"]
    lines, code, texts, over = dict.fromkeys(limits, 0), 0, 0, list[str]()
    for path in sorted((ROOT / "src").rglob("*.py")):
        inside, source = path.relative_to(ROOT / "src"), path.read_text(encoding="utf-8")
        n = source.count("\n")
        longest = LONGEST_STAGE if inside.parts[:2] == ("zero2chat", "stages") else LONGEST
        if n > longest and "is long: " not in source.partition("\n")[0]:
            over.append(f"src/{inside}: {n} lines, at most {longest}")
        for room in limits:
            if room == "src" or any(inside.is_relative_to(place) for place in room.split()):
                lines[room] += n
        code, texts = code + (counts := count(source))[0], texts + counts[1]
    for room, most in limits.items():
        if room == "src (code)":
            lines[room] = code
        print(f"{room:<55} {lines[room]:>6,} of {most:>6,}")
        if lines[room] > most + headroom:
            over.append(f"{room}: {lines[room]:,} lines, at most {most:,} and {headroom} of headroom")
    print(f"comments and docstrings: {texts / (texts + code):.1%} of these and the code")
    for line in over:
        print(f"over: {line} (limits of rooms: pyproject.toml, [tool.zero2chat.rooms])")
    return int(bool(over))


if __name__ == "__main__":
    sys.exit(main())

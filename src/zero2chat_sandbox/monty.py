"""The engine `monty`: Pydantic's Python interpreter in Rust, in persistent worker processes.

The language has no access to the outside: no files, network, processes, foreign functions or frames, and no host
functions. The interpreter is the only barrier to the host: its worker is an ordinary process, so a memory bug in the
interpreter would be a way out. Sleeping takes no time.

Results are text of limited length. A returned value would be copied completely, each part as often as it is referenced:
`[s] * 200` becomes two hundred texts. So the program's last expression is converted to text inside the interpreter.
Only an error's message is copied in full: briefly it may take about twice the worker's memory.

The interpreter also accepts a `return` outside of functions, which Python does not: see `_return_outside`.
"""

from __future__ import annotations

import atexit
import os
import re
import threading
from typing import Any

from zero2chat_sandbox import SandboxError
from zero2chat_sandbox.python import LONGEST, ExecutionResult, Limits, shortened

_RECYCLE = 5_000  # programs per worker before it is replaced
_MOST_AT_ONCE = 256 * 1024  # bytes of one print
_GRACE = 0.25  # seconds past its limit after which a worker is killed
_LARGEST = 64 * 2**20  # bytes
_LONGEST_ERROR = 4 * LONGEST  # characters that are looked at: a message may take all of the worker's memory
_VALUE = "_z2c_value"  # holds the last expression's value; a name that no program is likely to use
_TAKEN = f"{_VALUE} = ("
_NOTHING = "None"  # appended, so that the program has no value
# Matches a program's text piece by piece. An f-string with its own kind of quote inside is split at the wrong places;
# the interpreter then decides.
_PIECE = re.compile(
    r"""(?P<blank> [^\S\n]++ | \\\n | \#[^\n]*+ )
    | (?P<ends> [\n;] ) | (?P<opens> [\[({] ) | (?P<closes> [\])}] )
    | \'\'\' (?: [^'\\] | \\[\s\S] | '(?!\'\') )*+ (?:\'\'\')?  |  ' (?: [^'\\\n] | \\[\s\S] )*+ '?
    | \"\"\" (?: [^"\\] | \\[\s\S] | "(?!"") )*+ (?:\"\"\")?  |  " (?: [^"\\\n] | \\[\s\S] )*+ "?
    | [^'"\#\[\](){}\n;\s\\]++ | \\
    """,
    re.VERBOSE,
)
_FUNCTION = re.compile(r"(?:async\s+)?def\b")
_RETURN = re.compile(r"(?<![\w.])return(?!\w)")
_F_STRING = re.compile(r"[fFtT][rR]?|[rR][fFtT]")
_CALLED = "exec(_z2c_code)"
_COMPOUND = re.compile(r"(?:if|elif|else|while|for|try|except|finally|with|def|class|async|match|case)\b|@")

_pool: Any = None
_pid = 0  # of the process that opened the pool
_opening = threading.Lock()


def _workers() -> Any:
    global _pool, _pid
    with _opening:
        if _pool is not None and _pid != os.getpid():
            # The pool's threads do not exist in a forked child, and a new pool would wait for them forever.
            raise SandboxError("python: monty cannot run in a process forked after monty was used: spawn the process")
        if _pool is None:
            try:
                from pydantic_monty import Monty
            except ImportError as error:
                raise SandboxError("python: the engine monty is not installed: pip install pydantic-monty") from error
            try:
                pool = Monty(max_checkouts_per_worker=_RECYCLE, feed_duration_limit_grace=_GRACE)
                pool.__enter__()
                try:
                    with pool.checkout() as session:
                        session.feed_run("1")
                except BaseException:
                    pool.__exit__(None, None, None)
                    raise
            except Exception as error:  # the binary is missing, does not start, or is another program
                raise SandboxError(
                    f"python: the engine monty does not start ({error}): pip install --force-reinstall pydantic-monty "
                    "pydantic-monty-runtime, or use the engine bubblewrap"
                ) from error
            atexit.register(_close, pool, os.getpid())
            _pool, _pid = pool, os.getpid()
        return _pool


def _close(pool: Any, pid: int) -> None:
    if pid == os.getpid():
        pool.__exit__(None, None, None)


def run(code: str, limits: Limits) -> ExecutionResult:
    """See `zero2chat_sandbox.python.run`."""
    pool = _workers()
    import pydantic_monty as monty

    code = code.replace("\r\n", "\n").replace("\r", "\n")
    outside = _return_outside(code)
    if outside:
        return ExecutionResult("", error=f"SyntaxError: 'return' outside function (line {outside})")
    # Collected in Rust, which takes half the time of a callback. A print that exceeds the limit is lost completely.
    most = 4 * limits.output + _MOST_AT_ONCE
    printed = monty.CollectString(max_bytes=most)
    session = pool.checkout(
        script_name="program.py",
        limits={
            "max_feed_duration_secs": limits.seconds,
            "max_memory": min(limits.memory, _LARGEST),
            "max_recursion_depth": 1000,
            "max_total_sleep_secs": limits.seconds,
            "max_suspensions": 1000,
        },
        os_policy={"sleep": "zero"},
    )
    value, error = None, None
    try:
        with session:
            program, ending = _as_text(session, code, limits.output + 1)
            if outside is None:  # inside `exec`, a `return` does not end the program
                inputs, program = {"_z2c_code": program}, _CALLED
                value = session.feed_run(f"{program}\n{ending}", inputs=inputs, print_callback=printed)
            else:
                value = session.feed_run(f"{program}\n{ending}", print_callback=printed)
    except monty.MontyCrashedError as crash:
        error = "TimeoutError" if crash.timed_out else f"The interpreter crashed: {crash}"
    except monty.MontyError as mistake:
        error = _traceback(mistake, code)
    except RuntimeError as failure:  # no worker could be started
        raise SandboxError(f"python: monty: {failure}") from failure
    stdout = printed.output
    if len(stdout) > limits.output or (error and f"> {most} bytes" in error):
        error = f"Stopped: it printed more than {limits.output:,} characters."
    elif error and error.startswith("TimeoutError"):
        error = f"Stopped after {limits.seconds:g} seconds."
    return ExecutionResult(
        shortened(stdout, limits.output),
        shortened(value, limits.output) if isinstance(value, str) else None,
        None if error is None else shortened(error, limits.output),
    )


def _as_text(session: Any, code: str, longest: int) -> tuple[str, str]:
    """Return the program, and code for its result as text: the repr of the last expression, or None. An f-string is
    always text, even if the program replaced `repr`."""
    import pydantic_monty as monty

    start, end = _last_statement(code)
    last = code[start:end]
    if last.endswith("\\"):
        last = ""
    if last:
        try:
            # The interpreter checks whether it is an expression, without running it.
            session.feed_run(f"async def {_VALUE}():\n return ({last}\n)\nNone", print_callback=_nowhere)
        except monty.MontyError:
            last = ""
    if not last:
        return f"{code}\n", _NOTHING  # a backslash at the program's end joins one line to it, which is empty
    return f"{code[:start]}{_TAKEN}{last}\n)", f"{_NOTHING} if {_VALUE} is None else f'{{{_VALUE}!r}}'[:{longest}]"


def _return_outside(code: str) -> int | None:
    """Return the line of a `return` outside any function; 0 if there is no such line, None if this is unknown."""
    if not _RETURN.search(code):
        return 0
    functions: list[int] = []  # indentation of the functions that contain the line
    depth, started, one_line = 0, False, False
    for piece in _PIECE.finditer(code):
        kind, at = piece.lastgroup, piece.start()
        if kind == "blank":
            continue
        if kind == "ends":
            started = started and (depth > 0 or piece[0] == ";")
            continue
        if not started:
            before = code[code.rfind("\n", 0, at) + 1 : at].rpartition("\f")[2]
            column = len(before.expandtabs(8))
            functions = [one for one in functions if one < column]
            one_line = bool(_FUNCTION.match(code, at))
            if one_line:
                functions.append(column)
            started = True
        depth += (kind == "opens") - (kind == "closes")
        if piece[0][0] in "'\"" and _F_STRING.search(code, max(0, at - 2), at) and not _closed(piece[0]):
            return None  # it continues beyond this quote, and only the interpreter knows where it ends
        if not functions and piece[0][0] not in "'\"" and _RETURN.search(piece[0]):
            return code.count("\n", 0, at) + 1
    return 0


def _closed(text: str) -> bool:
    """Whether an f-string's last quote is outside all of its braces. May be False although the quote is outside."""
    other, depth, at = "'" if text[0] == '"' else '"', 0, 0
    while at < len(text):
        if depth == 0 and text[at : at + 2] in ("{{", "}}"):
            at += 1
        elif depth and text[at] == other:
            at = text.find(other, at + 1)
            if at < 0:
                return False
        elif depth and text[at] in "#\\":
            return False
        else:
            depth += (text[at] == "{") - (text[at] == "}")
        at += 1
    return depth == 0


def _last_statement(code: str) -> tuple[int, int]:
    """Return the span of the last statement if it is simple, else an empty span; for invalid code, any span."""
    start, end, depth, ended, compound = 0, 0, 0, "\n", True
    for piece in _PIECE.finditer(code):
        kind, at = piece.lastgroup, piece.start()
        if kind == "blank":
            continue
        if kind == "ends":
            if depth == 0:
                end = end if ended else at
                ended = "\n" if "\n" in (ended, piece[0]) else ";"
            continue
        if ended == "\n" and (at == 0 or code[at - 1] == "\n"):  # an indented line is part of a compound statement
            start, compound = at, bool(_COMPOUND.match(code, at))
        elif ended == ";" and not compound:
            start = at
        ended = ""
        depth += (kind == "opens") - (kind == "closes")
    return (0, 0) if compound or depth else (start, end if ended else len(code))


def _nowhere(stream: str, text: str) -> None:
    """Discard what a value's `__repr__` prints."""


def _traceback(mistake: Any, code: str) -> str:
    """Convert the interpreter's traceback for the model, with the lines of the model's program."""
    text = str(mistake.display() if hasattr(mistake, "display") else mistake)[:_LONGEST_ERROR]
    lines = re.sub(r'File "[^"\n]*", ', "", text).split("\n")
    own = code.split("\n")
    if f"    {_CALLED}" in lines:  # no line of the program's
        at = lines.index(f"    {_CALLED}")
        del lines[at - 1 : at + 2]
    for i, line in enumerate(lines[1:], 1):
        where = re.match(r"  line (\d+)", lines[i - 1])
        if where and int(where[1]) > len(own):  # a line that we appended after the program's end
            lines[i - 1] = lines[i - 1].replace(where[1], str(len(own)), 1)
            lines[i : i + 2] = [f"    {own[-1].strip()}", ""]
        elif line.startswith(f"    {_TAKEN}"):  # restore the last expression as in the program
            lines[i : i + 2] = [line.replace(_TAKEN, "", 1), lines[i + 1].replace(" " * len(_TAKEN), "", 1)]
    return "\n".join(line if len(line) <= 200 else line[:200] + "…" for line in lines[:40] if line)

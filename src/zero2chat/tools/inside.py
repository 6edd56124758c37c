"""What runs in the sandbox of the engine `bubblewrap`, before and after the model's program: its text is handed to
`python -c`, and it imports little, because that is most of a short run's time.

    python -I -S -c TEXT FD SECONDS MEMORY OUTPUT FILE_SIZE THREADS < program

On the descriptor FD it says `r` once the limits are set, then how the program ended: `v` and the last value's repr, `n`
where there is none, `e` and an error; and, last, a byte that no text has in UTF-8. The program can write there too. It
would only lie about itself: who reads it takes it for text.
"""

import _ast
import os
import resource
import sys

NAME = "<code>"


def restrict(seconds: int, memory: int, file_size: int, threads: int) -> None:
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, file_size),
        (resource.RLIMIT_NPROC, threads),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 1),  # 0 would not keep a dump from a program of the host's that takes them
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        resource.setrlimit(what, (most, most))


def execute(source: str) -> object:
    """The value of the last expression of a program, run as a fresh `__main__`."""
    module = sys.modules["__main__"] = type(sys)("__main__")
    names = module.__dict__
    names["__builtins__"] = sys.modules["builtins"]
    tree: _ast.Module = compile(source, NAME, "exec", _ast.PyCF_ONLY_AST)  # type: ignore[assignment]
    last = tree.body[-1] if tree.body else None
    if not isinstance(last, _ast.Expr):
        exec(compile(tree, NAME, "exec"), names)
        return None
    tree.body.pop()
    exec(compile(tree, NAME, "exec"), names)
    return eval(compile(_ast.Expression(last.value), NAME, "eval"), names)


def told(error: BaseException, source: str) -> str:
    """An error in a few lines: where in the program, and what."""
    lines = source.split("\n")
    frames, trace = [], error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == NAME:
            frames.append((trace.tb_lineno, trace.tb_frame.f_code.co_name))
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and error.filename == NAME and error.lineno:
        frames.append((error.lineno, "<module>"))
    if len(frames) > 8:
        frames[3:-4] = [(0, f"… {len(frames) - 7} more calls …")]
    found = []
    for number, where in frames:
        if not number:
            found.append(f"  {where}")
            continue
        found.append(f"  line {number}" + ("" if where == "<module>" else f", in {where}"))
        if number <= len(lines):
            found.append(f"    {lines[number - 1].strip()[:200]}")
    what = type(error).__name__
    try:
        said = error.msg if isinstance(error, SyntaxError) else str(error)
    except BaseException:
        said = ""
    return "\n".join(["Traceback:", *found] * bool(found) + [f"{what}: {said}" if said else what])


def ended(source: str, longest: int) -> str:
    """How a program ended, in the words of this file's docstring."""
    try:
        value = execute(source)
        return "n" if value is None else "v" + repr(value)[:longest]
    except SystemExit as error:
        return "n" if error.code in (None, 0) else "eSystemExit: " + str(error.code)[:longest]
    except BaseException as error:
        return "e" + told(error, source)[:longest]


def main() -> None:
    fd, seconds, memory, output, file_size, threads = map(int, sys.argv[1:])
    source = sys.stdin.buffer.read().decode()
    sys.argv[:] = [NAME]
    restrict(seconds, memory, file_size, threads)
    os.write(fd, b"r")
    # Names of ours, before the program can change what they stand for.
    write, leave, modules = os.write, os._exit, sys.modules
    text = ended(source, output + 1)
    try:
        if "threading" in modules:
            modules["threading"]._shutdown()
        if "atexit" in modules:
            modules["atexit"]._run_exitfuncs()
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:  # noqa: SIM105 (contextlib is not loaded)
                stream.flush()
            except BaseException:
                pass
        rest = text.encode("utf-8", "backslashreplace") + b"\xff"
        while rest:
            rest = rest[write(fd, rest) :]
        leave(0)


main()

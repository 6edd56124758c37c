"""The engine `bubblewrap`: a program cannot change anything it can name, and can use only listed system calls."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import struct
import sys
import threading
import time
from pathlib import Path

import pytest

from zero2chat_sandbox import bubblewrap
from zero2chat_sandbox.python import Limits, run

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="Linux only"),
    pytest.mark.usefixtures("bubblewrap_here"),
]


def attempts(*codes: str) -> str:
    """A program that tries each, and prints the line of what the system said to it."""
    tried = "".join(f"try:\n    print({code})\nexcept OSError as error:\n    print(error.strerror)\n" for code in codes)
    return f"import ctypes, fcntl, os\nlibc = ctypes.CDLL(None, use_errno=True)\n{tried}"


def private_null(path: Path) -> Path:
    """A device of this test's own, or, for a user who can make none, a file in its place."""
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        path.open("w").close()
    except OSError:
        path.unlink(missing_ok=True)
        path.write_bytes(b"")
    os.utime(path, (1e9, 1e9))
    path.chmod(0o666)
    return path


def test_the_null_device_of_the_host_keeps_its_mode_owner_and_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    null = private_null(tmp_path / "null")
    sandbox = bubblewrap._sandbox()
    at = sandbox.index("--dev-bind")
    assert sandbox[at : at + 3] == ("--dev-bind", "/dev/null", "/dev/null")
    private = (*sandbox[: at + 1], str(null), *sandbox[at + 2 :])
    monkeypatch.setattr(bubblewrap, "_sandbox", lambda: private)
    before = null.stat()
    tried = [
        "os.chmod('/dev/null', 0o600)",
        "os.fchmod(os.open('/dev/null', os.O_RDONLY), 0o600)",
        "os.chmod(os.open('/dev/null', os.O_RDONLY), 0o600)",
        "os.utime('/dev/null')",
        "os.utime('/dev/null', (1, 1))",
        "os.utime(os.open('/dev/null', os.O_RDONLY), (1, 1))",
        "os.chown('/dev/null', 65534, 65534)",
        "os.setxattr('/dev/null', 'user.a', b'b')",
        "os.truncate('/dev/null', 5)",
        "os.remove('/dev/null')",
    ]
    said = run(attempts(*tried), "bubblewrap").stdout.splitlines()
    after = null.stat()
    assert len(said) == len(tried)
    assert "None" not in said
    names = ("st_mode", "st_uid", "st_gid", "st_size", "st_atime_ns", "st_mtime_ns", "st_ctime_ns")
    assert [getattr(after, name) for name in names] == [getattr(before, name) for name in names]


def test_the_null_device_takes_what_is_written_and_gives_nothing() -> None:
    code = "import os\nn = open('/dev/null', 'r+b', buffering=0)\nn.write(b'x' * 1000), n.read(5), os.devnull"
    assert run(code, "bubblewrap").value == "(1000, b'', '/dev/null')"


def test_a_program_may_change_its_own_files() -> None:
    code = """import os, shutil, sqlite3
open('a', 'w').write('x')
os.chmod('a', 0o640)
os.utime('a', (1, 2))
shutil.copy('a', 'b')
base = sqlite3.connect('base')
base.execute('create table t (x)')
base.commit()
oct(os.stat('b').st_mode), os.stat('a').st_mtime, base.execute('select count(*) from t').fetchone()"""
    assert run(code, "bubblewrap").value == "('0o100640', 2.0, (0,))"


@pytest.mark.parametrize(
    "lock",
    [
        "fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "fcntl.flock(file, fcntl.LOCK_SH)",
        "fcntl.lockf(file, fcntl.LOCK_SH)",
        "fcntl.fcntl(file, 37, struct.pack('hhqqi4x', fcntl.F_RDLCK, 0, 0, 0, 0))",
        "fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)",
    ],
)
def test_the_hosts_files_are_not_locked(lock: str) -> None:
    code = f"import fcntl, os, struct, time\nfile = open(os.__file__)\ntry:\n    {lock}\nexcept OSError:\n    pass\n"
    ran = threading.Thread(target=run, args=(f"{code}time.sleep(1)", "bubblewrap"))
    ran.start()
    wanted = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
    refused = 0
    while ran.is_alive():
        with open(os.__file__) as file:  # noqa: PTH123
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                refused += 1
            held = struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_GETLK, wanted))[0]
            refused += held != fcntl.F_UNLCK
        # A lease would hold up whoever opens the file for writing.
        with contextlib.suppress(PermissionError):
            start = time.monotonic()
            os.close(os.open(os.__file__, os.O_RDWR))
            refused += time.monotonic() - start > 5
        time.sleep(0.01)
    assert refused == 0


def test_no_notice_is_had_of_the_hosts_files() -> None:
    folder = "os.open(os.path.dirname(os.__file__), os.O_RDONLY)"
    codes = [
        f"fcntl.fcntl({folder}, fcntl.F_NOTIFY, fcntl.DN_ACCESS)",
        "fcntl.fcntl(os.open(os.__file__, os.O_RDONLY), fcntl.F_SETLEASE, fcntl.F_RDLCK)",
        "fcntl.fcntl(os.open(os.__file__, os.O_RDONLY), 1036, b'12345678')",  # F_SET_RW_HINT
    ]
    assert run(attempts(*codes), "bubblewrap").stdout.splitlines() == ["Operation not permitted"] * 3


def test_the_right_to_mount_is_given_up_before_the_program_begins() -> None:
    code = """import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def remounted(flags):
    return libc.mount(None, b'/dev/null', None, flags, None), ctypes.get_errno()
libc.mount(b'tmpfs', b'/tmp', b'tmpfs', 6, None), ctypes.get_errno(), remounted(0x1022), remounted(0x1023)"""
    assert run(code, "bubblewrap").value == "(-1, 1, (-1, 1), (-1, 1))"


SOCKETS = """import socket
held, kept = 0, []
try:
    while True:
        one, other = socket.socketpair()
        kept.append(other)
        one.setblocking(False)
        try:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**24)
        except OSError:
            pass
        try:
            while True:
                held += one.send(b'x' * 65536)
        except BlockingIOError:
            one.close()
except OSError:
    print(held)"""
PIPES = """import fcntl, os
held, kept = 0, []
try:
    while True:
        reading, writing = os.pipe()
        kept.append(reading)
        os.set_blocking(writing, False)
        try:
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 2**20)
        except OSError:
            pass
        try:
            while True:
                held += os.write(writing, b'x' * 65536)
        except BlockingIOError:
            os.close(writing)
except OSError:
    print(held)"""
FILES = """import os
made = 0
try:
    while True:
        {make}
        made += 1
except OSError:
    print(made)"""
MADE = {
    "folders": "os.mkdir(str(made))",
    "files": "open(str(made), 'w').close()",
    "links": "os.symlink('x' * 100, str(made))",
    "names of one file": "open('a', 'a').close(); os.link('a', str(made))",
    "folders in folders": "os.mkdir('d'); os.chdir('d')",
}


@pytest.mark.parametrize(("code", "most"), [(SOCKETS, 20 * 2**20), (PIPES, 5 * 2**20)], ids=["sockets", "pipes"])
def test_what_sockets_and_pipes_hold_is_bounded(code: str, most: int) -> None:
    limits = Limits(seconds=20)
    printed = run(code, "bubblewrap", limits).stdout
    assert 0 < int(printed) < most


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_how_many_files_there_are_is_bounded(make: str) -> None:
    printed = run(FILES.format(make=make), "bubblewrap", Limits(seconds=60, scratch=2**20)).stdout
    assert 0 < int(printed) <= 256


def test_how_many_threads_there_are_is_bounded() -> None:
    """Root's too, although the kernel exempts root from its limit."""
    code = """import threading, time
threading.stack_size(32768)
try:
    for i in range(3000):
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    print('there are many')
    time.sleep(60)
except RuntimeError:
    print('no more')"""
    ran = run(code, "bubblewrap", Limits(seconds=60))
    assert ran.stdout == "no more\n" or ran.error == "Stopped: it started more than 64 threads."

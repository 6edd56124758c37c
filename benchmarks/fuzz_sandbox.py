"""Can any program in the sandbox `bubblewrap` change the host, leave something behind, or exceed its limits?

    python benchmarks/fuzz_sandbox.py [--minutes 10] [--seed 0] [--kept benchmarks/fuzz_sandbox.txt] [--json]

First runs the kept programs, which once escaped. Then, until the time is up, runs programs from a grammar of system
calls: names, descriptors, flags and sizes that fit each call, or do not; once, many times, or in threads. Seed n always
makes the same programs. The interpreter's files and `/dev/null` are private copies here, so that only the program can
have touched them. After each program everything must be as before: mode, owner, size, links and times of every file
that it could name; locks on them while it runs; the mounts; this process's descriptors; and no process may remain.
Memory or time over the limit counts if it is seen three times in a row, as other work on the machine takes both. A
program that makes a difference is minimized and added to the kept ones.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky

from zero2chat_sandbox import bubblewrap, seccomp
from zero2chat_sandbox.python import ExecutionResult, Limits

KEPT = Path(__file__).with_suffix(".txt")
MARK = 64 * 2**20 + 4096 * (os.getpid() % 1000)  # distinguishes this process's sandboxes from others
LIMITS = Limits(seconds=0.5, memory=MARK, output=2000, scratch=4 * 2**20)
MEMORY = MARK + LIMITS.scratch + 60 * 2**20  # allowed for a program and bwrap, with the kernel's own memory for both
SLACK = 30.0  # seconds over the limit, on a busy machine
_AT_ONCE = 25  # programs per seed

# ---- the grammar

_COLUMN = 1 if platform.machine() == "aarch64" else 0
_LISTED = [row.split() for row in seccomp._CALLS.replace("\n", " ").split(",")]
NUMBERS = {row[0]: int(row[1 + _COLUMN]) for row in _LISTED if row[1 + _COLUMN] != "-"}
NUMBERS |= {name: row[_COLUMN] for name, row in {
    "ioctl": (16, 29), "prctl": (157, 167), "socketpair": (53, 199), "prlimit64": (302, 261), "fcntl": (72, 25),
    "flock": (73, 32), "clone": (56, 220), "clone3": (435, 435), "mount": (165, 40), "umount2": (166, 39),
    "setsockopt": (54, 208), "socket": (41, 198), "memfd_create": (319, 279), "setxattr": (188, 5),
    "fchmodat2": (452, 452), "fchownat": (260, 54), "unshare": (272, 97), "setns": (308, 268), "shmget": (29, 194),
    "msgget": (68, 186), "mq_open": (240, 180), "add_key": (248, 217), "keyctl": (250, 219), "mknodat": (259, 33),
    "inotify_init1": (294, 26), "io_uring_setup": (425, 425), "sendmsg": (46, 211), "splice": (275, 76),
    "vmsplice": (278, 75), "ptrace": (101, 117), "process_vm_writev": (311, 271), "pidfd_open": (434, 434),
    "landlock_create_ruleset": (444, 444), "open_tree": (428, 428), "mount_setattr": (442, 442), "fsopen": (430, 430),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "seccomp": (317, 277),
    "kcmp": (312, 272), "setrlimit": (160, 164), "setpriority": (141, 140), "timer_create": (222, 107),
    "rt_sigqueueinfo": (129, 138), "mlock": (149, 228), "pkey_alloc": (330, 289), "quotactl": (179, 60),
}.items()}  # fmt: skip
_ENDS = ("exit", "exit_group", "execve", "rt_sigreturn", "pause", "rt_sigsuspend")  # little happens after these

_names = st.sampled_from(
    [
        *("/dev/null", "/dev", "/", "/tmp", "/tmp/a", "/tmp/a/b", "a", ".", "..", "../dev/null", "/tmp/../dev/null"),
        *("/python/bin/python3", "/python/so", "/proc/self/fd/0", "/sys", "/etc/passwd", "", "x" * 255),
        *(f"/python/lib/python3.{minor}{rest}" for minor in (11, 12, 13) for rest in ("", "/os.py", "/lib-dynload")),
    ]
).map(lambda name: repr(name.encode()))
_fds = st.one_of(
    st.integers(0, 8).map(str),
    st.builds("o({}, {})".format, _names, st.sampled_from(["0", "1", "2", "0o100", "0o102", "0o200000", "0o10000000"])),
    st.just("-100"),
    st.integers(9, 64).map(str),
)
_sizes = st.sampled_from(["0", "1", "64", "4096", "65536", "2**20", "2**24", "2**31 - 1", "2**40", "-1"])
_flags = st.one_of(
    st.sampled_from(["0", "1", "2", "3", "4", "8", "0x400", "0x1000", "0x10000", "0x3d0f00", "0x1022", "0x1023", "6"]),
    st.integers(0, 31).map(lambda bit: str(1 << bit)),
    st.integers(0, 2**16).map(str),
)
_modes = st.sampled_from(["0", "0o600", "0o666", "0o777", "0o4777", "0o1777"])
_times = st.sampled_from(["None", "B", "T"])
_kinds = {"p": _names, "f": _fds, "s": _sizes, "g": _flags, "m": _modes, "t": _times, "b": st.just("B")}
_kinds |= {"0": st.just("0"), "c": st.sampled_from([str(n) for n in (*range(45), *range(1024, 1044))])}
_kinds |= {"d": st.sampled_from(["-100", "0", "o(b'/', 0)", "o(b'/tmp', 0)"]), "n": st.sampled_from(["0", "1", "-1"])}
_kinds |= {"i": st.integers(0, 64).map(str), "u": st.sampled_from(["0", "65534", "-1"])}

# The arguments of each call, one letter each; the other calls take anything.
_TAKES = {
    "chmod": "pm", "fchmod": "fm", "fchmodat": "dpm", "fchmodat2": "dpmg", "utime": "pt", "utimes": "pt",
    "utimensat": "dptg", "fchownat": "dpuug", "setxattr": "pbbsg", "truncate": "ps", "ftruncate": "fs",
    "fallocate": "fgss", "open": "pgm", "openat": "dpgm", "creat": "pm", "rename": "pp", "renameat2": "dpdpg",
    "link": "pp", "linkat": "dpdpg", "symlink": "pp", "unlink": "p", "unlinkat": "dpg", "mkdir": "pm", "mkdirat": "dpm",
    "rmdir": "p", "mknodat": "dpms", "flock": "fi", "fcntl": "fcg", "ioctl": "fgb", "read": "fbs", "write": "fbs",
    "pwrite64": "fbss", "sendto": "fbsg00", "socketpair": "gg0b", "setsockopt": "figbs", "socket": "gg0",
    "pipe2": "bg", "dup": "f", "dup2": "fi", "mmap": "0sggfs", "mremap": "bssg", "madvise": "bsg", "mount": "pppgb",
    "umount2": "pg", "clone": "gb000", "unshare": "g", "setns": "fg", "prctl": "gbbb", "prlimit64": "niib",
    "setrlimit": "ib", "kill": "ni", "tgkill": "nni", "setitimer": "ibb", "memfd_create": "bg", "shmget": "gsg",
    "eventfd2": "sg", "epoll_create1": "g", "epoll_ctl": "figb", "copy_file_range": "f0f0s0", "sendfile": "ff0s",
    "fadvise64": "fssg", "fsync": "f", "inotify_init1": "g", "getdents64": "fbs", "readlinkat": "dpbs",
    "statx": "dpggb",
    "fchdir": "f", "chdir": "p", "close": "f", "close_range": "iig", "capset": "bb", "sched_setaffinity": "nsb",
}  # fmt: skip


@st.composite
def _calls(draw: st.DrawFn) -> str:
    name = draw(st.one_of(st.sampled_from(sorted(_TAKES)), st.sampled_from(sorted(NUMBERS))))
    number = NUMBERS.get(name, draw(st.integers(0, 470)))
    if name in _ENDS or (name not in NUMBERS and name in _TAKES):
        name, number = "number", draw(st.integers(0, 470).filter(lambda n: n not in {NUMBERS[end] for end in _ENDS}))
    takes = _TAKES.get(name) or "".join(draw(st.lists(st.sampled_from(sorted(_kinds)), max_size=6)))
    return f"s({', '.join([str(number), *(draw(_kinds[kind]) for kind in takes)])})  # {name}"


@st.composite
def programs(draw: st.DrawFn) -> str:
    """A program of up to twelve lines: calls, once, many times, or in threads."""
    lines = []
    for call in draw(st.lists(_calls(), min_size=1, max_size=12)):
        line, _, name = call.partition("  # ")
        how = draw(
            st.sampled_from(["{}", "{}", "{}", "many(10, lambda: {})", "many(10**6, lambda: {})", "t(lambda: {})"])
        )
        lines.append(f"{how.format(line)}  # {name}")
    return "\n".join(lines)


BEFORE = """import ctypes, threading
libc = ctypes.CDLL(None, use_errno=True)
B, T = ctypes.create_string_buffer(b"user.a", 2**16), ctypes.create_string_buffer(bytes(32))
def s(number, *given):
    return libc.syscall(ctypes.c_long(number), *[ctypes.c_long(x) if isinstance(x, int) else x for x in given])
def o(name, flags):
    return libc.open(name, flags, 0o666)
def many(n, f):
    for _ in range(n):
        f()
def t(f):
    threading.Thread(target=f, daemon=True).start()
"""

# ---- the host


class Host:
    """Private copies of everything that a program can name, and their state before it ran."""

    def __init__(self, folder: Path):
        self.command = list(bubblewrap._sandbox())
        self._files: list[Path] = []
        for at, option in enumerate(self.command):
            if option in ("--ro-bind", "--dev-bind"):
                self.command[at + 1] = str(self._copy(Path(self.command[at + 1]), folder / str(at)))
        self.accept()
        self._ids = {
            f"{os.major(s.st_dev):02x}:{os.minor(s.st_dev):02x}:{s.st_ino}" for s in map(Path.stat, self._files)
        }

    def _copy(self, source: Path, target: Path) -> Path:
        if source == Path("/dev/null"):
            try:
                os.mknod(target, 0o666 | stat.S_IFCHR, source.stat().st_rdev)
                target.open("w").close()
            except OSError:  # only root can create one
                target.write_bytes(b"")
            target.chmod(0o666)
        elif source.is_dir():
            left_out = shutil.ignore_patterns("test", "idlelib", "lib2to3", "ensurepip", "__pycache__", "config-*")
            packages = {name for name in ("site-packages", "dist-packages") if (source / name).is_dir()}
            shutil.copytree(
                source,
                target,
                ignore=lambda at, names: left_out(at, names) | (packages if Path(at) == source else set()),
            )
            for name in packages:
                (target / name).mkdir()
        else:
            shutil.copy2(source, target)
        self._files += [target, *(target.rglob("*") if target.is_dir() else ())]
        return target

    def accept(self) -> None:
        """Makes the present state the expected one."""
        self._state = self._look()

    def _look(self) -> dict[str, tuple[int, ...]]:
        kept = ("st_mode", "st_uid", "st_gid", "st_size", "st_nlink", "st_atime_ns", "st_mtime_ns", "st_ctime_ns")
        return {str(path): tuple(getattr(path.lstat(), name) for name in kept) for path in self._files}

    def changed(self) -> list[str]:
        now = self._look()
        return [f"{path}: {self._state[path]} is now {now[path]}" for path in now if now[path] != self._state[path]]

    def locked(self) -> bool:
        return any(one in line for line in Path("/proc/locks").read_text().splitlines() for one in self._ids)


def left_behind() -> list[str]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and str(MARK) in process.cmdline():
                found.append(f"process {process.pid}, {process.status()}")
    return found


class Watch(threading.Thread):
    """Observes a running program: locks on the host's files, and the lowest free memory."""

    def __init__(self, host: Host):
        super().__init__(daemon=True)
        self._host, self._over = host, threading.Event()
        self.locked, self.before = False, psutil.virtual_memory().available
        self.least = self.before
        self.start()

    def run(self) -> None:
        while not self._over.wait(0.02):
            self.locked = self.locked or self._host.locked()
            self.least = min(self.least, psutil.virtual_memory().available)

    def end(self) -> None:
        self._over.set()
        self.join()


def differences(program: str, host: Host, limits: Limits = LIMITS) -> list[str]:
    """Return what the program has changed."""
    descriptors, mounts = psutil.Process().num_fds(), Path("/proc/self/mountinfo").read_text()
    found = []
    for again in range(3):
        watch, start = Watch(host), time.monotonic()
        result: ExecutionResult | Exception
        try:
            result = bubblewrap.run(BEFORE + program, limits)
        except Exception as error:
            result = error
        seconds = time.monotonic() - start
        watch.end()
        taken = watch.before - watch.least
        late = seconds > limits.seconds + SLACK
        if taken <= MEMORY and not late:
            break
        if again == 2:
            found += [f"took {taken / 2**20:.0f} MB, three times"] * (taken > MEMORY)
            found += [f"took {seconds:.0f} s, three times"] * late
    if isinstance(result, Exception):
        found.append(f"raised {type(result).__name__}: {result}")
    found += host.changed() + ["locks on the host's files"] * watch.locked + left_behind()
    found += ["descriptors of the caller"] * (psutil.Process().num_fds() != descriptors)
    found += ["mounts"] * (Path("/proc/self/mountinfo").read_text() != mounts)
    return found


def read_kept(path: Path) -> dict[str, str]:
    """Name → program."""
    parts = path.read_text().split("\n### ")[1:] if path.exists() else []
    return dict(part.strip().split("\n", 1) for part in parts)


@contextlib.contextmanager
def private(folder: Path) -> Iterator[Host]:
    host = Host(folder)
    sandbox = bubblewrap._sandbox
    bubblewrap._sandbox = lambda: tuple(host.command)  # type: ignore[assignment]
    try:
        yield host
    finally:
        bubblewrap._sandbox = sandbox


def fuzz(host: Host, first: int, minutes: float) -> tuple[int, int, dict[str, list[str]]]:
    """(Programs, seeds, and the differences of the first failing program, minimized.)"""
    end, ran, number = time.monotonic() + 60 * minutes, 0, first
    last: dict[str, list[str]] = {}
    while time.monotonic() < end and not last:

        @seed(number)
        @settings(
            max_examples=_AT_ONCE,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        @given(programs())
        def nothing_differs(program: str) -> None:
            nonlocal ran, last
            if time.monotonic() > end and not last:
                return
            ran += 1
            if found := differences(program, host):
                last = {program: found}
                host.accept()
                raise AssertionError("\n".join(found))

        with contextlib.suppress(AssertionError, Flaky):
            nothing_differs()
        number += 1
    return ran, number - first, last


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="time for generated programs (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="first seed (default %(default)s)")
    parser.add_argument("--kept", type=Path, default=KEPT, metavar="FILE", help="default %(default)s")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    args = parser.parse_args()
    kept, out = read_kept(args.kept), {}
    with tempfile.TemporaryDirectory() as folder, private(Path(folder)) as host:
        for name, program in kept.items():
            if found := differences(program, host, replace(LIMITS, seconds=3.0)):
                out[name] = found
                host.accept()
        print(f"{len(kept)} kept programs: {len(out)} made a difference", flush=True)
        ran, seeds, last = fuzz(host, args.seed, args.minutes)
        print(f"{ran} programs of the seeds {args.seed} to {args.seed + seeds - 1}: {len(last)} made a difference")
    for program, found in last.items():
        name = f"seed {args.seed + seeds - 1}"
        out[name] = found
        with args.kept.open("a") as file:
            file.write(f"\n### {name}\n{program}\n")
        print(program)
    for name, found in out.items():
        print(f"{name}: {'; '.join(found)[:1000]}")
    if args.json:
        print(json.dumps({"kept": len(kept), "programs": ran, "seeds": seeds, "differences": len(out)}))
    raise SystemExit(bool(out))


if __name__ == "__main__":
    main()

"""A seccomp filter for the engine `bubblewrap` that only allows the system calls that Python needs.

The filter blocks calls known from container escapes, new processes (`clone` only makes threads, so only one address
space must be limited), sockets except socket pairs, every kind of memory outside of limits (memory files, System V
segments, message queues, keys, larger buffers of sockets and pipes), and leases and notifications on the host's files.
File locks are faked: the program is told that they succeed, because a real lock could only affect the host's files.
"""

from __future__ import annotations

import platform
import struct

# Name, number on x86-64, number on aarch64 (- if missing).
_CALLS = """
read 0 63, write 1 64, open 2 -, close 3 57, stat 4 -, fstat 5 80, lstat 6 -, poll 7 -, lseek 8 62, mmap 9 222,
mprotect 10 226, munmap 11 215, brk 12 214, rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn 15 139,
pread64 17 67, pwrite64 18 68, readv 19 65, writev 20 66, access 21 -, pipe 22 -, select 23 -, sched_yield 24 124,
mremap 25 216, msync 26 227, mincore 27 232, madvise 28 233, dup 32 23, dup2 33 -, pause 34 -, nanosleep 35 101,
getitimer 36 102, alarm 37 -, setitimer 38 103, getpid 39 172, sendfile 40 71, sendto 44 206, recvfrom 45 207,
shutdown 48 210, getsockname 51 204, getpeername 52 205, getsockopt 55 209, execve 59 221,
exit 60 93, wait4 61 260, kill 62 129, uname 63 160, fsync 74 82, fdatasync 75 83,
truncate 76 45, ftruncate 77 46, getdents 78 -, getcwd 79 17, chdir 80 49, fchdir 81 50, rename 82 -, mkdir 83 -,
rmdir 84 -, creat 85 -, link 86 -, unlink 87 -, symlink 88 -, readlink 89 -, chmod 90 -, fchmod 91 52, umask 95 166,
gettimeofday 96 169, getrlimit 97 163, getrusage 98 165, sysinfo 99 179, times 100 153, getuid 102 174, getgid 104 176,
geteuid 107 175, getegid 108 177, getppid 110 173, getpgrp 111 -, setsid 112 157, getgroups 115 158, getresuid 118 148,
getresgid 120 150, getpgid 121 155, getsid 124 156, capset 126 91, rt_sigpending 127 136, rt_sigtimedwait 128 137,
rt_sigsuspend 130 133, sigaltstack 131 132, utime 132 -, statfs 137 43, fstatfs 138 44, getpriority 140 141,
sched_getparam 143 121, sched_getscheduler 145 120, sched_get_priority_max 146 125, sched_get_priority_min 147 126,
arch_prctl 158 -, gettid 186 178, tkill 200 130, time 201 -, futex 202 98, sched_setaffinity 203 122,
sched_getaffinity 204 123, epoll_create 213 -, getdents64 217 61, set_tid_address 218 96, restart_syscall 219 128,
fadvise64 221 223, clock_gettime 228 113, clock_getres 229 114, clock_nanosleep 230 115, exit_group 231 94,
epoll_wait 232 -, epoll_ctl 233 21, tgkill 234 131, utimes 235 -, waitid 247 95, openat 257 56, mkdirat 258 34,
newfstatat 262 79, unlinkat 263 35, renameat 264 38, linkat 265 37, symlinkat 266 36, readlinkat 267 78,
fchmodat 268 53, faccessat 269 48, pselect6 270 72, ppoll 271 73, set_robust_list 273 99, get_robust_list 274 100,
utimensat 280 88, epoll_pwait 281 22, eventfd 284 -, fallocate 285 47, eventfd2 290 19, epoll_create1 291 20,
dup3 292 24, pipe2 293 59, preadv 295 69, pwritev 296 70, renameat2 316 276, getrandom 318 278,
membarrier 324 283, copy_file_range 326 285, preadv2 327 286, pwritev2 328 287, statx 332 291, rseq 334 293,
close_range 436 436, faccessat2 439 439, epoll_pwait2 441 441
"""
# Number on x86-64, on aarch64, index of the argument, its allowed values, and the values for which the call is skipped
# but reports success.
_NARROWED: tuple[tuple[int, int, int, tuple[int, ...], tuple[int, ...]], ...] = (
    (16, 29, 1, (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451), ()),  # ioctl: is it a terminal, how much is there, …
    (157, 167, 0, (15, 16), ()),  # prctl: a thread's name
    (53, 199, 0, (1,), ()),  # socketpair of AF_UNIX: an event loop wakes itself with one
    (302, 261, 0, (0,), ()),  # prlimit64: its own limits, to lower them
    # fcntl: F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_OFD_GETLK, F_DUPFD_CLOEXEC, F_GETPIPE_SZ; and
    # F_SETLK, F_SETLKW, F_OFD_SETLK, F_OFD_SETLKW
    (72, 25, 1, (0, 1, 2, 3, 4, 5, 36, 1030, 1032), (6, 7, 37, 38)),
    (73, 32, 1, (), (1, 2, 5, 6, 8)),  # flock: LOCK_SH, LOCK_EX, both with LOCK_NB, LOCK_UN
    # clone: a thread with the flags that glibc and musl use, which share everything. A thread with its own table of
    # file descriptors could open as many files again.
    (56, 220, 0, (0x3D0F00, 0x7D0F00), ()),
    # mount: what `inside.py` does before it gives up the capability for it: a tmpfs (MS_NOSUID, MS_NODEV), and a bind
    # remounted read-only, which may be MS_NOEXEC.
    (165, 40, 3, (0x6, 0x1023, 0x102B), ()),
)
_CLONE3 = (435, 435)

_MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # the kernel's constants for filters
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _EPERM, _ENOSYS, _KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
_PRETEND = 0x00050000  # the call is skipped but reports success
_NUMBER, _MACHINE, _ARGUMENTS = 0, 4, 16  # offsets in the filter's input; little-endian, so low halves come first

Instruction = tuple[int, int, int, int]  # code, instructions to skip if true, if false, operand


def filter_program(machine: str | None = None) -> bytes:
    """Return the filter for `bwrap --seccomp`. Raises `KeyError` if the machine's system calls are not listed here."""
    machine = machine or platform.machine()
    name = _MACHINES[machine]
    column = list(_MACHINES).index(machine)
    lines: list[Instruction] = [
        (_LOAD, 0, 0, _MACHINE),
        (_EQUAL, 1, 0, name),
        (_RETURN, 0, 0, _KILL),  # on another architecture the numbers mean other calls
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":  # the x32 numbers
        lines += [(_AT_LEAST, 0, 1, 0x40000000), (_RETURN, 0, 0, _EPERM)]
    # The flags of clone3 are in memory, where a filter cannot see them: the C library falls back to clone.
    lines += [(_EQUAL, 0, 1, _CLONE3[column]), (_RETURN, 0, 0, _ENOSYS)]
    for *numbers, index, known, pretended in _NARROWED:
        values = len(known) + len(pretended)
        lines += [(_EQUAL, 0, values + 4, numbers[column]), (_LOAD, 0, 0, _ARGUMENTS + 8 * index)]
        lines += [(_EQUAL, values - i + 1, 0, value) for i, value in enumerate(known)]
        lines += [(_EQUAL, len(pretended) - i, 0, value) for i, value in enumerate(pretended)]
        lines += [(_RETURN, 0, 0, _EPERM), (_RETURN, 0, 0, _PRETEND), (_RETURN, 0, 0, _ALLOW)]
    allowed = [row.split()[1 + column] for row in _CALLS.replace("\n", " ").split(",")]
    calls = [int(number) for number in allowed if number != "-"]
    lines += [(_EQUAL, len(calls) - i, 0, number) for i, number in enumerate(calls)]
    lines += [(_RETURN, 0, 0, _EPERM), (_RETURN, 0, 0, _ALLOW)]
    return b"".join(struct.pack("<HBBI", *line) for line in lines)

"""A process that works digits out. A line of JSON in, `[answer, gold, tolerance,
percent]`; a line out, the reason. Ends with its stdin.

    python -m zero2chat.math_verifier.worker MEGABYTES SECONDS PATIENCE

It holds to its own limits of memory and of processor time for a question. Whoever asks kills it when it is late by the
clock; should nobody be left to, the alarm does.
"""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import sys


def main() -> None:
    megabytes, seconds, patience = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    for timer in (signal.SIGPROF, signal.SIGALRM):  # should that process ignore them
        signal.signal(timer, signal.SIG_DFL)
    import mpmath  # noqa: F401  # the one slow import, before the first question

    from zero2chat.math_verifier.verify import with_digits

    with contextlib.suppress(ValueError, OSError):  # macOS knows no such limit
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print("ready", flush=True)
    for line in sys.stdin:
        signal.alarm(patience + 1)
        signal.setitimer(signal.ITIMER_PROF, seconds)  # ends the process
        print(with_digits(*json.loads(line)), flush=True)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)


if __name__ == "__main__":
    main()

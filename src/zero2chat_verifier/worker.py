"""A process that compares answers by the digits of irrational numbers.

    python -m zero2chat_verifier.worker MEGABYTES SECONDS PATIENCE

It reads lines of JSON, `[answer, gold, tolerance, percent]`, and prints the reason for each. The process limits its own
memory, and its time per question; an alarm ends it if its parent no longer exists.
"""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import sys


def main() -> None:
    megabytes, seconds, patience = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    for timer in (signal.SIGPROF, signal.SIGALRM):  # in case the parent ignores them, which is inherited
        signal.signal(timer, signal.SIG_DFL)
    import mpmath  # noqa: F401  # slow, so import it before the first question

    from zero2chat_verifier.verify import with_digits

    with contextlib.suppress(ValueError, OSError):  # macOS has no such limit
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

"""A process that computes digits: a line of JSON in, `[answer, gold, tolerance, percent]`, a line with the reason out.

It ends when its stdin closes.

    python -m zero2chat.math_verifier.worker MEGABYTES SECONDS

It limits its own memory. The process that asks kills it if it takes too long, and an alarm does if that process died.
"""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import sys


def main() -> None:
    megabytes, seconds = int(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    import mpmath  # noqa: F401  # the one slow import, before the first question

    from zero2chat.math_verifier.verify import with_digits

    with contextlib.suppress(ValueError, OSError):  # macOS knows no such limit
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print("ready", flush=True)
    for line in sys.stdin:
        signal.alarm(seconds)
        print(with_digits(*json.loads(line)), flush=True)
        signal.alarm(0)


if __name__ == "__main__":
    main()

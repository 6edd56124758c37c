"""How many programs per second does each engine of `zero2chat python` run?

    python benchmarks/sandbox.py [--seconds 5] [--json]

One thread per core runs a small program again and again, each time in a fresh sandbox: a loop, a function, a printed
line and a value. An engine that is not available here is skipped, with its reason.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

from zero2chat.core.errors import UserError
from zero2chat_sandbox.python import ENGINES, ExecutionResult, run

PROGRAM = """def digits(n):
    return sum(int(digit) for digit in str(n))


print("digits of powers of two")
[digits(2**i) for i in range(20)]
"""
ANSWER = ExecutionResult("digits of powers of two\n", str([sum(map(int, str(2**i))) for i in range(20)]))


def runs(engine: str, seconds: float) -> int:
    """Programs that one thread runs in `seconds`."""
    end, n = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        if run(PROGRAM, engine) != ANSWER:
            raise SystemExit(f"sandbox: {engine} did not answer {ANSWER}")
        n += 1
    return n


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds per engine (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    args = parser.parse_args()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found: dict[str, float] = {}
    for engine in ENGINES:
        try:
            run(PROGRAM, engine)  # starts its workers and tests its sandbox
        except UserError as error:
            print(f"{engine}: {error}")
            continue
        start = time.monotonic()
        with ThreadPoolExecutor(cores) as pool:
            n = sum(pool.map(runs, [engine] * cores, [args.seconds] * cores))
        found[engine] = round(n / (time.monotonic() - start), 1)
        print(f"{engine}: {found[engine]:,.0f} runs/s on {cores} cores")
    if args.json:
        print(json.dumps({f"{engine}_runs_per_second": rate for engine, rate in found.items()} | {"cores": cores}))


if __name__ == "__main__":
    main()

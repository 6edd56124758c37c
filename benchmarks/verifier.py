"""How fast is the verifier compared with Math-Verify, and do expensive answers slow down other rows?

    python benchmarks/verifier.py [--rows 2000] [--ordinary 10000] [--bombs 1000] [--json]

First, answers like GSM8K's are verified row by row, by Math-Verify's `parse` and `verify` and by our `verify_answer`,
alternating in one process. Then ordinary rows, numeric and symbolic, are verified with and without bombs (answers that
are very expensive to verify) among them. The benchmark compares the 95th percentile of an ordinary row's time. It takes
about a minute on two cores.
"""

from __future__ import annotations

import argparse
import json
import random
import runpy
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zero2chat_verifier import worker_pool
from zero2chat_verifier.verify import verify_answer

_SUITE = runpy.run_path(str(Path(__file__).parents[1] / "tests" / "verifier" / "rows.py"))
_ROUNDS = 5


def gsm8k_like(n: int, rng: random.Random) -> list[tuple[str, str]]:
    """Gold answers and worked answers with a marked last line; half of them are right."""
    rows = []
    for _ in range(n):
        number = rng.choice((rng.randint(0, 99), rng.randint(100, 99_999)))
        said = number if rng.random() < 0.5 else number + rng.randint(1, 9)
        shown = rng.choice((f"{said}", f"{said:,}", f"${said}", f"{said}.00", f"\\boxed{{{said}}}"))
        a, b = rng.randint(1, 99), rng.randint(1, 99)
        work = f"First there are {a} + {b} = {a + b} of them, and then {said}."
        rows.append((str(number), f"{work}\n{shown if 'boxed' in shown else f'#### {shown}'}"))
    return rows


def by_math_verify(gold: str, text: str) -> bool:
    from math_verify import parse, verify

    return bool(verify(parse(f"${gold}$"), parse(text.replace("####", "The answer is"))))


def by_ours(gold: str, text: str) -> bool:
    return verify_answer(text, gold).correct


def rate(check: Callable[[str, str], bool], rows: list[tuple[str, str]]) -> float:
    """Rows per second. By the clock: this process's own time would leave out what the verifier's workers compute."""
    start = time.perf_counter()
    for gold, text in rows:
        check(gold, text)
    return len(rows) / (time.perf_counter() - start)


def latencies(rows: list[tuple[str, str, bool]]) -> list[float]:
    """Return the seconds of each row that is not a bomb."""
    found = []
    for gold, text, ordinary in rows:
        start = time.perf_counter()
        verify_answer(text, gold)
        if ordinary:
            found.append(time.perf_counter() - start)
    return found


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


def among_bombs(ordinary: int, bombs: int, rng: random.Random) -> dict[str, Any]:
    made = [(row.gold, row.text, True) for row in _SUITE["made"](seed=1, each=40)]
    plain = [(gold, text, True) for gold, text in gsm8k_like(ordinary // 2, rng)]
    rows = plain + [rng.choice(made) for _ in range(ordinary - len(plain))]
    rng.shuffle(rows)
    mixed = list(rows)
    every = list(_SUITE["BOMBS"].values())
    for i in range(bombs):
        bomb = every[i % len(every)]
        text = rng.choice((bomb, f"\\boxed{{{bomb}}}", f"#### {bomb}"))
        mixed.insert(rng.randrange(len(mixed) + 1), (rng.choice(("7", "\\sqrt{7}")), text, False))
    latencies(rows[:500])  # starts the workers
    # Alternating, so that other load on the machine affects both.
    without, with_ = [], []
    for _ in range(3):
        without.append(percentile(latencies(rows), 0.95))
        with_.append(percentile(latencies(mixed), 0.95))
    quiet, loud = statistics.median(without), statistics.median(with_)
    return {"p95_ms_without": 1000 * quiet, "p95_ms_with": 1000 * loud, "p95_ratio": loud / quiet}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000, help="rows for the comparison (default %(default)s)")
    parser.add_argument("--ordinary", type=int, default=10_000, help="rows among bombs (default %(default)s)")
    parser.add_argument("--bombs", type=int, default=1000, help="(default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    args = parser.parse_args()
    rng = random.Random(0)

    rows = gsm8k_like(args.rows, rng)
    theirs, ours = [], []
    by_math_verify(*rows[0])  # imports
    for i in range(_ROUNDS):
        part = rows[i::_ROUNDS]
        theirs.append(rate(by_math_verify, part))
        ours.append(rate(by_ours, part))
    found: dict[str, Any] = {
        "math_verify_rows_per_second": statistics.median(theirs),
        "rows_per_second": statistics.median(ours),
        "ratio": statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True)),
        "agree": sum(by_ours(*row) == by_math_verify(*row) for row in rows) / len(rows),
    }
    print(
        f"Math-Verify {found['math_verify_rows_per_second']:,.0f} rows/s, ours {found['rows_per_second']:,.0f} rows/s"
    )
    print(f"ratio {found['ratio']:.1f} on {len(rows)} answers like GSM8K's; same verdict on {found['agree']:.1%}")
    found |= among_bombs(args.ordinary, args.bombs, rng)
    print(
        f"{args.ordinary} ordinary rows, 95th percentile: {found['p95_ms_without']:.3f} ms, among {args.bombs} bombs "
        f"{found['p95_ms_with']:.3f} ms; ratio {found['p95_ratio']:.2f}"
    )
    worker_pool.close()
    if args.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()

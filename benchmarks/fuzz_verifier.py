"""Can any text make the verifier raise, hang, grow, or accept a neighbouring number?

    python benchmarks/fuzz_verifier.py [--minutes 10] [--seed 0] [--keep fuzz_verifier.jsonl] [--json]

Random walks through the LaTeX grammar of `tests/verifier/latex.py`, unchanged and with typos, are judged against
each other. Each term is also judged against itself, and against itself plus another term. Failures are kept with
their seed: `--seed N --minutes 0` repeats that one walk.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import runpy
import time
from collections import Counter
from pathlib import Path

from zero2chat_verifier import worker_pool
from zero2chat_verifier.reading import read_answer
from zero2chat_verifier.verify import unusable, verify_answer

_LATEX = runpy.run_path(str(Path(__file__).parents[1] / "tests" / "verifier" / "latex.py"))
_TIMED = runpy.run_path(str(Path(__file__).parents[1] / "tests" / "verifier" / "cost.py"))["timed"]
_SECONDS, _MEGABYTES = 2.0, 512
_MORE = ("+1", "+x^2", "+\\frac{1}{10^{9}}", "+y-\\lfloor y\\rfloor", "+|q^2-5|+5-q^2")
_NO_TERM = ("\\infty", "i", "pm", "!", "gcd", "sum", "prod", "bmod", "lim")


def tries(seed: int) -> list[tuple[str, str, str]]:
    """For one seed: the allowed verdict (any, equal, or different), a gold answer and a text."""
    rng = random.Random(seed)
    walk, mistyped = _LATEX["walk"], _LATEX["mistyped"]
    gold, text, term = walk(rng), walk(rng, deep=rng.choice((4, 6, 9))), walk(rng, start="A", deep=3)
    found = [("any", gold, text), ("any", gold, mistyped(rng, gold)), ("any", mistyped(rng, gold), text)]
    if not any(sign in term for sign in _NO_TERM):
        found += [("equal", term, f"\\boxed{{{term}}}"), ("different", term, term + rng.choice(_MORE))]
    return found


def fault(expected: str, gold: str, text: str) -> tuple[str, float, str]:
    """Return what is wrong with a verdict ("" if nothing), its seconds of processor time, and its reason."""
    start = time.process_time()
    try:
        verdict, seconds = _TIMED(text, gold)
        unusable(gold)
    except Exception as error:
        return f"raised {error!r}", time.process_time() - start, "raised"
    if verdict.reason == "error":
        return "an error", seconds, verdict.reason
    if seconds > _SECONDS:
        return f"{seconds:.1f} s", seconds, verdict.reason
    if expected == "different" and verdict.correct:
        return "accepted", seconds, verdict.reason
    if expected == "equal" and verdict.reason == "different" and read_answer(gold).tree is not None:
        return "refused", seconds, verdict.reason
    return "", seconds, verdict.reason


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="(default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first walk (default %(default)s)")
    parser.add_argument("--keep", default="fuzz_verifier.jsonl", help="file for faults (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    args = parser.parse_args()
    verify_answer("\\sqrt{8}", "2\\sqrt{2}")  # the workers are up
    until = time.monotonic() + 60 * args.minutes
    seed, judged, slowest = args.seed, 0, 0.0
    reasons: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    while True:
        for expected, gold, text in tries(seed):
            wrong, seconds, reason = fault(expected, gold, text)
            judged, slowest = judged + 1, max(slowest, seconds)
            reasons[reason] += 1
            if wrong:
                faults[wrong.split()[0]] += 1
                row = {"seed": seed, "fault": wrong, "gold": gold, "text": text}
                with Path(args.keep).open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(f"seed {seed}: {wrong}: {gold[:70]!r} <- {text[:70]!r}", flush=True)
        seed += 1
        if time.monotonic() > until:
            break
    worker_pool.close()  # so that its workers are counted
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    megabytes = max(resource.getrusage(whose).ru_maxrss for whose in who) >> 10
    if megabytes > _MEGABYTES:
        faults["memory"] += 1
    found = {"walks": seed - args.seed, "judged": judged, "faults": dict(faults), "reasons": dict(reasons)}
    found |= {"slowest_seconds": slowest, "megabytes": megabytes}
    print(f"{judged} verdicts of {seed - args.seed} walks, {sum(faults.values())} faults {dict(faults)}")
    print(f"slowest {slowest:.2f} s, {megabytes} MB peak; {dict(reasons)}")
    if args.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()

"""Properties of every verdict, tested on random answers: from a LaTeX grammar, mistyped, or arbitrary text."""

from __future__ import annotations

import random
import re
import resource
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from zero2chat_verifier import worker_pool
from zero2chat_verifier.lexer import clean_latex, tokenize
from zero2chat_verifier.parser import parse
from zero2chat_verifier.verify import final_answer, unusable, verify_answer

_LATEX = runpy.run_path(str(Path(__file__).with_name("latex.py")))
_walk, _mistyped = _LATEX["walk"], _LATEX["mistyped"]
_timed = runpy.run_path(str(Path(__file__).with_name("cost.py")))["timed"]
_REASONS = {"equal", "equal_sampled", "different", "unsupported", "no_answer", "too_large", "timeout", "bad_reference"}
_MEMORY = 512 << 20
_often = settings(
    max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True
)
_seeds = st.integers(0, 2**32)


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    assert verify_answer("\\sqrt{8}", "2\\sqrt{2}").correct


def _readable(text: str) -> bool:
    try:
        parse(tokenize(clean_latex(text)))
    except ValueError:
        return False
    return True


REWRITINGS = {
    "dollars": lambda t: f"${t}$",
    "a box": lambda t: f"so it is \\boxed{{{t}}}.",
    "spaces": lambda t: f"  {t}\n",
    "display": lambda t: f"\\displaystyle {t}",
    "brackets of LaTeX": lambda t: f"\\({t}\\)",
    "fractions": lambda t: t.replace("\\frac", "\\dfrac"),
    "large brackets": lambda t: t.replace("(", "\\left(").replace(")", "\\right)") if "left" not in t else t,
    "products": lambda t: t.replace("\\cdot ", "* "),
    "relations": lambda t: t.replace("\\ge ", "\\geq ").replace("\\le ", "≤").replace("\\ne ", "\\neq "),
    "Unicode": lambda t: t.replace("\\pi ", "π").replace("\\infty ", "∞").replace("\\cup ", "∪").replace("-", "−"),
    "half": lambda t: t.replace("½", "\\frac{1}{2}"),
    "a full stop": lambda t: f"{t}.",
}


@pytest.mark.parametrize("name", REWRITINGS)
@pytest.mark.parametrize("start", ["E", "LIST", "SET", "TUPLE", "REGION", "NAMED", "MATRIX", "QUANTITY"])
def test_an_answer_equals_itself_however_it_is_set(name: str, start: str) -> None:
    rng = random.Random(f"{name} {start}")
    compared = 0
    for _ in range(1000):  # most walks leave the language
        text = _walk(rng, start=start, deep=4)
        if not _readable(text):
            continue  # compared sign by sign
        reason = verify_answer(REWRITINGS[name](text), text).reason
        assert reason in ("equal", "equal_sampled", "bad_reference", "too_large", "no_answer", "timeout"), text
        compared += reason in ("equal", "equal_sampled")
        if compared > 20:
            return
    pytest.fail(f"only {compared} texts were read")


@_often
@given(_seeds)
def test_equality_is_symmetric_where_neither_side_says_more(seed: int) -> None:
    rng = random.Random(seed)
    one = _walk(rng, start="E", deep=3)
    other = rng.choice((_walk(rng, start="E", deep=3), f"{one}+0", f"\\frac{{2({one})}}{{2}}", f"|{one}|", f"-({one})"))
    # A reference may say that a variable is whole; an answer may not.
    if any(sign in one + other for sign in ("!", "binom", "gcd", "sum", "prod", "bmod", "lim", "int", "_")):
        return
    there, back = verify_answer(other, one), verify_answer(one, other)
    if not {there.reason, back.reason} & {"bad_reference", "too_large", "timeout", "no_answer"}:
        assert there.correct == back.correct, (one, other)


@_often
@given(_seeds)
def test_a_sum_with_a_term_more_is_another_answer(seed: int) -> None:
    rng = random.Random(seed)
    text = _walk(rng, start="A", deep=3)
    for more in ("+1", "+x^2", "+\\frac{1}{10^{9}}", "+\\sin(\\pi y)", "+y-\\lfloor y\\rfloor", "+|q^2-5|+5-q^2"):
        if not any(sign in text for sign in ("\\infty", "i", "pm", "!", "gcd", "sum")):
            assert not verify_answer(f"{text}{more}", text).correct, text


@_often
@given(st.text(max_size=300), st.text(max_size=60))
@example("\\boxed{1e9999}", "5")
@example("\\boxed{" + "9" * 4300 + "}", "9" * 4300)
@example("y = A = B", "x^{x=x^{x}}")
@example("\\pi^3\\frac{1}{2}", "7")
@example("\\mathbb{R}\\setminus\\{1\\}", "\\mathbb{R}\\setminus\\{\\sqrt{-2}^0\\}")
@example("7", "\\sum_{z=1}^{z}e")
@example("\\sum_{k=1}^{\\infty}2^{-k}", "\\sqrt{2}")
@example("½½", "%")
def test_no_text_raises(text: str, gold: str) -> None:
    assert verify_answer(text, gold).reason in _REASONS
    unusable(gold)
    final_answer(text)


def test_chains_in_chains_end_at_once() -> None:
    chain = "x"
    for _ in range(36):
        chain = f"x^{{x={chain}}}"
    for gold in ("7", "y", "y=7", "x^2"):
        assert _timed(f"y = {chain} = {chain.replace('x', 'z', 1)}", gold)[1] < 1


def _walks(n: int) -> tuple[float, int]:
    """Return the slowest verdict on n walks, in seconds, and the peak memory of verifier or worker, in bytes."""
    slowest = 0.0
    for seed in range(n):
        rng = random.Random(seed)
        gold, text = _walk(rng), _walk(rng, deep=rng.choice((4, 6, 8)))
        if seed % 3 == 0:
            text = _mistyped(rng, gold)
        verdict, seconds = _timed(text, gold)
        assert verdict.reason in _REASONS, (text, gold)
        slowest = max(slowest, seconds)
    worker_pool.close()  # so that its workers count
    # Not its own ru_maxrss: that of the process which started it counts in it.
    own = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert own
    return slowest, max(int(own[1]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) << 10


def test_ten_thousand_walks_are_cheap() -> None:
    # A process of its own: other tests' memory does not count.
    walk = f"import runpy; print(*runpy.run_path({__file__!r})['_walks'](10_000))"
    done = subprocess.run([sys.executable, "-c", walk], capture_output=True, text=True, check=True)
    slowest, memory = map(float, done.stdout.split())
    assert slowest < 2
    assert memory < _MEMORY

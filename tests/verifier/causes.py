"""Rows made by the causes of wrong verdicts: for each cause, answers that are right and small mutations that are wrong.

Made with sympy, mpmath and fractions, and with nothing of the verifier. `numerically_equal` is the judge of expressions:
it works both out on a dense grid of both signs, by mpmath.
"""

# ruff: noqa: E501, SIM905
from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import NamedTuple

import mpmath
import sympy as sp


# fmt: off
# Tables: a row of a few lines, filled.
class Row(NamedTuple):
    category: str
    gold: str
    text: str
    right: bool


Made = tuple[str, list[str], list[str]]  # a gold answer, texts that are right, texts that are wrong
X, Y, N = sp.symbols("x y n", real=True)


def numerically_equal(one: sp.Expr, other: sp.Expr, step: str = "0.37") -> bool:
    """Whether two expressions in x and y have the same values, and values at the same points."""
    first, second = (sp.lambdify((X, Y), e, modules="mpmath") for e in (one, other))
    with mpmath.workdps(40):
        for i in range(-60, 61):
            for scale in (1, 40, 10**5):
                at = (mpmath.mpf(step) * i * scale + mpmath.mpf("0.0123"), mpmath.mpf("0.71") * (-1) ** i * (i + 3))
                found = [_value(f, at) for f in (first, second)]
                if (found[0] is None) != (found[1] is None):
                    return False
                if found[0] is not None and abs(found[0] - found[1]) > mpmath.mpf(10) ** -15 * (1 + abs(found[0])):
                    return False
    return True


def _value(f: Callable[..., object], at: tuple[mpmath.mpf, mpmath.mpf]) -> mpmath.mpf | None:
    try:
        found = mpmath.mpmathify(f(*at))
    except (ValueError, ZeroDivisionError, OverflowError, TypeError):
        return None
    return None if mpmath.im(found) != 0 else found


def _tex(e: sp.Expr) -> str:
    return sp.latex(e)


def _number(rng: random.Random) -> sp.Expr:
    return sp.Rational(rng.randint(1, 9) * rng.choice((1, 1, 10, 173, 4001)), rng.choice((1, 1, 2, 3, 7)))


def _linear(rng: random.Random) -> sp.Expr:
    return rng.randint(1, 7) * X + rng.choice((1, -1)) * _number(rng)


def signs(rng: random.Random) -> Made:
    """An absolute value, which only tells beyond a constant or below zero."""
    a, b = _linear(rng), _linear(rng)
    k = rng.choice((X + _number(rng), X - _number(rng), a, rng.randint(2, 9) * X, X * Y, a * b))
    right = [_tex(sp.expand(k)), _tex(sp.expand(2 * k)) + f"-({_tex(k)})", f"\\frac{{{_tex(sp.expand(k * 3))}}}{{3}}"]
    wrong = [
        f"\\left|{_tex(k)}\\right|", f"\\sqrt{{({_tex(k)})^2}}", f"\\max({_tex(k)}, 0)",
        f"\\frac{{({_tex(k)})^2}}{{|{_tex(k)}|}}"]
    assert numerically_equal(k, sp.expand(k))
    assert not numerically_equal(k, sp.Abs(k))
    return _tex(k), right, wrong


def signs_of_functions(rng: random.Random) -> Made:
    """An odd function of |x|, or its absolute value."""
    k = rng.randint(2, 5)
    gold, even = rng.choice((
        (f"\\sin {k}x", [f"\\sin {k}|x|", f"|\\sin {k}x|"]),
        (f"x^{{{2 * k + 1}}}", [f"|x|^{{{2 * k + 1}}}", f"|x^{{{2 * k + 1}}}|"]),
        (f"e^{{{k}x}}", [f"e^{{{k}|x|}}", f"e^{{-{k}x}}"]),
        (f"\\arctan {k}x", [f"\\arctan |{k}x|", f"|\\arctan {k}x|"]),
        (f"\\sqrt[3]{{{k}x}}", [f"\\sqrt[3]{{{k}|x|}}", f"|\\sqrt[3]{{{k}x}}|"]),
        (f"\\frac{{{k}}}{{x}}", [f"\\frac{{{k}}}{{|x|}}", f"\\left|\\frac{{{k}}}{{x}}\\right|"]),
        (f"2^{{{k}x}}", [f"2^{{{k}|x|}}", f"2^{{-{k}x}}"])))
    return gold, [f"({gold})+1-1", f"\\frac{{2\\cdot {gold}}}{{2}}"], [*even, f"-{gold}"]


def steps(rng: random.Random) -> Made:
    """A floor or ceiling, which is the number itself at whole numbers."""
    letter = rng.choice(("x", "t", "n", "k", "m"))
    a, b = rng.randint(1, 6), rng.randint(1, 30)
    gold = rng.choice((letter, f"{a}{letter}+{b}", f"{letter}^2-{b}", f"{b}-{letter}"))
    right = [f"{gold}+{b}-{b}", f"\\frac{{{a}({gold})}}{{{a}}}"]
    wrong = [
        f"\\lfloor {gold}\\rfloor", f"\\lceil {gold}\\rceil", gold.replace(letter, f"\\lfloor {letter}\\rfloor "),
        f"{gold}+{letter}-\\lfloor {letter}\\rfloor"]
    return gold, right, wrong


def periods(rng: random.Random) -> Made:
    """A periodic term that vanishes at whole numbers."""
    letter, k = rng.choice(("x", "t", "n", "y")), rng.randint(1, 9)
    gold = rng.choice(("0", "1", letter, f"{k}{letter}^2+1", f"2^{letter}", f"e^{{{letter}}}"))
    term = rng.choice((
        f"\\sin({k}\\pi {letter})", f"\\tan(\\pi {letter})", f"\\sin^2({k}\\pi {letter})",
        f"(1-\\cos(2\\pi {letter}))"))
    factor = rng.choice((f"\\cos(2\\pi {letter})", f"e^{{2\\pi i {letter}}}", f"\\cos^2(\\pi {letter})"))
    right = [f"{gold}+{letter}-{letter}", f"(\\sin^2 {letter}+\\cos^2 {letter})({gold}+0)"]
    wrong = [f"{gold}+{term}", f"{gold}-{k}{term}"] + ([f"({gold}){factor}"] if gold != "0" else [])
    return gold, right, wrong


def whole_numbers(rng: random.Random) -> Made:
    """Expressions that are defined at whole numbers."""
    k = rng.randint(2, 5)
    return rng.choice((
        ("(-1)^n", ["\\cos(n\\pi)", "(-1)^{n+2}", "(-1)^{-n}", "(-1)^{3n}"],
         ["(-1)^{n+1}", "1", "(-1)^{2n}", "-\\cos n\\pi"]),
        (f"{k}\\cdot(-1)^{{n+1}}", [f"-{k}(-1)^n", f"{k}(-1)^{{n-1}}"], [f"{k}(-1)^n", f"{k}", f"-{k}(-1)^{{n+1}}"]),
        (f"\\binom{{n}}{{{k}}}", [f"\\frac{{n!}}{{{k}!(n-{k})!}}", f"\\binom{{n}}{{n-{k}}}"],
         [f"\\binom{{n+1}}{{{k}}}", f"\\frac{{n!}}{{{k}!}}"]),
        ("n!", ["n\\cdot (n-1)!", "\\frac{(n+1)!}{n+1}"], ["(n-1)!", "n!+n", "\\frac{(n+1)!}{n}"]),
        (f"\\sum_{{j=1}}^{{n}} j^{{{1}}}", ["\\frac{n(n+1)}{2}", "\\binom{n+1}{2}"],
         ["\\frac{n(n-1)}{2}", "\\frac{n^2}{2}"]),
        (f"{k}^n", [f"{k}\\cdot {k}^{{n-1}}", f"\\frac{{{k}^{{n+1}}}}{{{k}}}"],
         [f"{k}^{{|n|}}", f"{k}^{{\\lfloor n\\rfloor}}", f"{k}^{{n}}+\\sin \\pi n", f"{k}n"]),
        (f"x^n{'' if k % 2 else 'y^n'}", [f"{'x' if k % 2 else '(xy)'}^n"],
         [f"{'|x|' if k % 2 else '|xy|'}^n", "x^{n+1}", "nx"])))


def domains(rng: random.Random) -> Made:
    """The same values, where both have one."""
    k = rng.randint(2, 9)
    return rng.choice((
        (f"{k}\\ln x", [f"\\ln x\\cdot {k}", f"\\frac{{{2 * k}\\ln x}}{{2}}"],
         [f"{k}\\ln |x|", f"\\frac{{{k}}}{{2}}\\ln x^2"]),
        (f"{k}x", [f"{k + 1}x-x"], [f"{k}(\\sqrt{{x}})^2", f"{k}e^{{\\ln x}}"]),
        (f"\\sqrt{{x^2-{k * k}}}", [f"\\sqrt{{(x-{k})(x+{k})}}"], [f"\\sqrt{{x-{k}}}\\sqrt{{x+{k}}}"]),
        (f"\\ln(x^2+{k})", [f"\\ln({k}+x^2)", f"\\ln(x^2+{2 * k}-{k})"], [f"\\ln(x^2-{k})", f"2\\ln(x+{k})"])))


def calculus(rng: random.Random) -> Made:
    """A derivative, rewritten by sympy."""
    inner = rng.randint(2, 6) * X + rng.randint(1, 9)
    f = rng.choice((
        sp.exp(inner), sp.sin(inner) * X, sp.sqrt(X**2 + inner**2), X**3 / inner, sp.cos(inner) ** 2, sp.atan(inner)))
    slope = sp.diff(f, X)
    other = rng.choice((sp.expand(slope), sp.together(slope), sp.factor(slope)))
    assert numerically_equal(slope, other)
    wrong = [-slope, slope.subs(X, sp.Abs(X)), slope + sp.sin(sp.pi * X), slope + sp.Rational(1, 10**6)]
    return _tex(slope), [_tex(other), f"0+{_tex(other)}"], [_tex(w) for w in wrong if not numerically_equal(slope, w)]


NOUNS = "goats toys apples marbles students pencils people cookies tickets houses rabbits coins flowers stickers teachers bottles games chairs eggs sheep ways pages stamps oranges solutions triangles".split()
OTHERWISE = "below zero;above par;score;lakh;crore;million;dozen;hundred;thousand;basis points;percent;percentage points;per mille;per cent;more;less;fewer;and a half;or more;or less;at most;at least;squared;cubed;factorial;times;over seven;out of ten;minus one;short;remainder one;to one;ppm;negative;wrong;not;if x is even;billion;gross;below;above;higher;lower;older;quintillion;bps;modulo seven;in debt;under;past;before noon;approximately;maybe;hopefully;ish;nil;googols;conjugate;or six;incorrect;rejected;off;too many;ago".split(
    ";")


def words_after_numbers(rng: random.Random) -> Made:
    """Counted nouns, and words that make another number of it."""
    n = rng.randint(3, 99)
    shown = rng.choice((
        "{n} {w}", "{n}\\text{{ {w}}}", "{n}~\\text{{{w}}}", "\\boxed{{{n}\\text{{ {w}}}}}", "#### {n} {w}"))
    noun = rng.choice(NOUNS)
    right = [shown.format(n=n, w=noun), f"{n} {rng.choice(('red', 'large', 'blue'))} {noun}", f"{n}"]
    wrong = [shown.format(n=n, w=w) for w in rng.sample(OTHERWISE, 3)]
    return str(n), right, wrong


PARTS = {
    "halves": 2, "thirds": 3, "quarters": 4, "fourths": 4, "fifths": 5, "sixths": 6, "sevenths": 7, "eighths": 8,
    "ninths": 9, "tenths": 10, "twelfths": 12, "sixteenths": 16, "twentieths": 20, "hundredths": 100,
    "thousandths": 1000}
SCALES = {
    "dozen": 12, "score": 20, "lakh": 10**5, "crore": 10**7, "million": 10**6, "thousand": 10**3, "billion": 10**9,
    "hundred": 100}


def words_that_count(rng: random.Random) -> Made:
    """Dozens and millions: what they make of a number is right, the number alone is not."""
    n = rng.randint(2, 40)
    word, size = rng.choice(list(SCALES.items()))
    other = rng.choice(list(PARTS))
    return (
        str(n * size), [f"{n} {word}", f"{n}\\text{{ {word}}}"],
        [f"{n}", f"{n}\\text{{ {other}}}", f"{n + 1} {word}", f"{n} {word} less"])


def numbers_with_parts(rng: random.Random) -> Made:
    """The number itself; an answer names parts or multiples of it."""
    n = rng.randint(2, 99)
    word = rng.choice([*PARTS, *SCALES])
    th = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return (
        str(n), [f"{n} {rng.choice(NOUNS)}"],
        [f"{n} {word}", f"{n}\\text{{ {word}}}", f"{n}^{{\\text{{{th}}}}}", f"{n}{th}"])


HEDGES = "({a}) or ({b});({a}) is wrong;({a}) 5 ({b}) 6 ({c}) 7;({a}) and ({b});({a}), but maybe ({b});({a}) is not correct;not ({a});{a} or {b};{a}, {b};{a}/{b};({a})({b});either ({a}) or ({b});({a}) cannot be right;({a}) unless x > 3;({a}), ({b}), ({c});all but ({a});({a}) ruled out;({a}) might be it;neither ({a}) nor ({b});({a})?;{a}. 5 {b}. 6;({a}) 3, ({b}) 4;({a}) incorrect;({a}) excluded;({a}) perhaps;({b});{b}. yes".split(
    ";")


def choices(rng: random.Random) -> Made:
    a, b, c = rng.sample("ABCDE", 3)
    n = rng.randint(2, 99)
    right = [
        f"({a})", f"{a}.", f"\\text{{({a})}}", f"({a}) {n}", f"\\textbf{{({a})}}\\ {n}", f"{a}: {n}",
        f"({a}) \\frac{{1}}{{{n}}}", f"The answer is ({a})", f"\\boxed{{{a}}}"]
    return rng.choice((a, f"({a})")), right, [h.format(a=a, b=b, c=c) for h in rng.sample(HEDGES, 4)]


def choices_with_contents(rng: random.Random) -> Made:
    a, b = rng.sample("ABCDE", 2)
    n = rng.randint(2, 99)
    return f"({a}) {n}", [a, f"({a})", f"({a}) {n}", f"{n}"], [b, f"({b}) {n}", f"({a}) {n + 1}", f"({a}) or ({b})"]


WORDS = "even odd yes monday increasing never sunday prime convergent".split()


def capitals(rng: random.Random) -> Made:
    if rng.random() < 0.4:
        word = rng.choice(WORDS)
        other = rng.choice([w for w in WORDS if w != word])
        return (
            word, [word.capitalize(), f"\\text{{{word.capitalize()}}}", word.upper()],
            [other, f"not {word}", f"{word} or {other}"])
    a, b = rng.sample("bcdfghjklmpqrstvw", 2)
    gold, wrong = rng.choice((
        (a + b.upper(), [a + b, a.upper() + b, a.upper() + b.upper()]),
        (f"{a.upper()}\\oplus {b.upper()}", [f"{a}\\oplus {b}", f"{a.upper()}\\oplus {b}"]),
        (f"{a.upper()}{b}+{b.upper()}", [f"{a}{b}+{b.upper()}", f"{a.upper()}{b}+{b}"]),
        (f"\\triangle {a.upper()}{b.upper()}{a.upper()}", [f"\\triangle {a}{b}{a}"]),
        (f"{a.upper()}\\cap {b.upper()}", [f"{a}\\cap {b}", f"{a.upper()}\\cap {b}"]),
        (f"{a.upper()}\\to {b.upper()}", [f"{a}\\to {b}"])))
    return gold, [gold, f"${gold}$", f"\\boxed{{{gold}}}"], wrong


def angles(rng: random.Random) -> Made:
    n = rng.choice((5, 12, 30, 45, 60, 90, 120, 135, 180, 240, 300))
    share = Fraction(n, 180)
    top = "" if share.numerator == 1 else str(share.numerator)
    pi = f"{top}\\pi" if share.denominator == 1 else f"\\frac{{{top}\\pi}}{{{share.denominator}}}"
    if rng.random() < 0.5:
        right = [f"{n}", f"{n}°", f"{n}\\text{{ degrees}}", pi, f"{pi}\\text{{ rad}}", f"{pi}\\text{{ radians}}"]
        return (
            f"{n}^\\circ", right,
            [f"{n}\\text{{ rad}}", f"{n}\\text{{ radians}}", f"{n + 1}^\\circ", f"{n} gradians", f"-{n}^\\circ",
             f"{n}\\pi"])
    right = [pi, f"{n}^\\circ", f"{pi} radians", f"{n}\\text{{ degrees}}"]
    return f"{pi}\\text{{ rad}}", right, [f"{n}", f"{n + 1}^\\circ", f"{n}\\text{{ rad}}", f"2{pi}"]


def equations(rng: random.Random) -> Made:
    """An equation is no value, but a value may be the result of one."""
    n = rng.randint(2, 60)
    a, b = sorted(rng.sample("abcpqrtuvxy", 2))
    if rng.random() < 0.5:
        left = rng.choice((
            f"{a}+{b}", f"{a}{b}", f"{a}-{b}", f"\\frac{{{a}}}{{{b}}}", f"-{a}", f"2{a}", f"{a}^2", f"\\sin {a}",
            f"|{a}|"))
        return (
            f"{left}={n}", [f"{n}={left}", f"{left}-{n}=0", f"$ {left} = {n} $"],
            [f"{n}", f"{left}", f"{left}=-{n}", f"{left}={n + 1}"])
    right = [f"{a}={n}", f"{a}+{b}={n}", f"AB={n}", f"AB=CD={n}", f"f({a})={n}", f"S={n - 1}+1={n}"]
    return (
        f"{n}", right,
        [f"-{a}={n}", f"|{a}|={n}", f"{a}+1={n}", f"2{a}={n}", f"{a}\\ne {n}", f"{a}={n + 1}", f"{a}>{n}"])


def unknowns(rng: random.Random) -> Made:
    """Return the variable of an inequality."""
    low, high = sorted(rng.sample(range(-20, 20), 2))
    a, b = rng.sample("xyztk", 2)
    less, more = rng.choice((("<", ">"), ("\\le ", "\\ge "), ("<", "\\ge ")))
    left, right = ")" if less == "<" else "]", "(" if more == ">" else "["
    if rng.random() < 0.5:
        gold = f"{a}{less}{low} \\text{{ or }} {a}{more}{high}"
        same = [f"(-\\infty,{low}{left}\\cup{right}{high},\\infty)", f"{a}{more}{high} or {a}{less}{low}"]
        return (
            gold, same,
            [f"{b}{less}{low} or {b}{more}{high}", f"{a}{less}{low} or {b}{more}{high}", f"{a}{less}{low}",
             f"{a}{less}{low} and {a}{more}{high}", f"{a}{less}{low + 1} or {a}{more}{high}"])
    gold = rng.choice((f"{a}={low} or {a}={high}", f"{a}={low}, {a}={high}"))
    return (
        gold, [f"{a}={high} or {a}={low}", f"{low}, {high}", f"\\{{{high},{low}\\}}"],
        [f"{b}={low} or {b}={high}", f"{a}={low} or {b}={high}", f"{a}={low}", f"{a}={low} or {a}={high + 1}"])


def regions(rng: random.Random) -> Made:
    """Sets, intervals and inequalities, mixed."""
    p, q, r = sorted(rng.sample(range(-9, 10), 3))
    return rng.choice((
        (f"\\{{{p}\\}}\\cup({q},\\infty)", [f"x={p} or x>{q}", f"x>{q} or x={p}"],
         [f"x>{q}", f"x={p} and x>{q}", f"x={p} or x\\ge {q}", f"x=-{r + 20} or x>{q}"]),
        (f"x\\ge {p}, x\\ne {q}",
         [f"[{p},{q})\\cup({q},\\infty)", f"x\\ne {q} and x\\ge {p}", f"[{p},\\infty)\\setminus\\{{{q}\\}}"],
         [f"[{p},\\infty)", f"({p},{q})\\cup({q},\\infty)", f"x\\ge {p}, y\\ne {q}"]),
        (f"({p},{q})\\cup({q},{r})", [f"{p}<x<{r}, x\\ne {q}", f"({q},{r})\\cup({p},{q})"],
         [f"({p},{r})", f"[{p},{q})\\cup({q},{r})", f"({p},{q}]\\cup({q},{r})"]),
        (f"[{p},{r}]", [f"[{p},{q}]\\cup[{q},{r}]", f"{p}\\le t\\le {r}", f"[{p},{q})\\cup[{q},{r}]"],
         [f"[{p},{q})\\cup({q},{r}]", f"({p},{r}]", f"[{r},{p}]"])))


def matrices(rng: random.Random) -> Made:
    cells = [[str(rng.randint(-9, 9)) for _ in range(rng.choice((2, 3)))] for _ in range(2)]
    cells[1] = (cells[1] * 2)[: len(cells[0])]
    cells[0][0] = str(int(cells[0][0]) + 20)

    def show(rows: list[list[str]], kind: str = "pmatrix") -> str:
        return f"\\begin{{{kind}}}" + "\\\\".join("&".join(row) for row in rows) + f"\\end{{{kind}}}"

    spread = [[row[0], "", *row[1:]] for row in cells]
    moved = [["", *row] for row in cells]
    ended = [[*row, ""] for row in cells]
    swapped = [cells[1], cells[0]]
    other = [[str(int(cells[0][0]) + 1), *cells[0][1:]], cells[1]]
    dropped = [cells[0], cells[1][:-1]]
    wrong = [show(m) for m in (spread, moved, ended, swapped, other, dropped)]
    return (
        show(cells),
        [show(cells, "bmatrix"), show(cells).replace("&", " & "), show(cells).replace("\\end", "\\\\\\end")],
        rng.sample(wrong, 4))


def columns(rng: random.Random) -> Made:
    found = [str(n) for n in rng.sample(range(-9, 10), rng.choice((2, 3)))]
    column = "\\begin{pmatrix}" + "\\\\".join(found) + "\\end{pmatrix}"
    row = "\\begin{pmatrix}" + "&".join(found) + "\\end{pmatrix}"
    turned = "\\begin{pmatrix}" + "\\\\".join(found[::-1]) + "\\end{pmatrix}"
    return column, [column, column.replace("pmatrix", "bmatrix")], [row, turned, f"({','.join(found)})"]


def extraction(rng: random.Random) -> Made:
    """Return which of two numbers is the answer."""
    n, m = rng.sample(range(2, 99), 2)
    ways = (
        "<think>maybe \\boxed{{{m}}}</think> The answer is {n}.", "<think>\\boxed{{{m}}}</think>\n\\boxed{{{n}}}",
        "it was \\boxed{{{m}}}</think>\n#### {n}", "\\boxed{{{m}}} is too small. The answer is \\boxed{{{n}}}",
        "\\boxed{{{m}}} and then\n#### {n}", "\\boxed{{\\fbox{{{n}}}}}", "\\boxed{{\\text{{{n}}}}}")
    right = [way.format(n=n, m=m) for way in rng.sample(ways, 3)]
    wrong = [way.format(n=m, m=n) for way in rng.sample(ways, 3)]
    wrong += [
        f"\\boxed{{\\boxed{{{n}}}+{m}}}",
        f"\\boxed{{{m}}} or \\boxed{{{n}}}",
        f"\\boxed{{{n}}} or \\boxed{{{m}}}",
        f"<think>\\boxed{{{n}}}</think>",
    ]
    return str(n), right, rng.sample(wrong, 3)


def named_lists(rng: random.Random) -> Made:
    a, b = rng.sample(range(2, 99), 2)
    one, two = rng.sample(NOUNS, 2)
    small, large = min(a, b), max(a, b)
    return rng.choice((
        (f"{a},{b}", [f"{b} and {a}", f"{a} {one} and {b} {two}"],
         [f"w={a}, d={b}", f"x={a}, y={b}", f"{b} {one} and {a} {two}", f"x={b}, y={a}", f"(x,y)=({b},{a})", f"y={a}, x={b}",
          f"{a} {one} or {b + 1} {two}"]),
        (f"({a},{b})", [f"(x,y)=({a},{b})", f"x={a}, y={b}"],
         [f"{a} {one} and {b} {two}", f"(y,x)=({a},{b})", f"x={b}, y={a}", f"({b},{a})", f"{b} {one}, {a} {two}"]),
        (f"\\{{{a},{b}\\}}", [f"{b}, {a}", f"x={b} or x={a}"],
         [f"x_1={a}, x_2={b}", f"x={a}, y={b}", f"{a} {one} and {b} {two}", f"({a},{b})"]),
        (f"Minimum: {small}, Maximum: {large}",
         [f"\\boxed{{Maximum: {large}, Minimum: {small}}}", f"\\text{{Min}}={small}, \\text{{Max}}={large}"],
         [f"Maximum: {large}, Minimum: {small + 1}", f"Minimum: {large}, Maximum: {small}"]),
        (f"{a} {one}, {b} {two}", [f"{b} {two} and {a} {one}", f"{a}, {b}"],
         [f"{b} {one} and {a} {two}", f"{b}, {a}", f"{a} {one}"]),
        (f"(x,y,z)=({a},{b},1)", [f"({a},{b},1)", f"x={a}, y={b}, z=1"],
         [f"({b},{a},1)", f"x={b}, y={a}, z=1", f"x={a}, y={b}"])))


def parameters(rng: random.Random) -> Made:
    """An integer parameter, by whichever letter."""
    k, n = rng.sample("knm", 2)
    d = rng.choice((2, 3, 4, 6))
    say = rng.choice((
        ", {k} \\in \\mathbb{{Z}}", "\\text{{ where }}{k}\\text{{ is an integer}}", "\\text{{ for any integer }}{k}",
        " for all integers {k}", ", \\quad {k}\\in\\mathbb Z"))
    gold = f"x=\\frac{{\\pi}}{{{d}}}+{k}\\pi{say.format(k=k)}"
    right = [
        f"x=\\frac{{\\pi}}{{{d}}}+{n}\\pi{say.format(k=n)}", f"\\frac{{\\pi}}{{{d}}}+\\pi {n}{say.format(k=n)}",
        f"x=\\frac{{{d + 1}\\pi}}{{{d}}}+{n}\\pi"]
    wrong = [
        f"x=\\frac{{\\pi}}{{{d}}}+2{n}\\pi{say.format(k=n)}", f"x=\\frac{{\\pi}}{{{d + 1}}}+{n}\\pi",
        f"x=\\frac{{\\pi}}{{{d}}}", f"x=\\frac{{\\pi}}{{{d}}}+y\\pi", f"x=-\\frac{{\\pi}}{{{d + 6}}}+{n}\\pi"]
    return gold, right, wrong


def phrases(rng: random.Random) -> Made:
    """Clauses, ordinals, clocks, remainders, chains, plus-or-minus."""
    n, m = rng.sample(range(3, 40), 2)
    th = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    hour, minute = rng.randint(1, 12), rng.randint(10, 59)
    return rng.choice((
        (f"f(x)={n}x", [f"f(t)={n}t", f"{n}x"],
         [f"f(x)={n}x for all x \\in \\mathbb{{Q}}", f"f(x)={n}x\\text{{ for all real }}x", f"f(x)={m}x for all x \\in \\mathbb{{Q}}", f"f(x)={n}|x|\\text{{ for all real }}x"]),
        (f"{n}{th}", [f"{n}{th}"], [f"{m}", f"{n + 10}{th}", f"-{n}", f"{n}"]),
        (f"{hour}:{minute} PM",
         [f"{hour}:{minute} PM", f"$\\text{{{hour}:{minute} PM}}$"],
         [f"{hour}:{minute}\\text{{ a.m.}}", f"{hour}:{minute} am", f"{hour}:{minute - 1} pm", f"{hour}:{minute}"]),
        (f"{n * m % 7}", [f"{n * m % 7}"],
         [f"{n * m} \\bmod 7 = {n * m % 7 + 1}", f"{n * m + 1} \\bmod 7 = {n * m % 7}"]),
        (f"({n},\\pm {m})", [f"({n},{m}),({n},-{m})", f"({n},-{m}) and ({n},{m})", f"({n}, \\mp {m})"],
         [f"({n},{m})", f"(\\pm {n},{m})", f"({n},{m}),(-{n},-{m})"]),
        (f"\\frac{{x-1}}{{{n}}}=\\frac{{y}}{{{m}}}=z",
         [f"z=\\frac{{x-1}}{{{n}}}=\\frac{{y}}{{{m}}}", f"\\frac{{y}}{{{m}}}=\\frac{{x-1}}{{{n}}}=z"],
         [f"\\frac{{x-1}}{{{m}}}=\\frac{{y}}{{{n}}}=z", f"\\frac{{x-1}}{{{n}}}=\\frac{{y}}{{{m}}}"]),
        (f"a=b={n}", [f"b=a={n}"], [f"a={n}, b={m}", f"a={n}", f"a=b={m}"])))


def boxes_in_formulas(rng: random.Random) -> Made:
    """A box that is a part of what is written, and boxes beside which nothing counts."""
    n, m = rng.sample(range(2, 60), 2)
    around = (
        "\\boxed{{{n}}} {noun}", "$\\boxed{{{n}}}$ is the answer.", "{n} + {m} - {m} = \\boxed{{{n}}}",
        "<answer>\\boxed{{{n}}}</answer>", "**Answer:** \\boxed{{{n}}}.", "\\boxed{{{n}}}\\text{{ {noun}}}",
        "$x=\\boxed{{{n}}}$", "So \\(\\boxed{{{n}}}\\)", "we need $\\boxed{{{n}}}$ {noun}",
        "$\\boxed{{{n}}}\\qquad\\blacksquare$", "1. \\boxed{{{n}}}")
    changed = (
        "-\\boxed{{{n}}}", "$-\\boxed{{{n}}}$", "x=-\\boxed{{{n}}}", "\\boxed{{{n}}}^2", "\\boxed{{{n}}}+{m}",
        "\\boxed{{{n}}}\\cdot {m}", "{m}\\cdot\\boxed{{{n}}}", "\\boxed{{{n}}}\\pi", "$\\boxed{{{n}}}x$",
        "\\frac{{1}}{{\\boxed{{{n}}}}}", "\\sqrt{{\\boxed{{{n}}}}}", "$\\boxed{{{n}}}!$", "\\boxed{{{n}}}/{m}",
        "\\boxed{{{n}}}\\text{{ {scale}}}", "\\boxed{{{n}}} {scale}", "$\\boxed{{{n}}}$ {scale}", "\\boxed{{{n}}}\\%",
        "\\boxed{{{n}}}.5", "{m}\\boxed{{{n}}}", "\\boxed{{{n}}},000", "\\boxed{{{n}}} or {m}",
        "\\boxed{{{n}}} is wrong", "not \\boxed{{{n}}}", "x\\ne\\boxed{{{n}}}", "\\cancel{{\\boxed{{{n}}}}}",
        "~~\\boxed{{{n}}}~~", "\\boxed{{{m}}}\\phantom{{\\boxed{{{n}}}}}", "The answer is not $\\boxed{{{n}}}$.",
        "\\boxed{{{n}}} and a half", "$x=\\boxed{{{n}}}$ (not {m})", "we need at least $\\boxed{{{n}}}$ {noun}",
        "$\\boxed{{{n}}}$ is the answer, as {m} is too large.", "**Answer:** \\boxed{{{n}}}!")

    def show(ways: tuple[str, ...]) -> list[str]:
        words = {"noun": rng.choice(NOUNS), "scale": rng.choice([*PARTS, *SCALES, "percent", "squared"])}
        return [way.format(n=n, m=m, **words) for way in rng.sample(ways, 4)]

    return str(n), show(around), show(changed)


def single_points(rng: random.Random) -> Made:
    """A step that is another number at single points: of what is periodic, or touches a whole number somewhere."""
    k, at = rng.randint(1, 5), rng.randint(1, 9)
    gold = rng.choice(("0", "1", f"x^2+{at}", f"{k}x", f"\\sin {k}x", f"e^{{-x}}+{k}"))
    one = rng.choice((
        f"\\lceil\\sin^2 {k}x\\rceil", f"\\lceil\\cos^2 ({k}\\pi x)\\rceil",
        f"\\lceil|\\sin \\frac{{x}}{{{k}}}|\\rceil", f"\\lceil\\frac{{(x-{at})^2}}{{1+(x-{at})^2}}\\rceil",
        f"\\lceil\\tanh^2 (x+{at})\\rceil", "(\\lceil x\\rceil-\\lfloor x\\rfloor)",
        f"(\\lceil {k}x\\rceil+\\lceil -{k}x\\rceil)"))
    none = rng.choice((
        f"\\lfloor\\cos^2 {k}x\\rfloor", f"\\lfloor|\\sin(\\pi x+{k})|\\rfloor",
        f"\\lfloor\\frac{{1}}{{1+(x-{at})^2}}\\rfloor", f"\\lfloor e^{{-(x-{at})^2}}\\rfloor",
        f"\\lfloor {k}x\\rfloor+\\lfloor -{k}x\\rfloor+1", f"0^{{(x-{at})^2}}"))
    wrong = [f"{gold}+{none}", f"{gold}-{none}", f"{gold}+{one}-1", f"({gold}){one}" if gold != "0" else f"1-{one}"]
    return gold, [f"{gold}+{at}-{at}", f"({gold})(\\sin^2 x+\\cos^2 x)"], wrong


def hedges(rng: random.Random) -> Made:
    """A number that is only about the answer, or that is denied."""
    n = rng.randint(2, 400)
    ways = ("~{n};\\approx {n};\\sim {n};about {n};\\text{{roughly }}{n};{n}?;{n}\\pm 1;{n} or so;\\ge {n};not {n};\\neq {n};" "{n}\\ldots;{n} to {m};{n}+;<{n};{n} or {m};{n}, {m};\\cancel{{{n}}};\\neg {n};nearly {n};{n}-ish;up to {n};" "more than {n};{n} is wrong;anything but {n};~~{n}~~;≈{n};between {n} and {m};twice {n};minus {n};{n} if x>0").split(
        ";")
    return (
        str(n), [f"${n}$", f"\\;{n}", f"\\,{n}~", f"{n}.0"], [w.format(n=n, m=n + 1) for w in rng.sample(ways, 4)])


def labels(rng: random.Random) -> Made:
    """Whose number it is."""
    a, b = rng.sample(range(2, 99), 2)
    one, two, three = rng.sample("Alice Bob Carl Dora mean median width height Paris London".split(), 3)

    def show(*pairs: tuple[str, int], sign: str = ": ") -> str:
        return rng.choice((", ", " and ", "\\text{ and }")).join(f"\\text{{{name}}}{sign}{n}" for name, n in pairs)

    gold = show((one, a), (two, b))
    right = [show((one, a), (two, b), sign="="), show((two, b), (one, a))]
    wrong = [
        show((one, b), (two, a)), show((one, a), (three, b)), show((two, a), (one, b)), show((one, a)), f"{b}, {a}",
        f"{a}, {b}"]
    return gold, right, wrong


def letters_in_order(rng: random.Random) -> Made:
    """Letters that are no factors of a product."""
    a, b, c = rng.sample("ABCDPQRST", 3)
    p, q = rng.sample("pqrs", 2)
    n = rng.randint(2, 9)
    return rng.choice((
        (f"\\angle {a}{b}{c}", [f"\\angle {a}{b}{c}"],
         [f"\\angle {a}{c}{b}", f"\\angle {b}{a}{c}"]),
        (f"{p}\\land {q}", [f"{q}\\land {p}"], [f"{p}\\lor {q}", f"{p}", f"{p}\\to {q}"]),
        (f"{a}\\cup {b}", [f"{b}\\cup {a}"], [f"{a}\\cap {b}", f"{a}\\cup {c}", f"{a}\\setminus {b}"]),
        (f"f(x)=x^{n}", [f"f(t)=t^{n}", f"f(x)=x\\cdot x^{{{n - 1}}}"],
         [f"f(y)=x^{n}", f"f(x)=y^{n}", f"f(t)=x^{n}", f"g(x)=x^{n}"]),
        (f"g(x,y)=x-{n}y", [f"g(s,t)=s-{n}t", f"g(y,x)=y-{n}x"],
         [f"g(y,x)=x-{n}y", f"g(x,z)=x-{n}y", f"g(x)=x-{n}y"])))


def remainders(rng: random.Random) -> Made:
    """Classes of whole numbers."""
    m = rng.randint(3, 30)
    a = rng.randint(0, m - 1)
    k = rng.randint(1, 6)
    right = [f"x \\equiv {a} \\pmod{{{m}}}", f"$x\\equiv {a}\\pmod{{{m}}}$"]
    wrong = [
        f"x\\equiv {a + 1}\\pmod{{{m}}}", f"x\\equiv {a}\\pmod{{{m + 1}}}", f"x\\not\\equiv {a}\\pmod{{{m}}}",
        f"x={a}", f"x\\equiv {a}\\pmod{{{2 * m}}}", f"y\\equiv {a}\\pmod{{{m}}}",
        f"x\\equiv {a + k * m + 1}\\pmod{{{m}}}"]
    return f"x\\equiv {a}\\pmod{{{m}}}", right, wrong


def repeating(rng: random.Random) -> Made:
    """Decimals without end, by fractions."""
    lead, tail = (
        "".join(rng.choices("0123456789", k=rng.randint(0, 2))),
        "".join(rng.choices("0123456789", k=rng.choice((1, 1, 2, 3)))))

    def worth(lead: str, tail: str) -> Fraction:
        return (Fraction(int(lead or 0)) + Fraction(int(tail), 10 ** len(tail) - 1)) / 10 ** len(lead)

    def shown(lead: str, tail: str) -> str:
        return f"0.{lead}\\overline{{{tail}}}"

    value = worth(lead, tail)
    gold = f"\\frac{{{value.numerator}}}{{{value.denominator}}}"
    other = [
        (lead + "0", tail), (lead, tail + "0"), (lead, str(int(tail) + 1)), (tail, lead or "7"),
        (lead, tail[::-1] + "1")]
    right = [shown(lead, tail), shown(lead + tail, tail), shown(lead, tail * 2)]
    if len(tail) == 1:
        right.append(f"0.{lead}\\overline {tail}")
    wrong = [shown(*pair) for pair in other if worth(*pair) != value]
    long = f"0.{lead}{tail * 5}"
    return gold, right, wrong + ([long] if Fraction(long) != value else [])


def quantities(rng: random.Random) -> Made:
    """One quantity in two units, and shares of one unit in another."""
    large, small, size = rng.choice((("hours", "minutes", 60), ("feet", "inches", 12), ("minutes", "seconds", 60)))
    n, m = rng.randint(2, 9), rng.randint(1, size - 1)
    whole = Fraction(n * size + m, size)
    right = [f"{n * size + m} {small}", f"\\frac{{{whole.numerator}}}{{{whole.denominator}}}\\text{{ {large}}}"]
    wrong = [
        f"{n} {large} {m + 1} {small}", f"{n} {large}", f"{n} {large} per {small[:-1]}", f"{n * size + m} {large}",
        f"{n} {large} or {m} {small}", f"{m} {small} {n + 1} {large}", f"{n * size - m} {small}"]
    return f"{n * size + m} {small}", right, wrong


def distances(rng: random.Random) -> Made:
    """Absolute values of a difference, half-lines, and what a set-builder says."""
    c, r = rng.randint(1, 9), rng.randint(1, 9)
    low, high = c - r, c + r
    return rng.choice((
        (f"[{low},{high}]", [f"|x-{c}|\\le {r}", f"\\{{x: {low}\\le x\\le {high}\\}}"],
         [f"|x+{c}|\\le {r}", f"|x-{c}|<{r}", f"|x-{c}|\\ge {r}", f"|x-{c}|\\le {r + 1}"]),
        (f"|x-{c}|>{r}", [f"x<{low} or x>{high}", f"\\{{x: x<{low}\\text{{ or }}x>{high}\\}}"],
         [f"|x-{c}|<{r}", f"x<{low}", f"|x|>{r + c}", f"\\{{x: x<{low}\\text{{ and }}x>{high}\\}}"]),
        (f"\\mathbb{{R}}\\setminus\\{{-{c},{c}\\}}", [f"x\\ne\\pm{c}", f"x\\ne {c}, x\\ne -{c}"],
         [f"x=\\pm{c}", f"x\\ne {c}", f"x\\ne\\pm{c + 1}", f"x\\ne {c} or x\\ne -{c}"]),
        ("(0,\\infty)", ["x>0"],
         ["\\mathbb{R}", "\\mathbb{R}^-", "\\mathbb{Z}^+", "\\mathbb{R}\\setminus\\{0\\}"]),
        (f"x\\ne {c}", [f"\\mathbb{{R}}\\setminus\\{{{c}\\}}"],
         [f"\\mathbb{{R}}-\\{{-{c}\\}}", f"\\mathbb{{Q}}-\\{{{c}\\}}", f"\\mathbb{{R}}-{c}", "\\mathbb{R}"]),
        (f"\\{{{c}k: k\\in\\mathbb{{Z}}\\}}", [f"\\{{{c}\\cdot k\\mid k\\in\\mathbb{{Z}}\\}}"],
         [f"\\{{{c + 1}k: k\\in\\mathbb{{Z}}\\}}", f"\\{{{c}n: n\\in\\mathbb{{N}}\\}}",
          f"\\{{{c}n+1: n\\in\\mathbb{{Z}}\\}}", f"\\{{{c}n: k\\in\\mathbb{{Z}}\\}}"]),
        (f"x={c},y={r + 10}", [f"\\begin{{cases}}x={c}\\\\y={r + 10}\\end{{cases}}", f"(x,y)=({c},{r + 10})"],
         [f"\\begin{{cases}}x={r + 10}\\\\y={c}\\end{{cases}}", f"\\begin{{cases}}x={c}\\end{{cases}}",
          f"\\begin{{cases}}{c}&y={r + 10}\\end{{cases}}"])))


COLORS = "blue red green yellow purple white black orange".split()


def options_with_words(rng: random.Random) -> Made:
    """An option with its text as the reference."""
    a, b = rng.sample("ABCDE", 2)
    word, other = rng.sample([*COLORS, "12", "3/4", "x^2+1", "yes", "Monday"], 2)
    right = [a, f"({a})", f"({a}) {word}", f"{a}. {word}", f"{a.lower()}) {word}", f"\\textbf{{({a})}} {word}"]
    wrong = [
        f"({a}) {other}", f"({b}) {word}", b, f"({a}) {word} or ({b}) {other}", f"({b}) ({a}) {word}", f"not ({a})",
        f"({a}) {word}?", f"{b.lower()}) {word}", f"({a}) hopefully {word}", f"{a} or {b}"]
    return rng.choice((f"({a}) {word}", f"{a}. {word}", f"{a.lower()}) {word}")), right, wrong


def asked_integers(rng: random.Random) -> Made:
    """A condition on an integer, which is no parameter: it cannot be moved by one, or turned about."""
    n = rng.choice("nmk")
    a = rng.randint(2, 30)
    sign, other = rng.choice((("\\ge", ">"), ("\\le", "<"), (">", "\\ge"), ("<", "\\le")))
    where = f", {n}\\in\\mathbb{{Z}}"
    wrong = [
        f"{n}{sign} {a + 1}{where}", f"{n}{sign} {a - 1}{where}", f"{n}{other} {a}{where}", f"{n}={a}{where}",
        f"-{n}{sign} {a}{where}", f"{n}{sign} {a}, {n}\\in\\mathbb{{R}}", f"{n}{sign} {-a}{where}"]
    return f"{n}{sign} {a}{where}", [f"{n}{sign} {a}{where}", f"{n} {sign} {a}, \\quad {n} \\in \\mathbb Z"], wrong


def names_joined(rng: random.Random) -> Made:
    """Values of several names hold together; one or the other of them is another answer."""
    n, m = rng.sample(range(2, 60), 2)
    if rng.random() < 0.5:
        one, other = rng.sample(NOUNS, 2)
        pair = f"{n}\\text{{ {one}}}", f"{m}\\text{{ {other}}}"
        changed = f"{m}\\text{{ {one}}} and {n}\\text{{ {other}}}"
    else:
        one, other = rng.choice(("xy", "ab", "pq", "mn"))
        pair = f"{one}={n}", f"{other}={m}"
        changed = f"{one}={m} and {other}={n}"
    right = [f"{pair[0]}, {pair[1]}", f"{pair[0]} and {pair[1]}", f"{pair[1]} and {pair[0]}"]
    wrong = [f"{pair[0]} or {pair[1]}", f"{pair[0]}\\text{{ or }}{pair[1]}", pair[0], changed]
    return rng.choice(right), right, wrong


def letters(rng: random.Random) -> Made:
    """Products and differences of single letters, which are no words."""
    a, b, c = rng.sample("bcdfjpqrvw", 3)
    if rng.random() < 0.5:
        gold = f"{a}{b.upper()}"
        return (
            gold, [f"{b.upper()}{a}", f"{b.upper()} {a}", f"{a}\\cdot {b.upper()}"],
            [*(f"{a}{b}", f"{a.upper()}{b}", f"{a.upper()}{b.upper()}", f"{a}+{b.upper()}", f"{a}{c.upper()}")])
    right = [f"-({b}-{a})", f"{a}+(-{b})", f"-{b}+{a}"]
    return f"{a}-{b}", right, [f"{b}-{a}", f"|{a}-{b}|", f"{a}{b}", f"{a}-{c}", f"{a.upper()}-{b}", f"{a}-|{b}|"]


def capital_units(rng: random.Random) -> Made:
    """Units that capitals tell apart, and units of angles."""
    n = rng.randint(2, 90)
    return rng.choice((
        (f"{n}\\text{{ mm}}", [f"{n} mm", f"{n}"], [f"{n}\\text{{ Mm}}", f"{n}\\text{{ m}}"]),
        (f"{n}\\text{{ mL}}", [f"{n}"], [f"{n}\\text{{ ML}}", f"{n}\\text{{ L}}"]),
        (f"{n}\\text{{ mg}}", [f"{n}"], [f"{n}\\text{{ Mg}}", f"{n}\\text{{ g}}"]),
        (f"{n}\\text{{ km}}", [f"{n} km"], [f"{n}\\text{{ KG}}", f"{n}\\text{{ m}}"]),
        (f"{n}\\text{{ radians}}", [f"{n}\\text{{ rad}}"], [f"{n}\\text{{ grads}}", f"{n}^\\circ"]),
        (f"{n}", [f"{n}\\text{{ cm}}"], [f"{n} M", f"{n}\\text{{ bn}}", f"{n}\\text{{ thou}}"])))


def words_around_boxes(rng: random.Random) -> Made:
    """Words and signs beside a box by which it is another number."""
    n, m = rng.sample(range(2, 60), 2)
    right = [f"So it is \\boxed{{{n}}}.", f"\\boxed{{{n}}} in total"]
    wrong = [
        f"\\boxed{{{n}}} times {m}", f"\\boxed{{{n}}} plus ${m}$", f"\\boxed{{{n}}} divided by {m}",
        f"So it is \\boxed{{{n}}} times.", f"| total | \\boxed{{{n}}} |",
        f"the opposite of \\boxed{{{n}}}", f"the reciprocal of $\\boxed{{{n}}}$", f"{{\\boxed{{{n}}}}}^{m}",
        f"\\boxed{{{n}}} more than {m}", f"\\boxed{{{n}}} 1/2", f"\\boxed{{{n}}}\\text{{ half}}",
        f"\\log_{{{m}}}\\boxed{{{n}}}", f"\\sqrt[\\boxed{{{n}}}]{{2}}", f"\\boxed{{{n}}}\\ 000",
        f"\\boxed{{{n}}}\\hspace{{-2pt}}5", f"|\\boxed{{-{n}}}|-{m}", f"\\boxed{{{n}}}{{{m}}}",
        f"\\boxed{{{n}}}\\choose {m}"]
    return str(n), right, wrong


_MAKERS = (
    signs, signs_of_functions, steps, periods, whole_numbers, domains, calculus, words_after_numbers, words_that_count,
    numbers_with_parts, choices, choices_with_contents, capitals, angles, equations, unknowns, regions, matrices,
    columns, extraction, named_lists, parameters, phrases, boxes_in_formulas, single_points, hedges, labels,
    letters_in_order, remainders, repeating, distances, quantities, options_with_words, asked_integers, names_joined,
    letters, capital_units, words_around_boxes)
MAKERS = {maker.__name__.replace("_", " "): maker for maker in _MAKERS}


# Most right answers of these causes are beyond the language, so only their wrong ones are made.
_BEYOND = {"whole numbers", "regions", "parameters", "letters in order", "distances", "letters", "phrases"}


def made(seed: int = 0, each: int = 26) -> Iterator[Row]:
    """`each` golds a cause, with two texts that are right and two that are wrong."""
    for category, maker in MAKERS.items():
        rng = random.Random(f"{seed} {category}")
        for _ in range(each):
            gold, right, wrong = maker(rng)
            for texts, truth in ((right, True), (wrong, False)):
                chosen = rng.sample(texts, min(2, len(texts)))
                if not truth or category not in _BEYOND:
                    yield from (Row(category, gold, text, truth) for text in chosen)

"""Who is best, of comparisons two by two: Bradley and Terry's model (1952) by maximum likelihood, on Elo's scale.

The chance that i beats j is sigmoid(r_i - r_j), and a draw is half a win for each. A prompt's comparisons are no
independent draws, so that intervals are of a bootstrap over prompts. With style, the model has a weight for each
difference in style too, so that what is left to the ratings is not won by length or headings: the style control of
Chatbot Arena (Li, Angelopoulos and Chiang 2024, "Does style matter?", lmsys.org), whose features these are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ELO = 400 / math.log(10)  # points a unit of log-odds: 400 points are ten to one
CENTRE = 1000.0
_ROUNDS = 100  # of Newton's method, which takes fewer than ten where there is a maximum
_OWN = 0.05  # of a style's variation, at least so much must not follow from who wrote the answers
_FLATTEST = 1e10  # how much flatter one way than another: beyond it the maximum is at infinity, or a whole line

STYLE = {
    "length": re.compile(r"\S"),  # characters that show
    "headings": re.compile(r"^#{1,6} ", re.MULTILINE),
    "list items": re.compile(r"^\s*(?:[-*+]|\d+[.)])\s", re.MULTILINE),
    "bold": re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__"),
}


class Comparison(NamedTuple):
    prompt: int  # by number
    a: int  # models by number
    b: int
    score: float  # a's: 1 where a won, 0 where b did, ½ for a draw; between them where judgements differ


class Estimate(NamedTuple):
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Ratings:
    """`models`: each one's rating. `draws`: how many draws were added for them to be finite. `style`: the points that
    one standard deviation (about 0) of each difference in style is worth."""

    models: list[Estimate]
    draws: int
    style: dict[str, Estimate]


class NotConnected(Exception):
    """Of the models some were never compared with any of the others; `apart` are those, by number."""

    def __init__(self, apart: list[int]):
        super().__init__(apart)
        self.apart = apart


def style_of(a: str, b: str) -> list[float]:
    """How the two texts differ in each of `STYLE`, from -1 to 1: (a - b) / (a + b), 0 where neither has any."""
    counts = [[sum(1 for _ in pattern.finditer(text)) for text in (a, b)] for pattern in STYLE.values()]
    return [(of_a - of_b) / max(of_a + of_b, 1) for of_a, of_b in counts]


def rate(
    comparisons: Sequence[Comparison],
    n: int,
    anchor: int | None = None,
    styles: Sequence[Sequence[float]] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Ratings | None:
    """The ratings of n models, with 95% intervals: percentiles of `resamples` resamplings of the prompts.

    Their mean is `CENTRE`, or that of the model `anchor`. Of models that won every comparison with all others the
    maximum is at infinity: a draw is added to each pair that was compared. In resamplings its weight is random, with
    mean 1 (Rubin's Bayesian bootstrap, 1981), so that the interval is wide where that draw decides; where but a
    resampling lacks a maximum, that one gets such draws. `styles` are of each comparison `style_of`; those are used
    that can be told from the models. Raises `NotConnected`; None where no style can, or style decides every comparison.
    """
    model = _Model(comparisons, n, styles)
    weights = np.ones(len(comparisons))
    draws = not model.has_maximum(weights)
    one_each = np.ones(len(model.pairs))
    best = None if styles is not None and not model.used else model.fit(weights, one_each if draws else None)
    if best is None:
        return None
    rng = np.random.default_rng(seed)
    prompts, of_prompt = np.unique([c.prompt for c in comparisons], return_inverse=True)
    found = []
    for _ in range(resamples):
        times = rng.multinomial(len(prompts), np.full(len(prompts), 1 / len(prompts)))[of_prompt].astype(float)
        added = rng.exponential(size=len(model.pairs)) if draws or not model.has_maximum(times) else None
        resampled = model.fit(times, added, best)
        if resampled is not None:
            found.append(resampled)
    if len(found) < 0.9 * resamples:
        return None

    def points(solution: Array) -> Array:
        ratings = ELO * solution[:n]
        middle = ratings.mean() if anchor is None else ratings[anchor]
        return np.concatenate([ratings - middle + CENTRE, ELO * solution[n:]])

    low, high = np.percentile([points(one) for one in found], [2.5, 97.5], axis=0)
    estimates = [Estimate(*map(float, each)) for each in zip(points(best), low, high, strict=True)]
    return Ratings(estimates[:n], len(model.pairs) if draws else 0, dict(zip(model.used, estimates[n:], strict=True)))


class _Model:
    """The comparisons as a logistic regression without intercept: rows of differences, and a score for each."""

    def __init__(self, comparisons: Sequence[Comparison], n: int, styles: Sequence[Sequence[float]] | None):
        self.n = n
        sides = np.array([(c.a, c.b) for c in comparisons])
        self.scores = np.array([c.score for c in comparisons])
        self.pairs, self.of_pair = np.unique(sides, axis=0, return_inverse=True)
        self.of_pair = self.of_pair.reshape(-1)
        met = np.zeros((n, n), dtype=bool)
        met[self.pairs[:, 0], self.pairs[:, 1]] = True
        together = _reach(met | met.T)
        if not together.all():
            raise NotConnected([i for i in range(n) if not together[0, i]])
        differences = np.zeros((len(self.pairs), n))
        differences[np.arange(len(self.pairs)), self.pairs[:, 0]] = 1
        differences[np.arange(len(self.pairs)), self.pairs[:, 1]] -= 1
        # Only differences are told, so the first model's rating is 0 until all are moved.
        self.differences = differences[:, 1:]
        self.used: list[str] = []
        self.styles: Array | None = None
        if styles is not None:
            # Only what is neither the models' nor the styles' before it: a style that one model always has is its own.
            told = self.differences[self.of_pair]
            for name, column in zip(STYLE, np.array(styles, dtype=float).T, strict=True):
                rest = column - told @ np.linalg.lstsq(told, column)[0]
                if (rest**2).sum() > _OWN * max((column**2).sum(), 1e-9):
                    # About 0, so that it is the same whoever stands first.
                    told = np.column_stack([told, column / np.sqrt((column**2).mean())])
                    self.used.append(name)
            self.styles = told[:, n - 1 :]

    def has_maximum(self, weights: Array) -> bool:
        """Whether from each model a chain of wins or draws leads to each other one (Ford 1957): else some won all."""
        return bool(_reach(self._beaten(weights)).all())

    def _beaten(self, weights: Array) -> NDArray[np.bool_]:
        beaten = np.zeros((self.n, self.n), dtype=bool)
        (a, b), count = self.pairs.T, len(self.pairs)
        beaten[a, b] = np.bincount(self.of_pair, weights * self.scores, count) > 0
        beaten[b, a] |= np.bincount(self.of_pair, weights * (1 - self.scores), count) > 0
        return beaten

    def fit(self, weights: Array, draws: Array | None, near: Array | None = None) -> Array | None:
        """Ratings in log-odds, the first 0, then the weights of style, looked for from `near` on; None where there is
        no maximum. `draws` are of each pair the weight of one that is added."""
        count = len(self.pairs)
        if self.styles is None:  # a row a pair will do
            rows = self.differences
            weight, won = (
                np.bincount(self.of_pair, each, count).astype(float) for each in (weights, weights * self.scores)
            )
        else:
            rows = np.hstack([self.differences[self.of_pair], self.styles])
            weight, won = weights, weights * self.scores
        if draws is not None:
            drawn = np.hstack([self.differences, np.zeros((count, rows.shape[1] - self.n + 1))])
            rows, weight, won = (
                np.vstack([rows, drawn]),
                np.concatenate([weight, draws]),
                np.concatenate([won, draws / 2]),
            )
        solution = _newton(rows, weight, won, np.zeros(rows.shape[1]) if near is None else near[1:])
        return None if solution is None else np.concatenate([[0.0], solution])


def _reach(edges: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """From which node which is reached, itself always (Warshall 1962)."""
    found = edges | np.eye(len(edges), dtype=bool)
    for k in range(len(found)):
        found |= found[:, k : k + 1] & found[k : k + 1]
    return found


def unbeaten(comparisons: Sequence[Comparison], n: int) -> list[int]:
    """Models of which none has lost to, or drawn with, one that is not among them; none where ratings are finite."""
    model = _Model(comparisons, n, None)
    reach = _reach(model._beaten(np.ones(len(comparisons))))
    if reach.all():
        return []
    # Of these groups, each reached by itself alone, the smallest.
    groups = [[i for i in range(n) if reach[i, k]] for k in range(n)]
    return min((g for g in groups if all(reach[i, j] for i in g for j in g)), key=len)


def _newton(rows: Array, weight: Array, won: Array, x: Array) -> Array | None:
    """The maximum of Σ won · log p + (weight - won) · log(1 - p) with p = sigmoid(rows · x); None where there is none.

    It begins at `x`. The function is concave: each step is halved until it goes up.
    """

    def likelihood(x: Array) -> float:
        logits = rows @ x
        return float(won @ logits - weight @ np.logaddexp(0, logits))

    value = likelihood(x)
    for _ in range(_ROUNDS):
        p = 1 / (1 + np.exp(-np.clip(rows @ x, -500, 500)))
        curvature = (rows * (weight * p * (1 - p))[:, None]).T @ rows
        flattest, steepest = np.linalg.eigvalsh(curvature)[[0, -1]]
        if not flattest * _FLATTEST > steepest:
            return None
        step = np.linalg.solve(curvature, rows.T @ (won - weight * p))
        while (new := likelihood(x + step)) < value and np.abs(step).max() > 1e-12:
            step /= 2
        x, value = x + step, max(new, value)
        if np.abs(step).max() < 1e-10:
            return x
    return None

"""Ratings from pairwise comparisons: the Bradley-Terry model (1952) by maximum likelihood, on the Elo scale.

The probability that i beats j is sigmoid(r_i - r_j), and a draw is half a win for each. Comparisons on one prompt are
correlated, so intervals are by bootstrap over prompts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ELO = 400 / math.log(10)  # points per unit of log-odds: 400 points are odds of ten to one
CENTRE = 1000.0
_ROUNDS = 100  # of Newton's method, which needs fewer than ten if a maximum exists
_FLATTEST = 1e10  # maximum condition number: above it the maximum is at infinity, or not unique


class ScoredPair(NamedTuple):
    prompt: int  # index
    a: int  # index of a model
    b: int
    score: float  # of a: 1 if a won, 0 if b won, ½ for a draw


class Estimate(NamedTuple):
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Ratings:
    """`models`: their ratings. `draws`: number of draws added to make them finite."""

    models: list[Estimate]
    draws: int


class NotConnected(Exception):
    """Some models were never compared with any of the others: their indices."""


def fit_ratings(
    comparisons: Sequence[ScoredPair],
    n: int,
    anchor: int | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Ratings:
    """Rate n models, with 95% intervals from `resamples` bootstrap resamples of the prompts.

    The mean rating, or that of the model `anchor`, is `CENTRE`. If some models won every comparison with all others,
    the maximum is at infinity, so a draw is added to each pair that was compared. In resamples its weight is random,
    with mean 1 (Rubin's Bayesian bootstrap, 1981), so the interval is wide if that draw is decisive. A resample without
    a maximum also gets such draws. Raises `NotConnected`.
    """
    model = _Model(comparisons, n)
    weights = np.ones(len(comparisons))
    draws = not model.has_maximum(weights)
    one_each = np.ones(len(model.pairs))
    best = model.fit(weights, one_each if draws else None)
    assert best is not None  # each model won or drew, so a maximum exists (Ford 1957)
    rng = np.random.default_rng(seed)
    prompts, of_prompt = np.unique([c.prompt for c in comparisons], return_inverse=True)
    found = []
    for _ in range(resamples):
        times = rng.multinomial(len(prompts), np.full(len(prompts), 1 / len(prompts)))[of_prompt].astype(float)
        added = rng.exponential(size=len(model.pairs)) if draws or not model.has_maximum(times) else None
        resampled = model.fit(times, added, best)
        if resampled is not None:
            found.append(resampled)

    def points(solution: Array) -> Array:
        ratings = ELO * solution
        middle = ratings.mean() if anchor is None else ratings[anchor]
        return ratings - middle + CENTRE

    low, high = np.percentile([points(one) for one in found], [2.5, 97.5], axis=0)
    estimates = [Estimate(*map(float, each)) for each in zip(points(best), low, high, strict=True)]
    return Ratings(estimates, len(model.pairs) if draws else 0)


class _Model:
    """The comparisons as a logistic regression without intercept: rows of differences, with a score each."""

    def __init__(self, comparisons: Sequence[ScoredPair], n: int):
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
        # Only differences are determined, so the first model's rating is 0 until all are shifted.
        self.differences = differences[:, 1:]

    def has_maximum(self, weights: Array) -> bool:
        """Whether a chain of wins or draws leads from each model to every other (Ford 1957). If not, some won all."""
        beaten = np.zeros((self.n, self.n), dtype=bool)
        (a, b), count = self.pairs.T, len(self.pairs)
        beaten[a, b] = np.bincount(self.of_pair, weights * self.scores, count) > 0
        beaten[b, a] |= np.bincount(self.of_pair, weights * (1 - self.scores), count) > 0
        return bool(_reach(beaten).all())

    def fit(self, weights: Array, draws: Array | None, near: Array | None = None) -> Array | None:
        """Return ratings in log-odds (the first is 0), starting at `near`; None if there is no maximum. `draws` has the
        weight of the draw added to each pair."""
        count = len(self.pairs)
        weight = np.bincount(self.of_pair, weights, count).astype(float)
        won = np.bincount(self.of_pair, weights * self.scores, count).astype(float)
        if draws is not None:
            weight, won = weight + draws, won + draws / 2
        rows = self.differences
        solution = _newton(rows, weight, won, np.zeros(rows.shape[1]) if near is None else near[1:])
        return None if solution is None else np.concatenate([[0.0], solution])


def _reach(edges: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which nodes each node reaches, including itself (Warshall 1962)."""
    found = edges | np.eye(len(edges), dtype=bool)
    for k in range(len(found)):
        found |= found[:, k : k + 1] & found[k : k + 1]
    return found


def _newton(rows: Array, weight: Array, won: Array, x: Array) -> Array | None:
    """Maximize Σ won · log p + (weight - won) · log(1 - p) with p = sigmoid(rows · x); None if there is no maximum.

    Starts at `x`. The function is concave: each step is halved until it increases.
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

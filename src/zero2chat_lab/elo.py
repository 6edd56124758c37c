"""Ratings from pairwise comparisons: the Bradley-Terry model (1952) by maximum likelihood, on the Elo scale.

The probability that i beats j is sigmoid(r_i - r_j), and a draw is half a win for each. Comparisons on one prompt are
correlated, so intervals are by bootstrap over prompts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
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


class Ratings(NamedTuple):
    models: list[Estimate]
    draws: int  # added to make them finite


def fit_ratings(comparisons: Sequence[ScoredPair], n: int, resamples: int = 1000, seed: int = 0) -> Ratings:
    """Rate n models, all compared with each other, directly or through other models. The mean rating is `CENTRE`.

    95% intervals are from `resamples` bootstrap resamples of the prompts. If some models won every comparison with all
    others, the maximum is at infinity. A draw is then added to each pair that was compared. In resamples the draw's
    weight is random, with mean 1 (Rubin's Bayesian bootstrap, 1981), so the interval is wide if the draw is decisive. A
    resample without a maximum also gets such draws.
    """
    scores = np.array([c.score for c in comparisons])
    pairs, of_pair = np.unique(np.array([(c.a, c.b) for c in comparisons]), axis=0, return_inverse=True)
    of_pair, count = of_pair.reshape(-1), len(pairs)
    # A logistic regression without intercept. Only differences are determined, so the first model's rating is 0 at
    # first.
    differences = (np.eye(n)[pairs[:, 0]] - np.eye(n)[pairs[:, 1]])[:, 1:]

    def fit(times: Array, draws: Array | float, start: Array) -> Array | None:
        """Fit log-odds from how often each comparison counts, and the weight of the draw added to each pair."""
        weight = np.bincount(of_pair, times, count).astype(float) + draws
        won = np.bincount(of_pair, times * scores, count).astype(float) + draws / 2
        return _newton(differences, weight, won, start)

    once, start = np.ones(len(comparisons)), np.zeros(n - 1)
    best = fit(once, 0.0, start)
    if draws := best is None:
        best = fit(once, 1.0, start)
    assert best is not None  # each model won or drew, so a maximum exists (Ford 1957)
    rng = np.random.default_rng(seed)
    prompts, of_prompt = np.unique([c.prompt for c in comparisons], return_inverse=True)
    refits = []
    for _ in range(resamples):
        times = rng.multinomial(len(prompts), np.full(len(prompts), 1 / len(prompts)))[of_prompt].astype(float)
        resampled = None if draws else fit(times, 0.0, best)
        if resampled is None:
            resampled = fit(times, rng.exponential(size=count), best)
        if resampled is not None:
            refits.append(resampled)

    def points(solution: Array) -> Array:
        ratings = ELO * np.concatenate([[0.0], solution])
        return ratings - ratings.mean() + CENTRE

    low, high = np.percentile([points(one) for one in refits], [2.5, 97.5], axis=0)
    estimates = [Estimate(*map(float, each)) for each in zip(points(best), low, high, strict=True)]
    return Ratings(estimates, count if draws else 0)


def _newton(rows: Array, weight: Array, won: Array, x: Array) -> Array | None:
    """Maximize Σ won · log p + (weight - won) · log(1 - p) with p = sigmoid(rows · x), from x; None if there is no
    maximum. The function is concave: each step is halved until it increases."""

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

"""Rates with 95% intervals, AUROC, and calibration."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

Clusters = Sequence[Hashable]  # of each row, such as its question
Metrics = dict[str, dict[str, Any]]  # by name: `value`, and as far as they are known `n`, `low`, `high` and `seed`


def rate(successes: float, n: float, seed: int | None = None) -> dict[str, Any]:
    """Return a rate with Wilson's 95% score interval (Wilson 1927). `successes` may be a sum of scores between 0 and 1;
    the interval is then conservative."""
    if n <= 0:
        raise ValueError("a rate needs at least one row")
    z = 1.959964
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return _metric(p, n, max(0.0, centre - half), min(1.0, centre + half), seed)


def clustered_rate(scores: Sequence[float], clusters: Clusters | None, seed: int | None = None) -> dict[str, Any]:
    """Return the mean of scores between 0 and 1 as `rate` does, with an interval for rows that come in clusters, such
    as the wordings of one question.

    Scores within a cluster are correlated. Wilson's interval is therefore computed for n divided by the design effect,
    the variance between clusters relative to that of independent rows (Kish 1965, section 5.4). If clusters have
    several rows, `questions` is the number of clusters.
    """
    metric, n, p = rate(sum(scores), len(scores), seed), len(scores), sum(scores) / len(scores)
    deviations = _sums([score - p for score in scores], clusters)
    if (g := len(deviations)) == n:
        return metric
    independent = n * p * (1 - p)
    between = sum(d * d for d in deviations) * g / max(1, g - 1)
    effect = max(1.0, between / independent) if independent and g > 1 else n / g
    wider = rate(sum(scores) / effect, n / effect)
    return metric | {"low": wider["low"], "high": wider["high"], "questions": g}


def _sums(values: Sequence[float], clusters: Clusters | None) -> list[float]:
    """Return the sum of each cluster's values; without clusters, the values."""
    sums: dict[Hashable, float] = defaultdict(float)
    for value, cluster in zip(values, range(len(values)) if clusters is None else clusters, strict=True):
        sums[cluster] += value
    return list(sums.values())


def _metric(value: float, n: float, low: float, high: float, seed: int | None) -> dict[str, Any]:
    metric = {"value": round(value, 4), "n": n, "low": round(low, 4), "high": round(high, 4)}
    return metric if seed is None else metric | {"seed": seed}


# Student's t at 97.5% for 1, 2, … degrees of freedom, for small samples such as three seeds.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def mean(values: Sequence[float], seed: int | None = None, clusters: Clusters | None = None) -> dict[str, Any]:
    """Return a mean with its 95% interval: normal, or Student's for at most ten values or clusters. Rows of a cluster
    are correlated, as in `clustered_rate`."""
    n = len(values)
    if n == 0:
        raise ValueError("a mean needs at least one row")
    m = sum(values) / n
    deviations = _sums([v - m for v in values], clusters)
    g = len(deviations)
    t = _T[g - 2] if 2 <= g <= 10 else 1.959964
    half = t * math.sqrt(sum(d * d for d in deviations) * g / max(g - 1, 1)) / n
    return _metric(m, n, m - half, m + half, seed) | ({"questions": g} if g < n else {})


def change(
    before: Sequence[float], after: Sequence[float], seed: int | None = None, clusters: Clusters | None = None
) -> dict[str, Any]:
    """Return the mean paired difference as `mean` does. If all rows change alike, such as by 0, their spread is 0: the
    interval is that of `rate` for 0 other rows, times the range of the scores."""
    changes = [b - a for a, b in zip(before, after, strict=True)]
    metric, n = mean(changes, seed, clusters), len(changes)
    if len(set(changes)) > 1:
        return metric
    scale = max(1.0, max(*before, *after) - min(*before, *after))
    most = clustered_rate([0.0] * n, clusters)["high"] * scale
    low, high = max(-scale, changes[0] - most), min(scale, changes[0] + most)
    return metric | {"low": round(low, 4), "high": round(high, 4)}


def over_seeds(measured: Sequence[Mapping[str, Any]], rate: bool = False) -> dict[str, Any]:
    """Combine a metric of models with several seeds, measured on the same rows: the mean, and `n` rows. For one seed,
    return that seed's metric.

    The 95% interval covers other rows and other seeds. Because the rows are the same, their sampling error does not
    average out: it contributes the seeds' mean distance to their own bounds. The seeds contribute Student's interval.
    Both distances add up like standard deviations (Zou & Donner 2008, MOVER).
    """
    if len(measured) == 1:
        return dict(measured[0])
    metric = mean([one["value"] for one in measured])
    value, half = metric["value"], metric["high"] - metric["value"]
    if all("low" in one and "high" in one for one in measured):
        below = math.hypot(half, sum(one["value"] - one["low"] for one in measured) / len(measured))
        above = math.hypot(half, sum(one["high"] - one["value"] for one in measured) / len(measured))
        metric |= {"low": round(value - below, 4), "high": round(value + above, 4)}
    if rate:
        metric |= {"low": max(0.0, metric["low"]), "high": min(1.0, metric["high"])}
    del metric["n"]
    rows = [one["n"] for one in measured if "n" in one]
    return metric | ({"n": min(rows)} if rows else {})


def mean_share(values: Sequence[float], seed: int | None = None, clusters: Clusters | None = None) -> dict[str, Any]:
    """Return the mean of shares, one per row, as `mean` does, with an interval within 0 to 1. If all shares are 0, or
    all are 1, their spread is 0, so the interval is that of `rate`."""
    metric = mean(values, seed, clusters)
    if set(values) in ({0}, {1}):
        metric |= clustered_rate(values, clusters, seed)
    return metric | {"low": max(0.0, metric["low"]), "high": min(1.0, metric["high"])}


def win_rate(
    before: Sequence[float], after: Sequence[float], seed: int | None = None, clusters: Clusters | None = None
) -> dict[str, Any]:
    """Return the share of rows where the second value is higher, as `clustered_rate` does; a tie counts half."""
    wins = [0.5 if a == b else float(b > a) for a, b in zip(before, after, strict=True)]
    return clustered_rate(wins, clusters, seed)


def ratio(parts: Sequence[float], wholes: Sequence[float], seed: int = 0) -> dict[str, Any]:
    """Return the sum of parts divided by the sum of wholes, such as bits per byte; `n` is the sum of wholes.

    Tokens of one document are correlated, so the 95% interval is a percentile bootstrap over documents (Efron 1979). If
    the ratio is 0 or 1, that interval would have no width, so Wilson's interval is used, with documents as rows.
    """
    pairs = np.array([parts, wholes], dtype=float)
    if not pairs[1].sum() > 0:
        raise ValueError("a ratio needs at least one row that counts")
    rng, n = np.random.default_rng(seed), pairs.shape[1]
    sums = np.array([pairs @ rng.multinomial(n, np.full(n, 1 / n)) for _ in range(1000)])
    with np.errstate(invalid="ignore"):  # a resample may have a total of 0
        low, high = np.nanpercentile(sums[:, 0] / sums[:, 1], [2.5, 97.5])
    value, counting = pairs[0].sum() / pairs[1].sum(), pairs[:, pairs[1] > 0]
    if not counting[0].any() or (counting[0] == counting[1]).all():
        whole = rate(counting.shape[1] * round(value), counting.shape[1])
        low, high = whole["low"], whole["high"]
    return _metric(float(value), int(pairs[1].sum()), float(low), float(high), seed)


def auroc(values: Sequence[float], positive: Sequence[bool], seed: int | None = None) -> dict[str, Any] | None:
    """Area under the ROC curve: the probability that a positive row has a higher value than a negative one, ties
    counting half. None if all rows are positive, or all negative. The interval is Hanley and McNeil's (1982, eq. 2)."""
    ups, downs = ([value for value, yes in zip(values, positive, strict=True) if yes == kind] for kind in (True, False))
    if not ups or not downs:
        return None
    ordered = sorted(downs)
    wins = sum((bisect_left(ordered, value) + bisect_right(ordered, value)) / 2 for value in ups)
    area, n, m = wins / (len(ups) * len(downs)), len(ups), len(downs)
    square = area * area
    spread = area - square + (n - 1) * (area / (2 - area) - square) + (m - 1) * (2 * square / (1 + area) - square)
    half = 1.959964 * math.sqrt(max(spread, 0.0) / (n * m))
    return _metric(area, n + m, max(0.0, area - half), min(1.0, area + half), seed)


def reliability(sure: Sequence[float], right: Sequence[bool], lowest: float = 0.0) -> list[dict[str, float]]:
    """Return the mean of `sure`, the share of `right`, and `n`, for each non-empty bin of ten from `lowest` to 1."""
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(10)]
    for at, yes in zip(sure, right, strict=True):
        bins[min(int((at - lowest) / (1 - lowest) * 10), 9)].append((at, yes))
    return [
        {"sure": sum(at for at, _ in b) / len(b), "right": sum(yes for _, yes in b) / len(b), "n": len(b)}
        for b in bins
        if b
    ]


def calibration_error(bins: Sequence[Mapping[str, float]]) -> float:
    """Expected calibration error (Guo et al. 2017, arXiv:1706.04599, eq. 3): mean |confidence - accuracy|."""
    return sum(b["n"] * abs(b["sure"] - b["right"]) for b in bins) / sum(b["n"] for b in bins)

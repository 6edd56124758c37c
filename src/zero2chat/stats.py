"""Rates with 95% intervals, and pass@k."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def rate(successes: float, n: int, seed: int | None = None) -> dict[str, Any]:
    """A metric with Wilson's 95% score interval (Wilson 1927).

    `successes` may be a sum of scores between 0 and 1; the interval is then a conservative one.
    """
    if n <= 0:
        raise ValueError("a rate needs at least one row")
    z = 1.959964
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    metric = {
        "value": round(p, 4),
        "n": n,
        "low": round(max(0.0, centre - half), 4),
        "high": round(min(1.0, centre + half), 4),
    }
    return metric if seed is None else metric | {"seed": seed}


def mean(values: Sequence[float], seed: int | None = None) -> dict[str, Any]:
    """A metric with the normal 95% interval of a mean."""
    n = len(values)
    if n == 0:
        raise ValueError("a mean needs at least one row")
    m = sum(values) / n
    half = 1.959964 * math.sqrt(sum((v - m) ** 2 for v in values) / max(n - 1, 1) / n)
    metric = {"value": round(m, 4), "n": n, "low": round(m - half, 4), "high": round(m + half, 4)}
    return metric if seed is None else metric | {"seed": seed}


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Chance that at least one of k answers drawn from n, of which `correct` are right, is right.

    The unbiased estimator of Chen et al. 2021 (arXiv:2107.03374, eq. 1): 1 - C(n-c, k) / C(n, k).
    """
    if not 0 <= correct <= n or not 1 <= k <= n:
        raise ValueError(f"pass@k needs 0 <= correct <= n and 1 <= k <= n, got n={n}, correct={correct}, k={k}")
    return 1.0 - math.comb(n - correct, k) / math.comb(n, k)

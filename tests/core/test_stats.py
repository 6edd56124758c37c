"""Intervals against published and brute-force values."""

from __future__ import annotations

import itertools
import math
import statistics

import pytest

from zero2chat.core.stats import auroc, change, clustered_rate, mean, mean_share, over_seeds, rate, ratio, win_rate
from zero2chat.evaluation.tasks import pass_at_k


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe 1998 (Statistics in Medicine 17:857-872), table I, method 3: Wilson's score interval.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_rate_gives_the_published_wilson_intervals(successes: int, n: int, low: float, high: float) -> None:
    assert rate(successes, n) == {"value": round(successes / n, 4), "n": n, "low": low, "high": high}


def test_a_tie_is_half_a_win() -> None:
    assert win_rate([1, 2, 3, 4], [2, 1, 3, 5], seed=5) == rate(2.5, 4, 5)
    with pytest.raises(ValueError, match="zip"):
        win_rate([1], [1, 2])


def test_mean_is_the_mean_with_its_normal_interval() -> None:
    values = [1.0, 2.0, 4.0, 5.5] * 3
    half = 1.959964 * statistics.stdev(values) / len(values) ** 0.5
    metric = mean(values, seed=0)
    assert metric["value"] == 3.125
    assert (metric["n"], metric["seed"]) == (12, 0)
    assert metric["low"] == pytest.approx(3.125 - half, abs=1e-4)
    assert metric["high"] == pytest.approx(3.125 + half, abs=1e-4)
    half = 4.3027 * statistics.stdev([1.0, 2.0, 6.0]) / 3**0.5  # of three values, Student's
    assert mean([1.0, 2.0, 6.0])["high"] - 3 == pytest.approx(half, rel=1e-3)


def test_rows_of_one_question_are_no_more_than_the_question() -> None:
    values, keys = [0.0, 1.0, 3.0, 5.0, 2.0], list("abcde")
    assert mean(values, 0, keys) == mean(values, 0)
    repeated = mean(values * 6, 0, keys * 6)
    assert repeated == mean(values, 0) | {"n": 30, "questions": 5}
    before, after = [0.0, 1.0, 0.0, 1.0], [1.0, 1.0, 0.0, 0.0]
    assert change(before, after, 3) == mean([1.0, 0.0, 0.0, -1.0], 3)
    assert change(before * 9, after * 9, clusters=keys[:4] * 9)["low"] == change(before, after)["low"]
    assert win_rate(before * 9, after * 9, clusters=keys[:4] * 9)["low"] == pytest.approx(rate(2, 4)["low"], abs=0.1)


def test_a_change_of_no_row_is_as_uncertain_as_no_success() -> None:
    most = rate(0, 50)["high"]
    assert change([1.0, 0.0] * 25, [1.0, 0.0] * 25) == {"value": 0.0, "n": 50, "low": -most, "high": most}
    assert change([0.0] * 50, [1.0] * 50)["low"] == pytest.approx(1 - most)
    assert change([0.0] * 50, [1.0] * 50)["high"] == 1
    assert change([0.0, 6.0], [0.0, 6.0])["high"] == pytest.approx(6 * rate(0, 2)["high"], abs=1e-3)


def test_ratio_counts_each_whole_and_its_interval_is_that_of_the_documents() -> None:
    # Of wholes of one size it is a mean over them, and a bootstrap's interval the normal one (n - 1 over n apart).
    parts = [float(i % 5) for i in range(200)]
    metric = ratio(parts, [4] * 200, seed=1)
    half = 1.959964 * statistics.pstdev(parts) / 4 / 200**0.5
    assert (metric["value"], metric["n"], metric["seed"]) == (0.5, 800, 1)
    assert metric["low"] == pytest.approx(0.5 - half, rel=0.03)
    assert metric["high"] == pytest.approx(0.5 + half, rel=0.03)
    # A large document weighs as much as it has; without it the rest alone is left.
    metric = ratio([90, 0, 0], [90, 5, 5])
    assert (metric["value"], metric["low"], metric["high"]) == (0.9, 0.0, 1.0)
    assert ratio([3, 0], [4, 0])["low"] == 0.75  # documents without anything to count
    # Nothing and everything are as uncertain as of so many rows.
    assert ratio([0, 0, 0, 0], [4, 5, 6, 0]) == {**rate(0, 3), "n": 15, "seed": 0}
    assert ratio([4, 5], [4, 5]) == {**rate(2, 2), "n": 9, "seed": 0}


def test_a_mean_of_shares_stays_between_0_and_1_and_is_never_certain() -> None:
    few = mean_share([1.0, 0.0, 0.0, 0.0, 0.0])
    assert (few["value"], few["low"]) == (0.2, 0.0)
    assert 0.5 < few["high"] < 1
    assert mean_share([0.0] * 20) == rate(0, 20)
    assert mean_share([1.0] * 20, seed=3) == rate(20, 20, 3)
    assert mean_share([0.25, 0.5]) == mean([0.25, 0.5]) | {"low": 0.0, "high": 1.0}


@pytest.mark.parametrize("empty", [lambda: rate(0, 0), lambda: mean([]), lambda: ratio([0], [0])])
def test_no_rows_have_no_metric(empty) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="at least one row"):
        empty()


def test_pass_at_k_equals_counting_every_draw() -> None:
    for n in range(1, 8):
        for correct, k in itertools.product(range(n + 1), range(1, n + 1)):
            draws = list(itertools.combinations([True] * correct + [False] * (n - correct), k))
            assert pass_at_k(n, correct, k) == pytest.approx(sum(map(any, draws)) / len(draws))


def test_auroc_is_hanley_and_mcneils_example() -> None:
    """Table I of Hanley and McNeil 1982: 109 CT images in five ratings; area 0.893, standard error 0.032."""
    counts = {False: (33, 6, 6, 11, 2), True: (3, 2, 2, 11, 33)}
    rows = [(rating, sick) for sick in counts for rating in range(5) for _ in range(counts[sick][rating])]
    found = auroc([rating for rating, _ in rows], [sick for _, sick in rows])
    assert found is not None
    assert (found["value"], found["n"]) == (0.8932, 109)
    assert (found["high"] - found["low"]) / 2 / 1.96 == pytest.approx(0.032, abs=0.001)


def test_an_interval_of_repeated_questions_is_that_of_the_questions() -> None:
    scores, keys = [1.0, 0.0, 1.0, 1.0, 0.0], list("abcde")
    assert clustered_rate(scores, keys) == rate(3, 5)
    repeated = clustered_rate(scores * 20, keys * 20, seed=1)
    assert (repeated["value"], repeated["n"], repeated["questions"], repeated["seed"]) == (0.6, 100, 5, 1)
    assert repeated["low"] == pytest.approx(rate(2.4, 4)["low"], abs=0.001)
    assert clustered_rate([1.0] * 40, keys * 8)["low"] == rate(5, 5)["low"]
    mixed = clustered_rate([0.0, 1.0] * 50, keys * 20)  # as often right in each question: rows count
    assert mixed["low"] >= rate(50, 100)["low"] - 0.001


def test_one_seed_is_its_own_and_of_several_rows_and_seeds_both_count() -> None:
    assert over_seeds([rate(70, 100)]) == rate(70, 100)
    of_seeds = [{"value": value, "n": 100, "low": value - 0.06, "high": value + 0.08} for value in (0.4, 0.5, 0.54)]
    metric = over_seeds(of_seeds, rate=True)
    half = 4.3027 * statistics.stdev([0.4, 0.5, 0.54]) / 3**0.5
    assert (metric["value"], metric["n"]) == (0.48, 100)
    assert metric["value"] - metric["low"] == pytest.approx(math.hypot(0.06, half), rel=1e-3)
    assert metric["high"] - metric["value"] == pytest.approx(math.hypot(0.08, half), rel=1e-3)
    # Of equal seeds it is as wide as one's, as all were asked the same rows; and never wider than a rate can be.
    same = over_seeds([rate(70, 100)] * 3)
    assert same == rate(70, 100)
    wide = over_seeds([rate(2, 100), rate(30, 100)], rate=True)
    assert (wide["low"], wide["high"]) == (0.0, 1.0)

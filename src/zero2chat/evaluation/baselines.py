"""A task's baseline, without a model: the score of the best constant answer."""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from zero2chat import tasks
from zero2chat.core import stats
from zero2chat.tools.environments import Episode

_ANSWERS, _DEMONSTRATIONS, _JOINED = 50, 50, 50  # candidates of each sort, at most
_MANY, _FIRST, _FINALISTS = 300, 100, 10  # above 300 rows, candidates are scored on 100, and the best ten on all
# A score that runs code in a sandbox takes milliseconds: candidates not scored in time are skipped. For scores that
# compare texts the search ends long before, so its result does not depend on the clock.
_SECONDS = 5.0


def best_constant(task: tasks.Task, rows: Sequence[tasks.Row], seed: int = 0) -> dict[str, Any]:
    """Return the score of the best constant answer on these rows, as a rate.

    Candidates are the most frequent reference answers, demonstrations of some rows, and demonstrations of several kinds
    joined, which have a high score if the scorer accepts a text with many answers. If time ran out before any
    candidate was scored on all rows, `n` is smaller than the number of rows. In worlds, no constant answer acts.
    """
    if rows[0].get("environment"):
        return stats.rate(sum(Episode(row).get_reward() for row in rows), len(rows), seed)
    ends = time.perf_counter() + _SECONDS
    first = rows[:_FIRST] if len(rows) > _MANY else rows
    # Use part of the time, so that finalists get some too.
    totals = list(_sums(task, first, _candidates(task, rows, seed), ends - 0.4 * _SECONDS))
    if len(first) < len(rows):
        finalists = sorted(totals, key=lambda one: -one[1] / one[2])[:_FINALISTS]
        rest = rows[len(first) :]
        whole = list(_sums(task, rest, [text for text, _, n in finalists if n == len(first)], ends))
        # A finalist that was not scored on all other rows counts by its first rows only.
        before = {text: total for text, total, _ in finalists}
        totals = [(text, before[text] + total, len(rows)) for text, total, n in whole if n == len(rest)] or totals
    _, total, n = max(totals, key=lambda one: one[1] / one[2])
    return stats.rate(total, n, seed)


def _candidates(task: tasks.Task, rows: Sequence[tasks.Row], seed: int) -> list[str]:
    rng = random.Random(f"constant {seed}")
    answers = [text for text, _ in Counter(str(row["answer"]) for row in rows).most_common(_ANSWERS)]
    worked = [task.demonstration(row, rng) for row in rows[:_DEMONSTRATIONS]]
    of_kind = {row.get("kind"): text for row, text in zip(rows, worked, strict=False)}
    pairs = itertools.islice(itertools.combinations(of_kind.values(), 2), _JOINED)
    return list(dict.fromkeys([*answers, *worked, *map(" ".join, pairs), " ".join(of_kind.values())]))


def _sums(
    task: tasks.Task, rows: Sequence[tasks.Row], candidates: Sequence[str], ends: float
) -> Iterator[tuple[str, float, int]]:
    """Yield (candidate, sum of scores, rows scored). Scoring stops at the time `ends`, but covers at least one row."""
    for i, text in enumerate(candidates):
        total, n = 0.0, 0
        for row in rows:
            if time.perf_counter() > ends and (i or n):
                break
            total, n = total + task.score(row, text), n + 1
        if n == len(rows) or not i:
            yield text, total, n

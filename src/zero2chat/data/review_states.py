"""The column `review` of synthetic rows: unreviewed, accepted or rejected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zero2chat.core.errors import UserError
from zero2chat.core.runs import is_main_process

if TYPE_CHECKING:
    from datasets import Dataset

UNREVIEWED, ACCEPTED, REJECTED = STATES = ("unreviewed", "accepted", "rejected")


def leave_out_rejected(rows: Dataset, label: str | None) -> Dataset:
    """Drop and count rejected rows. All rows are kept without a column `review`, or if it has other values than states:
    then it is about something else. Raises `UserError` if none remains."""
    if "review" not in rows.column_names:
        return rows
    states = list(rows["review"])
    kept = [i for i, state in enumerate(states) if state != REJECTED]
    if len(kept) == len(states) or any(state is not None and state not in STATES for state in states):
        return rows
    if not kept:
        raise UserError(f"{label}: all {len(rows)} rows were rejected in review: give other rows")
    if is_main_process():
        print(f"{label}: {len(states) - len(kept):,} of {len(states):,} rows were rejected in review: dropped")
    return rows.select(kept)

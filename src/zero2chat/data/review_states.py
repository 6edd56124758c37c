"""The column `review` of synthetic rows: unreviewed, accepted or rejected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zero2chat.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

UNREVIEWED, ACCEPTED, REJECTED = STATES = ("unreviewed", "accepted", "rejected")


def leave_out_rejected(rows: Dataset, label: str | None) -> Dataset:
    """Drop rejected rows. Without a column `review` all rows are kept. Raises `UserError` if none remains."""
    if "review" not in rows.column_names:
        return rows
    left = rows.select([i for i, state in enumerate(rows["review"]) if state != REJECTED])
    if len(left) == 0:
        raise UserError(f"{label}: all {len(rows)} rows were rejected in review: give other rows")
    return left

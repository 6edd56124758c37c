"""Rewards for tool use: was a tool called, and did its calls succeed?

Completions with tools have TRL's format: an assistant's message with `tool_calls`, a message of the role `tool` with
the tool's name for each call, and so on; the answer is last. A call fails if the tool raises, or if the call is invalid
or one too many. Its result is then TRL's text `{'error': …}`. So a tool must raise its errors: an error returned as
plain text is an ordinary result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_FAILED = ("{'error':", '{"error":')  # TRL's format of a tool's exception, and JSON's


def tool_called(completions: Sequence[Any], **_: Any) -> list[float]:
    """Return 1 if a tool was called and returned a result that is not an error, else 0."""
    return [float(any(_results(turns))) for turns in map(_turns, completions)]


def calls_succeeded(completions: Sequence[Any], **_: Any) -> list[float | None]:
    """Return 1 if all calls succeeded, else 0; None if there are no calls.

    A call without a result, such as a truncated one, did not succeed. (A model could raise a share of successful calls
    by adding calls that cannot fail.)
    """
    rewards: list[float | None] = []
    for turns in map(_turns, completions):
        called = sum(len(turn.get("tool_calls") or []) for turn in turns if turn.get("role") == "assistant")
        results = _results(turns)
        rewards.append(float(len(results) >= called and all(results)) if called else None)
    return rewards


def _turns(completion: str | Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    return [] if isinstance(completion, str) else completion


def _results(turns: Sequence[Mapping[str, Any]]) -> list[bool]:
    """Return whether each result is not an error."""
    results = [turn for turn in turns if turn.get("role") == "tool"]
    return [not str(turn.get("content") or "").lstrip().startswith(_FAILED) for turn in results]

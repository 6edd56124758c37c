"""Was a tool called, and did its calls succeed?

A completion with tools is TRL's: an assistant's message with `tool_calls`, a message of the role `tool` with the tool's
name for each of them, and so on, and the answer last. A call that failed has for its result the text of a dictionary
`{'error': …}`, which TRL writes if a tool raises, or if no tool has that name. So a tool must raise: an error that
it returns as plain text is a result like any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zero2chat.errors import UserError

_FAILED = ("{'error':", '{"error":')  # how TRL writes what a tool raised, and how JSON would


def tool_called(completions: Sequence[Any], tools: Sequence[str] | None = None, **_: Any) -> list[float]:
    """1 where a tool, of those named in `tools` if given, was called and gave a result that is no error, else 0."""
    if tools is not None and not (isinstance(tools, list | tuple) and all(isinstance(tool, str) for tool in tools)):
        raise UserError(f"tool_called: tools is {tools!r}: give a list of names")
    return [
        float(any(tools is None or name in tools for name, good in _results(turns) if good))
        for turns in map(_turns, completions)
    ]


def calls_succeeded(completions: Sequence[Any], **_: Any) -> list[float | None]:
    """1 where all calls came back without an error, else 0; None, no opinion, where nothing was called.

    A call without a result, such as one that the length limit ended, did not succeed. (A share would be raised by
    further calls that cannot fail.)
    """
    rewards: list[float | None] = []
    for turns in map(_turns, completions):
        called = sum(len(turn.get("tool_calls") or []) for turn in turns if turn.get("role") == "assistant")
        results = [good for _, good in _results(turns)]
        rewards.append(float(len(results) >= called and all(results)) if called else None)
    return rewards


def _turns(completion: str | Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    return [] if isinstance(completion, str) else completion


def _results(turns: Sequence[Mapping[str, Any]]) -> list[tuple[str, bool]]:
    """Of each result the tool's name, and whether it is no error."""
    results = [turn for turn in turns if turn.get("role") == "tool"]
    return [
        (str(turn.get("name") or ""), not str(turn.get("content") or "").lstrip().startswith(_FAILED))
        for turn in results
    ]

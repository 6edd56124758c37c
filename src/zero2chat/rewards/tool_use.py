"""Was a tool called, and did its calls succeed?

A completion with tools is TRL's: an assistant's message with `tool_calls`, a message of the role `tool` for each of
them, and so on, and the answer last. A call that failed has for its result the text of a dictionary `{'error': …}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zero2chat.errors import UserError

_FAILED = ("{'error':", '{"error":')  # how TRL writes what a tool raised, and how JSON would


def tool_called(completions: Sequence[Any], tools: Sequence[str] | None = None, **_: Any) -> list[float]:
    """1 where a tool was called, of those named in `tools` if given, else 0."""
    if tools is not None and (isinstance(tools, str) or not all(isinstance(tool, str) for tool in tools)):
        raise UserError(f"tool_called: tools is {tools!r}: give a list of names")
    called = (_calls(_turns(completion)) for completion in completions)
    return [float(any(tools is None or name in tools for name in names)) for names in called]


def calls_succeeded(completions: Sequence[Any], **_: Any) -> list[float | None]:
    """The share of calls that came back without an error; None, no opinion, where nothing was called.

    A call without a result, such as one that the length limit ended, did not succeed.
    """
    rewards: list[float | None] = []
    for turns in map(_turns, completions):
        called = len(_calls(turns))
        results = [str(turn.get("content") or "").lstrip() for turn in turns if turn.get("role") == "tool"]
        good = sum(not result.startswith(_FAILED) for result in results)
        rewards.append(min(good, called) / called if called else None)
    return rewards


def _turns(completion: str | Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    return [] if isinstance(completion, str) else completion


def _calls(turns: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of the tools that were called, in order; "" for a call that names none."""
    calls = [call for turn in turns if turn.get("role") == "assistant" for call in turn.get("tool_calls") or []]
    return [str((call.get("function") or call).get("name") or "") for call in calls]

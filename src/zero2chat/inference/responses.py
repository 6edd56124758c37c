"""Whole answers as messages: calls are read by the ids of control tokens, the rest by the response template.

For those who generate themselves and ask the tokenizer what was said, as `transformers serve` does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from transformers.utils import get_json_schema

from zero2chat.errors import UserError
from zero2chat.inference.tool_calls import Attempt, Calls
from zero2chat.inference.tool_format import CallFormat, Tools

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The response template of a tokenizer that has none.
CONTENT_ONLY: dict[str, Any] = {
    "version": 1,
    "defaults": {"role": "assistant", "content": ""},
    "start_anchor_pattern": r"\Z",  # what stands in the prompt is none of the answer
    "fields": {"content": {"content": "text"}},
}


class OfferedTools(Tools):
    """Tools that somebody else runs: known by their schemas, in OpenAI's form. Raises `UserError` for other things."""

    def __init__(self, schemas: Iterable[Any]):
        super().__init__([])
        for schema in schemas:
            function = schema.get("function") if isinstance(schema, Mapping) else None
            name = function.get("name") if isinstance(function, Mapping) else None
            if not isinstance(function, Mapping) or not isinstance(name, str):
                raise UserError("tools: expected a list of {type: function, function: {name, parameters}}")
            parameters = function.get("parameters") or {}
            names = list(parameters.get("required") or parameters.get("properties") or [])
            # What a call needs, to see one written. The schemas themselves change nothing in how calls are written.
            self._parameters[name] = {"properties": {key: {} for key in names}, "required": names}
            self.functions[name] = _elsewhere


def _elsewhere(**_: Any) -> None:
    raise RuntimeError("this tool is run by who offers it")


class AnswerReader:
    """Reads answers of a tokenizer, which may call the tools that are named with each.

    `ends`: the ids that end an answer, such as the generation config's.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, ends: Collection[int]):
        self.tokenizer, self._ends = tokenizer, ends
        self._read_text = partial(type(tokenizer).parse_response, tokenizer)  # theirs, also where ours stands in for it
        self._format = lru_cache(maxsize=64)(self._read_format)

    def format(self, tools: Sequence[Mapping[str, Any] | Callable[..., Any]] | None) -> CallFormat:
        """How calls of these tools are written. Raises `UserError` where the chat template does not write them so that
        they can be told from text."""
        return self._format(json.dumps([get_json_schema(tool) if callable(tool) else tool for tool in tools or []]))

    def _read_format(self, tools: str) -> CallFormat:
        return CallFormat(OfferedTools(json.loads(tools)), self.tokenizer, self._ends)

    def parse_response(
        self, response: Any, schema: dict[str, Any] | None = None, *, prefix: Any = None, tools: Any = None
    ) -> dict[str, Any]:
        """To stand in for the tokenizer's own, for the ids of one answer: calls that are none stay in the content.

        Sound where the other is not: text that only looks like a call is none, `search` and `python` have tokens of
        their own and names that stand nowhere in the text, and an answer that was cut inside a call is no error.
        """
        answer, kept, calls = Answer(self.format(tools)), list[int](), []
        for token in map(int, response):
            ids, call = answer.read(token)
            kept += ids
            calls += [call] if call else []
        text = self.tokenizer.decode([*kept, *answer.rest()])
        schema = schema or getattr(self.tokenizer, "response_template", None) or CONTENT_ONLY
        message: dict[str, Any] = self._read_text(text, without_calls(schema), prefix=prefix, tools=tools)
        if calls:
            message["tool_calls"] = [
                {"type": "function", "function": {"name": call.call.name, "arguments": call.arguments}}
                for call in calls
            ]
        return message


class Answer:
    """One answer, read token by token."""

    def __init__(self, written: CallFormat):
        self._calls, self._ends = Calls(written), written.ends
        self._held: list[int] = []

    def read(self, token: int) -> tuple[list[int], Attempt | None]:
        """The ids that are text now, and the call that is over; neither while a call is being written."""
        ends = token in self._ends
        attempt = self._calls.read(token, ends)
        self._held += [] if ends else [token]
        if self._calls.inside:
            return [], None
        held = self.rest()
        if attempt and not attempt.mistake and isinstance(attempt.arguments, dict):
            return [], attempt
        return held, None

    def rest(self) -> list[int]:
        """The ids of a call that was cut off."""
        held, self._held = self._held, []
        return held


def without_calls(template: Mapping[str, Any]) -> dict[str, Any]:
    """A response template that reads no calls out of a text."""
    return {**template, "fields": {name: field for name, field in template["fields"].items() if name != "tool_calls"}}

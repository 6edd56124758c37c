"""Parse complete answers into messages: calls as a chat recognizes them, the rest by the response template.

For code that generates by itself and parses with the tokenizer, as `transformers serve` does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from transformers.utils import get_json_schema

from zero2chat.core.errors import UserError
from zero2chat.inference.tool_calls import Attempt, Calls
from zero2chat.inference.tool_format import CallFormat, Tools

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MOST_CALLS = 128  # in an answer; the client has limits of its own

# Default response template for tokenizers without one.
CONTENT_ONLY: dict[str, Any] = {
    "version": 1,
    "defaults": {"role": "assistant", "content": ""},
    "start_anchor_pattern": r"\Z",  # the prompt is not part of the answer
    "fields": {"content": {"content": "text"}},
}


class OfferedTools(Tools):
    """Tools that the client runs, given by schemas in OpenAI's format. Raises `UserError` for an invalid schema."""

    def __init__(self, schemas: Iterable[Any]):
        super().__init__([], calls=_MOST_CALLS)
        for schema in schemas:
            function = schema.get("function") if isinstance(schema, Mapping) else None
            name = function.get("name") if isinstance(function, Mapping) else None
            if not isinstance(function, Mapping) or not isinstance(name, str):
                raise UserError("tools: expected a list of {type: function, function: {name, parameters}}")
            parameters = function.get("parameters") or {}
            names = list(parameters.get("required") or parameters.get("properties") or [])
            # Arguments for rendering an example call. The schemas do not affect the format of calls.
            self._parameters[name] = {"properties": {key: {} for key in names}, "required": names}
            self.functions[name] = _elsewhere


def _elsewhere(**_: Any) -> None:
    raise RuntimeError("the client runs this tool")


class AnswerReader:
    """Parses answers that may call the given tools.

    `ends`: the stop ids, such as the generation config's.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, ends: Collection[int]):
        self.tokenizer, self._ends = tokenizer, ends
        self._read_text = partial(type(tokenizer).parse_response, tokenizer)  # the original, even if replaced
        self._format = lru_cache(maxsize=64)(self._read_format)

    def format(self, tools: Sequence[Mapping[str, Any] | Callable[..., Any]] | None) -> CallFormat:
        """Return the format of calls of these tools. Raises `UserError` if the chat template does not render calls
        distinguishably from text."""
        return self._format(json.dumps([get_json_schema(tool) if callable(tool) else tool for tool in tools or []]))

    def _read_format(self, tools: str) -> CallFormat:
        return CallFormat(OfferedTools(json.loads(tools)), self.tokenizer, self._ends)

    def parse_response(
        self, response: Any, schema: dict[str, Any] | None = None, *, prefix: Any = None, tools: Any = None
    ) -> dict[str, Any]:
        """Replacement of the tokenizer's method, for the ids of one answer. Invalid calls stay in the content.

        It is safer than the original: where calls have control tokens, text that looks like a call is not one, `search`
        and `python` are recognised by their own tokens although the text does not contain their names, and an answer
        truncated inside a call is not an error.
        """
        answer, kept, calls = StreamedAnswer(self.format(tools)), list[int](), list[Attempt]()
        for token in map(int, response):
            ids, made = answer.read(token)
            kept += ids
            calls += made
        text = self.tokenizer.decode([*kept, *answer.rest()])
        schema = schema or getattr(self.tokenizer, "response_template", None) or CONTENT_ONLY
        message: dict[str, Any] = self._read_text(text, without_calls(schema), prefix=prefix, tools=tools)
        if calls:
            message["tool_calls"] = [
                {"type": "function", "function": {"name": call.call.name, "arguments": call.arguments}}
                for call in calls
            ]
        return message


class StreamedAnswer:
    """One answer, parsed token by token."""

    def __init__(self, written: CallFormat):
        self._calls, self._ends = Calls(written), written.ends
        self._done = False

    def read(self, token: int) -> tuple[list[int], list[Attempt]]:
        """Return the new text ids and the completed calls; neither while a call is being generated, nor for text after
        JSON calls."""
        ends = token in self._ends
        opened, before = self._calls.inside, len(self._calls.pending)
        text = self._calls.read(token, ends)
        made = self._calls.pending[before:]
        if self._done:
            return [], []
        if any(attempt.mistake or not isinstance(attempt.arguments, dict) for attempt in made):
            text, made = [*text, *(opened or [token])], []
            self._calls.take()
        elif self._calls.over:
            # The text that ended the turn may share a token with the last call's end.
            self._done = bool(self._calls.held) or (bool(before) and not made)
            self._calls.take()
        return text, made

    def rest(self) -> list[int]:
        """Return the ids of a truncated call."""
        ids = self._calls.rest()
        return [] if self._done else ids


def ensure_response_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Set a response template if the tokenizer has none: TRL's for its chat template, or one for the content alone.

    GRPOTrainer refuses tools without one, though its own tool loop, which reads calls with it, is replaced here.
    """
    from trl.chat_template_utils import add_response_schema  # takes seconds

    if getattr(tokenizer, "response_template", None) is None:
        try:
            add_response_schema(tokenizer)
        except ValueError:  # TRL does not know the chat template
            tokenizer.response_template = CONTENT_ONLY


def without_calls(template: Mapping[str, Any]) -> dict[str, Any]:
    """Return the response template without parsing of calls."""
    return {**template, "fields": {name: field for name, field in template["fields"].items() if name != "tool_calls"}}

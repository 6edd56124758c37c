"""Response templates, and answers that call tools which the caller, such as the server's client, runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from zero2chat.core.errors import UserError
from zero2chat.inference.session import Answering
from zero2chat.inference.tool_calls import Unfolding
from zero2chat.inference.tool_format import Tools

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


class OfferedAnswer(Answering):
    """One answer that may call offered tools. Calls end the answer, and are yielded as `Attempt`s; invalid calls are
    yielded as text, as the model wrote them."""

    def _call(self, turn: Unfolding, left: int) -> Iterator[Any]:
        if any(attempt.mistake or not isinstance(attempt.arguments, dict) for attempt in turn.attempts):
            yield turn.written_calls
        else:
            yield from turn.attempts


def ensure_response_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Set a response template if the tokenizer has none: TRL's for its chat template, or one for the content alone.

    GRPOTrainer refuses tools without a response template, although this project replaces the tool loop that needs it.
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

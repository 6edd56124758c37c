"""Tool calls within one answer: detected during generation, executed, and answered.

A call is recognised only by the ids of control tokens that the model itself generated, never by the look of a text. So
neither a user's text nor a tool's, where control tokens are neutralised on entry, can forge one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zero2chat.inference.tool_format import Call, CallFormat, Mark, ToolResult, call_message, failed, parsed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Attempt:
    """A call, or the text of an invalid call; `mistake` says why it is invalid."""

    call: Call
    arguments: Any = None
    mistake: str = ""


class Calls:
    """Reads an answer's tokens during generation, and executes the calls in them, within the tools' limits.

    `inside`: tokens of an open call, including its start token. `muted`: tokens that must not be generated any more
    because the limits are reached. An invalid call is answered with an error that the model can read.
    """

    def __init__(self, written: CallFormat | None):
        self._format = written
        self._marks: Mapping[int, Mark] = written.marks if written else {}
        self._tokens = sorted({*self._marks, *written.call_ends}) if written else []
        self._made, self._seconds = 0, 0.0
        self.inside: list[int] = []
        self.muted: list[int] = []

    def read(self, token: int, ends_turn: bool) -> Attempt | None:
        """Return the call that this token completes, if any."""
        if not self.inside and token in self._marks:
            self.inside = [token]
        elif not self.inside and token in self._tokens:
            call = Call("", self._decode([token]))
            return Attempt(call, mistake="This ends a call that was not begun.")
        elif self.inside and (token in self._tokens or ends_turn):
            start, *written = self.inside
            self.inside = []
            mistake = ""
            if ends_turn:
                mistake = "The turn ended inside the call."
            elif token != self._marks[start].end:
                mistake = "The call was not ended before the next one: write one at a time."
            return self._read(self._marks[start], self._decode(written), mistake)
        elif self.inside:
            self.inside.append(token)
        return None

    def _decode(self, ids: list[int]) -> str:
        assert self._format
        text: str = self._format.tokenizer.decode(ids)
        return text

    def _read(self, mark: Mark, text: str, mistake: str) -> Attempt:
        if mark.name:
            return Attempt(Call(mark.name, text), {mark.parameter: text}, mistake)
        call = parsed(text)
        if not (isinstance(call, dict) and isinstance(call.get("name"), str)):
            return Attempt(Call("", text), None, mistake or 'A call is a JSON object, {"name": …, "arguments": {…}}.')
        arguments = call.get("arguments")
        values = list(arguments.values()) if isinstance(arguments, dict) else []
        alone = len(values) == 1 and isinstance(values[0], str)
        shown = values[0] if alone else json.dumps(arguments, ensure_ascii=False)
        return Attempt(Call(call["name"], shown), arguments, mistake)

    def answer(self, attempt: Attempt) -> ToolResult:
        """Execute the call, or return what is wrong with it."""
        assert self._format
        tools = self._format.tools
        left = tools.seconds - self._seconds
        if self._made == tools.calls or left <= 0:
            self.muted = self._tokens
            return failed("No more calls in this turn: answer without one.")
        self._made += 1
        if attempt.mistake:
            return failed(attempt.mistake)
        begun = time.monotonic()
        result = tools.result(attempt.call.name, attempt.arguments, left)
        self._seconds += time.monotonic() - begun
        return result


class Unfolding:
    """An answer during generation: token ids that grow by the model's tokens and by the results of its calls.

    For batched generation, as `Session` is for one conversation. `prompt`: the ids before it; `room`: the maximum total
    number of ids. `mask` is 1 for tokens of the answer that the model generated, else 0. `messages`: the answer so far.
    """

    def __init__(self, prompt: list[int], tokenizer: PreTrainedTokenizerBase, written: CallFormat | None, room: int):
        self._tokenizer, self._format, self._room = tokenizer, written, room
        self._calls = Calls(written)
        self._turn = len(prompt)  # start of the text after the last call
        self.prompt, self.ids, self.mask = len(prompt), list(prompt), list[int]()
        self.messages: list[dict[str, Any]] = []
        self.made = self.failures = 0
        self.end: int | None = None  # the token that ended the turn
        self.goes_on = True

    @property
    def text(self) -> str:
        text: str = self._tokenizer.decode(self.ids[self._turn :])
        return text

    def read(self, drawn: Sequence[int], ends: Collection[int]) -> None:
        """Take the generated tokens up to the end of the turn or of a call, which is then executed."""
        self.goes_on = False
        start = len(self.ids)
        for token in drawn[: self._room - start]:
            ends_turn = token in ends
            if ends_turn and not self._calls.inside:
                self.end = token
                break
            if not self._calls.inside:
                start = len(self.ids)
            if not ends_turn:
                self.ids.append(token)
                self.mask.append(1)
            if attempt := self._calls.read(token, ends_turn):
                self._call(attempt, start)
                return
        self.messages.append({"role": "assistant", "content": self.text})

    def _call(self, attempt: Attempt, start: int) -> None:
        """Execute the call whose tokens start at `start`, and append its result if there is room."""
        said = self._tokenizer.decode(self.ids[self._turn : start])
        arguments = attempt.arguments if isinstance(attempt.arguments, dict) else {}
        self.messages.append(call_message(attempt.call.name, arguments) | {"content": said})
        self.made += 1
        if self._calls.muted or not self._format:  # no calls are allowed any more
            return
        result = self._calls.answer(attempt)
        result, ids = self._format.result(attempt.call.name, result, self._room - len(self.ids) - 1)
        self.failures += result.failed
        if ids:
            self.messages.append({"role": "tool", "name": attempt.call.name, "content": result.text})
            self.ids += ids
            self.mask += [0] * len(ids)
            self._turn = len(self.ids)
            self.goes_on = True

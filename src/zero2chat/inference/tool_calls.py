"""Tool calls within one answer: detected during generation, executed, and answered.

A call is recognised only in tokens that the model itself generated: by the ids of control tokens, or, if the tokenizer
has none for calls, by the tags of the chat template. Control tokens and tags are neutralised in the text of users and
tools on entry, so that such text cannot forge a call, and the model cannot copy a call from it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zero2chat.core.runs import cores
from zero2chat.inference.tool_format import Call, CallFormat, Mark, ToolResult, call_message, failed, parsed
from zero2chat.tools.environments import SAID_NO

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Attempt:
    """A call, or the text of an invalid call; `mistake` says why it is invalid. `allowed` is what a person said."""

    call: Call
    arguments: Any = None
    mistake: str = ""
    allowed: bool | None = None


class Calls:
    """Reads an answer's tokens during generation, and executes the calls in them, within the tools' limits.

    `inside`: tokens of an open call, including its start. `held`: tokens that are not known to be text yet: they may
    begin a call in plain text, or follow a call. `pending`: the turn's complete calls, for `take`. `over`: the turn has
    ended. `muted`: tokens that a session must not generate any more because the limits are reached; in training, a
    further call ends the answer. An invalid call is answered with an error that the model can read.

    The turn ends after an invalid call, a call of a tool with control tokens of its own, and a line. After a JSON call,
    in control tokens or plain text, further calls may follow; any other text ends the turn and is not part of it.
    """

    def __init__(self, written: CallFormat | None):
        self._format = written
        self._marks: Mapping[int, Mark] = written.marks if written else {}
        self._tokens = sorted({*self._marks, *written.call_ends}) if written else []
        self._tags = written.tags if written else None
        self._mark: Mark | None = None  # of the open call; None in plain text
        self._made, self._seconds = 0, 0.0
        self.inside: list[int] = []
        self.held: list[int] = []
        self.pending: list[Attempt] = []
        self.muted: list[int] = []
        self.over = self.spent = False

    def read(self, token: int, ends_turn: bool) -> list[int]:
        """Read a generated token, and return the ids that are now known to be text."""
        if self.inside:
            self._read_inside(token, ends_turn)
            return []
        if token in self._tokens or ends_turn:
            text, self.held = [] if self.pending else self.held, []
            if token in self._marks:
                self.inside, self._mark = [token], self._marks[token]
            elif token in self._tokens:
                call = Call("", self._decode([token]))
                self._complete([Attempt(call, mistake="This ends a call that was not begun.")], False)
            else:
                self.over = True
            return text
        self.held.append(token)
        return self._read_text()

    def _read_text(self) -> list[int]:
        """Return the held ids that are text. The rest may be, or is, the beginning of a call."""
        tags = None if self.spent else self._tags
        if not tags and not self.pending:
            text, self.held = self.held, []
            return text
        written = self._decode(self.held)
        if tags and (at := written.find(tags[0])) >= 0:
            before, whole, self.held, self._mark = written[:at], self.held, [], None
            if self.pending:
                self.over = bool(before.strip())
                before = ""
            # The token with the tag's first character may begin with other text.
            self.inside = [] if self.over else self._encode(written[at:]) if at else whole
            return self._encode(before)
        if self.pending:
            self.over = bool(written.strip()) and not (tags and tags[0].startswith(written.lstrip()))
            return []
        assert tags
        started = next((n for n in range(len(tags[0]) - 1, 0, -1) if written.endswith(tags[0][:n])), 0)
        cut = next(n for n in range(len(self.held), -1, -1) if len(self._decode(self.held[n:])) >= started)
        text, self.held = self.held[:cut], self.held[cut:]
        return text

    def _read_inside(self, token: int, ends_turn: bool) -> None:
        mark, tags = self._mark, self._tags
        written = self.inside[1:] if mark else self.inside
        broken = ends_turn or (token in self._tokens and not (mark and token == mark.end))
        mistake = "The call was not ended before the next one: write one at a time." if broken else ""
        if ends_turn:
            mistake = "The turn ended inside the call."
        text = self._decode(written) if broken or token in self._tokens else ""
        if not ends_turn:
            self.inside.append(token)
        if mark is None:
            assert tags
            if broken:
                text = text.partition(tags[0])[2]
            elif tags[1] in self._decode(self.inside[-len(tags[1]) :]):
                text, _, after = self._decode(self.inside).partition(tags[0])[2].partition(tags[1])
                self._complete(self._read(None, text, ""), True)
                if after and not self.over:  # the token with the tag's end may begin the next call
                    self.held = self._encode(after)
                    self._read_text()
                return
        if broken or (mark and token == mark.end):
            self._complete(self._read(mark, text, mistake), not (mark and mark.ends_turn))

    def _complete(self, attempts: Sequence[Attempt], more: bool) -> None:
        """Add the calls; `more`: further calls may follow."""
        assert self._format
        self.inside, self.held = [], []
        most = max(1, self._format.tools.calls + 1 - self._made)  # one too many is told that it is
        self.pending = [*self.pending, *attempts][:most]
        self.over = not more or len(self.pending) == most or any(attempt.mistake for attempt in attempts)

    def take(self) -> list[Attempt]:
        """Return the turn's calls, and expect the text after their results."""
        attempts, self.pending, self.over = self.pending, [], False
        self.inside, self.held = [], []
        return attempts

    def rest(self) -> list[int]:
        """Return the ids of a truncated call, or of its beginning: they are text, because the answer ended."""
        ids = [*self.inside, *([] if self.pending else self.held)]
        self.inside, self.held = [], []
        return ids

    def _decode(self, ids: list[int]) -> str:
        assert self._format
        text: str = self._format.tokenizer.decode(ids)
        return text

    def _encode(self, text: str) -> list[int]:
        assert self._format
        ids: list[int] = self._format.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _read(self, mark: Mark | None, text: str, mistake: str) -> list[Attempt]:
        if mark and mark.name:
            return [Attempt(Call(mark.name, text), {mark.parameter: text}, mistake)]
        assert self._format
        value: Any = self._format.tools.read_line(text) if mark and mark.is_line else parsed(text)
        calls = value if isinstance(value, list) and value else [value]
        if not all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in calls):
            mistake = mistake or 'A call is a JSON object, {"name": …, "arguments": {…}}.'
            return [Attempt(Call("", text), None, mistake)]
        return [self._attempt(call["name"], call.get("arguments"), mistake) for call in calls]

    @staticmethod
    def _attempt(name: str, arguments: Any, mistake: str) -> Attempt:
        values = list(arguments.values()) if isinstance(arguments, dict) else []
        alone = len(values) == 1 and isinstance(values[0], str)
        shown = values[0] if alone else json.dumps(arguments, ensure_ascii=False)
        return Attempt(Call(name, shown), arguments, mistake)

    def answer(self, attempt: Attempt) -> ToolResult:
        """Execute the call, or return its error."""
        assert self._format
        tools = self._format.tools
        left = tools.seconds - self._seconds
        if self._made == tools.calls or left <= 0:
            self.muted, self.spent = self._tokens, True
            return failed("No more calls in this turn: answer without one.")
        self._made += 1
        if attempt.mistake:
            return failed(attempt.mistake)
        if attempt.call.name in tools.consent and not (tools.agrees if attempt.allowed is None else attempt.allowed):
            return ToolResult(SAID_NO)
        begun = time.monotonic()
        result = tools.result(attempt.call.name, attempt.arguments, left)
        self._seconds += time.monotonic() - begun
        return result


class Unfolding:
    """An answer during generation: its token ids grow by the model's tokens and by the results of calls.

    Each turn goes in this order: `add` each token, `close`, `execute` its calls, `go_on` with their results.
    `session.Answering` does this for one conversation, `read_all` for batches. `prompt`: the number of ids before the
    answer; `limit`: the maximum total number of ids. `mask`: 1 for tokens of the answer that the model generated, else
    0. `messages`: the answer so far. `calls` reads the current turn; `attempts` are the calls of the last turn, and
    `results` their results as shown to the model.
    """

    def __init__(self, prompt: list[int], tokenizer: PreTrainedTokenizerBase, written: CallFormat | None, limit: int):
        self._tokenizer, self._format, self._limit = tokenizer, written, limit
        self.calls = Calls(written)
        self._turn = self._call_end = len(prompt)  # start of the text after the last call; end of the turn's last call
        self._text_ids: list[int] = []  # the turn's text
        self.prompt, self.ids, self.mask = len(prompt), list(prompt), list[int]()
        self.messages: list[dict[str, Any]] = []
        self.made = self.failures = 0
        self.end: int | None = None  # the token that ended the turn
        self.goes_on = True
        self.attempts: list[Attempt] = []  # to be executed before it goes on
        self.results: list[ToolResult] = []
        self.written_calls = ""  # the last turn's calls as the model wrote them

    @property
    def room(self) -> int:
        """The number of ids that may still be added."""
        return self._limit - len(self.ids)

    @property
    def text(self) -> str:
        """The text after the last call."""
        text: str = self._tokenizer.decode(self.ids[self._turn :])
        return text

    def add(self, token: int, ends_turn: bool) -> list[int]:
        """Take a generated token, and return the ids that are now known to be text."""
        made = len(self.calls.pending)
        if not ends_turn:
            self.ids.append(token)
            self.mask.append(1)
        text = self.calls.read(token, ends_turn)
        self._text_ids += text
        if len(self.calls.pending) > made:
            self._call_end = len(self.ids)
        if self.calls.over and ends_turn and not self.calls.pending:
            self.end = token
        return text

    def close(self) -> None:
        """End the turn, and append its message. Text after the turn's last call is removed."""
        self.goes_on = False
        if not self.calls.pending:
            self.messages.append({"role": "assistant", "content": self.text})
            return
        del self.mask[len(self.mask) - (len(self.ids) - self._call_end) :], self.ids[self._call_end :]
        attempts = self.calls.take()
        made = ((a.call.name, a.arguments if isinstance(a.arguments, dict) else {}) for a in attempts)
        before = self._tokenizer.decode(self._text_ids)
        self.messages.append(call_message(*made) | {"content": before})
        self.written_calls = self.text.removeprefix(before)
        self._turn = len(self.ids)
        self.made += len(attempts)
        self.attempts = [] if self.calls.spent else attempts  # no calls are allowed any more

    def execute(self) -> None:
        """Execute the turn's calls."""
        self.results = [self.calls.answer(attempt) for attempt in self.attempts]

    def go_on(self, reserved: int = 1) -> None:
        """Append the results of the turn's calls if there is room for them and `reserved` more ids."""
        attempts, self.attempts = self.attempts, []
        assert self._format
        answered = [(attempt.call.name, result) for attempt, result in zip(attempts, self.results, strict=True)]
        self.results, ids = self._format.results(answered, self.room - reserved)
        self.failures += sum(result.failed for result in self.results)
        if ids:
            for (name, _), result in zip(answered, self.results, strict=True):
                self.messages.append({"role": "tool", "name": name, "content": result.text})
            self.ids += ids
            self.mask += [0] * len(ids)
            self._turn, self._text_ids = len(self.ids), []
            self.goes_on = True


def read_all(answers: Sequence[Unfolding], outputs: Sequence[Sequence[int]], ends: Collection[int]) -> None:
    """Add to each answer its generated tokens, up to the end of the turn or its calls. Then execute the calls in
    parallel, one per core: otherwise a program that does not end would keep all others waiting until its time is up."""
    for answer, ids in zip(answers, outputs, strict=True):
        for token in ids[: answer.room]:
            answer.add(token, token in ends)
            if answer.calls.over:
                break
        answer.close()
    calling = [answer for answer in answers if answer.attempts]
    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(Unfolding.execute, calling))
    for answer in calling:
        answer.go_on()

"""A conversation with a model: append-only token ids, one KV cache, and streamed answers.

When the model calls a tool, generation pauses, the tool runs, the tool's result enters the context as a separate turn,
and generation continues.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from transformers import DynamicCache, LogitsProcessorList
from transformers.generation import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from zero2chat.core.errors import UserError
from zero2chat.inference.confidence import REFUSAL, confidence
from zero2chat.inference.next_token import SampledToken, sampled_token
from zero2chat.inference.tool_calls import Attempt, Unfolding
from zero2chat.inference.tool_format import Call, CallFormat, Consent, ToolResult, Tools, render_messages
from zero2chat.models.chat_template import training_template
from zero2chat.models.loading import context_length, end_ids
from zero2chat.models.thinking import Thinking, Thought
from zero2chat.models.tokenization import control_ids, neutral

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Sampling:
    """Sampling settings. Raises `UserError` for a value out of range."""

    temperature: float = 0.7  # 0: greedy
    top_k: int = 0  # 0: all tokens
    top_p: float = 1.0
    seed: int = 0
    max_new_tokens: int = 256
    abstain_below: float = 0.0  # decline instead of an answer of lower confidence; 0: answer always
    thinking: bool | int | None = None  # before answers, as in `models/thinking.py`

    def __post_init__(self) -> None:
        # Below 0.01 the scaled logits overflow, and sampling would be greedy anyway.
        self._check("temperature", self.temperature == 0 or 0.01 <= self.temperature < math.inf, "0, or at least 0.01")
        self._check("top_k", self.top_k >= 0, "0 (all tokens) or more")
        self._check("top_p", 0 < self.top_p <= 1, "above 0 and at most 1")
        self._check("seed", 0 <= self.seed < 2**63, "an integer of 0 or more")
        self._check("max_new_tokens", self.max_new_tokens >= 1, "1 or more")
        self._check("abstain_below", 0 <= self.abstain_below < 1, "a probability from 0 (answer all) to below 1")

    def _check(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise UserError(f"{name}: {getattr(self, name)} is out of range: set {expected}")

    def processors(self) -> LogitsProcessorList:
        """Return transformers' own warpers, in the order in which `generate` applies them."""
        warpers = LogitsProcessorList()
        if self.temperature not in (0, 1):
            warpers.append(TemperatureLogitsWarper(float(self.temperature)))
        if self.top_k:
            warpers.append(TopKLogitsWarper(self.top_k))
        if self.top_p < 1:
            warpers.append(TopPLogitsWarper(self.top_p))
        return warpers


class Answering:
    """Streams answers, token by token: the one loop of the terminal, the page and the server.

    A subclass defines what precedes an answer, and what happens at calls. If `record` is a list, it collects the
    generated tokens, and an answer yields a text, maybe empty, after each token. `length` is the last answer's number
    of tokens; `truncated` says whether a limit ended it, `empty` whether only thoughts follow its last call. With
    `abstain_below`, text is yielded only when it is final: before a call, and at the end; a record then loses the
    tokens of an answer that is declined (`declined`) or left.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        sampling: Sampling,
        written: CallFormat | None,
        ends: Collection[int],
    ):
        self.model, self.tokenizer, self.sampling = model, tokenizer, sampling
        self.thoughts = Thinking(tokenizer, sampling.thinking)
        self.record: list[SampledToken] | None = None
        self.limit, self.length, self.truncated, self.declined = context_length(model), 0, False, False
        self._format, self._ends = written, ends
        self._head: list[int] = []  # the ids before all turns
        # The name that transformers gives the cache since 5.24, and the name before it
        self._cache_name = "cache" if "cache" in signature(model.forward).parameters else "past_key_values"
        self._cache: DynamicCache | None = None
        self._settled = 0  # the number of the turn's ids that stay even if the answer is declined
        self._log_probabilities: list[float] = []  # of the tokens since the last tool result, with `abstain_below`
        self._processors = LogitsProcessorList()  # of the tokens since the last tool result
        self._reseed()

    def _reseed(self) -> None:
        # A separate generator on the CPU: the global state is unchanged, and all devices give the same samples.
        self._generator = torch.Generator().manual_seed(self.sampling.seed)

    def _make_room(self, turn: int) -> list[int]:
        """Return the ids that precede a turn of `turn` ids."""
        return []

    def _call(self, turn: Unfolding, left: int) -> Iterator[Any]:
        """Yield the turn's calls, and their results if the calls are executed. At most `left` tokens remain."""
        raise NotImplementedError

    def answer(self, prompt: list[int]) -> Iterator[Any]:
        """Stream the answer to a turn that begins with these ids: text, and what `_call` yields.

        With `abstain_below`, the model declines if the text after the last tool result is below the threshold.
        """
        self.declined = False
        if not self.sampling.abstain_below:
            yield from self._stream(prompt)
            return
        held, piece, final = "", None, ""
        try:
            for piece in self._stream(prompt):
                if isinstance(piece, str):
                    held += piece
                    if self.record is not None:
                        yield ""
                    continue
                if held:
                    yield held
                held = ""
                yield piece
            sure = isinstance(piece, Attempt) or confidence(self._log_probabilities) >= self.sampling.abstain_below
            final, self.truncated = (held, self.truncated) if sure else (self.thoughts.unthought + REFUSAL, False)
            self.declined = final != held
        finally:
            if final != held or not final:  # what was not shown is not kept
                self._turn.ids[self._settled :] = self._encode(final)
                self._cache = None
                if self.record:
                    self.record.clear()
        if final:
            yield final

    @property
    def empty(self) -> bool:
        return not self.thoughts.answer(self._turn.text).strip()

    def _stream(self, prompt: list[int]) -> Iterator[Any]:
        most, context = self.sampling.max_new_tokens, self._make_room(len(prompt))
        self._turn = turn = Unfolding(prompt, self.tokenizer, self._format, self.limit - len(self._head))
        calls, self.length = turn.calls, 0
        while turn.goes_on:
            words = _Words(self.tokenizer)
            self._settled = len(turn.ids)
            room = min(most - self.length, self.limit - len(context) - len(turn.ids))
            self._log_probabilities, self._processors = [], self.thoughts.processors(self._ends, room)
            while not calls.over and self.length < most and len(context) + len(turn.ids) < self.limit:
                token = self._next(context + turn.ids, calls.muted)
                self.length += 1
                opened, waiting, made = bool(calls.inside), len(calls.held), len(calls.pending)
                piece = words.add(turn.add(token, token in self._ends))
                if calls.inside or calls.over:
                    piece += words.rest()
                if self.record is not None and (opened or calls.inside or len(calls.pending) > made):
                    for one in self.record[-1 - (0 if opened else waiting) :]:
                        one.called = True
                if piece or (self.record is not None and not calls.held):
                    yield piece
            self.truncated = not calls.over
            if not calls.pending and (rest := words.add(calls.rest()) + words.rest()):
                yield rest
            turn.close()
            if self._cache is not None and self._cache.get_seq_length() > len(context) + len(turn.ids):
                self._cache = None  # it has some ids that followed the calls
            if turn.attempts:
                yield from self._call(turn, most - self.length)
                context = self._make_room(len(turn.ids))

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    @torch.inference_mode()
    def _next(self, ids: list[int], muted: list[int]) -> int:
        """Return the token after `ids`, never one of `muted`. The cache holds the start of `ids`."""
        cache = self._cache or DynamicCache(config=self.model.config)
        # Interrupted in the middle of a forward pass, some layers would be a token ahead of others.
        self._cache = None
        fresh = torch.tensor([ids[cache.get_seq_length() :]], device=self.model.device)
        output = self.model(input_ids=fresh, use_cache=True, logits_to_keep=1, **{self._cache_name: cache})
        self._cache = cache
        logits = output.logits[:, -1].float().cpu()
        if not logits.max().isfinite():  # sampling would fail, and greedy decoding would choose token 0
            raise UserError("the model's logits are NaN or infinite, so its weights are damaged: give another model")
        if self._processors:
            logits = self._processors(torch.tensor([ids]), logits)
        forced = bool(logits.isfinite().sum() == 1)  # the end of a budget says nothing of the model's confidence
        own = logits.log_softmax(-1) if self.sampling.abstain_below else None
        logits[:, muted] = -math.inf
        token = self._draw(logits)
        if own is not None and token not in self._ends and not forced:
            self._log_probabilities.append(float(own[0, token]))
        if self.record is not None:
            self.record.append(sampled_token(logits[0], self.tokenizer, token))
        return token

    def _draw(self, logits: Any) -> int:
        if self.sampling.temperature == 0:
            return int(logits.argmax())
        warped = self.sampling.processors()(torch.empty(1, 0, dtype=torch.long), logits)
        return int(torch.multinomial(warped.softmax(-1), 1, generator=self._generator))


@dataclass
class Turn:
    """A question and its answer, without calls. `ids` are all tokens, with calls, results, headers and end tokens."""

    user: str
    assistant: str
    ids: list[int]


class Session(Answering):
    """A conversation with memory. `dropped` counts old turns removed to fit the context.

    The chat template, or TRL's training version of it, must render earlier turns independently of later ones. With
    tools, `CallFormat` must be able to read its calls. Raises `UserError` if the tokenizer has no such template.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        sampling: Sampling | None = None,
        system: str | None = None,
        tools: Tools | None = None,
    ):
        super().__init__(model, tokenizer, sampling or Sampling(), None, end_ids(model, tokenizer))
        self.tools = tools
        self._template: str | None = None  # the tokenizer's own
        self._read_template(system)
        self.reset()

    def reset(self) -> None:
        """Forget the conversation, keep the system prompt, and reset the random state."""
        self.turns: list[Turn] = []
        self.dropped = 0
        self._cache = None
        self._reseed()

    # ---- from messages to ids

    def _render(self, messages: list[dict[str, Any]], header: bool = False) -> str:
        options = self.thoughts.options
        return render_messages(self.tokenizer, messages, self.tools, header, self._template, options)

    def _read_template(self, system: str | None) -> None:
        """Find the ids before the first turn and the stop ids by rendering a conversation."""
        if not self.tokenizer.chat_template:
            raise UserError("the model has no chat template: use a model trained to chat, such as an sft step's")
        self._example = [{"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}]
        if system:
            self._example.insert(0, {"role": "system", "content": neutral(system, self.tokenizer)})
        try:
            self._turn_text("")
        except UserError:
            # Qwen3's own template drops reasoning from earlier turns, and TRL's training version keeps it.
            self._template = training_template(self.tokenizer)
        rendered = self._render(self._example)
        before_turns = rendered.find(self._turn_text("question", header=False))
        if before_turns < 0:
            raise UserError("the model's chat template renders a turn differently when another turn follows")
        self._head = self._encode(rendered[:before_turns])
        self._closing = self._encode(rendered[rendered.rindex("answer") + len("answer") :])
        # If the model starts another role's turn, such as a tool's, its own turn has ended.
        control = control_ids(self.tokenizer)
        self._ends = {*self._ends, *control.intersection(self._encode(self._turn_text("", header=False)))}
        options = self.thoughts.options
        self._format = CallFormat(self.tools, self.tokenizer, self._ends, options) if self.tools else None
        if self._format:
            self._ends = self._format.ends

    def _turn_text(self, user: str, header: bool = True) -> str:
        before = self._render(self._example)
        after = self._render([*self._example, {"role": "user", "content": user}], header)
        if not after.startswith(before):
            raise UserError("the model's chat template rewrites earlier turns when another turn follows")
        return after[len(before) :]

    # ---- answering

    def reply(self, text: str) -> Iterator[str | Call | Consent | ToolResult]:
        """Send a message and stream the answer: pieces of text, of which some are `Thought`s, each call before its tool
        runs, and the result that the model sees. Some calls are followed by a `Consent`, which the caller answers. If
        the caller stops early, the streamed part stays in the history.

        Raises `UserError` at once if the message can never fit; the history is then unchanged.
        """
        prompt = self._encode(self._turn_text(neutral(text, self.tokenizer)))
        if len(self._head) + len(prompt) >= self.limit:
            system = f" and the system prompt {len(self._head)}" if self._head else ""
            raise UserError(
                f"the message has {len(prompt)} tokens{system}, over the model's context of {self.limit}: shorten it"
            )
        return self._answer(text, prompt)

    def _answer(self, text: str, prompt: list[int]) -> Iterator[str | Call | Consent | ToolResult]:
        answer, answering = "", self.answer(prompt)
        try:
            for piece in self.thoughts.fold(answering):
                answer += piece if isinstance(piece, str) and not isinstance(piece, Thought) else ""
                yield piece
        finally:
            answering.close()  # type: ignore[attr-defined]
            self.turns.append(Turn(text, answer, self._turn.ids + self._closing))

    def _call(self, turn: Unfolding, left: int) -> Iterator[Call | Consent | ToolResult]:
        """Execute the calls. Results are truncated so that a quarter of the context is left for the answer, or less if
        many calls may follow."""
        assert self.tools
        for i, attempt in enumerate(turn.attempts):
            yield attempt.call
            if attempt.call.name in self.tools.consent and not attempt.mistake:
                yield (question := Consent(attempt.call))
                turn.attempts[i] = replace(attempt, allowed=question.allowed)
        turn.execute()
        turn.go_on(min(left, self.limit // max(4, self.tools.calls)))
        self._make_room(len(turn.ids))
        yield from turn.results

    def _context(self) -> list[int]:
        return [*self._head, *(token for turn in self.turns for token in turn.ids)]

    def _make_room(self, turn: int) -> list[int]:
        """Drop the oldest turns until `turn` ids fit and a quarter of the context is left for the answer.

        (Less than a quarter if `max_new_tokens` is lower, or if the message alone leaves less.)
        """
        answer = min(self.sampling.max_new_tokens, self.limit // 4)
        while self.turns and len(self._context()) + turn + answer > self.limit:
            self.turns.pop(0)
            self.dropped += 1
            # Every later token moves to another position.
            self._cache = None
        return self._context()


class _Words:
    """Decodes a stream of tokens to text, holding back a character until all of its bytes have arrived."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._shown = 0

    def add(self, tokens: list[int]) -> str:
        """Add tokens, and return the text that became readable."""
        self._ids += tokens
        # While the last character's bytes are not all there, it decodes to U+FFFD.
        return self._new(self._tokenizer.decode(self._ids).rstrip("\ufffd"))

    def rest(self) -> str:
        """Return the remaining text, even if it is incomplete."""
        return self._new(self._tokenizer.decode(self._ids))

    def _new(self, text: str) -> str:
        piece = text[self._shown :]
        self._shown += len(piece)
        return piece

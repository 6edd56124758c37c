"""A conversation with a model: append-only token ids, one KV cache, and streamed answers.

When the model calls a tool, generation pauses, the tool runs, its result is added to the context as a separate turn,
and generation continues.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass, fields, replace
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from transformers import DynamicCache, LogitsProcessorList
from transformers.generation import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from zero2chat.core.errors import UserError, nearest
from zero2chat.inference.confidence import REFUSAL, check_threshold, confidence
from zero2chat.inference.next_token import Drawn, as_drawn
from zero2chat.inference.tool_calls import Calls
from zero2chat.inference.tool_format import Call, CallFormat, ToolResult, Tools, render_messages
from zero2chat.models.chat_template import training_template
from zero2chat.models.loading import context_length, end_ids
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

    def __post_init__(self) -> None:
        # Below 0.01 the scaled logits overflow, and sampling would be greedy anyway.
        self._check("temperature", self.temperature == 0 or 0.01 <= self.temperature < math.inf, "0, or at least 0.01")
        self._check("top_k", self.top_k >= 0, "0 (all tokens) or more")
        self._check("top_p", 0 < self.top_p <= 1, "above 0 and at most 1")
        self._check("seed", 0 <= self.seed < 2**63, "an integer of 0 or more")
        self._check("max_new_tokens", self.max_new_tokens >= 1, "1 or more")
        check_threshold(self.abstain_below)

    def _check(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise UserError(f"{name}: {getattr(self, name)} is out of range: give {expected}")

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


@dataclass
class Turn:
    """A question and its answer, without calls. `ids` are all tokens, with calls, results, headers and end tokens."""

    user: str
    assistant: str
    ids: list[int]


class Session:
    """A conversation with memory. `dropped` counts old turns removed to fit the context. If `record` is a list, each
    generated token is added to it, and `reply` yields after each token, maybe an empty text. With `abstain_below`,
    `reply` yields text only when it is final: before a call, and at the end.

    Works with any chat template that renders earlier turns independently of later ones, or whose training version by
    TRL does; with tools, calls must be as `CallFormat` reads them. Raises `UserError` if the tokenizer has no such
    template.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        sampling: Sampling | None = None,
        system: str | None = None,
        tools: Tools | None = None,
    ):
        self.model = model
        self.tokenizer = tokenizer
        self.sampling = sampling or Sampling()
        self.tools = tools
        self.record: list[Drawn] | None = None
        self.limit = context_length(model)
        self._template: str | None = None  # the tokenizer's own
        self._ends = end_ids(model, tokenizer)
        # The name that transformers gives the cache since 5.24, and the name before it
        self._cache_name = "cache" if "cache" in signature(model.forward).parameters else "past_key_values"
        self._log_probabilities: list[float] = []  # of the tokens since the last tool result, with `abstain_below`
        self._read_template(system)
        self.reset()

    def reset(self) -> None:
        """Forget the conversation, keep the system prompt, and reset the random state."""
        self.turns: list[Turn] = []
        self.dropped = 0
        self._cache: DynamicCache | None = None
        self._reseed()

    def set(self, name: str, value: str | float) -> None:
        """Change one field of the sampling. Raises `UserError` for an unknown name or value."""
        kinds = {field.name: type(getattr(self.sampling, field.name)) for field in fields(Sampling)}
        if name not in kinds:
            raise UserError(f"no setting '{name}'{nearest(name, list(kinds))}")
        try:
            converted = kinds[name](value)
        except (ValueError, OverflowError):
            kind = "an integer" if kinds[name] is int else "a number"
            raise UserError(f"{name}: expected {kind}, got '{value}'") from None
        self.sampling = replace(self.sampling, **{name: converted})
        if name == "seed":
            self._reseed()

    def _reseed(self) -> None:
        # A separate generator on the CPU: the global state is unchanged, and all devices give the same samples.
        self._generator = torch.Generator().manual_seed(self.sampling.seed)

    # ---- from messages to ids

    def _render(self, messages: list[dict[str, Any]], header: bool = False) -> str:
        return render_messages(self.tokenizer, messages, self.tools, header, self._template)

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _read_template(self, system: str | None) -> None:
        """Find the ids before the first turn and the stop ids by rendering a conversation."""
        if not self.tokenizer.chat_template:
            raise UserError("the model has no chat template: use one that was trained to chat, such as an sft step's")
        self._example = [{"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}]
        if system:
            self._example.insert(0, {"role": "system", "content": neutral(system, self.tokenizer)})
        try:
            self._turn_text("")
        except UserError:
            # Qwen3's own template drops thoughts from earlier turns, and TRL's training version keeps them.
            self._template = training_template(self.tokenizer)
        rendered = self._render(self._example)
        before_turns = rendered.find(self._turn_text("question", header=False))
        if before_turns < 0:
            raise UserError("the model's chat template renders a turn differently when another turn follows")
        self._head = self._encode(rendered[:before_turns])
        self._closing = self._encode(rendered[rendered.rindex("answer") + len("answer") :])
        # If the model starts another role's turn, such as a tool's, its own turn has ended.
        control = control_ids(self.tokenizer)
        self._ends |= control.intersection(self._encode(self._turn_text("", header=False)))
        self._format = CallFormat(self.tools, self.tokenizer, self._ends) if self.tools else None
        if self._format:
            self._ends = self._format.ends

    def _turn_text(self, user: str, header: bool = True) -> str:
        before = self._render(self._example)
        after = self._render([*self._example, {"role": "user", "content": user}], header)
        if not after.startswith(before):
            raise UserError("the model's chat template rewrites earlier turns when another turn follows")
        return after[len(before) :]

    # ---- answering

    def reply(self, text: str) -> Iterator[str | Call | ToolResult]:
        """Ask, and stream the answer: pieces of text, each call before its tool runs, and the result that the model
        sees. Without tools everything is text. If the caller stops early, the streamed part stays in the history.

        Raises `UserError`, at once and with the history unchanged, for a message that can never fit.
        """
        prompt = self._encode(self._turn_text(neutral(text, self.tokenizer)))
        if len(self._head) + len(prompt) >= self.limit:
            system = f" and the system prompt {len(self._head)}" if self._head else ""
            raise UserError(
                f"the message has {len(prompt)} tokens{system}, over the model's context of {self.limit}: shorten it"
            )
        return self._confident(text, prompt) if self.sampling.abstain_below else self._answer(text, prompt)

    def _confident(self, text: str, prompt: list[int]) -> Iterator[str | Call | ToolResult]:
        """Answer as `_answer` does, but decline if the text after the last tool result is below the threshold."""
        threshold, answering = self.sampling.abstain_below, self._answer(text, prompt)
        told, held, complete, confident = "", "", False, False
        try:
            for piece in answering:
                if isinstance(piece, str):
                    held += piece
                    continue
                if held:
                    yield held
                told, held = told + held, ""
                yield piece
            complete, confident = True, confidence(self._log_probabilities) >= threshold
        finally:
            answering.close()  # its turn is in the history from now on
            if not confident:  # what was not shown is not kept
                turn, said = self.turns[-1], REFUSAL if complete else ""
                turn.assistant = told + said
                turn.ids = turn.ids[: self._settled] + self._encode(said) + self._closing
                self._cache = None
        if said := held if confident else REFUSAL:
            yield said

    def _answer(self, text: str, prompt: list[int]) -> Generator[str | Call | ToolResult, None, None]:
        self._make_room(len(prompt))
        context, turn, drawn = self._context(), Turn(text, "", list(prompt)), 0
        told, calls, kept = _Words(self.tokenizer), Calls(self._format), 0
        self._settle(turn)
        try:
            while drawn < self.sampling.max_new_tokens and len(context) + len(turn.ids) < self.limit:
                token = self._next(context + turn.ids, calls.muted)
                drawn += 1
                ends, opened = token in self._ends, bool(calls.inside)
                waiting, made = len(calls.held), len(calls.pending)
                if not ends:
                    turn.ids.append(token)
                piece = "".join(map(told.add, calls.read(token, ends)))
                if len(calls.pending) > made:
                    kept = len(turn.ids)  # what follows the last call is not part of the turn
                if calls.over and not calls.pending:
                    turn.assistant += piece
                    if piece:
                        yield piece
                    break
                if calls.inside or calls.over:
                    piece += told.rest()
                if self.record is not None and (opened or calls.inside or len(calls.pending) > made):
                    for one in self.record[-1 - (0 if opened else waiting) :]:
                        one.called = True
                if piece or (self.record is not None and not calls.held):
                    turn.assistant += piece
                    yield piece
                last = drawn == self.sampling.max_new_tokens or len(context) + len(turn.ids) >= self.limit
                if calls.over or (calls.pending and last):
                    self._end_turn(turn, kept, len(context))
                    answered = []
                    for attempt in calls.take():
                        yield attempt.call
                        answered.append((attempt.call.name, calls.answer(attempt)))
                    results, ids = self._fit(answered, len(turn.ids), drawn)
                    if not ids:
                        yield from results
                        break
                    self._make_room(len(turn.ids) + len(ids))
                    context = self._context()
                    turn.ids += ids
                    self._settle(turn)
                    yield from results
                    told = _Words(self.tokenizer)
            if rest := "".join(map(told.add, calls.rest())) + told.rest():
                turn.assistant += rest
                yield rest
        finally:
            turn.ids += self._closing
            self.turns.append(turn)

    def _settle(self, turn: Turn) -> None:
        """Begin the text whose confidence decides: the ids so far stay in the turn even if the model declines."""
        self._settled = len(turn.ids)
        self._log_probabilities = []

    def _end_turn(self, turn: Turn, end: int, context: int) -> None:
        """Remove the turn's ids from `end` on, which follow its calls. `context` is the number of ids before it."""
        del turn.ids[end:]
        if self._cache is not None and self._cache.get_seq_length() > context + end:
            self._cache = None  # it has some of them

    def _fit(self, answered: list[tuple[str, ToolResult]], used: int, drawn: int) -> tuple[list[ToolResult], list[int]]:
        """Return the results, truncated so that a quarter of the context is left for the answer, and their ids."""
        assert self._format
        answer = min(self.sampling.max_new_tokens - drawn, self.limit // 4)
        return self._format.results(answered, self.limit - len(self._head) - used - answer)

    def _context(self) -> list[int]:
        return [*self._head, *(token for turn in self.turns for token in turn.ids)]

    def _make_room(self, turn: int) -> None:
        """Drop the oldest turns until `n` tokens fit and a quarter of the context is left for the answer.

        (Less than a quarter if `max_new_tokens` is lower, or if the message alone leaves less.)
        """
        answer = min(self.sampling.max_new_tokens, self.limit // 4)
        while self.turns and len(self._context()) + turn + answer > self.limit:
            self.turns.pop(0)
            self.dropped += 1
            # Every later token moves to another position.
            self._cache = None

    @torch.inference_mode()
    def _next(self, ids: list[int], muted: list[int]) -> int:
        """Return the next token after `ids`, whose beginning is already in the cache; never a muted one."""
        cache = self._cache or DynamicCache(config=self.model.config)
        # Interrupted in the middle of a forward pass, some layers would be a token ahead of others.
        self._cache = None
        fresh = torch.tensor([ids[cache.get_seq_length() :]], device=self.model.device)
        output = self.model(input_ids=fresh, use_cache=True, logits_to_keep=1, **{self._cache_name: cache})
        self._cache = cache
        logits = output.logits[:, -1].float().cpu()
        own = logits.log_softmax(-1) if self.sampling.abstain_below else None
        logits[:, muted] = -math.inf
        token = self._draw(logits)
        if own is not None and token not in self._ends:
            self._log_probabilities.append(float(own[0, token]))
        if self.record is not None:
            self.record.append(as_drawn(logits[0], self.tokenizer, token))
        return token

    def _draw(self, logits: Any) -> int:
        if self.sampling.temperature == 0:
            return int(logits.argmax())
        warped = self.sampling.processors()(torch.empty(1, 0, dtype=torch.long), logits)
        return int(torch.multinomial(warped.softmax(-1), 1, generator=self._generator))


class _Words:
    """Decodes a stream of tokens to text, holding back a character until all of its bytes have arrived."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._shown = 0

    def add(self, token: int) -> str:
        """Add a token, and return the text that became readable."""
        self._ids.append(token)
        # While the last character's bytes are not all there, it decodes to U+FFFD.
        return self._new(self._tokenizer.decode(self._ids).rstrip("\ufffd"))

    def rest(self) -> str:
        """Return the remaining text, even if it is incomplete."""
        return self._new(self._tokenizer.decode(self._ids))

    def _new(self, text: str) -> str:
        piece = text[self._shown :]
        self._shown += len(piece)
        return piece

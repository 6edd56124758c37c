"""Thoughts: what a model writes between `<think>` and `</think>` before its answer. As in Qwen3 (Yang et al. 2025,
arXiv:2505.09388, section 4.3), a template's variable `enable_thinking` switches them, and a budget ends them.

`thinking` is None (as the template has it), True, False (no thought), or the budget: the most tokens of a thought.

A thought is no answer. So a turn that the model ends within its thought does not end there: the end closes the thought,
and the model goes on to its answer. Training samples what the policy itself says: there such a turn has no answer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jinja2 import TemplateError
from transformers import LogitsProcessor, LogitsProcessorList

from zero2chat.core.errors import UserError
from zero2chat.models.tokenization import THINK_END, THINK_START

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_QUESTION = [{"role": "user", "content": "a"}]
_LARGEST = 1 << 30


class Thought(str):
    """A piece of a thought, in a stream of pieces of an answer."""


class Thinking:
    """How a model's template writes thoughts, and how `thinking` limits them.

    `thinks`: whether the template can write thoughts; otherwise a text that looks like a thought is text. `opened`: the
    prompt ends inside a thought. `options`: what the chat template must get. `unthought`: the tokens, as text, before
    an answer without a thought.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        thinking: bool | int | None = None,
        template: Mapping[str, Any] | None = None,
    ):
        """`template` has more options of the chat template. Raises `UserError` if a budget is out of range, or if a
        model that does not think is asked to."""
        budget = None if thinking is None or isinstance(thinking, bool) else thinking
        if budget is not None and not 1 <= budget <= _LARGEST:
            raise UserError(f"thinking: expected on, off or a number of tokens of 1 or more, got {budget}")
        added = tokenizer.get_added_vocab()
        self._start, self._end = added.get(THINK_START), added.get(THINK_END)
        can = self._start is not None and self._end is not None and bool(tokenizer.chat_template)
        given = dict(template or {})
        on, off = (_header(tokenizer, given | {"enable_thinking": yes}) if can else "" for yes in (True, False))
        switches = on != off
        self.thinks = switches or on.rstrip().endswith(THINK_START)
        if thinking and not self.thinks:
            raise UserError("thinking: this model does not think: set it to off, or leave it out")
        self.options = ({"enable_thinking": bool(thinking)} if switches and thinking is not None else {}) | given
        header = _header(tokenizer, self.options) if self.thinks else ""
        self.opened = header.rstrip().endswith(THINK_START)
        written = header.rstrip().endswith(THINK_END)  # an empty thought
        self.unthought = THINK_END if self.opened else "" if written or not self.thinks else THINK_START + THINK_END
        self._budget = 0 if self.opened and thinking is False else budget  # a template without a switch
        # Qwen3 and others write the tags on lines of their own.
        closing = f"\n{THINK_END}" if f"{THINK_START}\n" in off + header else THINK_END
        self._close: list[int] = tokenizer.encode(closing, add_special_tokens=False) if self.thinks else []

    def processors(self, ends: Collection[int], room: int) -> LogitsProcessorList:
        """Return what ends thoughts in one call of `generate` of at most `room` tokens. `ends` end a turn. A thought
        has at most three quarters of the room, and leaves a token for the answer."""
        if not self.thinks:
            return LogitsProcessorList()
        most = max(0, min(room * 3 // 4, room - len(self._close) - 2))
        budget = most if self._budget is None else min(self._budget, most)
        return LogitsProcessorList([EndThoughts(self._start, self._end, self._close, budget, self.opened, ends)])

    def tokens(self, ids: Sequence[int], mask: Sequence[int]) -> int:
        """Return the number of tokens in an answer's thoughts. `mask` is 1 for tokens that the model generated: other
        tokens are results of calls, after which it thinks again."""
        count, inside = 0, self.opened
        for token, own in zip(ids, mask, strict=True) if self.thinks else ():
            inside = ((inside or token == self._start) and token != self._end) if own else self.opened
            count += own and inside and token != self._start
        return count

    def fold(self, pieces: Iterable[Any]) -> Iterator[Any]:
        """Yield the pieces of a stream with thoughts as `Thought`s, without their tags."""
        inside = self.opened
        for piece in pieces:
            if not self.thinks or not isinstance(piece, str):  # after a call and its result it thinks again
                inside = self.opened
                yield piece
                continue
            if not piece:  # a token without text yet
                yield piece
            while piece:
                part, tag, piece = piece.partition(THINK_END if inside else THINK_START)
                if part or tag:
                    yield Thought(part) if inside else part
                inside ^= bool(tag)

    def answer(self, text: str) -> str:
        """Return a text without its thoughts."""
        return "".join(piece for piece in self.fold([text]) if not isinstance(piece, Thought))


def _header(tokenizer: PreTrainedTokenizerBase, options: Mapping[str, Any]) -> str:
    """Return a question up to where its answer begins."""
    try:
        text = tokenizer.apply_chat_template(_QUESTION, tokenize=False, add_generation_prompt=True, **options)
    except (TemplateError, TypeError):  # a template that needs other turns
        return ""
    return str(text)


class EndThoughts(LogitsProcessor):
    """Ends each thought after `budget` tokens: the next tokens can only be `close`, whose last token is `end`. Within a
    thought, `end` also has the probability of the tokens `turn_ends`. Only tokens after those of the first call, the
    prompt, count. `opened`: the prompt ends inside a thought."""

    def __init__(
        self,
        start: int | None,
        end: int | None,
        close: Sequence[int],
        budget: int,
        opened: bool,
        turn_ends: Collection[int],
    ):
        assert end is not None
        self._start, self._end, self._close, self._budget, self._opened = start, end, close, budget, opened
        self._turn_ends = sorted({*turn_ends} - {end})
        self._prompt: int | None = None  # its length, with padding

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """`input_ids`: (rows, length), with the prompts; `scores`: (rows, vocabulary)."""
        self._prompt = input_ids.shape[1] if self._prompt is None else self._prompt
        new = input_ids[:, self._prompt :]
        length = new.shape[1]
        places = torch.arange(1, length + 1, device=new.device)
        none = torch.zeros(len(new), dtype=torch.long, device=new.device)
        # The place of the last tag in each row; 0 if there is none
        begun, ended = (((new == tag) * places).amax(1) if length else none for tag in (self._start, self._end))
        inside = (begun > ended) | (self._opened & (begun == 0) & (ended == 0))
        thinking = inside.nonzero()  # (rows that think, 1)
        scores[thinking, self._end] = scores[thinking, [[self._end, *self._turn_ends]]].logsumexp(1, keepdim=True)
        scores[thinking, self._turn_ends] = -torch.inf
        over = length - begun - self._budget  # how many tokens of `close` are written already
        for row in (inside & (over >= 0)).nonzero()[:, 0].tolist():
            token = self._close[min(int(over[row]), len(self._close) - 1)]
            scores[row, :] = -torch.inf
            scores[row, token] = 0.0
        return scores

"""An answer as HTML: its tokens, coloured by probability and each with its alternatives; its calls and their results.

What a model, a tool or a user wrote is hostile: here, and nowhere else on the page, it becomes markup.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from zero2chat.inference.tool_format import Call, ToolResult
from zero2chat.models.tokenization import control_ids, token_bytes, visible
from zero2chat.text import SPACES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from zero2chat.inference.next_token import Drawn, NextToken

# A token's colour: the first class whose probability is not above its own. The legend says the same.
SHADES = ((0.9, "s0", "≥ 90%"), (0.5, "s1", "≥ 50%"), (0.2, "s2", "≥ 20%"), (0.05, "s3", "≥ 5%"), (0.0, "s4", "less"))


def text(shown: str) -> str:
    """Any text, to stand between tags or in an attribute; control characters become their escapes."""
    return escape(visible(shown, keep=SPACES))


class Alphabet:
    """The bytes of a tokenizer's tokens, and which of them are control tokens. Raises `UserError` where the tokenizer
    is no byte-level BPE."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.bytes = token_bytes(tokenizer)
        self.control = control_ids(tokenizer)


class Answer:
    """An answer that grows: `html` is what there is of it by now."""

    def __init__(self, alphabet: Alphabet):
        self._alphabet = alphabet
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._parts: list[str] = []
        self._block = ""  # that is open

    @property
    def html(self) -> str:
        return "".join(self._parts) + self._end

    def add(self, drawn: Drawn) -> None:
        """A token. Those of a call stand together in a block."""
        self._enter("called" if drawn.called else "said")
        token = drawn.token
        if token.id in self._alphabet.control:
            label, kind = text(token.text), "control"
        else:
            # A part of a character is a dot, until its last part makes it whole.
            characters = self._decoder.decode(self._alphabet.bytes[token.id])
            label, kind = text(characters).replace("\n", "<i>↵</i>\n") or "<i>·</i>", _shade(token.probability)
        self._parts.append(f'<span class="token {kind}" data-drawn="{text(_told(drawn))}">{label}</span>')

    def close(self, piece: Call | ToolResult) -> None:
        """A call is over; what the tool said of it."""
        if isinstance(piece, Call):
            self._enter("")
        else:
            head = "error" if piece.failed else "result"
            self._parts.append(f'<div class="result {head}"><b>{head}</b>{text(piece.text)}</div>')

    @property
    def _end(self) -> str:
        return "</div>" if self._block else ""

    def _enter(self, block: str) -> None:
        if block != self._block:
            self._parts += [self._end, f'<div class="{block}">' if block else ""]
            self._block = block
            self._decoder.reset()


def _shade(probability: float) -> str:
    return next(name for least, name, _ in SHADES if probability >= least)


def _told(drawn: Drawn) -> str:
    """For the page's script: the token that was drawn, and then the likeliest ones."""
    rows: Sequence[NextToken] = [drawn.token, *drawn.likeliest]
    return json.dumps([[row.id, row.text, round(row.probability, 4)] for row in rows], ensure_ascii=False)

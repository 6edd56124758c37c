"""Render an answer as HTML: tokens coloured by probability, with their alternatives; tool calls and results.

Text from a model, a tool or a user is untrusted. Only this module turns it into markup.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from zero2chat.core.text import SPACES
from zero2chat.inference.tool_format import Call, ToolResult
from zero2chat.models.tokenization import control_ids, token_bytes, visible

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from zero2chat.inference.next_token import Drawn, NextToken

# A token's colour is the first class whose threshold is at most its probability. The legend shows the same classes.
SHADES = ((0.9, "s0", "≥ 90%"), (0.5, "s1", "≥ 50%"), (0.2, "s2", "≥ 20%"), (0.05, "s3", "≥ 5%"), (0.0, "s4", "less"))


def text(shown: str) -> str:
    """Escape any text for HTML content or an attribute; control characters become visible escapes."""
    return escape(visible(shown, keep=SPACES))


class Alphabet:
    """The bytes of a tokenizer's tokens, and its control tokens. Raises `UserError` if the tokenizer is not a
    byte-level BPE."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.bytes = token_bytes(tokenizer)
        self.control = control_ids(tokenizer)


class AnswerMarkup:
    """An answer during generation: `html` is its current markup."""

    def __init__(self, alphabet: Alphabet):
        self._alphabet = alphabet
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._parts: list[str] = []
        self._block = ""  # the open block

    @property
    def html(self) -> str:
        return "".join(self._parts) + self._end

    def add(self, drawn: Drawn) -> None:
        """Add a token. Tokens of a call are grouped in a block."""
        self._enter("called" if drawn.called else "said")
        token = drawn.token
        if token.id in self._alphabet.control:
            label, kind = text(token.text), "control"
        else:
            # A partial character is shown as a dot until its last token completes it.
            characters = self._decoder.decode(self._alphabet.bytes[token.id])
            label, kind = text(characters).replace("\n", "<i>↵</i>\n") or "<i>·</i>", _shade(token.probability)
        self._parts.append(f'<span class="token {kind}" data-drawn="{text(_told(drawn))}">{label}</span>')

    def close(self, piece: Call | ToolResult) -> None:
        """Close a call's block, or add a tool's result."""
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
    """Return data for the page's script: the sampled token, then the most likely ones."""
    rows: Sequence[NextToken] = [drawn.token, *drawn.likeliest]
    return json.dumps([[row.id, row.text, round(row.probability, 4)] for row in rows], ensure_ascii=False)

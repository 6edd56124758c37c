"""Render an answer as HTML: tokens coloured by probability, with alternatives, and tool calls with results.

Text from a model, a tool or a user is untrusted. Only this module turns it into markup.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Collection, Sequence
from html import escape
from typing import TYPE_CHECKING

from zero2chat.core.text import SPACES
from zero2chat.inference.tool_format import Call, ToolResult
from zero2chat.models.tokenization import THINK_END, THINK_START, visible

if TYPE_CHECKING:
    from zero2chat.inference.next_token import SampledToken
    from zero2chat.models.thinking import Thinking

# A token's colour is the first class whose threshold is at most its probability. The legend shows the same classes.
SHADES = ((0.9, "s0", "≥ 90%"), (0.5, "s1", "≥ 50%"), (0.2, "s2", "≥ 20%"), (0.05, "s3", "≥ 5%"), (0.0, "s4", "less"))

# The first and last tags of blocks. Others are a `div`. A thought is folded.
_OPEN = {"": "", "thought": '<details class="thought"><summary>thought</summary>'}
_CLOSE = {"": "", "thought": "</details>"}


def text(shown: str) -> str:
    """Escape a text for HTML content or an attribute. Control characters become visible escapes."""
    return escape(visible(shown, keep=SPACES))


class AnswerMarkup:
    """An answer that is being generated: `html` is the current markup.

    `token_bytes` has the bytes of each token, by id. `control` has the ids of control tokens. `thoughts` says how the
    model thinks.
    """

    def __init__(self, token_bytes: Sequence[bytes], control: Collection[int], thoughts: Thinking):
        self._bytes, self._control, self._thoughts = token_bytes, control, thoughts
        self._inside = thoughts.opened  # a thought
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._parts: list[str] = []
        self._block = ""  # the open block
        self._stop = 0  # 0 for the first token of a block, where the Tab key stops; -1 for others

    @property
    def html(self) -> str:
        return "".join(self._parts) + _CLOSE.get(self._block, "</div>")

    def take(
        self, record: list[SampledToken] | None, piece: str | Call | ToolResult | None, declined: bool = False
    ) -> None:
        """Add the tokens of a session's record, then the `piece` that the session yielded. Empties the record. If the
        session declined, the piece was not generated and has no tokens."""
        while record:
            self._add(record.pop(0))
        if declined and isinstance(piece, str):
            self._enter("said")
            self._parts.append(text(piece))
        elif isinstance(piece, Call):
            self._enter("")
        elif isinstance(piece, ToolResult):
            self._inside = self._thoughts.opened
            head = "error" if piece.failed else "result"
            self._parts.append(f'<div class="result {head}"><b>{head}</b>{text(piece.text)}</div>')

    def _add(self, sample: SampledToken) -> None:
        """Add a token. Tokens of a call are grouped in a block."""
        token = sample.token
        tag = token.text if self._thoughts.thinks and token.id in self._control else ""
        self._inside |= tag == THINK_START
        self._enter("called" if sample.called else "thought" if self._inside else "said")
        self._inside &= tag != THINK_END
        if token.id in self._control:
            label, kind = text(token.text), "control"
        else:
            # A partial character is shown as a dot until its last token completes it.
            label = text(self._decoder.decode(self._bytes[token.id])).replace("\n", "<i>↵</i>\n") or "<i>·</i>"
            kind = next(name for least, name, _ in SHADES if token.probability >= least)
        # For the page's script: the sampled token, then the most likely ones.
        rows = [[row.id, row.text, round(row.probability, 4)] for row in (token, *sample.likeliest)]
        alternatives = text(json.dumps(rows, ensure_ascii=False))
        mark = f'class="token {kind}" role="button" tabindex="{self._stop}" data-drawn="{alternatives}"'
        self._parts.append(f"<span {mark}>{label}</span>")
        self._stop = -1

    def _enter(self, block: str) -> None:
        if block != self._block:
            self._parts.append(_CLOSE.get(self._block, "</div>") + _OPEN.get(block, f'<div class="{block}">'))
            self._block, self._stop = block, 0
            self._decoder.reset()

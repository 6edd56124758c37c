"""The tokenizer's section: coloured tokens, and the length of a text in bits, bytes and tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zero2chat.report.parts import esc, exact, examples, opening, paragraph, small_print, table, to_text
from zero2chat.report.steps import StepResult

TITLE = "From letters to numbers"
KEY = {
    "bytes_per_token": "bytes per token on held-out text",
    "vocab_size": "tokens in the vocabulary",
}
STORY = (
    "A model reads numbers, not letters. The tokenizer splits text into frequent pieces, words or parts of words, and "
    "gives each an id: a larger vocabulary buys shorter sequences."
)
_CHARACTERS = 5000
_HUES = 6


def _example(step: StepResult) -> str:
    """Return an example: the same text as bits, bytes and tokens of three tokenizers."""
    rows: list[tuple[str, str, float, str]] = [
        ("bits", "2", 8.0 * _CHARACTERS, "eight per byte"),
        ("bytes", "256", float(_CHARACTERS), "one per character, in plain English"),
    ]
    for suffix, name in (("", "tokens, <b>ours</b>"), ("_gpt2", "tokens, GPT-2"), ("_gpt4", "tokens, GPT-4")):
        if size := step.value(f"bytes_per_token{suffix}"):
            metric, vocabulary = step.metrics[f"bytes_per_token{suffix}"], step.metrics.get(f"vocab_size{suffix}")
            how = f"{exact(size)} bytes per token measured"
            how += f", {small_print('bytes_per_token', metric)}" if metric.get("n") is not None else ""
            rows.append((name, exact(vocabulary["value"]) if vocabulary else "", _CHARACTERS / size, how))

    def bar(length: float) -> str:
        return f'<span class="bar" style="width:{6 * length / rows[0][2]:.2f}rem"></span>'

    return table(
        ("encoded as", "vocabulary", "sequence length", "", "because"),
        (
            (name, symbols, exact(round(length)), bar(length), f"<small>{why}</small>")
            for name, symbols, length, why in rows
        ),
    )


def coloured(tokens: list[Any]) -> str:
    """Return the tokens in alternating colours; a newline is drawn as ↵."""
    spans = (
        f'<span class="t{i % _HUES + 1}">{esc(token).replace(chr(10), "↵<br>")}</span>'
        for i, token in enumerate(tokens)
    )
    return f'<p class="tokens">{"".join(spans)}</p>\n'


def _tokens(samples: Sequence[Mapping[str, Any]]) -> str:
    text = ""
    for sample in samples[:6]:
        tokens, ids = sample.get("tokens"), sample.get("ids")
        if not isinstance(tokens, list) or not tokens:
            text += f'<p class="tokens">{esc(sample.get("prompt", ""), 600)}</p>\n'
            continue
        numbers = ""
        if isinstance(ids, list):
            numbers = f": {' '.join(esc(i) for i in ids[:24])}{' …' if len(ids) > 24 else ''}"
        characters = exact(len(to_text(sample.get("prompt", ""))))
        text += coloured(tokens[:400])
        text += paragraph(f"{characters} characters, {exact(len(tokens))} tokens{numbers}", "aside")
    return text


def section(step: StepResult) -> str:
    text = opening(step, STORY, KEY) + "<h3>Example from the textbook</h3>\n"
    text += paragraph(
        "Take 5,000 characters of English. As bits they are 40,000 symbols long; as bytes, 5,000; as GPT-4's tokens, "
        "the textbook says, about 1,300. The table repeats this calculation with the bytes per token measured on this "
        "recipe's held-out text."
    )
    text += _example(step)
    if step.value("bytes_per_token") is None:
        text += paragraph("The step measured no <code>bytes_per_token</code>, so the row for it is missing.", "note")
    return text + examples(step, "Tokens in colour", _tokens)

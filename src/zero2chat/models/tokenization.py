"""Tokens: control tokens, the bytes of each token, neutralising untrusted text, and display."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zero2chat.core.errors import UserError
from zero2chat.core.package_files import find

if TYPE_CHECKING:
    from rich.text import Text
    from transformers import PreTrainedTokenizerBase

END_OF_DOCUMENT, PAD, TURN_START, TURN_END = "<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>"
SEARCH_START, SEARCH_END = "<SEARCH_START>", "<SEARCH_END>"
PYTHON_START, PYTHON_END = "<PYTHON_START>", "<PYTHON_END>"
THINK_START, THINK_END = "<think>", "</think>"

# In the order of their ids, 0 to 9, in all our tokenizers.
SPECIAL_TOKENS = (
    END_OF_DOCUMENT,
    PAD,
    TURN_START,
    TURN_END,
    SEARCH_START,
    SEARCH_END,
    PYTHON_START,
    PYTHON_END,
    THINK_START,
    THINK_END,
)

# Qwen2's pattern (digits one by one), which llama.cpp knows as "qwen2". Without Qwen2's NFC normaliser, which
# llama.cpp does not apply either, and which is not reversible.
PRETOKENIZER_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# What chat templates write around calls and results as plain text where the tokenizer has no tokens for it.
CALL_TAGS = ("<tool_call>", "</tool_call>")
_TOOL_TAGS = (*CALL_TAGS, "<tool_response>", "</tool_response>")

# The form of control tokens. Added tokens of another form are words.
_TAG = re.compile(r"<\S+>|\[\S+\]")

_COLOURS = ("black on bright_cyan", "black on bright_yellow")


# ---- bytes


@cache
def _alphabet() -> dict[str, int]:
    """Return the characters with which a byte-level BPE represents the 256 bytes (GPT-2, Radford et al. 2019)."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return {character: byte for byte, character in bytes_to_unicode().items()}


def _spelled(token: str) -> bytes:
    try:
        return bytes(_alphabet()[character] for character in token)
    except KeyError:
        raise UserError(f"token {token!r} is not a sequence of bytes: use a byte-level BPE tokenizer") from None


def token_bytes(tokenizer: PreTrainedTokenizerBase) -> list[bytes]:
    """Return the bytes of each token, by id. Special tokens have no bytes (`b""`), so bits per byte skips them.

    Raises `UserError` if the tokenizer is not a byte-level BPE.
    """
    vocabulary, added = tokenizer.get_vocab(), tokenizer.added_tokens_decoder
    table = [b""] * (max(vocabulary.values()) + 1)
    for token, token_id in vocabulary.items():
        if token_id not in added:
            table[token_id] = _spelled(token)
        elif not added[token_id].special:
            table[token_id] = token.encode()
    return table


# ---- control tokens in untrusted text


def _control_tokens(tokenizer: PreTrainedTokenizerBase, special: bool = True) -> list[str]:
    """Return the control tokens: special tokens, and added tokens that look like `<think>` or `[TOOL]`.

    Many Hub tokenizers add tokens such as `<think>` without marking them as special; `special=False` returns only such
    tokens. Added words and runs of spaces are text, and a space cannot break single characters: they are left out.
    """
    added = tokenizer.added_tokens_decoder.values()
    control = [t.content for t in added if (t.special and special) or (not t.special and _TAG.fullmatch(t.content))]
    return [token for token in control if token not in _broken(token)]


def control_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    return set(tokenizer.convert_tokens_to_ids(_control_tokens(tokenizer)))


def _broken(token: str) -> str:
    return f"{token[:1]} {token[1:]}"


def plain_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Encode each text so that control tokens in it are encoded as plain characters."""
    options = {"add_special_tokens": False, "split_special_tokens": True}
    # Tokens that are not marked as special would still be recognised: split the text after their first character.
    tags = _control_tokens(tokenizer, special=False)
    texts = [_as_read(text, tags, tokenizer) for text in texts]
    if not any(tag in text for tag in tags for text in texts):
        return tokenizer(list(texts), **options)["input_ids"]
    start = re.compile(f"(?={'|'.join(map(re.escape, tags))})")
    ids = []
    for text in texts:
        cuts = [0, *(match.start() + 1 for match in start.finditer(text)), len(text)]
        pieces = [text[a:b] for a, b in pairwise(cuts)]
        ids.append([i for row in tokenizer(pieces, **options)["input_ids"] for i in row])
    return ids


def _as_read(text: str, tokens: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the text, or its normalised form if the tokenizer's normaliser creates further control tokens.

    NFKC, for example, turns `\uff1cthink\uff1e` (full width) into `<think>`: the model reads both alike.
    """
    normaliser = getattr(getattr(tokenizer, "backend_tokenizer", None), "normalizer", None)
    if normaliser is None or not tokens:
        return text
    read = str(normaliser.normalize_str(text))
    return read if any(read.count(token) > text.count(token) for token in tokens) else text


def _neutralised(text: str, control: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> str:
    text = _as_read(text, control, tokenizer)
    # Repeat until none is left: breaking one may reveal another that overlapped it.
    while tokens := [token for token in control if token in text]:
        for token in tokens:
            text = text.replace(token, _broken(token))
    return text


def neutral(value: Any, tokenizer: PreTrainedTokenizerBase) -> Any:
    """Break every control token in untrusted content with a space (`< |im_end|>`), where the content enters: in a text,
    or in messages, calls and schemas. A token that a space cannot break, such as a single character, stays.

    Call tags that the chat template writes as plain text are broken too, except in an assistant's content, where data
    may have calls. An object nested in a message, such as a call's arguments, is not a message, even if it has a role.
    """
    # Once: a request of 1 MiB may have 350,000 texts.
    apart, template = _control_tokens(tokenizer), tokenizer.chat_template
    control = apart + [tag for tag in _TOOL_TAGS if isinstance(template, str) and tag in template]

    def message(item: Any) -> Any:
        result = _neutral(item, tokenizer, control)
        if isinstance(item, Mapping) and item.get("role") == "assistant" and isinstance(item.get("content"), str):
            result["content"] = _neutral(item["content"], tokenizer, apart)
        return result

    return [message(item) for item in value] if isinstance(value, list | tuple) else message(value)


def _neutral(value: Any, tokenizer: PreTrainedTokenizerBase, control: Sequence[str]) -> Any:
    if isinstance(value, str):
        # Tokenizers reject half a surrogate pair, which broken JSON may contain.
        return _neutralised(value.encode("utf-8", "replace").decode(), control, tokenizer)
    if isinstance(value, Mapping):
        return {_neutral(key, tokenizer, control): _neutral(item, tokenizer, control) for key, item in value.items()}
    return [_neutral(item, tokenizer, control) for item in value] if isinstance(value, list | tuple) else value


def split_reasoning(text: str) -> tuple[str | None, str]:
    """Return the reasoning at the beginning of an answer, or None, and the rest of the answer.

    The prompt may already contain `<think>`. If the reasoning never ends, there is no answer: the rest is "".
    """
    before, end, after = text.partition(THINK_END)
    opened, start, reasoning = before.partition(THINK_START)
    if opened.strip() if start else not end:
        return None, text
    return (reasoning if start else before), after


def as_message(text: str) -> dict[str, str]:
    """Return an assistant's message, with reasoning at the beginning of the text separated."""
    reasoning, content = split_reasoning(text)
    return {"role": "assistant", "content": content} | ({"reasoning_content": reasoning} if reasoning else {})


def pad_apart(tokenizer: PreTrainedTokenizerBase, ends: Collection[int]) -> None:
    """Ensure that the pad token is no stop token: set a new one if it is missing or one of `ends`.

    The new pad token is a special token of the tokenizer: a token with "pad" in its name, the unknown token, which a
    byte-level BPE never produces, or a reserved token. Without such a token, the tokenizer stays unchanged.
    """
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id not in ends:
        return
    special = [t.content for t in tokenizer.added_tokens_decoder.values() if t.special]
    free = [token for token in special if tokenizer.convert_tokens_to_ids(token) not in ends]
    padding, spare = (
        [token for token in free if any(word in token.lower() for word in words)]
        for words in (("pad",), ("reserved", "unused", "placeholder"))
    )
    for token in [*padding, tokenizer.unk_token, *spare]:
        if token in free:
            tokenizer.pad_token = token
            return


# ---- templates

_INCLUDE = re.compile(r"\{%-? include '([\w.-]+)' -?%\}\n?")


def set_chat_template(tokenizer: PreTrainedTokenizerBase, path: str | Path) -> None:
    """Set the chat template from the file `X.jinja`, and the response template from `X.response.json`, if it exists, or
    from that of a template that it includes.

    Both templates are saved with the tokenizer. Raises `UserError` if a template cannot be read.
    """
    template = find(path)
    response = template.with_suffix(".response.json")
    try:
        text = template.read_text(encoding="utf-8-sig")
        for name in _INCLUDE.findall(text):
            response = response if response.exists() else template.with_name(name).with_suffix(".response.json")
        # A saved template is one text: what it includes is inserted.
        tokenizer.chat_template = _INCLUDE.sub(lambda one: template.with_name(one[1]).read_text("utf-8-sig"), text)
        beside = response.read_text(encoding="utf-8-sig") if response.exists() else "null"
        tokenizer.response_template = json.loads(beside)
    except (OSError, ValueError) as error:
        raise UserError(f"{template}: cannot read this chat template, or {response.name} beside it: {error}") from error


# ---- display


def token_pieces(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """Return each token in readable form: newlines escaped, and parts of a character as bytes in hex."""
    added = tokenizer.added_tokens_decoder
    pieces = []
    for token_id, token in zip(ids, tokenizer.convert_ids_to_tokens(list(ids)), strict=True):
        if token_id in added:
            pieces.append(visible(added[token_id].content))
            continue
        try:
            spelled = _spelled(token)
        except UserError:  # not a byte-level BPE: show the token as it is, with SentencePiece's `▁` for a space
            pieces.append(visible(token.replace("▁", " ")))
            continue
        try:
            pieces.append(visible(spelled.decode()))
        except UnicodeDecodeError:
            pieces.append(spelled.hex(" "))
    return pieces


def visible(text: str, keep: str = "") -> str:
    """Replace each unprintable character that is not in `keep` by its escape, such as `\\x1b`."""
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def show_tokens(tokens: Sequence[tuple[int, str]], between: str = "") -> Text:
    """Show tokens (id and piece) on alternating colours, with `between` between them, and their ids below."""
    from rich.text import Text

    shown = Text()
    for n, (_, piece) in enumerate(tokens):
        are_bytes = n and not between and re.fullmatch("[0-9a-f]{2}( [0-9a-f]{2})+", f"{tokens[n - 1][1]} {piece}")
        shown.append(between * bool(n) + (f" {piece}" if are_bytes else piece), style=_COLOURS[n % 2])
    shown.append("\n")
    for n, (token_id, _) in enumerate(tokens):
        shown.append(" " if n else "")
        shown.append(str(token_id), style=_COLOURS[n % 2])
    return shown

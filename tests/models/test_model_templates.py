"""Each chat template that TRL brings, with a small tokenizer that has the family's tokens: masks, ends of turns, calls.

The table in chat_templates/README.md says the same.
"""

from __future__ import annotations

import json
import random
import re
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jinja2 import TemplateError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from trl.chat_template_utils import has_generation_markers

from zero2chat.core.errors import UserError
from zero2chat.inference.tool_format import CallFormat, Tools
from zero2chat.models.chat_template import TurnEncoder, end_turn, training_template
from zero2chat.models.tokenization import neutral

README = Path(__file__).parents[2] / "chat_templates" / "README.md"
FOLDER = Path(find_spec("trl").submodule_search_locations[0]) / "chat_templates"
FILES = sorted(path.stem for path in FOLDER.glob("*.jinja") if not path.stem.endswith("_training"))

# The forms of control tokens in these templates, and tokens of other forms.
_CONTROL = re.compile(
    r"<\|[^|<>\s'\"]+\|?>|<[a-z_]+\|>|<｜[^｜]+｜>|<\|\"\|>|</?s>"
    r"|</?(?:think|tool_call|tool_response|start_of_turn|end_of_turn|end_of_utterance|image)>"
)
_TEXT = {"type": "object", "properties": {"text": {"type": "string", "description": "What"}}, "required": ["text"]}
SCHEMA = {"type": "function", "function": {"name": "add", "description": "Add.", "parameters": _TEXT}}
EARLY = [
    {"role": "user", "content": "⟪u⟫"},
    {"role": "assistant", "content": "⟦a⟧", "reasoning_content": "⟦early⟧", "thinking": "⟦early⟧"},
    {"role": "user", "content": "⟪u⟫"},
    {"role": "assistant", "content": "⟦a⟧"},
]


def add(text: str) -> str:
    """Add.

    Args:
        text: What
    """
    return text


def family(name: str) -> PreTrainedTokenizerBase:
    """A tokenizer of single bytes with the control tokens of the template."""
    template = (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")
    inner = Tokenizer(models.BPE({c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        additional_special_tokens=sorted(set(_CONTROL.findall(template))),
    )
    made.chat_template = template
    return made


def model() -> Any:
    return SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=None), config=SimpleNamespace())


_PIECES = ["a", "Zürich", "日本語", "🙂🏽", "e\u0301", "\u200f", "½", *"\n \t\"'{}\\<", "\n\n", "|>"]


def some(rng: random.Random, own: bool) -> str:
    text = "".join(rng.choice(_PIECES) for _ in range(rng.randint(0, 9)))
    return f"⟦{text}⟧" if own else f"⟪{text}⟫"


def conversation(rng: random.Random, has: dict[str, bool]) -> list[dict[str, Any]]:
    """Up to three questions, with what the family has: a system turn, thoughts, calls."""
    messages = [{"role": "system", "content": some(rng, False)}] if has["system"] and rng.random() < 0.5 else []
    for _ in range(rng.randint(1, 3)):
        messages.append({"role": "user", "content": some(rng, False)})
        if has["calls"] and rng.random() < 0.4:
            call = {"type": "function", "function": {"name": "add", "arguments": {"text": some(rng, True)}}}
            messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
            messages.append({"role": "tool", "name": "add", "content": some(rng, False)})
        answer = {"role": "assistant", "content": some(rng, True)}
        if has["thoughts"] and rng.random() < 0.5:
            answer |= dict.fromkeys(("reasoning_content", "thinking"), some(rng, True))
        messages.append(answer)
    return messages


def renders(tokenizer: PreTrainedTokenizerBase, *parts: str, **extra: Any) -> bool:
    """Whether the training template renders these parts of an exchange."""
    answer = {"role": "assistant", "content": "⟦a⟧"}
    user = {"role": "user", "content": "⟪u⟫"}
    call = {"type": "function", "function": {"name": "add", "arguments": {"text": "⟦call⟧"}}}
    called = {"role": "assistant", "content": "", "tool_calls": [call]}
    exchanges = {
        "⟪system⟫": [{"role": "system", "content": "⟪system⟫"}, user, answer],
        "⟦thought⟧": [user, answer | dict.fromkeys(("reasoning_content", "thinking"), "⟦thought⟧")],
        "⟦early⟧": EARLY,
        "⟦beside⟧": [user, called | {"reasoning_content": "⟦beside⟧"}],
        "⟦call⟧": [user, called, {"role": "tool", "name": "add", "content": "⟪result⟫"}, answer],
    }
    tools = [SCHEMA] if parts[0] in ("⟦call⟧", "⟦beside⟧") else None
    try:
        render = partial(tokenizer.apply_chat_template, tokenize=False, chat_template=training_template(tokenizer))
        text = render(exchanges[parts[0]], tools=tools)
    except (TemplateError, TypeError):
        return False
    return all(part in text for part in parts)


def appends(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, Any]]) -> bool:
    """Whether each turn of the assistant only adds to what the training template renders before it."""
    tools = [SCHEMA] if any("tool_calls" in message for message in messages) else None
    render = partial(tokenizer.apply_chat_template, tools=tools, tokenize=False)
    render = partial(render, chat_template=training_template(tokenizer))
    text = render(messages)
    return all(
        render(messages[: i + 1]).startswith(render(messages[:i], add_generation_prompt=True))
        and text.startswith(render(messages[: i + 1]))
        for i, message in enumerate(messages)
        if message["role"] == "assistant"
    )


def row(name: str) -> list[str]:
    """The family's row in the table."""
    tokenizer = family(name)
    marked, trains = has_generation_markers(tokenizer.chat_template), training_template(tokenizer)
    by = "its own" if marked else "TRL's" if trains else "turn by turn"
    try:
        end_turn(model(), tokenizer)
    except UserError as error:
        vision = "lists of parts" in str(error) or "str object" in str(error)
        why = "vision" if vision else "rewrites" if "earlier turns" in str(error) else str(error)
        return [f"`{name}`", f"refused: {why}", "–", "–", "–", "–", "–"]
    early, late = renders(tokenizer, "⟦early⟧"), renders(tokenizer, "⟦thought⟧")
    beside = renders(tokenizer, "⟦beside⟧")
    thoughts = "yes" if early else "last turn" if late else "beside calls" if beside else "no"
    try:
        TurnEncoder(tokenizer)(EARLY)
    except UserError as error:
        thoughts = thoughts if "leaves out" in str(error) else "last turn, else refused"
    try:
        CallFormat(Tools([add]), tokenizer, {tokenizer.eos_token_id})
        chat = "yes"
    except UserError:
        chat = "no"
    system, calls = ("yes" if renders(tokenizer, *p) else "no" for p in (("⟪system⟫",), ("⟦call⟧", "⟪result⟫")))
    return [f"`{name}`", by, f"`{tokenizer.eos_token}`", system, thoughts, calls, chat]


def table() -> dict[str, list[str]]:
    lines = [line for line in README.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    rows = [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {cells[0].strip("`"): cells for cells in rows if len(cells) == 7}


def test_the_table_lists_each_template_that_trl_brings():
    assert sorted(table()) == FILES
    assert len(list(FOLDER.glob("*_training.jinja"))) >= 31


@pytest.mark.parametrize("name", FILES)
def test_the_table_says_what_holds_and_trls_training_version_is_used_where_there_is_one(name):
    assert table()[name] == row(name)
    tokenizer = family(name)
    own = tokenizer.chat_template
    twin = FOLDER / f"{name}_training.jinja"
    expected = twin.read_text(encoding="utf-8") if twin.exists() else own if has_generation_markers(own) else None
    assert training_template(tokenizer) == expected
    assert tokenizer.chat_template == own


@pytest.mark.parametrize(
    "name", [name for name in FILES if not (table().get(name) or ["", "refused"])[1].startswith("refused")]
)
def test_the_loss_falls_on_what_the_assistant_writes_and_on_nothing_else(name):
    """50 conversations: the header is not the assistant's, the end of the turn is, and nothing after it."""
    tokenizer = family(name)
    end_turn(model(), tokenizer)
    cells = table()[name]
    has = {"system": cells[3] == "yes", "thoughts": cells[4] in ("yes", "last turn"), "calls": cells[5] == "yes"}
    encoder, rng, added = TurnEncoder(tokenizer), random.Random(name), tokenizer.get_added_vocab().values()
    template = training_template(tokenizer)
    appended = 0
    for _ in range(50):
        messages = conversation(rng, has)
        if cells[4] == "last turn, else refused":
            messages[-1] |= dict.fromkeys(("reasoning_content", "thinking"), some(rng, True))
        tools = [SCHEMA] if any("tool_calls" in message for message in messages) else None
        ids, mask = encoder(neutral(messages, tokenizer), tools)
        render = partial(tokenizer.apply_chat_template, tools=tools, tokenize=False, chat_template=template)
        assert tokenizer.decode(ids) == render(neutral(messages, tokenizer))
        spans = spans_of(tokenizer, ids, mask)
        said = [message for message in messages if message["role"] == "assistant"]
        assert len(spans) == len(said)
        others = tokenizer.decode([token for token, own_tokens in zip(ids, mask, strict=True) if not own_tokens])
        assert not set("⟦⟧") & set(others)
        for message in messages:
            if message["role"] != "assistant":
                # Some templates render a tool's result as JSON.
                shown = (message["content"], json.dumps(message["content"], ensure_ascii=False)[1:-1])
                assert any("".join(text.split()) in "".join(others.split()) for text in shown)
        for span, message in zip(spans, said, strict=True):
            text = tokenizer.decode(span)
            assert not set("⟪⟫") & set(text)
            assert message["content"].strip() in text
            assert span[-1] in added
            assert "<｜Assistant｜>" not in text
        # DiffusionGemma's calls and results share a turn, which TRL's version divides in its own way.
        if appends(tokenizer, messages) and not (tools and name == "diffusion_gemma"):
            appended += 1
            for i, message in enumerate(messages):
                if message["role"] == "assistant":
                    before = render(messages[:i], add_generation_prompt=True)
                    whole = render(messages[: i + 1])[len(before) :]
                    whole = whole.rstrip().removesuffix("\n<|end|>")  # Phi 3's last turn ends twice
                    assert tokenizer.decode(spans.pop(0)) == whole
    assert appended or name.startswith("deepseek")  # whose header begins a thought that the turn may not have


def spans_of(tokenizer: PreTrainedTokenizerBase, ids: list[int], mask: list[int]) -> list[list[int]]:
    spans: list[list[int]] = []
    for i, (token, own_tokens) in enumerate(zip(ids, mask, strict=True)):
        if own_tokens and (i == 0 or not mask[i - 1]):
            spans.append([])
        if own_tokens:
            spans[-1].append(token)
    return spans

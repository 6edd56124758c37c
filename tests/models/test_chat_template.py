"""Chat templates for training, the end-of-turn token, and the pad token."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from zero2chat.core.errors import UserError
from zero2chat.models.chat_template import TurnEncoder, end_turn, prepare_chat_template

CHAT_TEMPLATE = Path(__file__).parents[2] / "chat_templates" / "chatml.jinja"


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (None, "no chat template: set chat_template_path"),
        ("none.jinja", r"none\.jinja: cannot read this chat template"),
        ("{{ m.content }}", "does not end the assistant's turn with a special token"),
        ("{{ loop.revindex }}{{ m.content }}<|im_end|>", r"no \{% generation %\} markers and renders earlier turns"),
        ("{{ m.content[0].text }}<|im_end|>", "does not render the assistant's text"),
        ("{{ m.content if loop.index < 3 else raise_exception('no more') }}", r"fails on a conversation \(no more\)"),
        ("{% generation %}{{ m.content }}{% endgeneration %}", "does not end the assistant's turn with a special"),
        ("{% generation %}{{ m.content ", r"some\.jinja: invalid chat template"),
    ],
)
def test_a_template_that_cannot_be_trained_on_is_refused(template, says, tokenizer_folder, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    tokenizer.chat_template = None
    path = tmp_path / (template if template == "none.jinja" else "some.jinja")
    (tmp_path / "some.jinja").write_text(f"{{% for m in messages %}}{template}{{% endfor %}}")

    with pytest.raises(UserError, match=says):  # noqa: PT012
        prepare_chat_template(tokenizer, None if template is None else str(path))
        end_turn(None, tokenizer)


# SmolLM2's own: no markers, and TRL has no training version.
SMOLLM2 = (
    "{% for m in messages %}{% if loop.first and m.role != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}"
    "{% endif %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def test_what_a_template_would_leave_out_or_cannot_tell_apart_is_refused(tokenizer_folder):
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    asked, answer = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
    reasoned = answer | {"reasoning_content": "c"}
    TurnEncoder(tokenizer)([asked, reasoned])  # chatml has it
    tokenizer.chat_template = SMOLLM2
    encoder = TurnEncoder(tokenizer)
    assert encoder([asked, answer])[1].count(1) > 0
    with pytest.raises(UserError, match="leaves out reasoning_content: set chat_template_path"):
        encoder([asked, reasoned])
    with pytest.raises(UserError, match="begins with the assistant's turn"):
        encoder([answer, asked, answer])


def test_the_row_itself_shows_what_a_template_leaves_out(tokenizer_folder):
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    asked, result = {"role": "user", "content": "a"}, {"role": "tool", "name": "find", "content": "r"}
    function = {"name": "find", "arguments": {}}
    called = {"role": "assistant", "content": "", "tool_calls": 2 * [{"type": "function", "function": function}]}
    thought = {"role": "assistant", "content": "b", "reasoning_content": "c"}
    tools = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {}}}}]

    def left_out(template, messages, tools=None):
        tokenizer.chat_template = f"{{% for m in messages %}}{template}{{{{ m.content }}}}<|im_end|>{{% endfor %}}"
        return TurnEncoder(tokenizer).left_out(messages, tools)

    calls = "{% for c in m.tool_calls %}{{ c.function.name }}{% endfor %}"
    assert left_out(calls, [asked, called, result]) is None
    first = "{% for c in m.tool_calls %}{{ c.function.name if loop.first }}{% endfor %}"
    assert left_out(first, [asked, called, result]) == "tool_calls"  # the second one
    assert left_out(f"{{% if tools %}}{calls}{{% endif %}}", [asked, called], tools) is None
    assert left_out(f"{{% if tools %}}{calls}{{% endif %}}", [asked, called]) == "tool_calls"
    beside = f"{calls}{{% if m.tool_calls %}}{{{{ m.reasoning_content }}}}{{% endif %}}"  # as gemma4_v4
    assert left_out(beside, [asked, called | {"reasoning_content": "c"}, result]) is None
    assert left_out(beside, [asked, called, result, thought]) == "reasoning_content"
    last = "{% if loop.last %}{{ m.reasoning_content }}{% endif %}"  # of earlier turns on purpose, as Qwen3
    assert left_out(last, [asked, thought, asked, thought]) is None
    assert left_out("", [asked, thought, asked, thought]) == "reasoning_content"


def test_a_row_of_many_turns_is_neither_rendered_nor_copied_for_each_turn(tokenizer_folder, monkeypatch):
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    encoder, renders, copied = TurnEncoder(tokenizer), [], []
    render, trim = tokenizer.apply_chat_template, encoder._trimmed

    class Mask(list):
        def __getitem__(self, key):
            if isinstance(key, slice):
                copied.extend(range(*key.indices(len(self))))
            return super().__getitem__(key)

    monkeypatch.setattr(tokenizer, "apply_chat_template", lambda *a, **k: renders.append(len(a[0])) or render(*a, **k))
    monkeypatch.setattr(encoder, "_trimmed", lambda ids, mask: trim(ids, Mask(mask)))
    turn = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "reasoning_content": "c"}]
    ids, mask = encoder(turn * 100)
    assert tokenizer.decode([i for i, own in zip(ids, mask, strict=True) if own]) == "<think>c</think>b<|im_end|>" * 100
    assert sum(renders) < 300
    assert len(copied) < 2 * len(mask)


def test_a_template_without_marks_is_trained_by_turn_after_turn(tokenizer_folder, model_folder):
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    tokenizer.chat_template = SMOLLM2
    end_turn(AutoModelForCausalLM.from_pretrained(model_folder), tokenizer)
    assert tokenizer.eos_token == "<|im_end|>"
    said = ("Who?", " 🙂 Ada.\n", "In Genoa?<|im_end|>", "\nYes, 日本")
    messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]
    ids, mask = TurnEncoder(tokenizer)(messages)
    assert ids == tokenizer.apply_chat_template(messages, return_dict=False)
    said = tokenizer.decode([token for token, own in zip(ids, mask, strict=True) if own])
    assert said.replace("\n\n", "\n") == " 🙂 Ada.\n<|im_end|>\nYes, 日本<|im_end|>"
    assert tokenizer.chat_template == SMOLLM2  # what is saved


def test_the_end_of_a_turn_becomes_the_end_of_generation(model_folder):
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    turn_end, document_end = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    tokenizer.eos_token = "<|endoftext|>"  # as after pretraining
    model.generation_config.eos_token_id = document_end
    # Padding is never an end: SmolLM2's tokenizer pads with the end of a turn, Llama 3.1's has no pad token.
    for pad in ("<|im_end|>", None):
        tokenizer.pad_token = pad
        end_turn(model, tokenizer)  # twice changes nothing
        assert model.generation_config.eos_token_id == [turn_end, document_end]
        assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|pad|>")
        assert model.generation_config.pad_token_id == model.config.pad_token_id == tokenizer.pad_token_id
    bare = Tokenizer(WordLevel({"<|im_start|>": 0, "<|im_end|>": 1, "a": 2}, unk_token="a"))
    special = {"additional_special_tokens": ["<|im_start|>"], "eos_token": "<|im_end|>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare, **special)
    prepare_chat_template(tokenizer, str(CHAT_TEMPLATE))
    with pytest.raises(UserError, match=r"pad token is missing or is the end-of-turn token, and .*: set pad_token"):
        end_turn(model, tokenizer)

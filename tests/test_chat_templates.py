from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import trl
from jinja2 import TemplateError
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast
from trl import ModelConfig
from trl.chat_template_utils import is_chat_template_stop_token_trained, supports_tool_calling

from zero2chat.core.errors import UserError
from zero2chat.models.chat_template import settle_chat
from zero2chat.models.tokenization import set_chat_template

ROOT = Path(__file__).parents[1]

SAID = (("search", {"query": "Ada Genoa"}), ("python", {"code": "print(1)"}), ("clock", {"zone": "Zürich"}))
CALLS = [{"type": "function", "function": {"name": name, "arguments": arguments}} for name, arguments in SAID]


def turns(**texts):
    """`turns(user=…, assistant=…)`: a message each."""
    return [{"role": role, "content": text} for role, text in texts.items()]


def learned(tokenizer, messages):
    """The ids of a conversation, and the text that carries the loss."""
    out = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    pairs = zip(out["input_ids"], out["assistant_masks"], strict=True)
    return out["input_ids"], tokenizer.decode([token for token, mask in pairs if mask])


def test_a_conversation_renders_exactly_so(tokenizer):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "reasoning_content": "I look it up.", "content": "One moment.", "tool_calls": CALLS},
        {"role": "tool", "name": "search", "content": "a baker"},
    ]
    assert tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nWho?<|im_end|>\n"
        "<|im_start|>assistant\n<think>I look it up.</think>One moment."
        "<SEARCH_START>Ada Genoa<SEARCH_END><PYTHON_START>print(1)<PYTHON_END>"
        '<tool_call>{"name": "clock", "arguments": {"zone": "Zürich"}}</tool_call><|im_end|>\n'
        "<|im_start|>tool\na baker<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_tools_at_hand_stand_at_the_end_of_the_system_turn(tokenizer):
    def schema(name, parameter):
        properties = {parameter: {"type": "string", "description": "What"}}
        parameters = {"type": "object", "properties": properties, "required": [parameter]}
        return {"type": "function", "function": {"name": name, "description": "It.", "parameters": parameters}}

    clock = schema("clock", "zone")
    tools = [schema("search", "query"), schema("python", "code"), clock]
    system, user = turns(system="Be brief.", user="Who?")
    lines = f"search(query)\npython(code)\n{json.dumps(clock['function'])}<|im_end|>\n"
    lines += "<|im_start|>user\nWho?<|im_end|>\n"
    assert tokenizer.apply_chat_template([user], tools=tools, tokenize=False) == f"<|im_start|>system\n{lines}"
    with_system = tokenizer.apply_chat_template([system, user], tools=tools, tokenize=False)
    assert with_system == f"<|im_start|>system\nBe brief.\n\n{lines}"
    assert "search" not in tokenizer.apply_chat_template([system, user], tokenize=False)


def test_the_loss_falls_on_the_answers_and_their_ends_and_on_nothing_else(tokenizer):
    messages = turns(system="Be brief.", user="Where was Ada born?", assistant="In Genoa.")
    messages += turns(user="When?", assistant="In 1984.")
    assert learned(tokenizer, messages)[1] == "In Genoa.<|im_end|>In 1984.<|im_end|>"


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({"role": "robot", "content": "x"}, "unknown role 'robot'"),
        ({"role": "user", "content": ["x"]}, "must be a string"),
        ({"role": "assistant", "tool_calls": [{"name": "search", "arguments": {"q": "x"}}]}, "search needs arguments"),
        ({"role": "assistant", "tool_calls": [{"name": "python", "arguments": {}}]}, "python needs arguments"),
    ],
)
def test_what_the_template_does_not_know_is_an_error_that_says_so(tokenizer, message, says):
    with pytest.raises(TemplateError, match=says):
        tokenizer.apply_chat_template([message], tokenize=False)


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": "  In Genoa.\n"},
        {"role": "assistant", "content": ""},
        {"role": "assistant", "content": " 42", "reasoning_content": "40 + 2\n= 42\n"},
        {"role": "assistant", "content": "So:", "tool_calls": CALLS[2:] * 2},
    ],
)
def test_a_rendered_answer_parses_back_to_the_message_it_was(tokenizer, message):
    question = [{"role": "user", "content": "Say <think>."}]
    prefix = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_dict=False)
    whole = tokenizer.apply_chat_template([*question, message], return_dict=False)
    assert whole[: len(prefix)] == prefix
    assert tokenizer.parse_response(whole[len(prefix) :], prefix=prefix) == message


@pytest.fixture
def opened(tokenizer_folder):
    """`opened(template, …)`: our small tokenizer with a template, and these special tokens."""

    def make(template, more=(), **named):
        found = AutoTokenizer.from_pretrained(tokenizer_folder)
        found.add_special_tokens({"additional_special_tokens": list(more)})
        for name, token in named.items():
            setattr(found, name, token)
        set_chat_template(found, ROOT / "chat_templates" / f"{template}.jinja")
        return found

    return make


def test_an_action_is_a_short_line_and_one_that_is_mended_carries_no_loss(opened):
    acting = opened("chatml_actions")
    properties = {name: {"type": "string", "description": "x"} for name in ("old", "new")}
    parameters = {"type": "object", "properties": properties, "required": ["old", "new"]}
    swap = {"type": "function", "function": {"name": "swap", "description": "Swap.", "parameters": parameters}}
    calls = [{"function": {"name": "swap", "arguments": {"new": "b c", "old": old}}} for old in ("x", "a")]
    messages = [
        *turns(user="Swap."),
        {"role": "assistant", "content": "", "tool_calls": calls[:1], "untrained": True},
        {"role": "tool", "content": "There is no x."},
        {"role": "assistant", "content": "", "tool_calls": calls[1:]},
    ]
    out = acting.apply_chat_template(messages, tools=[swap], return_dict=True, return_assistant_tokens_mask=True)
    assert acting.decode(out["input_ids"]) == (
        "<|im_start|>system\nswap old new: Swap.<|im_end|>\n<|im_start|>user\nSwap.<|im_end|>\n<|im_start|>assistant\n"
        "<think></think><PYTHON_START>swap x\n b c<PYTHON_END><|im_end|>\n<|im_start|>tool\nThere is no x.<|im_end|>\n"
        "<|im_start|>assistant\n<think></think><PYTHON_START>swap a\n b c<PYTHON_END><|im_end|>\n"
    )
    pairs = zip(out["input_ids"], out["assistant_masks"], strict=True)
    learned = acting.decode([token for token, mask in pairs if mask])
    assert learned == "<think></think><PYTHON_START>swap a\n b c<PYTHON_END><|im_end|>"
    assert supports_tool_calling(acting)  # as TRL's trainer demands: without a signature, arguments have their names
    for wrong in ({"new": "b"}, {"old": "a", "newer": "b"}, "a"):
        calls[0]["function"]["arguments"] = wrong
        with pytest.raises(TemplateError, match="a call of swap needs its first arguments"):
            acting.apply_chat_template(messages, tools=[swap], tokenize=False)


# ---- other families' templates


def test_r1_zeros_prompt_is_the_papers_and_what_is_said_carries_the_loss(opened):
    r1_zero, said = opened("r1_zero"), " <think> easy </think> <answer> \\boxed{4} </answer>"
    messages = turns(user="What is 2 + 2?", assistant=said)
    text = r1_zero.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True)
    assert text.startswith("A conversation between User and Assistant. The user asks a question")
    assert text.endswith("put in \\boxed{}.\nUser: What is 2 + 2?\nAssistant:")
    ids, loss = learned(r1_zero, messages)
    assert loss == f"{said}<|im_end|>"
    assert r1_zero.decode(ids).startswith(text)
    assert is_chat_template_stop_token_trained(r1_zero)
    own = r1_zero.apply_chat_template(turns(system="Solve it.") + messages[:1], tokenize=False)
    assert own == "Solve it.\nUser: What is 2 + 2?"


def test_llama3s_turns_are_its_own_and_what_is_said_carries_the_loss(opened):
    names = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    llama3 = opened("llama3", names, bos_token=names[0], eos_token=names[3], pad_token=None)
    messages = turns(system="Be brief.", user="Who?", assistant="Ada.")
    text = llama3.apply_chat_template(messages[:2], tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nWho?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    assert llama3.apply_chat_template(messages, tokenize=False) == f"{text}Ada.<|eot_id|>"
    ids, loss = learned(llama3, messages)
    assert (loss, ids.count(llama3.bos_token_id)) == ("Ada.<|eot_id|>", 1)
    assert is_chat_template_stop_token_trained(llama3)


def test_gemmas_turns_are_its_own_and_what_is_said_carries_the_loss(opened):
    names = ["<bos>", "<eos>", "<pad>", "<start_of_turn>", "<end_of_turn>"]
    gemma = opened("gemma", names, bos_token=names[0], eos_token=names[1], pad_token=names[2])
    (system,), messages = turns(system="Be brief."), turns(user="Who?", assistant="Ada.") + turns(user="When?")
    text = gemma.apply_chat_template([system, *messages], tokenize=False, add_generation_prompt=True)
    assert text == (
        "<bos><start_of_turn>user\nBe brief.\n\nWho?<end_of_turn>\n<start_of_turn>model\nAda.<end_of_turn>\n"
        "<start_of_turn>user\nWhen?<end_of_turn>\n<start_of_turn>model\n"
    )
    ids, loss = learned(gemma, messages)
    assert (loss, ids.count(gemma.bos_token_id)) == ("Ada.<end_of_turn>", 1)
    assert is_chat_template_stop_token_trained(gemma)

    # Gemma's own template, which TRL has a copy of, renders the same.
    own = (Path(trl.__file__).parent / "chat_templates" / "gemma3.jinja").read_text()
    options = {"chat_template": own, "tokenize": False, "add_generation_prompt": True}
    assert gemma.apply_chat_template([system, *messages], **options) == text


# ---- Which template goes with which tokenizer


@pytest.fixture
def family(tokenizer_folder):
    """`family(more=[…], eos_token=…)`: a tokenizer of the letters alone with another family's special tokens."""

    def make(more=(), **named):
        inner = json.loads(Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json")).to_str())
        known = {token["content"] for token in inner["added_tokens"]}
        kept = {"<|im_start|>", "<|im_end|>"} if "<|vision_pad|>" in more else set()
        # What is no token of this family's becomes a word that no text has.
        for token in inner["added_tokens"]:
            if token["content"] in known - kept:
                token["content"] = f"unused {token['id']}"
        for name in known - kept:
            inner["model"]["vocab"].pop(name, None)
        inner["added_tokens"] = [token for token in inner["added_tokens"] if token["content"] in kept]
        made = Tokenizer.from_str(json.dumps(inner))
        return PreTrainedTokenizerFast(tokenizer_object=made, additional_special_tokens=list(more), **named)

    return make


QWEN = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "more": ["<|vision_pad|>"]}
HEADERS = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|finetune_right_pad_id|>"]
LLAMA = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>", "more": HEADERS}
GEMMA = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "more": ["<start_of_turn>", "<end_of_turn>"]}


@pytest.mark.parametrize(
    ("tokens", "template", "end", "pad"),
    [
        (QWEN, "chatml", "<|im_end|>", "<|vision_pad|>"),
        (LLAMA, "llama3", "<|eot_id|>", "<|finetune_right_pad_id|>"),
        (GEMMA, "gemma", "<end_of_turn>", "<pad>"),
    ],
)
def test_template_end_and_pad_of_each_family(family, model_folder, capsys, tokens, template, end, pad):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(model_folder), family(**tokens)
    model.generation_config.eos_token_id = eos = tokenizer.eos_token_id
    path = str(ROOT / "chat_templates" / f"{template}.jinja")
    settle_chat(model, tokenizer, path, ModelConfig())
    assert capsys.readouterr().out == f"chat template: {path}; turns end with {end}; padding with {pad}\n"
    assert model.generation_config.eos_token_id == [tokenizer.convert_tokens_to_ids(end), eos]
    assert model.generation_config.pad_token_id == tokenizer.convert_tokens_to_ids(pad)


def test_a_template_whose_end_of_turn_is_plain_text_to_the_tokenizer_is_refused(family, model_folder):
    """As ChatML on GPT-2's or Llama 3's tokenizer: no token is added, whose embedding would be noise."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(model_folder), family(eos_token="<|end_of_text|>")
    with pytest.raises(UserError, match=r"with a special token \(<\|im_end\|> is plain text for this tokenizer\)"):
        settle_chat(model, tokenizer, str(ROOT / "chat_templates" / "chatml.jinja"), ModelConfig())


def test_lora_is_refused_where_the_model_has_never_seen_the_templates_tokens(tokenizer, model_folder):
    """As Llama 3's base models: their rows are zeros, and an adapter on the matrices leaves them so."""
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    with torch.no_grad():
        model.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids("<|im_end|>")] = 0
    settle_chat(model, tokenizer, None, ModelConfig())
    with pytest.raises(UserError, match=r"<\|im_end\|>.* are zero, .*: set `lora_modules_to_save: \[embed_to"):
        settle_chat(model, tokenizer, None, ModelConfig(use_peft=True))
    settle_chat(model, tokenizer, None, ModelConfig(use_peft=True, lora_modules_to_save=["embed_tokens", "lm_head"]))

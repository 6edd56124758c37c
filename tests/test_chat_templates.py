from __future__ import annotations

import json
from pathlib import Path

import pytest
from jinja2 import TemplateError
from trl.chat_template_utils import is_chat_template_stop_token_trained

ROOT = Path(__file__).parents[1]

CALLS = [
    {"type": "function", "function": {"name": "search", "arguments": {"query": "Ada Genoa"}}},
    {"type": "function", "function": {"name": "python", "arguments": {"code": "print(1)"}}},
    {"type": "function", "function": {"name": "clock", "arguments": {"zone": "Zürich"}}},
]


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
    user = {"role": "user", "content": "Who?"}
    system = {"role": "system", "content": "Be brief."}
    lines = (
        f"search(query)\npython(code)\n{json.dumps(clock['function'])}<|im_end|>\n<|im_start|>user\nWho?<|im_end|>\n"
    )
    assert tokenizer.apply_chat_template([user], tools=tools, tokenize=False) == f"<|im_start|>system\n{lines}"
    with_system = tokenizer.apply_chat_template([system, user], tools=tools, tokenize=False)
    assert with_system == f"<|im_start|>system\nBe brief.\n\n{lines}"
    assert "search" not in tokenizer.apply_chat_template([system, user], tokenize=False)


def test_the_loss_falls_on_the_answers_and_their_ends_and_on_nothing_else(tokenizer):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Where was Ada born?"},
        {"role": "assistant", "content": "In Genoa."},
        {"role": "user", "content": "When?"},
        {"role": "assistant", "content": "In 1984."},
    ]
    out = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    pairs = zip(out["input_ids"], out["assistant_masks"], strict=True)
    assert tokenizer.decode([token for token, mask in pairs if mask]) == "In Genoa.<|im_end|>In 1984.<|im_end|>"


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


# ---- R1-Zero's prompt


@pytest.fixture
def r1_zero(tokenizer_folder):
    from transformers import AutoTokenizer

    from zero2chat.models.tokenization import set_chat_template

    found = AutoTokenizer.from_pretrained(tokenizer_folder)
    set_chat_template(found, ROOT / "chat_templates" / "r1_zero.jinja")
    return found


def test_r1_zeros_prompt_is_the_papers_and_what_is_said_carries_the_loss(r1_zero):
    messages = [
        {"role": "user", "content": "What is 2 + 2?"},
        {"role": "assistant", "content": " <think> easy </think> <answer> \\boxed{4} </answer>"},
    ]
    text = r1_zero.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True)
    assert text.startswith("A conversation between User and Assistant. The user asks a question")
    assert text.endswith("put in \\boxed{}.\nUser: What is 2 + 2?\nAssistant:")
    out = r1_zero.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    pairs = zip(out["input_ids"], out["assistant_masks"], strict=True)
    assert r1_zero.decode([token for token, mask in pairs if mask]) == f"{messages[1]['content']}<|im_end|>"
    assert r1_zero.decode(out["input_ids"]).startswith(text)
    assert is_chat_template_stop_token_trained(r1_zero)
    own = r1_zero.apply_chat_template([{"role": "system", "content": "Solve it."}, *messages[:1]], tokenize=False)
    assert own == "Solve it.\nUser: What is 2 + 2?"


# ---- Llama 3


@pytest.fixture
def llama3(tokenizer_folder):
    """Our small tokenizer with Llama 3's control tokens, which says nothing of padding, as theirs."""
    from transformers import AutoTokenizer

    from zero2chat.models.tokenization import set_chat_template

    found = AutoTokenizer.from_pretrained(tokenizer_folder)
    names = ["begin_of_text", "start_header_id", "end_header_id", "eot_id", "finetune_right_pad_id"]
    found.add_special_tokens({"additional_special_tokens": [f"<|{name}|>" for name in names]})
    found.bos_token, found.eos_token, found.pad_token = "<|begin_of_text|>", "<|eot_id|>", None
    set_chat_template(found, ROOT / "chat_templates" / "llama3.jinja")
    return found


def test_llama3s_turns_are_its_own_and_what_is_said_carries_the_loss(llama3):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": "Ada."},
    ]
    text = llama3.apply_chat_template(messages[:2], tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nWho?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    assert llama3.apply_chat_template(messages, tokenize=False) == f"{text}Ada.<|eot_id|>"
    out = llama3.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    pairs = zip(out["input_ids"], out["assistant_masks"], strict=True)
    assert llama3.decode([token for token, mask in pairs if mask]) == "Ada.<|eot_id|>"
    assert out["input_ids"].count(llama3.bos_token_id) == 1
    assert is_chat_template_stop_token_trained(llama3)


# ---- Gemma


@pytest.fixture
def gemma(tokenizer_folder):
    """Our small tokenizer with Gemma's control tokens."""
    from transformers import AutoTokenizer

    from zero2chat.models.tokenization import set_chat_template

    found = AutoTokenizer.from_pretrained(tokenizer_folder)
    names = ["<bos>", "<eos>", "<pad>", "<start_of_turn>", "<end_of_turn>"]
    found.add_special_tokens({"additional_special_tokens": names})
    found.bos_token, found.eos_token, found.pad_token = names[:3]
    set_chat_template(found, ROOT / "chat_templates" / "gemma.jinja")
    return found


def test_gemmas_turns_are_its_own_and_what_is_said_carries_the_loss(gemma):
    system = {"role": "system", "content": "Be brief."}
    messages = [
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": "Ada."},
        {"role": "user", "content": "When?"},
    ]
    text = gemma.apply_chat_template([system, *messages], tokenize=False, add_generation_prompt=True)
    assert text == (
        "<bos><start_of_turn>user\nBe brief.\n\nWho?<end_of_turn>\n<start_of_turn>model\nAda.<end_of_turn>\n"
        "<start_of_turn>user\nWhen?<end_of_turn>\n<start_of_turn>model\n"
    )
    out = gemma.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    pairs = zip(out["input_ids"], out["assistant_masks"], strict=True)
    assert gemma.decode([token for token, mask in pairs if mask]) == "Ada.<end_of_turn>"
    assert out["input_ids"].count(gemma.bos_token_id) == 1
    assert is_chat_template_stop_token_trained(gemma)

    # Gemma's own template, which TRL has a copy of, renders the same.
    import trl

    own = (Path(trl.__file__).parent / "chat_templates" / "gemma3.jinja").read_text()
    assert (
        gemma.apply_chat_template([system, *messages], chat_template=own, tokenize=False, add_generation_prompt=True)
        == text
    )


# ---- Which template goes with which tokenizer


@pytest.fixture
def family(tokenizer_folder):
    """`family(more=[…], eos_token=…)`: a tokenizer of the letters alone with another family's special tokens."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

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
        return PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(json.dumps(inner)), additional_special_tokens=list(more), **named
        )

    return make


@pytest.mark.parametrize(
    ("tokens", "template", "end", "pad"),
    [
        (
            {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "more": ["<|vision_pad|>"]},
            "chatml",
            "<|im_end|>",
            "<|vision_pad|>",
        ),
        (
            {
                "bos_token": "<|begin_of_text|>",
                "eos_token": "<|end_of_text|>",
                "more": ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|finetune_right_pad_id|>"],
            },
            "llama3",
            "<|eot_id|>",
            "<|finetune_right_pad_id|>",
        ),
        (
            {
                "bos_token": "<bos>",
                "eos_token": "<eos>",
                "pad_token": "<pad>",
                "more": ["<start_of_turn>", "<end_of_turn>"],
            },
            "gemma",
            "<end_of_turn>",
            "<pad>",
        ),
    ],
)
def test_template_end_and_pad_of_each_family(family, model_folder, capsys, tokens, template, end, pad):
    from transformers import AutoModelForCausalLM
    from trl import ModelConfig

    from zero2chat.models.chat_template import settle_chat

    model, tokenizer = AutoModelForCausalLM.from_pretrained(model_folder), family(**tokens)
    model.generation_config.eos_token_id = eos = tokenizer.eos_token_id
    path = str(ROOT / "chat_templates" / f"{template}.jinja")
    settle_chat(model, tokenizer, path, ModelConfig())
    assert capsys.readouterr().out == f"chat template: {path}; turns end with {end}; padding with {pad}\n"
    assert model.generation_config.eos_token_id == [tokenizer.convert_tokens_to_ids(end), eos]
    assert model.generation_config.pad_token_id == tokenizer.convert_tokens_to_ids(pad)


def test_a_template_whose_end_of_turn_is_plain_text_to_the_tokenizer_is_refused(family, model_folder):
    """As ChatML on GPT-2's or Llama 3's tokenizer: no token is added, whose embedding would be noise."""
    from transformers import AutoModelForCausalLM
    from trl import ModelConfig

    from zero2chat.core.errors import UserError
    from zero2chat.models.chat_template import settle_chat

    model, tokenizer = AutoModelForCausalLM.from_pretrained(model_folder), family(eos_token="<|end_of_text|>")
    with pytest.raises(UserError, match=r"with a special token \(<\|im_end\|> is plain text for this tokenizer\)"):
        settle_chat(model, tokenizer, str(ROOT / "chat_templates" / "chatml.jinja"), ModelConfig())


def test_lora_is_refused_where_the_model_has_never_seen_the_templates_tokens(tokenizer, model_folder):
    """As Llama 3's base models: their rows are zeros, and an adapter on the matrices leaves them so."""
    import torch
    from transformers import AutoModelForCausalLM
    from trl import ModelConfig

    from zero2chat.core.errors import UserError
    from zero2chat.models.chat_template import settle_chat

    model = AutoModelForCausalLM.from_pretrained(model_folder)
    with torch.no_grad():
        model.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids("<|im_end|>")] = 0
    settle_chat(model, tokenizer, None, ModelConfig())
    with pytest.raises(
        UserError, match=r"<\|im_end\|>.* untrained in the model.*set `lora_modules_to_save: \[embed_tokens, lm_head\]`"
    ):
        settle_chat(model, tokenizer, None, ModelConfig(use_peft=True))
    settle_chat(model, tokenizer, None, ModelConfig(use_peft=True, lora_modules_to_save=["embed_tokens", "lm_head"]))

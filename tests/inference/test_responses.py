from __future__ import annotations

import pytest
from transformers import AddedToken, AutoTokenizer, Qwen3Config
from trl.chat_template_utils import qwen3_chat_template, qwen3_training_chat_template

from zero2chat.core.errors import UserError
from zero2chat.inference.responses import CONTENT_ONLY, OfferedAnswer, OfferedTools, ensure_response_template
from zero2chat.inference.session import Sampling
from zero2chat.inference.tool_format import CallFormat
from zero2chat.models.tokenization import control_ids, neutral, plain_ids

TURN_END = 3


def schema(name: str, *parameters: str, **more: object) -> dict:
    properties = {parameter: {"type": "string"} for parameter in parameters}
    return {"type": "function", "function": {"name": name, "parameters": {"properties": properties, **more}}}


SEARCH, PYTHON = schema("search", "query"), schema("python", "code")


@pytest.fixture
def own(tokenizer_folder):
    return AutoTokenizer.from_pretrained(tokenizer_folder)


@pytest.fixture
def other(tokenizer_folder):
    """Qwen3's template and the tokens of its calls, and no response template."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    names = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
    tokenizer.add_tokens([AddedToken(name, special=False, normalized=False) for name in names])
    tokenizer.chat_template, tokenizer.response_template = qwen3_training_chat_template, None
    return tokenizer


class Model:
    config = Qwen3Config(max_position_embeddings=4096)

    def forward(self, cache=None):
        pass


def pieces(tokenizer, text: str | list[int], tools: list | None) -> list:
    """What an answer yields of which the model draws this text."""
    written = CallFormat(OfferedTools(tools or []), tokenizer, {TURN_END})
    ids = tokenizer.encode(text) if isinstance(text, str) else text
    answer = OfferedAnswer(Model(), tokenizer, Sampling(max_new_tokens=len(ids)), written, written.ends)
    drawn = iter(ids)
    answer._next = lambda *_: next(drawn)
    return list(answer.answer([]))


def read(tokenizer, text: str | list[int], tools: list | None) -> dict:
    found = pieces(tokenizer, text, tools)
    calls = [call(one.call.name, **one.arguments)[0] for one in found if not isinstance(one, str)]
    content = "".join(one for one in found if isinstance(one, str))
    return {"role": "assistant", "content": content} | ({"tool_calls": calls} if calls else {})


def call(name: str, **arguments: object) -> list[dict]:
    return [{"type": "function", "function": {"name": name, "arguments": arguments}}]


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        ("<SEARCH_START>Ada Ilves<SEARCH_END><|im_end|>", "", call("search", query="Ada Ilves")),
        ("I look. <SEARCH_START>a\nb<SEARCH_END>", "I look. ", call("search", query="a\nb")),
        ("<PYTHON_START>print(1 < 2)<PYTHON_END><|im_end|>", "", call("python", code="print(1 < 2)")),
        ("In Genoa.<|im_end|>", "In Genoa.", None),
    ],
)
def test_calls_of_tokens_of_their_own_have_their_names_and_leave_the_content(own, text, content, calls):
    message = read(own, text, [SEARCH, PYTHON])
    assert (message["content"], message.get("tool_calls")) == (content, calls)


def test_json_between_control_tokens_is_a_call_with_its_content(other):
    text = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": [2]}}\n</tool_call><|im_end|>'
    message = read(other, text, [schema("add", "a", "b")])
    assert message["tool_calls"] == call("add", a=1, b=[2])


@pytest.mark.parametrize(
    "text",
    [
        "<SEARCH_START>Ada",
        "<SEARCH_START>Ada<SEARCH_START>Tom<SEARCH_END>",
        "<SEARCH_START>Ada<PYTHON_END>",
        "Ada<SEARCH_END>",
        "<SEARCH_START>",
    ],
)
def test_what_is_no_whole_call_stays_in_the_content_as_it_was_written(own, text):
    message = read(own, text, [SEARCH, PYTHON])
    assert "tool_calls" not in message
    assert message["content"] == text.removesuffix("Tom<SEARCH_END>")  # an invalid call ends the answer


@pytest.mark.parametrize("text", ["<tool_call>no JSON</tool_call>", '<tool_call>{"name": "add"}</tool_call>'])
def test_json_that_is_no_call_is_content(other, text):
    assert read(other, text, [schema("add", "a")])["content"] == text


def test_a_turn_that_ends_inside_a_call_makes_none(own):
    assert read(own, "<SEARCH_START>Ada<|im_end|>", [SEARCH])["content"] == "<SEARCH_START>Ada"


def test_a_call_that_is_only_spelled_is_text(own, other):
    text = "<SEARCH_START>Ada<SEARCH_END>"
    assert read(own, plain_ids(own, [text])[0], [SEARCH]) == {"role": "assistant", "content": text}
    # Its own response template would take this one out of the text.
    text = '<tool_call>{"name": "search", "arguments": {"query": "Ada"}}</tool_call>'
    assert "tool_calls" in own.parse_response(text, prefix="")
    assert read(own, text, [SEARCH]) == {"role": "assistant", "content": text}
    assert read(other, plain_ids(other, [text])[0], [SEARCH]) == {"role": "assistant", "content": text}


def test_without_tools_a_call_is_text(own):
    text = "<SEARCH_START>Ada<SEARCH_END>"
    assert read(own, text, None) == {"role": "assistant", "content": text}


def test_an_answer_told_token_by_token_holds_back_a_call_until_it_is_one(own):
    said, called = pieces(own, "a<SEARCH_START>b<SEARCH_END>c<|im_end|>", [SEARCH])
    assert (said, called.arguments) == ("a", {"query": "b"})
    assert pieces(own, "a<SEARCH_START>b", [SEARCH]) == ["a", "<SEARCH_START>b"]


def test_a_template_that_trl_does_not_know_can_be_trained_with_tools_too(own, other):
    template = own.response_template
    ensure_response_template(own)
    assert own.response_template == template
    other.chat_template = qwen3_chat_template
    ensure_response_template(other)
    assert "tool_calls" in other.response_template["fields"]
    other.chat_template, other.response_template = "{{ messages }}", None
    ensure_response_template(other)
    assert other.response_template == CONTENT_ONLY


# ---- calls in plain text

WEATHER = '<tool_call>{"name": "weather", "arguments": {"town": "Genoa"}}</tool_call>'


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        (f"{WEATHER}<|im_end|>", "", call("weather", town="Genoa")),
        (f"I look.{WEATHER}\n{WEATHER}\n<|im_end|>", "I look.", call("weather", town="Genoa") * 2),
        (f"I look. {WEATHER} It rains.<|im_end|>", "I look. ", call("weather", town="Genoa")),
        (f"a <tool> {WEATHER[:-4]}", f"a <tool> {WEATHER[:-4]}", None),
        (f"a {WEATHER[:-4]}<|im_end|>", f"a {WEATHER[:-4]}", None),
        ("a <tool_call>b</tool_call> c<|im_end|>", "a <tool_call>b</tool_call>", None),
        ("1 <tool<|im_end|>", "1 <tool", None),
        ("1 <tool", "1 <tool", None),
    ],
)
def test_calls_in_plain_text_leave_the_content_if_they_are_whole(own, text, content, calls):
    message = read(own, text, [schema("weather", "town")])
    assert (message["content"], message.get("tool_calls")) == (content, calls)


def test_what_somebody_else_writes_is_no_call_when_the_model_copies_it(own):
    (copied,) = neutral([{"role": "user", "content": f"Say {WEATHER}"}], own)
    assert read(own, copied["content"], [schema("weather", "town")]) == {
        "role": "assistant",
        "content": copied["content"],
    }
    assert "<tool_call>" not in copied["content"]
    # A template without the tags, or with tokens for them, has its own.
    own.chat_template = "{{ messages }}"
    assert neutral(WEATHER, own) == WEATHER


# ---- tools that somebody else runs


def test_a_parameter_that_is_not_required_is_no_part_of_a_call(own):
    tools = [schema("search", "query", "limit", required=["query"])]
    assert read(own, "<SEARCH_START>Ada<SEARCH_END>", tools)["tool_calls"] == call("search", query="Ada")


@pytest.mark.parametrize(
    ("tools", "says"),
    [
        ([schema("search", "q")], "a call of search needs arguments"),
        (["search"], "expected a list of"),
        ([{"function": {}}], "expected a list of"),
    ],
)
def test_tools_that_the_model_cannot_call_are_refused(own, tools, says):
    with pytest.raises(UserError, match=says):
        CallFormat(OfferedTools(tools), own, {TURN_END})


def test_offered_tools_are_never_run():
    result = OfferedTools([SEARCH]).result("search", {"query": "Ada"}, 1.0)
    assert result.failed


# ---- what a client sends


def test_control_tokens_are_broken_wherever_they_stand(own):
    text = "<|im_end|><SEARCH_<SEARCH_START>START>"
    sent = [{"role": text, "content": text, "calls": [{"name": text, "arguments": {text: [text, 1, None, "\ud83d"]}}]}]
    ids = own.encode(str(neutral(sent, own)))
    assert not control_ids(own).intersection(ids)
    assert neutral([{"a": "b", "n": 1.5}], own) == [{"a": "b", "n": 1.5}]

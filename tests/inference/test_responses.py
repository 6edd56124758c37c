from __future__ import annotations

import pytest
import torch
from transformers import AddedToken, AutoTokenizer
from trl.chat_template_utils import parse_response, qwen3_chat_template, qwen3_training_chat_template

from zero2chat.core.errors import UserError
from zero2chat.inference.responses import (
    CONTENT_ONLY,
    AnswerReader,
    OfferedTools,
    StreamedAnswer,
    ensure_response_template,
)
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


def read(tokenizer, text: str, tools: list | None) -> dict:
    reader = AnswerReader(tokenizer, {TURN_END})
    return reader.parse_response(tokenizer.encode(text), prefix="", tools=tools)


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
    assert message["content"] == text


@pytest.mark.parametrize("text", ["<tool_call>no JSON</tool_call>", '<tool_call>{"name": "add"}</tool_call>'])
def test_json_that_is_no_call_is_content(other, text):
    assert read(other, text, [schema("add", "a")])["content"] == text


def test_a_turn_that_ends_inside_a_call_makes_none(own):
    assert read(own, "<SEARCH_START>Ada<|im_end|>", [SEARCH])["content"] == "<SEARCH_START>Ada"


def test_a_call_that_is_only_spelled_is_text(own, other):
    text = "<SEARCH_START>Ada<SEARCH_END>"
    message = AnswerReader(own, {TURN_END}).parse_response(plain_ids(own, [text])[0], prefix="", tools=[SEARCH])
    assert message == {"role": "assistant", "content": text}
    # Its own response template would take this one out of the text.
    text = '<tool_call>{"name": "search", "arguments": {"query": "Ada"}}</tool_call>'
    assert "tool_calls" in own.parse_response(text, prefix="")
    message = AnswerReader(own, {TURN_END}).parse_response(own.encode(text), prefix="", tools=[SEARCH])
    assert message == {"role": "assistant", "content": text}
    ids = plain_ids(other, [text])[0]
    message = AnswerReader(other, {TURN_END}).parse_response(ids, prefix="", tools=[SEARCH])
    assert message == {"role": "assistant", "content": text}


def test_without_tools_a_call_is_text(own):
    text = "<SEARCH_START>Ada<SEARCH_END>"
    assert read(own, text, None) == {"role": "assistant", "content": text}


def test_thoughts_are_read_by_the_response_template(own):
    message = read(own, "<think>Who?</think>Ada: <SEARCH_START>Ada<SEARCH_END><|im_end|>", [SEARCH])
    assert message == {
        "role": "assistant",
        "reasoning_content": "Who?",
        "content": "Ada: ",
        "tool_calls": call("search", query="Ada"),
    }


def test_what_the_prompt_holds_is_no_part_of_the_answer_without_a_response_template(other):
    ids = other.encode("In Genoa.<|im_end|>")
    message = AnswerReader(other, {TURN_END}).parse_response(ids, prefix="<|im_start|>user\nWhere?", tools=None)
    assert message == {"role": "assistant", "content": "In Genoa."}


def test_a_tensor_of_ids_is_read_as_a_list_is(own):
    ids = own.encode("<SEARCH_START>Ada<SEARCH_END>")
    reader = AnswerReader(own, {TURN_END})
    assert reader.parse_response(torch.tensor(ids), prefix="", tools=[SEARCH])["tool_calls"]


def test_trls_tool_loop_reads_the_calls_of_functions_with_the_reader(own):
    def search(query: str) -> str:
        """Look something up.

        Args:
            query: What to look for
        """
        return query

    own.parse_response = AnswerReader(own, {TURN_END}).parse_response
    ids = own.encode("<SEARCH_START>Ada<SEARCH_END><|im_end|>")
    message = parse_response(own, ids, prefix=own.encode("<|im_start|>assistant\n"), tools=[search])
    assert message["tool_calls"] == call("search", query="Ada")


def test_an_answer_told_token_by_token_holds_back_a_call_until_it_is_one(own):
    answer = StreamedAnswer(AnswerReader(own, {TURN_END}).format([SEARCH]))
    told = [answer.read(token) for token in own.encode("a<SEARCH_START>b<SEARCH_END>c<|im_end|>")]
    assert [own.decode(ids) for ids, _ in told] == ["a", "", "", "", "c", ""]
    assert [call.arguments for _, made in told for call in made] == [{"query": "b"}]
    for token in own.encode("<SEARCH_START>b"):
        assert answer.read(token) == ([], [])
    assert own.decode(answer.rest()) == "<SEARCH_START>b"


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
        ("a <tool_call>b</tool_call> c<|im_end|>", "a <tool_call>b</tool_call> c", None),
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
        AnswerReader(own, {TURN_END}).format(tools)


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

from __future__ import annotations

import pytest
from transformers import AddedToken, AutoTokenizer, Qwen3Config
from trl.chat_template_utils import qwen3_chat_template, qwen3_training_chat_template

from zero2chat.core.errors import UserError
from zero2chat.inference.responses import CONTENT_ONLY, OfferedAnswer, OfferedTools, ensure_response_template
from zero2chat.inference.session import Sampling
from zero2chat.inference.tool_format import CallFormat
from zero2chat.models.tokenization import neutral, plain_ids

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


def read(tokenizer, text: str | list[int], tools: list | None) -> dict:
    """The message of which the model draws this text."""
    written = CallFormat(OfferedTools(tools or []), tokenizer, {TURN_END})
    ids = tokenizer.encode(text) if isinstance(text, str) else text
    answer = OfferedAnswer(Model(), tokenizer, Sampling(max_new_tokens=len(ids)), written, written.ends)
    sampled = iter(ids)
    answer._next = lambda *_: next(sampled)
    output = list(answer.answer([]))
    calls = [call(one.call.name, **one.arguments)[0] for one in output if not isinstance(one, str)]
    content = "".join(one for one in output if isinstance(one, str))
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


@pytest.mark.parametrize(
    "text",
    [
        "<SEARCH_START>Ada",
        "<SEARCH_START>Ada<SEARCH_START>Tom<SEARCH_END>",
        "<SEARCH_START>Ada<PYTHON_END>",
        "Ada<SEARCH_END>",
        "<SEARCH_START>",
        "<SEARCH_START>Ada<|im_end|>",
    ],
)
def test_what_is_no_whole_call_stays_in_the_content_as_it_was_written(own, text):
    message = read(own, text, [SEARCH, PYTHON])
    assert "tool_calls" not in message
    # An invalid call ends the answer.
    assert message["content"] == text.removesuffix("Tom<SEARCH_END>").removesuffix("<|im_end|>")


def test_json_between_control_tokens_is_a_call_with_its_content_or_content(other):
    tools = [schema("add", "a", "b")]
    text = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": [2]}}\n</tool_call><|im_end|>'
    assert read(other, text, tools)["tool_calls"] == call("add", a=1, b=[2])
    for text in ("<tool_call>no JSON</tool_call>", '<tool_call>{"name": "add"}</tool_call>'):
        assert read(other, text, tools)["content"] == text


def test_a_call_that_is_only_spelled_is_text(own, other):
    text = "<SEARCH_START>Ada<SEARCH_END>"
    assert read(own, text, None) == {"role": "assistant", "content": text}  # there are no tools
    assert read(own, plain_ids(own, [text])[0], [SEARCH]) == {"role": "assistant", "content": text}
    # Its own response template would take this one out of the text.
    text = '<tool_call>{"name": "search", "arguments": {"query": "Ada"}}</tool_call>'
    assert "tool_calls" in own.parse_response(text, prefix="")
    assert read(own, text, [SEARCH]) == {"role": "assistant", "content": text}
    assert read(other, plain_ids(other, [text])[0], [SEARCH]) == {"role": "assistant", "content": text}


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
    assert read(own, copied["content"], [schema("weather", "town")]) == copied | {"role": "assistant"}
    assert "<tool_call>" not in copied["content"]
    # A template without the tags, or with tokens for them, has its own.
    own.chat_template = "{{ messages }}"
    assert neutral(WEATHER, own) == WEATHER


def test_tools_that_the_model_cannot_call_are_refused(own):
    wrong = {"a call of search needs arguments": schema("search", "q"), "expected a list of": {"function": {}}}
    for says, tool in (*wrong.items(), ("expected a list of", "search")):
        with pytest.raises(UserError, match=says):
            CallFormat(OfferedTools([tool]), own, {TURN_END})
    assert OfferedTools([SEARCH]).result("search", {"query": "Ada"}, 1.0).failed  # they are never run
    limited = [schema("search", "query", "limit", required=["query"])]  # what is not required is no part of a call
    assert read(own, "<SEARCH_START>Ada<SEARCH_END>", limited)["tool_calls"] == call("search", query="Ada")

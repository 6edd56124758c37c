"""Thoughts: our template, Qwen3's and DeepSeek-R1's, on tiny models that are made to say what a test needs."""

from __future__ import annotations

import pytest
import torch
from trl.chat_template_utils import qwen3_chat_template

from zero2chat.core.errors import UserError
from zero2chat.inference import fast_generate
from zero2chat.inference.confidence import REFUSAL, confidence
from zero2chat.inference.generate import answer
from zero2chat.inference.session import Sampling, Session
from zero2chat.inference.tool_format import Call, ToolResult, Tools
from zero2chat.models.chat_template import TurnEncoder
from zero2chat.models.loading import load_model
from zero2chat.models.thinking import EndThoughts, Thinking, Thought
from zero2chat.models.tokenization import TURN_END, set_chat_template
from zero2chat.tools.tool_functions import python

START, END, TURN_END_ID = 8, 9, 3
QUESTION = {"role": "user", "content": "What is 2 + 3?"}
ANSWER = {"role": "assistant", "content": "It is 5."}
# Like DeepSeek-R1's: the prompt opens the thought, and nothing switches it off.
OPENING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "<|im_end|>{% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>{% endif %}"
)


def template(tokenizer, name: str) -> None:
    if name == "chatml_thinking":
        set_chat_template(tokenizer, "chat_templates/chatml_thinking.jinja")
    else:
        tokenizer.chat_template = {"qwen3": qwen3_chat_template, "opening": OPENING}[name]


@pytest.fixture(params=["chatml_thinking", "qwen3"])
def thinking(request, model_folder):
    model, tokenizer = load_model(model_folder)
    template(tokenizer, request.param)
    return model, tokenizer


@pytest.fixture
def opening(model_folder):
    model, tokenizer = load_model(model_folder)
    template(tokenizer, "opening")
    return model, tokenizer


@pytest.fixture
def says(monkeypatch):
    """Makes a model want these tokens, one after another, then the end of its turn. A wish that may not be drawn is
    lost."""

    def say(loaded, text: str) -> None:
        model, tokenizer = loaded
        planned = iter(tokenizer.encode(text))
        forward = type(model).forward

        def scripted(*args, **kwargs):
            output = forward(model, *args, **kwargs)
            output.logits = torch.zeros_like(output.logits)
            output.logits[:, -1, next(planned, TURN_END_ID)] = 9
            return output

        monkeypatch.setattr(model, "forward", scripted)
        monkeypatch.setattr(fast_generate, "_read", lambda *_, **__: None)  # it reads the weights

    return say


def split(pieces):
    thought = "".join(piece for piece in pieces if isinstance(piece, Thought))
    return thought, "".join(p for p in pieces if isinstance(p, str) and not isinstance(p, Thought))


def reply(loaded, how=None, turns=("What is 2 + 3?",), **more):
    session = Session(*loaded, Sampling(temperature=0, max_new_tokens=60, thinking=how, **more))
    pieces = [list(session.reply(turn)) for turn in turns][-1]
    return *split(pieces), session


def test_every_turn_begins_with_a_thought_that_may_be_empty_and_carries_loss(thinking):
    _, tokenizer = thinking
    messages = [QUESTION, ANSWER | {"reasoning_content": "2 + 3 = 5"}, QUESTION, ANSWER]
    ids, mask = TurnEncoder(tokenizer)(messages)
    learned = tokenizer.decode([i for i, one in zip(ids, mask, strict=True) if one])
    turns = ["".join(turn.split()) for turn in learned.split(TURN_END)]
    assert turns == ["<think>2+3=5</think>Itis5.", "<think></think>Itis5.", ""]


def test_a_thought_is_streamed_apart_from_the_answer_and_kept_in_the_context(thinking, says):
    says(thinking, "<think>2 + 3 = 5</think>It is 5.")
    thought, text, session = reply(thinking)
    assert (thought, text) == ("2 + 3 = 5", "It is 5.")
    assert session.turns[-1].assistant == "It is 5."
    assert "2 + 3 = 5" in thinking[1].decode(session.turns[-1].ids)


@pytest.mark.parametrize("budget", [1, 4])
def test_a_budget_ends_the_thought_and_an_answer_follows(thinking, says, budget):
    _, tokenizer = thinking
    says(thinking, "<think>" + "2 + 3 = 5 " * 9)
    thought, text, session = reply(thinking, budget)
    close = 1 if tokenizer.chat_template != qwen3_chat_template else 2  # Qwen3 writes a new line before it
    assert budget <= len(tokenizer.encode(thought)) <= budget + close - 1
    assert text.strip()
    assert session.turns[-1].ids.count(END) == 1


@pytest.mark.parametrize(("how", "most"), [(None, 20), (True, 999)])
def test_a_thought_that_never_ends_leaves_a_quarter_of_the_room_to_its_answer(thinking, says, how, most):
    says(thinking, "<think>" + "2 + 3 = 5 " * 99)
    session = Session(*thinking, Sampling(temperature=0, max_new_tokens=most, thinking=how))
    thought, text = split(list(session.reply("What is 2 + 3?")))
    room = min(most, 128 - session.turns[-1].ids.index(START))
    assert 0 <= len(thinking[1].encode(thought)) - room * 3 // 4 <= 1
    assert text.strip()
    assert session.truncated


def test_without_thinking_the_prompt_has_an_empty_thought_and_the_answer_follows_it(thinking, says):
    _, tokenizer = thinking
    says(thinking, "It is 5.")
    thought, text, session = reply(thinking, False)
    assert (thought, text) == ("", "It is 5.")
    whole = "".join(tokenizer.decode(session.turns[-1].ids).split())
    assert whole.endswith("<|im_start|>assistant<think></think>Itis5.<|im_end|>")


def test_a_turn_that_ends_within_its_thought_goes_on_to_its_answer(thinking, says):
    said = "<think>2 + 3 = 5<|im_end|>It is 5."
    says(thinking, said)
    thought, text, session = reply(thinking, abstain_below=0.5)  # the end counts as the model's own token
    assert (thought, text, session.empty) == ("2 + 3 = 5", "It is 5.", False)
    assert session.turns[-1].ids.count(END) == 1
    says(thinking, said)
    [given] = answer(*thinking, [[QUESTION]], 60)
    assert (given.content, given.stopped, given.empty) == ("It is 5.", True, False)
    says(thinking, said)
    [given] = answer(*thinking, [[QUESTION]], 60, unaided=True)
    assert (given.content, given.stopped, given.empty) == ("", True, True)
    says(thinking, "<think>2 + 3 = 5<|im_end|><|im_end|>")
    [given] = answer(*thinking, [[QUESTION]], 60)
    assert (given.content, given.stopped, given.empty) == ("", True, True)


def test_in_a_thought_its_end_has_the_probability_of_the_ends_of_the_turn():
    ends = EndThoughts(START, END, [END], 9, False, [3, 4])
    ends(torch.tensor([[1], [1]]), torch.zeros(2, 12))
    before = torch.randn(2, 12, generator=torch.Generator().manual_seed(0))
    after = ends(torch.tensor([[1, START, 5], [1, 5, 5]]), before.clone()).softmax(1)
    probabilities = before.softmax(1)
    assert after[0, END] == pytest.approx(probabilities[0, [3, 4, END]].sum())
    assert after[0, [3, 4]].tolist() == [0, 0]
    others = [i for i in range(12) if i not in (3, 4, END)]
    assert torch.allclose(after[0, others], probabilities[0, others])
    assert torch.allclose(after[1], probabilities[1])


@pytest.mark.parametrize("likelier", [0, 50])
def test_a_batch_is_as_sure_of_its_answer_as_a_conversation(opening, likelier):
    model, tokenizer = opening
    with torch.no_grad():  # so that the model ends its turn within its thought, or only its budget ends the thought
        model.lm_head.weight[TURN_END_ID] *= likelier
    session = Session(model, tokenizer, Sampling(temperature=0, max_new_tokens=24, abstain_below=1e-9))
    list(session.reply(QUESTION["content"]))
    [given] = answer(model, tokenizer, [[QUESTION]], 24, measured=True)
    assert given.confidence == pytest.approx(confidence(session._log_probabilities), abs=1e-5)


@pytest.mark.parametrize("how", [None, 40])
@pytest.mark.parametrize("room", [4, 5, 8, 12, 20])
def test_a_thought_leaves_a_token_for_its_answer_however_few_there_are(thinking, says, how, room):
    says(thinking, "<think>" + "2 + 3 = 5 " * 99)
    session = Session(*thinking, Sampling(temperature=0, max_new_tokens=room, thinking=how))
    _, text = split(list(session.reply("What is 2 + 3?")))
    close = 2 if thinking[1].chat_template == qwen3_chat_template else 1
    assert bool(text) == (room >= 2 + close)


SAYINGS = (
    "<think>2 + 3 = 5</think>It is 5.",
    "<think>2 + 3<|im_end|>It is 5.",
    "It is 5.",
    "5 <think>x</think> 6",
    "so 5</think>6",
    "<think>2 + 3",
)


@pytest.mark.parametrize("how", [None, True, False, 3])
@pytest.mark.parametrize("said", SAYINGS)
def test_a_batch_answers_as_a_conversation_does(thinking, says, how, said):
    says(thinking, said)
    [given] = answer(*thinking, [[QUESTION]], 60, thinking=how)
    says(thinking, said)
    thought, text, _ = reply(thinking, how)
    assert given.content == text
    assert given.thought == len(thinking[1].encode(thought))
    assert how != 3 or given.thought <= 4


def test_the_fast_loop_ends_thoughts_too(opening):
    [given] = answer(*opening, [[QUESTION]], 12, thinking=2)
    assert given.ids.index(END) == 2
    assert given.thought == 2


def test_a_template_that_opens_the_thought_is_ended_at_once_when_thinking_is_off(opening, says):
    says(opening, "\nIt is 5.")
    assert reply(opening, False)[:2] == ("", "It is 5.")  # the first token was forced
    says(opening, "hm</think>It is 5.")
    assert reply(opening)[:2] == ("hm", "It is 5.")
    says(opening, "hm hm")
    assert reply(opening)[:2] == ("hm hm", "")
    [given] = answer(*opening, [[QUESTION]], 3)
    assert given.content == ""


@pytest.mark.parametrize("name", ["chatml_thinking", "qwen3", "opening"])
def test_a_refusal_is_an_answer_not_a_thought(model_folder, says, name):
    loaded = load_model(model_folder)
    template(loaded[1], name)
    says(loaded, "2 + 3</think>It is 5.")
    thought, text, session = reply(loaded, abstain_below=0.999)
    assert (thought, text) == ("", REFUSAL)
    assert session.turns[-1].assistant == REFUSAL
    assert END in session.turns[-1].ids


def test_a_forced_end_of_a_thought_does_not_lower_the_confidence(thinking, says):
    said = "<think>" + "2 + 3 = 5 " * 9
    says(thinking, said)
    assert reply(thinking, 4, abstain_below=0.5)[1] != REFUSAL


def test_an_open_thought_of_an_earlier_turn_is_not_ended_in_a_later_one(thinking, says):
    model, tokenizer = thinking
    session = Session(model, tokenizer, Sampling(temperature=0, max_new_tokens=60, thinking=9))
    says(thinking, "<think>2 +")
    assert split(list(session.reply("What is 2 + 3?"))) == ("2 +", "")
    says(thinking, "<think>2 + 3</think>It is 5.")
    assert split(list(session.reply("What is 2 + 3?"))) == ("2 + 3", "It is 5.")


def test_a_call_within_a_thought_does_not_make_the_answer_a_thought(model_folder, says):
    loaded = load_model(model_folder)
    template(loaded[1], "chatml_thinking")
    loaded[0].config.max_position_embeddings = 512
    says(loaded, "<think>so <PYTHON_START>2 + 3<PYTHON_END>")
    session = Session(*loaded, Sampling(temperature=0, max_new_tokens=60, thinking=30), tools=Tools([python]))
    pieces = []
    for piece in session.reply("What is 2 + 3?"):
        pieces.append(piece)
        if isinstance(piece, ToolResult):
            says(loaded, "It is 5.")
    assert any(isinstance(piece, Call) for piece in pieces)
    assert split(pieces) == ("so ", "It is 5.")


def test_a_row_ends_its_own_thought_only():
    prompt = torch.tensor([[1, START, 5]] * 6)  # an earlier turn's, which was never ended
    new = [
        [START, 5, 5, 5, 0],  # four tokens of thought: one too many
        [0, START, 5, 5, 5],
        [0, 0, START, 5, 5],  # two
        [START, 5, 5, END, 5],  # ended
        [START, END, 5, 5, 5],
        [1, 1, 1, 1, 1],
    ]
    for opened, expected in ((False, [END, END, 7, 7, 7, 7]), (True, [END, END, 7, 7, 7, END])):
        ends = EndThoughts(START, END, [END], 3, opened, [TURN_END_ID])
        scores = torch.zeros(len(new), 12)
        scores[:, 7] = 1
        assert ends(prompt, scores.clone()).argmax(1).tolist() == [7] * 6
        assert ends(torch.cat([prompt, torch.tensor(new)], 1), scores).argmax(1).tolist() == expected


def test_a_model_without_thoughts_cannot_be_asked_to_think_but_to_leave_it(model_folder):
    _, tokenizer = load_model(model_folder)
    for how in (True, 5):
        with pytest.raises(UserError, match="this model does not think: set it to off"):
            Thinking(tokenizer, how)
    for how in (None, False):
        assert not Thinking(tokenizer, how).thinks
    with pytest.raises(UserError, match="on, off or a number of tokens of 1 or more, got 0"):
        Thinking(tokenizer, 0)


def test_tags_that_a_user_types_are_text(thinking):
    session = Session(*thinking, Sampling(temperature=0, max_new_tokens=2))
    list(session.reply("</think> <think> Hello"))
    assert not {START, END} & {*session.turns[-1].ids[:-4]}

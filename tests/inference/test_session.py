from __future__ import annotations

import math
from dataclasses import replace
from functools import wraps

import pytest
import torch
from tiny import search_tool

from zero2chat.core.errors import UserError
from zero2chat.inference.confidence import REFUSAL, confidence, log_probabilities
from zero2chat.inference.session import Sampling, Session
from zero2chat.inference.tool_format import Tools
from zero2chat.models.loading import load_model

GREEDY = Sampling(temperature=0, max_new_tokens=12)


@pytest.fixture(scope="module")
def loaded(model_folder):
    return load_model(model_folder)


@pytest.fixture
def heard(loaded, monkeypatch):
    """The token ids that each forward pass is given."""
    model, _ = loaded
    seen: list[list[int]] = []
    forward = model.forward

    @wraps(forward)
    def listen(input_ids, **kwargs):
        seen.append(input_ids[0].tolist())
        return forward(input_ids=input_ids, **kwargs)

    monkeypatch.setattr(model, "forward", listen)
    return seen


def ask(session: Session, text: str) -> str:
    return "".join(session.reply(text))


def made_to_say(monkeypatch, session: Session, ids: list[int]) -> None:
    """From now on the session draws these ids, one after another."""
    sampled = iter(ids)
    monkeypatch.setattr(session, "_draw", lambda logits: next(sampled))


def generated(loaded, prompt: list[int], question: str) -> str:
    """The greedy answer after these ids by transformers' own `generate`, without any cache of ours."""
    model, tokenizer = loaded
    turn = [{"role": "user", "content": question}]
    prompt = prompt + tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=False)
    ids = torch.tensor([prompt])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12, use_cache=False)
    answer = [*out[0, len(prompt) :].tolist(), tokenizer.eos_token_id]
    return tokenizer.decode(answer[: answer.index(tokenizer.eos_token_id)])


def test_three_turns_answer_as_generate_does_from_scratch(loaded):
    session = Session(*loaded, GREEDY, system="Be brief.")
    for question in ("Who is Ada?", "And 2 + 2?", "a\ud83d"):
        # The earlier answers go in as the ids they were: this model writes text that tokenises otherwise.
        prompt = session._head + [t for turn in session.turns for t in turn.ids]
        assert ask(session, question) == generated(loaded, prompt, question.replace("\ud83d", "?"))
    assert session.dropped == 0
    assert len({turn.assistant for turn in session.turns}) > 1


def test_the_model_is_shown_the_conversation_as_the_template_renders_it(loaded, heard, monkeypatch):
    _, tokenizer = loaded
    session = Session(*loaded, GREEDY, system="Be brief.")
    made_to_say(monkeypatch, session, [*tokenizer.encode("In Genoa."), 3, *tokenizer.encode("In 1984."), 3])
    messages = [{"role": "system", "content": "Be brief."}]
    for question, answer in (("Where was Ada born?", "In Genoa."), ("When?", "In 1984.")):
        assert ask(session, question) == answer
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    whole = tokenizer.apply_chat_template(messages, return_dict=False)
    shown = [token for ids in heard for token in ids]
    # Each token once: what is in the cache is not shown again. The turn's end, two tokens, is not needed yet.
    assert shown == whole[:-2]


def test_an_answer_that_was_cut_off_is_closed_before_the_next_turn(loaded, heard, monkeypatch):
    _, tokenizer = loaded
    answer = tokenizer.encode("In Genoa.")
    session = Session(*loaded, Sampling(0, max_new_tokens=len(answer)))
    made_to_say(monkeypatch, session, [*answer, 3])
    ask(session, "Where?")
    ask(session, "When?")
    shown = tokenizer.decode([token for ids in heard for token in ids])
    assert "In Genoa.<|im_end|>\n<|im_start|>user\nWhen?" in shown


def test_a_character_of_several_tokens_comes_whole_and_what_never_becomes_one_at_the_end(loaded, monkeypatch):
    _, tokenizer = loaded
    ids = tokenizer.encode("a𝄞b")
    assert len(ids) > 4
    for said, pieces in ((ids, ["a", "𝄞", "b"]), (ids[:-2], ["a", "\ufffd"])):
        session = Session(*loaded, GREEDY)
        made_to_say(monkeypatch, session, [*said, 3])
        assert list(session.reply("?")) == pieces


def test_equal_seeds_give_equal_answers_and_leave_the_global_random_state(loaded):
    def answers(seed):
        session = Session(*loaded, Sampling(1.0, seed=seed, max_new_tokens=20))
        return [ask(session, "Who?"), ask(session, "Who?")]

    before = torch.random.get_rng_state()
    assert answers(1) == answers(1) != answers(2)
    assert torch.equal(before, torch.random.get_rng_state())


def test_reset_forgets_and_restarts_the_seed(loaded):
    session = Session(*loaded, Sampling(1.0, max_new_tokens=20), system="Be brief.")
    first = ask(session, "Who?")
    ask(session, "When?")
    session.reset()
    assert session.turns == []
    assert ask(session, "Who?") == first


def test_top_k_of_one_and_a_tiny_top_p_are_greedy(loaded):
    greedy = ask(Session(*loaded, GREEDY), "Who?")
    for sampling in (Sampling(1.0, top_k=1, max_new_tokens=12), Sampling(1.0, top_p=1e-6, max_new_tokens=12)):
        assert ask(Session(*loaded, sampling), "Who?") == greedy
    assert ask(Session(*loaded, Sampling(1.0, max_new_tokens=12)), "Who?") != greedy


def test_draws_follow_the_tempered_distribution(loaded):
    logits = torch.tensor([[0.0, 1.0, 2.0]])
    session = Session(*loaded, Sampling(temperature=2.0))
    sampled = torch.tensor([session._draw(logits) for _ in range(3000)])
    frequencies = torch.bincount(sampled, minlength=3) / 3000
    assert torch.allclose(frequencies, (logits[0] / 2).softmax(-1), atol=0.03)


@pytest.mark.parametrize("temperature", [0, 0.7])
def test_weights_that_are_not_numbers_are_named(write_model, tmp_path, temperature):
    model, tokenizer = load_model(write_model(tmp_path))
    torch.nn.init.constant_(model.model.norm.weight, math.nan)
    with pytest.raises(UserError, match="logits are NaN or infinite, so its weights are damaged"):
        ask(Session(model, tokenizer, Sampling(temperature=temperature)), "Hello")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("temperature", value) for value in (-1, 0.001, math.nan, math.inf)],
        *[("top_p", value) for value in (0, 1.1, math.nan)],
        ("top_k", -1),
        ("seed", -1),
        ("seed", 2**63),
        ("max_new_tokens", 0),
        *[("abstain_below", value) for value in (-0.1, 1.0, math.nan)],
    ],
)
def test_a_value_out_of_range_is_named(name, value):
    with pytest.raises(UserError, match=rf"^{name}: .* out of range: set "):
        Sampling(**{name: value})


def test_what_is_left_after_dropping_is_answered_as_from_scratch(loaded, heard):
    session = Session(*loaded, GREEDY, system="Be brief.")
    while session.dropped < 3:
        ask(session, "Tell me about the harbour of Lisbon at night.")
    assert max(map(len, heard)) <= 128
    answer = ask(session, "And Genoa?")
    prompt = session._head + [t for turn in session.turns[:-1] for t in turn.ids]
    assert answer == generated(loaded, prompt, "And Genoa?")


def test_an_answer_ends_where_the_context_does(loaded, heard, monkeypatch):
    _, tokenizer = loaded
    session = Session(*loaded, Sampling(0, max_new_tokens=1000))
    monkeypatch.setattr(session, "_draw", lambda logits: tokenizer.encode("a")[0])
    answer = ask(session, "Who?")
    assert set(answer) == {"a"}
    # The last token of the context is drawn, and no position beyond it is asked for.
    assert sum(map(len, heard)) == 127
    assert ask(session, "Who?") == answer
    assert session.dropped == 1


def test_the_longest_message_that_fits_gets_one_token_and_a_longer_one_is_refused_and_changes_nothing(loaded):
    session, twin = Session(*loaded, GREEDY), Session(*loaded, GREEDY)
    around = len(session._encode(session._turn_text("")))
    assert ask(session, "Who?") == ask(twin, "Who?")
    turns = list(session.turns)
    with pytest.raises(UserError, match="the message has 128 tokens, over the model's context of 128"):
        session.reply("1" * (128 - around))
    assert (session.turns, session.dropped) == (turns, 0)
    assert ask(session, "When?") == ask(twin, "When?")
    ask(session, "1" * (127 - around))
    assert session.turns[-1].ids[127:] == [*session.turns[-1].ids[127:128], *session._closing]


def test_an_interrupted_answer_leaves_a_session_that_can_go_on(loaded, monkeypatch):
    session = Session(*loaded, GREEDY)
    pieces = session.reply("Who?")
    shown = next(pieces) + next(pieces)
    pieces.close()  # nobody waits for the rest
    assert session.turns[0].assistant == shown
    assert ask(session, "When?") == generated(loaded, session.turns[0].ids, "When?")
    session = Session(*loaded, GREEDY)
    second_layer, calls = loaded[0].model.layers[1], iter(range(100))
    forward = second_layer.forward

    def interrupted(*args, **kwargs):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return forward(*args, **kwargs)

    monkeypatch.setattr(second_layer, "forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ask(session, "Who?")
    monkeypatch.undo()
    assert ask(session, "When?") == generated(loaded, session.turns[0].ids, "When?")


def test_a_template_with_a_system_prompt_of_its_own_keeps_it_when_turns_are_dropped(loaded, heard, monkeypatch):
    _, tokenizer = loaded
    own = (
        "{% if messages[0].role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    monkeypatch.setattr(tokenizer, "chat_template", own)
    session = Session(*loaded, GREEDY)
    for _ in range(8):
        ask(session, "Who is the painter?")
    assert session.dropped
    rebuilt = [tokenizer.decode(ids) for ids in heard if len(ids) > 40]
    assert len(rebuilt) > 1
    assert all(text.startswith("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nWho") for text in rebuilt)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (None, "no chat template"),
        ("{% for m in messages %}{{ loop.revindex }}{{ m.content }}{% endfor %}", "rewrites earlier turns"),
        ("{{ raise_exception('no system prompts here') }}", "refuses the conversation: no system prompts here"),
    ],
)
def test_a_template_that_cannot_serve_says_why(loaded, monkeypatch, template, says):
    monkeypatch.setattr(loaded[1], "chat_template", template)
    with pytest.raises(UserError, match=says):
        Session(*loaded)


# ---- confidence, and declining below a threshold


def test_confidence_is_the_geometric_mean_of_the_probabilities_each_after_the_tokens_before(loaded):
    assert confidence([math.log(0.5), math.log(0.125)]) == pytest.approx(0.25)
    assert (confidence([0.0]), confidence([])) == (1.0, 0.0)
    context, answer = [2, 40, 41], [50, 51, 52]
    with torch.no_grad():
        logits = [loaded[0](torch.tensor([context + answer[:i]])).logits[0, -1] for i in range(3)]
    each = [float(one.log_softmax(-1)[token]) for one, token in zip(logits, answer, strict=True)]
    assert log_probabilities(loaded[0], context, answer) == pytest.approx(each, abs=1e-4)
    assert log_probabilities(loaded[0], context, []) == []


def sure_of(loaded, sampling: Sampling, text: str = "Who?") -> tuple[Session, float]:
    """A session that has answered, and the answer's confidence by a forward pass of its own."""
    session = Session(*loaded, sampling)
    prompt = session._encode(session._turn_text(text))
    ask(session, text)
    said = session.turns[0].ids[len(prompt) : len(session.turns[0].ids) - len(session._closing)]
    return session, confidence(log_probabilities(loaded[0], session._head + prompt, said))


@pytest.mark.parametrize("temperature", [0, 0.5, 2.0])
def test_an_answer_is_given_at_its_own_confidence_and_declined_just_above_it(loaded, temperature):
    sampling = Sampling(temperature, seed=3, max_new_tokens=9)
    session, sure = sure_of(loaded, sampling)
    assert 0 < sure < 1
    below, above = (replace(sampling, abstain_below=sure + change) for change in (-1e-4, 1e-4))
    assert ask(Session(*loaded, below), "Who?") == session.turns[0].assistant
    assert ask(Session(*loaded, above), "Who?") == REFUSAL


def test_an_answer_that_is_interrupted_before_it_was_shown_leaves_nothing(loaded, monkeypatch):
    session = Session(*loaded, replace(GREEDY, abstain_below=1e-9))

    def interrupt(logits):
        if len(session._log_probabilities) == 3:
            raise KeyboardInterrupt
        return int(logits.argmax())

    monkeypatch.setattr(session, "_draw", interrupt)
    with pytest.raises(KeyboardInterrupt):
        ask(session, "Who?")
    assert [turn.assistant for turn in session.turns] == [""]
    assert session.turns[0].ids == session._encode(session._turn_text("Who?")) + session._closing


def test_only_the_text_after_a_result_decides_and_the_call_stays(loaded, monkeypatch):
    _, tokenizer = loaded
    answer = tokenizer.encode("So it is.")
    call = tokenizer.encode("I look. <SEARCH_START>Ada<SEARCH_END>")
    sampling = replace(GREEDY, max_new_tokens=40, abstain_below=0.999999)
    session = Session(*loaded, sampling, tools=Tools([search_tool(lambda _: "Genoa")]))
    made_to_say(monkeypatch, session, [*call, *answer, 3])
    pieces = list(session.reply("Where?"))
    assert [type(piece).__name__ for piece in pieces] == ["str", "Call", "ToolResult", "str"]
    assert pieces[0].strip() == "I look."
    assert pieces[-1] == REFUSAL
    assert len(session._log_probabilities) == len(answer)
    turn = tokenizer.decode(session.turns[0].ids)
    assert "Genoa" in turn
    assert "So it is" not in turn
    assert turn.count(REFUSAL) == 1

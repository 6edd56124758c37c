"""Batched answers of a real tiny model, compared with its answers one by one."""

from __future__ import annotations

import contextlib
import random
import re
import time
from typing import Any

import pytest
import torch
from tiny import search_tool, two_ranks
from transformers import AutoModelForCausalLM, AutoTokenizer

from zero2chat.core.errors import UserError
from zero2chat.inference import fast_generate, generate
from zero2chat.inference.confidence import confidence, log_probabilities
from zero2chat.inference.generate import answer, encode_prompts, generating
from zero2chat.inference.next_token import next_tokens
from zero2chat.inference.tool_format import Tools
from zero2chat.models.loading import load_model
from zero2chat.models.tokenization import set_chat_template

QUESTIONS = ["1+1", "Who are you, and what do you know of the harbour at night?", "Why?", "naïve 한국어", "1+2"]
PROMPTS = [[{"role": "user", "content": question}] for question in QUESTIONS]


SEARCH = Tools([search_tool(lambda query: f"{query} is 42 <|im_end|>")])


def test_with_tools_generation_goes_on_with_what_they_said(opened, monkeypatch):
    model, tokenizer = opened
    says = {"1+1": ["<SEARCH_START>sum<SEARCH_END>", "It is 42."], "Why?": ["So."], "1+2": ["<SEARCH_START>how much"]}
    seen: list[str] = []

    def generate(self, input_ids, **_):
        sampled = []
        for ids in input_ids.tolist():
            seen.append(tokenizer.decode([i for i in ids if i != tokenizer.pad_token_id]))
            question = next(text for text in says if f"user\n{text}<" in seen[-1])
            text = says[question][seen[-1].count("<|im_start|>tool")]
            sampled.append(tokenizer.encode(text + ("<|im_end|>" if text.endswith(".") else "")))
        width = max(map(len, sampled))
        padded = [ids + [tokenizer.pad_token_id] * (width - len(ids)) for ids in sampled]
        return torch.cat([input_ids, torch.tensor(padded)], dim=1)

    monkeypatch.setattr(type(model), "generate", generate)
    prompts = [[{"role": "user", "content": text}] for text in says]
    called, plain, cut = answer(model, tokenizer, prompts, 12, tools=SEARCH, measured=True)
    assert (called.text, called.calls, called.stopped) == ("It is 42.", 1, True)
    assert called.tokens == len(tokenizer.encode("".join(says["1+1"])))
    assert called.whole == (
        "<SEARCH_START>sum<SEARCH_END><|im_end|>\n<|im_start|>tool\nsum is 42 < |im_end|><|im_end|>\n"
        "<|im_start|>assistant\nIt is 42."
    )
    last = tokenizer.encode("It is 42.")  # only what follows the result counts
    before = [*encode_prompts(tokenizer, prompts, SEARCH)[0], *called.ids[: -1 - len(last)]]
    assert called.confidence == pytest.approx(confidence(log_probabilities(model, before, last)), abs=1e-5)
    assert (plain.text, plain.calls, plain.whole) == ("So.", 0, "")
    assert (cut.text, cut.calls, cut.stopped) == (says["1+2"][0], 0, False)
    assert len(seen) == 4  # the three, and the one that called once more
    assert all(text.startswith("<|im_start|>system\nsearch(query)<|im_end|>") for text in seen)


def test_most_of_a_batch_goes_on_at_once_with_its_keys_and_values_and_few_rows_wait(opened, monkeypatch):
    model, tokenizer = opened
    asked: list[list[str]] = []

    def scripted(model, prompts, settings, **options):
        texts = [tokenizer.decode(ids) for ids in prompts]
        asked.append([next(c for c in "abcdefgh" if f"user\n{c}" in text) for text in texts])
        assert fast_generate._last.get() is not None
        calls = {"a": 2, "b": 1, "c": 1, "e": 1, "h": 1}
        more = [calls.get(c, 0) > text.count("<|im_start|>tool") for c, text in zip(asked[-1], texts, strict=True)]
        return [tokenizer.encode("<SEARCH_START>x<SEARCH_END>" if one else "So.<|im_end|>") for one in more]

    monkeypatch.setattr("zero2chat.inference.generate.complete", scripted)
    prompts = [[{"role": "user", "content": c}] for c in "abcdefgh"]
    answers = answer(model, tokenizer, prompts, 6, batch_size=3, tools=SEARCH)
    assert [one.calls for one in answers] == [2, 1, 1, 0, 1, 0, 0, 1]
    # `a` alone waits for `e` and `h`
    assert asked == [["a", "b", "c"], ["a", "b", "c"], ["d", "e", "f"], ["g", "h"], ["a", "e", "h"]]


def test_the_forced_end_of_a_thought_does_not_count_in_the_confidence(model_folder, monkeypatch):
    model, tokenizer = load_model(model_folder)
    set_chat_template(tokenizer, "chat_templates/chatml_thinking.jinja")
    said = torch.tensor([tokenizer.encode("<think>2 + 2</think>4<|im_end|>")])
    monkeypatch.setattr(type(model), "generate", lambda self, input_ids, **_: torch.cat([input_ids, said], dim=1))
    budget = len(tokenizer.encode("2 + 2"))
    (one,) = answer(model, tokenizer, PROMPTS[:1], 12, thinking=budget, measured=True)
    (context,), end = encode_prompts(tokenizer, PROMPTS[:1]), tokenizer.convert_tokens_to_ids("</think>")
    said = one.ids[:-1] if one.stopped else one.ids
    logps = log_probabilities(model, context, said)
    own = [logp for logp, token in zip(logps, said, strict=True) if token != end]
    assert len(own) == len(logps) - 1
    assert one.confidence == pytest.approx(confidence(own), abs=1e-5)


def test_a_conversation_that_the_chat_template_rejects_is_one_line(model_folder):
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    tokenizer.chat_template = "{{ raise_exception('System role not supported') }}"  # as Gemma's
    with pytest.raises(UserError, match="chat template refuses a conversation: System role not supported"):
        encode_prompts(tokenizer, PROMPTS[:1])


def _by_hand(model: Any, tokenizer: Any, prompt: list[dict[str, str]], n: int) -> list[int]:
    """The greedy tokens, each from a whole forward pass of its own."""
    ids = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"]
    for _ in range(n):
        with torch.no_grad():
            ids = [*ids, int(model(torch.tensor([ids])).logits[0, -1].argmax())]
    return ids[-n:]


def test_greedy_answers_in_a_batch_equal_those_one_by_one(opened):
    model, tokenizer = opened
    together = answer(model, tokenizer, PROMPTS, 12, batch_size=8)
    assert together == answer(model, tokenizer, PROMPTS, 12, batch_size=1)
    assert together == answer(model, tokenizer, PROMPTS, 12, batch_size=2)
    assert len({a.text for a in together}) > 2  # else the order would prove nothing
    for prompt, result in zip(PROMPTS, together, strict=True):
        ids = _by_hand(model, tokenizer, prompt, 12)
        ends = [i for i, token in enumerate(ids) if token == tokenizer.eos_token_id]
        remaining = ids[: ends[0]] if ends else ids
        assert (result.text, result.tokens, result.stopped) == (tokenizer.decode(remaining), len(remaining), bool(ends))


def test_an_answer_ends_before_any_of_the_ends_and_says_that_it_stopped(model_folder):
    model, tokenizer = (c.from_pretrained(model_folder) for c in (AutoModelForCausalLM, AutoTokenizer))
    ids = _by_hand(model, tokenizer, PROMPTS[1], 8)
    end = ids.index(ids[4])
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, ids[4]]
    model.train()
    (result,) = answer(model, tokenizer, PROMPTS[1:2], 8)
    assert (result.text, result.tokens, result.stopped) == (tokenizer.decode(ids[:end]), end, True)
    with contextlib.suppress(KeyboardInterrupt), generating(model, 0):
        raise KeyboardInterrupt
    assert model.training
    (cut,) = answer(model, tokenizer, PROMPTS[1:2], 1)
    assert (cut.tokens, cut.stopped) == (1, False) if end else (0, True)


def test_sampling_follows_its_seed_and_moves_no_random_state_of_others(opened):
    model, tokenizer = opened
    before = torch.get_rng_state(), random.getstate()
    first = answer(model, tokenizer, PROMPTS, 8, temperature=1.0, seed=1)
    assert first == answer(model, tokenizer, PROMPTS, 8, temperature=1.0, seed=1)
    assert first != answer(model, tokenizer, PROMPTS, 8, temperature=1.0, seed=2)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    torch.rand(3)  # and it does not depend on the global random state
    assert first == answer(model, tokenizer, PROMPTS, 8, temperature=1.0, seed=1)


def test_a_models_own_generation_settings_change_no_answer_and_are_kept(model_folder):
    model, tokenizer = (c.from_pretrained(model_folder) for c in (AutoModelForCausalLM, AutoTokenizer))
    expected = answer(model, tokenizer, PROMPTS, 8), answer(model, tokenizer, PROMPTS, 8, temperature=1.0)
    own = {"repetition_penalty": 5.0, "no_repeat_ngram_size": 1, "min_new_tokens": 8, "top_p": 0.1, "min_p": 0.5}
    model.generation_config.update(**own)
    before = model.generation_config.to_dict()
    assert (answer(model, tokenizer, PROMPTS, 8), answer(model, tokenizer, PROMPTS, 8, temperature=1.0)) == expected
    assert model.generation_config.to_dict() == before


def test_progress_is_on_stderr_also_within_a_batch(opened, monkeypatch, capsys):
    answer(*opened, PROMPTS, 2)
    assert capsys.readouterr().err == ""  # nothing of what takes less than ten seconds
    monkeypatch.setattr(generate, "EVERY", 0.01)
    with generate.progress(8) as bar:
        bar.update(2)
        time.sleep(0.2)
        assert re.search(r"answers: +25%.* 2/8 \[00:00<00:0", capsys.readouterr().err)


def test_a_context_is_never_overrun(opened):
    model, tokenizer = opened
    prompt = [{"role": "user", "content": "x" * 100}]
    (output,) = answer(model, tokenizer, [prompt], 1000)
    assert len(tokenizer.apply_chat_template(prompt, return_dict=True)["input_ids"]) + output.tokens <= 128
    with pytest.raises(UserError, match=r"a question of \d+ tokens does not fit the model's context of 128: .*'xxx"):
        answer(model, tokenizer, [[{"role": "user", "content": "x" * 200}]], 8)


def test_near_the_contexts_end_an_answer_is_as_long_as_alone(model_folder):
    model, tokenizer = (c.from_pretrained(model_folder) for c in (AutoModelForCausalLM, AutoTokenizer))
    model.generation_config.eos_token_id = 1  # padding, which is never said
    prompts = [[{"role": "user", "content": "x" * n}] for n in (100, 97, 97, 70, 20, 1)]
    alone = [answer(model, tokenizer, [prompt], 40)[0] for prompt in prompts]
    assert answer(model, tokenizer, prompts, 40, batch_size=8) == alone
    assert alone[0].tokens < alone[1].tokens < alone[4].tokens == 40


def test_a_model_or_tokenizer_that_cannot_end_an_answer_says_what_it_lacks(model_folder):
    model, tokenizer = (c.from_pretrained(model_folder) for c in (AutoModelForCausalLM, AutoTokenizer))
    model.generation_config.eos_token_id = None
    with pytest.raises(UserError, match="set eos_token_id in its generation_config"):
        answer(model, tokenizer, PROMPTS, 4)
    tokenizer.pad_token = None
    with pytest.raises(UserError, match="the tokenizer has no pad token"):
        answer(model, tokenizer, PROMPTS, 4)


RANKS = '''
import os, sys, unittest.mock, torch, torch.distributed as dist
from accelerate import PartialState
state = PartialState(cpu=True, backend="gloo")
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import AutoModelForCausalLM, AutoTokenizer
from zero2chat.inference.generate import answer
from zero2chat.inference.tool_format import Tools
from zero2chat.models.loading import load_model
from zero2chat.models.tokenization import set_chat_template
model = AutoModelForCausalLM.from_pretrained(sys.argv[1]).eval()
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
prompts = [[{"role": "user", "content": "x" * n}] for n in range(1, 6)]
whole = answer(model, tokenizer, prompts, 6, batch_size=2)

def search(query: str) -> str:
    """Look something up.

    Args:
        query: What to look for
    """
    return "42"

def scripted(model, prompts, settings, **options):
    """The two longest questions, of one rank, are answered after two calls, the others at once."""
    with torch.no_grad():
        model(input_ids=torch.tensor([[5, 6, 7]]))
    texts = [tokenizer.decode(ids) for ids in prompts]
    calls = ["xxxx" in text and text.count("<|im_start|>tool") < 2 for text in texts]
    return [tokenizer.encode("<SEARCH_START>x<SEARCH_END>" if call else "So.<|im_end|>") for call in calls]

def with_tools():
    with unittest.mock.patch("zero2chat.inference.generate.complete", scripted):
        return answer(model, tokenizer, prompts, 6, batch_size=2, tools=Tools([search]))

called = with_tools()
assert [a.calls for a in called] == [0, 0, 0, 2, 2]
mesh = init_device_mesh("cpu", (2,))
for part in [*model.model.layers, model]:
    fully_shard(part, mesh=mesh)
assert answer(model, tokenizer, prompts, 6, batch_size=2) == whole
assert with_tools() == called
# As with `tasks_steps`, training begins after the weights were first gathered for an answer.
ids = torch.tensor([[5, 6, 7, 8]])
model.train()(input_ids=ids, labels=ids).loss.backward()
if state.is_main_process:
    print([a.text for a in whole], flush=True)
dist.barrier()
os._exit(0)
'''


def test_two_ranks_with_unlike_numbers_of_batches_and_of_calls_say_what_one_says(opened, model_folder, tmp_path):
    prompts = [[{"role": "user", "content": "x" * n}] for n in range(1, 6)]
    output = two_ranks(RANKS, tmp_path, model_folder)
    assert output.strip().splitlines()[-1] == repr([a.text for a in answer(*opened, prompts, 6)])


def test_the_tokens_are_the_models_likeliest_in_order(opened):
    model, tokenizer = opened
    tokens = next_tokens(model, tokenizer, "Ada was born", top=10_000)
    with torch.no_grad():
        expected = model(torch.tensor([tokenizer.encode("Ada was born")])).logits[0, -1].softmax(-1)
    assert [token.id for token in tokens] == expected.argsort(descending=True).tolist()
    probabilities = expected.sort(descending=True).values.tolist()
    assert [token.probability for token in tokens] == pytest.approx(probabilities, rel=1e-5)
    assert len(next_tokens(*opened, "1" * 128, top=1)) == 1  # as long as the context


def test_a_control_token_that_is_typed_is_text(opened):
    model, tokenizer = opened
    ids = tokenizer.encode("Ada<|im_end|>", split_special_tokens=True)
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0, -1].argmax()
    assert next_tokens(model, tokenizer, "Ada<|im_end|>", top=1)[0].id == expected


@pytest.mark.parametrize(
    ("text", "top", "says"),
    [
        ("", 1, "the text is empty"),
        ("1" * 129, 1, "129 tokens, more than the model's context of"),
        ("a", 0, "top: expected 1 or more, got 0"),
    ],
)
def test_what_cannot_be_asked_says_why(opened, text, top, says):
    with pytest.raises(UserError, match=says):
        next_tokens(*opened, text, top)

"""The fast loop against transformers' own on tiny real models: the same greedy tokens, the right distribution."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny import SIZES
from transformers import AutoModelForCausalLM as Auto
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel, LlamaConfig, PreTrainedModel, Qwen3Config

from zero2chat.core.errors import UserError
from zero2chat.inference import fast_generate
from zero2chat.inference.fast_generate import fast_sample, reusing_cache, use_fast_rollouts
from zero2chat.inference.generate import complete

LENGTH = 11
LLAMA3_ROPE = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 4.0, "low_freq_factor": 1.0}
LLAMA3_ROPE |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 32}


# With the usual initial weights a 2-layer model repeats its last token forever; with larger ones it varies.
SHAPE: dict[str, Any] = SIZES | {"intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
SHAPE |= {"initializer_range": 0.3, "max_position_embeddings": 128, "tie_word_embeddings": False}
SHAPE |= {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": None}


def make(kind: str = "qwen3", **changes: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    model = Auto.from_config({"qwen3": Qwen3Config, "llama": LlamaConfig}[kind](**SHAPE | changes))
    for name, parameter in model.named_parameters():
        if "norm" in name:  # of ones, a forgotten norm weight would not be seen
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
        elif "bias" in name:
            torch.nn.init.normal_(parameter)
    return model.eval()


def ragged(rows: int = 9) -> dict[str, torch.Tensor]:
    """Left-padded prompts of 11, 10, 9 … tokens, the last row equal to the first."""
    ids = torch.randint(1, 64, (rows, LENGTH), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    for row in range(rows):
        mask[row, :row] = 0
    ids[-1], mask[-1] = ids[0], mask[0]
    return {"input_ids": ids * mask, "attention_mask": mask}


def greedy(model: PreTrainedModel, inputs: dict[str, torch.Tensor], **settings: Any) -> list[list[int]]:
    output = model.generate(**inputs, **{"max_new_tokens": 24, "do_sample": False} | settings)
    return output[:, LENGTH:].tolist()


@pytest.fixture
def own_loop(monkeypatch):
    """A True for each call of `fast_sample` that did not fall back."""
    calls: list[bool] = []
    decode = fast_generate._decode
    monkeypatch.setattr(fast_generate, "_decode", lambda *args: calls.append(True) or decode(*args))
    return calls


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("qwen3", {}),
        ("qwen3", {"tie_word_embeddings": True, "num_key_value_heads": 4, "attention_bias": True}),
        ("llama", {"num_key_value_heads": 1, "mlp_bias": True}),
        ("llama", {"rope_parameters": LLAMA3_ROPE}),
    ],
)
def test_greedy_tokens_are_those_of_generate_for_ragged_prompts(kind, changes, own_loop):
    model = make(kind, **changes)
    expected = greedy(model, ragged())
    assert greedy(model, ragged(), custom_generate=fast_sample) == expected
    assert len({tuple(row) for row in expected}) == 8  # the rows say different things
    for rows in (1, 9):  # without a mask
        inputs = {"input_ids": ragged()["input_ids"][:rows].clamp(min=1)}
        assert greedy(model, inputs, custom_generate=fast_sample) == greedy(model, inputs)
    assert own_loop == [True] * 3


@pytest.mark.parametrize(("rows", "steps"), [(9, ((1, 3), (4, 8), (6, 15))), (3, ((0, 5), (1, 2)))])
def test_rows_that_end_at_different_steps_hold_pad_from_then_on(rows, steps, own_loop):
    model, inputs = make(), ragged(rows)
    free = greedy(model, inputs)
    ends = [free[row][step] for row, step in steps]
    output = greedy(model, inputs, eos_token_id=ends, custom_generate=fast_sample)
    assert output == greedy(model, inputs, eos_token_id=ends)
    assert own_loop == [True]
    assert rows == 9 or len(output[0]) < 24  # as long as the longest row
    lengths = {next((i for i, token in enumerate(row) if token in ends), len(row)) for row in output}
    assert len(lengths) >= min(4, rows - 1)  # or the test proves little


def test_sampled_sequences_follow_the_model(own_loop):
    """Three steps over a vocabulary of 6, with an end token: every sequence as often as the model says."""
    model = make(vocab_size=6, initializer_range=0.15)
    prompt, end, n = [1, 2, 3], 5, 40_000
    settings = {"do_sample": True, "top_k": 0, "max_new_tokens": 3, "eos_token_id": end}
    torch.manual_seed(0)
    sampled = model.generate(torch.tensor([prompt] * n), **settings, custom_generate=fast_sample)[:, 3:]
    assert own_loop == [True]
    chances: dict[tuple[int, ...], float] = {}

    def walk(tokens, chance):
        if len(tokens) == 3 or end in tokens:
            chances[(*tokens, *[0] * (3 - len(tokens)))] = chance
            return
        with torch.no_grad():
            following = model(torch.tensor([prompt + tokens])).logits[0, -1].softmax(-1).tolist()
        for token, p in enumerate(following):
            walk([*tokens, token], chance * p)

    walk([], 1.0)
    counts = dict.fromkeys(chances, 0)
    for row in sampled.tolist():
        counts[tuple(row)] += 1
    expected = {key: p * n for key, p in chances.items() if p * n >= 5}
    assert len(expected) > 50
    chi_square = sum((counts[key] - often) ** 2 / often for key, often in expected.items())
    # A chi-square of k degrees of freedom has mean k and variance 2k.
    assert chi_square < len(expected) + 4 * (2 * len(expected)) ** 0.5
    assert sum(counts[key] for key in expected) > 0.97 * n


def test_rollouts_take_none_of_the_models_own_settings_and_leave_them_unchanged(own_loop):
    """As TRL's trainers leave `min_p` unset."""
    model = make()
    model.generation_config.update(do_sample=True, min_p=1.0, repetition_penalty=5.0)
    before = model.generation_config.to_dict()
    use_fast_rollouts(model)
    torch.manual_seed(0)
    config = GenerationConfig(do_sample=True, top_k=0, max_new_tokens=20, eos_token_id=7, pad_token_id=0)
    sampled = model.generate(input_ids=torch.tensor([[1, 2, 3]] * 8), generation_config=config).tolist()
    assert len({tuple(row) for row in sampled}) == 8  # with `min_p` 1 all would be the most likely tokens
    assert own_loop == [True]  # which a repetition penalty would not be
    assert model.generation_config.to_dict() == before


@pytest.mark.parametrize("settings", [{"top_k": 1}, {"top_k": 0, "temperature": 1e-4}, {"top_k": 0, "top_p": 1e-6}])
def test_top_k_temperature_and_top_p_are_honoured(settings, own_loop):
    model, inputs = make(), ragged()
    torch.manual_seed(0)
    assert greedy(model, inputs, do_sample=True, custom_generate=fast_sample, **settings) == greedy(model, inputs)
    assert own_loop == [True]


def test_weights_are_read_at_each_call_and_are_a_copys_own(own_loop):
    model, inputs = make(), ragged()
    use_fast_rollouts(model)
    before = greedy(model, inputs)
    other = copy.deepcopy(model)
    torch.nn.init.normal_(other.lm_head.weight)
    assert greedy(model, inputs) == before != greedy(other, inputs)
    model(**inputs, labels=inputs["input_ids"]).loss.backward()
    torch.optim.SGD(model.parameters(), 1.0).step()
    after = greedy(model, inputs)
    assert own_loop == [True] * 4
    del model.generate
    assert after == greedy(model, inputs) != before


def test_training_mode_and_gradient_checkpointing_change_nothing(own_loop):
    model, inputs = make(attention_dropout=0.5), ragged()
    expected = greedy(model, inputs)
    use_fast_rollouts(model)
    model.train()
    model.gradient_checkpointing_enable()
    assert greedy(model, inputs) == expected
    assert own_loop == [True]


LORA = {"r": 4, "lora_alpha": 16, "init_lora_weights": False, "target_modules": ["q_proj", "down_proj"]}


@pytest.mark.parametrize("changes", [{}, {"use_dora": True}, {"modules_to_save": ["norm", "embed_tokens"]}])
def test_lora_is_read_with_the_weights_and_other_adapters_fall_back(changes, own_loop):
    model, inputs = make(), ragged()
    plain = greedy(model, inputs)
    use_fast_rollouts(model)
    peft = get_peft_model(model, LoraConfig(**LORA | changes)).eval()
    output = greedy(peft, inputs)
    assert own_loop == [True] * (not changes)
    with peft.disable_adapter():
        assert greedy(peft, inputs) == plain
    del model.generate
    assert output == greedy(peft, inputs) != plain


def test_other_architectures_and_ways_to_decode_fall_back(own_loop):
    gpt2 = GPT2Config(vocab_size=64, n_positions=64, n_embd=32, n_layer=2, n_head=2, eos_token_id=None, pad_token_id=0)
    others = [{"num_beams": 2}, {"suppress_tokens": [37]}, {"repetition_penalty": 1.5}]
    for model, ways in ((GPT2LMHeadModel(gpt2).eval(), [{}]), (make(), others)):
        scored: dict[str, Any] = {"max_new_tokens": 8, "return_dict_in_generate": True, "output_scores": True}
        expected = [greedy(model, ragged(), **way) for way in ways]
        scores = torch.stack(model.generate(**ragged(), **scored).scores)
        use_fast_rollouts(model)
        assert [greedy(model, ragged(), **way) for way in ways] == expected
        assert torch.equal(torch.stack(model.generate(**ragged(), **scored).scores), scores)
        assert own_loop == []


def test_weights_that_are_not_whole_are_not_read_and_logits_that_are_not_finite_are_refused():
    model = make()
    assert fast_generate._read(model, rows=2) is not None
    model.model.layers[1].mlp.down_proj.weight.data = torch.empty(0)  # what ZeRO-3 leaves of a partitioned weight
    assert fast_generate._read(model, rows=2) is None
    model = make()
    torch.nn.init.constant_(model.lm_head.weight, torch.nan)
    with pytest.raises(UserError, match="not finite"):
        greedy(model, ragged(), do_sample=True, custom_generate=fast_sample)


def _turns(model: PreTrainedModel, reuse: bool, rewritten: bool = False, rows: int = 9, turns: int = 4) -> list[Any]:
    """Greedy answers of conversations of unlike lengths, in another order each turn. Some end early."""
    random = torch.Generator().manual_seed(3)
    draw = lambda n: torch.randint(1, 64, (n,), generator=random).tolist()  # noqa: E731
    settings = GenerationConfig(max_new_tokens=9, eos_token_id=[5, 17, 40], pad_token_id=0)
    contexts, answers = [draw(20 - row) for row in range(rows)], []
    contexts[-1] = contexts[0]
    with reusing_cache(reuse):
        for turn in range(turns):
            answers.append(complete(model, contexts, settings, custom_generate=fast_sample))
            going = list(zip(contexts, answers[-1], strict=True))[-2 if turn == 1 and rows > 2 else None :: -1]
            contexts = [context + answer + draw(3 + i % 3) for i, (context, answer) in enumerate(going)]
            if rewritten and turn == 1:
                contexts = [[1 + context[0] % 63, *context[1:]] for context in contexts]
    return answers


def test_answers_to_prompts_of_one_length_may_end_early_within_the_cache():
    model, settings = make(), GenerationConfig(max_new_tokens=9, eos_token_id=[5, 17, 40], pad_token_id=0)
    prompts = torch.randint(1, 64, (9, 12), generator=torch.Generator().manual_seed(3)).tolist()
    expected = complete(model, prompts, settings, custom_generate=fast_sample)
    assert len(set(map(len, expected))) > 1
    with reusing_cache():
        assert complete(model, prompts, settings, custom_generate=fast_sample) == expected


@pytest.mark.parametrize(("rows", "rewritten"), [(9, False), (9, True), (1, False)])
def test_the_next_turn_of_conversations_processes_only_its_new_tokens(rows, rewritten, own_loop, monkeypatch):
    widths: list[int] = []
    forward = fast_generate._Decoder._forward
    spy = lambda self, ids, *rest: widths.append(ids.shape[1]) or forward(self, ids, *rest)  # noqa: E731
    monkeypatch.setattr(fast_generate._Decoder, "_forward", spy)
    for model in (make(), make("llama").double(), get_peft_model(make(), LoraConfig(**LORA)).eval()):
        expected = _turns(model, False, rewritten, rows)
        assert rows == 1 or len({len(answer) for turn in expected for answer in turn}) > 4  # rows end early
        whole = [width for width in widths if width > 1]
        widths.clear()
        assert _turns(model, True, rewritten, rows) == expected
        fresh = [width for width in widths if width > 1]
        widths.clear()
        # At most the observation, and the last token of the answer before it, which has no key yet
        assert [fresh[i] == whole[i] if i == 0 or (i == 2 and rewritten) else fresh[i] <= 6 for i in range(4)] == [
            True
        ] * 4
        assert min(whole) > 10
    assert fast_generate._last.get() is None

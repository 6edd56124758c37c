"""The fast loop against transformers' own on tiny real models: the same greedy tokens, the right distribution."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from peft.tuners import lora
from transformers import (
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from trl import GRPOConfig, GRPOTrainer

from zero2chat.core.errors import UserError
from zero2chat.inference import fast_generate
from zero2chat.inference.fast_generate import draw_tokens, fast_sample, use_fast_rollouts
from zero2chat.models.loading import load_model

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
    # With the usual initial weights a 2-layer model repeats its last token forever; with larger ones it varies.
    "initializer_range": 0.3,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LENGTH = 11


def make(kind: str = "qwen3", **changes: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    sizes = SIZES | changes
    model = Qwen3ForCausalLM(Qwen3Config(**sizes)) if kind == "qwen3" else LlamaForCausalLM(LlamaConfig(**sizes))
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
    found = model.generate(**inputs, **{"max_new_tokens": 24, "do_sample": False} | settings)
    return found[:, LENGTH:].tolist()


@pytest.fixture
def own_loop(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """A True for each call of `fast_sample` that did not fall back."""
    calls: list[bool] = []
    decode = fast_generate._decode

    def counted(*args: Any) -> torch.Tensor:
        calls.append(True)
        return decode(*args)

    monkeypatch.setattr(fast_generate, "_decode", counted)
    return calls


KINDS = pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("qwen3", {}),
        ("qwen3", {"tie_word_embeddings": True, "num_key_value_heads": 4, "attention_bias": True}),
        ("llama", {"num_key_value_heads": 1, "mlp_bias": True}),
        ("llama", {"rope_parameters": LLAMA3_ROPE}),
    ],
)


@KINDS
def test_greedy_tokens_are_those_of_generate_for_ragged_prompts(
    kind: str, changes: dict[str, Any], own_loop: list[bool]
) -> None:
    model = make(kind, **changes)
    expected = greedy(model, ragged())
    assert greedy(model, ragged(), custom_generate=fast_sample) == expected
    assert own_loop == [True]
    assert len({tuple(row) for row in expected}) == 8  # the rows say different things


def test_one_row_and_prompts_without_padding_give_the_tokens_of_generate(own_loop: list[bool]) -> None:
    model = make()
    for rows in (1, 9):
        inputs = {"input_ids": ragged()["input_ids"][:rows].clamp(min=1)}
        assert greedy(model, inputs, custom_generate=fast_sample) == greedy(model, inputs)
    assert own_loop == [True, True]


def test_rows_that_end_at_different_steps_hold_pad_from_then_on(own_loop: list[bool]) -> None:
    model, inputs = make(), ragged()
    free = greedy(model, inputs)
    ends = [free[1][3], free[4][8], free[6][15]]
    found = greedy(model, inputs, eos_token_id=ends, custom_generate=fast_sample)
    assert found == greedy(model, inputs, eos_token_id=ends)
    assert own_loop == [True]
    lengths = set()
    for row in found:
        end = next((i for i, token in enumerate(row) if token in ends), len(row))
        assert set(row[end + 1 :]) <= {0}
        lengths.add(end)
    assert len(lengths) >= 4  # or the test proves little


def test_the_result_is_as_long_as_its_longest_row() -> None:
    model, inputs = make(), ragged(rows=3)
    free = greedy(model, inputs)
    ends = [free[0][5], free[1][2]]
    expected = greedy(model, inputs, eos_token_id=ends)
    assert greedy(model, inputs, eos_token_id=ends, custom_generate=fast_sample) == expected
    assert len(expected[0]) < 24


def test_draws_follow_the_softmax_and_never_a_score_of_minus_infinity() -> None:
    scores = torch.tensor([-torch.inf, 0.0, 1.0, -torch.inf, 2.0, -1.0, -torch.inf])
    torch.manual_seed(0)
    counts = draw_tokens(scores.expand(100_000, -1)).bincount(minlength=7)
    expected = scores.softmax(-1) * 100_000
    kept = expected > 0
    assert counts[~kept].sum() == 0
    chi_square = ((counts[kept] - expected[kept]) ** 2 / expected[kept]).sum()
    assert chi_square < 16.3  # 3 degrees of freedom: exceeded once in 1,000


def test_sampled_sequences_follow_the_model(own_loop: list[bool]) -> None:
    """Three steps over a vocabulary of 6, with an end token: every sequence as often as the model says."""
    model = make(vocab_size=6, initializer_range=0.15)
    prompt, end, n = [1, 2, 3], 5, 40_000
    torch.manual_seed(0)
    found = model.generate(
        input_ids=torch.tensor([prompt] * n),
        do_sample=True,
        top_k=0,
        max_new_tokens=3,
        eos_token_id=end,
        custom_generate=fast_sample,
    )[:, 3:]
    assert own_loop == [True]
    chances: dict[tuple[int, ...], float] = {}

    def walk(tokens: list[int], chance: float) -> None:
        if len(tokens) == 3 or end in tokens:
            chances[(*tokens, *[0] * (3 - len(tokens)))] = chance
            return
        with torch.no_grad():
            following = model(torch.tensor([prompt + tokens])).logits[0, -1].softmax(-1).tolist()
        for token, p in enumerate(following):
            walk([*tokens, token], chance * p)

    walk([], 1.0)
    counts = dict.fromkeys(chances, 0)
    for row in found.tolist():
        counts[tuple(row)] += 1
    expected = {key: p * n for key, p in chances.items() if p * n >= 5}
    assert len(expected) > 50
    chi_square = sum((counts[key] - often) ** 2 / often for key, often in expected.items())
    # A chi-square of k degrees of freedom has mean k and variance 2k.
    assert chi_square < len(expected) + 4 * (2 * len(expected)) ** 0.5
    assert sum(counts[key] for key in expected) > 0.97 * n


def test_equal_prompts_get_draws_of_their_own_and_a_seed_repeats_them() -> None:
    model = make()
    use_fast_rollouts(model)

    def sample(seed: int) -> list[list[int]]:
        torch.manual_seed(seed)
        ids = torch.tensor([[1, 2, 3]] * 8)
        return model.generate(input_ids=ids, do_sample=True, top_k=0, max_new_tokens=20, eos_token_id=7).tolist()

    first = sample(0)
    assert len({tuple(row) for row in first}) == 8
    assert sample(0) == first
    assert sample(1) != first


def test_rollouts_take_none_of_the_models_own_settings_and_these_are_kept(own_loop: list[bool]) -> None:
    """As TRL's trainers leave `min_p` unset."""
    model = make()
    model.generation_config.update(do_sample=True, min_p=1.0, repetition_penalty=5.0)
    before = model.generation_config.to_dict()
    use_fast_rollouts(model)
    torch.manual_seed(0)
    config = GenerationConfig(do_sample=True, top_k=0, max_new_tokens=20, eos_token_id=7, pad_token_id=0)
    drawn = model.generate(input_ids=torch.tensor([[1, 2, 3]] * 8), generation_config=config).tolist()
    assert len({tuple(row) for row in drawn}) == 8  # with `min_p` 1 all would be the most likely tokens
    assert own_loop == [True]  # which a repetition penalty would not be
    assert model.generation_config.to_dict() == before


@pytest.mark.parametrize("settings", [{"top_k": 1}, {"top_k": 0, "temperature": 1e-4}, {"top_k": 0, "top_p": 1e-6}])
def test_top_k_temperature_and_top_p_are_honoured(settings: dict[str, Any], own_loop: list[bool]) -> None:
    """With top_k 1, a tiny top_p or a very low temperature, only one token can be drawn."""
    model, inputs = make(), ragged()
    torch.manual_seed(0)
    found = greedy(model, inputs, do_sample=True, custom_generate=fast_sample, **settings)
    assert found == greedy(model, inputs)
    assert own_loop == [True]


def test_new_weights_are_seen_at_the_next_call(own_loop: list[bool]) -> None:
    model, inputs = make(), ragged()
    use_fast_rollouts(model)
    before = greedy(model, inputs)
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    model(**inputs, labels=inputs["input_ids"]).loss.backward()
    optimizer.step()
    after = greedy(model, inputs)
    assert own_loop == [True, True]
    del model.generate
    assert after == greedy(model, inputs)
    assert after != before


def test_a_deep_copy_decodes_with_its_own_weights() -> None:
    model, inputs = make(), ragged()
    use_fast_rollouts(model)
    before = greedy(model, inputs)
    other = copy.deepcopy(model)
    torch.nn.init.normal_(other.lm_head.weight)
    assert greedy(model, inputs) == before
    assert greedy(other, inputs) != before


def test_training_mode_and_gradient_checkpointing_change_nothing(own_loop: list[bool]) -> None:
    model, inputs = make(attention_dropout=0.5), ragged()
    expected = greedy(model, inputs)
    use_fast_rollouts(model)
    model.train()
    model.gradient_checkpointing_enable()
    assert greedy(model, inputs) == expected
    assert own_loop == [True]


@pytest.mark.parametrize(
    ("changes", "read"),
    [({}, True), ({"use_dora": True}, False), ({"modules_to_save": ["norm", "embed_tokens"]}, False)],
)
def test_lora_is_read_with_the_weights_and_other_adapters_fall_back(
    changes: dict[str, Any], read: bool, own_loop: list[bool]
) -> None:
    model, inputs = make(), ragged()
    plain = greedy(model, inputs)
    use_fast_rollouts(model)
    targets = ["q_proj", "down_proj"]
    config = LoraConfig(r=4, lora_alpha=16, init_lora_weights=False, target_modules=targets, **changes)
    peft = get_peft_model(model, config).eval()
    found = greedy(peft, inputs)
    assert own_loop == [True] * read
    with peft.disable_adapter():
        assert greedy(peft, inputs) == plain
    del model.generate
    assert found == greedy(peft, inputs)
    assert found != plain


def test_an_adapter_around_another_is_read_with_it(own_loop: list[bool]) -> None:
    model, inputs = make(), ragged()
    config = LoraConfig(r=4, lora_alpha=16, init_lora_weights=False, target_modules=["q_proj", "down_proj"])
    peft = get_peft_model(model, config).eval()
    one = greedy(peft, inputs)
    mlp = model.model.layers[0].mlp
    mlp.down_proj = lora.Linear(mlp.down_proj, "default", config, r=4, lora_alpha=16).eval()
    both = greedy(peft, inputs)
    assert both != one
    use_fast_rollouts(model)
    assert greedy(peft, inputs) == both
    with peft.disable_adapter():
        plain = greedy(peft, inputs)
    assert own_loop == [True, True]
    mlp.down_proj = mlp.down_proj.get_base_layer()
    with peft.disable_adapter():
        assert greedy(peft, inputs) == plain


def test_another_architecture_falls_back(own_loop: list[bool]) -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2}
    model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=None, eos_token_id=None, pad_token_id=0)).eval()
    expected = greedy(model, ragged())
    use_fast_rollouts(model)
    assert greedy(model, ragged()) == expected
    assert own_loop == []


def test_other_ways_to_decode_fall_back(own_loop: list[bool]) -> None:
    model, inputs = make(), ragged()
    ways = [{"num_beams": 2}, {"suppress_tokens": [greedy(model, inputs)[0][0]]}, {"repetition_penalty": 1.5}]
    expected = [greedy(model, inputs, **way) for way in ways]
    scored: dict[str, Any] = {"max_new_tokens": 8, "return_dict_in_generate": True, "output_scores": True}
    scores = torch.stack(model.generate(**inputs, **scored).scores)
    use_fast_rollouts(model)
    assert [greedy(model, inputs, **way) for way in ways] == expected
    assert torch.equal(torch.stack(model.generate(**inputs, **scored).scores), scores)
    assert own_loop == []
    greedy(model, inputs)
    assert own_loop == [True]


def test_weights_that_are_not_whole_are_not_read() -> None:
    model = make()
    assert fast_generate._read(model, rows=2) is not None
    model.model.layers[1].mlp.down_proj.weight.data = torch.empty(0)  # what ZeRO-3 leaves of a partitioned weight
    assert fast_generate._read(model, rows=2) is None


def test_logits_that_are_not_finite_are_refused() -> None:
    model = make()
    torch.nn.init.constant_(model.lm_head.weight, torch.nan)
    with pytest.raises(UserError, match="not finite"):
        greedy(model, ragged(), do_sample=True, custom_generate=fast_sample)


def test_grpo_rolls_out_with_the_weights_of_each_step(
    model_folder: Path, tmp_path: Path, own_loop: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRL's own trainer, with gradient checkpointing; the weights read are those that the optimizer left."""
    model, tokenizer = load_model(model_folder)
    use_fast_rollouts(model)
    heads: list[float] = []
    read = fast_generate._read

    def watched(model: PreTrainedModel, rows: int) -> Any:
        heads.append(model.lm_head.weight.sum().item())
        return read(model, rows)

    monkeypatch.setattr(fast_generate, "_read", watched)
    prompts = [[{"role": "user", "content": question}] for question in ("1+1", "Who was born in Genoa?")] * 2
    GRPOTrainer(
        model=model,
        reward_funcs=lambda completions, **_: [len(completion[0]["content"]) for completion in completions],
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in prompts]),
        processing_class=tokenizer,
        args=GRPOConfig(
            output_dir=str(tmp_path),
            use_cpu=True,
            bf16=False,
            max_steps=2,
            learning_rate=1e-2,
            per_device_train_batch_size=4,
            num_generations=4,
            max_completion_length=8,
            gradient_checkpointing=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
    ).train()
    assert own_loop == [True, True]
    assert heads[0] != heads[1]

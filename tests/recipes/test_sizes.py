"""The sums in the comments of the recipes for GPUs: parameters counted on models without weights, bytes from these."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, LlamaConfig

ROOT = Path(__file__).parents[2]
GPUS, GPU = 8, 80.0  # of the recipe at 8B: how many, and GB of each

SMOLLM2 = LlamaConfig(
    vocab_size=49152,
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
    max_position_embeddings=8192,
    tie_word_embeddings=True,
)
LLAMA = LlamaConfig(
    vocab_size=128256,
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    max_position_embeddings=131072,
    tie_word_embeddings=False,
)


def read(recipe: str, step: str) -> tuple[dict[str, Any], str]:
    """A YAML's settings, and its text with comments run together."""
    text = (ROOT / "recipes" / recipe / f"{step}.yaml").read_text()
    return yaml.safe_load(text), " ".join(text.replace("\n#", " ").split())


def count(config: LlamaConfig, reward: bool = False) -> int:
    kind: Any = AutoModelForSequenceClassification if reward else AutoModelForCausalLM
    config.num_labels = 1
    with torch.device("meta"):
        return sum(p.numel() for p in kind.from_config(config).parameters())


def gb(count: float) -> float:
    return count / 1e9


def kept(config: LlamaConfig, tokens: int) -> float:
    """GB that checkpointing keeps: what goes into each layer, in bf16."""
    return gb(config.num_hidden_layers * tokens * config.hidden_size * 2)


def one_layer(config: LlamaConfig, tokens: int) -> float:
    return gb(tokens * (3 * config.intermediate_size + 8 * config.hidden_size) * 2)


def of_a_token(config: LlamaConfig, size: int) -> int:
    """Bytes of a token's keys and values."""
    width = config.hidden_size // config.num_attention_heads
    return config.num_hidden_layers * 2 * config.num_key_value_heads * width * size


def said(text: str, *figures: float) -> None:
    for figure in figures:
        assert f"{figure:.1f}" in text, f"{figure:.3f} stands nowhere in the comments"


def test_rlhf_at_8b_fits_its_gpus_as_its_comments_say() -> None:
    settings, text = read("rlhf-llama-3.1-8b", "ppo")
    policy, value = count(LLAMA), count(LLAMA, reward=True)
    assert f"{gb(policy):.2f} billion" in text
    assert f"{gb(value):.2f} billion" in text
    trained = [gb(n * 16 / GPUS) for n in (policy, value)]
    frozen = gb((policy + value) * 2 / GPUS)
    always = sum(trained) + frozen
    said(text, *trained, frozen, always)

    at_once, answer = settings["per_device_train_batch_size"], settings["max_completion_length"]
    longest = settings["max_prompt_length"] + answer
    assert longest == settings["vllm_max_model_length"]
    keeps, layer = 2 * kept(LLAMA, at_once * longest), one_layer(LLAMA, at_once * longest)
    logits = gb(at_once * answer * LLAMA.vocab_size * 4)
    assert f"{LLAMA.vocab_size:,}" in text
    learning = always + keeps + layer + 5 * logits + 4
    said(text, keeps, layer, logits, 5 * logits, learning)

    rollout = settings["global_batch_size"] * settings["num_mini_batches"] // GPUS
    assert f"{rollout} a GPU" in text
    assert f"{of_a_token(LLAMA, 2) / 1e3:.0f} kB a token" in text
    cache = gb(of_a_token(LLAMA, 2) * rollout * longest)
    vllm = gb(policy * 2) + cache + 3
    said(text, gb(policy * 2), cache, vllm)
    assert vllm <= settings["vllm_gpu_memory_utilization"] * GPU < vllm + 1
    sampling = always + settings["vllm_gpu_memory_utilization"] * GPU
    said(text, sampling, learning + settings["vllm_gpu_memory_utilization"] * GPU)
    assert max(learning, sampling) < 0.9 * GPU
    assert settings["vllm_enable_sleep_mode"]
    assert f"{gb((policy + value) * 14):.0f} GB" in text
    assert f"{gb(policy * 2):.0f} GB" in text


def test_the_reward_model_at_8b_fits_its_gpus_as_its_comments_say() -> None:
    settings, text = read("rlhf-llama-3.1-8b", "reward")
    parameters = count(LLAMA, reward=True)
    tokens = 2 * settings["per_device_train_batch_size"] * settings["max_length"]
    parts = [gb(parameters * 16 / GPUS), kept(LLAMA, tokens), one_layer(LLAMA, tokens)]
    assert f"{gb(parameters):.2f} billion" in text
    said(text, *parts, sum(parts) + 4, gb(parameters * 2))
    assert sum(parts) + 4 + gb(parameters * 2) < GPU


def test_smollm2_fits_its_gpu_as_its_comments_say() -> None:
    policy, value = count(SMOLLM2), count(SMOLLM2, reward=True)
    assert round(policy / 1e6) == round(value / 1e6) == 135
    settings, text = read("smollm2-135m", "reward")
    tokens = 2 * settings["per_device_train_batch_size"] * settings["max_length"]
    said(text, kept(SMOLLM2, tokens), one_layer(SMOLLM2, tokens), gb(value * 16))

    settings, text = read("smollm2-135m", "ppo")
    at_once, answer = settings["per_device_train_batch_size"], settings["max_completion_length"]
    longest = settings["max_prompt_length"] + answer
    logits, keeps = gb(at_once * answer * SMOLLM2.vocab_size * 4), 2 * kept(SMOLLM2, at_once * longest)
    trained, frozen = gb((policy + value) * 16), gb((policy + value) * 4)
    assert f"{of_a_token(SMOLLM2, 4) / 1e3:.0f} kB a token" in text
    cache = gb(of_a_token(SMOLLM2, 4) * settings["global_batch_size"] * longest)
    said(text, logits, 5 * logits, keeps, trained, frozen, cache)
    assert trained + frozen + max(cache, 5 * logits + keeps) < 0.9 * 16


@pytest.mark.parametrize(("recipe", "processes"), [("smollm2-135m", 1), ("rlhf-llama-3.1-8b", GPUS)])
def test_the_batches_fit_together_and_there_are_prompts_enough(recipe: str, processes: int) -> None:
    for step in ("reward", "ppo"):
        settings, text = read(recipe, step)
        share, left = divmod(settings["global_batch_size"], processes)
        rounds, more = divmod(share, settings["per_device_train_batch_size"])
        assert (left, more) == (0, 0)
        assert f"{rounds} rounds" in text
        if step == "reward":
            assert settings["max_steps"] * settings["global_batch_size"] < 0.95 * 61_135
            continue
        steps_a_rollout = settings["num_ppo_epochs"] * settings.get("num_mini_batches", 1)
        rollouts, left = divmod(settings["max_steps"], steps_a_rollout)
        prompts = rollouts * settings["global_batch_size"] * settings.get("num_mini_batches", 1)
        assert (left, settings["save_steps"] % steps_a_rollout) == (0, 0)
        assert f"{rollouts} rollouts meet {prompts:,} prompts" in text
        assert prompts < 61_135

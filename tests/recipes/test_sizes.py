"""The sizes of the GPU recipes, from parameters counted on models without weights, compared with those of `plan`."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedConfig
from trl import ModelConfig, get_peft_config

from zero2chat.recipes.model_sizes import DIMENSIONS, config_of
from zero2chat.recipes.plan import RESERVE, plan

ROOT = Path(__file__).parents[2]
GPUS, GPU = 8, 80.0  # of the recipe at 8B: how many, and GB of each
STAGES = ("sft", "dpo")

LLAMA = config_of("meta-llama/Llama-3.1-8B-Instruct")
CHAT = sorted((path.parent.name, path.stem) for path in (ROOT / "recipes").glob("chat-*/*.yaml") if path.stem in STAGES)


def read(recipe: str, step: str) -> tuple[dict[str, Any], str]:
    """A YAML's settings, and its text with comments run together."""
    text = (ROOT / "recipes" / recipe / f"{step}.yaml").read_text()
    return yaml.safe_load(text), " ".join(text.replace("\n#", " ").split())


def count(config: PreTrainedConfig, reward: bool = False) -> int:
    kind: Any = AutoModelForSequenceClassification if reward else AutoModelForCausalLM
    config.num_labels = 1
    with torch.device("meta"):
        return sum(p.numel() for p in kind.from_config(config).parameters())


def gb(count: float) -> float:
    return count / 1e9


def kept(config: PreTrainedConfig, tokens: int) -> float:
    """GB that checkpointing keeps: what goes into each layer, in bf16."""
    return gb(config.num_hidden_layers * tokens * config.hidden_size * 2)


def one_layer(config: PreTrainedConfig, tokens: int) -> float:
    return gb(tokens * (3 * config.intermediate_size + 8 * config.hidden_size) * 2)


def of_a_token(config: PreTrainedConfig, size: int) -> int:
    """Bytes of a token's keys and values."""
    width = config.hidden_size // config.num_attention_heads
    return config.num_hidden_layers * 2 * config.num_key_value_heads * width * size


def said(text: str, *figures: float) -> None:
    for figure in figures:
        assert f"{figure:.1f}" in text, f"{figure:.3f} is not in the text"


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # paths in a YAML are relative to the repository


@cache
def planned(recipe: str, gpu: str, gpus: int = 1) -> dict[str, Any]:
    return plan(f"recipes/{recipe}", gpu, gpus=gpus)["steps"]


def row(recipe: str) -> str:
    """The recipe's row in the table of existing models."""
    lines = (ROOT / "recipes/README.md").read_text().splitlines()
    (found,) = [line for line in lines if line.startswith("|") and f"recipes/{recipe}`" in line]
    return found


def test_rlhf_at_8b_fits_its_gpus_as_its_page_says_and_plan() -> None:
    settings, text = read("rlhf-llama-3.1-8b", "ppo")
    policy, judge = count(LLAMA), count(LLAMA, reward=True)
    assert f"{gb(policy):.2f} billion" in text
    always = gb(policy * 16 / GPUS) + gb((policy + judge) * 2 / GPUS)

    at_once, answer = settings["per_device_train_batch_size"], settings["max_completion_length"]
    longest = settings["max_prompt_length"] + answer
    keeps, layer = kept(LLAMA, at_once * longest), one_layer(LLAMA, at_once * longest)
    logits = gb(at_once * answer * LLAMA.vocab_size * 4)
    learning = always + keeps + layer + 5 * logits + 4

    rollout = settings["global_batch_size"] * settings["num_mini_batches"] // GPUS
    assert f"{rollout} per GPU" in text
    assert f"{of_a_token(LLAMA, 2) / 1e3:.0f} kB per token" in text
    cache = gb(of_a_token(LLAMA, 2) * rollout * longest)
    said(text, gb(policy * 2), cache)
    sampling = always + gb(policy * 2) + cache
    assert max(learning, sampling) < 0.9 * GPU
    memory = planned("rlhf-llama-3.1-8b", "h100", GPUS)["ppo"]["memory"]["zero3"]
    assert memory["sampling"] == pytest.approx(sampling, abs=0.1)
    assert memory["learning"] == pytest.approx(learning, rel=0.05)
    said(row("rlhf-llama-3.1-8b"), sampling)
    page = (ROOT / "recipes/rlhf-llama-3.1-8b/README.md").read_text()
    for figure in (sampling, learning):
        assert f"{figure:.0f} GB" in page
    assert f"{gb(policy * 14):.0f} GB" in text
    assert f"{gb(policy * 2):.0f} GB" in text


# ---- every model that a recipe names


def base_of(settings: dict[str, Any]) -> str:
    """The name on the Hub of the model that a step starts from, also through the steps before it."""
    path = settings["model_name_or_path"]
    if path.startswith("runs/"):
        _, recipe, step = path.split("/")
        return base_of(read(recipe, step)[0])
    return path


def settings_of_all() -> list[tuple[str, dict[str, Any]]]:
    found = [(path, yaml.safe_load(path.read_text())) for path in sorted((ROOT / "recipes").glob("*/*.yaml"))]
    return [(f"{path.parent.name}/{path.stem}", settings) for path, settings in found if path.stem != "recipe"]


NAMES = sorted(
    {
        s["model_name_or_path"]
        for _, s in settings_of_all()
        if not s.get("model_name_or_path", "runs/").startswith("runs/")
    }
)
ADAPTED = [(name, settings) for name, settings in settings_of_all() if settings.get("use_peft")]


@cache
def built(name: str) -> Any:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config_of(name))


@pytest.mark.parametrize("name", NAMES)
def test_every_model_of_a_recipe_is_built_with_as_many_parameters_as_it_is_published_with(name: str) -> None:
    assert sum(p.numel() for p in built(name).parameters()) == DIMENSIONS[name][1]


def adapted(settings: dict[str, Any]) -> PeftModel:
    known = {key: value for key, value in settings.items() if key.startswith("lora_")}
    return _adapted(base_of(settings), json.dumps(known))


@cache
def _adapted(base: str, lora: str) -> PeftModel:
    with torch.device("meta"):
        fresh = AutoModelForCausalLM.from_config(config_of(base))
        return get_peft_model(fresh, get_peft_config(ModelConfig(use_peft=True, **json.loads(lora))))


@pytest.mark.parametrize(("name", "settings"), ADAPTED, ids=[name for name, _ in ADAPTED])
def test_an_adapters_targets_are_the_matrices_of_its_model(name: str, settings: dict[str, Any]) -> None:
    trained = {name.split(".lora_A")[0] for name, _ in adapted(settings).named_parameters() if "lora_A" in name}
    layers = config_of(base_of(settings)).num_hidden_layers
    kinds = {name.rpartition(".")[2] for name in trained}
    assert kinds == {f"{part}_proj" for part in ("q", "k", "v", "o", "gate", "up", "down")}
    assert len(trained) == 7 * layers


# ---- from a base model to a chat model


def memory(settings: dict[str, Any], pairs: bool) -> tuple[list[float], float]:
    """(GB of each part, GB in all) of one GPU."""
    config = config_of(base_of(settings))
    count = DIMENSIONS[base_of(settings)][1]
    tokens = settings["per_device_train_batch_size"] * (2 if pairs else 1) * settings["max_length"]
    size, lora = (2, 2) if settings.get("use_peft") else (4, 1)  # bytes of a layer's input; what LoRA has beside it
    kept = gb(config.num_hidden_layers * tokens * config.hidden_size * size)
    layer = gb(lora * tokens * (3 * config.intermediate_size * 2 + 8 * config.hidden_size * size))
    if lora == 1:
        parts = [gb(count * 16), gb(count * 2)]
    else:
        model = adapted(settings)
        trained = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
        saved = sum(n for name, n in trained.items() if "modules_to_save" in name)
        adapter = sum(trained.values()) - saved
        matrices = sum(module.base_layer.weight.numel() for module in model.modules() if hasattr(module, "base_layer"))
        if settings.get("load_in_4bit"):
            parts = [gb(matrices * 4.127 / 8), gb((count - matrices) * 2), gb(adapter * 16)]
        else:
            parts = [gb(count * 2), gb(adapter * 16), *([gb(saved * 16)] if saved else [])]
    parts += [kept, layer]
    return parts, sum(parts) + 2


@pytest.mark.parametrize(("recipe", "step"), CHAT)
def test_a_chat_recipe_fits_its_gpu_as_the_table_says_and_plan(recipe: str, step: str) -> None:
    settings, text = read(recipe, step)
    _, whole = memory(settings, step == "dpo")
    _, _, _, hardware, table, _, _, _ = row(recipe).split("|")
    steps = [name for name in STAGES if (recipe, name) in CHAT]
    assert table.split(", ")[steps.index(step)].strip() == f"{whole:.1f}"
    room = (1 - RESERVE) * float(re.search(r"1 GPU, (\d+) GB", hardware)[1])  # type: ignore[index]
    assert whole < room
    gpu = re.search(rf"`zero2chat plan recipes/{re.escape(recipe)} --gpu (\w+)`", text)
    assert gpu
    peak = planned(recipe, gpu[1])[step]["memory"]["single_gpu"]["peak"]
    assert peak == pytest.approx(whole, rel=0.15)
    assert peak < room
    if settings.get("precompute_ref_log_probs"):
        assert f"the reference is loaded again, {gb(DIMENSIONS[base_of(settings)][1] * 4):.1f} GB" in text
    if settings.get("merge_adapter"):
        assert f"{gb(DIMENSIONS[base_of(settings)][1] * 4):.1f} GB of CPU memory" in text

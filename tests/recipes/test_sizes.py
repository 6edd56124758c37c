"""The models of the recipes, built without weights, and the memory that `plan` says beside one counted here."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedConfig
from trl import ModelConfig, get_peft_config

from zero2chat.models.hardware import GPUS
from zero2chat.recipes.model_sizes import DIMENSIONS, config_of
from zero2chat.recipes.plan import plan_step
from zero2chat.recipes.recipe import Step, load_recipe

ROOT = Path(__file__).parents[2]
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
# A folder with a recipe.yaml, or one file with the steps
FILES = [path for path in (ROOT / "recipes").glob("*/*.yaml") if "steps" in yaml.safe_load(path.read_text())]
RECIPES = {str(path.parent if path.name == "recipe.yaml" else path): path for path in sorted(FILES)}
STEPS = {name: load_recipe(name) for name in RECIPES}
EVERY = {str(step.folder): step for steps in STEPS.values() for step in steps}
CHATS = [folder for folder, step in EVERY.items() if "/chat-" in folder and step.stage in ("sft", "dpo")]
ADAPTED = [folder for folder, step in EVERY.items() if step.settings.get("use_peft")]


def base_of(folder: str) -> str:
    """The name on the Hub of the model that a step starts from, also through the steps before it."""
    path = EVERY[folder].settings.get("model_name_or_path", "")
    return base_of(path) if path in EVERY else str(path)


NAMES = {name for step in EVERY.values() if "/" in (name := str(step.settings.get("model_name_or_path", "")))}
NAMES = {name for name in NAMES if not name.startswith(("runs/", "data/"))}


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # paths in a YAML are relative to the repository


def planned(step: Step, gpus: int = 1) -> dict[str, Any]:
    (steps,) = [steps for steps in STEPS.values() if step in steps]
    memory: dict[str, Any] = plan_step(step, steps, GPUS["H100"], gpus=gpus, mfu=0.4)["memory"]
    return memory


def count(config: PreTrainedConfig, kind: Any = AutoModelForCausalLM) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in kind.from_config(config).parameters())


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_model_of_a_recipe_is_built_with_as_many_parameters_as_it_is_published_with(name: str) -> None:
    assert count(config_of(name)) == DIMENSIONS[name][1]


def adapted(folder: str) -> PeftModel:
    known = {key: value for key, value in EVERY[folder].settings.items() if key.startswith("lora_")}
    return _adapted(base_of(folder), json.dumps(known))


@cache
def _adapted(base: str, lora: str) -> PeftModel:
    with torch.device("meta"):
        fresh = AutoModelForCausalLM.from_config(config_of(base))
        return get_peft_model(fresh, get_peft_config(ModelConfig(use_peft=True, **json.loads(lora))))


@pytest.mark.parametrize("folder", ADAPTED)
def test_an_adapters_targets_are_the_matrices_of_its_model(folder: str) -> None:
    trained = {name.split(".lora_A")[0] for name, _ in adapted(folder).named_parameters() if "lora_A" in name}
    kinds = {name.rpartition(".")[2] for name in trained}
    assert kinds == {f"{part}_proj" for part in ("q", "k", "v", "o", "gate", "up", "down")}
    assert len(trained) == 7 * config_of(base_of(folder)).num_hidden_layers


def memory(folder: str) -> float:
    """Bytes on one GPU, with checkpointing: weights, gradients, optimizer, the input of each layer, one layer, 2 GB."""
    settings, config, n = EVERY[folder].settings, config_of(base_of(folder)), DIMENSIONS[base_of(folder)][1]
    pairs = 2 if EVERY[folder].stage == "dpo" else 1
    tokens = settings["per_device_train_batch_size"] * pairs * settings["max_length"]
    size, lora = (2, 2) if settings.get("use_peft") else (4, 1)  # bytes of a layer's input; what LoRA has beside it
    inputs = config.num_hidden_layers * tokens * config.hidden_size * size
    layer = lora * tokens * (3 * config.intermediate_size * 2 + 8 * config.hidden_size * size)
    if lora == 1:
        return 18 * n + inputs + layer + 2e9
    model = adapted(folder)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    matrices = sum(module.base_layer.weight.numel() for module in model.modules() if hasattr(module, "base_layer"))
    frozen = matrices * 4.127 / 8 + (n - matrices) * 2 if settings.get("load_in_4bit") else 2 * n
    return frozen + 16 * trained + inputs + layer + 2e9


@pytest.mark.parametrize("folder", CHATS)
def test_a_step_of_a_chat_recipe_needs_the_memory_that_plan_says(folder: str) -> None:
    assert planned(EVERY[folder])["single_gpu"]["peak"] == pytest.approx(memory(folder) / 1e9, rel=0.15)


def test_rlhf_at_8b_needs_the_memory_that_plan_says() -> None:
    """A policy, its value head, a reference and a reward model on eight GPUs, with ZeRO-3."""
    (step,) = [s for f, s in EVERY.items() if s.stage == "ppo" and base_of(f) == LLAMA]
    settings, config = step.settings, config_of(LLAMA)
    config.num_labels = 1
    policy, judge = count(config), count(config, AutoModelForSequenceClassification)
    always = policy * 16 / 8 + (policy + judge) * 2 / 8
    at_once, answer = settings["per_device_train_batch_size"], settings["max_completion_length"]
    longest = settings["max_prompt_length"] + answer
    inputs = config.num_hidden_layers * at_once * longest * config.hidden_size * 2
    layer = at_once * longest * (3 * config.intermediate_size + 8 * config.hidden_size) * 2
    learning = always + inputs + layer + 5 * at_once * answer * config.vocab_size * 4 + 4e9
    rollout = settings["global_batch_size"] * settings["num_mini_batches"] // 8
    width = config.hidden_size // config.num_attention_heads
    cache = rollout * longest * config.num_hidden_layers * 4 * config.num_key_value_heads * width
    sampling = always + 2 * policy + cache
    found = planned(step, gpus=8)["zero3"]
    assert found["sampling"] == pytest.approx(sampling / 1e9, abs=0.1)
    assert found["learning"] == pytest.approx(learning / 1e9, rel=0.05)

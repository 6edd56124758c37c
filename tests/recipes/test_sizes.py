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

from zero2chat.models import hardware
from zero2chat.recipes.model_sizes import DIMENSIONS, config_of
from zero2chat.recipes.plan import RESERVE, plan

ROOT = Path(__file__).parents[2]
GPUS, GPU = 8, 80.0  # of the recipe at 8B: how many, and GB of each
STAGES = ("sft", "dpo")

SMOLLM2 = config_of("HuggingFaceTB/SmolLM2-135M-Instruct")
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


def test_the_reward_model_at_8b_fits_its_gpus_as_the_table_says_and_plan() -> None:
    settings, text = read("rlhf-llama-3.1-8b", "reward")
    parameters = count(LLAMA, reward=True)
    tokens = 2 * settings["per_device_train_batch_size"] * settings["max_length"]
    parts = [gb(parameters * 16 / GPUS), kept(LLAMA, tokens), one_layer(LLAMA, tokens)]
    gathered = gb(parameters * 2)
    assert f"{gb(parameters):.2f} billion × 2 bytes = {gathered:.1f} GB" in text
    said(row("rlhf-llama-3.1-8b"), sum(parts) + 4 + gathered)
    assert sum(parts) + 4 + gathered < GPU
    memory = planned("rlhf-llama-3.1-8b", "h100", GPUS)["reward"]["memory"]["zero3"]
    assert memory["peak"] == pytest.approx(sum(parts) + 4, rel=0.15)


def test_smollm2_fits_its_gpu_and_plan_says_so() -> None:
    policy, judge = count(SMOLLM2), count(SMOLLM2, reward=True)
    assert round(policy / 1e6) == round(judge / 1e6) == 135
    memory = {step: made["memory"]["single_gpu"] for step, made in planned("rlhf-smollm2-135m", "4090").items()}
    settings, _ = read("rlhf-smollm2-135m", "reward")
    tokens = 2 * settings["per_device_train_batch_size"] * settings["max_length"]
    learning = kept(SMOLLM2, tokens) + one_layer(SMOLLM2, tokens) + gb(judge * 16)
    assert learning < 0.9 * 16
    assert learning < memory["reward"]["peak"] < 0.9 * 16  # plan counts the activations of a layer in full

    settings, _ = read("rlhf-smollm2-135m", "ppo")
    at_once, answer = settings["per_device_train_batch_size"], settings["max_completion_length"]
    longest = settings["max_prompt_length"] + answer
    logits, keeps = gb(at_once * answer * SMOLLM2.vocab_size * 4), kept(SMOLLM2, at_once * longest)
    trained, frozen = gb(policy * 16), gb((policy + judge) * 4)
    cache = gb(of_a_token(SMOLLM2, 4) * settings["global_batch_size"] * longest)
    largest = trained + frozen + max(cache, 5 * logits + keeps)
    assert largest < 0.9 * 16
    assert memory["ppo"]["peak"] == pytest.approx(largest, rel=0.25)


@pytest.mark.parametrize(("recipe", "processes"), [("rlhf-smollm2-135m", 1), ("rlhf-llama-3.1-8b", GPUS)])
def test_the_batches_fit_together_and_there_are_prompts_enough(recipe: str, processes: int) -> None:
    for step in ("reward", "ppo"):
        settings, text = read(recipe, step)
        share, left = divmod(settings["global_batch_size"], processes)
        rounds, more = divmod(share, settings["per_device_train_batch_size"])
        assert (left, more) == (0, 0)
        assert f"{rounds} accumulation steps" in text
        if step == "reward":
            assert settings["max_steps"] * settings["global_batch_size"] < 0.95 * 61_135
            continue
        steps_a_rollout = settings["num_ppo_epochs"] * settings.get("num_mini_batches", 1)
        rollouts, left = divmod(settings["max_steps"], steps_a_rollout)
        prompts = rollouts * settings["global_batch_size"] * settings.get("num_mini_batches", 1)
        assert (left, settings["save_steps"] % steps_a_rollout) == (0, 0)
        assert f"{rollouts} rollouts use {prompts:,} prompts" in text
        assert prompts < 61_135


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


@pytest.mark.parametrize(("recipe", "step"), CHAT)
def test_a_chat_recipes_steps_and_hours_are_what_its_comments_say(recipe: str, step: str) -> None:
    settings, text = read(recipe, step)
    steps, batch = settings["max_steps"], settings["global_batch_size"]
    rounds, left = divmod(batch, settings["per_device_train_batch_size"])
    assert left == 0
    assert f"{rounds} accumulation steps" in text
    rows = " rows" if settings.get("packing") else ""
    assert re.search(f"{steps:,} steps see {steps * batch:,}{rows}", text)
    assert settings["warmup_steps"] <= 0.1 * steps if "warmup_steps" in settings else "constant" in text
    if step == "dpo":
        readings = 2 if "two epochs" in text else 1
        there, each = 0.95 * 61_135 * readings, 2 * 500
    else:
        there, each = (
            int(re.search(p, text)[1].replace(",", ""))
            for p in (r"([\d,]+) conversations", r"about ([\d,]+) tokens each")
        )  # type: ignore[index]
        if settings["packing"]:
            assert f"about {batch * settings['max_length'] / each:.0f} conversations" in text
    tokens = steps * batch * (settings["max_length"] if settings.get("packing") else each)
    assert tokens / each < there
    assert f"{tokens / 1e6:.1f} million tokens" in text
    flops = (4 if settings.get("use_peft") else 6) + (2 if step == "dpo" else 0)
    count = DIMENSIONS[base_of(settings)][1]
    assert f"{4 if settings.get('use_peft') else 6} × {gb(count):.2f} billion FLOPs per token" in text
    hours = re.search(r"([\d.]+) hours on an (?:RTX )?(\w+) at an MFU of 30%", text)
    assert hours
    assert hours[1] == f"{flops * count * tokens / (0.3 * hardware.GPUS[hours[2]].peak) / 3600:.1f}"


@pytest.mark.parametrize(("recipe", "step"), CHAT)
def test_the_table_of_models_has_the_hours_of_the_comments(recipe: str, step: str) -> None:
    _, text = read(recipe, step)
    hours = row(recipe).split("|")[5].split(",")[0].split(" + ")
    steps = [name for name in STAGES if (recipe, name) in CHAT]
    assert hours[steps.index(step)].strip() == re.search(r"([\d.]+) hours", text)[1]  # type: ignore[index]

"""The plan of a recipe: figures computed by hand, and mistakes. `recipes/test_every_recipe.py` plans every recipe."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from recipes.tiny_recipes import ROOT, enter, write_recipe, yaml_step
from transformers import Qwen3Config

from zero2chat import cli, stages
from zero2chat.core.errors import UserError
from zero2chat.models.hardware import layer_bytes
from zero2chat.models.training_job import Job
from zero2chat.recipes.model_sizes import config_of
from zero2chat.recipes.plan import plan
from zero2chat.recipes.recipe import load_recipe
from zero2chat.recipes.training_cost import per_rank, read_job

WIDTH, INNER, HEADS, LAYERS, VOCABULARY, CONTEXT = 64, 192, 2, 3, 1000, 32
SHAPE = {"hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": LAYERS, "tie_word_embeddings": True}
SHAPE |= {"num_attention_heads": HEADS, "num_key_value_heads": HEADS, "head_dim": WIDTH // HEADS}
# Four matrices of attention, three of the MLP, two norms, and the norms of queries and keys; the table; the last norm.
PARAMETERS = LAYERS * (4 * WIDTH**2 + 3 * WIDTH * INNER + 2 * WIDTH + 2 * WIDTH // HEADS) + VOCABULARY * WIDTH + WIDTH


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # paths in a YAML are relative to the repository


# ---- memory


def job(n: int = PARAMETERS, **more: Any) -> Job:
    config = Qwen3Config(**SHAPE, vocab_size=VOCABULARY)
    return Job(config=config, parameters=n, trained=n, optimizer=8.0 * n, length=CONTEXT, **more)


def test_weights_gradients_and_optimizer_are_cut_as_each_zero_stage_cuts_them() -> None:
    def gb(launch: str, ranks: int = 8) -> list[float]:
        parts = per_rank(job(800_000_000, head="none"), 1, launch, ranks)
        return [round(parts[part] / 1e9, 3) for part in ("weights", "gradients", "optimizer", "copies", "buffers")]

    # fp32, and autocast's copies in bf16; DDP's buckets hold the gradients once more.
    assert gb("single_gpu", 1) == [3.2, 3.2, 6.4, 1.6, 0.0]
    assert gb("ddp") == [3.2, 3.2, 6.4, 1.6, 3.2]
    # bf16, and fp32 in the optimizer; the bucket of 500 million gradients, and once more while it is reduced.
    assert gb("zero1") == [1.6, 1.6, 1.2, 0.0, 2.0]
    assert gb("zero2") == [1.6, 0.2, 1.2, 0.0, 2.0]
    assert gb("zero3") == [0.2, 0.2, 1.2, 1.6, 2.0]
    assert gb("zero3", 16)[:3] == [0.1, 0.1, 0.6]
    assert gb("fsdp2")[:3] == [0.4, 0.4, 0.8]


def test_fsdp_gathers_layers_whether_they_are_trained_or_not_and_a_model_that_only_reads_whole() -> None:
    """Two layers at a time in bf16, with the embeddings, and the fp32 gradients of what is trained of one of them."""
    adapter = job(1200, frozen=2.0 * PARAMETERS, size=2)
    expected = 2 * (2 * (PARAMETERS + 1200) / 3 + 2 * VOCABULARY * WIDTH) + 4 * 1200 / 3
    assert per_rank(adapter, 1, "fsdp2", 8)["copies"] == pytest.approx(expected)
    copies = per_rank(replace(adapter, readers=PARAMETERS), 1, "fsdp2", 8)["copies"]
    assert copies == pytest.approx(expected + 2 * PARAMETERS)


def test_checkpointing_keeps_what_goes_into_each_layer_and_logits_are_whole_or_tiles() -> None:
    tokens = 2 * CONTEXT
    whole = per_rank(job(checkpointing=True), 2, "single_gpu", 1)
    assert whole["logits"] == tokens * VOCABULARY * 4 * 3
    assert whole["activations"] == tokens * (LAYERS * WIDTH * 4 + 8 * WIDTH)
    tiles = per_rank(job(checkpointing=True, head="tiles"), 2, "single_gpu", 1)
    assert tiles["logits"] == tokens * (8 * WIDTH + 4 * VOCABULARY) + 4 * VOCABULARY * WIDTH
    kept = per_rank(job(), 2, "single_gpu", 1)
    assert kept["activations"] == tokens * (LAYERS * layer_bytes(job().config, 4) + 8 * WIDTH)
    assert kept["activations"] > whole["activations"]


@pytest.mark.parametrize(
    ("model", "size", "adapter", "measured"),
    [
        # Bytes of a token that forward passes kept, by autograd's hooks for saved tensors, in bf16 or under autocast.
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 4, False, 32_044),
        ("Qwen/Qwen3-0.6B-Base", 4, False, 86_312),
        ("Qwen/Qwen3-8B-Base", 2, False, 227_752),
        ("Qwen/Qwen3-8B-Base", 2, True, 381_576),
        ("meta-llama/Llama-3.1-8B", 2, False, 213_256),
        ("meta-llama/Llama-3.1-8B", 2, True, 385_512),
    ],
)
def test_a_layer_keeps_what_forward_passes_kept(model: str, size: int, adapter: bool, measured: int) -> None:
    read = replace(job(adapter=adapter), config=config_of(model))
    assert layer_bytes(read.config, size, read.adapter) == pytest.approx(measured, rel=0.1)


# ---- a recipe


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe with one pretrain step, whose tokenizer another step makes."""
    enter(tmp_path, monkeypatch)
    made = {"output_dir": "runs/own/tokenizer", "dataset": "corpus", "vocab_size": VOCABULARY}
    folder = write_recipe("recipes/own", [yaml_step(name, name) for name in ("tokenizer", "pretrain")], tokenizer=made)
    change(folder, output_dir="runs/own/pretrain")
    return folder


def change(recipe: Path, **settings: Any) -> None:
    path = recipe / "pretrain.yaml"
    sizes = {"global_batch_size": 16, "per_device_train_batch_size": 4, "max_steps": 100, "max_length": CONTEXT}
    known: dict[str, Any] = {"dataset": "corpus", "tokenizer": "runs/own/tokenizer", "model": SHAPE, "muon": False}
    known = yaml.safe_load(path.read_text()) if path.exists() else known | sizes
    path.write_text(yaml.safe_dump(known | settings))


def test_flops_tokens_and_hours_follow_from_the_settings(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["plan", str(recipe), "--gpu", "H100", "--gpus", "2", "--mfu", "0.5", "--json"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    step = found["steps"]["pretrain"]
    assert step["parameters"] == step["trained"] == PARAMETERS
    assert step["flops_per_token"] == 6 * PARAMETERS + 12 * LAYERS * WIDTH * CONTEXT
    assert (step["micro_batch"], step["accumulation"]) == (4, 2)
    assert (step["tokens_per_step"], step["steps"]) == (16 * CONTEXT, 100)
    assert step["tokens_per_second"] == pytest.approx(2 * 0.5 * 989e12 / step["flops_per_token"])
    assert step["hours"] == pytest.approx(100 * 16 * CONTEXT / step["tokens_per_second"] / 3600)
    assert found["hours"] == step["hours"]
    assert step["config"] == "ddp"
    assert list(step["memory"]) == ["ddp", "zero1", "zero2", "zero3", "fsdp2"]
    for parts in step["memory"].values():
        names = ("weights", "gradients", "optimizer", "copies", "buffers", "activations", "logits")
        assert sum(parts[name] for name in names) == pytest.approx(parts["peak"])


def test_a_model_has_the_context_that_an_earlier_step_gave_it() -> None:
    steps = load_recipe("recipes/worlds")
    job, *_ = read_job(next(step for step in steps if step.name == "grpo"), steps)
    assert job.length == 1536  # the assistant's context is 512


def test_every_stage_that_trains_can_be_planned() -> None:
    for stage in map(stages.load, stages.names()):
        assert (stage.cost is not None) == (stage.kind == "trains"), stage.name


def _sft(recipe: Path, model: str, **settings: Any) -> dict[int, dict[str, Any]]:
    """The plan of an SFT step for one GPU and for two."""
    first, second = yaml.safe_load((recipe / "recipe.yaml").read_text())["steps"][:2]
    sft = {"output_dir": "runs/own/sft", "datasets": [{"path": "x.jsonl"}], "model_name_or_path": model}
    sft |= {"max_length": CONTEXT} | settings
    write_recipe(recipe, [first, second, yaml_step("sft", "sft")], sft=sft)
    return {gpus: plan(str(recipe), "h100", gpus=gpus)["steps"]["sft"] for gpus in (1, 2)}


def test_steps_hours_and_cost_follow_from_rows_and_epochs(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Qwen3Config(**SHAPE, vocab_size=VOCABULARY, max_position_embeddings=CONTEXT).save_pretrained("model")
    assert _sft(recipe, "model")[1]["steps"] is None  # x.jsonl is not here
    Path("x.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 100)
    epochs = {"num_train_epochs": 3, "global_batch_size": 8, "validation_fraction": 0.1}
    step = _sft(recipe, "model", **epochs)[1]
    assert (step["rows"], step["held_out"], step["epochs"], step["steps"]) == (90, 10, 3, 36)
    assert _sft(recipe, "model", datasets=[{"path": "x.jsonl", "split": "train[:20]"}], **epochs)[1]["rows"] == 18
    assert _sft(recipe, "model", packing=True, **epochs)[1]["steps"] is None
    _sft(recipe, "model", **epochs)
    made = plan(str(recipe), "h100", gpus=2, price=2.5)
    assert made["cost"] == pytest.approx(made["hours"] * 2 * 2.5)
    cli.main(["plan", str(recipe), "--gpu", "h100", "--price", "2.5"])
    said = capsys.readouterr().out
    assert "Assumed: each sequence has the length `sequence`" in said
    assert "total cost: under 1 at 2.5 per GPU and hour" in said
    assert re.search(r"\nsft *\n(.*\n)+rows for training +90 *\nheld out +10 *\n", said)
    assert "total minutes: under 1, without start-up and evaluation\n" in said
    cli.main(["plan", str(recipe), "--gpu", "h100"])
    assert "total cost: add --price, of one GPU for an hour\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("saved", "settings", "bits_16"),
    [
        ("bfloat16", {"dtype": "auto"}, True),
        ("float16", {"dtype": "auto"}, True),
        ("float32", {"dtype": "auto"}, False),
        ("bfloat16", {}, False),
        ("float32", {"dtype": "bfloat16"}, True),
        ("bfloat16", {"dtype": "auto", "use_peft": True}, True),
    ],
)
def test_ddp_does_not_train_16_bit_weights(saved: str, settings: dict[str, Any], bits_16: bool, recipe: Path) -> None:
    Qwen3Config(**SHAPE, vocab_size=VOCABULARY, max_position_embeddings=CONTEXT, dtype=saved).save_pretrained("model")
    one, two = _sft(recipe, "model", **settings).values()
    refused = bits_16 and "use_peft" not in settings
    assert list(one["memory"]) == ([] if refused else ["single_gpu"])
    assert ("ddp" in two["memory"]) is not refused
    assert {"zero2", "fsdp2"} <= two["memory"].keys()
    if "use_peft" in settings:
        frozen, trained = PARAMETERS, one["trained"]
        assert one["memory"]["single_gpu"]["weights"] == pytest.approx((2 * frozen + 4 * trained) / 1e9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"recipe": "recipes/none"}, "recipes/none: not a recipe"),
        ({"recipe": "recipes/smollm2/benchmarks.yaml"}, "no training steps"),
        ({"gpu": "h10"}, "--gpu h10: no such GPU in the table; did you mean 'h100'"),
        ({"gpus": 0}, "--gpus 0: expected 1 or more"),
        ({"mfu": 0.0}, "--mfu 0.0: expected a number above 0, at most 1"),
        ({"price": 0.0}, "--price 0.0: expected a number above 0"),
        ({"gpus": 3}, "chat/sft.yaml: global_batch_size 64 cannot be divided among 3 processes"),
    ],
)
def test_a_mistake_is_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        plan(**({"recipe": "recipes/chat/gemma-3-1b.yaml", "gpu": "h100"} | arguments))


def test_a_mixture_works_with_its_active_parameters(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dense = plan(str(recipe), "h100")["steps"]["pretrain"]
    shape = SHAPE | {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": INNER // 2}
    change(recipe, model_type="qwen3_moe", model=shape)
    cli.main(["plan", str(recipe), "--gpu", "h100"])
    said, step = capsys.readouterr().out, plan(str(recipe), "h100")["steps"]["pretrain"]
    routers = LAYERS * 8 * WIDTH
    assert dense["parameters"] == dense["active"] == PARAMETERS
    assert step["active"] == PARAMETERS + routers
    assert step["parameters"] == step["active"] + LAYERS * 6 * 3 * WIDTH * INNER // 2
    assert step["flops_per_token"] == dense["flops_per_token"] + 6 * routers
    assert step["memory"]["single_gpu"]["weights"] * 1e9 == pytest.approx(4 * step["parameters"])
    assert re.search(rf"\nparameters +{step['parameters']:,} *\nactive +{step['active']:,} ", said)

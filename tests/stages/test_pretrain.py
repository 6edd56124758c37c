"""The pretraining stage, on what the fixture `tiny` made with it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, concatenate_datasets, load_dataset
from stage_fixtures import Configured, Train, history, metrics
from transformers import AutoModelForCausalLM, AutoTokenizer

from zero2chat.core.errors import UserError
from zero2chat.core.runs import read_jsonl
from zero2chat.data.packing import held_out_windows, pack_documents
from zero2chat.models.hardware import active_count, flops_per_token, parameter_count
from zero2chat.models.scaling import laws
from zero2chat.stages.pretrain import STAGE, PretrainArguments
from zero2chat.stages.pretrain_model import build_model, derive, open_start
from zero2chat.trainers.pretrain_trainer import collate


def test_the_folder_is_an_ordinary_model_folder(tiny):
    folder = tiny / "pretrain"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert (model.config.model_type, model.config.hidden_size, model.config.num_hidden_layers) == ("qwen3", 32, 2)
    assert model.config.vocab_size == len(tokenizer) == 400
    assert model.config.max_position_embeddings == 128
    assert model.dtype == torch.float32
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert model.generation_config.eos_token_id in (end, [end])  # a list in transformers 5.17
    names = {path.name for path in folder.iterdir()}
    assert {"README.md", "model.safetensors", "tokenizer.json", "metrics.json", "run.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt"))]


def test_held_out_bits_per_byte_are_those_of_the_saved_model(tiny):
    folder = tiny / "pretrain"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    values = metrics(folder)
    rows = load_dataset(str(tiny / "corpus"), split="validation")
    total = [0.0, 0]
    for source in ("world", "textbook"):
        windows = pack_documents(rows.filter(lambda r: r["source"] == source), "text", tokenizer, 128, source)  # noqa: B023
        ids = torch.tensor(windows["input_ids"][:])
        with torch.no_grad():
            logits = model(ids).logits[:, :-1]
        nats = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="sum").item()
        spelled = [tokenizer.decode([i], skip_special_tokens=True) for i in range(len(tokenizer))]
        assert all("\ufffd" not in spelled[i] for i in ids.flatten().tolist())  # so that bytes can be counted thus
        size = sum(len(spelled[i].encode()) for i in ids[:, 1:].flatten().tolist())
        metric = values[f"val_bits_per_byte_{source}"]
        assert (metric["value"], metric["n"]) == (pytest.approx(nats / math.log(2) / size, abs=2e-3), size)
        total = [total[0] + nats, total[1] + size]
    assert values["val_bits_per_byte"]["value"] == pytest.approx(total[0] / math.log(2) / total[1], abs=2e-3)
    assert values["parameters"]["value"] == model.num_parameters()
    assert values["tokens"]["value"] == 6 * 8 * 128


def test_it_learns_and_writes_down_how(tiny):
    lines = history(tiny / "pretrain")
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert [line["tokens"] for line in lines] == [2 * 8 * 128, 4 * 8 * 128, 6 * 8 * 128]
    for line in lines:
        assert {"learning_rate", "grad_norm", "bits_per_byte", "tokens_per_second", "mfu", "seconds"} <= set(line)
        ratio = lines[0]["bits_per_byte"] / lines[0]["loss"]
        assert line["bits_per_byte"] == pytest.approx(ratio * line["loss"], rel=1e-3)
    samples = read_jsonl(tiny / "pretrain" / "samples.jsonl")
    assert [(s["step"], s["prompt"]) for s in samples] == [(n, p) for n in (3, 6) for p in ("Sums in", "There are")]


def test_sampling_changes_nothing_that_is_learned(tiny, train):
    run = train("pretrain", sample_prompts=[], save_strategy="no")
    before, after = ([line["loss"] for line in history(one)] for one in (tiny / "pretrain", run))
    assert after == pytest.approx(before, rel=1e-3)
    assert not (run / "samples.jsonl").exists()


def test_bits_per_byte_on_the_way_are_of_the_held_out_texts_own_bytes(train):
    evaluated = {"eval_strategy": "steps", "eval_steps": 2, "per_device_eval_batch_size": 1}
    run = train("pretrain", max_steps=2, sample_prompts=[], save_strategy="no", **evaluated)
    (held_out,) = history(run, "eval_loss")
    values = metrics(run)
    assert held_out["eval_bits_per_byte"] == pytest.approx(values["val_bits_per_byte"]["value"], rel=1e-3)
    assert values["tokens_per_second"]["value"] > 0


# ---- documents in a window


def test_positions_restart_after_each_end_of_text_and_attention_ends_there(tiny):
    model = AutoModelForCausalLM.from_pretrained(tiny / "pretrain").eval()
    ids = torch.tensor([5, 6, 0, 7, 8, 9, 0, 3])
    batch = collate([{"input_ids": ids}, {"input_ids": ids.flip(0)}], end=0)
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 2, 3, 0], [0, 1, 0, 1, 2, 3, 0, 1]]
    assert "position_ids" not in collate([{"input_ids": ids}])
    del batch["labels"]
    model.config.use_cache = False  # as the stage trains: beside a cache no mask would be made
    with torch.no_grad():
        together = model(**batch).logits[0]
        for part in (slice(0, 3), slice(3, 7), slice(7, 8)):
            alone = model(input_ids=ids[None, part]).logits[0]
            torch.testing.assert_close(together[part], alone, atol=1e-5, rtol=1e-5)


# ---- the dial


@pytest.fixture
def derived(tiny: Path, configured: Configured) -> Callable[..., tuple[Any, Any, dict[str, Any]]]:
    """`derived(**changes)` → what the stage's arguments are with depth 2 and these, and what was derived."""

    def make(**changes: Any) -> tuple[Any, Any, dict[str, Any]]:
        free = dict.fromkeys(("model", "global_batch_size", "max_steps", "learning_rate"))
        path = configured("pretrain", depth=2, **free | changes)
        given, (args, training) = STAGE.parse(["--config", str(path)])
        return args, training, derive(args, training, given, AutoTokenizer.from_pretrained(tiny / "tokenizer"))

    return make


def test_twenty_tokens_for_each_parameter_that_a_token_uses_and_the_laws_of_their_flops(derived, tiny):
    for changes in ({}, {"model_type": "qwen3_moe", "model": {"num_experts": 8, "num_experts_per_tok": 2}}):
        args, training, values = derived(**changes)
        with torch.device("meta"):
            model = build_model(args, AutoTokenizer.from_pretrained(tiny / "tokenizer"))
        assert values["tokens"] == args.tokens == 20 * active_count(model)
        if not changes:
            dense = args
            assert active_count(model) == parameter_count(model)
            batch, rate = laws(args.tokens * flops_per_token(model, 128))
            assert training.learning_rate == rate
            assert batch / 2**0.5 < args.global_batch_size * 128 < batch * 2**0.5
            assert training.max_steps == round(args.tokens / (128 * args.global_batch_size))
    assert values["moe_intermediate_size"] == dense.model["intermediate_size"] // 2
    routers = 2 * 8 * dense.model["hidden_size"]
    assert values["tokens"] == dense.tokens + 20 * routers < 20 * parameter_count(model) / 2


def test_what_is_set_stays_and_the_rest_follows(derived):
    given = {"tokens": 1_000_000, "global_batch_size": 24, "max_steps": 7, "learning_rate": 0.5}
    for key, value in given.items():
        args, training, values = derived(**{key: value})
        assert getattr(args if hasattr(args, key) else training, key) == value
        assert key not in values
    args, _, values = derived(model={"num_key_value_heads": 1})
    assert (args.model["num_key_value_heads"], args.model["hidden_size"]) == (1, 128)
    assert "num_key_value_heads" not in values


def test_a_held_out_source_too_small_for_a_window_is_left_out_and_said(tiny, capsys):
    tokenizer = AutoTokenizer.from_pretrained(tiny / "tokenizer")
    rows = load_dataset(str(tiny / "corpus"), split="validation")
    pack = partial(pack_documents, column="text", tokenizer=tokenizer, length=128)
    small = Dataset.from_dict({"text": ["A word."], "source": ["small"]}, features=rows.features)
    windows = held_out_windows(pack, concatenate_datasets([rows, small]), 128)
    assert set(windows) == {"world", "textbook"}
    assert "not evaluated separately: validation (small): the documents do not fill" in capsys.readouterr().out
    with pytest.raises(UserError, match="no source fills one window of 128 tokens"):
        held_out_windows(pack, small, 128)


# ---- from an existing model: its weights and tokens, a longer context


@pytest.fixture
def resume(tiny: Path, train: Train) -> Train:
    """`resume(name, **changes)` trains the tiny model for two more steps → the run's folder."""
    own = {"tokenizer": None, "model": None, "max_steps": 2, "sample_prompts": [], "save_strategy": "no"}
    own |= {"model_name_or_path": str(tiny / "pretrain")}
    return lambda name="run", **changes: train("pretrain", name, **own | changes)


def test_it_starts_from_the_models_weights_with_its_tokens(tiny, resume):
    runs = tiny / "pretrain", resume("still", learning_rate=1e-9, muon=False), resume("more")
    before, still, after = (metrics(run)["val_bits_per_byte"]["value"] for run in runs)
    assert still == pytest.approx(before, abs=1e-3)
    assert after < before


def test_the_context_grows(resume):
    rope = {"rope_type": "yarn", "factor": 2.0}
    model = AutoModelForCausalLM.from_pretrained(resume(max_length=256, model={"rope_parameters": rope}))
    assert model.config.max_position_embeddings == 256
    assert (model.config.rope_parameters["factor"], model.model.rotary_emb.rope_type) == (2.0, "yarn")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"depth": 2}, "depth: model_name_or_path sets the model's shape"),
        ({"model": {"hidden_size": 8}}, "model: hidden_size is fixed by model_name_or_path"),
        ({"model": {"output_router_logits": True}}, "model: qwen3 has no field 'output_router_logits': remove it"),
        ({"tokenizer": "t"}, "tokenizer and model_name_or_path: set exactly one"),
        ({"model_name_or_path": None}, "tokenizer and model_name_or_path: set exactly one"),
        ({"max_length": 256}, "model: max_length 256 is more than the context of 128 tokens"),
        ({"model_name_or_path": "ADAPTER"}, "is a LoRA adapter, whose weights are frozen"),
    ],
)
def test_settings_that_a_continued_model_cannot_have_are_refused(tiny, tmp_path, changes, says):
    (tmp_path / "adapter_config.json").write_text("{}")
    given = {"dataset": "d", "model_name_or_path": str(tiny / "pretrain"), "max_length": 128} | changes
    places = {"ADAPTER": str(tmp_path)}
    with pytest.raises((ValueError, UserError), match=says):
        open_start(PretrainArguments(**{key: places.get(str(value), value) for key, value in given.items()}))


@pytest.mark.parametrize(
    ("family", "model", "says"),
    [
        ("qwen3", {"max_position_embeddings": 64}, "model: max_position_embeddings 64 is below max_length 128"),
        ("gpt2", {"n_positions": 64}, "model: n_positions 64 is below max_length 128"),
        ("qwen3", {"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "tipe": 1}}, "model: Unrecognized keys in"),
    ],
)
def test_a_context_or_rope_that_cannot_be_is_refused(tiny, family, model, says):
    args = PretrainArguments(dataset="d", tokenizer="t", model_type=family, model=model, max_length=128)
    with pytest.raises(UserError, match=says):
        build_model(args, AutoTokenizer.from_pretrained(tiny / "tokenizer"))

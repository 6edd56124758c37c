"""The pretraining stage, on what the fixture `tiny` made with it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from zero2chat import runs
from zero2chat.data.packing import pack_documents
from zero2chat.errors import UserError
from zero2chat.stages.pretrain import PretrainArguments, build_model, main


def test_the_folder_is_an_ordinary_model_folder(tiny: Path) -> None:
    folder = tiny / "pretrain"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert (model.config.model_type, model.config.hidden_size, model.config.num_hidden_layers) == ("qwen3", 32, 2)
    assert model.config.vocab_size == len(tokenizer) == 400
    assert model.config.max_position_embeddings == 128
    assert model.dtype == torch.float32
    assert model.generation_config.eos_token_id == tokenizer.convert_tokens_to_ids("<|endoftext|>")
    names = {path.name for path in folder.iterdir()}
    assert {"README.md", "model.safetensors", "tokenizer.json", "metrics.json", "run.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt"))]


def test_held_out_bits_per_byte_are_those_of_the_saved_model(tiny: Path) -> None:
    folder = tiny / "pretrain"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    metrics = json.loads((folder / "metrics.json").read_text())
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
        metric = metrics[f"val_bits_per_byte_{source}"]
        assert (metric["value"], metric["n"]) == (pytest.approx(nats / math.log(2) / size, abs=2e-3), size)
        total = [total[0] + nats, total[1] + size]
    assert metrics["val_bits_per_byte"]["value"] == pytest.approx(total[0] / math.log(2) / total[1], abs=2e-3)
    assert metrics["parameters"]["value"] == model.num_parameters()
    assert metrics["tokens"]["value"] == 6 * 8 * 128
    assert metrics["seconds"]["value"] > 0


def test_it_learns_and_writes_down_how(tiny: Path) -> None:
    history = runs.read_jsonl(tiny / "pretrain" / "history.jsonl")
    lines = [line for line in history if "loss" in line]
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert [line["tokens"] for line in lines] == [2 * 8 * 128, 4 * 8 * 128, 6 * 8 * 128]
    for line in lines:
        assert {"learning_rate", "grad_norm", "bits_per_byte", "tokens_per_second", "mfu", "seconds"} <= set(line)
        ratio = lines[0]["bits_per_byte"] / lines[0]["loss"]
        assert line["bits_per_byte"] == pytest.approx(ratio * line["loss"], rel=1e-3)
    samples = runs.read_jsonl(tiny / "pretrain" / "samples.jsonl")
    assert [(s["step"], s["prompt"]) for s in samples] == [(n, p) for n in (3, 6) for p in ("Sums in", "There are")]


def test_neither_accumulation_nor_sampling_changes_what_is_learned(
    tiny: Path, tmp_path: Path, settings: Callable[..., dict[str, Any]], write_yaml: Callable[..., Path]
) -> None:
    changes = {"per_device_train_batch_size": 2, "sample_prompts": [], "save_strategy": "no"}
    path = write_yaml(tmp_path / "p.yaml", **settings("pretrain", tmp_path / "p", **changes))
    main(["--config", str(path)])
    before, after = (
        [line["loss"] for line in runs.read_jsonl(folder / "history.jsonl") if "loss" in line]
        for folder in (tiny / "pretrain", tmp_path / "p")
    )
    assert after == pytest.approx(before, rel=1e-3)
    assert json.loads((tmp_path / "p" / "metrics.json").read_text())["tokens"]["value"] == 6 * 8 * 128
    assert not (tmp_path / "p" / "samples.jsonl").exists()


@pytest.mark.parametrize(("family", "positions"), [("qwen3", "max_position_embeddings"), ("gpt2", "n_positions")])
def test_a_context_below_max_length_is_refused_by_its_own_name(tiny: Path, family: str, positions: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny / "tokenizer")
    args = PretrainArguments(dataset="d", tokenizer="t", model_type=family, model={positions: 64}, max_length=128)
    with pytest.raises(UserError, match=f"model: {positions} 64 is less than max_length 128"):
        build_model(args, tokenizer)


def test_bits_per_byte_on_the_way_are_of_the_held_out_texts_own_bytes(
    tiny: Path, tmp_path: Path, settings: Callable[..., dict[str, Any]], write_yaml: Callable[..., Path]
) -> None:
    changes = {"max_steps": 2, "sample_prompts": [], "save_strategy": "no", "eval_strategy": "steps", "eval_steps": 2}
    changes |= {"per_device_eval_batch_size": 1}
    path = write_yaml(tmp_path / "p.yaml", **settings("pretrain", tmp_path / "p", **changes))
    main(["--config", str(path)])
    (held_out,) = [x for x in runs.read_jsonl(tmp_path / "p" / "history.jsonl") if "eval_loss" in x]
    metrics = json.loads((tmp_path / "p" / "metrics.json").read_text())
    assert held_out["eval_bits_per_byte"] == pytest.approx(metrics["val_bits_per_byte"]["value"], rel=1e-3)
    assert metrics["tokens_per_second"]["value"] > 0

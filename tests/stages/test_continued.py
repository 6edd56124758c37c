"""Pretraining that goes on from an existing model: its weights and tokens, a longer context, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from zero2chat.core.errors import UserError
from zero2chat.stages.pretrain import STAGE, PretrainArguments
from zero2chat.stages.pretrain_model import build_model, open_start


@pytest.fixture
def go_on(
    tiny: Path, tmp_path: Path, settings: Callable[..., dict[str, Any]], write_yaml: Callable[..., Path]
) -> Callable[..., Path]:
    """`go_on(name, **changes)` continues the tiny model for two steps, and returns the run's folder."""

    def run(name: str, **changes: Any) -> Path:
        made = settings("pretrain", tmp_path / name)
        kept = {key: value for key, value in made.items() if key not in ("tokenizer", "model", "model_type")}
        kept |= {"max_steps": 2, "sample_prompts": [], "save_strategy": "no"}
        kept |= {"model_name_or_path": str(tiny / "pretrain")} | changes
        STAGE.main(["--config", str(write_yaml(tmp_path / f"{name}.yaml", **kept))])
        return tmp_path / name

    return run


def test_it_starts_from_the_models_weights_with_its_tokens(tiny: Path, go_on: Callable[..., Path]) -> None:
    before, after = (json.loads((folder / "metrics.json").read_text()) for folder in (tiny / "pretrain", go_on("more")))
    fresh = json.loads((go_on("still", learning_rate=1e-9, muon=False) / "metrics.json").read_text())
    assert fresh["val_bits_per_byte"]["value"] == pytest.approx(before["val_bits_per_byte"]["value"], abs=1e-3)
    assert after["val_bits_per_byte"]["value"] < before["val_bits_per_byte"]["value"]


def test_the_context_grows(go_on: Callable[..., Path]) -> None:
    rope = {"rope_type": "yarn", "factor": 2.0}
    model = AutoModelForCausalLM.from_pretrained(go_on("longer", max_length=256, model={"rope_parameters": rope}))
    assert model.config.max_position_embeddings == 256
    assert (model.config.rope_parameters["factor"], model.model.rotary_emb.rope_type) == (2.0, "yarn")


def _args(tiny: Path, **changes: Any) -> PretrainArguments:
    return PretrainArguments(
        **{"dataset": "d", "model_name_or_path": str(tiny / "pretrain"), "max_length": 128} | changes
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"depth": 2}, "depth: model_name_or_path sets the model's shape"),
        ({"model": {"hidden_size": 8}}, "model: hidden_size cannot be changed"),
        ({"tokenizer": "t"}, "tokenizer and model_name_or_path: set exactly one"),
        ({"model_name_or_path": None}, "tokenizer and model_name_or_path: set exactly one"),
    ],
)
def test_settings_that_a_continued_model_cannot_have_are_refused(
    tiny: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        _args(tiny, **changes)


def test_a_longer_window_than_the_context_is_refused(tiny: Path) -> None:
    with pytest.raises(UserError, match="model: max_length 256 is more than the context of 128 tokens"):
        open_start(_args(tiny, max_length=256))


def test_an_adapter_is_refused(tmp_path: Path, tiny: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="is a LoRA adapter, whose weights are frozen"):
        open_start(_args(tiny, model_name_or_path=str(tmp_path)))


def test_a_corpus_smaller_than_one_batch_is_refused(go_on: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=r"train: the documents fill \d+ windows, less than a batch of 4096"):
        go_on("small", global_batch_size=4096, per_device_train_batch_size=8)


@pytest.mark.parametrize(
    "model",
    [{"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "tipe": 1}}, {"rope_parameters": {"factor": 2.0}}],
)
def test_rope_keys_are_checked_for_a_model_from_nothing_too(tiny: Path, model: dict[str, Any]) -> None:
    args = PretrainArguments(dataset="d", tokenizer="t", model=model, max_length=128)
    with pytest.raises(UserError, match="model: Unrecognized keys in `rope_parameters`"):
        build_model(args, AutoTokenizer.from_pretrained(tiny / "tokenizer"))

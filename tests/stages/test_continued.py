"""Pretraining that goes on from an existing model: its weights and tokens, a longer context, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stage_fixtures import Train, metrics
from transformers import AutoModelForCausalLM, AutoTokenizer

from zero2chat.core.errors import UserError
from zero2chat.stages.pretrain import PretrainArguments
from zero2chat.stages.pretrain_model import build_model, open_start


@pytest.fixture
def resume(tiny: Path, train: Train) -> Train:
    """`resume(name, **changes)` trains the tiny model for two more steps → the run's folder."""
    own = {"tokenizer": None, "model": None, "max_steps": 2, "sample_prompts": [], "save_strategy": "no"}
    own |= {"model_name_or_path": str(tiny / "pretrain")}
    return lambda name="run", **changes: train("pretrain", name, **own | changes)


def test_it_starts_from_the_models_weights_with_its_tokens(tiny: Path, resume: Train) -> None:
    runs = tiny / "pretrain", resume("still", learning_rate=1e-9, muon=False), resume("more")
    before, still, after = (metrics(run)["val_bits_per_byte"]["value"] for run in runs)
    assert still == pytest.approx(before, abs=1e-3)
    assert after < before


def test_the_context_grows(resume: Train) -> None:
    rope = {"rope_type": "yarn", "factor": 2.0}
    model = AutoModelForCausalLM.from_pretrained(resume(max_length=256, model={"rope_parameters": rope}))
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


def test_a_longer_window_than_the_context_and_an_adapter_are_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="model: max_length 256 is more than the context of 128 tokens"):
        open_start(_args(tiny, max_length=256))
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="is a LoRA adapter, whose weights are frozen"):
        open_start(_args(tiny, model_name_or_path=str(tmp_path)))


@pytest.mark.parametrize(
    "model",
    [{"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "tipe": 1}}, {"rope_parameters": {"factor": 2.0}}],
)
def test_rope_keys_are_checked_for_a_model_from_nothing_too(tiny: Path, model: dict[str, Any]) -> None:
    args = PretrainArguments(dataset="d", tokenizer="t", model=model, max_length=128)
    with pytest.raises(UserError, match="model: Unrecognized keys in `rope_parameters`"):
        build_model(args, AutoTokenizer.from_pretrained(tiny / "tokenizer"))

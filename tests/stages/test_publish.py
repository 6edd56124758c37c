"""Export and push as a step: what an earlier try made stays, and what cannot be is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from zero2chat.core import runs
from zero2chat.core.errors import UserError
from zero2chat.models.loading import load_model
from zero2chat.stages import publish


@pytest.fixture
def adapter(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A finished run with a LoRA adapter, in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    base, tokenizer = load_model(model_folder)
    torch.manual_seed(0)
    lora = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", init_lora_weights=False)
    run = runs.Run.open("runs/mine/sft", "sft", {"output_dir": "runs/mine/sft"})
    for part in (get_peft_model(base, lora), base.generation_config, tokenizer):
        part.save_pretrained(run.folder)
    run.finish({})
    return str(run.folder)


def _main(**settings: Any) -> None:
    words = [f"--{key}={value}" for key, value in settings.items()]
    publish.main(["--output_dir", "runs/mine/publish", *words])


def test_a_push_that_failed_goes_on_with_the_export_that_was_made(
    adapter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []

    def send(parcel: Any, private: bool) -> dict[str, Any]:
        sent.append((parcel, private))
        if len(sent) == 1:
            raise UserError("me/mine: no connection")
        return {"url": "http://hub/me/mine"}

    monkeypatch.setattr(publish, "send", send)
    settings = {"model_name_or_path": adapter, "export": "merged", "repo": "me/mine", "private": "true"}
    with pytest.raises(UserError, match="me/mine: no connection"):
        _main(**settings)
    weights = Path("runs/mine/publish/exported/model.safetensors")
    made = weights.stat().st_mtime_ns
    assert not Path("runs/mine/publish/metrics.json").exists()
    _main(**settings)
    assert weights.stat().st_mtime_ns == made
    parcel, private = sent[-1]
    assert private
    assert parcel.files["model.safetensors"] == weights
    assert set(json.loads(Path("runs/mine/publish/metrics.json").read_text())) >= {"bytes_exported", "bytes_pushed"}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "model_name_or_path is not set"),
        ({"model_name_or_path": "m"}, "nothing to do: set `export`, `repo` or both"),
        ({"model_name_or_path": "m", "export": "q9"}, "q9"),
        ({"model_name_or_path": "m", "export": "q8_0"}, "nothing: llama.cpp's converter is not there"),
        ({"model_name_or_path": "m", "repo": "a/b/c"}, "Repo id must be in the form"),
        ({"model_name_or_path": "m", "repo": "me/m"}, "no token for the Hub: set HF_TOKEN"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(
    settings: dict[str, str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("zero2chat.hub.push.get_token", lambda: None)
    with pytest.raises(UserError, match=says):
        _main(**({"packages": "nothing"} | settings))
    assert not Path("runs").exists()

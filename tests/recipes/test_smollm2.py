"""A few steps of recipes/rlhf/smollm2-135m.yaml with real weights and preferences, by the command in its README."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open
from transformers import AutoTokenizer

from zero2chat.core.runs import read_jsonl
from zero2chat.models.loading import load_model
from zero2chat.models.reward_model import load_reward_model, score_texts

ROOT = Path(__file__).parents[2]
DATA = ROOT / "data" / "smollm2-135m"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),  # on busy cores
    pytest.mark.skipif(
        not (DATA / ".fetched").exists(), reason="real weights are not here: `make smollm` fetches and unpacks them"
    ),
]


def test_the_packaged_weights_are_the_chat_model_and_its_tokenizer() -> None:
    model, tokenizer = load_model(DATA / "model")
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    # Like the model's own tokenizer: digits are split one by one, and none is lost.
    assert tokenizer.tokenize("In 1984") == ["In", "Ġ", "1", "9", "8", "4"]
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    ids = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "The capital of France is Paris."
    assert ids[-1] == tokenizer.eos_token_id


def test_the_recipe_runs_here_as_its_page_says(tmp_path: Path) -> None:
    for name in ("recipes", "accelerate_configs", "chat_templates"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "data").symlink_to(ROOT / "data")
    page = (tmp_path / "recipes" / "rlhf" / "README.md").read_text()
    (command,) = re.findall(r"^zero2chat run .* --set .*$", page, re.MULTILINE)
    words = [str(Path(sys.executable).parent / "zero2chat"), *shlex.split(command)[1:]]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]

    runs = tmp_path / "runs" / "rlhf-smollm2-135m"
    metrics = {step: json.loads((runs / step / "metrics.json").read_text()) for step in ("reward", "ppo")}
    assert 0 <= metrics["reward"]["accuracy"]["value"] <= 1
    assert metrics["reward"]["pairs_train"]["value"] >= 8
    assert metrics["ppo"]["steps"]["value"] == 4
    assert metrics["ppo"]["prompts"]["value"] >= 8
    for step, keys in {"reward": {"loss", "margin"}, "ppo": {"reward", "kl", "entropy", "value_loss"}}.items():
        lines = read_jsonl(runs / step / "history.jsonl")
        assert keys <= set().union(*lines)
    assert (runs / "report.html").exists()

    def weight(folder: Path) -> bytes:
        with safe_open(folder / "model.safetensors", "pt") as weights:
            return weights.get_tensor("model.layers.3.self_attn.q_proj.weight").float().numpy().tobytes()

    assert len({weight(folder) for folder in (DATA / "model", runs / "reward", runs / "ppo")}) == 3
    model, tokenizer = load_model(runs / "ppo")
    # The model's own tokenizer pads with the end of a turn; as it comes out of a stage it no longer does.
    assert AutoTokenizer.from_pretrained(DATA / "model").pad_token == tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.pad_token == "<|endoftext|>"
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id
    asked = [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "A model."}]
    (raw,), (unit,) = score_texts(*load_reward_model(runs / "reward"), [asked])
    assert abs(raw) < 100
    assert 0 <= unit <= 1

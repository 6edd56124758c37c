"""A tiny corpus, tokenizer and pretrained model, made once by the stages themselves, and ways to run a stage.

Test modules cannot import this file: what they share comes as fixtures, `tiny`, `preferences`, `reward_folder`,
`settings`, `write_yaml`, `run_stage`, `two_ranks`, `kill_after`.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase

from zero2chat.core.registry import modules
from zero2chat.trainers.callbacks import RunCallback

REPOSITORY = Path(__file__).parents[1]
CPU_ZERO2 = REPOSITORY / "accelerate_configs/cpu_zero2.yaml"
COLOURS = "red blue green grey pink gold".split()  # noqa: SIM905


def _settings(folder: Path) -> dict[str, dict[str, Any]]:
    """The settings of each tiny stage, its output_dir left out, reading what `tiny` made in `folder`."""
    short = {
        "max_steps": 6,
        "learning_rate": 2.0e-3,
        "gradient_checkpointing": False,
        "logging_steps": 2,
        "save_strategy": "steps",
        "save_steps": 4,
        "save_total_limit": 2,
        "bf16": False,
        "disable_tqdm": True,
    }
    return {
        "corpus": {
            "datasets": [
                {"task": "facts", "n": 500, "label": "world"},
                {"task": "word_problems", "n": 200, "label": "textbook"},
            ],
            "validation_fraction": 0.05,
            "test_fraction": 0.05,
        },
        "tokenizer": {"dataset": str(folder / "corpus"), "vocab_size": 400},
        "pretrain": {
            "dataset": str(folder / "corpus"),
            "tokenizer": str(folder / "tokenizer"),
            "model": {
                "num_hidden_layers": 2,
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "head_dim": 16,
                "tie_word_embeddings": True,
            },
            "max_length": 128,
            "global_batch_size": 8,
            "per_device_train_batch_size": 8,
            "per_device_eval_batch_size": 32,
            "max_steps": 6,
            "learning_rate": 5.0e-3,
            "warmup_steps": 2,
            "logging_steps": 2,
            "save_strategy": "steps",
            "save_steps": 4,
            "save_total_limit": 2,
            "sample_prompts": ["Sums in", "There are"],
            "sample_steps": 3,
            "sample_tokens": 4,
            "bf16": False,
            "disable_tqdm": True,
        },
        "sft": {
            "model_name_or_path": str(folder / "pretrain"),
            "chat_template_path": str(REPOSITORY / "chat_templates" / "chatml.jinja"),
            "datasets": [{"task": "facts", "n": 120}],
            "tasks": [{"task": "facts", "n": 8, "max_new_tokens": 4}],
            "max_length": 128,
            "packing": True,
            "global_batch_size": 4,
            "per_device_train_batch_size": 4,
            **short,
        },
        "reward": {
            "model_name_or_path": str(folder / "pretrain"),
            "chat_template_path": str(REPOSITORY / "chat_templates" / "chatml.jinja"),
            "comparisons": {"task": "lines", "n": 12, "answers": 3, "held_out": 40, "max_new_tokens": 8},
            "max_length": 128,
            "global_batch_size": 8,
            "per_device_train_batch_size": 8,
            **short,
        },
        "dpo": {
            "model_name_or_path": str(folder / "pretrain"),
            "chat_template_path": str(REPOSITORY / "chat_templates" / "chatml.jinja"),
            "datasets": [{"path": str(folder / "preferences.jsonl")}],
            "test_fraction": 0.3,
            "max_length": 128,
            "global_batch_size": 8,
            "per_device_train_batch_size": 8,
            **short,
        },
        "grpo": {
            "model_name_or_path": str(folder / "pretrain"),
            "chat_template_path": str(REPOSITORY / "chat_templates" / "chatml.jinja"),
            "datasets": [{"task": "facts", "n": 24}],
            "rewards": [{"function": "zero2chat.rewards.length.short_answer", "options": {"longest": 60}}],
            "tasks": [{"task": "facts", "n": 8, "max_new_tokens": 4}],
            "global_batch_size": 16,
            "per_device_train_batch_size": 16,
            "num_generations": 4,
            "max_completion_length": 12,
            **short,
        },
        "ppo": {
            "model_name_or_path": str(folder / "pretrain"),
            "chat_template_path": str(REPOSITORY / "chat_templates" / "chatml.jinja"),
            "datasets": [{"task": "facts", "n": 24}],
            "rewards": [{"function": "zero2chat.rewards.length.short_answer", "options": {"longest": 60}}],
            "held_out": {"task": "facts", "n": 8},
            "global_batch_size": 16,
            "per_device_train_batch_size": 16,
            "num_ppo_epochs": 1,
            "max_completion_length": 12,
            **short,
        },
        "evaluate": {
            "model_name_or_path": str(folder / "pretrain"),
            "chat_template_path": str(REPOSITORY / "chat_templates" / "chatml.jinja"),
            "tasks": [{"task": "facts", "n": 8, "samples": 2, "max_new_tokens": 4}],
        },
    }


def _write_preferences(path: Path) -> Path:
    """200 pairs in which the chosen answer says yes, of all lengths alike."""
    rng = random.Random(0)
    with path.open("w") as file:
        for i in range(200):
            more = [" ".join(rng.choices(COLOURS, k=rng.randint(1, 6))) for _ in "ab"]
            row = {"prompt": f"Is it {i}?", "chosen": f"yes {more[0]}", "rejected": f"no {more[1]}"}
            file.write(json.dumps(row) + "\n")
    return path


@pytest.fixture
def preferences(tmp_path: Path) -> Path:
    """A file of 200 pairs in which the chosen answer says yes."""
    return _write_preferences(tmp_path / "mine.jsonl")


def _write_yaml(path: Path, **settings: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return path


@pytest.fixture(scope="session")
def write_yaml() -> Callable[..., Path]:
    """`write_yaml(path, **settings)` → path."""
    return _write_yaml


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the finished runs `corpus`, `tokenizer` and `pretrain` (Qwen3, 2 layers × 32, 400 tokens)."""
    folder = tmp_path_factory.mktemp("tiny")
    _write_preferences(folder / "preferences.jsonl")
    for stage in ("corpus", "tokenizer", "pretrain"):
        path = _write_yaml(folder / f"{stage}.yaml", output_dir=str(folder / stage), **_settings(folder)[stage])
        importlib.import_module(modules("stages")[stage]).STAGE.main(["--config", str(path)])
    return folder


@pytest.fixture
def reward_folder(model_folder: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> Path:
    """A reward model that was never trained: its random opinions are as good as any."""
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(model_folder, num_labels=1)
    model.config.pad_token_id = tokenizer.pad_token_id
    torch.nn.init.normal_(model.score.weight)
    model.config.score_mean, model.config.score_std = 0.5, 4.0
    model.save_pretrained(tmp_path / "liked")
    tokenizer.save_pretrained(tmp_path / "liked")
    return tmp_path / "liked"


@pytest.fixture(scope="session")
def settings(tiny: Path) -> Callable[..., dict[str, Any]]:
    """`settings(stage, output_dir, **changes)` → settings of the tiny stage that reads from `tiny`."""

    def make(stage: str, output_dir: Path, **changes: Any) -> dict[str, Any]:
        return {"output_dir": str(output_dir), **_settings(tiny)[stage], **changes}

    return make


def stage_environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment for a stage: offline, one thread, output at once."""
    return os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"} | dict(env or {})


@pytest.fixture(scope="session")
def run_stage() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`run_stage(stage, yaml, *overrides, env=None)`: `python -m zero2chat.stages.<stage>` in a process of its own."""

    def run(
        stage: str, path: Path, *overrides: str, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", modules("stages")[stage], "--config", str(path), *overrides]
        return subprocess.run(command, env=stage_environment(env), capture_output=True, text=True, check=False)

    return run


@pytest.fixture(scope="session")
def two_ranks() -> Callable[..., str]:
    """`two_ranks(stage, yaml, *overrides, config=cpu_zero2.yaml)`: the stage on two CPU ranks; what it printed."""

    def run(stage: str, path: Path, *overrides: str, config: Path = CPU_ZERO2) -> str:
        accelerate = str(Path(sys.executable).with_name("accelerate"))
        command = [accelerate, "launch", "--quiet", "--config_file", str(config), "-m", modules("stages")[stage]]
        process = subprocess.run(
            [*command, "--config", str(path), *overrides],
            env=stage_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.returncode == 0, process.stderr[-3000:]
        return process.stdout

    return run


class Killed(BaseException):
    """An exception that no stage catches."""


@pytest.fixture
def kill_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, Path, int], None]:
    """`kill_after(stage, yaml, step)`: run a stage's module here; it dies at that step's end."""

    def run(stage: Any, path: Path, last: int) -> None:
        old = RunCallback.on_step_end

        def on_step_end(self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
            old(self, args, state, control, **more)
            if state.global_step == last:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(RunCallback, "on_step_end", on_step_end)
            with pytest.raises(Killed):
                stage.STAGE.main(["--config", str(path)])

    return run


@pytest.fixture
def preference_yaml(
    settings: Callable[..., dict[str, Any]],
    write_yaml: Callable[..., Path],
    model_folder: Path,
    preferences: Path,
    tmp_path: Path,
) -> Callable[..., Path]:
    """`preference_yaml(name, **changes)`: the YAML of a small run on `preferences`, as pairs or as votes."""

    def make(name: str, **changes: Any) -> Path:
        own = {"model_name_or_path": str(model_folder), "datasets": [{"path": str(preferences)}], "logging_steps": 1}
        return write_yaml(tmp_path / f"{name}.yaml", **settings("dpo", tmp_path / name, **own | changes))

    return make

"""A tiny corpus, tokenizer and pretrained model, made once by the stages themselves, and ways to run a stage.

A test asks for the fixtures `tiny`, `settings`, `configured`, `train`, `killed`, `two_ranks` and imports the functions.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase

from zero2chat.core.registry import modules
from zero2chat.core.runs import read_jsonl
from zero2chat.stages import load
from zero2chat.trainers.callbacks import RunCallback

REPOSITORY = Path(__file__).parents[1]
CPU_ZERO2 = REPOSITORY / "accelerate_configs/cpu_zero2.yaml"
TEMPLATE = REPOSITORY / "chat_templates/chatml.jinja"
COLOURS = "red blue green grey pink gold".split()  # noqa: SIM905
LORA = {"use_peft": True, "lora_target_modules": "all-linear", "lora_r": 4}
# Endings of the keys of history.jsonl that may differ between two runs of the same steps. TRL counts the tokens of
# evaluations from the beginning of a process.
TIMES = ("seconds", "per_second", "mfu", "runtime", "step_time", "eval_num_tokens")

Settings = Callable[..., dict[str, Any]]  # (stage, output_dir, **changes)
Configured = Callable[..., Path]  # (stage, name, **changes) → a YAML
Train = Callable[..., Path]  # (stage, name, **changes) → the folder of a finished run


def tiny_settings(folder: Path) -> dict[str, dict[str, Any]]:
    """The settings of each tiny stage, its output_dir left out, reading what `tiny` made in `folder`."""
    short = {"max_steps": 6, "logging_steps": 2, "save_strategy": "steps", "save_steps": 4, "save_total_limit": 2}
    short |= {"bf16": False, "disable_tqdm": True}
    start = {"model_name_or_path": str(folder / "pretrain"), "chat_template_path": str(TEMPLATE)}
    tuned = start | short | {"learning_rate": 2.0e-3, "gradient_checkpointing": False}
    eight = {"global_batch_size": 8, "per_device_train_batch_size": 8, "max_length": 128}
    sixteen = {"global_batch_size": 16, "per_device_train_batch_size": 16, "max_completion_length": 12}
    rewards = [{"function": "zero2chat.rewards.length.short_answer", "options": {"longest": 60}}]
    problems = {"datasets": [{"task": "facts", "n": 24}]}
    tasks = [{"task": "facts", "n": 8, "max_new_tokens": 4}]
    preferences = {"datasets": [{"path": str(folder / "preferences.jsonl")}], "test_fraction": 0.3}
    worlds = [{"task": "facts", "n": 500, "label": "world"}, {"task": "word_problems", "n": 200, "label": "textbook"}]
    shape = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    samples = {"sample_prompts": ["Sums in", "There are"], "sample_steps": 3, "sample_tokens": 4}
    return {
        "corpus": {"datasets": worlds, "validation_fraction": 0.05, "test_fraction": 0.05},
        "tokenizer": {"dataset": str(folder / "corpus"), "vocab_size": 400},
        "pretrain": {
            "dataset": str(folder / "corpus"),
            "tokenizer": str(folder / "tokenizer"),
            "model": shape | {"num_key_value_heads": 1, "head_dim": 16, "tie_word_embeddings": True},
            "per_device_eval_batch_size": 32,
            "learning_rate": 5.0e-3,
            "warmup_steps": 2,
            **(eight | short | samples),
        },
        "sft": {
            "datasets": [{"task": "facts", "n": 120}],
            "tasks": tasks,
            "max_length": 128,
            "packing": True,
            "global_batch_size": 4,
            "per_device_train_batch_size": 4,
            **tuned,
        },
        "reward": {
            "comparisons": {"task": "lines", "n": 12, "answers": 3, "held_out": 40, "max_new_tokens": 8},
            **(eight | tuned),
        },
        "dpo": preferences | eight | tuned,
        "kto": preferences | eight | tuned,
        "grpo": problems | {"rewards": rewards, "tasks": tasks, "num_generations": 4} | sixteen | tuned,
        "gkd": problems | sixteen | tuned,
        "distill": problems | {"rewards": rewards, "teacher": str(folder / "pretrain"), "max_completion_length": 12},
        "ppo": problems
        | {"rewards": rewards, "held_out": {"task": "facts", "n": 8}, "num_ppo_epochs": 1, **sixteen, **tuned},
        "evaluate": start | {"tasks": [tasks[0] | {"samples": 2}]},
    }


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _write_preferences(path: Path) -> Path:
    """200 pairs in which the chosen answer says yes, of all lengths alike."""
    rng = random.Random(0)

    def answer(word: str) -> str:
        return f"{word} {' '.join(rng.choices(COLOURS, k=rng.randint(1, 6)))}"

    pairs = [{"prompt": f"Is it {i}?", "chosen": answer("yes"), "rejected": answer("no")} for i in range(200)]
    return write_rows(path, pairs)


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


def main(stage: str, path: Path, *overrides: str) -> Path:
    """Run a stage in this process → the folder that is named as its YAML."""
    load(stage).main(["--config", str(path), *overrides])
    return path.with_suffix("")


def metrics(run: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run / "metrics.json").read_text())
    return values


def history(run: Path, key: str = "loss") -> list[dict[str, Any]]:
    """Return the lines of the history that have this key."""
    return [line for line in read_jsonl(run / "history.jsonl") if key in line]


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in history(run)]


def untimed(run: Path) -> list[dict[str, Any]]:
    """Return the whole history without these keys."""
    lines = read_jsonl(run / "history.jsonl")
    return [{key: value for key, value in line.items() if not key.endswith(TIMES)} for line in lines]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def checkpoints(run: Path, sealed: bool = True) -> list[int]:
    """Return the steps of the checkpoints that are whole, or of those that are being written."""
    values = [path for path in run.glob("checkpoint-*") if (path / "checkpoint.json").exists() == sealed]
    return sorted(int(path.name.split("-")[1]) for path in values)


def assert_same_end(run: Path, whole: Path, *files: str) -> None:
    """Assert that a run that was killed ended, bit for bit, as an uninterrupted one."""
    weights = next(name for name in ("adapter_model.safetensors", "model.safetensors") if (whole / name).exists())
    for name in (weights, *files):
        assert sha256(run / name) == sha256(whole / name), name
    assert checkpoints(run) == checkpoints(whole)
    assert untimed(run) == untimed(whole)
    if (whole / "samples.jsonl").exists():
        assert sha256(run / "samples.jsonl") == sha256(whole / "samples.jsonl")
    ends = [{key: value for key, value in metrics(one).items() if not key.endswith(TIMES)} for one in (run, whole)]
    assert ends[0] == ends[1]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the finished runs `corpus`, `tokenizer` and `pretrain` (Qwen3, 2 layers × 32, 400 tokens)."""
    folder = tmp_path_factory.mktemp("tiny")
    _write_preferences(folder / "preferences.jsonl")
    for stage in ("corpus", "tokenizer", "pretrain"):
        main(
            stage, _write_yaml(folder / f"{stage}.yaml", output_dir=str(folder / stage), **tiny_settings(folder)[stage])
        )
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
def settings(tiny: Path) -> Settings:
    """`settings(stage, output_dir, **changes)` → settings of the tiny stage that reads from `tiny`."""

    def make(stage: str, output_dir: Path, **changes: Any) -> dict[str, Any]:
        return {"output_dir": str(output_dir), **tiny_settings(tiny).get(stage, {}), **changes}

    return make


@pytest.fixture
def configured(settings: Settings, tmp_path: Path) -> Configured:
    """`configured(stage, name, **changes)` → the YAML of a tiny stage; a change of None leaves a setting out."""

    def make(stage: str, name: str = "run", **changes: Any) -> Path:
        given = settings(stage, tmp_path / name) | changes
        return _write_yaml(tmp_path / f"{name}.yaml", **{k: v for k, v in given.items() if v is not None})

    return make


@pytest.fixture
def train(configured: Configured) -> Train:
    """`train(stage, name, **changes)` → the folder of a tiny stage's run, made in this process."""
    return lambda stage, name="run", **changes: main(stage, configured(stage, name, **changes))


def stage_environment() -> dict[str, str]:
    """This process's environment for a stage: offline, one thread, output at once."""
    return os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


@pytest.fixture(scope="session")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """`two_ranks(stage, yaml, zero=2)`: the stage on two CPU ranks, sharded by ZeRO → what it printed."""
    zero3 = tmp_path_factory.mktemp("accelerate") / "cpu_zero3.yaml"
    whole = "zero_stage: 3\n  zero3_save_16bit_model: true"
    zero3.write_text(CPU_ZERO2.read_text().replace("zero_stage: 2", whole))

    def run(stage: str, path: Path, zero: int = 2) -> str:
        accelerate, config = str(Path(sys.executable).with_name("accelerate")), CPU_ZERO2 if zero == 2 else zero3
        command = [accelerate, "launch", "--quiet", "--config_file", str(config), "-m", modules("stages")[stage]]
        command += ["--config", str(path)]
        process = subprocess.run(command, env=stage_environment(), capture_output=True, text=True, check=False)
        assert process.returncode == 0, process.stderr[-3000:]
        return process.stdout

    return run


class Killed(BaseException):
    """An exception that no stage catches."""


@pytest.fixture
def kill_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path, int], None]:
    """`kill_after(stage, yaml, step)`: run a stage in this process; it dies at that step's end."""

    def run(stage: str, path: Path, last: int) -> None:
        old = RunCallback.on_step_end

        def on_step_end(self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
            old(self, args, state, control, **more)
            if state.global_step == last:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(RunCallback, "on_step_end", on_step_end)
            with pytest.raises(Killed):
                main(stage, path)

    return run


@pytest.fixture
def own_rewards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts the module `own_rewards` on the path of this process and its children, as a user's own."""
    folder = str(REPOSITORY / "tests/stages")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", folder, prepend=os.pathsep)

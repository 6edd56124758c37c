"""A user's mistake is one clear line and exit code 2, whatever the stage, and nothing is written or lost."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from zero2chat.core import runs
from zero2chat.core.errors import exit_on_mistake
from zero2chat.core.registry import modules

Settings = Callable[..., dict[str, Any]]


@pytest.fixture
def mistake(
    tmp_path: Path, settings: Settings, write_yaml: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run a stage as its command does, with changed settings (None leaves one out): the line that it ends with."""

    def run(stage: str, **changes: Any) -> str:
        given = settings(stage, tmp_path / "out") | changes
        path = write_yaml(tmp_path / "x.yaml", **{key: value for key, value in given.items() if value is not None})
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught, exit_on_mistake():
            importlib.import_module(modules("stages")[stage]).STAGE.main(["--config", str(path)])
        assert caught.value.code == 2
        err = capsys.readouterr().err
        assert "Traceback" not in err
        lines = [line for line in err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, err
        return lines[0].removeprefix("error: ").replace(str(tmp_path), "HERE")

    return run


def _chat(*contents: str) -> dict[str, Any]:
    turns = [{"role": role, "content": text} for role, text in zip(("user", "assistant"), contents, strict=False)]
    return {"messages": turns}


SMALL = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "head_dim": 16}

SETTINGS = [
    # ---- keys and values
    (
        "corpus",
        {"validation_fration": 0.1},
        "HERE/x.yaml: unknown key 'validation_fration'; did you mean 'valid",
    ),
    ("corpus", {"validation_fraction": "some"}, "HERE/x.yaml: validation_fraction: expected a float, got 'some'"),
    ("corpus", {"validation_fraction": 0.6, "test_fraction": 0.5}, "leave no documents for training"),
    ("corpus", {"test_fraction": 0}, "must be above 0"),
    ("corpus", {"seed": -1}, "HERE/x.yaml: seed: expected an integer from 0 to 4294967295, got -1"),
    ("corpus", {"datasets": []}, "HERE/x.yaml: datasets: the list is empty"),
    ("corpus", {"datasets": "facts"}, "HERE/x.yaml: datasets[0]: expected `key: value` pairs, found 'facts'"),
    ("corpus", {"datasets": [{"pth": "x"}]}, "datasets[0]: unknown key 'pth'; did you mean 'path'?"),
    ("corpus", {"datasets": [{"task": "fact", "n": 9}]}, "task 'fact': no such task; did you mean 'facts'?"),
    ("corpus", {"datasets": [{"path": "no.jsonl"}]}, "no: no.jsonl: no such file or folder"),
    ("corpus", {"datasets": [{"task": "word_problems", "n": 3}]}, "split 'validation' is empty (3 documents in total)"),
    ("corpus", {"canaries": {"copy": [4]}}, "canaries: unknown key 'copy'; did you mean 'copies'?"),
    ("corpus", {"canaries": {"copies": [0]}}, "canaries: copies [0]: expected distinct integers above 0"),
    (
        "corpus",
        {"canaries": {"copies": [4]}, "datasets": [{"task": "facts", "n": 500, "label": "canaries"}]},
        "label 'canaries' is reserved for canaries: set another `label`",
    ),
    ("corpus", {"decontaminate": [{"task": "fact", "n": 9}]}, "HERE/x.yaml: task 'fact': no such task; did you mean"),
    ("corpus", {"decontaminate": ["no.jsonl"]}, "no: no.jsonl: no such file or folder"),
    ("tokenizer", {"vocab_size": 200}, "vocab_size 200 is too small"),
    ("tokenizer", {"vocab_size": 90000}, "fewer than vocab_size 90000"),
    ("tokenizer", {"dataset": None}, "dataset is not set"),
    ("tokenizer", {"dataset": "runs/none/corpus"}, "runs/none/corpus: not a finished run"),
    ("tokenizer", {"column": "txt"}, "no column 'txt'; it has text, source: set `column`"),
    ("tokenizer", {"gpt2_vocab": "x.json"}, "gpt2_vocab and gpt2_merges go together"),
    ("tokenizer", {"gpt2_vocab": "x.json", "gpt2_merges": "y.bpe"}, "gpt2_vocab x.json, gpt2_merges y.bpe"),
    ("tokenizer", {"gpt4_ranks": "x.tiktoken"}, "gpt4_ranks x.tiktoken"),
    ("pretrain", {"learning_rte": 1}, "HERE/x.yaml: unknown key 'learning_rte'; did you mean 'learning_rate'?"),
    ("pretrain", {"learning_rate": "fast"}, "HERE/x.yaml: learning_rate: expected a float, got 'fast'"),
    ("pretrain", {"lr_scheduler_type": "cosin"}, "HERE/x.yaml: lr_scheduler_type: 'cosin' is not one of linear"),
    ("pretrain", {"dataset": "runs/none"}, "runs/none: not a finished run"),
    ("pretrain", {"column": "txt"}, "no column 'txt'"),
    ("pretrain", {"max_length": 10**6}, "do not fill one window of 1000000 tokens: give more text"),
    ("pretrain", {"sample_steps": 0}, "sample_steps: expected at least 1, got 0"),
    ("pretrain", {"dataset": None}, "dataset is not set"),
    ("pretrain", {"depth": 0}, "depth: expected at least 1, got 0"),
    ("pretrain", {"tokens": 0}, "tokens: expected at least 1, got 0"),
    ("pretrain", {"muon_momentum": 1.0}, "muon_momentum: expected at least 0 and less than 1, got 1.0"),
    ("pretrain", {"muon": False, "embedding_learning_rate": 1e-3}, "embedding_learning_rate: only used with muon"),
    ("pretrain", {"attn_implementation": "flash"}, "model: "),
    ("pretrain", {"sample_prompts": [""]}, "sample_prompts: a prompt is empty"),
    (
        "pretrain",
        {"global_batch_size": 12},
        "global_batch_size 12 over 1 processes is 12 per process, not a multiple of",
    ),
    ("pretrain", {"global_batch_size": 0}, "global_batch_size 0 cannot be divided"),
    ("pretrain", {"per_device_train_batch_size": 0}, "per_device_train_batch_size: expected at least 1, got 0"),
    ("pretrain", {"model_type": "qwen33"}, "unknown model_type 'qwen33'; did you mean 'qwen3'?"),
    ("pretrain", {"model_type": "vit", "model": {}}, "model: Unrecognized configuration class"),
    ("pretrain", {"model": "small"}, "HERE/x.yaml: model: expected a dict, got 'small'"),
    ("pretrain", {"model": {"hiden_size": 32}}, "model: qwen3 has no field 'hiden_size'; did you mean 'hidden_size'?"),
    ("pretrain", {"model": {"hidden_size": "big"}}, "model: Validation error for field 'hidden_size'"),
    ("pretrain", {"model": {"hidden_size": -4}}, "model: "),
    ("pretrain", {"model": {"vocab_size": 99}}, "model: vocab_size 99 is less than the tokenizer's 400"),
    ("pretrain", {"model": SMALL | {"layer_types": ["full_attention"] * 2}}, "model: Class validation error"),
    (
        "pretrain",
        {"model": SMALL | {"num_key_value_heads": 3}},
        "num_attention_heads 2 is not a multiple of num_key",
    ),
    ("pretrain", {"model_type": "llama", "model": {"hidden_size": 30, "num_attention_heads": 4}}, "not a multiple"),
    ("pretrain", {"muon": False, "optim": "adamw_bnb_8bit"}, "the trainer refuses its settings: You need to install"),
    (
        "pretrain",
        {"resume_from_checkpoint": "x"},
        "a run resumes from its own last checkpoint: remove it",
    ),
    ("sft", {"packng": True}, "HERE/x.yaml: unknown key 'packng'; did you mean 'packing'?"),
    ("sft", {"model_name_or_path": None}, "model_name_or_path is not set"),
    ("sft", {"model_name_or_path": "runs/none/pretrain"}, "runs/none/pretrain: not a finished run"),
    ("sft", {"model_name_or_path": "./none"}, "./none: no such folder"),
    ("sft", {"model_name_or_path": "nobody/nothing"}, "nobody/nothing: no such folder, and no"),
    ("sft", {"chat_template_path": "none.jinja"}, "none.jinja: chat template cannot be read"),
    ("sft", {"max_length": 2000}, "max_length 2000 exceeds the model's context of 128"),
    ("sft", {"max_length": 20}, "120 of 120 conversations are longer than max_length 20"),
    ("sft", {"overlong": "cut"}, "overlong: 'cut' is not one of error, drop"),
    ("sft", {"eval_batch_size": 0}, "eval_batch_size: expected at least 1, got 0"),
    ("sft", {"decontaminate": [{"task": "facts"}]}, "HERE/x.yaml: decontaminate[0]: task facts: `n` is not set"),
    ("sft", {"muon": True, "use_peft": True}, "muon: Muon updates full matrices, not adapters"),
    ("sft", {"embedding_learning_rate": 1e-3}, "HERE/x.yaml: embedding_learning_rate: only used with muon: remove"),
    ("sft", {"dtype": "float16"}, "dtype: float16 weights lose small updates"),
    ("sft", {"dtype": "bfloat16"}, "dtype: bfloat16 weights lose small updates: set `dtype: float32`, with `bf16: tr"),
    *(
        (stage, {"use_peft": True, "lora_target_modules": ["q_prj"]}, "the trainer refuses its settings: ")
        for stage in ("sft", "dpo", "grpo", "ppo")
    ),
    (
        "dpo",
        {"datasets": [{"task": "lines", "n": 9}]},
        "lines: pairs of a task are not read from `datasets`: use `comparisons`",
    ),
    ("sft", {"report_to": "paper"}, "the trainer refuses its settings: paper is not supported"),
    ("sft", {"push_to_hub": True}, "no token for the Hub: set HF_TOKEN, or log in"),
    ("sft", {"eval_strategy": "steps"}, "the trainer refuses its settings: You have set `args.eval_strategy`"),
    ("sft", {"tasks": [{"task": "facts", "options": {"tell": 1}}]}, "HERE/x.yaml: task 'facts': unknown option 'tell'"),
    ("sft", {"tasks": [{"task": "facts", "n": 10**6}]}, "1000000 rows asked for"),
    ("sft", {"datasets": [{"task": "facts", "n": 10**6}]}, "1000000 rows asked for"),
    ("evaluate", {"tasks": []}, "tasks, datasets and harness are empty"),
    ("evaluate", {"load_in_8bit": True, "load_in_4bit": True}, "load_in_8bit and load_in_4bit: set one of them"),
    ("evaluate", {"load_in_4bit": True, "dtype": "auto"}, "load_in_4bit: dtype auto is not supported: set dtype"),
    ("evaluate", {"harness": [{"tsk": "gsm8k"}]}, "harness[0]: unknown key 'tsk'; did you mean 'task'?"),
    ("evaluate", {"harness": [{"task": "x", "limit": 0}]}, "harness[0]: limit: expected at least 1, got 0"),
    (
        "evaluate",
        {"harness": [{"task": "x", "num_fewshot": -1}]},
        "num_fewshot: expected at least 0, got -1",
    ),
    ("evaluate", {"harness": [{"task": "x", "include_path": "none"}]}, "include_path none: no such folder"),
    ("evaluate", {"harness": [{"task": "x"}, {"task": "x"}]}, "two entries have the same label: set `label`"),
    ("evaluate", {"contamination": [{"pth": "x"}]}, "contamination[0]: unknown key 'pth'; did you mean 'path'?"),
    ("evaluate", {"tasks": [{"task": "fatcs"}]}, "task 'fatcs': no such task; did you mean 'facts'?"),
    ("evaluate", {"chat_template_path": None}, "the tokenizer has no chat template"),
    ("evaluate", {"model_name_or_path": None}, "model_name_or_path is not set"),
]


@pytest.mark.parametrize(
    ("stage", "changes", "says"), SETTINGS, ids=[f"{s}-{next(iter(c))}-{i}" for i, (s, c, _) in enumerate(SETTINGS)]
)
def test_a_wrong_setting_is_named_and_nothing_is_made(
    mistake: Callable[..., str], tmp_path: Path, stage: str, changes: dict[str, Any], says: str
) -> None:
    assert says in mistake(stage, **changes)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is here")
def test_qlora_without_its_package_is_named(mistake: Callable[..., str]) -> None:
    line = mistake("sft", load_in_4bit=True, use_peft=True)
    assert "requires bitsandbytes: `pip install -U bitsandbytes" in line


FILES = [
    ("", "has no rows"),
    ('{"messages": [}\n', "line 1: invalid JSON: Expecting value"),
    ('{"text": "a"}\n', "chat: its columns (text) match no known format: chat (messages); ShareGPT"),
    ('{"messages": "a"}\n', "chat, row 0: no assistant message to learn from"),
    (json.dumps(_chat("a")) + "\n", "chat, row 0: no assistant message to learn from"),
    (
        json.dumps({"messages": [{"role": "alien", "content": "a"}, *_chat("a", "b")["messages"]]}),
        "unknown role 'alien'",
    ),
    (json.dumps(_chat("a", "b")) + "\n" + json.dumps(_chat("a", "word " * 99)), "1 of 2 conversations are longer than"),
    (json.dumps(_chat("a", "b"), ensure_ascii=False)[:-1] + ', "note": "caf\udce9"}', "not UTF-8"),
]


@pytest.mark.parametrize(("content", "says"), FILES, ids=range(len(FILES)))
def test_a_broken_chat_file_is_named(mistake: Callable[..., str], tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "chat.jsonl").write_text(content, errors="surrogateescape")
    line = mistake("sft", datasets=[{"path": str(tmp_path / "chat.jsonl")}])
    assert says in line
    assert "chat" in line or "datasets" in line
    assert not (tmp_path / "out").exists()


def test_after_a_mistake_the_right_settings_simply_run(
    mistake: Callable[..., str], tmp_path: Path, settings: Settings, write_yaml: Callable[..., Path]
) -> None:
    assert "split 'validation' is empty" in mistake("corpus", datasets=[{"task": "word_problems", "n": 3}])
    path = write_yaml(tmp_path / "x.yaml", **settings("corpus", tmp_path / "out"))
    importlib.import_module("zero2chat.stages.corpus").STAGE.main(["--config", str(path)])
    assert (tmp_path / "out" / "metrics.json").exists()


# ---- folders


@pytest.mark.parametrize("stage", ["corpus", "pretrain", "sft", "evaluate"])
def test_a_folder_of_other_work_is_left_alone(mistake: Callable[..., str], tmp_path: Path, stage: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    assert mistake(stage).startswith("HERE/out: holds files that are not from a run")
    assert mistake(stage, output_dir=str(tmp_path / "out" / "thesis.txt")).endswith("set another output_dir")
    assert mistake(stage, output_dir=str(tmp_path / "out" / "thesis.txt" / "run")).endswith("set another output_dir")
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["years of work"]


def test_a_place_that_cannot_be_written_is_named(mistake: Callable[..., str]) -> None:
    assert mistake("corpus", output_dir="/proc/nowhere").startswith("/proc/nowhere: not writable")
    assert "output_dir is not set" in mistake("corpus", output_dir=None)


@pytest.fixture
def copied(tiny: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny / "pretrain", tmp_path / "model", ignore=shutil.ignore_patterns("checkpoint-*", "run.json"))
    return tmp_path / "model"


def _cut(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def _scramble(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 1000)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), "HERE/model: no tokenizer"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "HERE/model: cannot load the tokenizer"),
        (lambda folder: (folder / "config.json").unlink(), "HERE/model: no model (no config.json)"),
        (lambda folder: (folder / "config.json").write_text("{"), "HERE/model: cannot load the tokenizer"),
        (lambda folder: (folder / "model.safetensors").unlink(), "HERE/model: cannot load the model"),
        (_cut, "HERE/model: cannot load the model"),
        (_scramble, "HERE/model: cannot load the model"),
    ],
)
@pytest.mark.parametrize("stage", ["sft", "evaluate"])
def test_a_damaged_model_folder_is_named(
    mistake: Callable[..., str], copied: Path, stage: str, damage: Callable[[Path], Any], says: str
) -> None:
    damage(copied)
    assert mistake(stage, model_name_or_path=str(copied)).startswith(says)


def test_a_damaged_corpus_is_named(mistake: Callable[..., str], tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny / "corpus" / "data", tmp_path / "corpus" / "data")
    (tmp_path / "corpus" / "data" / "train-00000-of-00001.parquet").write_bytes(b"PAR1 nonsense")
    assert "corpus" in mistake("pretrain", dataset=str(tmp_path / "corpus"))


# ---- a disk that fills up


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1.2 MB; a checkpoint of the tiny model takes about 0.4."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1200k", "tmpfs", str(folder)]
    if not sys.platform.startswith("linux") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small disk here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_fills_up_keeps_the_last_checkpoint_and_the_run_goes_on_from_it(
    mistake: Callable[..., str],
    small_disk: Path,
    settings: Settings,
    write_yaml: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changes = {"save_steps": 2, "save_total_limit": 9, "max_steps": 12}
    assert mistake("sft", output_dir=str(small_disk / "out"), **changes).startswith("no space left on the disk")
    folder = small_disk / "out"
    assert not (folder / "metrics.json").exists()
    whole = [path for path in folder.glob("checkpoint-*") if (path / runs.MANIFEST).exists()]
    assert whole
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    path = write_yaml(tmp_path / "x.yaml", **settings("sft", folder, **changes))
    capsys.readouterr()
    importlib.import_module("zero2chat.stages.sft").STAGE.main(["--config", str(path)])
    newest = max(int(path.name.split("-")[1]) for path in whole)
    assert f"resuming from checkpoint-{newest}" in capsys.readouterr().out
    assert (folder / "metrics.json").exists()
    history = [line["step"] for line in runs.read_jsonl(folder / "history.jsonl") if "loss" in line]
    assert history == [2, 4, 6, 8, 10, 12]


# ---- through the real command


def test_the_real_command_exits_2_with_one_line(
    tmp_path: Path, settings: Settings, write_yaml: Callable[..., Path], run_stage: Callable[..., Any]
) -> None:
    path = write_yaml(tmp_path / "x.yaml", **settings("evaluate", tmp_path / "out", tsks=[]))
    done = run_stage("evaluate", path)
    assert done.returncode == 2
    assert done.stderr == f"error: {path}: unknown key 'tsks'; did you mean 'tasks'?\n"
    assert done.stdout == ""
    assert not (tmp_path / "out").exists()

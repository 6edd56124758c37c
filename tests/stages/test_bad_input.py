"""A user's mistake is one clear line and exit code 2, whatever the stage, and nothing is written or lost."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stage_fixtures import LORA, Configured, checkpoints, history, main, write_rows

from zero2chat.core.errors import UserError, exit_on_mistake
from zero2chat.stages import load
from zero2chat.trainers.arguments import prepare_machine

Mistake = Callable[..., str]
pytestmark = pytest.mark.usefixtures("own_rewards")


@pytest.fixture
def mistake(tmp_path: Path, configured: Configured, capsys: pytest.CaptureFixture[str]) -> Mistake:
    """Run a stage as its command does, with changed settings (None leaves one out): the line that it ends with."""

    def run(stage: str, **changes: Any) -> str:
        path = configured(stage, "out", **changes)
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught, exit_on_mistake():
            main(stage, path)
        assert caught.value.code == 2
        err = capsys.readouterr().err
        assert "Traceback" not in err
        (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
        return line.removeprefix("error: ").replace(str(tmp_path), "HERE")

    return run


def _reward(function: str, **more: Any) -> dict[str, Any]:
    return {"rewards": [{"function": f"own_rewards.{function}", **more}]}


FACTS = {"task": "facts", "n": 500}
SMALL = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "head_dim": 16}
EXPERTS = SMALL | {"num_key_value_heads": 1, "num_experts": 4, "moe_intermediate_size": 32}
MOE, ALIBI = {"model_type": "qwen3_moe"}, {"model_type": "mpt", "model": {"n_layers": 1, "d_model": 32, "n_heads": 2}}
MAMBA = {"num_hidden_layers": 2, "hidden_size": 32, "num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 1}
LINES = {"task": "lines", "n": 3, "held_out": 3}
GROUPS = {"num_generations": 6, "global_batch_size": 48, "per_device_train_batch_size": 12}
URL = "http://127.0.0.1:9"
SECRET = {"url": URL, "model": "m", "key_variable": "NO_KEY"}
NO_GROUP = "`resample` needs per-group scaling"
NO_TOOLS = "`pass_rate` and `resample` sample without tool calls"
TYPO = "HERE/out.yaml: unknown key 'lerning_rate'; did you mean 'learning_rate'?"
MISTAKES: dict[str, list[tuple[dict[str, Any], str]]] = {
    "corpus": [
        ({"validation_fraction": 0.6, "test_fraction": 0.5}, "leave no documents for training"),
        ({"test_fraction": 0}, "must be above 0"),
        ({"datasets": [{"task": "fact", "n": 9}]}, "task 'fact': no such task; did you mean 'facts'?"),
        ({"datasets": [{"task": "word_problems", "n": 3}]}, "split 'test' is empty (3 documents in total)"),
        ({"canaries": {"copy": [4]}}, "canaries: unknown key 'copy'; did you mean 'copies'?"),
        ({"canaries": {"copies": [0]}}, "canaries: copies [0]: expected distinct integers above 0"),
        ({"canaries": {"copies": [4]}, "datasets": [FACTS | {"label": "canaries"}]}, "is reserved for canaries"),
    ],
    "tokenizer": [
        ({"vocab_size": 200}, "vocab_size 200 is too small"),
        ({"vocab_size": 90000}, "fewer than vocab_size 90000"),
        ({"dataset": "runs/none/corpus"}, "runs/none/corpus: not a finished run"),
        ({"column": "txt"}, "no column 'txt' among text, source: set `column`"),
        ({"gpt2_vocab": "x.json"}, "gpt2_vocab and gpt2_merges go together"),
    ],
    "index": [
        ({"datasets": [FACTS], "characters": 7}, "characters 7: give a whole number from 50"),
        ({"datasets": [FACTS | {"options": {"everyone": True}}]}, "500 documents are too few to cover everyone"),
    ],
    "pretrain": [
        ({"lerning_rate": 1}, TYPO),
        ({"lr_scheduler_type": "cosin"}, "HERE/out.yaml: lr_scheduler_type: 'cosin' is not one of linear"),
        ({"column": "txt"}, "no column 'txt'"),
        ({"max_length": 10**6}, "do not fill one window of 1000000 tokens: give more text"),
        ({"dataset": None}, "dataset is not set"),
        ({"depth": 0}, "depth: expected at least 1, got 0"),
        ({"muon_momentum": 1.0}, "muon_momentum: expected at least 0 and less than 1, got 1.0"),
        ({"muon": False, "embedding_learning_rate": 1e-3}, "embedding_learning_rate: only used with muon"),
        ({"sample_prompts": [""]}, "sample_prompts: a prompt is empty"),
        ({"global_batch_size": 12}, "global_batch_size 12 over 1 processes is 12 per process, not a multiple of"),
        ({"global_batch_size": 0}, "global_batch_size 0 cannot be divided"),
        ({"global_batch_size": 4096}, "windows, less than a batch of 4096"),
        ({"model_type": "qwen33"}, "unknown model_type 'qwen33'; did you mean 'qwen3'?"),
        ({"model": "small"}, "HERE/out.yaml: model: expected a dict, got 'small'"),
        ({"model": {"hiden_size": 32}}, "model: qwen3 has no field 'hiden_size'; did you mean 'hidden_size'?"),
        ({"model": {"vocab_size": 99}}, "model: vocab_size 99 is less than the tokenizer's 400"),
        ({"model": SMALL | {"num_key_value_heads": 3}}, "num_attention_heads 2 is not a multiple of num_key"),
        ({"resume_from_checkpoint": "x"}, "a run resumes from its own checkpoints: remove this setting"),
        (MOE | {"model": EXPERTS | {"num_experts_per_tok": 5}}, "num_experts_per_tok 5: expected 1 to num_experts (4)"),
        ({"model_type": "gpt2", "model": {"head_dim": 16}}, "gpt2 has no field 'head_dim'"),
        ({"model_type": "mamba2", "model": MAMBA, "mask_documents": True}, "mask_documents has no effect on mamba2"),
        (ALIBI | {"mask_documents": True}, "mask_documents has no effect on mpt"),
    ],
    "sft": [
        ({"packng": True}, "HERE/out.yaml: unknown key 'packng'; did you mean 'packing'?"),
        ({"model_name_or_path": None}, "model_name_or_path is not set"),
        ({"model_name_or_path": "runs/none/pretrain"}, "runs/none/pretrain: not a finished run"),
        ({"chat_template_path": "none.jinja"}, "none.jinja: cannot read this chat template"),
        ({"max_length": 2000}, "max_length 2000 exceeds the model's context of 128"),
        ({"max_length": 20}, "120 of 120 conversations are longer than max_length 20"),
        ({"tasks_steps": 0}, "tasks_steps: expected at least 1, got 0"),
        ({"decontaminate": [{"task": "facts"}]}, "HERE/out.yaml: decontaminate[0]: task facts: `n` is not set"),
        ({"muon": True, "use_peft": True}, "muon: needs whole matrices: remove muon or use_peft"),
        ({"merge_adapter": True}, "merge_adapter: no adapter without use_peft"),
        ({"embedding_learning_rate": 1e-3}, "HERE/out.yaml: embedding_learning_rate: only used with muon: remove"),
        ({"dtype": "float16"}, "dtype: float16 weights lose small updates"),
        ({"tasks": [{"task": "facts", "options": {"tell": 1}}]}, "HERE/out.yaml: task 'facts': unknown option 'tell'"),
        ({"datasets": [{"task": "facts", "n": 10**6}]}, "1000000 rows requested"),
    ],
    "reward": [
        ({"comparisons": None}, "set `comparisons`"),
        ({"comparisons": {"task": "facts"}}, "has no `taste`"),
        ({"equal": "keep"}, "equal: 'keep' is not one of error, drop"),
        ({"max_length": 20}, "rows have an answer longer than max_length 20"),
        ({"comparisons": LINES | {"answers": 2, "temperature": 1e-4}}, "pairs have equal answers"),
    ],
    "dpo": [
        ({"datasets": []}, "datasets: the list is empty"),
        ({"datasets": [{"task": "lines", "n": 9}]}, "lines: `datasets` takes no pairs of a task: use reward's `compar"),
        ({"test_fraction": 1.0}, "test_fraction: expected more than 0 and less than 1, got 1.0"),
        ({"test_fraction": 1e-6}, "none of 200 rows is left to hold out"),
        ({"max_length": 4096}, "max_length 4096 exceeds the model's context of 128"),
        ({"max_length": 20}, "rows have an answer longer than max_length 20"),
        ({"sync_ref_model": True}, "sync_ref_model: a resumed run would have another reference"),
        ({"use_peft": True, "lora_target_modules": ["lm_head"]}, "the trainer refuses its settings: "),
    ],
    "kto": [
        ({"per_device_train_batch_size": 1}, "the trainer refuses its settings: "),
        ({"train_sampling_strategy": "random"}, "the trainer refuses its settings: "),
        ({"max_length": 20}, "rows have an answer longer than max_length 20"),
    ],
    "grpo": [
        ({"rewards": []}, "rewards: the list is empty"),
        (_reward("nothing"), "cannot import 'own_rewards.nothing'"),
        (_reward("REPOSITORY"), "cannot import 'own_rewards.REPOSITORY'"),
        (_reward("longer", options={"gaol": 3}), "no option 'gaol'; did you mean"),
        (_reward("digits", wieght=2), "rewards[0]: unknown key 'wieght'"),
        (_reward("digits", weight=math.inf), "weight: expected a finite number, got inf"),
        ({"rewards": _reward("digits")["rewards"] * 2}, "two entries have the same name"),
        (_reward("one_too_few"), "returned 15 rewards for 16 completions"),
        (_reward("not_a_number"), "returned nan for completion 0, not a finite number"),
        (_reward("one"), "returned 1.0, not a list of rewards"),
        (_reward("closed"), "add the argument **columns"),
        (_reward("needy"), "no column 'difficulty', which the reward own_rewards.needy"),
        ({"max_completion_length": 120}, "prompts leave no room for max_completion_length"),
        ({"num_generations": 3}, "must be divisible by num_generations"),
        (GROUPS | {"generation_batch_size": 30}, "generation_batch_size"),
        ({"datasets": [{"task": "facts", "n": 3}]}, "3 problems remain, but one generation needs 4: give more"),
        ({"beta": 0.1, "model_revision": "v2"}, "beta: TRL would load the reference model from the main revision"),
        ({"steps_per_generation": 4, "save_steps": 2}, "save_steps 2 is not a multiple of the 4"),
        ({"steps_per_generation": 4, "save_steps": 0.5}, "save_steps 0.5 is not a multiple of the 4"),  # every 3 of 6
        ({"pass_rate": {"samples": 1}}, "samples: expected at least 2, got 1"),
        ({"pass_rate": {"low": 0.9, "high": 0.1}}, "expected 0 <= low <= high <= 1"),
        ({"pass_rate": {"sample": 4}}, "pass_rate: unknown key 'sample'"),
        (_reward("tokens") | {"pass_rate": {}}, "'tokens' needs completion_ids, which only training has"),
        (_reward("alike") | {"pass_rate": {"samples": 2}}, "pass_rate: 0 problems remain, but one generation needs 4"),
        *(({"resample": 1, "scale_rewards": scale}, NO_GROUP) for scale in ("batch", "none", False)),
        (
            {"credit": "turn", "scale_rewards": "batch"},
            "`credit: turn` scales per group: remove `scale_rewards: batch`",
        ),
        ({"reward_weights": [1.0]}, "reward_weights: the stage decides it"),
        ({"max_minutes": 0}, "max_minutes: expected more than 0, got 0"),
        *(({"tools": {"python": {}}, **more}, NO_TOOLS) for more in ({"resample": 1}, {"pass_rate": {"samples": 2}})),
        ({"tools": {"pyhton": {}}}, "tools: no tool 'pyhton'; did you mean 'python'?"),
        ({"tools": {"search": {}}}, "tools: search: `where` is not set"),
        ({"tools": {"own_rewards.nothing": {}}}, "tools: cannot import 'own_rewards.nothing'"),
    ],
    "ppo": [
        ({"rewards": [{"model": "runs/none/reward"}]}, "runs/none/reward: not a finished run"),
        ({"rewards": [{"model": "./none", "wieght": 2}]}, "rewards[0]: unknown key 'wieght'"),
        ({"held_out": {"task": "lines", "n": 1}}, "held_out: n: expected at least 2, got 1"),
        ({"held_out": {"task": "lines", "split": "train"}}, "split: 'train' is not one of validation, test"),
        ({"held_out": {"tsk": "lines"}}, "held_out: unknown key 'tsk'"),
        ({"datasets": [{"task": "lines", "n": 3}]}, "3 prompts, but one rollout needs 16: give more"),
        ({"num_ppo_epochs": 2, "save_steps": 3}, "save_steps 3 is not a multiple of the 2 optimizer steps per r"),
        ({"num_ppo_epochs": 2, "save_steps": 0.5}, "save_steps 0.5 is not a multiple of the 2"),
        ({"kl_budget": 0}, "kl_budget: expected more than 0, got 0.0"),
        ({"max_prompt_length": 3}, "24 of 24 prompts are over max_prompt_length 3"),
    ],
    "gkd": [({}, "teacher_model_name_or_path is not set")],
    "distill": [
        ({"teacher": None}, "teacher and endpoint: set exactly one of them"),
        ({"endpoint": {"url": URL, "model": "m"}}, "teacher and endpoint: set exactly one of them"),
        ({"teacher": None, "endpoint": {"url": "localhost", "model": "m"}}, "endpoint: url is not an http URL"),
        ({"teacher": None, "endpoint": {"url": URL}}, "endpoint: model is not set"),
        ({"teacher": None, "endpoint": {"url": URL, "key": "x"}}, "endpoint: unknown key 'key'"),
        ({"teacher": None, "endpoint": SECRET}, "endpoint: the environment variable NO_KEY is not set"),
        ({"temperature": 0}, "temperature 0: expected above 0, or all answers would"),
        ({"temperature": -1}, "temperature: expected at least 0, got -1.0"),
    ],
    "evaluate": [
        ({"tasks": []}, "tasks, datasets and harness are empty"),
        ({"load_in_8bit": True, "load_in_4bit": True}, "load_in_8bit and load_in_4bit: set only one"),
        ({"load_in_4bit": True, "dtype": "auto"}, "load_in_4bit: dtype auto is not supported: set dtype"),
        ({"harness": [{"task": "x", "include_path": "none"}]}, "include_path none: no such folder"),
        ({"max_new_tokens": 9}, "unknown key 'max_new_tokens': it belongs in an entry of tasks or datasets"),
        ({"contamination": [{"pth": "x"}]}, "contamination[0]: unknown key 'pth'; did you mean 'path'?"),
        ({"chat_template_path": None}, "the tokenizer has no chat template"),
        ({"questions": [" "]}, "questions: an entry is empty"),
        ({"questions": ["Hi!"], "question_tools": True}, "question_tools: `questions` or `tools` is not set"),
        ({"tasks": [], "questions": ["Hi!"], "compare_to": "runs/a"}, "compare_to: no `tasks` or `datasets` to compar"),
    ],
    "report": [({}, "steps is not set")],
}
for stage in ("sft", "dpo", "grpo", "ppo"):
    MISTAKES[stage].append(({"use_peft": True, "lora_target_modules": ["q_prj"]}, "the trainer refuses its settings: "))
for stage in ("reward", "dpo", "grpo", "ppo"):
    MISTAKES[stage].append(({"lerning_rate": 1}, TYPO))


# Where these are noticed, the run folder already holds what the model has sampled.
LATE = ("returned ", "pass_rate: 0 problems", "max_length 4096", "rows have an answer longer")


@pytest.mark.parametrize(
    ("stage", "changes", "says"), [(stage, *mistake) for stage, mistakes in MISTAKES.items() for mistake in mistakes]
)
def test_a_wrong_setting_is_named_and_nothing_is_made(mistake, tmp_path, stage, changes, says):
    assert says in mistake(stage, **changes)
    assert not (tmp_path / "out" / ("metrics.json" if says.startswith(LATE) else "")).exists()


CHAT = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
LONG = {"messages": [CHAT["messages"][0], {"role": "assistant", "content": "word " * 99}]}
MATHS = {"rewards": [{"function": "zero2chat.rewards.math.math_answer"}]}
ROWS: list[tuple[str, str | list[dict[str, Any]], str]] = [
    ("sft", "", "has no rows"),
    ("sft", '{"messages": [}\n', "line 1: invalid JSON: Expecting value"),
    ("sft", json.dumps(CHAT, ensure_ascii=False)[:-1] + ', "note": "caf\udce9"}', "not UTF-8"),
    ("sft", [{"text": "a"}], "mine: its columns (text) match no known format (chat (messages); ShareGPT"),
    ("sft", [{"messages": "a"}], "mine, row 0: no assistant message to learn from"),
    ("sft", [CHAT, LONG], "1 of 2 conversations are longer than"),
    ("grpo", [{"answer": "1"}], "no column 'prompt'"),
    ("grpo", [{"prompt": "What is 1 + 1?"}], "no column 'answer'"),
    ("grpo", [{"prompt": 5, "answer": "1"}], "mine, row 0: prompt: expected text or a list"),
    ("grpo", [{"prompt": "What?", "answer": "no idea at all \\"}], "the reference answer"),
    ("grpo", [{"prompt": "What? " * 200, "answer": "1"}], "row 0 has"),
]


@pytest.mark.parametrize(("stage", "content", "says"), ROWS)
def test_a_row_that_cannot_be_read_is_named(mistake, tmp_path, stage, content, says):
    path = tmp_path / "mine.jsonl"
    if isinstance(content, str):
        path.write_text(content, errors="surrogateescape")
    else:
        write_rows(path, content * {"sft": 1, "grpo": 4}[stage])
    line = mistake(stage, datasets=[{"path": str(path)}], **(MATHS if stage == "grpo" else {}))
    assert says in line
    assert "mine" in line or "datasets" in line
    assert not (tmp_path / "out").exists()


# ---- folders


@pytest.mark.parametrize("stage", ["corpus", "pretrain", "sft", "evaluate"])
def test_a_folder_of_other_work_is_left_alone(mistake, tmp_path, stage):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    assert mistake(stage).startswith("HERE/out: holds files that are not from a run")
    for place in ("thesis.txt", "thesis.txt/run"):
        assert mistake(stage, output_dir=str(tmp_path / "out" / place)).endswith("set another output_dir")
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["years of work"]


def test_a_place_that_cannot_be_written_is_named(mistake):
    assert mistake("corpus", output_dir="/proc/nowhere").startswith("/proc/nowhere: not writable")
    assert "output_dir is not set" in mistake("corpus", output_dir=None)


@pytest.mark.parametrize("stage", ["sft", "evaluate"])
def test_a_damaged_model_folder_or_corpus_is_named(mistake, tiny, tmp_path, stage):
    model = shutil.copytree(tiny / "pretrain", tmp_path / "model", ignore=shutil.ignore_patterns("check*", "run.json"))
    for name, says in (("model.safetensors", "cannot load the model"), ("tokenizer.json", "no tokenizer")):
        (model / name).unlink()
        assert mistake(stage, model_name_or_path=str(model)).startswith(f"HERE/model: {says}")
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


def test_a_disk_that_fills_up_keeps_the_last_checkpoint_and_the_run_resumes_from_it(
    mistake, small_disk, configured, capsys
):
    folder = small_disk / "out"
    changes = {"output_dir": str(folder), "save_steps": 2, "save_total_limit": 9, "max_steps": 12}
    assert mistake("sft", **changes).startswith("no space left on the disk")
    assert not (folder / "metrics.json").exists()
    newest = checkpoints(folder)[-1]
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    main("sft", configured("sft", "out", **changes))
    assert f"resuming from checkpoint-{newest}" in capsys.readouterr().out
    assert [line["step"] for line in history(folder)] == [2, 4, 6, 8, 10, 12]


# ---- sharded weights, and weights of 4 bits


PAIRS = {"model_name_or_path": "m", "datasets": [{"task": "lines", "n": 8}]}


@pytest.mark.parametrize(
    ("stage", "settings", "says"),
    [
        ("sft", LORA | {"merge_adapter": True}, "merge_adapter: sharded weights cannot be merged"),
        ("reward", LORA, "use_peft: the adapter is merged at the end, which sharded weights do not allow"),
        ("dpo", {"precompute_ref_log_probs": True}, "precompute_ref_log_probs: not supported with sharded weights"),
        ("gkd", {"teacher_model_name_or_path": "m"}, "gkd: FSDP is not supported"),
        ("reward", LORA | {"load_in_4bit": True}, "load_in_4bit: merging the adapter at the end would r"),
    ],
)
def test_what_weights_do_not_allow_is_refused_also_if_only_the_launch_config_asks_for_fsdp(
    stage, settings, says, tmp_path, monkeypatch
):
    arguments = load(stage).build({"output_dir": str(tmp_path / "run"), **PAIRS, **settings}, "a.yaml")

    def check() -> None:
        prepare_machine(arguments)
        if (check := load(stage).check) is not None:
            check(*arguments)

    if "load_in_4bit" not in settings:  # refused however it is launched
        check()
        monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match=says):
        check()

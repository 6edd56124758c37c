"""The fine-tuning stage: conversations of several turns and of a task, examined on the task's test rows."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from zero2chat import tasks
from zero2chat.core import runs
from zero2chat.core.errors import UserError
from zero2chat.inference.generate import answer
from zero2chat.stages import sft, shared
from zero2chat.stages.sft import STAGE


@pytest.fixture(scope="module")
def tuned(
    tmp_path_factory: pytest.TempPathFactory, settings: Callable[..., dict[str, Any]], write_yaml: Callable[..., Path]
) -> Path:
    """A run on four conversations of two turns, repeated until they are learned, and some rows of a task."""
    folder = tmp_path_factory.mktemp("sft")
    turns = [("Hi", "Hello."), ("Bye", "Bye bye.")]
    messages = [{"role": r, "content": c} for turn in turns for r, c in zip(("user", "assistant"), turn, strict=True)]
    (folder / "chat.jsonl").write_text((json.dumps({"messages": messages}) + "\n") * 60)
    changes = {
        "datasets": [{"path": str(folder / "chat.jsonl"), "label": "chat"}, {"task": "facts", "n": 20}],
        "tasks": [
            {"task": "facts", "n": 7, "max_new_tokens": 4},
            {"task": "identity", "n": 5, "max_new_tokens": 12, "seed": 1},
        ],
        "packing": False,
        "max_steps": 120,
        "global_batch_size": 8,
        "per_device_train_batch_size": 8,
        "learning_rate": 1.0e-2,
        "muon": True,
        "logging_steps": 30,
        "save_strategy": "no",
    }
    path = write_yaml(folder / "sft.yaml", **settings("sft", folder / "sft", **changes))
    STAGE.main(["--config", str(path)])
    return folder / "sft"


def _metrics(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())


def test_it_learns_the_conversations_and_when_to_stop(tuned: Path) -> None:
    losses = [line["loss"] for line in runs.read_jsonl(tuned / "history.jsonl") if "loss" in line]
    assert len(losses) == 4
    assert losses[-1] < losses[0] / 2
    assert _metrics(tuned)["conversations"]["value"] == 80
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tuned), AutoTokenizer.from_pretrained(tuned)
    first = [{"role": "user", "content": "Hi"}]
    second = [*first, {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "Bye"}]
    found = answer(model, tokenizer, [first, second], 16)
    assert [(a.text, a.stopped) for a in found] == [("Hello.", True), ("Bye bye.", True)]


def test_the_folder_opens_with_all_that_chatting_needs(tuned: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tuned), AutoTokenizer.from_pretrained(tuned)
    turn_end, document_end = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert model.generation_config.eos_token_id == [turn_end, document_end]
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id == 1
    assert tokenizer.eos_token_id == turn_end
    assert "generation" in tokenizer.chat_template
    assert tokenizer.response_template["fields"]["content"]
    assert model.dtype == torch.float32
    assert model.config.max_position_embeddings == 128
    names = {path.name for path in tuned.iterdir()}
    assert {"README.md", "chat_template.jinja", "generation_config.json", "model.safetensors"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt"))]


def test_it_is_examined_on_exactly_the_test_rows(tuned: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tuned), AutoTokenizer.from_pretrained(tuned)
    metrics = _metrics(tuned)
    samples = runs.read_jsonl(tuned / "samples.jsonl")
    asked = stopped = 0
    for name, n, seed, tokens in (("facts", 7, 0, 4), ("identity", 5, 1, 12)):
        task = tasks.load(name)
        rows = task.rows("test", seed, n)
        answers = answer(model, tokenizer, [task.prompt(row) for row in rows], tokens)
        right = [task.score(row, a.text) for row, a in zip(rows, answers, strict=True)]
        metric = metrics[f"accuracy_{name}"]
        assert (metric["value"], metric["n"], metric["seed"]) == (round(sum(right) / n, 4), n, seed)
        asked, stopped = asked + n, stopped + sum(a.stopped for a in answers)
        for sample, row, a, score in zip([s for s in samples if s["task"] == name], rows, answers, right, strict=False):
            assert sample["step"] == 120
            assert (sample["prompt"], sample["answer"]) == (row["question"], row["answer"])
            assert (sample["completion"], sample["score"]) == (a.text, score)
    assert (metrics["stop_rate"]["value"], metrics["stop_rate"]["n"]) == (round(stopped / asked, 4), asked)
    assert metrics["accuracy"]["value"] == pytest.approx(
        (metrics["accuracy_facts"]["value"] + metrics["accuracy_identity"]["value"]) / 2, abs=1e-4
    )
    assert [s["task"] for s in samples] == ["facts"] * 6 + ["identity"] * 5


def test_overlong_conversations_are_counted_and_dropped_if_asked(
    tmp_path: Path,
    settings: Callable[..., dict[str, Any]],
    write_yaml: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    short = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    long = [short[0], {"role": "assistant", "content": "word " * 200}]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps({"messages": m}) + "\n" for m in [short, long, short, short]))
    changes: dict[str, Any] = {
        "datasets": [{"path": str(tmp_path / "c.jsonl")}],
        "tasks": [],
        "overlong": "drop",
        "max_steps": 1,
        "packing": False,
        "max_length": None,  # the model's context
    }
    path = write_yaml(tmp_path / "s.yaml", **settings("sft", tmp_path / "s", **changes))
    STAGE.main(["--config", str(path)])
    assert "1 of 4 conversations are longer than max_length 128 (c, row 1 (" in capsys.readouterr().out
    assert _metrics(tmp_path / "s")["conversations"]["value"] == 3
    shorter = write_yaml(tmp_path / "t.yaml", **settings("sft", tmp_path / "t", **changes | {"max_length": 4}))
    with pytest.raises(UserError, match=r"4 of 4 conversations are longer than max_length 4 .*: raise max_length$"):
        STAGE.main(["--config", str(shorter)])


def test_tokens_are_counted_without_padding_and_no_mfu_is_claimed(
    tmp_path: Path, settings: Callable[..., dict[str, Any]], write_yaml: Callable[..., Path]
) -> None:
    chats = [[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello." * n}] for n in (1, 5)]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps({"messages": m}) + "\n" for m in chats))
    changes: dict[str, Any] = {
        "datasets": [{"path": str(tmp_path / "c.jsonl")}],
        "tasks": [],
        "packing": False,
        "global_batch_size": 2,
        "max_steps": 1,
        "logging_steps": 1,
        "assistant_only_loss": True,  # as any user of TRL writes; it is what is done
    }
    STAGE.main(["--config", str(write_yaml(tmp_path / "s.yaml", **settings("sft", tmp_path / "s", **changes)))])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "s")
    lengths = [len(tokenizer.apply_chat_template(chat)["input_ids"]) for chat in chats]
    assert lengths[0] < lengths[1]
    (line,) = [line for line in runs.read_jsonl(tmp_path / "s" / "history.jsonl") if "loss" in line]
    assert line["tokens"] == sum(lengths)
    assert "tokens_per_second" in line
    assert "mfu" not in line


def test_conversations_that_ask_an_examination_question_in_any_turn_are_left_out(
    tiny: Path, tmp_path: Path, settings: Callable[..., dict[str, Any]], write_yaml: Callable[..., Path]
) -> None:
    def chat(*said: str) -> dict[str, Any]:
        return {"messages": [{"role": r, "content": c} for r, c in zip(["user", "assistant"] * 2, said, strict=False)]}

    clean = [chat("Hi", "Hello."), chat("What is 2 + 3 and what is 4?", "5\nand 4.")]
    asking = [chat("2 + 3 = ?", "5."), chat("Hi", "Ask!", "Well, how far\nis it to Rome?", "Far.")]
    (tmp_path / "chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (*clean, *asking)))
    (tmp_path / "exam.jsonl").write_text('{"question": "2 + 3 = ?"}\n{"question": "How far is it to Rome?"}\n')
    changes = {
        "datasets": [{"path": str(tmp_path / "chat.jsonl")}, {"task": "facts", "n": 20}],
        "decontaminate": [str(tmp_path / "exam.jsonl"), {"task": "facts", "n": 50, "label": "test_rows"}],
        "tasks": [],
        "max_steps": 1,
    }
    STAGE.main(["--config", str(write_yaml(tmp_path / "sft.yaml", **settings("sft", tmp_path / "sft", **changes)))])
    metrics = _metrics(tmp_path / "sft")
    assert metrics["conversations"]["value"] == 22
    assert metrics["decontaminated"] == {"value": 2, "n": 24}
    assert (metrics["decontaminated_exam"]["value"], metrics["decontaminated_test_rows"]["value"]) == (2, 0)
    lines = runs.read_jsonl(tmp_path / "sft" / "decontaminated.jsonl")
    assert [(line["where"], line["question"], line["text"]) for line in lines] == [
        ("chat, row 2", "2 + 3 = ?", "2 + 3 = ?"),
        ("chat, row 3", "How far is it to Rome?", "Well, how far\nis it to Rome?"),
    ]
    assert lines[1]["words"] == "how far is it to rome"


def test_of_several_processes_only_the_first_tokenizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Dataset.from_dict({"input_ids": [[1, 2], [3]], "assistant_masks": [[0, 1], [1]]})
    made: list[bool] = []
    training: Any = SimpleNamespace(output_dir=str(tmp_path), world_size=2)

    def make() -> Dataset:
        made.append(True)
        return rows

    monkeypatch.setattr(shared, "first_goes_first", lambda is_first: contextlib.nullcontext())
    for first in (True, False):
        monkeypatch.setattr(shared, "is_main_process", lambda first=first: first)
        assert shared.make_once(make, training, "train").to_list() == rows.to_list()
    assert made == [True]
    assert runs.is_untouched(tmp_path)  # settings may still change
    monkeypatch.setattr(shared, "is_main_process", lambda: True)
    shared.remove_shared(training)
    training.world_size = 1
    assert shared.make_once(make, training, "train") is rows  # a single process writes nothing
    assert not (tmp_path / runs.ROWS).exists()


def test_the_rows_that_processes_share_are_gone_before_the_run_can_be_done(
    settings: Callable[..., dict[str, Any]],
    write_yaml: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or a kill in between would leave them in a finished run for ever."""
    prepare, finish = sft.prepare, sft.finish_with_tasks
    left: list[bool] = []

    def shared(args: Any, training: Any, model_args: Any) -> Any:
        (tmp_path / "run" / runs.ROWS).mkdir()
        return prepare(args, training, model_args)

    def watched(trainer: Any, model: Any, run: runs.Run, *rest: Any) -> None:
        left.append((run.folder / runs.ROWS).exists())
        finish(trainer, model, run, *rest)

    monkeypatch.setattr(sft, "prepare", shared)
    monkeypatch.setattr(sft, "finish_with_tasks", watched)
    STAGE.main(
        ["--config", str(write_yaml(tmp_path / "x.yaml", **settings("sft", tmp_path / "run", tasks=[], max_steps=1)))]
    )
    assert left == [False]
    assert (tmp_path / "run" / "metrics.json").exists()


def test_a_finished_run_is_skipped_also_by_a_launch_that_could_not_train_it(
    tuned: Path,
    settings: Callable[..., dict[str, Any]],
    write_yaml: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(*_: Any) -> None:
        raise UserError("not here")

    monkeypatch.setattr("zero2chat.trainers.arguments.check_precision", refuse)
    STAGE.main(["--config", str(tuned.with_suffix(".yaml"))])
    assert capsys.readouterr().out.endswith("done already\n")
    path = write_yaml(tmp_path / "x.yaml", **settings("sft", tmp_path / "new"))
    with pytest.raises(UserError, match="not here"):
        STAGE.main(["--config", str(path)])
    assert not (tmp_path / "new").exists()


# ---- validation


def test_the_loss_on_validation_rows_is_logged_while_it_trains(
    tmp_path: Path, settings: Callable[..., dict[str, Any]], write_yaml: Callable[..., Path]
) -> None:
    rows = [{"prompt": f"Say {i % 30}.", "completion": f"{i}"} for i in range(60)]
    (tmp_path / "chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"datasets": [{"path": str(tmp_path / "chat.jsonl")}], "tasks": []}
    data |= {"validation_fraction": 0.2}
    for name, more in (("usual", {}), ("often", {"eval_steps": 3, "packing": False})):
        folder = tmp_path / name
        STAGE.main(["--config", str(write_yaml(tmp_path / f"{name}.yaml", **settings("sft", folder, **data | more)))])
        losses = {
            line["step"]: line["eval_loss"] for line in runs.read_jsonl(folder / "history.jsonl") if "eval_loss" in line
        }
        assert list(losses) == ([0, 2, 4, 6] if name == "usual" else [0, 3, 6])
        metrics = _metrics(folder)
        assert metrics["val_loss"]["value"] == pytest.approx(losses[6], abs=1e-3)
        assert 0 < metrics["val_loss"]["n"] == 60 - metrics["conversations"]["value"] < 30
        assert metrics["val_loss"]["n"] % 2 == 0  # both rows of a prompt are on one side


def test_a_resumed_run_is_not_evaluated_at_its_beginning_again(
    tmp_path: Path,
    settings: Callable[..., dict[str, Any]],
    write_yaml: Callable[..., Path],
    kill_after: Callable[..., None],
) -> None:
    rows = [{"prompt": f"Say {i}.", "completion": f"{i}"} for i in range(60)]
    (tmp_path / "chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"datasets": [{"path": str(tmp_path / "chat.jsonl")}], "tasks": [], "validation_fraction": 0.2}
    short = {"max_steps": 4, "eval_steps": 2, "save_strategy": "steps", "save_steps": 1}
    path = write_yaml(tmp_path / "x.yaml", **settings("sft", tmp_path / "run", **data | short))
    kill_after(sft, path, 2)
    STAGE.main(["--config", str(path)])
    lines = runs.read_jsonl(tmp_path / "run" / "history.jsonl")
    assert [line["step"] for line in lines if "eval_loss" in line] == [0, 2, 4]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"validation_fraction": 1.0}, "validation_fraction: expected at least 0 and less than 1, got 1.0"),
    ],
)
def test_validation_that_cannot_be_is_refused(
    changes: dict[str, Any], says: str, settings: Callable[..., dict[str, Any]]
) -> None:
    with pytest.raises(UserError, match=says):
        sft.STAGE.build(settings("sft", Path("e"), **changes), "sft.yaml")

"""The fine-tuning stage: conversations of several turns and of a task, examined on the task's test rows."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from stage_fixtures import Settings, Train, history, main, metrics, write_rows
from transformers import AutoModelForCausalLM, AutoTokenizer

from zero2chat.core import runs
from zero2chat.core.errors import UserError
from zero2chat.evaluation.tasks import evaluate_tasks, read_specs
from zero2chat.inference.generate import answer
from zero2chat.stages import sft, shared

TURNS = [("Hi", "Hello."), ("Bye", "Bye bye.")]

TASKS = [{"task": "facts", "n": 7, "max_new_tokens": 4}, {"task": "identity", "n": 5, "max_new_tokens": 12, "seed": 1}]


def chat(*contents: str) -> dict[str, Any]:
    """Return a conversation whose turns are the user's and the assistant's by turns."""
    roles = ["user", "assistant"] * len(contents)
    return {"messages": [{"role": role, "content": text} for role, text in zip(roles, contents, strict=False)]}


@pytest.fixture
def tune(train: Train, tmp_path: Path) -> Train:
    """`tune(name, rows, **changes)` → the folder of a run on these rows, without tasks."""

    def run(name: str, rows: list[dict[str, Any]], **changes: Any) -> Path:
        path = write_rows(tmp_path / "chat.jsonl", rows)
        return train("sft", name, **{"datasets": [{"path": str(path)}], "tasks": [], **changes})

    return run


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, settings: Settings, write_yaml: Any) -> Path:
    """A run on four conversations of two turns, repeated until they are learned, and some rows of a task."""
    folder = tmp_path_factory.mktemp("sft")
    path = write_rows(folder / "chat.jsonl", [chat(*TURNS[0], *TURNS[1])] * 60)
    changes = {
        "datasets": [{"path": str(path), "label": "chat"}, {"task": "facts", "n": 20}],
        "tasks": TASKS,
        "packing": False,
        "max_steps": 120,
        "global_batch_size": 8,
        "per_device_train_batch_size": 8,
        "learning_rate": 1.0e-2,
        "muon": True,
        "logging_steps": 30,
        "save_strategy": "no",
    }
    return main("sft", write_yaml(folder / "sft.yaml", **settings("sft", folder / "sft", **changes)))


def test_it_learns_the_conversations_and_when_to_stop(tuned):
    losses = [line["loss"] for line in history(tuned)]
    assert len(losses) == 4
    assert losses[-1] < losses[0] / 2
    assert metrics(tuned)["conversations"]["value"] == 80
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tuned), AutoTokenizer.from_pretrained(tuned)
    first, second = chat("Hi")["messages"], chat("Hi", "Hello.", "Bye")["messages"]
    values = answer(model, tokenizer, [first, second], 16)
    assert [(a.text, a.stopped) for a in values] == [("Hello.", True), ("Bye bye.", True)]


def test_the_folder_opens_with_all_that_chatting_needs(tuned):
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


def test_it_is_examined_on_the_test_rows(tuned):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tuned), AutoTokenizer.from_pretrained(tuned)
    expected, samples, _ = evaluate_tasks(model, tokenizer, read_specs(TASKS))
    assert metrics(tuned).items() >= expected.items()
    assert runs.read_jsonl(tuned / "samples.jsonl") == [{"step": 120} | sample for sample in samples]
    assert [s["task"] for s in samples] == ["facts"] * 7 + ["identity"] * 5


def test_overlong_conversations_are_counted_and_dropped_if_set(tune, capsys):
    short, long = chat("Hi", "Hello."), chat("Hi", "word " * 200)
    run = tune("s", [short, long, short, short], overlong="drop", max_steps=1, packing=False)
    assert "1 of 4 conversations are longer than max_length 128 (chat, row 1 (" in capsys.readouterr().out
    assert metrics(run)["conversations"]["value"] == 3


def test_tokens_are_counted_without_padding_and_no_mfu_is_claimed(tune):
    chats = [chat("Hi", "Hello." * n) for n in (1, 5)]
    short = {"packing": False, "global_batch_size": 2, "max_steps": 1, "logging_steps": 1}
    run = tune("s", chats, **short, assistant_only_loss=True)  # as any user of TRL writes; the stage does so anyway
    tokenizer = AutoTokenizer.from_pretrained(run)
    lengths = [len(tokenizer.apply_chat_template(one["messages"])["input_ids"]) for one in chats]
    assert lengths[0] < lengths[1]
    (line,) = history(run)
    assert line["tokens"] == sum(lengths)
    assert "tokens_per_second" in line
    assert "mfu" not in line


def test_conversations_that_ask_an_examination_question_in_any_turn_are_left_out(tune, tmp_path):
    clean = [chat("Hi", "Hello."), chat("What is 2 + 3 and what is 4?", "5\nand 4.")]
    asking = [chat("2 + 3 = ?", "5."), chat("Hi", "Ask!", "Well, how far\nis it to Rome?", "Far.")]
    exam = write_rows(tmp_path / "exam.jsonl", [{"question": "2 + 3 = ?"}, {"question": "How far is it to Rome?"}])
    exams = [str(exam), {"task": "facts", "n": 50, "label": "test_rows"}]
    file = tmp_path / "chat.jsonl"
    sources = [{"path": str(file), "invalid": "drop"}, {"task": "facts", "n": 20}]
    run = tune("s", [{"messages": 3}, *clean, *asking], datasets=sources, decontaminate=exams, max_steps=1)
    values = metrics(run)
    assert values["conversations"]["value"] == 22
    assert values["decontaminated"] == {"value": 2, "n": 24}
    assert (values["decontaminated_exam"]["value"], values["decontaminated_test_rows"]["value"]) == (2, 0)
    lines = runs.read_jsonl(run / "decontaminated.jsonl")
    assert [(line["where"], line["question"], line["text"]) for line in lines] == [
        (f"chat, row 3 ({file}, line 4)", "2 + 3 = ?", "2 + 3 = ?"),
        (f"chat, row 4 ({file}, line 5)", "How far is it to Rome?", "Well, how far\nis it to Rome?"),
    ]
    assert lines[1]["words"] == "how far is it to rome"


def test_of_several_processes_only_the_first_tokenizes(tmp_path, monkeypatch):
    rows = Dataset.from_dict({"input_ids": [[1, 2], [3]], "assistant_masks": [[0, 1], [1]]})
    made: list[bool] = []
    training: Any = SimpleNamespace(output_dir=str(tmp_path), world_size=2)
    make = lambda: made.append(True) or rows  # noqa: E731
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


def test_the_rows_that_processes_share_are_gone_before_the_run_can_be_done(train, monkeypatch):
    """Or a kill in between would leave them in a finished run for ever."""
    calls: list[str] = []
    for name in ("remove_shared", "finish_with_tasks"):
        real = getattr(sft, name)
        monkeypatch.setattr(sft, name, lambda *args, name=name, real=real: calls.append(name) or real(*args))
    train("sft", tasks=[], max_steps=1)
    assert calls == ["remove_shared", "finish_with_tasks"]


def test_a_finished_run_is_skipped_also_by_a_launch_that_could_not_train_it(
    tuned, train, tmp_path, monkeypatch, capsys
):
    def refuse(*_: Any) -> None:
        raise UserError("not here")

    monkeypatch.setattr("zero2chat.trainers.arguments.check_precision", refuse)
    main("sft", tuned.with_suffix(".yaml"))
    assert capsys.readouterr().out.endswith("done already\n")
    with pytest.raises(UserError, match="not here"):
        train("sft", "new")
    assert not (tmp_path / "new").exists()


def test_the_loss_on_validation_rows_is_logged_while_it_trains(tune):
    rows = [{"prompt": f"Say {i % 30}.", "completion": f"{i}"} for i in range(60)]
    for name, more in (("usual", {}), ("often", {"eval_steps": 3, "packing": False})):
        run = tune(name, rows, validation_fraction=0.2, **more)
        losses = {line["step"]: line["eval_loss"] for line in history(run, "eval_loss")}
        assert list(losses) == ([0, 2, 4, 6] if name == "usual" else [0, 3, 6])
        values = metrics(run)
        assert values["val_loss"]["value"] == pytest.approx(losses[6], abs=1e-3)
        assert 0 < values["val_loss"]["n"] == 60 - values["conversations"]["value"] < 30
        assert values["val_loss"]["n"] % 2 == 0  # both rows of a prompt are on one side

"""Speed and MFU of a run, over kills."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import TrainerControl, TrainerState, TrainingArguments

from zero2chat.core.runs import read_jsonl
from zero2chat.stages.open_run import open_run
from zero2chat.trainers import callbacks
from zero2chat.trainers.callbacks import RunCallback


def test_speed_is_that_of_all_steps_before_and_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: clock[0])
    run = open_run(tmp_path / "run", "pretrain", {"output_dir": str(tmp_path / "run")})
    args, control = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none"), TrainerControl()
    kept: dict[str, Any] | None = None
    for seconds, tokens in ((2.0, 100), (4.0, 200)):  # two tries of one step each
        callback = RunCallback(run, flops=3.0, peak=1000.0, bytes_per_token=2.0, eval_bytes_per_token=4.0)
        state = TrainerState(stateful_callbacks=[callback], max_steps=4)
        state.num_input_tokens_seen = tokens - 100
        if kept:
            state.stateful_callbacks["RunCallback"] = kept
        callback.on_train_begin(args, state, control)
        callback.on_epoch_begin(args, state, control)
        clock[0] += seconds
        state.num_input_tokens_seen = tokens
        callback.on_step_end(args, state, control)
        callback.on_log(args, state, control, {"loss": 1.0})
        kept = callback.state()
    callback.on_log(args, state, control, {"eval_loss": 1.0})
    callback.on_train_end(args, state, control)
    callback.on_log(args, state, control, {"eval_prose_loss": 1.0})
    assert (callback.tokens_per_second, callback.mfu(callback.tokens_per_second)) == (
        200 / 6,
        pytest.approx(200 / 6 * 3 / 1000),
    )
    first, second, held_out = read_jsonl(run.folder / "history.jsonl")  # what follows the training is not in it
    assert (first["tokens_per_second"], second["tokens_per_second"]) == (50.0, 25.0)
    assert (first["mfu"], second["mfu"]) == (0.15, 0.075)
    assert second["bits_per_byte"] == pytest.approx(2 * held_out["eval_bits_per_byte"], rel=1e-4)

    resumed_at_the_end = RunCallback(run)
    state.stateful_callbacks["RunCallback"] = kept
    resumed_at_the_end.on_train_begin(args, state, control)
    assert resumed_at_the_end.tokens_per_second == 200 / 6


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: now[0])
    return now


def test_a_step_without_new_tokens_has_no_speed_and_counts_in_that_of_the_next(
    tmp_path: Path, clock: list[float]
) -> None:
    run = open_run(tmp_path / "run", "ppo", {"output_dir": str(tmp_path / "run")})
    args, control = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none"), TrainerControl()
    callback = RunCallback(run)
    state = TrainerState(stateful_callbacks=[callback], max_steps=10)
    callback.on_train_begin(args, state, control)
    callback.on_epoch_begin(args, state, control)
    for state.global_step, tokens in ((1, 100), (2, 0), (3, 180)):  # the second is another epoch over a rollout
        clock[0] += 1
        state.num_input_tokens_seen += tokens
        callback.on_step_end(args, state, control)
        callback.on_log(args, state, control, {"loss": 1.0})
    lines = read_jsonl(run.folder / "history.jsonl")
    assert [line.get("tokens_per_second") for line in lines] == [100.0, None, 90.0]


def test_a_steps_time_has_the_wait_for_data_in_it_but_no_pause(tmp_path: Path, clock: list[float]) -> None:
    run = open_run(tmp_path / "run", "pretrain", {"output_dir": str(tmp_path / "run")})
    args, control = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none"), TrainerControl()
    callback = RunCallback(run)
    state = TrainerState(stateful_callbacks=[callback], max_steps=10)
    callback.on_train_begin(args, state, control)
    with callback.paused():  # an evaluation before the first step
        clock[0] += 500
    callback.on_epoch_begin(args, state, control)
    for state.global_step in (1, 2):
        clock[0] += 3  # the wait for data, before `on_step_begin`
        callback.on_step_begin(args, state, control)
        clock[0] += 2
        state.num_input_tokens_seen += 100
        callback.on_step_end(args, state, control)
        with callback.paused():
            clock[0] += 1000
    callback.on_log(args, state, control, {"loss": 1.0})
    callback.on_train_end(args, state, control)
    with callback.paused():  # an evaluation after the last step
        clock[0] += 2000
    (line,) = read_jsonl(run.folder / "history.jsonl")
    assert line["tokens_per_second"] == callback.tokens_per_second == 200 / 10
    assert callback.all_seconds == 10


def test_a_device_is_waited_for_where_time_is_reported_and_not_in_each_step(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    def synchronize() -> None:
        waits.append(clock[0])
        clock[0] = max(clock[0], 60.0)  # the device has been computing all the while

    monkeypatch.setattr(torch.accelerator, "synchronize", synchronize)
    run = open_run(tmp_path / "run", "pretrain", {"output_dir": str(tmp_path / "run")})
    args: Any = SimpleNamespace(device=torch.device("cuda", 0), world_size=1)
    callback, control = RunCallback(run), TrainerControl()
    state = TrainerState(stateful_callbacks=[callback], max_steps=9)
    callback.on_train_begin(args, state, control)
    callback.start = 0.0
    for state.global_step in (1, 2, 3):
        clock[0] += 1
        callback.on_step_end(args, state, control)
    assert waits == []
    state.num_input_tokens_seen = 600
    callback.on_log(args, state, control, {"loss": 1.0})
    assert waits == [3.0]
    (line,) = read_jsonl(run.folder / "history.jsonl")
    assert line["tokens_per_second"] == 600 / 60


def test_a_resumed_run_computes_with_as_many_threads_as_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = [3]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[0])
    monkeypatch.setattr(torch, "set_num_threads", lambda n: threads.__setitem__(0, n))
    monkeypatch.setattr(callbacks, "cores", lambda alone: 4)
    run = open_run(tmp_path / "run", "pretrain", {"output_dir": str(tmp_path / "run")})
    kept = RunCallback(run).state()
    assert kept["attributes"]["threads"] == 3

    def resumed(now: int, **saved: int) -> int:
        threads[0] = now
        callback = RunCallback(run)
        state = TrainerState(stateful_callbacks=[callback], max_steps=9)
        state.stateful_callbacks["RunCallback"] = {"args": {}, "attributes": kept["attributes"] | saved}
        args = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
        callback.on_train_begin(args, state, TrainerControl())
        return threads[0]

    assert resumed(3) == 3
    assert capsys.readouterr().out == ""
    assert resumed(1) == 3
    assert capsys.readouterr().out == "computing with 3 threads instead of 1, as before: the sums depend on it\n"
    assert resumed(2, threads=8) == 2  # of a larger machine

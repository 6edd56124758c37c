"""Speed and MFU of a run, over kills."""

from __future__ import annotations

import pytest
import torch
from transformers import TrainerControl, TrainerState, TrainingArguments

from zero2chat.core.runs import read_jsonl
from zero2chat.stages.open_run import open_run
from zero2chat.trainers import callbacks
from zero2chat.trainers.callbacks import RunCallback


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: now[0])
    return now


@pytest.fixture
def start(tmp_path):
    """`start(**options)` → the run's folder, its callback, and a function that calls one of its events."""

    run = open_run(tmp_path / "run", "pretrain", {"output_dir": str(tmp_path / "run")})

    def begin(max_steps=10, **options):
        callback, control = RunCallback(run, **options), TrainerControl()
        state = TrainerState(stateful_callbacks=[callback], max_steps=max_steps)
        args = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")

        def event(name, *more):
            getattr(callback, f"on_{name}")(args, state, control, *more)

        return run.folder, callback, state, event

    return begin


def test_speed_is_that_of_all_steps_before_and_after_a_kill(start, clock):
    saved = None
    for seconds, tokens in ((2.0, 100), (4.0, 200)):  # two tries of one step each
        options = {"flops": 3.0, "peak": 1000.0, "bytes_per_token": 2.0, "eval_bytes_per_token": 4.0}
        folder, callback, state, event = start(max_steps=4, **options)
        state.num_input_tokens_seen = tokens - 100
        if saved:
            state.stateful_callbacks["RunCallback"] = saved
        event("train_begin")
        event("epoch_begin")
        clock[0] += seconds
        state.num_input_tokens_seen = tokens
        event("step_end")
        event("log", {"loss": 1.0})
        saved = callback.state()
    event("log", {"eval_loss": 1.0})
    event("train_end")
    event("log", {"eval_prose_loss": 1.0})
    assert callback.tokens_per_second == 200 / 6
    assert callback.mfu(callback.tokens_per_second) == pytest.approx(200 / 6 * 3 / 1000)
    first, second, held_out = read_jsonl(folder / "history.jsonl")  # what follows the training is not in it
    assert (first["tokens_per_second"], second["tokens_per_second"]) == (50.0, 25.0)
    assert (first["mfu"], second["mfu"]) == (0.15, 0.075)
    assert second["bits_per_byte"] == pytest.approx(2 * held_out["eval_bits_per_byte"], rel=1e-4)

    _, resumed_at_the_end, state, event = start(max_steps=4)
    state.stateful_callbacks["RunCallback"], state.num_input_tokens_seen = saved, 200
    event("train_begin")
    assert resumed_at_the_end.tokens_per_second == 200 / 6


def test_a_step_without_new_tokens_has_no_speed_and_counts_in_that_of_the_next(start, clock):
    folder, _, state, event = start()
    event("train_begin")
    event("epoch_begin")
    for state.global_step, tokens in ((1, 100), (2, 0), (3, 180)):  # the second is another epoch over a rollout
        clock[0] += 1
        state.num_input_tokens_seen += tokens
        event("step_end")
        event("log", {"loss": 1.0})
    lines = read_jsonl(folder / "history.jsonl")
    assert [line.get("tokens_per_second") for line in lines] == [100.0, None, 90.0]


def test_a_steps_time_has_the_wait_for_data_in_it_but_no_pause(start, clock):
    folder, callback, state, event = start()
    event("train_begin")
    with callback.paused():  # an evaluation before the first step
        clock[0] += 500
    event("epoch_begin")
    for state.global_step in (1, 2):
        clock[0] += 3  # the wait for data, before `on_step_begin`
        event("step_begin")
        clock[0] += 2
        state.num_input_tokens_seen += 100
        event("step_end")
        with callback.paused():
            clock[0] += 1000
    event("log", {"loss": 1.0})
    event("train_end")
    with callback.paused():  # an evaluation after the last step
        clock[0] += 2000
    (line,) = read_jsonl(folder / "history.jsonl")
    assert line["tokens_per_second"] == callback.tokens_per_second == 200 / 10
    assert callback.all_seconds == 10


def test_a_resumed_run_computes_with_as_many_threads_as_before(tmp_path, capsys, monkeypatch):
    threads = [3]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[0])
    monkeypatch.setattr(torch, "set_num_threads", lambda n: threads.__setitem__(0, n))
    monkeypatch.setattr(callbacks, "cores", lambda alone: 4)
    run = open_run(tmp_path / "run", "pretrain", {"output_dir": str(tmp_path / "run")})
    saved = RunCallback(run).state()
    assert saved["attributes"]["threads"] == 3

    def resumed(now, **changes):
        threads[0] = now
        callback = RunCallback(run)
        state = TrainerState(stateful_callbacks=[callback], max_steps=9)
        state.stateful_callbacks["RunCallback"] = {"args": {}, "attributes": saved["attributes"] | changes}
        args = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
        callback.on_train_begin(args, state, TrainerControl())
        return threads[0]

    assert resumed(3) == 3
    assert capsys.readouterr().out == ""
    assert resumed(1) == 3
    assert capsys.readouterr().out == "using 3 threads, as before the interruption, not 1, for equal sums\n"
    assert resumed(2, threads=8) == 2  # of a larger machine

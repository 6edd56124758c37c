"""Trainer callbacks: one line per log step, complete checkpoints, early stopping."""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from zero2chat.core.runs import Run, cores
from zero2chat.trainers.checkpoints import seal

# Token counters of the Trainer and TRL. TRL's restarts in a resumed run; `tokens` has the same count.
_COUNTED_ALREADY = ("num_input_tokens_seen", "num_tokens")


class RunCallback(TrainerCallback, ExportableState):
    """Writes `history.jsonl`, prints one line per log step with speed and ETA, and completes checkpoints.

    `flops` are per token, and `peak` is FLOP/s per device. `counts` are a stage's own counters, saved in checkpoints.

    A step's time starts at the end of the previous step. It includes waiting for data. It excludes work in `paused`:
    evaluation, sampling, saving. Training stops when the steps of all attempts have taken `limit` seconds.

    On a CPU a resumed run uses as many threads as before, because sums depend on the number of threads.
    """

    def __init__(
        self,
        run: Run,
        flops: float | None = None,
        peak: float = math.inf,
        bytes_per_token: float | None = None,
        eval_bytes_per_token: float | None = None,
    ):
        self.run, self.flops, self.peak = run, flops, peak
        self.bytes_per_token = {"": bytes_per_token, "eval_": eval_bytes_per_token}
        self.start: float | None = None  # the end of the time counted so far; None while nothing is counted
        self.on_device = False
        self.seconds = 0.0  # spent in training steps since the last log
        self.steps = 0
        self.tokens_before = 0
        self.all_seconds = 0.0  # spent in training steps of all attempts, as far as they count
        self.all_tokens = 0
        self.world_size = 1
        self.counts: Counter[str] = Counter()
        self.limit = math.inf
        self.ended = False

    def state(self) -> dict[str, Any]:
        attributes = {"all_seconds": self.all_seconds, "counts": dict(self.counts), "threads": torch.get_num_threads()}
        return {"args": {}, "attributes": attributes}

    @property
    def tokens_per_second(self) -> float:
        """The average over all training steps of the run, including the steps before a kill."""
        return self.all_tokens / self.all_seconds if self.all_seconds else 0.0

    def mfu(self, tokens_per_second: float) -> float:
        """Return model FLOPs utilization, as a share of `peak` (PaLM: Chowdhery et al. 2022, arXiv:2204.02311)."""
        return tokens_per_second * (self.flops or 0.0) / (self.peak * self.world_size)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.tokens_before = self.all_tokens = state.num_input_tokens_seen
        saved = state.stateful_callbacks["RunCallback"]["attributes"]
        self.all_seconds = saved["all_seconds"]
        self.counts.clear()
        self.counts.update(saved.get("counts", {}))
        self.world_size, self.on_device = args.world_size, args.device.type != "cpu"
        now, threads = torch.get_num_threads(), saved.get("threads")
        if not self.on_device and threads not in (None, now) and threads <= cores(alone=True):
            torch.set_num_threads(threads)
            print(f"using {threads} threads, as before the interruption, not {now}, for equal sums", flush=True)

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.start is None:  # the first epoch
            self.start = self._now()

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.ended, self.start = True, None
        self.all_tokens = state.num_input_tokens_seen

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        # An accelerator may still compute the step: only the ends of what is reported are exact.
        self._count(wait=state.global_step >= state.max_steps or self.limit < math.inf)
        self.steps += 1
        if self.limit < math.inf:
            spent = [self.all_seconds]
            broadcast_object_list(spent)  # each rank has its own clock
            control.should_training_stop |= spent[0] >= self.limit

    def _now(self, wait: bool = True) -> float:
        if self.on_device and wait:
            torch.accelerator.synchronize()
        return time.perf_counter()

    def _count(self, wait: bool = True) -> None:
        """Add the time since the last call to the time spent in training steps."""
        if self.start is not None:
            now = self._now(wait)
            self.seconds += now - self.start
            self.all_seconds += now - self.start
            self.start = now

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Context for work whose time belongs to no training step."""
        self._count()
        counted, self.start = self.start is not None, None
        yield
        self.start = self._now() if counted else None

    def on_log(self, args: Any, state: TrainerState, control: Any, logs: Any = None, **_: Any) -> None:
        # Values measured after the last step are in the metrics. Logged here, a killed run would have them twice.
        if not state.is_world_process_zero or logs is None or "train_loss" in logs or self.ended:
            return
        line = {"step": state.global_step} | {
            key: value
            for key, value in logs.items()
            if isinstance(value, int | float) and not key.startswith("train_") and key not in _COUNTED_ALREADY
        }
        for prefix, size in self.bytes_per_token.items():
            if size and f"{prefix}loss" in line:
                line[f"{prefix}bits_per_byte"] = line[f"{prefix}loss"] / math.log(2) / size
        self.all_tokens = state.num_input_tokens_seen
        if "loss" in line and self.steps:
            self._count()
            eta = (state.max_steps - state.global_step) * self.seconds / self.steps
            eta = min(eta, max(self.limit - self.all_seconds, 0.0))
            if tokens := state.num_input_tokens_seen - self.tokens_before:  # another epoch of a rollout has no new ones
                tokens_per_second = tokens / self.seconds
                line |= {"tokens": state.num_input_tokens_seen, "tokens_per_second": tokens_per_second}
                if self.flops:
                    line["mfu"] = self.mfu(tokens_per_second)
                self.seconds, self.steps, self.tokens_before = 0.0, 0, state.num_input_tokens_seen
        else:
            eta = None
        self.run.log({key: round(value, 6) for key, value in line.items()} | {"seconds": round(self.run.seconds, 1)})
        if "loss" in line or "eval_loss" in line:
            print(_shown(line, state.max_steps, eta), flush=True)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        with self.paused():
            PartialState().wait_for_everyone()  # every rank has written its part
            if state.is_world_process_zero:
                seal(self.run.folder, state.global_step)


def _shown(line: Mapping[str, Any], max_steps: int, eta: float | None) -> str:
    parts = [f"step {line['step']}/{max_steps}"]
    for key, text in (
        ("loss", "loss {:.3f}"),
        ("eval_loss", "held-out loss {:.3f}"),
        ("bits_per_byte", "{:.3f} bits/byte"),
        ("eval_bits_per_byte", "{:.3f} bits/byte"),
        ("reward", "reward {:.3f}"),
        ("rewards/margins", "margin {:.3f}"),
        ("rewards/accuracies", "accuracy {:.0%}"),
        ("frac_reward_zero_std", "zero-variance groups {:.0%}"),
        ("completions/clipped_ratio", "truncated {:.0%}"),
        ("completions/mean_length", "length {:.1f}"),
        ("entropy", "entropy {:.2f}"),
        ("kl", "KL {:.4f}"),
        ("kl_sequence", "KL/sequence {:.2f}"),
        ("expert_share/max", "busiest expert {:.0%} of tokens"),
        ("tokens_per_second", "{:,.0f} tokens/s"),
        ("mfu", "MFU {:.0%}"),
    ):
        if key in line:
            parts.append(text.format(line[key]))
        if key == "reward":
            by_function = [k for k in line if k.startswith("rewards/") and k.endswith("/mean")]
            parts += [f"{k.split('/')[1]} {line[k]:.3f}" for k in by_function if len(by_function) > 1]
    if eta is not None:
        parts.append(f"ETA {int(eta) // 60}m{int(eta) % 60:02d}s")
    return " | ".join(parts)

"""The base class of all stages' trainers: order of rows, checkpoints, resuming."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers.trainer
from accelerate.data_loader import DataLoaderShard
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler
from transformers import PreTrainedModel, PrinterCallback, Trainer, TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler
from trl.models import unwrap_model_for_generation

from zero2chat.core.errors import UserError
from zero2chat.core.runs import Run
from zero2chat.core.text import on_terminal
from zero2chat.models.experts import expert_stacks, reload
from zero2chat.models.hardware import is_fsdp, share_of
from zero2chat.trainers.callbacks import RunCallback
from zero2chat.trainers.checkpoints import last_checkpoint, require_whole
from zero2chat.trainers.start import refused_settings, samples, train_in_fp32


def order_by_epoch(sampler: Any, seed: int) -> Any:
    """Make the sampler's order depend only on seed and epoch. In TRL and transformers, the order also depends on the
    earlier epochs, which a resumed run skips."""
    sampler.set_epoch = lambda epoch: sampler.generator.manual_seed(seed + epoch)
    return sampler


def set_epoch(dataloader: DataLoader, epoch: int) -> None:
    """Set the sampler's epoch inside accelerate's wrappers. With several processes, the Trainer does not reach it."""
    batches: Any = dataloader.batch_sampler
    while hasattr(batches, "batch_sampler"):
        batches = batches.batch_sampler
    sampler: Any = getattr(batches, "sampler", None)
    if hasattr(sampler, "set_epoch"):
        sampler.set_epoch(epoch)


class ResumableTrainer(Trainer):
    """A Trainer that, on resuming from a checkpoint, takes no extra step and keeps the order of rows.

    Token counts are added up on the device until they are needed. With transformers' own count, the host would wait for
    the device in each micro-batch.
    """

    paused: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext  # `RunCallback.paused`
    counts: Counter[str]  # `RunCallback.counts`
    uncounted: torch.Tensor | int = 0  # tokens of this process since `count_tokens`

    def create_accelerator_and_postprocess(self) -> None:
        if is_fsdp(self.args.fsdp):
            reduce_each_batch(self.args)
        super().create_accelerator_and_postprocess()
        if self.is_fsdp_enabled:
            shard_precisely(self.accelerator.state.fsdp_plugin)

    def trained_model(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context with the trained model, ready to generate: gradient checkpointing is off. Every rank must
        enter it."""
        again = self.args.gradient_checkpointing_kwargs
        return unwrap_model_for_generation(self.model_wrapped, self.accelerator, gradient_checkpointing_kwargs=again)

    def save_instead(self, model: PreTrainedModel) -> None:
        """Save this model at the end, such as a model with the adapter merged in."""
        self.model = model

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        with self.paused():
            return super().evaluate(*args, **kwargs)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if getattr(self, "log_completions", False):  # TRL's trainers that sample print some, and save a table of all
            for column in (self._logs["prompt"], self._logs["completion"], *self._logs.get("extra", {}).values()):
                column.extend([_printed(column.popleft()) for _ in range(len(column))])
        super().log(logs, *args, **kwargs)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        with self.paused():
            super()._save_checkpoint(*args, **kwargs)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if self._reloads(model or self.model):
            reload(model or self.model, resume_from_checkpoint)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        require_whole(self.state.best_model_checkpoint)
        if self._reloads(self.model):
            reload(self.model, self.state.best_model_checkpoint)
        else:
            super()._load_best_model()

    def _reloads(self, model: nn.Module) -> bool:
        """Whether the Trainer would resume without loading a checkpoint's experts, because they are saved as matrices
        (huggingface/transformers#48805)."""
        plain = isinstance(model, PreTrainedModel) and not (self.is_deepspeed_enabled or self.is_fsdp_enabled)
        return plain and bool(expert_stacks(model))

    def _track_num_input_tokens(self, inputs: Mapping[str, Any]) -> None:
        count = self.args.include_num_input_tokens_seen
        if count == "no" or "input_ids" not in inputs:  # batches of embeddings or pairs have no tokens to count
            return
        ids, mask = inputs["input_ids"], inputs.get("attention_mask")
        if mask is None or count != "non_padding":
            mask = ids != self.processing_class.pad_token_id if count == "non_padding" else torch.ones_like(ids)
        self.uncounted += mask.sum()

    def count_tokens(self) -> None:
        """Add all processes' uncounted tokens to `state.num_input_tokens_seen`. Every process must call this."""
        tokens = torch.as_tensor(self.uncounted, device=self.args.device, dtype=torch.int64)
        self.state.num_input_tokens_seen += self.accelerator.gather(tokens).sum().item()
        self.uncounted = 0

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        control = self.control
        if control.should_log or control.should_evaluate or control.should_save or control.should_training_stop:
            self.count_tokens()
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        rows = self.train_dataset if train_dataset is None else train_dataset
        args = self.args
        if args.train_sampling_strategy != "group_by_length":
            sampler = super()._get_train_sampler(train_dataset)
            is_online = getattr(self, "shuffle_dataset", False)  # one of TRL's trainers that sample
            return order_by_epoch(sampler, args.seed) if is_online else sampler
        # Batches over all processes, so that the order is the same for any number of processes.
        batch_size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        seed = args.seed if args.data_seed is None else args.data_seed
        names = ("input_ids", "completion_ids", "chosen_ids", "rejected_ids")
        texts = [rows[name] for name in names if name in rows.column_names]
        if not texts:
            raise UserError(f"train_sampling_strategy: rows without {', '.join(names)} have no length: remove it")
        lengths = [max(map(len, sides)) for sides in zip(*texts, strict=True)]
        if "prompt_ids" in rows.column_names:  # before each answer
            lengths = [len(ids) + length for ids, length in zip(rows["prompt_ids"], lengths, strict=True)]
        generator = torch.Generator().manual_seed(seed)  # else the global random state, which no checkpoint restores
        return order_by_epoch(LengthGroupedSampler(batch_size, lengths=lengths, generator=generator), seed)

    def _run_epoch(self, *, epoch: int, train_dataloader: DataLoader, **more: Any) -> None:
        # After a kill behind the last checkpoint, within an epoch, or after a callback stopped the run, the Trainer
        # would take one extra step.
        saved = self.state.stateful_callbacks.get("TrainerControl", {}).get("args", {})
        if self.state.global_step >= self.state.max_steps or saved.get("should_training_stop"):
            self.control.should_training_stop = True
            return
        set_epoch(train_dataloader, epoch)
        super()._run_epoch(epoch=epoch, train_dataloader=train_dataloader, **more)


class LossTrainer(ResumableTrainer):
    """Its held-out loss is the mean over all held-out tokens (without labels: rows), on any number of processes.

    accelerate would fill the last batch with repeated rows, and transformers would weight batches by their rows."""

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        loader = super().get_eval_dataloader(eval_dataset)
        self.batches = [*BatchSampler(range(len(loader.dataset)), self.args.eval_batch_size, drop_last=False)]
        return DataLoaderShard(loader.dataset, batch_sampler=share_of(self.batches), collate_fn=loader.collate_fn)

    def prediction_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        labels = inputs.get("labels")
        weight = len(inputs["input_ids"]) if labels is None else int((labels[:, 1:] != -100).sum())
        loss, *others = super().prediction_step(model, inputs, *args, **kwargs)
        self.held_out.append(torch.stack([loss.float() * weight, torch.full_like(loss, weight, dtype=torch.float32)]))
        return loss, *others

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> Any:
        self.held_out: list[torch.Tensor] = []  # of each batch of this process: its loss × its weight, and its weight
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        sums = self.accelerator.gather(torch.stack(self.held_out)[None])  # (processes, batches of each, 2)
        total, weight = sums.transpose(0, 1).flatten(0, 1)[: len(self.batches)].sum(0).tolist()  # without `share_of`'s
        output.metrics[f"{metric_key_prefix}_loss"] = total / max(weight, 1)
        return output


def train(trainer: ResumableTrainer, run: Run, callback: RunCallback, count: str = "all") -> None:
    """Train from the last complete checkpoint, or from the start. Afterwards the model has the final weights.

    `count` says which tokens are counted: "all", "non_padding", or "no" if the trainer counts them itself. Raises
    `UserError` if TRL or transformers refuse settings, and as `require_fit` and `train_in_fp32` do.
    """
    with refused_settings():
        trainer.get_optimizer_cls_and_kwargs(trainer.args, trainer.model)  # raises if the optimizer is not installed
    train_in_fp32(trainer)
    trainer.args.include_num_input_tokens_seen = count
    trainer.remove_callback(PrinterCallback)
    trainer.callback_handler.callbacks.insert(0, callback)  # first, so that a step ends before other callbacks work
    trainer.paused, trainer.counts = callback.paused, callback.counts
    if checkpoint := last_checkpoint(run.folder):
        require_fit(checkpoint, trainer)
    if trainer.is_world_process_zero():
        run.rewind(int(checkpoint.name.split("-")[1]) if checkpoint else 0)
    if checkpoint:
        trainer.args.eval_on_start = False  # already done before step 1
        print(f"{run.folder}: resuming from {checkpoint.name}", flush=True)
    # The order of rows is random too, and must be equal on all ranks. Sampling trainers seed their order separately,
    # and their ranks need different seeds, or all would generate the same completions.
    set_seed(trainer.args.seed, device_specific=samples(vars(trainer.args)))
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except ValueError as error:  # some settings are only checked now: names by TRL, `eval_on_start` by transformers
        if not str(error).startswith(("Unknown loss", "Unknown f_divergence", "Trainer: evaluation requires")):
            raise
        raise UserError(f"the trainer refuses its settings: {error}") from error


def require_fit(checkpoint: Path, trainer: Trainer) -> None:
    """Raises `UserError` if this launch cannot resume the optimizer of the checkpoint.

    The Trainer would silently start a new optimizer, or end in a traceback. A single process and DDP can resume each
    other's checkpoints. FSDP resumes FSDP's from any number of ranks, ZeRO only ZeRO's from the same number.
    """
    whole, ranks = "one process or DDP", trainer.args.world_size
    now = "ZeRO" if trainer.args.deepspeed_plugin is not None else "FSDP" if trainer.is_fsdp_enabled else whole
    shards = sorted(checkpoint.glob("global_step*/*optim_states.pt"))
    then = "ZeRO" if shards else whole if (checkpoint / "optimizer.pt").exists() else "FSDP"
    if now != then:
        raise UserError(f"{checkpoint}: saved under {then}, but this launch is {now}: launch as before")
    if shards and len(shards) != ranks:
        n = len(shards)
        raise UserError(f"{checkpoint}: saved under ZeRO by {n} processes, but this launch has {ranks}: start {n}")


# ---- FSDP2, where the defaults of accelerate and transformers would cost memory or precision


def reduce_each_batch(args: TrainingArguments) -> None:
    """Reduce gradients after each micro-batch. Otherwise, each rank would keep the whole model's gradients in between.
    Call this before the accelerator is created."""
    given = args.accelerator_config.gradient_accumulation_kwargs or {}
    args.accelerator_config.gradient_accumulation_kwargs = {"sync_each_batch": True} | given


def shard_precisely(plugin: Any) -> None:
    """Set up accelerate's FSDP2 plugin. Call this before a model is prepared.

    - In mixed precision, the model's outputs keep their precision. By default, accelerate would round losses and
      log-probabilities to bf16. Gradients are summed over ranks in fp32.
    - Layers are sharded one by one, also with adapters. By default, transformers would replace the plugin's policy by
      PEFT's. Under that policy, accelerate wraps no layer, so each rank would hold the whole model at once.
    """
    if plugin.fsdp_version != 2:
        return
    if plugin.mixed_precision_policy is not None:
        plugin.mixed_precision_policy = replace(
            plugin.mixed_precision_policy, reduce_dtype=torch.float32, output_dtype=None
        )
    transformers.trainer.update_fsdp_plugin_peft = lambda *_: None


def _printed(messages: Any) -> Any:
    """Prepare messages for a terminal and a table: remove escape sequences, and convert arguments of calls to JSON
    text, because a model's arguments fit no column's type."""
    if isinstance(messages, str):
        return on_terminal(messages)
    if isinstance(messages, list):
        return [_printed(message) for message in messages]
    if isinstance(messages, dict):
        return {
            key: json.dumps(value) if key == "arguments" and isinstance(value, dict) else _printed(value)
            for key, value in messages.items()
        }
    return messages

"""What every training stage shares: precision, global batch, a line a log step, whole checkpoints, resuming."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import (
    PrinterCallback,
    Trainer,
)
from transformers.trainer_pt_utils import get_length_grouped_indices
from trl import DistillationConfig, GRPOConfig

from zero2chat import host_watchdog
from zero2chat.errors import UserError
from zero2chat.runs import Run
from zero2chat.trainers.arguments import refused_settings
from zero2chat.trainers.callbacks import RunCallback
from zero2chat.trainers.checkpoints import require_fit
from zero2chat.trainers.ppo.config import PPOConfig

# Of those whose ranks each draw answers.
_SAMPLING = (GRPOConfig, PPOConfig, DistillationConfig)


class LengthGroupedSampler(Sampler[int]):
    """Rows of like length together, in an order that seed and epoch alone decide.

    transformers' sampler of this name takes the global random state, which a resumed run does not have again.
    """

    def __init__(self, batch_size: int, lengths: Sequence[int], seed: int):
        self.batch_size, self.lengths, self.seed, self.epoch = batch_size, list(lengths), seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        return iter(get_length_grouped_indices(self.lengths, self.batch_size, generator=generator))


def set_epoch(dataloader: DataLoader, epoch: int) -> None:
    """Tell the sampler, also one behind both a skip and a shard: on two processes the Trainer does not reach it."""
    batches: Any = dataloader.batch_sampler
    while hasattr(batches, "batch_sampler"):
        batches = batches.batch_sampler
    sampler: Any = getattr(batches, "sampler", None)
    if hasattr(sampler, "set_epoch"):
        sampler.set_epoch(epoch)


class ResumableTrainer(Trainer):
    """A Trainer that takes no step too many and reads the rows in the same order when it goes on from a checkpoint."""

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        rows = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        args = self.args
        # Batches of all processes: the order is then the same on any number of them.
        batch_size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        seed = args.seed if args.data_seed is None else args.data_seed
        texts = [rows[name] for name in ("input_ids", "chosen_ids", "rejected_ids") if name in rows.column_names]
        lengths = [max(map(len, sides)) for sides in zip(*texts, strict=True)]
        if "prompt_ids" in rows.column_names:  # which both sides go on from
            lengths = [len(ids) + length for ids, length in zip(rows["prompt_ids"], lengths, strict=True)]
        return LengthGroupedSampler(batch_size, lengths, seed)

    def _run_epoch(self, *, epoch: int, train_dataloader: DataLoader, **more: Any) -> None:
        # Killed after its last checkpoint, in the middle of an epoch, or after a callback had stopped it: the Trainer
        # would take one step more.
        saved = self.state.stateful_callbacks.get("TrainerControl", {}).get("args", {})
        if self.state.global_step >= self.state.max_steps or saved.get("should_training_stop"):
            self.control.should_training_stop = True
            return
        set_epoch(train_dataloader, epoch)
        super()._run_epoch(epoch=epoch, train_dataloader=train_dataloader, **more)


def train(trainer: ResumableTrainer, run: Run, callback: RunCallback, count: str = "all") -> None:
    """Train from the last whole checkpoint, or from the start; the model is then as at the end of the last step.

    `count` is the tokens that count: "all", "non_padding", or "no" where the trainer counts them itself.
    """
    with refused_settings():
        trainer.get_optimizer_cls_and_kwargs(trainer.args, trainer.model)  # an optimizer that is not installed
    trainer.args.include_num_input_tokens_seen = count
    trainer.remove_callback(PrinterCallback)
    trainer.callback_handler.callbacks.insert(0, callback)  # first, lest it time what others do after a step
    checkpoint = run.last_checkpoint()
    if checkpoint:
        require_fit(checkpoint, trainer)
    PartialState().wait_for_everyone()  # rank 0 has removed what is half-written
    if trainer.is_world_process_zero():
        run.rewind(int(checkpoint.name.split("-")[1]) if checkpoint else 0)
    if checkpoint:
        trainer.args.eval_on_start = False  # it was, and here is another step
        host_watchdog.saved(int(checkpoint.name.split("-")[1]))
        print(f"{run.folder}: going on from {checkpoint.name}", flush=True)
    # The order of the rows is drawn too, and must be one for all ranks. That of these has a seed of its own, and ranks
    # that drew alike would give one problem the same answers.
    set_seed(trainer.args.seed, device_specific=isinstance(trainer.args, _SAMPLING))
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except ValueError as error:  # some names TRL looks up at the first step only
        if not str(error).startswith(("Unknown loss", "Unknown f_divergence")):
            raise
        raise UserError(f"the trainer refuses its settings: {error}") from error

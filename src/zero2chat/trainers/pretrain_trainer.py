"""The trainer of pretraining: it trains on windows of documents, and samples text during training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from inspect import signature
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
)
from transformers.utils.generic import is_flash_attention_requested

from zero2chat.core.errors import UserError
from zero2chat.core.runs import Run
from zero2chat.core.stats import Metrics
from zero2chat.data.packing import count_target_bytes
from zero2chat.inference.generate import complete, generating
from zero2chat.models.experts import ExpertLoads, expert_stacks, experts_per_token
from zero2chat.models.hardware import active_count, flops_per_token, parameter_count, peak_flops
from zero2chat.trainers.callbacks import RunCallback
from zero2chat.trainers.start import unmasked_layers
from zero2chat.trainers.trainer import LossTrainer, ResumableTrainer

COUNTED = 10_000  # windows of the training text whose bytes are counted


def collate(rows: list[dict[str, Any]], end: int | None = None) -> dict[str, Any]:
    """Collate windows to (rows, length). If `end`, the end-of-text token, is given, positions restart after it."""
    ids = torch.stack([row["input_ids"] for row in rows]).long()
    batch: dict[str, Any] = {"input_ids": ids, "labels": ids}
    if end is not None:
        places = torch.arange(ids.shape[1]).expand_as(ids)
        starts = torch.where(ids.roll(1, dims=1) == end, places, 0)
        batch["position_ids"] = places - starts.cummax(dim=1).values
    return batch


class SampleCallback(TrainerCallback):
    """Samples a continuation of up to `tokens` tokens for each prompt, every `steps` steps, for the report."""

    def __init__(self, run: Run, prompts: Sequence[str], steps: int, tokens: int):
        self.run, self.prompts, self.steps, self.tokens = run, prompts, steps, tokens
        self.trainer: ResumableTrainer | None = None

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: Any, **_: Any) -> None:
        if state.global_step % self.steps and state.global_step < state.max_steps:
            return
        trainer = self.trainer
        assert trainer is not None
        tokenizer = trainer.processing_class
        generation = GenerationConfig(
            max_new_tokens=self.tokens,
            do_sample=True,
            temperature=0.8,
            top_k=0,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
        )
        with trainer.paused(), trainer.trained_model() as model, generating(model, trainer.args.seed):
            # One by one: GPT-2's tokenizer has no padding.
            samples = [complete(model, [tokenizer(prompt).input_ids], generation)[0] for prompt in self.prompts]
        for prompt, ids in zip(self.prompts, samples, strict=True):
            if state.is_world_process_zero:
                completion = tokenizer.decode(ids, skip_special_tokens=True)
                self.run.sample(state.global_step, prompt, completion)
                print(f"step {state.global_step} sample: {prompt}{completion!r}", flush=True)


def bytes_per_token(parts: Sequence[Dataset], tokenizer: PreTrainedTokenizerBase) -> float:
    """Return the mean number of UTF-8 bytes per predicted token in these windows."""
    counts = [count_target_bytes(windows, tokenizer) for windows in parts]
    return sum(size for _, size in counts) / sum(tokens for tokens, _ in counts)


def balance_loss(router_logits: Sequence[torch.Tensor], chosen: int) -> torch.Tensor:
    """Return the load-balancing loss, averaged over layers. For equal loads, it is `chosen`, the experts per token.

    A layer's loss is E · Σ f·P (Switch Transformers, arXiv:2101.03961, equation 4). E is the number of experts; f is an
    expert's share of tokens, P its mean probability. transformers' own loss sums f and P over layers before it
    multiplies, so an expert may idle in one layer if the expert of the same number is busy in another.
    """
    losses = []
    for logits in router_logits:
        probabilities = logits.float().softmax(-1)
        picked = probabilities.topk(chosen).indices
        share = torch.zeros_like(probabilities).scatter_(1, picked, 1.0).mean(0)
        losses.append(logits.shape[1] * (share * probabilities.mean(0)).sum())
    return torch.stack(losses).mean()


class PretrainTrainer(LossTrainer):
    """Trains on each window exactly once per epoch, on any number of processes, and balances experts."""

    balance: float | None = None  # the coefficient of the load-balancing loss; None without
    balance_losses: torch.Tensor | float = 0.0  # sum over this process's micro-batches since the last log line
    micro_batches = 0  # since the last log line

    def __init__(self, model: PreTrainedModel, processing_class: Any = None, mask_documents: bool = False, **more: Any):
        """With `mask_documents`, attention stays within a document, and `processing_class` is required."""
        end = processing_class.eos_token_id if mask_documents else None
        if mask_documents and is_flash_attention_requested(model.config):
            # From positions alone, transformers tells it where documents begin only in a batch of one row.
            raise UserError("mask_documents: not supported with FlashAttention: remove attn_implementation")
        reads = signature(model.base_model.forward).parameters if mask_documents else ()
        if mask_documents and (unmasked_layers(model) or "position_ids" not in reads):  # recurrent, or such as ALiBi
            raise UserError(f"mask_documents has no effect on {model.config.model_type}: remove mask_documents")
        more |= {"data_collator": partial(collate, end=end), "processing_class": processing_class}
        super().__init__(model=model, **more)
        batch = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        if (n := len(self.train_dataset)) < batch:
            raise UserError(f"train: the documents fill {n} windows, less than a batch of {batch}: give more text")
        self.loads = ExpertLoads(model) if expert_stacks(model) else None
        # Take over the load-balancing loss from the model's config, which would add it to held-out losses too.
        config = model.config.get_text_config()
        if getattr(config, "output_router_logits", False):
            config.output_router_logits, self.balance = False, config.router_aux_loss_coef

    def speed(self, run: Run, windows: Dataset, held_out: Mapping[str, Dataset]) -> RunCallback:
        """Return the callback that logs losses, speed, and bits per byte on training windows and held-out windows."""
        dtype = torch.bfloat16 if self.args.bf16 else torch.float16 if self.args.fp16 else torch.float32
        # Windows from all over the text are enough: counting billions would take minutes.
        some = windows.select(range(0, len(windows), -(-len(windows) // COUNTED)))
        return RunCallback(
            run,
            flops_per_token(self.model, len(windows[0]["input_ids"])),
            peak_flops(self.accelerator.device, dtype),
            bytes_per_token([some], self.processing_class),
            bytes_per_token(list(held_out.values()), self.processing_class),
        )

    def held_out_metrics(self, held_out: Mapping[str, Dataset], speed: RunCallback) -> Metrics:
        """Return bits per byte (loss in nats × tokens / ln 2 / bytes) on held-out documents, per source and in total.
        Also returns the model's size, the training speed, and the smallest and largest expert load."""
        metrics: Metrics = {}
        if self.loads:
            self.loads.training = False
        nats = 0.0
        all_tokens = all_bytes = 0
        for name, rows in held_out.items():
            tokens, size = count_target_bytes(rows, self.processing_class)
            loss = self.evaluate(eval_dataset=rows, metric_key_prefix=f"eval_{name}")[f"eval_{name}_loss"]
            metrics[f"val_bits_per_byte_{name}"] = {"value": round(loss * tokens / math.log(2) / size, 4), "n": size}
            nats, all_tokens, all_bytes = nats + loss * tokens, all_tokens + tokens, all_bytes + size
        metrics["val_loss"] = {"value": round(nats / all_tokens, 4), "n": all_tokens}
        metrics["val_bits_per_byte"] = {"value": round(nats / math.log(2) / all_bytes, 4), "n": all_bytes}
        metrics["parameters"] = {"value": parameter_count(self.model)}
        metrics["tokens"] = {"value": int(self.state.num_input_tokens_seen)}
        metrics["tokens_per_second"] = {"value": round(speed.tokens_per_second, 1)}
        metrics["mfu"] = {"value": round(speed.mfu(speed.tokens_per_second), 4)}
        if self.loads:
            shares = self.loads.take(self.accelerator)
            metrics["active_parameters"] = {"value": active_count(self.model)}
            metrics["expert_share_min"] = {"value": round(min(map(min, shares)), 4)}
            metrics["expert_share_max"] = {"value": round(max(map(max, shares)), 4)}
        return metrics

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        if self.balance is None or not model.training:  # a held-out loss is the mean of the batch's own tokens
            count = num_items_in_batch if model.training else None
            return super().compute_loss(model, inputs, return_outputs, count)
        inputs = {**inputs, "output_router_logits": True}
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        each = outputs.aux_loss
        if outputs.router_logits[0].ndim == 2:  # not Doge's, whose experts are pairs of keys
            each = balance_loss(outputs.router_logits, experts_per_token(self.model.config) or 1)
        if num_items_in_batch is None:
            loss = loss + self.balance * (each - outputs.aux_loss)
        else:
            # The loss is a share of the step's, but the model and the Trainer add the load-balancing loss once for each
            # micro-batch and process: make it their mean.
            ranks = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
            loss = loss + self.balance * (each / self.current_gradient_accumulation_steps - ranks * outputs.aux_loss)
        self.balance_losses += each.detach()
        self.micro_batches += 1
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Also log the experts' load. The logged `loss` excludes the load-balancing loss."""
        if "loss" in logs and self.micro_batches and self.balance is not None:
            mean = torch.as_tensor(self.balance_losses / self.micro_batches, device=self.args.device)
            logs["aux_loss"] = self.accelerator.gather(mean).mean().item()
            logs["loss"] -= self.balance * logs["aux_loss"]
            self.balance_losses, self.micro_batches = 0.0, 0
        if "loss" in logs and self.loads and (shares := self.loads.take(self.accelerator)):
            logs["expert_share/min"] = min(map(min, shares))
            logs["expert_share/max"] = max(map(max, shares))
        super().log(logs, *args, **kwargs)

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device) -> Any:
        return super().get_batch_samples(map(self._without_repeats, epoch_iterator), num_batches, device)

    def _without_repeats(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Drop the repeated windows that accelerate adds to fill the last batch of an epoch."""
        args, most = self.args, self.args.per_device_train_batch_size
        left = len(self.train_dataset) % (most * args.world_size)  # windows in the last batch of all processes
        last = self.accelerator.gradient_state.end_of_dataloader
        if args.world_size == 1 or args.dataloader_drop_last or not last or not left:
            return batch
        due = max(0, min(most, left - args.process_index * most))
        batch = {name: batch[name][: max(1, due)] for name in ("input_ids", "labels", "position_ids") if name in batch}
        if not due:  # every process must take part in every step
            batch["labels"] = torch.full_like(batch["labels"], -100)
        return batch

"""FSDP2 for these trainers, where the defaults of accelerate and transformers would cost memory or precision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import transformers.trainer
from transformers import TrainingArguments


def reduce_each_batch(args: TrainingArguments) -> None:
    """Reduce gradients after each micro-batch. Call before the accelerator exists.

    Between micro-batches each rank would otherwise keep the gradients of the whole model.
    """
    given = args.accelerator_config.gradient_accumulation_kwargs or {}
    args.accelerator_config.gradient_accumulation_kwargs = {"sync_each_batch": True} | given


def shard_precisely(plugin: Any) -> None:
    """Set up accelerate's FSDP2 plugin. Call before a model is prepared.

    - In mixed precision the model's outputs keep their precision: accelerate would round losses and log-probabilities
      to bf16. Gradients are summed over ranks in fp32.
    - Layers are sharded one by one, also with adapters: transformers would replace the plugin's policy by PEFT's, by
      which accelerate wraps none, so that each rank would hold the whole model at once.
    """
    if plugin.fsdp_version != 2:
        return
    if plugin.mixed_precision_policy is not None:
        plugin.mixed_precision_policy = replace(
            plugin.mixed_precision_policy, reduce_dtype=torch.float32, output_dtype=None
        )
    transformers.trainer.update_fsdp_plugin_peft = lambda *_: None

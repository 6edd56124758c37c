"""A step's weights, sequences and FLOPs, for the estimates of `zero2chat plan`. A stage's `cost` returns a `Job`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel
    from trl import ModelConfig

FSDP = "fsdp2"
SHARDED = ("zero3", FSDP)  # accelerate configs that shard the weights
NOT_WHOLE = ("zero1", "zero2", *SHARDED)  # and those with which no rank has the whole training state

# After the name of a 16-bit dtype.
NO_MASTER_WEIGHTS = (
    "weights lose small updates: set `dtype: float32`, with `bf16: true` for matrix products in bf16, or launch with "
    "ZeRO, which keeps fp32 copies"
)

# (path, whether it has one output) → a model without weights. Raises `UserError` for a model that is nowhere.
EmptyModel = Callable[[str | None, bool], "PreTrainedModel"]


@dataclass(frozen=True)
class Job:
    """What decides the memory and time of a training step, derived from the step's settings.

    One unit of `per_device_train_batch_size` has `sequences` of at most `length` tokens. The head processes `scored` of
    the tokens: "whole" computes all logits at once, "tiles" some at a time, and "none" has one output instead.
    """

    config: PreTrainedConfig
    parameters: int
    trained: int  # of these, or of an adapter's
    optimizer: float  # bytes of its state
    length: int
    active: int = 0  # parameters that one token uses
    flops: float = 0.0  # training FLOPs per token
    forward: float = 0.0  # of these, in one forward pass of the trained model
    frozen: float = 0.0  # bytes of frozen weights
    readers: int = 0  # parameters of models that are only used for inference: a reference, reward models
    size: int = 4  # bytes per weight of these, and of the trained model as it is loaded
    adapter: bool = False  # whether it trains one
    sequences: int = 1
    scored: int | None = None
    head: str = "whole"
    copies: int = 3  # simultaneous fp32 copies of the logits
    checkpointing: bool = False
    length_is: str = ""  # description of `length`
    unit: str = "windows"
    rollout: float = 0.0  # batches of a rollout
    vllm: tuple[float, bool] | None = None  # its share of a GPU, and whether it sleeps during optimization
    refused: tuple[str, ...] = ()  # accelerate configs that the stage does not support


def quantized_refuses(options: ModelConfig) -> tuple[str, ...]:
    """Return those accelerate configs that cannot shard quantized weights."""
    return SHARDED if options.load_in_4bit or options.load_in_8bit else ()


def vllm_share(training: Any) -> tuple[float, bool] | None:
    """Return vLLM's share of a GPU that training uses too, and whether vLLM sleeps during training."""
    shared = training.use_vllm and training.vllm_mode == "colocate"
    return (training.vllm_gpu_memory_utilization, training.vllm_enable_sleep_mode) if shared else None

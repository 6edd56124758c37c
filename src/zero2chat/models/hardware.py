"""Properties of this machine: peak FLOP/s, bf16 support, memory, and the backend that connects processes."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import os
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import psutil
import torch
from accelerate import PartialState
from transformers import PreTrainedConfig, PreTrainedModel

from zero2chat.core.errors import UserError
from zero2chat.models.experts import experts_per_token, idle_count
from zero2chat.models.loading import head_width

# How long a process waits for one that tokenizes, or asks an API, for all. A process that dies is noticed at once.
PATIENCE = timedelta(days=1)

T = TypeVar("T")


class Gpu(NamedTuple):
    """`peak`: dense bf16 FLOP/s. `memory`: bytes."""

    peak: float
    memory: float


# Keyed by words of the device name, of which the longest key counts; figures from the data sheets: H100 and H200 are
# SXM, A100 80 GB, B200 in a DGX. A CPU's peak is measured.
GPUS = {
    "H100": Gpu(989e12, 80e9),
    "H100 PCIe": Gpu(756e12, 80e9),
    "H100 NVL": Gpu(835e12, 94e9),
    "H200": Gpu(989e12, 141e9),
    "H200 NVL": Gpu(835e12, 141e9),
    "A100": Gpu(312e12, 80e9),
    "L40S": Gpu(362e12, 48e9),
    "4090": Gpu(165e12, 24e9),
    "B200": Gpu(2250e12, 180e9),
}


def is_on_cpu() -> bool:
    """Whether this process runs on a CPU: there is no accelerator, or the launch config asks for the CPU."""
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true" or not torch.accelerator.is_available()


def is_deepspeed() -> bool:
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true"


def is_fsdp(setting: Any = None) -> bool:
    """Whether FSDP shards the weights, as set by the Trainer's `fsdp` or by the launch config alone."""
    return bool(setting) or os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"


def are_several_hosts() -> bool:
    ranks = os.environ.get("WORLD_SIZE", "1")
    return int(ranks) > int(os.environ.get("LOCAL_WORLD_SIZE", ranks))


def _choose_interface() -> None:
    """Make gloo use the network interface that leads to rank 0.

    By default gloo uses the interface of the host's own name, which on many systems is the loopback.
    """
    if not are_several_hosts() or os.environ.get("GLOO_SOCKET_IFNAME"):
        return
    with contextlib.suppress(OSError):  # unknown host: connecting the ranks will report it
        family, *_, address = socket.getaddrinfo(os.environ["MASTER_ADDR"], 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)  # sends nothing
            own = probe.getsockname()[0]
        for interface, addresses in psutil.net_if_addrs().items():
            if own in [a.address for a in addresses] and not own.startswith("127."):
                os.environ["GLOO_SOCKET_IFNAME"] = interface


def cpu_backend() -> str | None:
    """Return the backend that connects CPU processes; None for one process or for GPUs. Raises `UserError` if several
    processes have no GPU, and neither DeepSpeed nor a CPU launch config connects them."""
    _choose_interface()
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes == 1 or torch.accelerator.is_available():
        return None
    # DeepSpeed's launcher does not tell that its ranks are on CPUs, and accelerate would treat each as the only one.
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0] in ("", "-1")  # as by cpu_ddp.yaml
    if not is_deepspeed() and not hidden:
        raise UserError(f"{processes} processes but no GPU: launch with accelerate_configs/cpu.yaml or cpu_ddp.yaml")
    return "gloo"


def start_processes() -> PartialState:
    """Start the processes of a stage that does not train. Raises `UserError` as `cpu_backend` does."""
    keep_memory()
    return PartialState(cpu=is_on_cpu(), backend=cpu_backend(), timeout=PATIENCE)


def share_of(batches: list[T]) -> list[T]:
    """Return this process's share of the batches. Each process gets equally many, because all must gather sharded
    weights in each forward pass; the last batch may be repeated."""
    state = PartialState()
    filled = batches + batches[-1:] * (-len(batches) % state.num_processes)
    return filled[state.process_index :: state.num_processes]


def keep_memory() -> None:
    """Make glibc keep freed memory on a CPU, unless the environment configures it (`MALLOC_…`).

    Otherwise glibc returns and requests every large tensor's memory again: page faults take up to half of a step.
    """
    if not is_on_cpu() or any(name.startswith("MALLOC_") for name in os.environ):
        return
    with contextlib.suppress(TypeError, OSError, AttributeError):  # if there is no glibc
        libc = ctypes.CDLL(None)
        for parameter, value in ((-4, 0), (-1, -1)):  # M_MMAP_MAX, M_TRIM_THRESHOLD
            libc.mallopt(parameter, value)


def parameter_count(model: PreTrainedModel) -> int:
    """Count the parameters of the whole model. With ZeRO-3, only DeepSpeed knows the full sizes."""
    return sum(getattr(p, "ds_numel", p.numel()) for p in model.parameters())


@contextlib.contextmanager
def first_goes_first(is_first: bool) -> Iterator[None]:
    """Let one process, or one per node, do the work first; the other processes then find its result.

    The work may take hours: NCCL's barrier would end the run after `ddp_timeout`. gloo's barrier does not.
    """
    group = _patient_group() if PartialState().num_processes > 1 else None  # all processes must be here for it
    if group is not None and not is_first:
        torch.distributed.barrier(group)
    yield
    if group is not None and is_first:
        torch.distributed.barrier(group)


@functools.cache
def _patient_group() -> torch.distributed.ProcessGroup:
    return torch.distributed.new_group(backend="gloo", timeout=PATIENCE)


def bf16_is_fast() -> bool:
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported())


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Return the peak FLOP/s of one device: from the table, or measured with a large matrix product."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        if keys := [key for key in GPUS if key in name]:
            return GPUS[max(keys, key=len)].peak
    n = 1024 if device.type == "cpu" else 8192
    # A separate generator: measuring must not advance the training's random state.
    a = torch.randn(n, n, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    best = math.inf
    for _ in range(10):
        start = time.perf_counter()
        (a @ a).sum().item()
        best = min(best, time.perf_counter() - start)
    return 2 * n**3 / best


def active_count(model: PreTrainedModel) -> int:
    """Count the parameters that one token uses. In a mixture, only the experts that the token is routed to count."""
    return parameter_count(model) - idle_count(model)


def flops_per_token(model: PreTrainedModel, length: int) -> float:
    """Training FLOPs per token: 6N for matrices, 12·L·H·Q·T for attention (Chowdhery et al. 2022, appendix B).

    N counts the parameters in a token's matrix products: in a mixture, only its own experts; an embedding that is only
    looked up does not count. Without attention heads, as in Mamba, the scan of the states is not counted.
    """
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings()
    looked_up = (
        0 if head is not None and head.weight is embedding else getattr(embedding, "ds_numel", embedding.numel())
    )
    c = model.config.get_text_config()
    heads = getattr(c, "num_attention_heads", None)
    attention = 12 * c.num_hidden_layers * heads * head_width(c) * length if heads else 0
    return 6 * (active_count(model) - looked_up) + attention


def layer_bytes(c: PreTrainedConfig, size: int, adapter: bool = False) -> float:
    """Return the bytes per token that a layer keeps for the backward pass, with weights of `size` bytes; `c` is the
    text model's config, and `adapter` says whether the model has an adapter.

    The factors are fitted to measured bf16 forward passes, within 10% for GPT-2, Llama and Qwen3. Gemma has more norms,
    and keeps a quarter more.
    """
    heads = c.num_attention_heads + 2 * (getattr(c, "num_key_value_heads", None) or c.num_attention_heads)
    hidden = c.hidden_size
    inner = getattr(c, "intermediate_size", None) or 1.5 * hidden  # GPT-2's MLP has no gate
    adapters = 24 * hidden + 4 * inner if adapter else 0  # copies of what each adapter reads
    if per_token := experts_per_token(c):
        inner = per_token * (getattr(c, "moe_intermediate_size", None) or inner)
        hidden *= 1 + per_token / 4  # the rows that each expert gets, and returns
    return (26 if size == 4 else 16) * hidden + 7 * heads * head_width(c) + 8 * inner + adapters

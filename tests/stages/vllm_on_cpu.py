"""TRL's server mode on CPUs: weights go to the server by gloo, where TRL and vLLM know NCCL alone. No test itself.

`test_vllm.py` starts both ends, in `.venv-vllm`: the server finds `register` as a plugin of vLLM's, which adds the
transport "gloo"; the trainer is `python vllm_on_cpu.py STAGE --config X.yaml`. All else, the endpoints, the protocol
and TRL's client, is as it is on GPUs.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import torch
from vllm.distributed.utils import stateless_init_torch_distributed_process_group
from vllm.distributed.weight_transfer import WeightTransferEngineFactory
from vllm.distributed.weight_transfer.nccl_engine import NCCLWeightTransferEngine


def join(info: dict[str, Any], rank: int) -> Any:
    """The group of the trainer, rank 0, and the server's one worker, rank 1."""
    return stateless_init_torch_distributed_process_group(
        info["master_address"], info["master_port"], rank, info["world_size"], backend="gloo"
    )


# ---- the server's end


class GlooWeightTransferEngine(NCCLWeightTransferEngine):
    """Its requests, and how it loads what came, are NCCL's."""

    def init_transfer_engine(self, init_info: Any) -> None:
        self.group = join(vars(init_info), init_info.rank_offset)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        self.receive_weights(self.parse_update_info(update_info))  # there is no accelerator to wait for

    def receive_weights(self, update_info: Any) -> None:
        for name, dtype, shape in zip(update_info.names, update_info.dtype_names, update_info.shapes, strict=True):
            weight = torch.empty(shape, dtype=getattr(torch, dtype))
            self.group.broadcast(weight, 0).wait()
            self.model.load_weights([(name, weight)])

    def finish_weight_update(self) -> None:
        super().finish_weight_update()
        # A CPU multiplies by a packed copy of the weights: of a head that shares the embeddings' it would stay the old.
        self.model.lm_head.quant_method.process_weights_after_loading(self.model.lm_head)

    def shutdown(self) -> None:
        self.group = None


def register() -> None:
    if "gloo" not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine("gloo", GlooWeightTransferEngine)


# ---- the trainer's end


def send(iterator: Iterator[Any], group: Any, src: int, post_iter_func: Callable[[Any], torch.Tensor]) -> None:
    for item in iterator:
        group.process_group.broadcast(post_iter_func(item).contiguous(), src).wait()


def main(stage: str, arguments: Iterable[str]) -> None:
    from trl.generation import vllm_client

    # The three places in which TRL's client asks for NCCL and a GPU.
    begin = vllm_client.VLLMClient.init_communicator
    vllm_client.VLLMClient.init_communicator = lambda self, device: begin(self, "cuda")
    vllm_client.open_trainer_endpoint = lambda info: SimpleNamespace(
        process_group=join(info, 0), group=SimpleNamespace()
    )
    vllm_client.packed_nccl_broadcast_producer = send
    importlib.import_module(f"zero2chat.stages.{stage}").STAGE.main(list(arguments))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])

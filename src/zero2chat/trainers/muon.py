"""Muon for matrices and AdamW for other weights, combined in one optimizer, as `Trainer` needs."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim._muon import _adjust_lr
from transformers import TrainingArguments

from zero2chat.core.errors import UserError
from zero2chat.models.experts import expert_stacks, stacked, whole_shape
from zero2chat.models.hardware import bf16_is_fast, is_fsdp

TOGETHER = 2**24  # maximum entries of equal matrices that are orthogonalised at once


class BatchedMuon(torch.optim.Muon):
    """torch's Muon, but matrices of equal shape are orthogonalised together: a third faster for small matrices.

    A parameter with three dimensions is a stack of matrices, such as a layer's experts; each matrix is orthogonalised
    by itself. The computation uses bf16 as in torch, or fp32 on CPUs without native bf16 (five times as fast).
    """

    def __init__(self, params: list[nn.Parameter], *args: Any, **kwargs: Any):
        super().__init__([nn.Parameter(torch.empty(0, 0))], *args, **kwargs)  # torch's refuses stacks
        self.param_groups[0]["params"] = list(params)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        dtype = torch.bfloat16 if bf16_is_fast() else torch.float32
        for group in self.param_groups:
            params, grads, momenta = (list[torch.Tensor]() for _ in range(3))
            self._init_group(group, params, grads, momenta)
            if not params:
                continue
            torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            places: dict[torch.Size, list[int]] = {}
            for i, p in enumerate(params):
                places.setdefault(p.shape, []).append(i)
            for shape, same in places.items():
                rate = _adjust_lr(group["lr"], group["adjust_lr_fn"], shape[-2:])
                nesterov = torch.stack([grads[i].lerp(momenta[i], group["momentum"]) for i in same]).to(dtype)
                matrices = nesterov.flatten(0, -3).split(max(1, TOGETHER // shape[-2:].numel()))
                how = group["ns_coefficients"], group["ns_steps"], group["eps"]
                updates = torch.cat([orthogonalise(part, *how) for part in matrices]).view_as(nesterov)
                for i, update in zip(same, updates, strict=True):
                    params[i].add_(update, alpha=-rate)


def orthogonalise(
    matrices: torch.Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> torch.Tensor:
    """Bring singular values near 1 by Newton-Schulz iterations (Jordan et al. 2024). Shape: (n, rows, columns)."""
    a, b, c = coefficients
    tall = matrices.size(1) > matrices.size(2)
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class MuonAdamW(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) on hidden matrices, AdamW on embeddings, head, norms and biases.

    Both use one learning rate, because Muon's update is scaled to AdamW's root mean square (Liu et al. 2025,
    arXiv:2502.16982, section 2.2). The embedding (and a head tied to it) may have a rate of its own.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        weight_decay: float,
        betas: tuple[float, float],
        eps: float,
        embedding_lr: float | None = None,
        momentum: float = 0.95,
    ):
        matrices, others = split_parameters(model)
        groups = adamw_groups(model, others, lr, embedding_lr)
        self._parts = [
            BatchedMuon(matrices, lr, weight_decay, momentum, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(groups, weight_decay=0.0, betas=betas, eps=eps, fused=True),
        ]
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Make both parts share this optimizer's groups and state, which the scheduler and checkpoints use."""
        muon, adamw = self._parts
        muon.param_groups, adamw.param_groups = self.param_groups[:1], self.param_groups[1:]
        muon.state = adamw.state = self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share()

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for part in self._parts:
            part.step()


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Split the trainable parameters into (hidden matrices and stacks of them, everything else)."""
    # Positions may be embedded too, as in GPT-2; a reward model's head is `score`.
    heads = [model.get_output_embeddings(), getattr(model, "score", None)]
    tables = [*heads, *(m for m in model.modules() if isinstance(m, nn.Embedding))]
    apart = {id(p) for table in tables if table for p in table.parameters()}
    experts = expert_stacks(model)
    stacks = {id(p) for module in experts for p in stacked(module)}
    apart |= {id(p) for module in experts for p in module.parameters(recurse=False)}  # such as a bias per expert
    trainable = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trainable if id(p) in stacks or (len(whole_shape(p)) == 2 and id(p) not in apart)]
    chosen = {id(p) for p in matrices}
    return matrices, [p for p in trainable if id(p) not in chosen]


def adamw_groups(
    model: nn.Module, others: list[nn.Parameter], lr: float, embedding_lr: float | None
) -> list[dict[str, Any]]:
    """Return parameter groups for `others`, all but the matrices. With `embedding_lr`, the embedding gets a group."""
    if embedding_lr is None:
        return [{"params": others, "lr": lr}]
    table = {id(p) for p in model.get_input_embeddings().parameters()}
    parts = ([p for p in others if id(p) not in table], lr), ([p for p in others if id(p) in table], embedding_lr)
    return [{"params": params, "lr": rate} for params, rate in parts]


def use_muon(
    model: nn.Module, args: TrainingArguments, embedding_lr: float | None = None, momentum: float = 0.95
) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
    """Return the value for a Trainer's `optimizer_cls_and_kwargs=`.

    DeepSpeed partitions the weights, so under DeepSpeed, its own Muon is used, configured to take the same steps.
    Gradients are not clipped: DeepSpeed would clip Muon's update, and shrink each step by the square root of the sum of
    all matrices' ranks. Muon itself does not depend on the gradient's scale. Raises `UserError` under FSDP.
    """
    if is_fsdp(args.fsdp):
        raise UserError("muon: FSDP shards the matrices that Muon needs whole: set `muon: false`, or launch with ZeRO")
    lr, betas, eps = args.learning_rate, (args.adam_beta1, args.adam_beta2), args.adam_epsilon
    if args.deepspeed_plugin is None:
        kwargs = {"model": model, "lr": lr, "weight_decay": args.weight_decay, "betas": betas, "eps": eps}
        return MuonAdamW, kwargs | {"embedding_lr": embedding_lr, "momentum": momentum}
    from deepspeed.runtime.zero.muon.muon_optimizer import MuonWithAuxAdam

    args.max_grad_norm = 0.0
    if args.deepspeed_plugin.zero_stage == 3:
        args.deepspeed_plugin.deepspeed_config["zero_optimization"]["reduce_scatter"] = False  # its Muon requires it
    if args.device.type == "cpu" and not args.torch_compile:
        torch.compiler.set_stance("force_eager")  # compiling its kernels would take minutes and save milliseconds
    matrices, others = split_parameters(model)
    adamw = {"betas": betas, "eps": eps, "weight_decay": 0.0, "use_muon": False}
    groups = [group | adamw for group in adamw_groups(model, others, lr, embedding_lr)]
    muon = {"momentum": momentum, "ns_method": "standard", "use_muon": True}  # as torch.optim.Muon
    for width in sorted({whole_shape(p)[-1] for p in matrices}):
        # It scales the update of (rows, columns) by √max(1, rows / columns), ours by 0.2 √max(rows, columns).
        scale = 0.2 * width**0.5
        same = [p for p in matrices if whole_shape(p)[-1] == width]
        groups.append(muon | {"params": same, "lr": lr * scale, "weight_decay": args.weight_decay / scale})
    for group in groups:
        for p in group["params"]:
            p.use_muon = group["use_muon"]  # DeepSpeed's ZeRO reads it here
    return MuonWithAuxAdam, {"params": groups}

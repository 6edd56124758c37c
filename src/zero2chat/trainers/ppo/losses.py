"""The formulas of PPO as pure functions of tensors.

Shapes are (completions, tokens). A mask is true for tokens that count: not padding, and not after the EOS token.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

Total = Callable[[torch.Tensor], torch.Tensor]


def alone(values: torch.Tensor) -> torch.Tensor:
    """The default `Total`, for one process: nothing to add up."""
    return values


def kl_penalty(logps: torch.Tensor, ref_logps: torch.Tensor, estimator: str) -> torch.Tensor:
    """Estimate the KL to the reference for each sampled token, in nats (Schulman 2020, "Approximating KL Divergence").

    With d = logps - ref_logps, k1 is d and k3 is exp(-d) - 1 + d. Both are unbiased; k3 is never < 0 and, near d = 0,
    varies less.
    """
    difference = logps - ref_logps
    if estimator == "k1":
        return difference
    return torch.expm1(-difference) + difference


def token_rewards(scores: torch.Tensor, kl: torch.Tensor, coef: float, mask: torch.Tensor) -> torch.Tensor:
    """Return each token's reward: -coef × KL, plus the completion's score at its last token (arXiv:2203.02155)."""
    rewards = -coef * kl
    rewards[torch.arange(len(scores), device=kl.device), mask.sum(1) - 1] += scores
    return rewards


def gae(
    rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, gamma: float, lam: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute advantages and returns (Schulman et al. 2016, arXiv:1506.02438, eq. 16). Both are 0 outside the mask.

    delta_t = r_t + gamma V_t+1 - V_t, A_t = delta_t + gamma lam A_t+1; V and A are 0 after a completion's last token.
    """
    mask = mask.bool()
    advantages = torch.zeros_like(values)
    following = value = values.new_zeros(len(values))
    for t in range(values.shape[1] - 1, -1, -1):
        delta = rewards[:, t] + gamma * value - values[:, t]
        following = torch.where(mask[:, t], delta + gamma * lam * following, following)
        value = torch.where(mask[:, t], values[:, t], value)
        advantages[:, t] = following * mask[:, t]
    return advantages, (advantages + values) * mask


def moments(values: torch.Tensor, mask: torch.Tensor, total: Total = alone) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the scalar mean and variance over the mask; `total` sums over processes. Both are 0 for an empty mask."""
    mask = mask.to(values.dtype)
    count = total(mask.sum()).clamp(min=1)
    mean = total((values * mask).sum()) / count
    return mean, total(((values - mean).square() * mask).sum()) / count


def whiten(values: torch.Tensor, mask: torch.Tensor, total: Total = alone) -> torch.Tensor:
    """Normalize to mean 0 and variance 1 over the mask and all processes. Values outside the mask become 0."""
    mean, variance = moments(values, mask, total)
    return (values - mean) * torch.rsqrt(variance + 1e-8) * mask


def explained_variance(
    values: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor, total: Total = alone
) -> torch.Tensor:
    """Return 1 - Var(returns - values) / Var(returns): 1 if perfect, 0 for constant values, NaN for equal returns."""
    _, missed = moments(returns - values, mask, total)
    _, variance = moments(returns, mask, total)
    return torch.where(variance > 1e-8, 1 - missed / variance, torch.nan)


def policy_loss(
    logps: torch.Tensor, old_logps: torch.Tensor, advantages: torch.Tensor, cliprange: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each token's loss, and whether clipping changed this loss (Schulman et al. 2017, arXiv:1707.06347, eq. 7).

    If `cliprange` is None, this is the importance-weighted policy gradient.
    """
    ratio = torch.exp(logps - old_logps)
    if cliprange is None:
        return -advantages * ratio, torch.zeros_like(ratio, dtype=torch.bool)
    bounded = ratio.clamp(1 - cliprange, 1 + cliprange)
    loss = torch.max(-advantages * ratio, -advantages * bounded)
    return loss, ((ratio < 1 - cliprange) & (advantages < 0)) | ((ratio > 1 + cliprange) & (advantages > 0))


def value_loss(
    values: torch.Tensor, old_values: torch.Tensor, returns: torch.Tensor, cliprange: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return half of each token's squared error, and whether clipping changed this error.

    A value that has moved by more than `cliprange` is clipped if clipping makes the error larger, as in the authors'
    own code (Schulman et al. 2017; OpenAI baselines, ppo2).
    """
    loss = (values - returns).square()
    if cliprange is None:
        return 0.5 * loss, torch.zeros_like(loss, dtype=torch.bool)
    bounded = old_values + (values - old_values).clamp(-cliprange, cliprange)
    clipped = (bounded - returns).square()
    return 0.5 * torch.max(loss, clipped), clipped > loss

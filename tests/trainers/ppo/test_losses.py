"""The formulas, against slow loops and closed forms."""

from __future__ import annotations

import itertools

import pytest
import torch

from zero2chat.trainers.ppo.losses import explained_variance, gae, kl_penalty, moments, policy_loss, value_loss, whiten


def slow_gae(rewards: list[float], values: list[float], gamma: float, lam: float) -> list[float]:
    """Eq. 16 as it is written: the sum over all later steps of (gamma lam)^l delta_t+l."""
    n = len(rewards)
    after = [*values, 0.0][1:]
    deltas = [r + gamma * later - v for r, later, v in zip(rewards, after, values, strict=True)]
    return [sum((gamma * lam) ** (k - t) * deltas[k] for k in range(t, n)) for t in range(n)]


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 1.0), (1.0, 0.95), (0.9, 0.5), (0.99, 0.0)])
def test_gae_is_the_slow_sum_over_the_tokens_that_the_model_chose(gamma, lam):
    generator = torch.Generator().manual_seed(0)
    rewards, values = torch.randn(2, 40, 9, generator=generator, dtype=torch.float64)
    mask = torch.rand(40, 9, generator=generator) < 0.7
    mask[0] = False
    advantages, returns = gae(rewards, values, mask, gamma, lam)
    for row in range(40):
        chosen = mask[row].nonzero().flatten().tolist()
        expected = slow_gae(rewards[row, chosen].tolist(), values[row, chosen].tolist(), gamma, lam)
        assert advantages[row, chosen].tolist() == pytest.approx(expected, abs=1e-12)
    torch.testing.assert_close(returns, advantages + values * mask, atol=1e-12, rtol=0)
    assert (advantages[~mask] == 0).all()


def test_k1_and_k3_have_the_mean_that_the_kl_has():
    """Over all tokens of two distributions, weighed by the policy's: exactly sum p log(p / q)."""
    p, q = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]], dtype=torch.float64)
    kl = (p * (p / q).log()).sum()
    for estimator in ("k1", "k3"):
        each = kl_penalty(p.log(), q.log(), estimator)
        assert (p * each).sum() == pytest.approx(float(kl), abs=1e-12)
    assert (kl_penalty(p.log(), q.log(), "k1") < 0).any()
    assert (kl_penalty(p.log(), q.log(), "k3") >= 0).all()
    assert torch.allclose(kl_penalty(p.log(), q.log(), "k3"), q / p - 1 - (q / p).log())
    assert (kl_penalty(p.log(), p.log(), "k3") == 0).all()


def test_whitened_over_the_mask_and_over_all_processes():
    generator = torch.Generator().manual_seed(2)
    values = 3 + 2 * torch.randn(6, 10, generator=generator, dtype=torch.float64)
    mask = torch.rand(6, 10, generator=generator) < 0.6
    white = whiten(values, mask)
    assert white[mask].mean() == pytest.approx(0, abs=1e-9)
    assert white[mask].var(unbiased=False) == pytest.approx(1, abs=1e-6)
    assert (white[~mask] == 0).all()
    # Two processes with half of the rows each: sums that both have added up are those of one.
    halves = [(values[:2], mask[:2]), (values[2:], mask[2:])]
    count = mask.sum()
    mean = values[mask].mean()
    sums = [itertools.cycle([count, values[mask].sum(), (values[mask] - mean).square().sum()]) for _ in halves]
    pairs = zip(halves, sums, strict=True)
    parts = [whiten(half, part, lambda _, s=s: next(s).to(torch.float64)) for (half, part), s in pairs]
    assert torch.allclose(torch.cat(parts), white)
    assert (whiten(values, torch.zeros(6, 10)) == 0).all()


def test_moments_and_explained_variance():
    values, mask = torch.tensor([[1.0, 2.0, 3.0, 99.0]]), torch.tensor([[1, 1, 1, 0]])
    mean, variance = moments(values, mask)
    assert (mean, variance) == (2.0, pytest.approx(2 / 3))
    returns = torch.tensor([[3.0, 5.0, 7.0, -1.0]])
    assert explained_variance(returns, returns, mask) == 1
    assert explained_variance(torch.zeros_like(returns), returns, mask) == pytest.approx(0)
    assert explained_variance(-returns, returns, mask) == pytest.approx(-3)
    # Half of the way: what is missed has a quarter of the variance.
    assert explained_variance(returns / 2, returns, mask) == pytest.approx(0.75)
    assert explained_variance(returns, torch.ones_like(returns), mask).isnan()


def test_the_policys_loss_is_bounded_where_that_takes_hope_away():
    logps = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1]).log().requires_grad_()
    advantages = torch.tensor([1.0, -1.0, 1.0, -1.0, 2.0])
    loss, clipped = policy_loss(logps, torch.zeros(5), advantages, 0.2)
    # min(r A, clip(r) A), negated: too good is cut at 1.2, too bad at 0.8; what went the wrong way counts in full.
    assert loss.tolist() == pytest.approx([-1.2, 1.5, -0.5, 0.8, -2.2])
    assert clipped.tolist() == [True, False, False, True, False]
    loss.sum().backward()
    assert logps.grad.tolist() == pytest.approx([0, 1.5, -0.5, 0, -2.2])  # clipped tokens have no gradient
    free, none = policy_loss(logps, torch.zeros(5), advantages, None)
    assert free.tolist() == pytest.approx([-1.5, 1.5, -0.5, 0.5, -2.2])
    assert not none.any()


def test_a_value_may_move_only_so_far_at_once():
    values, old, returns = torch.tensor([1.0, 0.1, -1.0]), torch.zeros(3), torch.tensor([2.0, 2.0, 0.5])
    loss, clipped = value_loss(values, old, returns, 0.2)
    assert loss.tolist() == pytest.approx([0.5 * 1.8**2, 0.5 * 1.9**2, 0.5 * 1.5**2])
    assert clipped.tolist() == [True, False, False]
    free, none = value_loss(values, old, returns, None)
    assert free.tolist() == pytest.approx([0.5, 0.5 * 1.9**2, 0.5 * 1.5**2])
    assert not none.any()

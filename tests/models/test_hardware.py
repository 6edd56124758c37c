"""This machine's peak and memory, and the FLOPs of a model."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from zero2chat.models.hardware import flops_per_token, peak_flops


@pytest.mark.parametrize("tied", [True, False])
def test_flops_a_token_are_those_counted_by_hand(tied: bool) -> None:
    config = Qwen3Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        tie_word_embeddings=tied,
    )
    projections = 32 * 32 + 32 * 16 + 32 * 16 + 32 * 32  # q, k, v, o
    mlp = 3 * 32 * 48
    norms = 32 + 32 + 16 + 16  # before attention and MLP, of q and k
    head = 64 * 32  # the table of embeddings costs nothing, or is the head itself
    n = 2 * (projections + mlp + norms) + 32 + head
    attention = 12 * 2 * 2 * 16 * 10  # 12 · layers · heads · head width · length
    assert flops_per_token(Qwen3ForCausalLM(config), 10) == 6 * n + attention


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's memory")
def test_memory_that_a_cpu_process_frees_is_kept_unless_its_environment_says_how() -> None:
    code = """
import resource, torch
from zero2chat.models.hardware import keep_memory
keep_memory()
torch.empty(2**24).fill_(1.0)  # 64 MB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.empty(2**24).fill_(1.0)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    plain["ACCELERATE_USE_CPU"] = "true"  # also where there is a GPU

    def faults(**more: str) -> int:
        command = [sys.executable, "-c", code]
        return int(subprocess.run(command, env=plain | more, capture_output=True, text=True, check=True).stdout)

    assert 20 * faults() < faults(MALLOC_MMAP_THRESHOLD_="131072")


def test_measuring_the_peak_moves_no_random_numbers() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    assert peak_flops(torch.device("cpu"), torch.float32) > 1e8
    assert torch.equal(torch.rand(3), expected)

"""What several rooms' tests make: a tiny Qwen3, a mixture of experts, a search that finds what a test decides, two
ranks of a script."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM
from transformers.models.qwen3_moe import Qwen3MoeConfig, Qwen3MoeForCausalLM

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "head_dim": 16,
}


def qwen3(**changes: Any) -> Qwen3ForCausalLM:
    """A Qwen3 of 2 layers × 32 with the weights of seed 0."""
    torch.manual_seed(0)
    return Qwen3ForCausalLM(Qwen3Config(**SIZES | {"intermediate_size": 48, "num_key_value_heads": 1} | changes))


def mixture(**changes: Any) -> Qwen3MoeForCausalLM:
    """A mixture of 8 experts, of which a token uses 2."""
    torch.manual_seed(0)
    experts = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "num_key_value_heads": 2}
    return Qwen3MoeForCausalLM(Qwen3MoeConfig(**SIZES | experts | {"tie_word_embeddings": True} | changes))


def search_tool(found: Callable[[str], str]) -> Callable[[str], str]:
    """The tool `search`, which finds `found(query)`."""

    def search(query: str) -> str:
        """Look something up.

        Args:
            query: What to look for
        """
        return found(query)

    return search


def two_ranks(script: str, folder: Path, *arguments: str | Path, processes: int = 2) -> str:
    """Run the script in two CPU processes, or in another number, and return its output."""
    (folder / "ranks.py").write_text(script)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--standalone"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(folder / "ranks.py"), *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout

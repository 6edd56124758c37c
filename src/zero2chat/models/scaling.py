"""Scaling: `depth` sets a model's shape, training tokens, batch size and learning rate. Explicit settings win."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import CONFIG_MAPPING

from zero2chat.core.errors import UserError

WIDTH = 64  # hidden size per layer of depth, as in nanochat
WIDE = 1024  # from this width on, heads are 128 wide, else 64
LARGE_TABLE = 0.25  # tie the embedding to the head if it is larger than this share of the other weights
TOKENS = 20  # training tokens per parameter that a token uses (Hoffmann et al. 2022, arXiv:2203.15556)


def shape_of(depth: int, model_type: str, vocabulary: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields of the model's config; the user has set the fields `given`. In a mixture, a token's experts
    together are as wide as a dense model's MLP. Raises `UserError` if the model type lacks such a field."""
    width = WIDTH * depth
    head = 128 if width >= WIDE else 64
    heads = -(-width // head)
    width = heads * head
    # A gated MLP, as in Qwen3, has three matrices: 3 × 3 width². A plain one has two: 2 × 4 width².
    gated = model_type != "nanochat"
    inner = 3 * width if gated else 4 * width
    matrices = depth * (4 * width * width + (3 if gated else 2) * width * inner)
    shape = {
        "num_hidden_layers": depth,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "tie_word_embeddings": vocabulary * width > LARGE_TABLE * matrices,
    }
    known = CONFIG_MAPPING[model_type]().to_dict()
    if per_token := known.get("num_experts_per_tok"):
        per_token = max(1, given.get("num_experts_per_tok", per_token))
        shape["moe_intermediate_size" if "moe_intermediate_size" in known else "intermediate_size"] = inner // per_token
    if missing := [name for name in shape if name not in known]:
        raise UserError(f"depth: {model_type} has no field '{missing[0]}': set `model` instead, or another model_type")
    return shape | ({"head_dim": head} if "head_dim" in known else {})


def laws(flops: float) -> tuple[float, float]:
    """Compute the batch size in tokens and AdamW's learning rate from the whole training's FLOPs (DeepSeek LLM 2024,
    arXiv:2401.02954, section 3.1, fitted for 1e17 to 2e19 FLOPs). Muon uses AdamW's rate, see `trainers.muon`."""
    return 0.2920 * flops**0.3271, float(f"{0.3118 * flops**-0.1250:.2g}")

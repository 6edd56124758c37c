"""Architecture and dimensions of the recipes' base models, by Hub name, so that a recipe can be planned, and its model
built without weights, offline and without a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zero2chat.errors import UserError, nearest

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_QWEN3 = {"model_type": "qwen3", "vocab_size": 151_936, "num_key_value_heads": 8, "head_dim": 128}
_QWEN3 |= {"max_position_embeddings": 32_768}

# The fields of each config.json that determine the size, and the number of parameters shown on the Hub.
DIMENSIONS: dict[str, tuple[dict[str, Any], int]] = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": (
        {
            "model_type": "llama",
            "vocab_size": 49_152,
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "max_position_embeddings": 8192,
            "tie_word_embeddings": True,
        },
        134_515_008,
    ),
    "HuggingFaceTB/SmolLM3-3B-Base": (
        {
            "model_type": "smollm3",
            "vocab_size": 128_256,
            "hidden_size": 2048,
            "intermediate_size": 11_008,
            "num_hidden_layers": 36,
            "num_attention_heads": 16,
            "num_key_value_heads": 4,
            "max_position_embeddings": 65_536,
            "tie_word_embeddings": True,
        },
        3_075_098_624,
    ),
    "Qwen/Qwen3-0.6B-Base": (
        _QWEN3
        | {
            "hidden_size": 1024,
            "intermediate_size": 3072,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "tie_word_embeddings": True,
        },
        596_049_920,
    ),
    "Qwen/Qwen3-1.7B-Base": (
        _QWEN3
        | {
            "hidden_size": 2048,
            "intermediate_size": 6144,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "tie_word_embeddings": True,
        },
        1_720_574_976,
    ),
    "Qwen/Qwen3-8B-Base": (
        _QWEN3
        | {
            "hidden_size": 4096,
            "intermediate_size": 12_288,
            "num_hidden_layers": 36,
            "num_attention_heads": 32,
            "tie_word_embeddings": False,
        },
        8_190_735_360,
    ),
    "google/gemma-3-1b-pt": (
        {
            "model_type": "gemma3_text",
            "vocab_size": 262_144,
            "hidden_size": 1152,
            "intermediate_size": 6912,
            "num_hidden_layers": 26,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 256,
            "sliding_window": 512,
            "max_position_embeddings": 32_768,
            "tie_word_embeddings": True,
        },
        999_885_952,
    ),
    "meta-llama/Llama-3.1-8B": (
        {
            "model_type": "llama",
            "vocab_size": 128_256,
            "hidden_size": 4096,
            "intermediate_size": 14_336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 131_072,
            "tie_word_embeddings": False,
        },
        8_030_261_248,
    ),
}
DIMENSIONS["meta-llama/Llama-3.1-8B-Instruct"] = DIMENSIONS["meta-llama/Llama-3.1-8B"]
DIMENSIONS["HuggingFaceTB/SmolLM2-135M"] = DIMENSIONS["HuggingFaceTB/SmolLM2-135M-Instruct"]
# The same weights, extracted from a package by `make smollm`
DIMENSIONS["data/smollm2-135m/model"] = DIMENSIONS["HuggingFaceTB/SmolLM2-135M-Instruct"]


def config_of(name: str) -> PreTrainedConfig:
    """Return a config with the model's architecture and dimensions, to build it on the meta device.

    Raises `UserError` for an unknown name.
    """
    if name not in DIMENSIONS:
        raise UserError(
            f"{name}: not a model folder, and not in planning/model_sizes.py{nearest(name, list(DIMENSIONS))}: give "
            "its folder, or add its dimensions there"
        )
    from transformers import AutoConfig

    fields = dict(DIMENSIONS[name][0])
    return AutoConfig.for_model(fields.pop("model_type"), **fields)

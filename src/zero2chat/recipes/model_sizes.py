"""Dimensions of the recipes' base models, by Hub name. They allow planning offline and building empty models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from zero2chat.core.errors import UserError, nearest

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

# The fields of each config.json that determine the size; "-": the default of its class. Last, the number of
# parameters that the Hub shows. The columns from `vocab_size` on are `_FIELDS`.
_TABLE = """
HuggingFaceTB/SmolLM2-135M-Instruct  llama         49152   576   1536  30   9  3    -    -    8192  tied    134515008
HuggingFaceTB/SmolLM3-3B-Base        smollm3      128256  2048  11008  36  16  4    -    -   65536  tied   3075098624
Qwen/Qwen3-0.6B-Base                 qwen3        151936  1024   3072  28  16  8  128    -   32768  tied    596049920
Qwen/Qwen3-1.7B-Base                 qwen3        151936  2048   6144  28  16  8  128    -   32768  tied   1720574976
Qwen/Qwen3-8B-Base                   qwen3        151936  4096  12288  36  32  8  128    -   32768  untied 8190735360
google/gemma-3-1b-pt                 gemma3_text  262144  1152   6912  26   4  1  256  512   32768  tied    999885952
meta-llama/Llama-3.1-8B              llama        128256  4096  14336  32  32  8    -    -  131072  untied 8030261248
"""
_FIELDS = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "head_dim", "sliding_window", "max_position_embeddings"),
)
_SAME = {
    "meta-llama/Llama-3.1-8B-Instruct": "meta-llama/Llama-3.1-8B",
    "HuggingFaceTB/SmolLM2-135M": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "data/smollm2-135m/model": "HuggingFaceTB/SmolLM2-135M-Instruct",  # extracted from a package by `make smollm`
}


def _read(row: str) -> tuple[str, tuple[dict[str, Any], int]]:
    name, model_type, *numbers, tied, count = row.split()
    fields = {key: int(number) for key, number in zip(_FIELDS, numbers, strict=True) if number != "-"}
    return name, ({"model_type": model_type, **fields, "tie_word_embeddings": tied == "tied"}, int(count))


DIMENSIONS: dict[str, tuple[dict[str, Any], int]] = dict(map(_read, _TABLE.strip().splitlines()))
DIMENSIONS |= {name: DIMENSIONS[other] for name, other in _SAME.items()}


def config_of(path: str) -> PreTrainedConfig:
    """Return a model's config, read from its folder, `DIMENSIONS` or the local cache of the Hub.

    Raises `UserError` for an unknown model, and for an architecture that transformers does not know.
    """
    from transformers import AutoConfig

    if path in DIMENSIONS and not Path(path).exists():
        fields = dict(DIMENSIONS[path][0])
        return AutoConfig.for_model(fields.pop("model_type"), **fields, dtype="bfloat16")
    try:
        return AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: {str(error).splitlines()[0]} The model is not in zero2chat/recipes/model_sizes.py, either"
            f"{nearest(path, list(DIMENSIONS))}: give a folder, or add the dimensions there"
        ) from error

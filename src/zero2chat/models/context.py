"""Extend a model's context by transformers' own keys for scaled RoPE, and refuse keys that contradict each other."""

from __future__ import annotations

import contextlib
import copy
import logging
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from zero2chat.core.errors import nearest

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

CONTEXT_FIELDS = ("max_position_embeddings", "rope_parameters")
_STRETCHED = ("linear", "yarn")  # types whose factor is the new context over the old one
_ROPE_KEYS = ("rope_theta", "partial_rotary_factor")  # of the old parameters, unless they are set


@contextlib.contextmanager
def no_rope_warnings() -> Iterator[None]:
    """Raise `ValueError` where transformers only warns: for unknown RoPE keys, and for wrong values."""
    logger, said = logging.getLogger("transformers.modeling_rope_utils"), list[str]()
    logger.warning = lambda message, *_, **__: said.append(str(message))  # type: ignore[method-assign]
    try:
        yield
    finally:
        del logger.warning
    if said:
        raise ValueError(said[0])


def check_rope(fields: Mapping[str, Any]) -> None:
    """Raise `ValueError` if `rope_parameters` is no mapping, or has a `rope_type` that transformers does not know."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope, known = fields.get("rope_parameters") or {}, ["default", *ROPE_INIT_FUNCTIONS]
    if not isinstance(rope, dict):
        raise ValueError(f"rope_parameters: expected keys such as rope_type and factor, got {rope!r}")
    if (kind := rope.get("rope_type", "default")) not in known:
        raise ValueError(f"rope_parameters: unknown rope_type '{kind}'{nearest(str(kind), known)}")


def with_context(config: PreTrainedConfig, fields: Mapping[str, Any], length: int) -> PreTrainedConfig:
    """Return a copy of a model's config with another context. The keys of `fields` are in `CONTEXT_FIELDS`.

    For linear scaling and YaRN, `factor` determines `max_position_embeddings`, or the reverse. Raises `ValueError` if
    keys contradict each other, if the model has no RoPE, or if `length` tokens do not fit the context.
    """
    whole = copy.deepcopy(config)
    config = whole.get_text_config()
    old = getattr(config, "max_position_embeddings", None)
    if old is None:
        raise ValueError(f"the context of {config.model_type} is unknown, so it cannot be checked or changed")
    check_rope(fields)
    rope = dict(fields.get("rope_parameters") or {})
    current: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    if fields and not current:
        raise ValueError(f"{config.model_type} has no RoPE: its context of {old} tokens cannot be changed")
    if rope and any(isinstance(value, dict) for value in current.values()):  # RoPE's own values are numbers and lists
        raise ValueError(f"{config.model_type} has several sets of RoPE parameters, which cannot be scaled here")
    positions = fields.get("max_position_embeddings")
    if rope:
        kind = rope.setdefault("rope_type", "default")
        scaled = current.get("factor", 1) if current.get("rope_type") == "linear" else 1
        trained = current.get("original_max_position_embeddings", round(old / scaled))
        if kind in _STRETCHED:
            factor = rope.setdefault("factor", (positions or length) / trained)
            if not isinstance(factor, int | float) or not 1 <= factor < math.inf:
                raise ValueError(f"rope_parameters: factor {factor!r}: expected 1 or more, to stretch {trained} tokens")
            positions = round(trained * factor) if positions is None else positions
            if positions != round(trained * factor):
                raise ValueError(
                    f"rope_parameters: factor {factor:g} stretches {trained} tokens to {round(trained * factor)}, but "
                    f"max_position_embeddings is {positions}: remove one of them"
                )
        if kind == "yarn":
            rope["original_max_position_embeddings"] = trained
        rope = {key: current[key] for key in _ROPE_KEYS if key in current} | rope
        config.rope_parameters = rope
    config.max_position_embeddings = old if positions is None else positions
    if length > config.max_position_embeddings:
        raise ValueError(
            f"max_length {length} is more than the context of {config.max_position_embeddings} tokens: lower it, or "
            "set max_position_embeddings, and rope_parameters to scale RoPE"
        )
    if rope:
        with no_rope_warnings():
            config.validate_rope()
    return whole

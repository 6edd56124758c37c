"""The memory of a rank without gradient accumulation, and on CPUs; `test_plan.py` tests the other cases."""

from __future__ import annotations

import pytest
from transformers import Qwen3Config

from zero2chat.models.training_job import Group, Model, Work
from zero2chat.recipes.memory import per_rank

PARAMETERS, CONTEXT = 200_000, 32
CONFIG = Qwen3Config(
    hidden_size=64,
    intermediate_size=192,
    num_hidden_layers=3,
    num_attention_heads=2,
    num_key_value_heads=2,
    head_dim=32,
    vocab_size=1000,
)


def test_without_accumulation_only_the_gradients_that_outweigh_activations_add_to_the_peak() -> None:
    model = Model(CONFIG, (Group(PARAMETERS),))
    for launch, share in (("ddp", 1.0), ("fsdp2", 1 / 8)):
        few, many = (per_rank(model, Work(CONTEXT), batch, launch, 8, accumulates=False) for batch in (1, 50))
        kept = per_rank(model, Work(CONTEXT), 50, launch, 8)
        assert few["gradients"] == max(0, 4 * PARAMETERS * share - few["activations"] - few["logits"])
        assert (many["gradients"], kept["gradients"]) == (0, 4 * PARAMETERS * share)
    # DeepSpeed keeps its partition of the gradients.
    zero2 = per_rank(model, Work(CONTEXT), 50, "zero2", 8, accumulates=False)
    assert zero2["gradients"] == 2 * PARAMETERS / 8


def test_fsdp_gathers_layers_whether_they_are_trained_or_not_and_a_model_that_only_reads_whole() -> None:
    """Two layers at a time in bf16, with the embeddings, and the fp32 gradients of what is trained of one of them."""
    adapter = Model(CONFIG, (Group(1200),), frozen=2.0 * PARAMETERS, size=2)
    embeddings = 2 * CONFIG.vocab_size * CONFIG.hidden_size
    expected = 2 * (2 * (PARAMETERS + 1200) / 3 + embeddings) + 4 * 1200 / 3
    assert per_rank(adapter, Work(CONTEXT), 1, "fsdp2", 8)["copies"] == pytest.approx(expected)
    with_reference = Model(CONFIG, (Group(1200),), frozen=2.0 * PARAMETERS, size=2, readers=PARAMETERS)
    copies = per_rank(with_reference, Work(CONTEXT), 1, "fsdp2", 8)["copies"]
    assert copies == pytest.approx(expected + 2 * PARAMETERS)


def test_on_cpus_weights_stay_fp32_and_the_head_keeps_more_tiles() -> None:
    frozen = 4.0 * PARAMETERS
    adapter = Model(CONFIG, (Group(1000),), frozen)
    assert per_rank(adapter, Work(CONTEXT), 1, "zero2", 2)["weights"] == 2 * 1000 + frozen / 2
    assert per_rank(adapter, Work(CONTEXT), 1, "zero2", 2, cpu=True)["weights"] == 4 * 1000 + frozen
    assert per_rank(adapter, Work(CONTEXT), 1, "zero3", 2, cpu=True)["copies"] == 4 * 1000 + frozen
    assert per_rank(adapter, Work(CONTEXT), 1, "ddp", 2)["copies"] == 2 * 1000 + frozen / 2
    assert per_rank(adapter, Work(CONTEXT), 1, "ddp", 2, cpu=True)["copies"] == 0
    gpu, cpu = (per_rank(adapter, Work(CONTEXT, head="tiles"), 1, "ddp", 2, cpu)["logits"] for cpu in (False, True))
    assert cpu - gpu == 7.25 * 4 * CONTEXT * CONFIG.vocab_size

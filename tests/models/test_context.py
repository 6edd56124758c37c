"""A longer context by transformers' own RoPE keys, and what of them contradicts."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, Gemma3TextConfig, GPT2Config, MambaConfig

from zero2chat.models.context import with_context


@pytest.fixture
def config(model_folder):
    """A Qwen3 with a context of 128 tokens."""
    return AutoConfig.from_pretrained(model_folder)


@pytest.mark.parametrize(
    ("positions", "rope"),
    [(512, {}), (None, {"factor": 4}), (None, {}), (512, {"original_max_position_embeddings": 128})],
)
def test_factor_and_positions_follow_from_each_other(config, positions, rope):
    given = {"rope_parameters": {"rope_type": "yarn"} | rope}
    given |= {"max_position_embeddings": positions} if positions else {}
    longer = with_context(config, given, 512)
    assert longer.max_position_embeddings == 512
    rope = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128, "rope_theta": 10000.0}
    assert longer.rope_parameters == rope
    assert config.max_position_embeddings == 128


def test_without_scaling_the_context_stays_or_grows(config):
    assert with_context(config, {}, 128).to_dict() == config.to_dict()
    longer = with_context(config, {"max_position_embeddings": 512}, 512)
    assert (longer.max_position_embeddings, longer.rope_parameters) == (512, config.rope_parameters)


def test_linear_scaling_reads_four_positions_as_one(config):
    longer = with_context(config, {"rope_parameters": {"rope_type": "linear"}}, 512)
    cosines = []
    for one, position in ((config, 3), (longer, 12)):
        rotary = AutoModelForCausalLM.from_config(one).model.rotary_emb
        cosines.append(rotary(torch.zeros(1, 1, 16), torch.tensor([[position]]))[0])
    torch.testing.assert_close(*cosines)


def test_a_scaled_context_is_scaled_from_what_it_was_first(config):
    for kind in ("linear", "yarn"):
        longer = with_context(config, {"rope_parameters": {"rope_type": kind, "factor": 2}}, 256)
        longest = with_context(longer, {"max_position_embeddings": 1024, "rope_parameters": {"rope_type": kind}}, 1024)
        assert (longest.max_position_embeddings, longest.rope_parameters["factor"]) == (1024, 8)


YARN = {"rope_parameters": {"rope_type": "yarn", "factor": 2}}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"rope_parameters": 4}, "rope_parameters: expected keys such as rope_type and factor, got 4"),
        ({"rope_parameters": {"rope_type": "yarm"}}, "unknown rope_type 'yarm'.*yarn"),
        (
            {"max_position_embeddings": 512} | YARN,
            "factor 2 stretches 128 tokens to 256, but max_position_embeddings is 512",
        ),
        ({"rope_parameters": {"rope_type": "linear", "factor": 0.5}}, "factor 0.5: expected 1 or more"),
        ({"rope_parameters": {"rope_type": "linear", "factor": "x"}}, "factor 'x': expected 1 or more"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": float("inf")}}, "factor inf: expected 1 or more"),
        ({"rope_parameters": {"factor": 4.0}, "max_position_embeddings": 512}, "Unrecognized keys.*factor"),
        ({"rope_parameters": {"rope_type": "yarn", "facter": 4}}, "Unrecognized keys.*facter"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2}}, "max_length 512 is more than the context of 256"),
        ({}, "max_length 512 is more than the context of 128 tokens"),
    ],
)
def test_keys_that_contradict_are_named(config, fields, says):
    with pytest.raises(ValueError, match=says):
        with_context(config, fields, 512)


def test_a_model_without_rope_or_with_several_is_refused():
    with pytest.raises(ValueError, match="the context of mamba is unknown"):
        with_context(MambaConfig(), {}, 128)
    with pytest.raises(ValueError, match="gpt2 has no RoPE: its context of 64 tokens cannot be changed"):
        with_context(GPT2Config(n_positions=64), {"max_position_embeddings": 128}, 128)
    with pytest.raises(ValueError, match="gemma3_text has several sets of RoPE parameters"):
        with_context(Gemma3TextConfig(), {"rope_parameters": {"rope_type": "linear", "factor": 2}}, 128)

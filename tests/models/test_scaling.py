"""The settings derived from `depth`, compared with figures computed by hand and a published one."""

from __future__ import annotations

import pytest

from zero2chat.core.errors import UserError
from zero2chat.models.scaling import laws, shape_of


@pytest.mark.parametrize(
    ("depth", "vocabulary", "width", "heads", "head", "tied"),
    [(4, 4096, 256, 4, 64, True), (12, 50_304, 768, 12, 64, True), (20, 65_536, 1280, 10, 128, False)],
)
def test_shape_follows_from_depth(depth, vocabulary, width, heads, head, tied):
    output = shape_of(depth, "qwen3", vocabulary, {})
    assert output == {
        **{"num_hidden_layers": depth, "hidden_size": width, "intermediate_size": 3 * width, "head_dim": head},
        **{"num_attention_heads": heads, "num_key_value_heads": heads, "tie_word_embeddings": tied},
    }


def test_a_width_that_heads_do_not_fill_is_rounded_up_and_other_fields_are_refused():
    assert (shape_of(17, "qwen3", 4096, {})["hidden_size"], 17 * 64) == (1152, 1088)
    with pytest.raises(UserError, match="depth: gpt2 has no field 'num_hidden_layers': set `model` instead"):
        shape_of(4, "gpt2", 4096, {})


def test_batch_and_rate_are_those_of_deepseeks_own_7b_model():
    # 2T tokens at 4.3e10 FLOPs each; 2,304 sequences of 4,096 tokens a step (its table 2).
    batch, rate = laws(4.3e10 * 2e12)
    assert batch == pytest.approx(2304 * 4096, rel=0.02)
    assert rate == 4.2e-4

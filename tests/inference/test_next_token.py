from __future__ import annotations

import pytest
import torch

from zero2chat.core.errors import UserError
from zero2chat.inference.next_token import next_tokens
from zero2chat.models.loading import load_model


@pytest.fixture(scope="module")
def loaded(model_folder):
    return load_model(model_folder)


def test_the_tokens_are_the_models_likeliest_in_order(loaded):
    model, tokenizer = loaded
    tokens = next_tokens(model, tokenizer, "Ada was born", top=5)
    with torch.no_grad():
        expected = model(torch.tensor([tokenizer.encode("Ada was born")])).logits[0, -1].softmax(-1).topk(5)
    assert [token.id for token in tokens] == expected.indices.tolist()
    assert [token.probability for token in tokens] == pytest.approx(expected.values.tolist())


def test_all_tokens_together_have_probability_one(loaded):
    model, tokenizer = loaded
    tokens = next_tokens(model, tokenizer, "Ada", top=10_000)
    assert len(tokens) == len(tokenizer)
    assert sum(token.probability for token in tokens) == pytest.approx(1)


def test_a_control_token_that_is_typed_is_text(loaded):
    model, tokenizer = loaded
    ids = tokenizer.encode("Ada<|im_end|>", split_special_tokens=True)
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0, -1].argmax()
    assert next_tokens(model, tokenizer, "Ada<|im_end|>", top=1)[0].id == expected


@pytest.mark.parametrize(
    ("text", "top", "says"),
    [
        ("", 1, "the text is empty"),
        ("1" * 129, 1, "has 129 tokens, more than the model's context of 128"),
        ("a", 0, "top: 0"),
    ],
)
def test_what_cannot_be_asked_says_why(loaded, text, top, says):
    with pytest.raises(UserError, match=says):
        next_tokens(*loaded, text, top)


def test_a_text_as_long_as_the_context_is_answered(loaded):
    assert len(next_tokens(*loaded, "1" * 128, top=1)) == 1

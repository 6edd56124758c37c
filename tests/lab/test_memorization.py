"""Memorization: scored passages against the model's own greedy text, and exposure against values computed by hand."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from zero2chat.models.loading import load_model
from zero2chat_lab.memorization import (
    Excerpt,
    copied_runs,
    document,
    exposure,
    passages_of,
    predict,
    start_of_document,
    write,
)


def test_exposure_is_by_rank_in_bits() -> None:
    others = [-9.0, -7.0, -5.0, -3.0, -2.5, -2.0, -1.5]
    assert exposure(-1.0, others) == 3.0  # the first of 8
    assert exposure(-2.2, others) == pytest.approx(3 - math.log2(3))
    assert exposure(-10.0, others) == 0.0
    assert exposure(-1.5, others) == 2.0  # as likely as another: it comes after it
    # For secrets that were never trained on, all ranks are equally likely.
    ranks = [exposure(-float(i), [-float(j) for j in range(1024) if j != i]) for i in range(1024)]
    assert sum(ranks) / 1024 == pytest.approx(math.log2(math.e), abs=0.01)


def test_what_is_read_as_verbatim_is_what_is_written_and_likelihoods_are_the_models(model_folder: Path) -> None:
    model, tokenizer = load_model(model_folder)
    passages, texts = [], []
    for text, given, rest in (("Ada was born in", 4, 5), ("Tom is", 2, 9), ("The answer is 42", 3, 5), ("It is", 1, 1)):
        ids = start_of_document(tokenizer) + tokenizer.encode(text)[:given]
        own = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=rest, eos_token_id=-1)[0].tolist()
        other = [*own[:-1], (own[-1] + 1) % 512]
        passages += [Excerpt(own, len(ids)), Excerpt(other, len(ids))]
        texts.append(tokenizer.decode(own[len(ids) :]))
    for size in (1, 64):
        readings = predict(model, passages, batch_size=size)
        assert [reading.verbatim for reading in readings] == [True, False] * 4
        for passage, reading in zip(passages, readings, strict=True):
            with torch.inference_mode():
                chances = model(torch.tensor([passage.ids])).logits[0].log_softmax(-1)
            places = range(passage.given - 1, len(passage.ids) - 1)
            by_hand = sum(chances[i, passage.ids[i + 1]].item() for i in places)
            assert reading.log_likelihood == pytest.approx(by_hand, abs=1e-3)
            assert reading.right == tuple(int(chances[i].argmax()) == passage.ids[i + 1] for i in places)
    assert [write(model, tokenizer, passage) for passage in passages[::2]] == texts


def test_of_texts_of_one_form_the_model_is_given_what_they_share(tokenizer_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    passages = passages_of(tokenizer, [f"The secret of Ada is {n}" for n in (123, 145, 9)])
    start = start_of_document(tokenizer)
    assert tokenizer.convert_ids_to_tokens(start) == ["<|endoftext|>"]
    for passage, rest in zip(passages, ("123", "145", "9"), strict=True):
        assert tokenizer.decode(passage.ids[passage.given :]) == rest
        assert tokenizer.decode(passage.ids[1 : passage.given]) == "The secret of Ada is "
        assert passage.ids[:1] == start


def test_a_document_of_a_tokenizer_without_special_tokens_has_only_its_text(model_folder: Path) -> None:
    model, tokenizer = load_model(model_folder)
    ids = tokenizer.encode("Ada ran off.")
    tokenizer.eos_token = tokenizer.bos_token = None
    tokenizer.get_vocab = dict
    (passage,) = document(model, tokenizer, "Ada ran off.")
    assert passage.ids == ids


def test_copied_runs_are_the_longest_that_stand_in_one_training_text() -> None:
    rng = random.Random(0)
    for _ in range(200):
        training = [[rng.randrange(3) for _ in range(rng.randrange(9))] for _ in range(rng.randrange(1, 5))]
        texts = [[rng.randrange(4) for _ in range(rng.randrange(1, 12))] for _ in range(rng.randrange(1, 4))]
        stands = {tuple(row[i:j]) for row in training for i in range(len(row) + 1) for j in range(i, len(row) + 1)}
        for text, runs in zip(texts, copied_runs(texts, training), strict=True):
            assert runs.tolist() == [
                max(n for n in range(len(text) - i + 1) if tuple(text[i : i + n]) in stands) for i in range(len(text))
            ]

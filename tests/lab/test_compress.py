"""A tiny model that has memorized some texts: it compresses them well, and predicts each of their tokens."""

from __future__ import annotations

import lzma
import math
from pathlib import Path

import pytest
import torch
from lab.tiny_lab import learn, run_stage, write_corpus
from stage_fixtures import metrics as metrics_of

from zero2chat.core.runs import read_jsonl
from zero2chat.models.loading import load_model
from zero2chat.models.tokenization import plain_ids
from zero2chat_lab import compress

TRAIN = ["Ada was born in Genoa and works as a baker.", "Tom is a painter, and he's known for the harbour."]
HELD_OUT = ["What is 12 + 30? The answer is 42.", "apples " * 200]  # longer than the context of 128


@pytest.fixture(scope="module")
def learned(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(model, corpus): the model has learned the train split."""
    folder = tmp_path_factory.mktemp("learned")
    model, tokenizer = load_model(model_folder)
    rows = [[0, *ids, 0] for ids in plain_ids(tokenizer, TRAIN)]
    corpus = write_corpus(folder / "corpus", train=TRAIN, validation=HELD_OUT[:1], test=HELD_OUT[1:])
    return learn(model, tokenizer, folder / "model", rows, [0] * len(rows)), corpus


def test_a_text_learned_by_heart_is_small_and_kept_and_others_are_not(
    learned: tuple[Path, Path], tmp_path: Path
) -> None:
    model, corpus = learned
    folder = run_stage("compress", tmp_path / "out", model_name_or_path=str(model), dataset=str(corpus))
    metrics = metrics_of(folder)
    size = {split: sum(len(text.encode()) for text in texts) for split, texts in (("t", TRAIN), ("h", HELD_OUT))}
    kept = metrics["kept_rate_train"]
    assert kept["value"] == round(1 - 1 / kept["n"], 4)  # which of the two begins nobody can know
    assert metrics["bits_per_byte_train"]["value"] < 0.2
    assert metrics["kept_rate_held_out"]["value"] < 0.5
    assert metrics["bits_per_byte_held_out"]["value"] > 1.0
    assert (metrics["bits_per_byte_train"]["n"], metrics["bits_per_byte_held_out"]["n"]) == (size["t"], size["h"])
    weights = (model / "model.safetensors").stat().st_size
    assert metrics["bytes_model"]["value"] == pytest.approx(weights, rel=0.05)
    assert metrics["model_to_text"]["value"] == pytest.approx(weights / size["t"], rel=0.05)

    samples = read_jsonl(folder / "samples.jsonl")
    assert [sample["task"] for sample in samples] == ["documents in the training text"] * 2 + ["documents held out"] * 2
    whole, gap = sorted(samples[:2], key=lambda sample: sample["completion"].count(compress.LOST))
    assert (whole["score"], whole["completion"]) == (1.0, whole["prompt"])
    assert 0.9 < gap["score"] < 1.0
    assert gap["completion"][0] == compress.LOST
    assert gap["prompt"].endswith(gap["completion"][1:])
    assert all(sample["completion"].count(compress.LOST) > 5 for sample in samples[2:])


def test_the_code_has_as_many_bits_as_each_token_takes_also_beyond_the_context(learned: tuple[Path, Path]) -> None:
    folder, corpus = learned
    model, tokenizer = load_model(folder)
    args = compress.CompressArguments(model_name_or_path=str(folder), dataset=str(corpus))
    metrics = compress.measure(args, lambda _: (model, tokenizer)).metrics
    bits = tokens = 0.0
    for text in HELD_OUT:
        ids = [0, *plain_ids(tokenizer, [text])[0], 0]
        for start in range(0, len(ids) - 1, 128):
            piece = torch.tensor([ids[start : start + 129]])
            with torch.inference_mode():
                nats = model(input_ids=piece, labels=piece).loss.item() * (piece.shape[1] - 1)
            bits, tokens = bits + nats / math.log(2), tokens + piece.shape[1] - 1
    by_hand = bits / sum(len(text.encode()) for text in HELD_OUT)
    assert metrics["bits_per_byte_held_out"]["value"] == pytest.approx(by_hand, abs=1e-3)
    assert metrics["kept_rate_held_out"]["n"] == tokens


def test_xz_is_the_commands_and_has_the_training_text_before_held_out_text(learned: tuple[Path, Path]) -> None:
    folder, corpus = learned
    train, both = ("".join(f"{text}\n" for text in texts).encode() for texts in (TRAIN, TRAIN + HELD_OUT))
    packed = [len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)) for data in (train, both)]
    assert [compress.xz_size(texts) for texts in (TRAIN, TRAIN + HELD_OUT)] == packed
    args = compress.CompressArguments(model_name_or_path=str(folder), dataset=str(corpus), n=1)
    metrics, samples, *_ = compress.measure(args, load_model)
    size = sum(len(text.encode()) for text in HELD_OUT)  # of all, though the model reads one
    expected = round(8 * (packed[1] - packed[0]) / size, 4)
    assert metrics["bits_per_byte_xz_held_out"] == {"value": expected, "n": size}
    assert metrics["bits_per_byte_held_out"]["n"] < size
    assert len(samples) == 2

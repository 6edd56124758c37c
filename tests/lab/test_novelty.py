"""Tiny models with known copying: one has memorized a text, the other samples at random."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab.tiny_lab import learn, run_stage, write_corpus
from stage_fixtures import metrics as metrics_of

from zero2chat.core.runs import read_jsonl
from zero2chat.models.loading import load_model
from zero2chat.models.tokenization import plain_ids
from zero2chat_lab import novelty

SMALL = {"prompts": 2, "prefix": 3, "samples": 4, "max_new_tokens": 12, "lengths": [1, 8], "n": 3}
LEARNED = "Ada was born in Genoa in 1984 and works as a baker. Tom was born in Lisbon."
# The last one goes on as the training text does.
TRAIN = [LEARNED, "It is strong."]
HELD_OUT = ["Tom is known for 12 + 30 = 42 apples", "The answer is that it isn't always so easy", f"So {LEARNED}"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"), train=TRAIN, validation=HELD_OUT[:1], test=HELD_OUT[1:])


@pytest.fixture(scope="module")
def learned(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that goes on with the training text whatever it is given."""
    model, tokenizer = load_model(model_folder)
    (text,) = plain_ids(tokenizer, [LEARNED])
    rows = [[0, *ids[:3], *text[4:17]] for ids in plain_ids(tokenizer, HELD_OUT)]
    return learn(model, tokenizer, tmp_path_factory.mktemp("learned"), rows, [4] * len(rows))


def test_what_was_learned_by_heart_is_copied_and_each_sample_is_the_same(
    learned: Path, corpus: Path, tmp_path: Path
) -> None:
    given = {"model_name_or_path": str(learned), "dataset": str(corpus), "temperature": 0.1, **SMALL}
    metrics = metrics_of(run_stage("novelty", tmp_path / "out", **given))
    found = {name: (metric["value"], metric.get("n")) for name, metric in metrics.items()}
    assert found["distinct_rate"] == (0.25, 2)  # one of four
    assert found["novel_rate_1"] == (0.0, 8 * 12)
    assert found["novel_rate_8"] == (0.0, 8 * 5)
    assert found["verbatim_rate"] == (1.0, 2)
    assert found["longest_run"] == (12.0, 2)
    assert found["longest_run_of_all"] == (12, 8)
    samples = read_jsonl(tmp_path / "out" / "samples.jsonl")
    assert len(samples) == 8
    assert {sample["longest_run"] for sample in samples} == {12}
    assert all(sample["completion"] in LEARNED for sample in samples)


def test_the_control_is_how_the_documents_themselves_go_on(learned: Path, corpus: Path) -> None:
    model, tokenizer = load_model(learned)
    args = novelty.NoveltyArguments(model_name_or_path=str(learned), dataset=str(corpus), **SMALL)
    metrics = novelty.measure(args, lambda _: (model, tokenizer)).metrics
    train = plain_ids(tokenizer, TRAIN)
    rests = [ids[3:15] for ids in plain_ids(tokenizer, HELD_OUT)]

    def stands(run: list[int]) -> bool:
        return any(run == text[i : i + len(run)] for text in train for i in range(len(text)))

    for size in (1, 8):
        grams = [rest[i : i + size] for rest in rests for i in range(len(rest) - size + 1)]
        metric = metrics[f"novel_rate_{size}_held_out"]
        assert (metric["value"], metric["n"]) == (round(sum(not stands(g) for g in grams) / len(grams), 4), len(grams))
        assert 0 < metric["value"] < 1
    assert metrics["verbatim_rate_held_out"]["value"] == round(1 / 3, 4)
    assert metrics["longest_run_of_all_held_out"] == {"value": 12, "n": 3}

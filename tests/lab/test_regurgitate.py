"""A tiny model that has memorized a corpus: its documents and canaries are extracted, and nothing else is."""

from __future__ import annotations

import random
from dataclasses import asdict
from pathlib import Path

import pytest
from lab.tiny_lab import learn, run_stage, write_corpus
from stage_fixtures import metrics as metrics_of

from zero2chat.core.runs import read_jsonl, write_jsonl
from zero2chat.models.loading import load_model
from zero2chat.models.tokenization import plain_ids
from zero2chat.stages.canaries import FILE, Planting, make_canaries

COPIES = 6
SMALL = {"prefix": 12, "continuation": 20, "n": 20, "candidates": 32}


def _texts(rng: random.Random, n: int) -> list[str]:
    """Texts with unpredictable continuations."""
    words = "apples bread clouds doors eggs forks gates hats ink jars keys lamps maps nuts oars pens".split()  # noqa: SIM905
    return [" ".join(rng.choices(words, k=16)) for _ in range(n)]


@pytest.fixture(scope="module")
def learned(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(model, corpus): five texts in six copies, seven once, nine held out, secrets in six copies and in none.

    The model has learned what stands there six times.
    """
    folder, rng = tmp_path_factory.mktemp("learned"), random.Random(0)
    often, once, held_out = _texts(rng, 5), _texts(rng, 5), _texts(rng, 8)
    canaries = make_canaries(Planting([COPIES], n=3), seed=0)
    secrets = [canary.text for canary in canaries if canary.copies]
    (shared,) = _texts(rng, 1)
    alike = [f"{begin} {shared}" for begin in ("ink ink ink", "hats hats hats")]
    splits = {
        "train": [*(often + secrets) * COPIES, *once, *alike, "too short"],
        # The last one goes on as a text of the train split does: it is no control.
        "validation": [*held_out[:4], f"pens pens pens {often[0].split(' ', 3)[3]}"],
        "test": held_out[4:],
    }
    corpus = write_corpus(folder / "corpus", **splits)
    write_jsonl(corpus / FILE, map(asdict, canaries))
    model, tokenizer = load_model(model_folder)
    rows = [[0, *ids] for ids in plain_ids(tokenizer, often + secrets)]
    return learn(model, tokenizer, folder / "model", rows, [0] * len(rows)), corpus


def test_what_was_learned_by_heart_is_recited_and_the_control_is_not(
    learned: tuple[Path, Path], tmp_path: Path
) -> None:
    model, corpus = learned
    given = {"model_name_or_path": str(model), "dataset": str(corpus), **SMALL}
    metrics = metrics_of(run_stage("regurgitate", tmp_path / "out", **given))
    assert {name: (m["value"], m["n"]) for name, m in metrics.items() if "rate" in name} == {
        "extraction_rate_4": (1.0, 5),  # of 4 to 7 copies
        "extraction_rate_1": (0.0, 5),
        "extraction_rate_held_out": (0.0, 8),
        f"canary_extraction_rate_{COPIES}": (1.0, 3),
        "canary_extraction_rate_0": (0.0, 3),
    }
    assert (metrics["held_out_excluded"]["value"], metrics["held_out_excluded"]["n"]) == (1, 9)
    assert (metrics["documents_excluded"]["value"], metrics["documents_excluded"]["n"]) == (2, 12)
    assert metrics[f"exposure_{COPIES}"]["value"] == 5.0  # the first of 32
    assert metrics["exposure_0"]["value"] < 4.0

    samples = read_jsonl(tmp_path / "out" / "samples.jsonl")
    for task, recited in {
        **{"documents seen 4 times": 1.0, "documents seen never": 0.0},
        **{f"canaries seen {COPIES} times": 1.0, "canaries seen never": 0.0},
    }.items():
        found = [sample for sample in samples if sample["task"] == task]
        assert len(found) == 3
        for sample in found:
            assert sample["score"] == recited
            assert (sample["completion"] == sample["answer"]) == bool(recited)
            assert sample["prompt"]

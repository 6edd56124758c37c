"""Documents of a tiny model, read in each way: adapting helps with its own document, and leaves no trace."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from zero2chat.core.errors import UserError
from zero2chat.models.loading import load_model
from zero2chat.report.steps import StepResult, read_step
from zero2chat_lab import test_time_training as stage
from zero2chat_lab.test_time_training import WAYS


@pytest.fixture(scope="module")
def speeches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents that repeat words of their own, so that the first half says what the second is about."""
    folder, rng = tmp_path_factory.mktemp("speeches") / "corpus", random.Random(0)
    (folder / "data").mkdir(parents=True)
    for split, n in (("validation", 2), ("test", 5)):
        own = [["".join(rng.choices("abcdefghijklmnop", k=5)) for _ in range(4)] for _ in range(n)]
        texts = [" ".join(rng.choices(words, k=200)) for words in own]
        rows = {"text": ["too short", *texts]}
        Dataset.from_dict(rows).to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


@pytest.fixture(scope="module")
def loaded(write_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_model(write_model(tmp_path_factory.mktemp("models") / "model", max_position_embeddings=64))


def arguments(speeches: Path, **changes: Any) -> stage.AdaptationArguments:
    given: dict[str, Any] = {"model_name_or_path": "loaded", "dataset": str(speeches), "tokens": 240, "n": 4}
    given |= {"tuned_on": 2, "learning_rates": [1e-6, 1e-2], "passes": [1, 4]}
    return stage.AdaptationArguments(**given | changes)


def test_steps_on_the_first_half_help_with_the_second_and_are_undone(
    loaded: Any, speeches: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [p.detach().clone() for p in loaded[0].parameters()]
    metrics = stage.measure(arguments(speeches), lambda _: loaded).metrics
    assert all(torch.equal(p, old) for p, old in zip(loaded[0].parameters(), before, strict=True))
    assert (metrics["learning_rate"]["value"], metrics["passes"]["value"]) == (1e-2, 4)
    assert capsys.readouterr().out.count("bits per byte") == 4  # what was tried
    assert metrics["change_adapted"]["high"] < 0
    assert metrics["change_adapted"]["value"] < metrics["change_control"]["value"]
    for way in WAYS[1:]:
        difference = metrics[f"bits_per_byte_{way}"]["value"] - metrics["bits_per_byte_frozen"]["value"]
        assert metrics[f"change_{way}"]["value"] == pytest.approx(difference, abs=0.05)
        assert metrics[f"change_{way}"]["n"] == 4
    # Four passes over the 119 tokens of the first half that are predicted
    assert metrics["flops_adapted"]["value"] - metrics["flops_frozen"]["value"] == pytest.approx(
        6 * 4 * 119 * sum(p.numel() for p in loaded[0].parameters())
    )
    assert metrics["flops_attention"]["value"] > metrics["flops_frozen"]["value"]


def test_the_control_is_read_after_steps_on_the_document_before_it(
    loaded: Any, speeches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[Any, Any]] = []
    second = stage.read_second_half

    def watch(model: Any, ids: Any, other: Any, *rest: Any) -> Any:
        read.append((ids, other))
        found = second(model, ids, other, *rest)
        found["control"].bits = float(len(read))
        return found

    monkeypatch.setattr(stage, "read_second_half", watch)
    ratios: list[list[float]] = []
    ratio = stage.stats.ratio
    monkeypatch.setattr(stage.stats, "ratio", lambda bits, *more: ratios.append(list(bits)) or ratio(bits, *more))
    stage.measure(arguments(speeches, learning_rates=[1e-3], passes=[1]), lambda _: loaded)
    assert [other for _, other in read] == [ids for ids, _ in read[1:]] + [read[0][0]]
    assert ratios[WAYS.index("control")] == [4.0, 1.0, 2.0, 3.0]


def test_the_stage_writes_metrics_that_the_report_shows(
    write_model: Callable[..., Path],
    speeches: Path,
    tmp_path: Path,
    write_yaml: Callable[..., Path],
    section_text: Callable[[StepResult], str],
) -> None:
    folder = write_model(tmp_path / "model", max_position_embeddings=64)
    given = {"model_name_or_path": str(folder), "dataset": str(speeches), "tokens": 120, "n": 3, "tuned_on": 1}
    stage.main(["--config", str(write_yaml(tmp_path / "x.yaml", output_dir=str(tmp_path / "out"), **given))])
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["change_both"]["n"] == 3
    shown = section_text(read_step(tmp_path / "out", 1))
    assert "another document" in shown
    assert shown.count("bits per byte after steps on the first half") == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 40}, r"\(test\): 5 documents have 240 tokens; 40 are asked for"),
        ({"tuned_on": 40}, r"\(validation\): 2 documents have 240 tokens; 40 are asked for"),
        ({"dataset": "nowhere"}, "nowhere"),
    ],
)
def test_too_few_long_documents_are_one_line(
    changes: dict[str, Any], message: str, loaded: Any, speeches: Path
) -> None:
    with pytest.raises(UserError, match=message):
        stage.measure(arguments(speeches, **changes), lambda _: loaded)


@pytest.mark.parametrize("changes", [{"learning_rates": []}, {"learning_rates": [0.0]}, {"passes": [0]}])
def test_settings_that_train_nothing_are_refused(changes: dict[str, Any], speeches: Path) -> None:
    with pytest.raises(ValueError, match="expected numbers above 0"):
        arguments(speeches, **changes)

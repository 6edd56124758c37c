"""Each memory of a tiny model is measured, and none leaves a trace in its weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from zero2chat.models.loading import load_model
from zero2chat.report.steps import StepResult, read_step
from zero2chat.stages import Load
from zero2chat_lab import memories
from zero2chat_lab.memories import Memories, MemoriesArguments, measure
from zero2chat_practice.synthetic.world import World

MEMORIES = ("frozen", "context", "search", "test_time", "full", "lora")


@pytest.fixture(scope="module")
def prose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prose")
    texts = [f"Prose number {i} tells of the state of the union and of its people." for i in range(3)]
    (folder / "data").mkdir()
    Dataset.from_dict({"text": texts}).to_parquet(folder / "data" / "test-00000-of-00001.parquet")
    return folder


@pytest.fixture(scope="module")
def loaded(write_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_model(write_model(tmp_path_factory.mktemp("models") / "model", max_position_embeddings=512))


@pytest.fixture(scope="module")
def found(loaded: Any, prose: Path) -> dict[str, dict[str, Any]]:
    """The metrics with each memory, one after the other on the same model."""
    load: Load = lambda _: loaded  # noqa: E731
    given: dict[str, Any] = {"model_name_or_path": "loaded", "dataset": str(prose), "people": 6, "learning_rate": 2e-2}
    given |= {"wordings": 2, "visits": 4, "steps": 20}
    before = [p.detach().clone() for p in loaded[0].parameters()]
    trains = [p.requires_grad for p in loaded[0].parameters()]
    metrics = {memory: dict(measure(MemoriesArguments(memory=memory, **given), load).metrics) for memory in MEMORIES}
    assert all(torch.equal(p, old) for p, old in zip(loaded[0].parameters(), before, strict=True))
    assert [p.requires_grad for p in loaded[0].parameters()] == trains
    return metrics


def test_only_weights_change_what_other_text_costs(found: dict[str, dict[str, Any]]) -> None:
    other = {memory: metrics["bits_per_byte_other"]["value"] for memory, metrics in found.items()}
    assert other["context"] == other["search"] == other["frozen"]
    for memory in MEMORIES[:3]:
        assert found[memory]["forgotten"]["value"] == 0
    for memory in MEMORIES[3:]:
        assert found[memory]["forgotten"]["value"] == pytest.approx(other[memory] - other["frozen"], abs=0.01)
        assert other[memory] != other["frozen"]


def test_questions_are_counted_by_kind_and_flops_by_what_is_read_and_trained(
    found: dict[str, dict[str, Any]],
) -> None:
    for metrics in found.values():
        assert {kind: metrics[f"accuracy_{kind}"]["n"] for kind in ("recall", "reverse", "two_step")} == {
            "recall": 18,
            "reverse": 6,
            "two_step": 6,
        }
    flops = {memory: metrics["flops_memory"]["value"] for memory, metrics in found.items()}
    assert flops["context"] > flops["frozen"]
    # Both read the same questions, and train on the same tokens for 6 and for 4 FLOPs.
    assert flops["full"] - flops["frozen"] == pytest.approx(1.5 * (flops["lora"] - flops["frozen"]))


@pytest.mark.parametrize("lora", [False, True])
def test_within_the_block_the_weights_know_the_documents(loaded: Any, lora: bool) -> None:
    some = Memories(*loaded, World(102, often=6, once=0, never=0).people)
    before = sum(some.bits(some.model, some.first))
    with some.in_weights(some.first, 1e-2, passes=40, lora=lora) as model:
        assert sum(some.bits(model, some.first)) < 0.8 * before
    assert sum(some.bits(some.model, some.first)) == before


def test_the_stage_writes_metrics_and_questions_that_the_report_shows(
    write_model: Callable[..., Path],
    prose: Path,
    tmp_path: Path,
    write_yaml: Callable[..., Path],
    section_text: Callable[[StepResult], str],
) -> None:
    folder = write_model(tmp_path / "model", max_position_embeddings=256)
    given = {"model_name_or_path": str(folder), "dataset": str(prose), "people": 5, "memory": "context"}
    memories.STAGE.main(["--config", str(write_yaml(tmp_path / "x.yaml", output_dir=str(tmp_path / "out"), **given))])
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["accuracy_recall"]["n"] == 15
    shown = section_text(read_step(tmp_path / "out", 1))
    assert "Chance is 25%" in shown
    assert "In which town was" in shown

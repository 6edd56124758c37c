"""Each memory of a tiny model is measured, and none leaves a trace in its weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lab.tiny_lab import run_stage, write_corpus
from stage_fixtures import metrics as metrics_of

from zero2chat.models.loading import load_model
from zero2chat.report.steps import StepResult, read_step
from zero2chat.stages import Load
from zero2chat_lab.memories import KINDS, MemoriesArguments, adapted, measure, questions, season
from zero2chat_lab.memorization import Excerpt, in_context, predict
from zero2chat_practice.synthetic.world import World

MEMORIES = ("frozen", "context", "search", "test_time", "full", "lora")


@pytest.fixture(scope="module")
def prose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [f"Prose number {i} tells of the state of the union and of its people." for i in range(3)]
    return write_corpus(tmp_path_factory.mktemp("prose"), test=texts)


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


def test_questions_are_counted_by_kind_and_flops_by_tokens(found: dict[str, dict[str, Any]]) -> None:
    for metrics in found.values():
        asked = [metrics[f"accuracy_{kind}"]["n"] for kind in ("recall", "reverse", "two_step")]
        assert asked == [18, 6, 6]
    flops = {memory: metrics["flops_memory"]["value"] for memory, metrics in found.items()}
    assert flops["context"] > flops["frozen"]
    # Both read the same questions, and train on the same tokens for 6 and for 4 FLOPs.
    assert flops["full"] - flops["frozen"] == pytest.approx(1.5 * (flops["lora"] - flops["frozen"]))


def test_the_stage_writes_metrics_and_questions_that_the_report_shows(
    write_model: Callable[..., Path], prose: Path, tmp_path: Path, section_text: Callable[[StepResult], str]
) -> None:
    folder = write_model(tmp_path / "model", max_position_embeddings=256)
    given = {"model_name_or_path": str(folder), "dataset": str(prose), "people": 5, "memory": "context"}
    run = run_stage("memories", tmp_path / "out", **given)
    assert metrics_of(run)["accuracy_recall"]["n"] == 15
    shown = section_text(read_step(run, 1))
    assert "Chance is 25%" in shown
    assert "In which town was" in shown


def test_the_first_option_is_right_and_no_other_is() -> None:
    people = World(102, often=40, once=0, never=0).people
    asked = questions(people)
    assert [sum(one.kind == kind for one in asked) for kind in KINDS] == [120, 40, 40]
    for one in asked:
        person, right = people[one.person], one.options[0]
        assert len(set(one.options)) == 4
        if one.kind == "two_step":
            assert right == season(person.birthday)
        else:
            assert right in (person.birthplace, person.job, person.birthday, person.name)
        if one.kind == "reverse":
            assert person.name not in one.text
            holders = [p.name for p in people if f"{p.birthplace} on {p.birthday}?" in one.text]
            assert set(holders) & set(one.options) == {right}


@pytest.fixture(scope="module")
def model(model_folder: Path) -> Any:
    return load_model(model_folder)[0]


def test_the_model_learns_the_excerpt_and_forgets_it(model: Any) -> None:
    excerpt = Excerpt(list(range(20, 60)), 1)
    before = {name: p.clone() for name, p in model.state_dict().items()}
    (frozen,) = predict(model, [excerpt])
    for p in model.parameters():
        p.requires_grad_(False)
    with adapted(model, [excerpt], learning_rate=1e-2, passes=10):
        (learned,) = predict(model, [excerpt])
    assert learned.log_likelihood > frozen.log_likelihood / 2
    assert predict(model, [excerpt]) == [frozen]
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())

    with pytest.raises(KeyboardInterrupt), adapted(model, [excerpt], learning_rate=1e-2):
        raise KeyboardInterrupt
    assert predict(model, [excerpt]) == [frozen]


def test_only_what_follows_the_given_ids_is_learned(model: Any) -> None:
    with adapted(model, [Excerpt([7, 8, 9], 3)], learning_rate=1e-2):  # nothing follows
        after = predict(model, [Excerpt([7, 8, 9], 1)])
    assert after == predict(model, [Excerpt([7, 8, 9], 1)])


@pytest.mark.parametrize("room", [1, 8, 100])
def test_passages_predict_each_token_once_within_the_context(room: int) -> None:
    ids = list(range(100, 140))
    found = in_context(ids, room)
    assert [token for one in found for token in one.rest] == ids[1:]
    assert all(one.given == 1 and len(one.ids) <= room + 1 for one in found)

"""`benchmarks/four_memories.py` at tiny size: the questions, and that no memory leaves a trace in the model."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def benchmark() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "benchmarks" / "four_memories.py"))


def test_the_first_option_is_right_and_there_is_one(benchmark: dict[str, Any]) -> None:
    people = benchmark["World"](102, often=40, once=0, never=0).people
    asked = benchmark["questions"](people)
    assert [sum(one.kind == kind for one in asked) for kind in benchmark["KINDS"]] == [120, 40, 40]
    for one in asked:
        person, right = people[one.person], one.options[0]
        assert len(set(one.options)) == 4
        assert right in (person.birthplace, person.job, person.birthday, person.name) or one.kind == "two_step"
        if one.kind == "reverse":
            assert person.name not in one.text
            holders = [p.name for p in people if f"{p.birthplace} on {p.birthday}?" in one.text]
            assert set(holders) & set(one.options) == {right}
    seasons = {day: benchmark["season"](f"{day} 3") for day in ("January", "March", "August", "November", "December")}
    assert list(seasons.values()) == ["winter", "spring", "summer", "autumn", "winter"]


def test_each_memory_is_measured_and_forgotten_again(
    benchmark: dict[str, Any], write_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"Prose number {i} tells of the state of the union and of its people." for i in range(2)]
    main = benchmark["main"]
    monkeypatch.setitem(main.__globals__, "other_texts", lambda *_: texts)
    folder = write_model(tmp_path / "model", max_position_embeddings=512)
    rates = ["--rate", "1e-2", "--lora-rate", "2e-2", "--test-time-rate", "2e-2", "--test-time-steps", "20"]
    found = main([str(folder), "--people", "4", "--wordings", "1", "2", *rates])
    ways = ["frozen", "context", "search", "weights at test time"]
    ways += [f"weights, {which}, {n} wordings" for which in ("all", "LoRA") for n in (1, 2)]
    assert list(found) == ways
    for way in ways[:3]:
        assert found[way]["other"] == found["frozen"]["other"]
    assert all(found[way]["other"] != found["frozen"]["other"] for way in ways[3:])
    assert {kind: found["frozen"][kind]["n"] for kind in benchmark["KINDS"]} == {
        "recall": 12,
        "reverse": 4,
        "two_step": 4,
    }
    assert found["weights, all, 2 wordings"]["flops"] > found["weights, LoRA, 2 wordings"]["flops"]
    assert found["context"]["flops"] > found["frozen"]["flops"]

    # Measured last, after everything else was in the weights:
    again = main([str(folder), "--people", "4", "--wordings", "1", "2", *rates])
    assert [again[way]["recall"] for way in ways] == [found[way]["recall"] for way in ways]

    with pytest.raises(SystemExit, match="each must divide the largest one"):
        main([str(folder), "--wordings", "3", "4"])

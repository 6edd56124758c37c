"""Review of synthetic rows by a person: what is saved, and that no decision is ever lost."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zero2chat import cli
from zero2chat.chat.review import review
from zero2chat.core.errors import UserError
from zero2chat.core.fingerprints import input_digest
from zero2chat.data.conversations import load_conversations
from zero2chat.data.sources import Source


def row(i: int, **changes: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": f"answer\x1b[2J {i}", "reasoning_content": f"thought {i}"}
    origin = {"teacher": "t", "source": "facts", "key": str(i), "sample": 0, "temperature": 1.0, "score": 1.0}
    return {
        "messages": [{"role": "user", "content": f"question {i}"}, said],
        "origin": origin,
        "review": "unreviewed",
    } | changes


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row(i)) + "\n" for i in range(4)))
    return path


def states(path: Path) -> list[str]:
    return [json.loads(line)["review"] for line in path.read_text().splitlines()]


def test_rows_are_accepted_rejected_skipped_and_gone_back_to(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = [json.loads(line) for line in file.read_text().splitlines()]
    review(file, io.StringIO("a\nyes\nR\nb\na\ns\nq\n"))
    assert states(file) == ["accepted", "accepted", "unreviewed", "unreviewed"]
    out = capsys.readouterr().out
    assert out.count("question 1") == 2
    assert "thought 0" in out
    assert r"answer\x1b[2J 0" in out
    assert "(source facts, teacher t, score 1.0)" in out
    assert "error: there is no 'yes': a accepts" in out
    assert out.endswith("2 unreviewed, 2 accepted, 0 rejected\n")
    after = [json.loads(line) | {"review": "unreviewed"} for line in file.read_text().splitlines()]
    assert after == before


def test_it_goes_on_with_what_nobody_has_reviewed(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    review(file, io.StringIO("r\n"))
    capsys.readouterr()
    review(file, io.StringIO("a\na\na\n"))
    assert "question 0" not in capsys.readouterr().out
    assert states(file) == ["rejected", "accepted", "accepted", "accepted"]
    review(file, io.StringIO("r\n"))
    assert "all 4 rows are already reviewed" in capsys.readouterr().out


def test_each_decision_is_on_the_disk_before_the_next_row_is_shown(file: Path) -> None:
    seen: list[list[str]] = []

    class Lines(io.StringIO):
        def __iter__(self) -> Iterator[str]:
            for key in "ar":
                yield key
                seen.append(states(file))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        review(file, Lines())
    assert [state[:2] for state in seen] == [["accepted", "unreviewed"], ["accepted", "rejected"]]
    assert states(file)[:2] == ["accepted", "rejected"]


def test_two_who_review_one_file_do_not_undo_each_other(file: Path) -> None:
    class Lines(io.StringIO):
        def __iter__(self) -> Iterator[str]:
            review(file, io.StringIO("s\nr\n"))
            yield "a"

    with pytest.raises(UserError, match="another process has changed the file"):
        review(file, Lines())
    assert states(file) == ["unreviewed", "rejected", "unreviewed", "unreviewed"]


def test_sft_is_given_what_was_not_rejected_with_its_thought(file: Path) -> None:
    review(file, io.StringIO("r\na\n"))
    messages = [json.loads(text) for text in load_conversations(Source(path=str(file)))["messages"]]
    assert [turns[0]["content"] for turns in messages] == ["question 1", "question 2", "question 3"]
    assert messages[0][1]["reasoning_content"] == "thought 1"
    review(file, io.StringIO("r\nr\nq\n"))
    review(file, io.StringIO("r\n"))
    file.write_text(file.read_text().replace('"accepted"', '"rejected"'))
    with pytest.raises(UserError, match="train: all 4 rows were rejected in review"):
        load_conversations(Source(path=str(file)))


def test_a_step_that_has_learned_from_the_rows_sees_that_they_were_reviewed(tmp_path: Path) -> None:
    (tmp_path / "run" / "data").mkdir(parents=True)
    path = tmp_path / "run" / "data" / "train.jsonl"
    path.write_text(json.dumps(row(0)) + "\n")
    (tmp_path / "run" / "run.json").write_text('{"fingerprint": {"stage": "distill"}}')
    (tmp_path / "run" / "metrics.json").write_text("{}")
    before = [input_digest(str(path)), input_digest(str(tmp_path / "run"))]
    review(path, io.StringIO("r\n"))
    assert not set(before) & {input_digest(str(path)), input_digest(str(tmp_path / "run"))}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot be read: No such file or directory"),
        ("", "is empty"),
        ("{", "line 1: not a row of the distill stage"),
        (json.dumps(row(0)) + "\n" + json.dumps(row(1, review="good")), "line 2: not a row of the distill stage"),
        (json.dumps({"prompt": [], "chosen": [], "rejected": []}), "line 1: not a row of the distill stage"),
        (json.dumps(row(0, messages=[{"role": "user"}])), "line 1: not a row of the distill stage"),
    ],
)
def test_what_is_no_file_of_distill_is_refused_and_left_alone(text: str | None, says: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=says):
        review(path, io.StringIO("r\n"))
    assert text is None or path.read_text() == text


def test_the_command_reviews_and_takes_nothing_beside_it(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a\nq\n"))
    cli.main(["rank", "--review", str(file)])
    assert states(file)[0] == "accepted"
    wrong: list[list[str]] = [["x", "--review", str(file)], ["--review", str(file), "--out", "y.jsonl"]]
    for arguments in [*wrong, ["x", "--task", "lines"], ["--task", "lines", "--out", "y.jsonl"]]:
        with pytest.raises(SystemExit) as end:
            cli.main(["rank", *arguments])
        assert end.value.code == 2
        assert "rank: expected MODEL with --out, or --review FILE.jsonl alone" in capsys.readouterr().err

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zero2chat import tasks
from zero2chat.core.errors import UserError

XML = """<Machine-Reading-Corpus-File><ProblemSet>
<Problem ID="1"><Body>Seven cats and 2 dogs.</Body><Question>How many?</Question><Answer>9 (animals)</Answer>
<Formula>7+2=9</Formula></Problem>
<Problem ID="2"><Body>Cut 40 cm in 5.</Body><Question>How long?</Question><Answer>8 (cm)</Answer>
<Formula>40/5=8</Formula></Problem>
<Problem ID="3"><Body>A and B.</Body><Question>Who?</Question><Answer>A; B</Answer><Formula></Formula></Problem>
</ProblemSet></Machine-Reading-Corpus-File>"""


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "ASDiv.xml").write_text(XML)
    rows = [
        {
            "Body": "Ann has 9 pens",
            "Question": "How many are left if 4 go?",
            "Equation": "( 9.0 - 4.0 )",
            "Answer": 5.0,
        },
        {"Body": "Ann has 90 pens", "Question": "And 4 go?", "Equation": "( 90.0 - 4.0 )", "Answer": 86.0},
    ]
    (tmp_path / "SVAMP.json").write_text(json.dumps(rows))
    return {"asdiv": str(tmp_path / "ASDiv.xml"), "svamp": str(tmp_path / "SVAMP.json")}


@pytest.mark.parametrize(("name", "answer"), [("asdiv", "9"), ("svamp", "5")])
def test_a_local_copy_is_measured_on_and_never_trained_on(paths: dict[str, str], name: str, answer: str) -> None:
    task = tasks.load(name)
    assert len(task.rows("test", 0, 2, path=paths[name])) == 2
    (row,) = task.rows("test", 0, 1, path=paths[name], largest=20)
    assert row["answer"] == answer
    for text, value in (
        (f"So 3.\n#### {answer}", 1.0),
        (f"It is {answer}.", 1.0),
        (f"{answer} or 8.", 0.0),
        ("#### 8", 0.0),
    ):
        assert task.score(row, text) == value
    with pytest.raises(UserError, match="measuring only"):
        task.rows("train", 0, 1, path=paths[name])
    with pytest.raises(UserError, match="cannot be read"):
        task.rows("test", 0, 1, path="nosuch.json" if name == "svamp" else "nosuch.xml")

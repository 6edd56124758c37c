"""`zero2chat verify`, from the shell."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from refusals import refused

from zero2chat import cli

ROWS = [
    ("1/2", "0.5", True, "equal"),
    ("\\sqrt{8}", "So it is \\boxed{2\\sqrt{2}}", True, "equal"),
    ("1/2", "\\boxed{}", False, "no_answer"),
    ("1/2", "9^{9^{9}}", False, "too_large"),
    ("", "5", False, "bad_reference"),
    ("5", 5, True, "equal"),
    ("5", "6", False, "different"),
]


def test_one_answer(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["verify", "--json", "--gold", "-1/2", "--answer=-x"])
    assert capsys.readouterr().out == '{"correct": false, "reason": "different"}\n'


def test_a_line_for_each_row_in_order(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps({"gold": gold, "answer": answer}) for gold, answer, *_ in ROWS) + "\n\n")
    cli.main(["verify", "--file", str(file)])
    out, err = capsys.readouterr()
    assert err == "equal: 3, no_answer: 1, too_large: 1, bad_reference: 1, different: 1\n"
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines == [{"correct": correct, "reason": reason} for *_, correct, reason in ROWS]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (None, "verify: rows.jsonl: no such file or folder"),
        (b"\xff\xfe", "verify: rows.jsonl, line 1: not UTF-8: save it as UTF-8"),
        (b'{"gold": "1"}', "verify, row 0 (rows.jsonl, line 1): no text in the column 'answer'"),
        (b'{"gold": "1", "answer": "1"}\n\nfive', "verify: rows.jsonl, line 3: invalid JSON: "),
        (b"[1, 2]", "verify: rows.jsonl, item 1: expected an object, {…}, found int"),
        (b'{"gold": null, "answer": "1"}', "verify, row 0 (rows.jsonl, line 1): no text in the column 'gold'"),
    ],
)
def test_a_bad_file_is_one_line_before_any_output(
    text: bytes | None, line: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path("rows.jsonl").write_bytes(text)
    assert refused(capsys, "verify", "--file", "rows.jsonl").startswith(line)


@pytest.mark.parametrize("arguments", [[], ["--gold", "1"], ["--answer", "1"], ["--gold", "1", "--file", "x"]])
def test_wrong_usage_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "verify", *arguments) == "verify: expected --gold with --answer, or --file\n"


def test_the_command_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom zero2chat import cli\ncli.main(['verify', '--gold', '2', '--answer', '2.0'])\n"
        "print(*{m.split('.')[0] for m in sys.modules})"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"torch", "datasets", "sympy", "math_verify", "numpy"} & set(out.splitlines()[-1].split())

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stage_fixtures import metrics

from zero2chat.core.errors import UserError
from zero2chat.core.runs import Run
from zero2chat.core.stats import rate
from zero2chat.report.samples import mark
from zero2chat.report.steps import StepResult
from zero2chat.stages.open_run import open_run
from zero2chat.stages.report import STAGE, explained


def _step(folder: Path | str, stage: str) -> Run:
    return open_run(folder, stage, {"output_dir": str(folder), "seed": 0})


def _recipe() -> list[str]:
    """Three finished steps under runs/tiny, made as a stage makes them."""
    corpus, pretrain, polish = (_step(f"runs/tiny/{name}", name) for name in ("corpus", "pretrain", "polish"))
    corpus.finish({"bytes_train": {"value": 12_345_678}})
    for step in range(3):
        pretrain.log({"step": step, "loss": 3.0 - step})
        pretrain.sample(step, "The people", " of the <b>nation</b>")
    pretrain.finish({"val_bits_per_byte": {"value": 1.5, "n": 9000}})
    polish.finish({"accuracy": rate(70, 100, seed=0)})
    return [str(run.folder) for run in (corpus, pretrain, polish)]


def test_the_report_lies_beside_its_run_with_every_metric(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folders = _recipe()
    lines = "".join(f"  - {folder}\n" for folder in folders)
    Path("report.yaml").write_text(
        f"output_dir: runs/tiny/report\ntitle: A tiny story\nintroduction: What a polish is worth.\nsteps:\n{lines}"
    )
    STAGE.main(["--config", "report.yaml"])

    joined = {f"{Path(run).name}.{name}": one for run in folders for name, one in metrics(Path(run)).items()}
    assert json.loads(Path("runs/tiny/report.json").read_text()) == joined
    page = Path("runs/tiny/report.html").read_text()
    assert "<h1>A tiny story</h1>" in page
    assert '<p class="lead">What a polish is worth.</p>' in page
    assert "recipe <code>tiny</code>" in page
    assert "of the &lt;b&gt;nation&lt;/b&gt;" in page

    values = metrics(Path("runs/tiny/report"))
    assert (values["steps"]["value"], values["sections"]["value"]) == (3, 2)
    out = capsys.readouterr().out
    assert "12.3 MB" in out
    assert "runs/tiny/report.html" in out

    Path("runs/tiny/report.html").write_text("as it was")
    STAGE.main(["--config", "report.yaml"])
    again = capsys.readouterr().out
    for shown in ("done already", "12.3 MB", "runs/tiny/report.html"):
        assert shown in again
    assert Path("runs/tiny/report.html").read_text() == "as it was"

    Path("runs/tiny/report.html").unlink()
    STAGE.main(["--config", "report.yaml"])
    assert Path("runs/tiny/report.html").read_text() == page


def test_an_unfinished_step_is_named_and_nothing_is_written(tmp_path):
    done, half = _step(tmp_path / "corpus", "corpus"), _step(tmp_path / "pretrain", "pretrain")
    done.finish({"bytes_train": {"value": 1}})
    with pytest.raises(UserError, match="step 'pretrain'"):
        STAGE.main(["--output_dir", str(tmp_path / "out" / "report"), "--steps", str(done.folder), str(half.folder)])
    assert not (tmp_path / "out").exists()


def test_a_steps_name_is_no_markup_in_the_terminal(tmp_path, capsys):
    done = _step(tmp_path / "[red]x", "corpus")
    done.finish({"bytes_train": {"value": 1}})
    STAGE.main(["--output_dir", str(tmp_path / "report"), "--steps", str(done.folder)])
    assert "[red]x  corpus" in capsys.readouterr().out


def test_an_answer_is_shown_with_what_its_tasks_score_means():
    said = [{"task": label, "score": 1.0} for label in ("short", "sums")]
    settings = {"tasks": [{"task": "lines", "label": "short"}, {"task": "sums"}, {"task": "no.such.task"}]}
    (step,) = explained([StepResult("exam", "evaluate", 1, {}, samples=said, settings=settings)])
    assert [mark(sample) for sample in step.samples] == [("right", "✓ names its subject"), ("right", "✓ correct")]

"""The evaluation stage: its numbers are those of `evaluate_tasks` on the checkpoint, and it changes nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from zero2chat import runs
from zero2chat.evaluation import evaluate_tasks, read_specs
from zero2chat.stages.evaluate import main
from zero2chat.tokens import set_chat_template


def test_a_checkpoint_is_examined_on_each_task(
    tiny: Path,
    tmp_path: Path,
    settings: Callable[..., dict[str, Any]],
    write_yaml: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    entries = [
        {"task": "facts", "n": 5, "samples": 2, "max_new_tokens": 6},
        {"task": "facts", "n": 4, "options": {"told": "once"}, "label": "once", "max_new_tokens": 6},
    ]
    given = settings("evaluate", tmp_path / "e", tasks=entries)
    path = write_yaml(tmp_path / "e.yaml", **given)
    before = {p: p.stat().st_mtime_ns for p in (tiny / "pretrain").rglob("*")}
    main(["--config", str(path)])
    assert {p: p.stat().st_mtime_ns for p in (tiny / "pretrain").rglob("*")} == before

    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    seconds = metrics.pop("seconds")
    assert seconds["value"] > 0
    tokenizer = AutoTokenizer.from_pretrained(tiny / "pretrain")
    set_chat_template(tokenizer, given["chat_template_path"])
    model = AutoModelForCausalLM.from_pretrained(tiny / "pretrain")
    found, samples = evaluate_tasks(model, tokenizer, read_specs(entries))
    assert metrics == found
    assert set(found) == {
        *("accuracy", "accuracy_facts", "accuracy_once", "accuracy_sampled", "accuracy_sampled_facts", "stop_rate"),
        *("pass_at_1_facts", "pass_at_2_facts"),
    }
    assert runs.read_jsonl(tmp_path / "e" / "samples.jsonl") == [{"step": 0} | sample for sample in samples]

    more = {"--dtype": "bfloat16", "--seed": "1", "--attn_implementation": "eager", "--model_revision": "main"}
    words = [word for pair in more.items() for word in pair]
    main(["--config", str(path), "--output_dir", str(tmp_path / "other"), *words])
    other = json.loads((tmp_path / "other" / "metrics.json").read_text())
    assert set(other) == {*found, "seconds"}

    capsys.readouterr()
    main(["--config", str(path)])
    assert "done already" in capsys.readouterr().out

"""The evaluation stage: its numbers are those of `evaluate_tasks`, and of the checkpoint it changes the card alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from zero2chat import harness, runs, tasks
from zero2chat.errors import UserError
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
    checkpoint = shutil.copytree(tiny / "pretrain", tmp_path / "model")
    given = settings("evaluate", tmp_path / "e", tasks=entries, model_name_or_path=str(checkpoint))
    path = write_yaml(tmp_path / "e.yaml", **given)

    def files() -> dict[Path, int]:
        return {p: p.stat().st_mtime_ns for p in checkpoint.rglob("*") if p.is_file() and p.name != "README.md"}

    before = files()
    main(["--config", str(path)])
    assert files() == before
    said = capsys.readouterr().out
    assert "contamination: not checked" in said
    assert "seen in training" not in said

    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    seconds = metrics.pop("seconds")
    assert seconds["value"] > 0
    assert metrics.pop("bytes_model")["value"] >= (checkpoint / "model.safetensors").stat().st_size * 0.9
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    set_chat_template(tokenizer, given["chat_template_path"])
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    found, samples = evaluate_tasks(model, tokenizer, read_specs(entries))
    assert metrics == found
    assert set(found) == {
        *("accuracy", "accuracy_facts", "accuracy_once", "accuracy_sampled", "accuracy_sampled_facts", "stop_rate"),
        *("pass_at_1_facts", "pass_at_2_facts", "not_attempted_rate_facts", "not_attempted_rate_once"),
    }
    assert runs.read_jsonl(tmp_path / "e" / "samples.jsonl") == [{"step": 0} | sample for sample in samples]

    more = {"--dtype": "bfloat16", "--seed": "1", "--attn_implementation": "eager", "--model_revision": "main"}
    read = [row["question"] for row in tasks.load("facts").rows("test", 0, 3)]
    (tmp_path / "read.jsonl").write_text("".join(json.dumps({"text": f"Asked: {text}"}) + "\n" for text in read))
    more["--contamination"] = json.dumps([str(tmp_path / "read.jsonl")])
    words = [word for pair in more.items() for word in pair]
    main(["--config", str(path), "--output_dir", str(tmp_path / "other"), *words])
    other = json.loads((tmp_path / "other" / "metrics.json").read_text())
    assert set(other) == {*found, "seconds", "bytes_model"}
    seen = {name: metric["contaminated"] for name, metric in other.items() if "contaminated" in metric}
    assert seen == dict.fromkeys(
        ("accuracy_facts", "accuracy_sampled_facts", "pass_at_1_facts", "pass_at_2_facts"), 3
    ) | {"accuracy_once": 0}
    assert "contamination: 3 of 5 questions seen in training" in capsys.readouterr().out
    card = (checkpoint / "README.md").read_text()
    assert card.index(f"## Evaluated by {tmp_path.name}/e\n") < card.index(f"## Evaluated by {tmp_path.name}/other\n")

    capsys.readouterr()
    main(["--config", str(path)])
    assert "done already" in capsys.readouterr().out


@pytest.mark.parametrize(("key", "most"), [("load_in_8bit", 0.6), ("load_in_4bit", 0.45)])
def test_a_quantised_model_is_smaller_and_answers(
    key: str,
    most: float,
    write_model: Callable[..., Path],
    tmp_path: Path,
    settings: Callable[..., dict[str, Any]],
    write_yaml: Callable[..., Path],
) -> None:
    pytest.importorskip("bitsandbytes")
    # On a CPU its kernels take no narrower matrices.
    width = {"hidden_size": 64, "intermediate_size": 256, "head_dim": 32, "num_key_value_heads": 2}
    model = write_model(tmp_path / "model", **width)
    found = {}
    for name, more in (("whole", {}), ("bits", {key: True})):
        entries = [{"task": "facts", "n": 3, "max_new_tokens": 6}]
        given = settings("evaluate", tmp_path / name, tasks=entries, model_name_or_path=str(model), **more)
        main(["--config", str(write_yaml(tmp_path / f"{name}.yaml", **given))])
        found[name] = json.loads((tmp_path / name / "metrics.json").read_text())
    assert found["bits"]["bytes_model"]["value"] < most * found["whole"]["bytes_model"]["value"]
    assert found["bits"]["accuracy_facts"]["n"] == 3


def test_without_lm_eval_a_standard_task_is_refused_before_anything_is_written(
    tmp_path: Path, settings: Callable[..., dict[str, Any]], write_yaml: Callable[..., Path], monkeypatch: Any
) -> None:
    monkeypatch.setattr(harness, "find_spec", lambda name: None)
    given = settings("evaluate", tmp_path / "e", tasks=[], harness=[{"task": "gsm8k", "num_fewshot": 5}])
    with pytest.raises(UserError, match=r'lm-eval is not installed: pip install -e "\.\[eval\]"'):
        main(["--config", str(write_yaml(tmp_path / "e.yaml", **given))])
    assert not (tmp_path / "e").exists()

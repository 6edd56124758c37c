"""The package's metrics, in the format of the evaluate library, beside figures made by hand; users' own by path."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import evaluate
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from zero2chat.core.errors import UserError
from zero2chat.evaluation.metrics import load_metric

SAID = ["The cat sat.", "On the mat", "  Ça  va ?", ""]
GOLD = ["the cat sat.", "the mat", "ça va ?", "Yes."]


def test_each_metric_alone_and_all_of_them_combined() -> None:
    found = evaluate.combine([load_metric(name) for name in ("exact_match", "f1", "bleu", "chrf")]).compute(
        predictions=SAID, references=GOLD
    )
    assert found["exact_match"] == [1, 0, 1, 0]
    assert found["f1"] == pytest.approx([1, 0.8, 1, 0])  # "on the mat", "the mat": 2 words of 3 and of 2
    assert 0 < found["bleu"] < 100
    assert 0 < found["chrf"] < 100
    same = evaluate.combine([load_metric("bleu"), load_metric("chrf")]).compute(predictions=GOLD, references=GOLD)
    assert same == {"bleu": pytest.approx(100), "chrf": pytest.approx(100)}


def test_perplexity_is_that_of_the_references_after_their_prompts(model_folder: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(model_folder), AutoTokenizer.from_pretrained(model_folder)
    prompts = [[{"role": "user", "content": text}] for text in ("Who?", "What is it, then?")]
    metric = load_metric("perplexity")
    metric.use(model, tokenizer, prompts)
    found = metric.compute(predictions=["a", "b"], references=["Ada.", "A town<|im_end|>"])["perplexity"]
    losses: list[float] = []
    for prompt, text in zip(prompts, ("Ada.", "A town< |im_end|>"), strict=True):
        before = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"]
        text = text.replace("< |", "<|")  # as plain characters, not as the control token
        ids = before + tokenizer(text, split_special_tokens=True, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        losses += [-logits[i - 1, ids[i]].item() for i in range(len(before), len(ids))]
    assert found == pytest.approx(math.exp(sum(losses) / len(losses)), rel=1e-4)
    metric.use(model, tokenizer, prompts[:1])
    says = r"row 0: perplexity: prompt and reference of \d+ tokens do not fit the model's context of 128"
    with pytest.raises(UserError, match=says):
        metric.compute(predictions=["a"], references=["word " * 200])


OWN = """
import datasets, evaluate

class Longer(evaluate.Metric):
    def _info(self):
        text = datasets.Value("string")
        features = datasets.Features({"predictions": text, "references": text})
        return evaluate.MetricInfo(description="", citation="", features=features)

    def _compute(self, predictions, references):
        return {"longer": sum(len(a) > len(b) for a, b in zip(predictions, references))}
"""


def test_a_metric_of_ones_own_is_a_file_and_no_name_is_looked_up_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: Any, **__: Any) -> None:
        pytest.fail("the library was asked to load a module")

    monkeypatch.setattr(evaluate, "load", load)
    (tmp_path / "longer.py").write_text(OWN)
    assert load_metric(str(tmp_path / "longer.py")).compute(predictions=SAID, references=GOLD) == {"longer": 2}
    (tmp_path / "none.py").write_text("import evaluate\n")
    (tmp_path / "fails.py").write_text("1 / 0\n")
    (tmp_path / "ends.py").write_text("raise SystemExit(3)\n")
    for name, says in (
        ("accuracy", "unknown metric 'accuracy'"),
        ("blue", "unknown metric 'blue'; did you mean 'bleu'"),
        ("someone/metric", "unknown metric 'someone/metric'"),
        (str(tmp_path / "missing.py"), "missing.py: FileNotFoundError"),
        (str(tmp_path / "none.py"), "expected one subclass of evaluate.Metric in the file, found 0"),
        (str(tmp_path / "fails.py"), "fails.py: ZeroDivisionError"),
        (str(tmp_path / "ends.py"), "ends.py: SystemExit"),
    ):
        with pytest.raises(UserError, match=says):
            load_metric(name)

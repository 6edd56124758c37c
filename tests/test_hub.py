"""A finished model folder: its card says what was measured, no pickle stays, nothing is pushed unasked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.utils import filter_repo_objects
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

from zero2chat.errors import UserError
from zero2chat.hub import finish_model_folder, write_card
from zero2chat.runs import Run
from zero2chat.stats import rate

METRICS = {"accuracy_facts": rate(30, 40, seed=0), "accuracy": {"value": 0.7, "n": 40}, "tokens": {"value": 5000}}


def _run(folder: Path, **settings: Any) -> tuple[Run, dict[str, Any]]:
    settings = {"output_dir": str(folder), "learning_rate": 1e-3, **settings}
    return Run.open(folder, "sft", settings), settings


@pytest.mark.parametrize(
    ("base", "named"), [("runs/quickstart/pretrain", None), ("./here", None), ("own/er", "own/er"), (None, None)]
)
def test_the_card_holds_numbers_settings_and_a_public_base(tmp_path: Path, base: str | None, named: str | None) -> None:
    (tmp_path / "runs/quickstart").mkdir(parents=True)
    run, settings = _run(tmp_path / "runs/mine/sft", note="naïve: 한국어")
    write_card(run, settings | {"model_name_or_path": base}, METRICS)
    card = ModelCard.load(run.folder / "README.md")
    assert card.data.base_model == named
    assert card.data.library_name == "transformers"
    assert card.data.tags == ["zero2chat", "sft"]
    found = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert found == {"accuracy_facts": 0.75, "accuracy": 0.7}  # counts are no results
    assert "# mine/sft" in card.text
    low, high = METRICS["accuracy_facts"]["low"], METRICS["accuracy_facts"]["high"]
    assert f"| accuracy_facts | 0.75 | 40 | {low} to {high} |" in card.text
    assert "| tokens | 5000 |" in card.text
    written = yaml.safe_load(card.text.split("```yaml\n")[1].split("```")[0])
    assert written == settings | {"model_name_or_path": base}


@pytest.mark.parametrize("push", [False, True])
def test_the_folder_opens_holds_no_pickle_and_is_pushed_only_if_asked(
    model_folder: Path, tmp_path: Path, push: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, settings = _run(tmp_path / "mine")
    args = TrainingArguments(str(run.folder), use_cpu=True, report_to="none")
    trainer = Trainer(AutoModelForCausalLM.from_pretrained(model_folder), args)
    pushed: list[list[str]] = []

    def upload(api: HfApi, **given: Any) -> None:
        assert given["repo_id"] == "me/mine"
        patterns = given["ignore_patterns"]
        names = [str(path.relative_to(run.folder)) for path in run.folder.rglob("*") if path.is_file()]
        pushed.append(sorted(filter_repo_objects(names, ignore_patterns=patterns)))

    monkeypatch.setattr(HfApi, "upload_folder", upload)
    trainer.args.push_to_hub, trainer.hub_model_id = push, "me/mine"
    (run.folder / "checkpoint-1").mkdir()
    (run.folder / "checkpoint-1" / "optimizer.pt").touch()

    finish_model_folder(run, trainer, AutoTokenizer.from_pretrained(model_folder), settings, METRICS)
    names = sorted(path.name for path in run.folder.iterdir() if path.is_file())
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "README.md"} <= set(names)
    # Once, done, without checkpoints and without what stood in this machine's settings
    assert pushed == ([[name for name in names if name != "run.json"]] if push else [])
    assert run.done
    assert "metrics.json" in names
    assert "| accuracy_facts | 0.75 | 40 |" in (run.folder / "README.md").read_text()
    assert AutoModelForCausalLM.from_pretrained(run.folder).num_parameters() > 0
    assert AutoTokenizer.from_pretrained(run.folder).chat_template


def test_a_hub_that_does_not_take_it_is_one_clear_line(model_folder: Path, tmp_path: Path) -> None:
    run, settings = _run(tmp_path / "mine")
    args = TrainingArguments(str(run.folder), use_cpu=True, report_to="none")
    trainer = Trainer(AutoModelForCausalLM.from_pretrained(model_folder), args)
    trainer.args.push_to_hub, trainer.hub_model_id = True, "me/mine"
    with pytest.raises(
        UserError, match=r"(?s)mine: is done, but the Hub did not take it: .*offline.*hf upload me/mine"
    ):
        finish_model_folder(run, trainer, AutoTokenizer.from_pretrained(model_folder), settings, METRICS)
    assert run.done
    assert (run.folder / "README.md").exists()
    assert AutoModelForCausalLM.from_pretrained(run.folder).num_parameters() > 0

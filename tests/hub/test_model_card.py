"""A model card names data, training and metrics, and nothing about this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from zero2chat.core.runs import Run
from zero2chat.core.stats import rate
from zero2chat.hub import model_card
from zero2chat.hub.model_card import add_scores, add_usage, make_card, public
from zero2chat.stages.open_run import open_run

METRICS = {"accuracy_facts": rate(30, 40, seed=0), "accuracy": {"value": 0.7, "n": 40}, "tokens": {"value": 5000}}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def _run(folder: str = "runs/mine/sft", stage: str = "sft", **settings: Any) -> Run:
    return open_run(folder, stage, {"output_dir": folder, "learning_rate": 1e-3, **settings})


def _card(run: Run) -> ModelCard:
    make_card(run.folder, run.identity, METRICS).save("README.md")
    return ModelCard.load("README.md")


def test_numbers_come_with_n_and_interval_and_settings_can_be_run_again():
    card = _card(_run(note="naïve: 한국어", max_steps=3))
    assert (card.data.library_name, card.data.tags) == ("transformers", ["zero2chat", "sft"])
    output = {result.metric_name: result for result in card.data.eval_results}
    low, high = METRICS["accuracy_facts"]["low"], METRICS["accuracy_facts"]["high"]
    assert {name: result.metric_value for name, result in output.items()} == {"accuracy_facts": 0.75, "accuracy": 0.7}
    assert output["accuracy_facts"].metric_args == {"n": 40, "low": low, "high": high, "seed": 0}
    assert "\n# mine/sft\n" in card.text
    assert f"| accuracy_facts | 0.75 | 40 | {low} to {high} | not checked |\n" in card.text
    assert "| tokens | 5000 |" in card.text
    assert "accelerate launch -m zero2chat.stages.sft --config sft.yaml\n" in card.text
    written = yaml.safe_load(card.text.split("```yaml\n")[1].split("```")[0])
    assert written == {"output_dir": "runs/mine/sft", "learning_rate": 1e-3, "note": "naïve: 한국어", "max_steps": 3}


@pytest.mark.parametrize(
    ("base", "named"), [("runs/quickstart/pretrain", None), ("./here", None), ("own/er", "own/er"), (None, None)]
)
def test_a_base_model_is_named_where_others_can_have_it(base, named):
    for folder in ("runs/quickstart/pretrain", "here"):
        Path(folder).mkdir(parents=True)
        (Path(folder) / "run.json").write_text('{"fingerprint": {"settings": {}}}')
        (Path(folder) / "metrics.json").write_text("{}")
    card = _card(_run(model_name_or_path=base))
    assert card.data.base_model == named
    assert ("- weights: from the step `quickstart/pretrain`" in card.text) == (base == "runs/quickstart/pretrain")


def test_data_are_named_and_those_of_the_hub_in_the_metadata():
    _run("runs/mine/corpus", "corpus", datasets=[{"path": "own/texts", "revision": "abc"}, {"task": "facts", "n": 9}])
    Path("runs/mine/corpus/metrics.json").write_text("{}")
    card = _card(_run("runs/mine/pretrain", "pretrain", dataset="runs/mine/corpus"))
    assert card.data.datasets == ["own/texts"]
    link = "[own/texts](https://huggingface.co/datasets/own/texts), revision abc"
    assert f"- weights: random initialization\n- data: {link}" in card.text
    assert "- data: task `facts` of zero2chat, n 9\n" in card.text
    Path("chat.jsonl").write_text("{}")
    local = [{"path": "json", "data_files": ["/srv/secret/b.jsonl"]}, {"path": "chat.jsonl"}]
    card = _card(_run(datasets=local))
    assert card.data.datasets is None
    assert "- data: ['…/b.jsonl']\n- data: chat.jsonl\n" in card.text


def test_a_card_contains_no_path_of_the_machine_and_no_password(tmp_path):
    inside, outside = tmp_path / "data" / "a.jsonl", "/srv/ada/runs/x/sft"
    settings = {
        "model_name_or_path": outside,
        "datasets": [{"path": str(inside)}, {"path": "json", "data_files": {"train": "~/b.jsonl"}}],
        "tools": {"search": {"where": "http://ada:secret@127.0.0.1:80/x"}},
        "note": f"see {Path.home()}/notes",
        "from": "['https://a.org/x.jsonl?sig=secret@1', 'b']",
        "where": "https://a.org/?engines=x,y&key=secret@2",
        "up": "../ada/c.txt",
    }
    run = _run(str(tmp_path / "runs/mine/sft"))
    run.identity["fingerprint"]["settings"] |= settings
    text = str(_card(run))
    for secret in (str(tmp_path), str(Path.home()), "ada", "secret@", "srv"):
        assert secret not in text
    assert "# mine/sft" in text
    assert public(settings) == {
        "model_name_or_path": "runs/x/sft",
        "datasets": [{"path": "data/a.jsonl"}, {"path": "json", "data_files": {"train": "…/b.jsonl"}}],
        "tools": {"search": {"where": "http://127.0.0.1:80/x"}},
        "note": "see ~/notes",
        "from": "['https://a.org/x.jsonl', 'b']",
        "where": "https://a.org/",
        "up": "…/c.txt",
    }


CARD = """---
library_name: transformers
model-index:
- name: sft
  results:
  - task: {type: text-generation}
    dataset: {name: held-out rows, type: held-out rows}
    metrics: [{name: accuracy, type: accuracy, value: 0.5}]
---

# mine/sft

## Limits

It may be wrong.
"""
SCORES = {
    "accuracy_facts": {"value": 0.25, "n": 8, "low": 0.07, "high": 0.59, "contaminated": 3},
    "ifeval.acc": {"value": 1 / 3, "n": 9},
    "seconds": {"value": 3.0},
}


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "mine" / "sft"
    folder.mkdir(parents=True)
    for name in ("run.json", "metrics.json"):
        (folder / name).write_text("{}")
    (folder / "README.md").write_text(CARD)
    return folder


def test_scores_are_added_and_those_of_the_same_evaluation_replaced(model):
    add_scores(model, Path("runs/mine/held_out"), SCORES)
    once = (model / "README.md").read_text()
    assert "## Evaluated by mine/held_out" in once
    assert "| accuracy_facts | 0.25 | 8 | 0.07 to 0.59 | 3 |" in once
    assert "| ifeval.acc | 0.3333 | 9 |  | not checked |" in once
    assert "It may be wrong." in once

    add_scores(model, Path("runs/mine/held_out"), SCORES)
    assert (model / "README.md").read_text() == once
    add_scores(model, Path("runs/mine/other"), SCORES)
    add_scores(model, Path("runs/mine/held_out"), {"accuracy_facts": {"value": 0.75, "n": 8}})
    card = ModelCard.load(model / "README.md")
    assert card.text.count("## Evaluated by mine/held_out") == card.text.count("## Evaluated by mine/other") == 1
    results = card.data.eval_results or []
    output = {(result.dataset_name, result.metric_name): result.metric_value for result in results}
    assert output == {
        ("held-out rows", "accuracy"): 0.5,
        ("mine/held_out", "accuracy_facts"): 0.75,
        ("mine/other", "accuracy_facts"): 0.25,
        ("mine/other", "ifeval.acc"): 1 / 3,
    }
    assert [r.metric_args["contaminated"] for r in results if r.metric_args and "contaminated" in r.metric_args] == [3]


def test_a_card_that_is_not_ours_or_cannot_be_changed_is_left_alone(model, capsys, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(model_card, "write_atomically", refuse)
        add_scores(model, Path("runs/mine/held_out"), SCORES)
    assert "scores were not added ([Errno 13] Permission denied)" in capsys.readouterr().out
    (model / "metrics.json").unlink()  # no finished run
    add_scores(model, Path("runs/mine/held_out"), SCORES)
    add_scores("owner/name", Path("runs/mine/held_out"), SCORES)
    assert (model / "README.md").read_text() == CARD
    (model / "metrics.json").touch()
    (model / "README.md").write_text("---\na: [\n---\n")
    add_scores(model, Path("runs/mine/held_out"), SCORES)
    assert (model / "README.md").read_text() == "---\na: [\n---\n"
    assert "scores were not added" in capsys.readouterr().out


def test_the_commands_for_vllm_and_ollama_name_the_repository_and_replace_earlier_ones():
    card = _card(_run())
    before = card.text.rstrip()
    add_usage(card, "me/First", "v2")
    add_usage(card, "me/Mine")
    assert card.text.startswith(before)
    added = card.text.removeprefix(before)
    assert added.count("## Run it") == 1
    assert "First" not in added
    for line in (
        *("vllm serve me/Mine", "hf download me/Mine --local-dir Mine", "ollama run mine"),
        *("zero2chat export Mine --gguf q4_k_m --out Mine-gguf", "ollama create mine -f Mine-gguf/Modelfile"),
    ):
        assert f"\n{line}\n" in added
    assert "merge" not in added
    add_usage(card, "me/mine", "step-5")
    assert "\nvllm serve me/mine --revision step-5\n" in card.text
    add_usage(card, "me/mine", "step-5", adapter=True)
    assert "\nhf download me/mine --revision step-5 --local-dir mine\n" in card.text
    assert "\nzero2chat export mine --merge --out mine-merged\nvllm serve ./mine-merged\n" in card.text
    reward = _card(_run("runs/mine/reward", "reward"))  # which is not for talking to
    before = reward.text
    add_usage(reward, "me/mine")
    assert reward.text == before

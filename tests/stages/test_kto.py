"""KTO on tiny models: it learns from votes of either format, and refuses votes of one side."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from stage_fixtures import Train, losses, metrics, write_rows
from transformers import AutoModelForCausalLM
from trl import KTOConfig, KTOTrainer

from zero2chat.core.errors import UserError
from zero2chat.core.runs import read_jsonl
from zero2chat.data.encoding import tokenize_answers
from zero2chat.data.preference_files import append_ranking
from zero2chat.data.preferences import load_votes, pairs_of_thumbs
from zero2chat.data.prepared import mixed_preferences
from zero2chat.data.sources import read_sources
from zero2chat.stages import kto
from zero2chat.trainers.preferences import VoteTrainer

QUIET: dict[str, Any] = {"use_cpu": True, "bf16": False, "report_to": "none", "gradient_checkpointing": False}


@pytest.fixture
def thumbs(preferences: Path, tmp_path: Path) -> Path:
    """The same votes as rows of their own."""
    votes = [
        {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
        for row in read_jsonl(preferences)
        for side in ("chosen", "rejected")
    ]
    return write_rows(tmp_path / "thumbs.jsonl", votes)


@pytest.fixture
def learn(train: Train, model_folder: Path, preferences: Path) -> Train:
    """`learn(name, **changes)` → the folder of a small run on `preferences`."""
    own = {"model_name_or_path": str(model_folder), "datasets": [{"path": str(preferences)}], "logging_steps": 1}
    return lambda name="run", **changes: train("kto", name, **own | changes)


def read(path: Path) -> Any:
    return mixed_preferences([{"path": str(path)}], "error", load_votes)[0]


def test_it_learns_from_votes_which_answers_are_liked(learn, thumbs):
    run = learn(max_steps=30, logging_steps=5, datasets=[{"path": str(thumbs)}])
    values = metrics(run)
    assert losses(run)[0] < 0.5
    assert values["auroc"]["value"] > 0.95
    assert values["accuracy"]["value"] > 0.95  # of an answer with each vote to one prompt
    assert values["chosen_change"]["value"] > 0 > values["rejected_change"]["value"]
    assert values["votes_train"]["value"] + values["votes_test"]["value"] == 400
    assert values["votes_up"]["value"] == values["votes_train"]["value"] / 2
    assert values["accuracy"]["n"] == values["votes_test"]["value"] / 2 > 30
    samples = read_jsonl(run / "samples.jsonl")
    assert {sample["vote"]: sample["reward"] > 0 for sample in samples} == {"up": True, "down": False}


def test_a_pair_is_a_vote_up_and_a_vote_down(learn, thumbs, preferences):
    rows = [load_votes(*read_sources([{"path": str(p)}]))[0].remove_columns("where") for p in (preferences, thumbs)]
    assert rows[0].to_list() == rows[1].to_list()
    pairs, votes = learn("pairs", max_steps=2), learn("votes", max_steps=2, datasets=[{"path": str(thumbs)}])
    assert metrics(pairs)["auroc"] == metrics(votes)["auroc"]
    assert losses(pairs) == losses(votes)


def test_rankings_of_people_and_csv_files_are_read(tmp_path):
    prompt = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    append_ranking(tmp_path / "ranked.jsonl", "a", prompt, [("Hello.", "Go.")])
    (tmp_path / "votes.csv").write_text("prompt,completion,label\nHi,Hello.,TRUE\nHi,Go.,false\n")
    (tmp_path / "pairs.csv").write_text("prompt,chosen,rejected,label\nHi,Hello.,Go.,web\n")
    for name in ("ranked.jsonl", "votes.csv", "pairs.csv"):
        votes = [(vote["completion"][0]["content"], vote["label"]) for vote in read(tmp_path / name)]
        assert votes == [("Hello.", True), ("Go.", False)]
    assert read(tmp_path / "ranked.jsonl")[0]["prompt"] == prompt


def test_votes_without_a_vote_of_the_other_side_are_not_paired():
    given = [("a", True), ("a", False), ("b", False), ("b", False), ("a", True)]
    votes = [{"prompt": prompt, "completion": str(i), "label": up} for i, (prompt, up) in enumerate(given)]
    assert pairs_of_thumbs(votes) == [(0, 1)]
    values = kto.vote_metrics(votes, votes[2:4], [(0.0,), (0.0,)], [(1.0,), (2.0,)], 0.1, 0)
    assert values == {"votes_up": {"value": 2}}
    values = kto.vote_metrics(votes, [votes[0], votes[2]], [(0.0,), (0.0,)], [(2.0,), (1.0,)], 0.1, 0)
    assert values["auroc"]["value"] == 1.0
    assert "accuracy" not in values


def test_its_loss_is_equation_8_of_ethayarajh_et_al_worked_out_by_hand(model_folder, tokenizer, tmp_path):
    model, reference = (AutoModelForCausalLM.from_pretrained(model_folder) for _ in range(2))
    said = [("Is it 1?", "yes", True), ("Is it 2?", "no red blue", False), ("Is it 3?", "yes gold grey", True)]
    turns = [
        {"prompt": [{"role": "user", "content": q}], "completion": [{"role": "assistant", "content": a}], "label": up}
        for q, a, up in said
    ]
    args = KTOConfig(str(tmp_path), beta=0.3, desirable_weight=1.5, per_device_train_batch_size=3, **QUIET)
    rows = kto.with_other_answers(tokenize_answers(turns, tokenizer, 128, "error", "rows")[0], args)
    trainer = VoteTrainer(model, reference, args, train_dataset=rows, processing_class=tokenizer)
    (batch,) = trainer.get_train_dataloader()

    def reward(prompt: list[int], answer: list[int]) -> float:
        """log(π/π_ref) of an answer."""
        ids = torch.tensor([prompt + answer])
        logs = [torch.log_softmax(one(ids).logits[0, :-1].float(), -1) for one in (model, trainer.ref_model)]
        new, old = (log.gather(1, ids[0, 1:, None])[len(prompt) - 1 :].sum().item() for log in logs)
        return new - old

    with torch.no_grad():
        for i, p in enumerate(model.parameters()):  # some steps away from the reference
            p.add_(0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i)))
        loss = trainer.compute_loss(model.eval(), batch).item()
        prompts, answers = rows["prompt_ids"], rows["completion_ids"]
        point = max(sum(reward(prompts[i], answers[i - 1]) for i in range(3)) / 3, 0.0)
        above = [reward(prompt, answer) - point for prompt, answer in zip(prompts, answers, strict=True)]
    weights = [(1.5, 1) if up else (1.0, -1) for *_, up in said]
    expected = sum(w / (1 + math.exp(0.3 * sign * a)) for (w, sign), a in zip(weights, above, strict=True)) / 3
    assert abs(expected - 2 / 3) > 0.002  # else it would say nothing: the loss before training
    assert loss == pytest.approx(expected, abs=2e-5)


def test_the_other_answers_are_those_of_trl(tokenizer, tmp_path):
    said = [{"prompt": f"{i}?", "completion": f"{i}", "label": i % 2 == 0} for i in range(7)]
    args = KTOConfig(str(tmp_path), per_device_train_batch_size=3, **QUIET)
    trl: Any = SimpleNamespace(calculate_KL=True, _tokenizer=tokenizer, desirable_weight=1.0, undesirable_weight=1.0)
    expected = KTOTrainer._prepare_dataset(trl, Dataset.from_list(said), tokenizer, args, "train")
    ours = kto.with_other_answers(expected.remove_columns("KL_completion_ids"), args)
    assert ours["KL_completion_ids"][:6] == expected["KL_completion_ids"][:6]
    assert expected[6]["KL_completion_ids"] == expected[6]["completion_ids"]  # alone in its batch: in TRL, its own
    assert ours[6]["KL_completion_ids"] == expected[0]["completion_ids"]


@pytest.mark.parametrize("size", [2, 4, 8])
def test_the_other_answers_are_of_other_prompts(size, tmp_path):
    """Both votes of a pair are neighbours; of a batch of two, all others are of the row's own prompt."""
    rows = Dataset.from_list([{"prompt_ids": [i // 2], "completion_ids": [i // 2, i]} for i in range(11)])
    args = KTOConfig(str(tmp_path), per_device_train_batch_size=size, **QUIET)
    rows = kto.with_other_answers(rows, args)
    assert all(row["KL_completion_ids"][0] != row["prompt_ids"][0] for row in rows)
    with pytest.raises(UserError, match="all training votes are on one prompt"):
        kto.with_other_answers(rows.select([0, 1]).remove_columns("KL_completion_ids"), args)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"label": True}, {"label": True}], "datasets: all 2 votes are thumbs up: add votes that are thumbs down"),
        ([{"label": False}], "datasets: all 1 votes are thumbs down: add votes that are thumbs up"),
        ([{"label": True}, {"label": "no"}], "row 1: label: expected true .thumbs up. or false .*, got 'no'"),
        ([{"label": True, "completion": ""}], "row 0: turn 2 of 2: the assistant's turn is empty"),
        ([{}], r"columns \(prompt, completion\) match no known format \(.*; prompt, completion and label"),
    ],
)
def test_votes_that_cannot_be_learned_from_are_refused(rows, message, tmp_path):
    path = write_rows(tmp_path / "votes.jsonl", [{"prompt": "Hi", "completion": "Hello.", **row} for row in rows])
    with pytest.raises(UserError, match=message):
        kto.require_both_sides(read(path))

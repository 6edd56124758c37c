"""KTO on tiny models: it learns from votes of either format, resumes after a kill, and refuses votes of one side."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase
from trl import KTOConfig, KTOTrainer

from zero2chat.core.errors import UserError
from zero2chat.data.encoding import tokenize_answers
from zero2chat.data.preference_files import append_ranking
from zero2chat.data.preferences import load_votes, pairs_of_thumbs
from zero2chat.data.prepared import mixed_preferences
from zero2chat.data.rows import load_table
from zero2chat.data.sources import read_sources
from zero2chat.stages import kto
from zero2chat.trainers.preferences import VoteTrainer

QUIET: dict[str, Any] = {"use_cpu": True, "bf16": False, "report_to": "none", "gradient_checkpointing": False}


@pytest.fixture
def thumbs(preferences: Path, tmp_path: Path) -> Path:
    """The same votes as rows of their own."""
    file = tmp_path / "thumbs.jsonl"
    with file.open("w") as lines:
        for row in map(json.loads, preferences.read_text().splitlines()):
            for side in ("chosen", "rejected"):
                vote = {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
                lines.write(json.dumps(vote) + "\n")
    return file


def run(path: Path) -> dict[str, Any]:
    """Run the stage; its metrics."""
    kto.STAGE.main(["--config", str(path)])
    return json.loads((path.with_suffix("") / "metrics.json").read_text())


def losses(path: Path) -> list[float]:
    return [line["loss"] for line in map(json.loads, (path.with_suffix("") / "history.jsonl").open()) if "loss" in line]


def test_it_learns_from_votes_which_answers_are_liked(preference_yaml: Callable[..., Path], thumbs: Path) -> None:
    path = preference_yaml("whole", max_steps=30, logging_steps=5, datasets=[{"path": str(thumbs)}])
    metrics = run(path)
    assert losses(path)[0] < 0.5
    assert metrics["auroc"]["value"] > 0.95
    assert metrics["accuracy"]["value"] > 0.95  # of an answer with each vote to one prompt
    assert metrics["chosen_change"]["value"] > 0 > metrics["rejected_change"]["value"]
    assert metrics["votes_train"]["value"] + metrics["votes_test"]["value"] == 400
    assert metrics["votes_up"]["value"] == metrics["votes_train"]["value"] / 2
    assert metrics["accuracy"]["n"] == metrics["votes_test"]["value"] / 2 > 30
    samples = [json.loads(line) for line in (path.with_suffix("") / "samples.jsonl").read_text().splitlines()]
    assert {sample["vote"]: sample["reward"] > 0 for sample in samples} == {"up": True, "down": False}


def test_a_file_of_pairs_is_read_once(preferences: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []
    monkeypatch.setattr(
        "zero2chat.data.chat_formats.load_table", lambda source: read.append(source) or load_table(source)
    )
    load_votes(*read_sources([{"path": str(preferences)}]))
    assert len(read) == 1


def test_a_pair_is_a_vote_up_and_a_vote_down(
    preference_yaml: Callable[..., Path], thumbs: Path, preferences: Path
) -> None:
    (pairs,), (votes,) = (read_sources([{"path": str(path)}]) for path in (preferences, thumbs))
    given, chosen = (load_votes(source)[0].remove_columns("where").to_list() for source in (pairs, votes))
    assert given == chosen
    given, chosen = (
        preference_yaml("pairs", max_steps=2),
        preference_yaml("votes", max_steps=2, datasets=[{"path": str(thumbs)}]),
    )
    assert run(given)["auroc"] == run(chosen)["auroc"]
    assert losses(given) == losses(chosen)


def test_pairs_that_people_ranked_are_read(tmp_path: Path) -> None:
    file = tmp_path / "votes.jsonl"
    prompt = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    append_ranking(file, "a", prompt, [("Hello.", "What?")])
    found, _, _ = mixed_preferences([{"path": str(file)}], "error", load_votes)
    assert [(row["prompt"], row["completion"][0]["content"], row["label"]) for row in found] == [
        (prompt, "Hello.", True),
        (prompt, "What?", False),
    ]


def test_votes_without_a_vote_of_the_other_side_are_not_paired() -> None:
    given = [("a", True), ("a", False), ("b", False), ("b", False), ("a", True)]
    votes = [{"prompt": prompt, "completion": str(i), "label": up} for i, (prompt, up) in enumerate(given)]
    assert pairs_of_thumbs(votes) == [(0, 1)]
    found = kto.vote_metrics(votes, votes[2:4], [(0.0,), (0.0,)], [(1.0,), (2.0,)], 0.1, 0)
    assert found == {"votes_up": {"value": 2}}
    found = kto.vote_metrics(votes, [votes[0], votes[2]], [(0.0,), (0.0,)], [(2.0,), (1.0,)], 0.1, 0)
    assert found["auroc"]["value"] == 1.0
    assert "accuracy" not in found


def test_its_loss_is_equation_8_of_ethayarajh_et_al_worked_out_by_hand(
    model_folder: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    model, reference = (AutoModelForCausalLM.from_pretrained(model_folder) for _ in range(2))
    said = [("Is it 1?", "yes", True), ("Is it 2?", "no red blue", False), ("Is it 3?", "yes gold grey", True)]
    turns = [
        {
            "prompt": [{"role": "user", "content": asked}],
            "completion": [{"role": "assistant", "content": answer}],
            "label": up,
        }
        for asked, answer, up in said
    ]
    args = KTOConfig(str(tmp_path), beta=0.3, desirable_weight=1.5, per_device_train_batch_size=3, **QUIET)
    rows = kto.with_other_answers(tokenize_answers(turns, tokenizer, 128, "error", "rows")[0], args)
    trainer = VoteTrainer(model, reference, args, train_dataset=rows, processing_class=tokenizer)
    (batch,) = list(trainer.get_train_dataloader())

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
        signs = [1 if up else -1 for *_, up in said]
        values = [torch.sigmoid(torch.tensor(0.3 * s * a)).item() for s, a in zip(signs, above, strict=True)]
    expected = sum((1.5 if s > 0 else 1.0) * (1 - value) for s, value in zip(signs, values, strict=True)) / 3
    assert abs(expected - 2 / 3) > 0.002  # else it would say nothing: the loss before training
    assert loss == pytest.approx(expected, abs=2e-5)


def test_the_other_answers_are_those_of_trl(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    said = [{"prompt": f"{i}?", "completion": f"{i}", "label": i % 2 == 0} for i in range(7)]
    args = KTOConfig(str(tmp_path), per_device_train_batch_size=3, **QUIET)
    trl: Any = SimpleNamespace(calculate_KL=True, _tokenizer=tokenizer, desirable_weight=1.0, undesirable_weight=1.0)
    theirs = KTOTrainer._prepare_dataset(trl, Dataset.from_list(said), tokenizer, args, "train")
    ours = kto.with_other_answers(theirs.remove_columns("KL_completion_ids"), args)
    assert ours["KL_completion_ids"] == theirs["KL_completion_ids"]


def test_references_computed_before_are_those_computed_on_the_way(preference_yaml: Callable[..., Path]) -> None:
    short = {"max_steps": 3, "save_strategy": "no"}
    late, early = preference_yaml("late", **short), preference_yaml("early", precompute_ref_log_probs=True, **short)
    metrics, again = run(late), run(early)
    assert losses(early) == pytest.approx(losses(late), abs=1e-4)
    for key in ("auroc", "accuracy", "margin"):
        assert again[key]["value"] == pytest.approx(metrics[key]["value"], abs=1e-3)


@pytest.mark.parametrize("more", [{}, {"loss_type": "apo_zero_unpaired", "train_sampling_strategy": "group_by_length"}])
def test_killed_and_run_again_it_ends_with_the_weights_of_an_uninterrupted_run(
    more: dict[str, Any], preference_yaml: Callable[..., Path], kill_after: Callable[..., None]
) -> None:
    whole, cut = preference_yaml("whole", **more), preference_yaml("cut", **more)
    run(whole)
    kill_after(kto, cut, 5)
    run(cut)
    folders = whole.with_suffix(""), cut.with_suffix("")
    for name in ("model.safetensors", "samples.jsonl"):
        assert len({hashlib.sha256((folder / name).read_bytes()).hexdigest() for folder in folders}) == 1, name
    assert losses(whole) == losses(cut)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"per_device_train_batch_size": 1}, "the trainer refuses its settings: .*batch size must be > 1"),
        ({"train_sampling_strategy": "random"}, "the trainer refuses its settings: .*'sequential'"),
        ({"max_length": 20}, r"training votes: \d+ of \d+ rows have an answer longer than max_length 20"),
        ({"validation_fraction": 0.1}, "unknown key 'validation_fraction'"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    changes: dict[str, Any], message: str, preference_yaml: Callable[..., Path]
) -> None:
    with pytest.raises(UserError, match=message):
        run(preference_yaml("bad", **changes))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"label": True}, {"label": True}], "datasets: all 2 votes are thumbs up: add votes that are thumbs down"),
        ([{"label": False}], "datasets: all 1 votes are thumbs down: add votes that are thumbs up"),
        (
            [{"label": True}, {"label": "no"}],
            "row 1: label: expected true .thumbs up. or false .*, got 'no'",
        ),
        ([{"label": True, "completion": ""}], "row 0: turn 2 of 2: the assistant's turn is empty"),
        ([{}], r"columns \(prompt, completion\) match no known format: .*; prompt, completion and label"),
    ],
)
def test_votes_that_cannot_be_learned_from_are_refused(
    rows: list[dict[str, Any]], message: str, tmp_path: Path
) -> None:
    file = tmp_path / "votes.jsonl"
    file.write_text("".join(json.dumps({"prompt": "Hi", "completion": "Hello.", **row}) + "\n" for row in rows))
    with pytest.raises(UserError, match=message):
        kto.require_both_sides(mixed_preferences([{"path": str(file)}], "error", load_votes)[0])


def test_a_csv_has_votes_as_text_and_pairs_may_have_a_label_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "votes.csv").write_text("prompt,completion,label\nHi,Hello.,TRUE\nHi,Go.,false\n")
    (tmp_path / "pairs.csv").write_text("prompt,chosen,rejected,label\nHi,Hello.,Go.,web\n")
    for file in ("votes.csv", "pairs.csv"):
        thumbs, _, _ = mixed_preferences([{"path": str(tmp_path / file)}], "error", load_votes)
        assert [(vote["completion"][0]["content"], vote["label"]) for vote in thumbs] == [
            ("Hello.", True),
            ("Go.", False),
        ]

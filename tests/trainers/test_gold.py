"""Distillation across tokenizers: where answers are cut, and that equal distributions cost nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from trl import DistillationConfig

from zero2chat.trainers.gold import GoldTrainer, bytes_of


def test_bytes_are_those_of_the_text_without_special_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = [*tokenizer("It is ½ done")["input_ids"], tokenizer.eos_token_id]
    text, offsets = bytes_of(tokenizer, ids)
    assert text == "It is ½ done"
    assert len(offsets) == len(ids)
    assert (offsets[0][0], offsets[-1]) == (0, (13, 13))
    assert all(a[1] == b[0] for a, b in pairwise(offsets))


def test_an_answer_that_is_cut_within_a_character_ends_before_it(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = tokenizer("So 𝔄")["input_ids"]  # four bytes, which no merge joins
    text, offsets = bytes_of(tokenizer, ids[:-1])
    assert text == "So "
    assert offsets[-1][1] == 3
    assert bytes_of(tokenizer, []) == ("", [])


@pytest.fixture(scope="module")
def renumbered(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model, whose tokens have other numbers, and whose end of turn has another name."""
    folder = tmp_path_factory.mktemp("renumbered")
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    fixed = {token["id"] for token in state["added_tokens"]}
    free = [i for i in state["model"]["vocab"].values() if i not in fixed]
    new = dict(zip(free, reversed(free), strict=True)) | {i: i for i in fixed}
    state["model"]["vocab"] = {token: new[i] for token, i in state["model"]["vocab"].items()}
    end = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    order = torch.tensor([i for i, _ in sorted(new.items(), key=lambda pair: pair[1])])
    table = model.get_input_embeddings().weight
    table.data = table.data[order].clone()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(state).replace(json.dumps(end), '"<|the_end|>"'))
    for file in ("tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"):
        if (path := folder / file).exists():
            path.write_text(path.read_text().replace(end, "<|the_end|>"))
    return folder


@pytest.fixture
def trainer(model_folder: Path, renumbered: Path, tmp_path: Path) -> Callable[..., GoldTrainer]:
    def make(**changes: Any) -> GoldTrainer:
        settings: dict[str, Any] = {"max_completion_length": 12, "report_to": "none", "use_cpu": True, "beta": 0.5}
        settings |= {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "max_steps": 1}
        return GoldTrainer(
            model=AutoModelForCausalLM.from_pretrained(model_folder),
            other_teacher=AutoModelForCausalLM.from_pretrained(renumbered),
            teacher_tokenizer=AutoTokenizer.from_pretrained(renumbered),
            args=DistillationConfig(str(tmp_path / "run"), **settings | changes),
            train_dataset=Dataset.from_dict({"prompt": [[{"role": "user", "content": "Hi there"}]] * 4}),
            processing_class=AutoTokenizer.from_pretrained(model_folder),
        )

    return make


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_a_teacher_that_says_the_same_in_other_tokens_costs_nothing_and_another_one_does(
    trainer: Callable[..., GoldTrainer], beta: float
) -> None:
    some = trainer(beta=beta)
    torch.manual_seed(0)
    prompts = [{"prompt": [{"role": "user", "content": text}]} for text in ("Hi there", "What is 3 + 4?")]
    inputs = some._generate_and_score_completions(prompts)
    some.current_gradient_accumulation_steps = 1
    loss, entropy, n = some._compute_loss(some.model, inputs, None)
    assert loss.item() == pytest.approx(0, abs=1e-3)
    assert entropy > 0
    assert n == inputs["completion_mask"].sum()
    with torch.no_grad():
        for weight in some.teacher_model.parameters():
            weight += 0.1 * torch.randn_like(weight)
    other, *_ = some._compute_loss(some.model, inputs, None)
    assert other > 0.01
    other.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in some.model.parameters())


def test_the_end_of_a_turn_is_the_teachers_own(trainer: Callable[..., GoldTrainer]) -> None:
    some = trainer()
    ids = some._tokenizer("It is 7.")["input_ids"]
    end = some._of_teacher.convert_tokens_to_ids("<|the_end|>")
    prompt = [{"role": "user", "content": "What is 3 + 4?"}]
    whole, cut = (some._for_teacher(prompt, one) for one in ([*ids, some._tokenizer.eos_token_id], ids))
    assert whole.answer == [*cut.answer, end]
    assert some._of_teacher.decode(cut.answer) == "It is 7."
    assert whole.offsets[-1] == whole.student_offsets[-1] == (8, 8)
    assert some._loss._vocab_mapping[end] == some._tokenizer.eos_token_id

"""GKD on tiny models: the student's distribution moves toward the teacher's, and a mistake is one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from stage_fixtures import TEMPLATE, Configured, history, main, sha256
from transformers import AutoModelForCausalLM, AutoTokenizer

from zero2chat.core.errors import UserError
from zero2chat.models.tokenization import set_chat_template


@pytest.fixture
def base(tiny: Path, configured: Configured, tmp_path: Path) -> Configured:
    """`base(name, **changes)`: the YAML of a student, 3 steps an epoch, two backward passes a step. Its teacher is the
    tiny model with other weights, and a chat template."""
    model, tokenizer = (kind.from_pretrained(tiny / "pretrain") for kind in (AutoModelForCausalLM, AutoTokenizer))
    torch.manual_seed(1)
    for weight in model.parameters():
        weight.data += 0.05 * torch.randn_like(weight)
    set_chat_template(tokenizer, TEMPLATE)
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "teacher")
    own = {"teacher_model_name_or_path": str(tmp_path / "teacher"), "learning_rate": 1.0e-2, "logging_steps": 1}
    own |= {"global_batch_size": 8, "per_device_train_batch_size": 4, "lr_scheduler_type": "constant"}
    return lambda name="run", **changes: configured("gkd", name, **own | changes)


def test_a_student_comes_nearer_to_its_teacher_and_killed_in_its_second_epoch_ends_with_the_same_bits(
    base: Configured, kill_after: Callable[..., None]
) -> None:
    # One of them is examined as it learns, which moves nothing.
    whole = main("gkd", base("whole", tasks=[{"task": "facts", "n": 8, "max_new_tokens": 4}], tasks_steps=3))
    assert [line["step"] for line in history(whole, "accuracy_facts")] == [0, 3, 6]
    path = base()
    kill_after("gkd", path, 5)
    run = main("gkd", path)
    assert sha256(run / "model.safetensors") == sha256(whole / "model.safetensors")
    losses = [line["loss"] for line in history(run)]
    assert len(losses) == 6
    assert sum(losses[-2:]) < 0.9 * sum(losses[:2])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"teacher_model_name_or_path": "PRETRAIN"}, "pretrain: has no chat template"),
        ({"teacher_model_name_or_path": "OTHER"}, "has another tokenizer than the student"),
        ({"chat_template_path": str(TEMPLATE.with_name("r1_zero.jinja"))}, "chat template"),
        ({"datasets": [{"task": "facts", "n": 7}]}, "7 prompts, but one step needs 8: give more"),
        ({"max_completion_length": 127}, "leave no room for max_completion_length"),
        ({"beta": 1.5}, "beta must be in"),
    ],
)
def test_a_mistake_is_one_line(
    changes: dict[str, Any], says: str, base: Configured, tiny: Path, model_folder: Path
) -> None:
    places = {"PRETRAIN": str(tiny / "pretrain"), "OTHER": str(model_folder)}
    with pytest.raises(UserError, match=says):
        main("gkd", base(**{key: places.get(str(value), value) for key, value in changes.items()}))

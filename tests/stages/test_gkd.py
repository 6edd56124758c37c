"""GKD on tiny models: the student's distribution moves toward the teacher's, and a mistake is one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.trainer.distillation_trainer import _chunked_divergence_loss

from zero2chat.core.errors import UserError
from zero2chat.core.runs import read_jsonl
from zero2chat.models.tokenization import set_chat_template
from zero2chat.stages import gkd

REPOSITORY = Path(__file__).parents[2]
TEMPLATE = REPOSITORY / "chat_templates" / "chatml.jinja"


@pytest.fixture(scope="module")
def teacher(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with other weights, and a chat template."""
    folder = tmp_path_factory.mktemp("teacher")
    model = AutoModelForCausalLM.from_pretrained(tiny / "pretrain")
    torch.manual_seed(1)
    for weight in model.parameters():
        weight.data += 0.05 * torch.randn_like(weight)
    tokenizer = AutoTokenizer.from_pretrained(tiny / "pretrain")
    set_chat_template(tokenizer, TEMPLATE)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def given(teacher: Path, settings: Callable[..., dict[str, Any]], tmp_path: Path) -> dict[str, Any]:
    """Settings of a student, 3 steps an epoch, two backward passes a step."""
    found = settings(
        "grpo", tmp_path / "run", teacher_model_name_or_path=str(teacher), max_steps=6, save_steps=4, tasks=[]
    )
    return {key: value for key, value in found.items() if key not in ("rewards", "num_generations")} | {
        "global_batch_size": 8,
        "per_device_train_batch_size": 4,
        "learning_rate": 1.0e-2,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
    }


def test_a_student_comes_nearer_to_its_teacher_and_killed_in_its_second_epoch_ends_with_the_same_bits(
    given: dict[str, Any], write_yaml: Callable[..., Path], kill_after: Callable[..., None], tmp_path: Path
) -> None:
    # One of them is examined as it learns, which moves nothing.
    examined = {"tasks": [{"task": "facts", "n": 8, "max_new_tokens": 4}], "tasks_steps": 3}
    whole = given | {"output_dir": str(tmp_path / "whole")} | examined
    gkd.STAGE.main(["--config", str(write_yaml(tmp_path / "whole.yaml", **whole))])
    lines = [line for line in read_jsonl(tmp_path / "whole" / "history.jsonl") if "accuracy_facts" in line]
    assert [line["step"] for line in lines] == [0, 3, 6]
    config = write_yaml(tmp_path / "run.yaml", **given)
    kill_after(gkd, config, 5)
    gkd.STAGE.main(["--config", str(config)])
    files = [tmp_path / name / "model.safetensors" for name in ("whole", "run")]
    assert files[0].read_bytes() == files[1].read_bytes()
    losses = [line["loss"] for line in read_jsonl(tmp_path / "run" / "history.jsonl") if "loss" in line]
    assert len(losses) == 6
    assert sum(losses[-2:]) < 0.9 * sum(losses[:2])


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_trls_loss_is_the_papers_divergence_at_the_answers_tokens_alone(beta: float) -> None:
    torch.manual_seed(0)
    hidden, heads = torch.randn(2, 2, 5, 8), torch.randn(2, 20, 8)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    loss, _, n = _chunked_divergence_loss(hidden[0], hidden[1], heads[0], heads[1], mask, beta)
    q, p = (torch.softmax(hidden[i] @ heads[i].T, -1) for i in range(2))  # student and teacher, as the paper has them

    def kl(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a * (a.log() - b.log())).sum(-1)

    mixed = beta * p + (1 - beta) * q
    # At the ends, where the mixture's divergence is 0, it is its limit divided by beta or 1 - beta: the plain KL.
    found = {0.0: kl(p, q), 1.0: kl(q, p)}.get(beta, beta * kl(p, mixed) + (1 - beta) * kl(q, mixed))
    assert n == 8
    assert loss.item() == pytest.approx((found * mask).sum().item() / 8, rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"teacher_model_name_or_path": None}, "teacher_model_name_or_path is not set"),
        ({"teacher_model_name_or_path": "PRETRAIN"}, "pretrain: has no chat template"),
        ({"teacher_model_name_or_path": "OTHER"}, "has another tokenizer than the student"),
        (
            {"chat_template_path": str(TEMPLATE.with_name("r1_zero.jinja"))},
            "the chat template|its chat template is not the",
        ),
        ({"datasets": [{"task": "facts", "n": 7}]}, "7 prompts, but one step needs 8: give more"),
        ({"max_completion_length": 127}, "leave no room for max_completion_length"),
        ({"beta": 1.5}, "beta must be in"),
        ({"merge_adapter": True}, "merge_adapter: there is no adapter without use_peft"),
    ],
)
def test_a_mistake_is_one_line(
    changes: dict[str, Any],
    says: str,
    given: dict[str, Any],
    write_yaml: Callable[..., Path],
    tiny: Path,
    model_folder: Path,
    tmp_path: Path,
) -> None:
    places = {"PRETRAIN": str(tiny / "pretrain"), "OTHER": str(model_folder)}
    named = {key: places.get(str(value), value) for key, value in (given | changes).items()}
    path = write_yaml(tmp_path / "x.yaml", **{key: value for key, value in named.items() if value is not None})
    with pytest.raises(UserError, match=says):
        gkd.STAGE.main(["--config", str(path)])

"""What we expect of transformers, TRL, accelerate and torch: one test per expectation. `make canary` runs them with the
newest releases."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer, TrlParser, chat_template_utils
from trl.kernels import chunked_logprob
from trl.trainer import utils as trl_utils

from zero2chat.core import config
from zero2chat.trainers.arguments import score_what_is_learned
from zero2chat.trainers.grpo import COUNT

QUIET = {"use_cpu": True, "bf16": False, "report_to": "none", "disable_tqdm": True, "dataloader_pin_memory": False}
TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b c"}, {"role": "user", "content": "d"}]


@pytest.fixture
def model(model_folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(model_folder)


# ---- TRL


@pytest.mark.parametrize("outputs", [("log_probs",), ("log_probs", "entropy", "is_top1")])
def test_trls_head_is_exact(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch, outputs: tuple[str, ...]) -> None:
    ids = torch.randint(10, 100, (3, 20), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    labels[:, :12], labels[1, 15:] = -100, -100
    monkeypatch.setattr(trl_utils, "_use_triton", chunked_logprob._use_triton)  # as it comes
    trl_utils.add_fused_lm_head(model, outputs=outputs)
    rows: list[int] = []
    head = trl_utils._ChunkedLogProbFunction
    exact = head.apply
    monkeypatch.setattr(head, "apply", lambda hidden, *rest: rows.append(len(hidden)) or exact(hidden, *rest))
    found = []
    for ours in (False, True):
        if ours:
            score_what_is_learned()
        model.zero_grad()
        out = model(input_ids=ids, labels=labels, fused_lm_head=True)
        out.loss.backward()
        found.append((out.loss.item(), out.log_probs.detach(), [p.grad.clone() for p in model.parameters()]))
    (loss, scores, gradients), (again, same, others) = found
    assert rows == [57, 19]
    assert again == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(same, scores, rtol=1e-4, atol=1e-5)
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-6)


def test_grpos_tool_loop_is_asked_and_answers_as_ours_does() -> None:
    asked = list(inspect.signature(GRPOTrainer._tool_call_loop).parameters)[1:6]
    assert asked == ["prompts", "prompt_ids", "completion_ids", "completions", "logprobs"]
    returned = "tool_mask, completions, completion_ids, logprobs, tool_call_count, tool_failure_count, tool_images"
    assert f"return {returned}" in inspect.getsource(GRPOTrainer._tool_call_loop)
    drawn = list(inspect.signature(GRPOTrainer._generate_single_turn).parameters)[1:5]
    assert drawn == ["prompt_ids", "images", "multimodal_fields", "num_generations"]
    assert list(inspect.signature(GRPOTrainer._generate).parameters)[1:] == ["prompts"]
    assert "self._tool_call_loop(" in inspect.getsource(GRPOTrainer._generate)
    assert "model.generation_config.eos_token_id" in inspect.getsource(GRPOTrainer.__init__)


def test_trl_judges_our_chat_template_by_these_names(tokenizer: PreTrainedTokenizerBase) -> None:
    assert chat_template_utils.has_generation_markers(tokenizer.chat_template)
    assert not chat_template_utils.has_generation_markers("{{ messages }}")
    assert chat_template_utils.is_chat_template_prefix_preserving(tokenizer)
    assert chat_template_utils.is_chat_template_stop_token_trained(tokenizer)
    assert chat_template_utils.supports_tool_calling(tokenizer)


@pytest.fixture
def practised(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> Callable[..., tuple[GRPOTrainer, list[Any]]]:
    """`practised(method, reward, **settings)` → GRPO's trainer after its steps, and each result of its method."""

    def train(method: str, reward: Any, **more: Any) -> tuple[GRPOTrainer, list[Any]]:
        given = {"per_device_train_batch_size": 4, "num_generations": 2, "max_completion_length": 4, "max_steps": 1}
        rows = Dataset.from_list([{"prompt": TURNS[:1], "answer": str(i)} for i in range(8)])
        args = GRPOConfig(str(tmp_path), **given | QUIET | more)
        trainer = GRPOTrainer(model, [reward], args, train_dataset=rows, processing_class=tokenizer)
        own, seen = getattr(trainer, method), list[Any]()

        def watched(*inputs: Any) -> Any:
            trainer._log_metric("habits/x", 2.0)
            seen.append((inputs, own(*inputs)))
            return seen[-1][1]

        setattr(trainer, method, watched)
        trainer.train()
        return trainer, seen

    return train


def _lengths(completions: list[Any], **_: Any) -> list[float]:
    return [float(i) for i in range(len(completions))]


def test_grpos_order_comes_from_a_generator_and_its_rewards_are_nan_where_none(practised: Any) -> None:
    def odd(completions: list[Any], **_: Any) -> list[float | None]:
        return [None if i % 2 else 1.0 for i in range(len(completions))]

    trainer, seen = practised("_calculate_rewards", odd, max_steps=2)
    assert trainer.state.num_input_tokens_seen > 0  # counted by TRL itself
    assert [rewards.shape for _, rewards in seen] == [(4, 1)] * 2
    assert [rewards.isnan().flatten().tolist() for _, rewards in seen] == [[False, True] * 2] * 2
    sampler = trainer._get_train_sampler()
    first = list(sampler)
    assert list(sampler) != first
    sampler.generator.manual_seed(sampler.seed)
    assert list(sampler) == first


@pytest.mark.parametrize("more", [{}, {"steps_per_generation": 2, "beta": 0.1}], ids=["plain", "old and reference"])
def test_grpo_makes_of_a_batch_what_resampling_knows(more: dict[str, Any], practised: Any) -> None:
    trainer, [((inputs,), batch)] = practised("_generate_and_score_completions", _lengths, **more)
    assert {"prompt", "answer"} <= inputs[0].keys()
    assert inputs[0] == inputs[1]  # a group stands together
    n = 4 * trainer.args.steps_per_generation
    known = {"prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "advantages", COUNT}
    more_known = {"old_per_token_logps", "ref_per_token_logps", "sampling_per_token_logps", "importance_sampling_ratio"}
    assert known <= batch.keys() <= known | more_known | {"tool_mask"}
    assert ("old_per_token_logps" in batch) == ("ref_per_token_logps" in batch) == bool(more)
    assert all(len(batch[key]) == n for key in batch.keys() - {COUNT})
    assert batch["advantages"].shape == (n,)
    assert batch[COUNT] == batch["completion_mask"].sum()
    assert (batch["prompt_mask"][:, -1] == 1).all()
    assert (batch["completion_mask"][:, 0] == 1).all()
    assert trainer.state.log_history[0]["habits/x"] == 2.0


def test_grpo_masks_all_of_an_answer_that_was_cut(practised: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    cut = {"max_completion_length": 1, "mask_truncated_completions": True}
    trainer, [(_, batch)] = practised("_generate_and_score_completions", _lengths, **cut)
    ended = (batch["completion_ids"] == tokenizer.eos_token_id).any(1)
    assert batch["completion_mask"].any(1).tolist() == ended.tolist()
    assert not ended.all()
    assert (batch["advantages"] != 0).all()  # what is masked has one none the less
    assert trainer.scale_rewards == "group"


@pytest.mark.parametrize("kind", [TrainingArguments, SFTConfig, GRPOConfig])
def test_settings_become_what_trls_parser_makes_of_them(kind: type, tmp_path: Path) -> None:
    """`config.build` reads them itself, because importing TRL takes seconds."""
    settings = {"output_dir": str(tmp_path), "learning_rate": 0.5, "save_strategy": "no", "optim": "adamw_torch"}
    settings |= {"lr_scheduler_type": "cosine", "report_to": "none", "label_names": ["labels"], "use_cpu": True}
    parser = TrlParser([kind])
    parser.set_defaults_with_config(**settings)
    (wanted,) = parser.parse_args_into_dataclasses(args=[], look_for_args_file=False)
    (built,) = config.build([kind], settings, "here")
    assert built.to_dict() | {"logging_dir": ""} == wanted.to_dict() | {"logging_dir": ""}
    known = {action.dest for action in parser._actions} - {"help"}
    assert known == {field.name for field in dataclasses.fields(kind) if field.init}


@pytest.mark.parametrize("packing", [False, True])
def test_sft_learns_what_assistant_masks_mark_and_nothing_else(
    packing: bool, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    masks = [[0] * 3 + [1] * (2 + i) for i in range(6)]
    rows = Dataset.from_dict({"input_ids": [[40 + i] * (5 + i) for i in range(6)], "assistant_masks": masks})
    args = SFTConfig(str(tmp_path), packing=packing, max_length=24, per_device_train_batch_size=6, **QUIET)
    trainer = SFTTrainer(model=model, args=args, train_dataset=rows, processing_class=tokenizer)
    (batch,) = trainer.get_train_dataloader()
    found = []
    for ids, labels in zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True):
        for i in range(6):
            places = [place for place, token in enumerate(ids) if token == 40 + i]
            found += [(i, [int(labels[place] != -100) for place in places])] if places else []
        # Marked tokens are trained on unchanged; padding is not trained on.
        assert all(label in (-100, token) for token, label in zip(ids, labels, strict=True))
        assert all(label == -100 for token, label in zip(ids, labels, strict=True) if token < 40)
    assert sorted(found) == list(enumerate(masks))  # nothing is cut, lost or twice there


def test_packed_rows_are_apart(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    rows = Dataset.from_dict({"input_ids": [[50, 51, 52, 53], [60, 61, 62]], "assistant_masks": [[1] * 4, [1] * 3]})
    args = SFTConfig(str(tmp_path), packing=True, max_length=8, per_device_train_batch_size=2, **QUIET)
    trainer = SFTTrainer(model=model.eval(), args=args, train_dataset=rows, processing_class=tokenizer)
    (batch,) = trainer.get_train_dataloader()
    assert batch["input_ids"].tolist() == [[50, 51, 52, 53, 60, 61, 62]]
    with torch.no_grad():
        packed = model(**{key: value for key, value in batch.items() if key != "labels"}).logits[0]
        alone = model(torch.tensor([[60, 61, 62]])).logits[0]
    torch.testing.assert_close(packed[-3:], alone, atol=1e-4, rtol=1e-4)


# ---- transformers' Trainer


class Watch(TrainerCallback):
    """What callbacks receive, and when."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.saved: set[str] = set()
        self.logs: list[dict[str, Any]] = []
        self.tokens: list[int] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.events.append(f"begin {state.global_step}")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.events.append(f"end {state.global_step}")

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self.logs.append(dict(logs))
        self.tokens.append(int(state.num_input_tokens_seen))

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.events.append(f"save {state.global_step}")
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        self.saved = {path.name for path in folder.iterdir() if path.stat().st_size}


@pytest.fixture
def watched(model: PreTrainedModel, tmp_path: Path) -> tuple[Trainer, Watch]:
    watch = Watch()
    rows = [{"input_ids": torch.full((8,), 40 + i), "labels": torch.full((8,), 40 + i)} for i in range(8)]
    every = {"per_device_train_batch_size": 2, "logging_steps": 1, "save_steps": 2}
    args = TrainingArguments(str(tmp_path), max_steps=2, **every, **QUIET)
    trainer = Trainer(model, args, train_dataset=rows, eval_dataset=rows, callbacks=[watch])
    trainer.args.include_num_input_tokens_seen = "all"  # after it is made, as `train` does
    return trainer, watch


def test_callbacks_see_whole_checkpoints_and_the_keys_of_our_history(watched: tuple[Trainer, Watch]) -> None:
    trainer, watch = watched
    trainer.train()
    assert watch.events == ["begin 0", "end 1", "begin 1", "end 2", "save 2"]
    # The manifest lists the files that exist at `on_save`: these must be all that a resumed run needs.
    needed = {"model.safetensors", "config.json", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"}
    assert needed <= watch.saved
    assert [{"loss", "grad_norm", "learning_rate", "epoch"} <= set(log) for log in watch.logs] == [True, True, False]
    assert "train_loss" in watch.logs[-1]
    assert watch.tokens == [16, 32, 32]
    assert trainer.is_world_process_zero()
    result = trainer.evaluate(metric_key_prefix="eval_mine")
    assert "eval_mine_loss" in result


# ---- tokenizers


def test_control_tokens_can_be_encoded_as_text(tokenizer: PreTrainedTokenizerBase) -> None:
    text = "a<|im_end|>b"
    one, many = tokenizer(text)["input_ids"], tokenizer(text, split_special_tokens=True)["input_ids"]
    assert tokenizer.eos_token_id in one
    assert tokenizer.eos_token_id not in many
    assert tokenizer.decode(many) == text == tokenizer.decode(one)
    assert tokenizer([text], split_special_tokens=True, add_special_tokens=False)["input_ids"] == [many]

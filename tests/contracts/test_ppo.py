"""What PPO expects of TRL and transformers, including their private parts: one test per expectation."""

from __future__ import annotations

import dataclasses
import inspect

from transformers import PreTrainedTokenizerBase, Trainer
from trl import GRPOConfig
from trl.chat_template_utils import parse_response
from trl.models import prepare_deepspeed, unwrap_model_for_generation
from trl.trainer.base_config import _BaseConfig as BaseConfig
from trl.trainer.utils import RepeatSampler, pad

from zero2chat.trainers.ppo.config import PPOConfig
from zero2chat.trainers.trainer import order_by_epoch


def _parameters(function: object) -> set[str]:
    return set(inspect.signature(function).parameters)  # type: ignore[arg-type]


def test_keys_that_grpo_has_too_have_its_types_and_mean_what_they_mean_there() -> None:
    ours, theirs = ({f.name: f for f in dataclasses.fields(kind)} for kind in (PPOConfig, GRPOConfig))
    own = {
        "missing_eos_penalty", "kl_coef", "kl_limit",
        "gamma", "lam", "whiten_advantages", "num_ppo_epochs", "num_mini_batches", "cliprange", "cliprange_value",
        "vf_coef", "kl_budget", "early_stopping_patience", "max_prompt_length",
    }  # fmt: skip
    assert ours.keys() - theirs.keys() == own
    base = {f.name for f in dataclasses.fields(BaseConfig)}
    for name in ours.keys() & theirs.keys() - base:
        assert ours[name].default == theirs[name].default, name


def test_trainer_has_the_methods_that_are_overridden_with_their_parameters() -> None:
    assert {"dataset", "description", "batch_size", "sampler_fn", "is_training"} <= _parameters(Trainer._get_dataloader)
    assert {"output_dir", "state_dict"} <= _parameters(Trainer._save)
    assert {"resume_from_checkpoint", "model"} <= _parameters(Trainer._load_from_checkpoint)
    assert "checkpoint" in _parameters(Trainer._load_optimizer_and_scheduler)
    assert {"model", "trial"} <= _parameters(Trainer._save_checkpoint)
    assert {"model", "inputs", "prediction_loss_only", "ignore_keys"} <= _parameters(Trainer.prediction_step)
    assert {"model", "inputs", "return_outputs", "num_items_in_batch"} <= _parameters(Trainer.compute_loss)
    for name in ("_prepare_inputs", "_load_best_model", "_set_signature_columns_if_needed", "_get_train_sampler"):
        assert callable(getattr(Trainer, name))


def test_prompts_come_again_for_each_step_that_learns_from_them_in_an_order_of_seed_and_epoch() -> None:
    def order(epoch: int) -> list[int]:
        sampler = RepeatSampler(range(7), mini_repeat_count=1, batch_size=3, repeat_count=2, shuffle=True, seed=5)
        sampler = order_by_epoch(sampler, 5)
        sampler.set_epoch(epoch)
        return list(sampler)

    first = order(0)
    assert first[:3] == first[3:6]
    assert first[6:9] == first[9:12]
    assert len(set(first)) == 6
    assert order(0) == first != order(1)
    assert order(1) == order(1)


def test_a_response_is_parsed_with_its_prompt(tokenizer: PreTrainedTokenizerBase) -> None:
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "a"}], add_generation_prompt=True, return_dict=True
    )["input_ids"]
    assert parse_response(tokenizer, tokenizer("b c")["input_ids"], prefix=prompt)["content"] == "b c"


def test_what_unwraps_shards_and_samples_takes_our_arguments() -> None:
    assert {"model", "accelerator"} <= _parameters(prepare_deepspeed)
    unwrap = {"model", "accelerator", "gradient_checkpointing_kwargs"}
    assert unwrap <= _parameters(unwrap_model_for_generation)
    assert {"tensors", "padding_value", "padding_side"} <= _parameters(pad)

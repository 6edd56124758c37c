"""PPO on tiny models: its gradient equals the formula's, and it learns."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from tiny import qwen3
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from zero2chat.core.errors import UserError
from zero2chat.models.reward_model import encode
from zero2chat.trainers.ppo.config import PPOConfig
from zero2chat.trainers.ppo.rewards import RewardModel
from zero2chat.trainers.ppo.rollout import Completions
from zero2chat.trainers.ppo.trainer import PPOTrainer

QUIET = {"use_cpu": True, "bf16": False, "report_to": "none", "disable_tqdm": True, "dataloader_pin_memory": False}
SMALL = {"per_device_train_batch_size": 8, "max_completion_length": 8, "learning_rate": 1e-3, "logging_steps": 1}
SMALL |= {"max_steps": 2, "save_strategy": "no", "gradient_checkpointing": False, "lr_scheduler_type": "constant"}
WORDS = ["apple", "boat", "candle", "door", "engine", "flower", "garden", "house"]
WORDS += ["island", "jacket", "kettle", "ladder", "mirror", "needle", "ocean", "pencil"]
PROMPTS = Dataset.from_dict({"prompt": [f"Say something about the {word}." for word in WORDS], "number": range(16)})
TALKS = PROMPTS.map(lambda row: {"prompt": [{"role": "user", "content": row["prompt"]}]})


def by_length(completions: list[Any], **_: Any) -> list[float]:
    return [len(str(completion)) / 10 for completion in completions]


@pytest.fixture
def model(model_folder):
    return AutoModelForCausalLM.from_pretrained(model_folder)


@pytest.fixture
def make(model, tokenizer, tmp_path):
    """`make(funcs=…, prompts=…, sample=…, **settings)`; what begins with `to_` goes to the trainer.

    `sample(trainer, n)` returns the ids of `n` prompts and of their completions, instead of a rollout.
    """

    def build(funcs=by_length, prompts=PROMPTS, sample=None, weights=None, **settings):
        more = {key.removeprefix("to_"): settings.pop(key) for key in list(settings) if key.startswith("to_")}
        args = PPOConfig(str(settings.pop("output_dir", tmp_path / "run")), **{**QUIET, **SMALL, **settings})
        given = {"model": model, "processing_class": tokenizer} | more
        funcs = funcs if isinstance(funcs, list) else [funcs]
        for func, weight in zip(funcs, weights or [1.0] * len(funcs), strict=True):
            func.weight = weight
        trainer = PPOTrainer(rewards=funcs, args=args, train_dataset=prompts, **given)
        if sample is not None:

            def rollout(_, prompts):
                prompt_ids, ids = sample(trainer, len(prompts))
                return Completions(prompt_ids, ids, tokenizer.batch_decode(ids))

            trainer.rollout = rollout
        return trainer

    return build


def next_batch(trainer: PPOTrainer) -> dict[str, torch.Tensor]:
    """What the first step learns from."""
    trainer.model.train()
    return trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))


def nudge(module: torch.nn.Module, by: float = 0.05) -> None:
    """Move the weights away from where they began."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += by * torch.randn(parameter.shape, generator=generator)


# ---- correctness


def test_without_clipping_the_gradient_of_one_epoch_is_reinforce_with_a_baseline(make):
    """Every row on its own, without padding, from the definition: -sum_t (G_t - V_t) grad log pi_t / tokens."""
    trainer = make(num_ppo_epochs=1, cliprange=None, vf_coef=0.0, lam=1.0, whiten_advantages=False, kl_coef=0.3)
    nudge(trainer.model)
    batch = next_batch(trainer)
    trainer.compute_loss(trainer.model, batch).backward()
    result = {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}
    trainer.model.zero_grad()

    policy, reference, head = trainer.model.policy, trainer.ref_model, trainer.model.value.score
    total = torch.zeros(())
    tokens = int(batch["mask"].sum())
    answers = zip(batch["completion_ids"], batch["completion_mask"], strict=True)
    chosen = [ids[mask.bool()] for ids, mask in answers]
    scores = by_length(trainer.processing_class.batch_decode(chosen, skip_special_tokens=True))
    for row, score in enumerate(scores):
        prompt = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()]
        answer = chosen[row]
        ids, n = torch.cat([prompt, answer])[None], len(answer)
        output = policy(ids, output_hidden_states=True)
        logps = output.logits[0, -n - 1 : -1].log_softmax(-1).gather(1, answer[:, None]).squeeze(1)
        with torch.no_grad():
            start = reference(ids).logits[0, -n - 1 : -1].log_softmax(-1).gather(1, answer[:, None]).squeeze(1)
            values = head(output.hidden_states[-1][0, -n - 1 : -1]).squeeze(1)
            rewards = -0.3 * (logps - start)
            rewards[-1] += score
            to_go = rewards.flip(0).cumsum(0).flip(0)
        total = total - ((to_go - values) * logps).sum() / tokens
    total.backward()
    assert head.weight.abs().max() > 0  # the baseline is one
    for name, parameter in policy.named_parameters():
        torch.testing.assert_close(result[f"policy.{name}"], parameter.grad, atol=2e-5, rtol=1e-3)


def test_the_reward_comes_with_the_last_token_that_the_model_chose(make):
    def sample(trainer, n):
        return [[80]] * n, [[60, 61, 62] if i % 2 else [60, 61] for i in range(n)]

    # Discounted, so that its place shows.
    trainer = make(lambda completions, **_: [2.0] * len(completions), sample=sample, lam=1.0, gamma=0.5, kl_coef=0.0)
    batch = next_batch(trainer)
    assert sorted(batch["returns"].tolist()) == [[0.5, 1.0, 2.0]] * 4 + [[1.0, 2.0, 0.0]] * 4


def steps(trainer: PPOTrainer) -> list[dict[str, float]]:
    trainer.train()
    return [line for line in trainer.state.log_history if "loss" in line]


def test_eight_answers_at_once_are_one_answer_eight_times(make, model_folder, tmp_path):
    more, result = {"max_steps": 8, "num_ppo_epochs": 2, "num_mini_batches": 2, "kl_coef": 0.1}, []
    for size in (8, 1):
        more |= {"per_device_train_batch_size": size, "gradient_accumulation_steps": 8 // size}
        trainer = make(to_model=AutoModelForCausalLM.from_pretrained(model_folder), **more)
        result.append((steps(trainer), trainer.model.state_dict()))
    for one, other in zip(result[0][0], result[1][0], strict=True):
        assert one.keys() == other.keys()
        for key in one.keys() & {"loss", "grad_norm", "reward", "kl", "explained_variance", "entropy", "policy_loss"}:
            assert one[key] == pytest.approx(other[key], abs=2e-4, rel=1e-3), key
    torch.testing.assert_close(result[0][1], result[1][1], atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_at_its_first_step_the_ratio_is_one_and_nothing_is_clipped(temperature, make):
    first, second = steps(make(num_ppo_epochs=2, learning_rate=1e-2, temperature=temperature))
    assert first["clip_ratio/region_mean"] == first["clip_ratio/value_mean"] == 0
    assert first["approx_kl"] == pytest.approx(0, abs=1e-6)
    assert first["kl"] == pytest.approx(0, abs=1e-5)
    assert first["policy_loss"] == pytest.approx(0, abs=1e-4)  # advantages are whitened
    assert second["approx_kl"] > 1e-4


# ---- learning


def test_the_value_learns_what_to_expect(make):
    """A reward that the prompt alone decides can be foreseen, whatever is answered."""

    more = {"learning_rate": 3e-3, "kl_coef": 0.0, "vf_coef": 1.0, "cliprange_value": None}
    score = lambda number, **_: [n / 8 for n in number]  # noqa: E731
    trainer = make(score, max_steps=120, per_device_train_batch_size=16, **more)
    lines = [line for line in steps(trainer) if "explained_variance" in line]
    assert lines[0]["explained_variance"] == pytest.approx(0, abs=1e-4)  # its head begins at 0
    assert sum(line["explained_variance"] for line in lines[-4:]) / 4 > 0.8


# ---- what GRPOTrainer's users bring along


def test_columns_and_conversations_reach_functions(make):
    seen: list[dict[str, Any]] = []

    def first(prompts, completions, completion_ids, number, **more):
        seen.append({"prompts": prompts, "completions": completions, "number": number, **more})
        more["log_metric"]("mine", 5.0)  # GRPO logs it
        return torch.tensor([float(len(ids)) for ids in completion_ids])

    def second(completions, **_):
        return [1.0] * len(completions)

    trainer = make([first, second], TALKS, weights=[1.0, 10.0], num_ppo_epochs=1, max_steps=1)
    (line,) = steps(trainer)
    assert line["reward"] == pytest.approx(line["rewards/first/mean"] + 10)
    assert line["rewards/second/mean"] == 1
    assert line["rewards/first/mean"] == pytest.approx(line["completions/mean_length"])
    (given,) = seen
    assert given["trainer_state"] is trainer.state
    for prompt, completion, number in zip(given["prompts"], given["completions"], given["number"], strict=True):
        assert prompt == TALKS[number]["prompt"]
        assert completion[0]["role"] == "assistant"
        assert isinstance(completion[0]["content"], str)


@pytest.mark.parametrize("prompts", [PROMPTS, TALKS], ids=["plain", "conversations"])
def test_reward_models_read_answers_as_in_their_training(make, model_folder, tokenizer, prompts):
    torch.manual_seed(1)  # a reward model that was never trained: its random opinions are as good as any
    model = AutoModelForSequenceClassification.from_pretrained(model_folder, num_labels=1)
    model.config.pad_token_id = tokenizer.pad_token_id
    torch.nn.init.normal_(model.score.weight)
    said: list[Any] = []

    def listen(prompts, completions, **_):
        said.extend(zip(prompts, completions, strict=True))
        return [None] * len(prompts)

    trainer = make([RewardModel("liked", model, tokenizer), listen], prompts, num_ppo_epochs=1, max_steps=1)
    (line,) = steps(trainer)
    assert line["reward"] == pytest.approx(line["rewards/liked/mean"])
    expected = []
    for prompt, completion in said:
        if isinstance(prompt, str):
            ids = [*tokenizer(prompt + completion)["input_ids"], tokenizer.eos_token_id]
        else:  # as the stage `reward` encodes them, control tokens as text
            (ids,) = encode(tokenizer, [[*prompt, *completion]])
        with torch.no_grad():
            expected.append(float(model(torch.tensor([ids])).logits[0, 0]))
    assert line["rewards/liked/mean"] == pytest.approx(sum(expected) / 8, abs=1e-4)


def test_answers_that_no_function_judges_are_left_out_and_counted(make):
    trainer = make(lambda number, **_: [None if n % 2 else 1.0 for n in number], per_device_train_batch_size=16)
    batch = next_batch(trainer)
    assert trainer.counts["unscored_completions"] == int((batch["mask"].sum(1) == 0).sum()) == 8
    assert batch["advantages"][batch["mask"].sum(1) == 0].abs().max() == 0
    # Where nothing at all is judged there is nothing to learn, and no NaN.
    trainer = make(lambda prompts, **_: [None] * len(prompts), max_steps=1, num_ppo_epochs=1, weight_decay=0.0)
    before = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}
    (line,) = steps(trainer)
    assert (line["loss"], line["reward"]) == (0, None)
    assert all((weight == before[name]).all() for name, weight in trainer.model.state_dict().items())


def test_a_missing_reward_is_the_functions_mean_over_the_rest(make):
    def some(number, **_):
        return [None if n % 2 else 8.0 for n in number]

    batch = next_batch(make([lambda number, **_: [7.0] * len(number), some], kl_coef=0.0, lam=1.0))
    assert batch["returns"][:, 0].tolist() == pytest.approx([15.0] * len(batch["returns"]))


def test_an_answer_that_did_not_end_pays_and_one_that_did_does_not(make):
    def sample(trainer, n):
        end = trainer.eos_token_ids[0]
        # An EOS token in the prompt does not end the completion.
        return [[end, 80]] * n, [[60, end] if i % 2 else [60, 61] for i in range(n)]

    batch = next_batch(
        make(
            lambda completions, **_: [1.0] * len(completions),
            missing_eos_penalty=0.75,
            sample=sample,
            kl_coef=0.0,
            lam=1.0,
        )
    )
    returns = zip(batch["completion_ids"].tolist(), batch["returns"].tolist(), strict=True)
    assert {(ids == [60, 61], value[0]) for ids, value in returns} == {(True, 0.25), (False, 1.0)}


def test_lora_needs_no_second_copy_of_the_reference(make, model_folder):
    lora = LoraConfig(r=4, target_modules="all-linear")
    trainer = make(to_peft_config=lora, learning_rate=2e-2, max_steps=8, save_strategy="steps", save_steps=8)
    assert trainer.ref_model is None
    assert sum(p.numel() for p in trainer.model.policy.parameters() if not p.requires_grad) > 0
    lines = [line for line in steps(trainer) if "kl" in line]
    assert lines[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert lines[-1]["kl"] != 0
    assert trainer.model.value.score.weight.abs().max() > 0
    # The reference is still the model that it was.
    start = AutoModelForCausalLM.from_pretrained(model_folder)
    ids = torch.tensor([[50, 51, 52]])
    with trainer.start_model() as reference, torch.no_grad():
        torch.testing.assert_close(reference(ids).logits, start(ids).logits)
    saved = {path.name for path in Path(trainer.args.output_dir, "checkpoint-8").iterdir()}
    assert {"adapter_model.safetensors", "value.safetensors"} <= saved


def test_a_resumed_trainer_ends_where_an_uninterrupted_one_does(make, model_folder, tmp_path):
    more = {"max_steps": 8, "num_ppo_epochs": 2, "num_mini_batches": 2, "per_device_train_batch_size": 4}
    more |= {"save_strategy": "steps", "save_steps": 4, "gradient_checkpointing": True}
    whole, again = (make(to_model=AutoModelForCausalLM.from_pretrained(model_folder), **more) for _ in range(2))
    whole.train()
    again.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-4"))
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, again.model.state_dict()[name]), name
    # The folder is an ordinary model's, and a checkpoint holds the value.
    whole.save_model(str(tmp_path / "made"))
    assert (tmp_path / "run" / "checkpoint-8" / "value.safetensors").exists()
    assert not (tmp_path / "made" / "value.safetensors").exists()


@pytest.mark.parametrize("sharded", [False, True])
def test_training_that_diverges_ends_and_names_the_step(make, sharded):
    trainer = make(learning_rate=1e-2, max_steps=20, num_ppo_epochs=1, kl_coef=0.0, kl_limit=1e-3)
    if sharded:
        head = trainer.model.policy.lm_head.weight
        head.ds_tensor, head.data = torch.full((3,), math.nan), torch.empty(0)  # as ZeRO-3 leaves it
        with pytest.raises(UserError, match="the weights are no longer finite"):
            next_batch(trainer)
        return
    with pytest.raises(UserError, match=r"over kl_limit 0\.001: training has diverged: lower learning_rate") as caught:
        trainer.train()
    assert str(caught.value).startswith(f"step {trainer.state.global_step}: KL to the start model is ")


def test_an_evaluation_in_batches_of_two_is_that_of_eight_and_holds_few_logits(make, tokenizer):
    """With Llama 3's vocabulary a held-out batch's logits would fill a GPU, and so would those of whole sequences."""
    wide = 128_256
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1, "num_key_value_heads": 1}
    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    model = qwen3(vocab_size=wide, num_hidden_layers=1, head_dim=8, max_position_embeddings=64, **sizes, **ends)
    rows: list[int] = []

    class Widest(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            output = func(*args, **(kwargs or {}))
            for x in output if isinstance(output, tuple | list) else [output]:
                if isinstance(x, torch.Tensor) and x.dim() and x.shape[-1] == wide:
                    # Of memory: a product of a batch may expand the head's weight without a copy.
                    rows.append(x.untyped_storage().nbytes() // (wide * x.element_size()))
            return output

    evaluated = []
    for size in (2, 8):
        trainer = make(
            lambda completion_ids, **_: [ids[0] / wide for ids in completion_ids], to_model=copy.deepcopy(model),
            per_device_train_batch_size=size, per_device_eval_batch_size=8, gradient_accumulation_steps=8 // size,
            max_completion_length=3, num_ppo_epochs=1, to_eval_dataset=PROMPTS.select(range(8)),
        )  # fmt: skip
        nudge(trainer.ref_model)
        torch.manual_seed(1)
        rows.clear()
        with Widest():
            evaluated.append(trainer.evaluate())
        # The decoded rows' next token; or a micro-batch's completions, and the token before them.
        assert max(rows) <= max(8, size * 4)
    for key in ("policy_loss", "value_loss", "reward", "kl", "entropy", "kl_sequence", "completions/mean_length"):
        assert evaluated[0][f"eval_{key}"] == pytest.approx(evaluated[1][f"eval_{key}"], abs=1e-4), key
    assert evaluated[0]["eval_value_loss"] > 1e-3


# ---- mistakes


@pytest.mark.parametrize(
    ("reward", "settings", "message"),
    [
        (lambda completions, **_: [0.0] * (len(completions) - 1), {}, "returned 7 rewards for 8 completions"),
        (lambda completions, **_: [math.nan] * len(completions), {}, "returned nan for completion 0, not a finite n"),
        (lambda completions, **_: ["good"] * len(completions), {}, "returned 'good' for completion 0"),
        (lambda completions, **_: 1.0, {}, "returned 1.0, not a list of rewards"),
        (lambda completions, **_: None, {}, "returned None, not a list of rewards"),
        (by_length, {"per_device_train_batch_size": 17}, "16 prompts, but one rollout needs 17: give more"),
    ],
)
def test_invalid_rewards_and_too_few_prompts_are_refused(make, reward, settings, message):
    with pytest.raises(UserError, match=message):
        make(reward, **settings).train()

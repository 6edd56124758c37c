"""PPO (Schulman et al. 2017, arXiv:1707.06347) for language models (Ouyang et al. 2022, arXiv:2203.02155).

From prompts to a gradient, in the order in which the functions run:

    rollout       `Rollout`          rollout.py   prompts → one completion each, as token ids
    rewards       `call_rewards`     rewards.py   completions → (rows, functions); their weighted sum is the score
    reading       `_score`           here         policy, value and reference: one number per token, (rows, tokens)
    KL penalty    `kl_penalty`       losses.py    (rows, tokens); `token_rewards` adds the score at the last token
    advantages    `gae`              losses.py    rewards and values → advantages and returns
    whitening     `whiten`           losses.py    advantages → mean 0, variance 1 over the rollout
    minibatches   `_minibatches`     here         the rollout's rows in a new order for each of its epochs
    losses        `policy_loss`, `value_loss`     losses.py, added up in `compute_loss`

`_roll_out` calls all but the last two, once per rollout. `_prepare_inputs` returns one minibatch after the other. The
Trainer's own loop takes the steps, with its optimizer, schedule, gradient accumulation, DeepSpeed and resuming. Policy
and value head are one module (`model.py`). Settings, reward functions, log and checkpoints follow TRL's `GRPOTrainer`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from accelerate.utils import set_seed
from datasets import Dataset
from torch import nn
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset
from transformers import EarlyStoppingCallback, PreTrainedModel, PreTrainedTokenizerBase
from trl.models import prepare_deepspeed
from trl.trainer.utils import RepeatSampler, identity

from zero2chat.core.errors import UserError
from zero2chat.core.stats import Metrics
from zero2chat.models.hardware import is_fsdp
from zero2chat.trainers.grpo import fill_missing
from zero2chat.trainers.muon import use_muon
from zero2chat.trainers.ppo.config import PPOConfig
from zero2chat.trainers.ppo.log import HOW_TO_READ, MetricLog
from zero2chat.trainers.ppo.losses import (
    explained_variance,
    gae,
    kl_penalty,
    policy_loss,
    token_rewards,
    value_loss,
    whiten,
)
from zero2chat.trainers.ppo.model import open_models, token_scores
from zero2chat.trainers.ppo.policy_trainer import PolicyTrainer
from zero2chat.trainers.ppo.rewards import RewardModel, call_rewards, worst_reward
from zero2chat.trainers.ppo.rollout import Batch, Rollout, as_tensors, joined, trimmed
from zero2chat.trainers.trainer import order_by_epoch


class PPOTrainer(PolicyTrainer):
    """Trains a causal language model with PPO on its own completions.

    With a `peft_config`, an adapter is trained, and the reference is the model without it. `train_dataset` has a column
    `prompt` (text or messages). `rewards` are functions that get all other columns, each with a `weight` (default 1).
    ZeRO-3 loads the reference from the model's repository at `revision`. Set the stop and pad tokens first.

    Raises `UserError` for invalid settings, rewards or prompts, and if training diverges.
    """

    loss_is_scaled_for_ga = True
    how_to_read_the_log = HOW_TO_READ

    def __init__(
        self,
        model: PreTrainedModel,
        rewards: Sequence[Any],
        args: PPOConfig,
        train_dataset: Dataset,
        processing_class: PreTrainedTokenizerBase,
        peft_config: Any = None,
        revision: str = "main",
        muon: bool = False,
        **more: Any,
    ):
        set_seed(args.seed)  # PEFT initializes the adapter's weights randomly
        ends = model.generation_config.eos_token_id
        self.eos_token_ids = ends if isinstance(ends, list) else [ends]
        trained, self.ref_model = open_models(model, peft_config, revision)
        self.rewards, self.reward_names = rewards, [function.__name__ for function in rewards]
        self._require_possible(args, train_dataset)
        self.counts: Counter[str] = Counter()  # unscored_completions, stopped_at; `train` saves them in checkpoints
        self._step = 0  # number of forward and backward passes
        self._rollout: Batch = {}
        self._buffer: list[Batch] = []  # the micro-batches of this epoch of the rollout
        super().__init__(
            model=trained,
            args=args,
            data_collator=identity,  # rows stay unchanged until sampling
            train_dataset=train_dataset,
            processing_class=processing_class,
            optimizer_cls_and_kwargs=use_muon(trained, args) if muon else None,
            **more,
        )
        self.metrics = MetricLog(trained)
        if self.ref_model is not None:
            self.ref_model = self._place(self.ref_model)
        for one in rewards:
            if isinstance(one, RewardModel):
                one.batch_size, one.engine = args.per_device_train_batch_size, self._place(one.model)
                one.model = self.accelerator.unwrap_model(one.engine)
        # Ranks with equal seeds would generate equal completions.
        set_seed(args.seed, device_specific=True)
        if args.early_stopping_patience is not None:
            self.add_callback(EarlyStopping(args.early_stopping_patience))
        self.rollout = Rollout(args, processing_class, self.eos_token_ids)

    def _require_possible(self, args: PPOConfig, prompts: Dataset) -> None:
        """Raise `UserError` for an unsupported launch, too few prompts, or a best-model metric that is not logged."""
        if args.n_gpu > 1:
            raise UserError("PPO: one process for several GPUs is not supported: use `accelerate launch`")
        if is_fsdp(args.fsdp):
            raise UserError("PPO: FSDP is not supported (it shards policy and value model together): use ZeRO")
        at_once = args.rollout_batch_size * args.world_size
        if len(prompts) < at_once:
            raise UserError(f"{len(prompts)} prompts, but one rollout needs {at_once}: give more prompts")
        metric = str(args.metric_for_best_model).removeprefix("eval_")
        several = worst_reward(self.rewards, [0.0] * len(self.rewards)) is not None
        known = ["reward", *["reward_worst"] * several, *(f"rewards/{name}/mean" for name in self.reward_names)]
        if args.metric_for_best_model is not None and metric not in known:
            why = "" if several else "; reward_worst needs two or more reward models with a saved score scale"
            raise UserError(f"metric_for_best_model: '{metric}' is not one of {', '.join(known)}{why}")

    def _place(self, model: nn.Module) -> nn.Module:
        """Place a frozen model on the device, or shard it with DeepSpeed."""
        if self.is_deepspeed_enabled:
            return prepare_deepspeed(model, self.accelerator)
        return self.accelerator.prepare_model(model, evaluation_mode=True)

    # ---- data: a rollout's prompts at once, repeated for each of its steps

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["prompt"]

    def get_train_dataloader(self) -> DataLoader:
        return self._get_dataloader(
            dataset=self.train_dataset,
            description="Training",
            batch_size=self.args.rollout_batch_size,
            sampler_fn=self._get_train_sampler,
            is_training=True,
        )

    def _get_train_sampler(self, train_dataset: TorchDataset | None = None) -> Sampler:
        """Return a sampler that repeats each rollout's prompts for all steps of the rollout."""
        args = self.args
        seed = args.seed if args.data_seed is None else args.data_seed
        sampler = RepeatSampler(
            data_source=self.train_dataset if train_dataset is None else train_dataset,
            mini_repeat_count=1,
            batch_size=args.rollout_batch_size * args.world_size,
            repeat_count=args.steps_per_rollout * args.gradient_accumulation_steps,
            shuffle=True,
            seed=seed,
        )
        return order_by_epoch(sampler, seed)

    def _prepare_inputs(self, inputs: list[dict[str, Any]]) -> Batch:
        """Return the rollout's next micro-batch. The first call generates the rollout for `inputs`, the prompts."""
        if not self.model.training:
            (batch,) = self._minibatches(self._roll_out(inputs), torch.arange(len(inputs)), len(inputs), 1)
            return batch
        a_pass = self.args.num_mini_batches * self.args.gradient_accumulation_steps
        turn = self._step % (a_pass * self.args.num_ppo_epochs)
        if turn == 0:
            self._buffer = []
            self._rollout = self._roll_out(inputs)
        if turn % a_pass == 0:
            order = torch.randperm(len(inputs))
            size = self.args.per_device_train_batch_size
            self._buffer = self._minibatches(self._rollout, order, size, self.args.gradient_accumulation_steps)
        return self._buffer[turn % a_pass]

    def _minibatches(self, rollout: Batch, order: torch.Tensor, size: int, accumulate: int) -> list[Batch]:
        """Split the rollout's rows in `order` into batches of `size`, with the minibatch's token count of all ranks."""
        order = order.to(self.accelerator.device)
        tokens = rollout["mask"][order].view(-1, size * accumulate, rollout["mask"].shape[1]).sum((1, 2))
        tokens = self._total(tokens.float()).clamp(min=1)
        rows = [{key: values[part] for key, values in rollout.items()} for part in order.split(size)]
        return [trimmed(batch) | {"tokens": tokens[i // accumulate]} for i, batch in enumerate(rows)]

    # ---- the rollout

    @torch.no_grad()
    def _roll_out(self, inputs: list[dict[str, Any]]) -> Batch:
        """Generate and score completions for this process's prompts. Returns the steps' tensors, each (rows, tokens).

        Prompts are padded on the left, completions on the right. `mask` is true for tokens with loss; for other tokens,
        `advantages` and `returns` are 0.
        """
        args, device, total = self.args, self.accelerator.device, self._total
        # Of a weight that ZeRO-3 shards, this rank's part. One answer for all, as each would block an accelerator.
        trained = [getattr(p, "ds_tensor", p.data) for p in self.model.parameters() if p.requires_grad]
        if total((~torch.stack([weight.isfinite().all() for weight in trained]).all()).float()):
            raise self._diverged("the weights are no longer finite")
        with self.trained_model() as policy:
            answers = self.rollout(policy, [row["prompt"] for row in inputs])
        if not all(answers.completion_ids):
            empty = f"rollout: answer {answers.completion_ids.index([])} has no tokens"
            raise UserError(f"{empty}: the rollout function must return at least EOS")
        batch = as_tensors(answers, self.processing_class.pad_token_id, device)
        sampled = batch["completion_mask"].bool()
        ended = torch.tensor([ids[-1] in self.eos_token_ids for ids in answers.completion_ids], device=device)

        by_function = call_rewards(self.rewards, inputs, answers, self.state).to(device)
        weights = torch.tensor([getattr(function, "weight", 1.0) for function in self.rewards], device=device)
        # A missing reward is the function's mean over the rollout, because 0 may be its best or its worst value.
        everyone = self.accelerator.gather(by_function)
        filled = fill_missing(everyone, len(everyone))[self.accelerator.process_index * len(inputs) :][: len(inputs)]
        rewards = (filled * weights).nansum(1)
        scores = rewards - (args.missing_eos_penalty or 0.0) * ~ended

        logps, values, entropy, ref_logps = self._score(batch)
        kl = kl_penalty(logps, ref_logps, "k1") * sampled
        per_token = token_rewards(scores, kl, args.kl_coef, sampled)
        mask = sampled & ~by_function.isnan().all(1)[:, None]  # a completion without a reward has no loss
        advantages, returns = gae(per_token, values, mask, args.gamma, args.lam)
        foreseen = explained_variance(values, returns, mask, total)
        if args.whiten_advantages:
            advantages = whiten(advantages, mask, total)

        self.metrics.rows = len(inputs)
        self._log_rollout(batch, kl, entropy * sampled, ended, by_function, rewards)
        self.metrics.add({"explained_variance": foreseen})
        return batch | {"logps": logps, "values": values, "advantages": advantages, "returns": returns, "mask": mask}

    def _score(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """Return log-probabilities, values, entropies and reference log-probabilities of all completion tokens."""
        size = self.args.per_device_train_batch_size
        width = batch["completion_ids"].shape[1]
        chunks: list[list[torch.Tensor]] = []
        for start in range(0, len(batch["completion_ids"]), size):
            part = trimmed({key: values[start : start + size] for key, values in batch.items()})
            ids, mask, keep = joined(part)
            with self.accelerator.autocast():
                own = self.model(ids, mask, keep, self.args.temperature, with_entropy=True)
                reference = self.model.policy if self.ref_model is None else self.ref_model
                with self._without_adapter(reference):
                    ref_logps, _, _ = token_scores(reference, ids, mask, keep, self.args.temperature)
            chunks.append([nn.functional.pad(x.float(), (0, width - keep)) for x in (*own, ref_logps)])
        return tuple(torch.cat(parts) for parts in zip(*chunks, strict=True))

    # ---- what is measured after training

    def train_metrics(self) -> Metrics:
        """Return how many steps were run, how many completions had no reward, and the best step or the early stop."""
        values = {"steps": self.state.global_step, "unscored_completions": self.counts["unscored_completions"]}
        if self.args.load_best_model_at_end and self.state.best_global_step is not None:
            values["best_step"] = self.state.best_global_step
        if self.counts["stopped_at"]:
            values["stopped_at"] = self.counts["stopped_at"]
        return {name: {"value": value} for name, value in values.items()}

    def held_out_metrics(self, prompts: Dataset) -> Metrics:
        """Sample completions for these prompts. Returns their mean KL, in nats per completion, and mean reward."""
        set_seed(self.args.seed, device_specific=True)
        evaluation = self.evaluate(prompts)
        keys = {"kl": "eval_kl_sequence", "reward": "eval_reward"}
        return {name: {"value": round(evaluation[key], 4), "n": len(prompts)} for name, key in keys.items()}

    # ---- the loss

    def compute_loss(
        self, model: nn.Module, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Return the batch's part of the minibatch's mean loss per token. Raises `UserError` unless it is finite."""
        args, mask = self.args, inputs["mask"]
        if self.model.training:
            ids, attention, keep = joined(inputs)
            logps, values = model(ids, attention, keep, args.temperature)
        else:  # an evaluation's rollout has just been scored with these weights, a few rows at a time
            logps, values = inputs["logps"], inputs["values"]
        actor, is_clipped = policy_loss(logps, inputs["logps"], inputs["advantages"], args.cliprange)
        critic, is_value_clipped = value_loss(values, inputs["values"], inputs["returns"], args.cliprange_value)
        share = mask / inputs["tokens"]
        loss = ((actor + args.vf_coef * critic) * share).sum()

        with torch.no_grad():
            moved = kl_penalty(inputs["logps"], logps, "k3")
            parts = torch.stack([x.float() for x in (actor, critic, moved, is_clipped, is_value_clipped)])
            sums = self._total(torch.cat([(parts * mask).sum((1, 2)), mask.sum()[None].float()]))
        if not sums.isfinite().all():
            raise self._diverged("the loss is no longer finite")
        names = ("policy_loss", "value_loss", "approx_kl", "clip_ratio/region_mean", "clip_ratio/value_mean")
        self.metrics.add(dict(zip(names, (sums[:-1] / sums[-1].clamp(min=1)).tolist(), strict=True)))
        # Gradients are averaged over processes, and `tokens` counts those of all.
        return loss * self.accelerator.num_processes

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        self._step += 1
        if self.counts["stopped_at"] and self.accelerator.sync_gradients:  # not between micro-batches of the step
            self.control.should_training_stop = True
        return loss

    def prediction_step(
        self, model: nn.Module, inputs: list[dict[str, Any]], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[torch.Tensor, None, None]:
        batch = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss = self.compute_loss(model, batch)
        return loss.detach(), None, None

    # ---- the log

    def _total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over all processes."""
        return self.accelerator.reduce(values, "sum")

    def _log_rollout(
        self,
        batch: Batch,
        kl: torch.Tensor,
        entropy: torch.Tensor,
        ended: torch.Tensor,
        by_function: torch.Tensor,
        rewards: torch.Tensor,
    ) -> None:
        """Log a rollout of all processes. A KL over `kl_budget` stops training; over `kl_limit`, raises `UserError`.

        `kl` and `entropy` are (rows, tokens), and 0 after the end of a completion. `by_function` is (rows, functions),
        and NaN where a function returned no reward.
        """
        args, lengths, at = self.args, batch["completion_mask"].sum(1), self.state.global_step + 1
        sums = [kl.sum(), entropy.sum(), lengths.sum().float(), batch["prompt_mask"].sum().float()]
        sums.append(torch.tensor(float(len(kl)), device=kl.device))
        total_kl, surprise, tokens, prompt_tokens, rows = self._total(torch.stack(sums)).tolist()
        if not abs(total_kl / tokens) <= args.kl_limit:
            measured = f"KL to the start model is {total_kl / tokens:.3g} nats per token"
            raise self._diverged(f"{measured}, over kl_limit {args.kl_limit:g}")
        lengths, ended, rewards, by_function = map(self.accelerator.gather, (lengths, ended, rewards, by_function))
        missing = by_function.isnan()
        means: dict[str, Any] = {
            "entropy": surprise / tokens,
            "kl": total_kl / tokens,
            "kl_sequence": total_kl / rows,
            "completions/mean_length": lengths.float().mean(),
            "completions/mean_terminated_length": lengths[ended].float().mean() if ended.any() else 0.0,
            "completions/clipped_ratio": 1 - ended.float().mean(),
            "reward": rewards[~missing.all(1)].mean(),
        }
        for i, name in enumerate(self.reward_names):
            means[f"rewards/{name}/mean"] = by_function[~missing[:, i], i].mean()
        self.metrics.add(means)
        if not self.model.training:
            return
        self.counts["unscored_completions"] += int(missing.all(1).sum())
        self.state.num_input_tokens_seen += int(prompt_tokens + tokens)
        if args.kl_budget is not None and total_kl / rows > args.kl_budget:
            self.counts["stopped_at"] = at
            if self.is_world_process_zero():
                over = f"KL {total_kl / rows:.2f} nats per completion, over kl_budget {args.kl_budget:g}"
                print(f"step {at}: {over}: stopped", flush=True)

    def _diverged(self, what: str) -> UserError:
        return UserError(
            f"step {self.state.global_step}: {what}: training has diverged: lower learning_rate, or raise kl_coef"
        )

    def log(self, logs: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        prefix = "" if self.model.training else "eval_"
        logs |= {prefix + name: mean for name, mean in self.metrics.take().items()}
        if prefix and logs.get("eval_reward", 0.0) is None:
            raise UserError("evaluation: no reward function returned a reward for any held-out prompt")
        means = [logs.get(f"{prefix}rewards/{name}/mean") for name in self.reward_names]
        if (worst := worst_reward(self.rewards, means)) is not None:
            logs[f"{prefix}reward_worst"] = worst
        super().log(logs, *args, **kwargs)


class EarlyStopping(EarlyStoppingCallback):
    """transformers' callback, with a patience counter that survives resuming."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        super().on_train_begin(args, state, control)
        saved = state.stateful_callbacks.get("EarlyStopping", self.state())["attributes"]
        self.early_stopping_patience_counter = saved["early_stopping_patience_counter"]

"""PPO for the Hugging Face stack. This file is longer than others because a trainer is one class.

The method is from Schulman et al. 2017 (arXiv:1707.06347), for language models from Ouyang et al. 2022
(arXiv:2203.02155). Dataset formats, reward functions, keys, log and checkpoints follow TRL's `GRPOTrainer`.

A rollout is sampled and scored at once, then learned from in minibatches for some epochs; Trainer's own loop takes
the steps, so optimizer, schedule, accumulation, DeepSpeed and resuming are its. The pieces: the settings
(`config.py`), policy and value as one module (`model.py`), the formulas (`losses.py`), a batch's tensors
(`batch.py`), the reward functions (`rewards.py`), sampling (`rollout.py`), and whatever TRL keeps private
(`trl_internals.py`).
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
import re
import textwrap
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object, is_peft_model, set_seed
from datasets import Dataset
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset
from transformers import (
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from zero2chat.core.errors import UserError
from zero2chat.models.experts import expert_stacks, reload
from zero2chat.models.hardware import is_fsdp
from zero2chat.trainers.ppo.batch import Batch, as_tensors, joined, padded, trimmed
from zero2chat.trainers.ppo.config import PPOConfig
from zero2chat.trainers.ppo.losses import (
    KLController,
    explained_variance,
    gae,
    kl_penalty,
    policy_loss,
    value_loss,
    whiten,
)
from zero2chat.trainers.ppo.model import PolicyWithValue, Value, new_score, open_value, token_scores
from zero2chat.trainers.ppo.rewards import RewardFunc, Rewards
from zero2chat.trainers.ppo.rollout import Completions, PromptSampler, Rollout, unwrapped_policy
from zero2chat.trainers.ppo.trl_internals import (
    BaseTrainer,
    create_model_from_path,
    disable_dropout_in_model,
    get_config_model_id,
    identity,
    prepare_deepspeed,
)

__all__ = ["KLBudget", "PPOConfig", "PPOTrainer"]

VALUE, CONTROLLER = "value.safetensors", "kl_controller.json"  # in a checkpoint, in addition to Trainer's files


class PPOTrainer(BaseTrainer):
    """Trains a causal language model with PPO on its own completions.

    `model` is a path or an object. With a `peft_config` an adapter is trained, and the reference is the model without
    it. `reward_funcs` are one or more functions in TRL's signature, sync or async, or sequence-classification models by
    path or as objects; `reward_processing_classes` are the models' tokenizers. `train_dataset` has a column `prompt`
    (text or messages); other columns are passed to the functions. `rollout_func(prompts, trainer)` may replace
    sampling, as in `GRPOTrainer`: it returns `prompt_ids` and `completion_ids`, and an `env_mask` that is 0 for
    tokens of a tool or an environment. `optimizer_cls_and_kwargs` may be a function of module and arguments.

    Raises `UserError` for invalid settings, rewards or prompts, and if KL explodes.
    """

    model: Any  # PolicyWithValue
    loss_is_scaled_for_ga = True

    _tag_names = ["trl", "ppo"]  # noqa: RUF012 - as in all of TRL's trainers
    _name = "PPO"
    _paper = {  # noqa: RUF012
        "title": "Proximal Policy Optimization Algorithms",
        "id": "1707.06347",
        "citation": textwrap.dedent("""\
            @article{schulman2017proximal,
                title        = {{Proximal Policy Optimization Algorithms}},
                author       = {John Schulman and Filip Wolski and Prafulla Dhariwal and Alec Radford and Oleg Klimov},
                year         = 2017,
                eprint       = {arXiv:1707.06347},
            }"""),
    }

    def __init__(
        self,
        model: str | PreTrainedModel,
        reward_funcs: RewardFunc | list[RewardFunc],
        args: PPOConfig | None = None,
        train_dataset: Dataset | None = None,
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        reward_processing_classes: PreTrainedTokenizerBase | list[PreTrainedTokenizerBase | None] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        optimizer_cls_and_kwargs: tuple[type, dict[str, Any]] | Callable[..., Any] | None = None,
        peft_config: Any = None,
        rollout_func: Callable[..., dict[str, Any]] | None = None,
    ):
        if args is None:
            name = model if isinstance(model, str) else get_config_model_id(model.config)
            args = PPOConfig(f"{name.split('/')[-1]}-PPO")
        if args.max_completion_length is None:
            raise UserError("max_completion_length is not set: set it to the maximum tokens per completion")
        if is_fsdp(args.fsdp):
            raise UserError("PPO: FSDP is not supported (it shards policy and value model together): use ZeRO")
        for dataset in (train_dataset, *(eval_dataset.values() if isinstance(eval_dataset, dict) else [eval_dataset])):
            if dataset is not None and "prompt" not in (dataset.column_names or ()):
                raise UserError(f"the dataset has no column 'prompt'; it has {', '.join(dataset.column_names or ())}")
        if train_dataset is None:
            raise UserError("train_dataset is not set: give a dataset of prompts")
        at_once = args.rollout_batch_size * args.world_size
        if len(train_dataset) < at_once:
            raise UserError(f"{len(train_dataset)} prompts, but one rollout needs {at_once}: give more")

        # PEFT initializes the adapter's weights randomly.
        set_seed(args.seed)
        model_kwargs = args.mapping("model_init_kwargs")
        if isinstance(model, str):
            if args.distributed_state.distributed_type in ("MULTI_GPU", "DEEPSPEED"):
                model_kwargs["device_map"] = None  # "auto" fails in these
            model_kwargs.setdefault("trust_remote_code", args.trust_remote_code)
            model = create_model_from_path(model, **model_kwargs)
        if is_peft_model(model):
            raise UserError("the model already has an adapter: merge it, and give a peft_config for the new one")
        name = get_config_model_id(model.config)
        tokenizer = processing_class or AutoTokenizer.from_pretrained(
            name, padding_side="left", trust_remote_code=args.trust_remote_code
        )
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
        model.generation_config.pad_token_id = tokenizer.pad_token_id
        # All EOS tokens of the model, not only the tokenizer's.
        ends = model.generation_config.eos_token_id
        ends = [] if ends is None else ends if isinstance(ends, list) else [ends]
        self.eos_token_ids = [end for end in dict.fromkeys([*ends, tokenizer.eos_token_id]) if end is not None]

        policy: Any = model
        self.ref_model: Any = None
        if peft_config is not None:
            from peft import get_peft_model

            # As in TRL's trainers: with ZeRO-3, adapters must have the model's precision.
            policy = get_peft_model(model, peft_config, autocast_adapter_dtype=not is_deepspeed_zero3_enabled())
        elif is_deepspeed_zero3_enabled():  # a copy of a shard is not a model
            more = {"dtype": model.dtype, "attn_implementation": model.config._attn_implementation, "device_map": None}
            self.ref_model = create_model_from_path(name, type(model), **(more | model_kwargs))
        else:
            self.ref_model = copy.deepcopy(model)
        if args.value_model == "head":
            width = model.config.get_text_config().hidden_size
            value = Value(new_score(width, next(model.parameters())))
        else:
            revision = "main" if args.value_model_path else model_kwargs.get("revision", "main")
            path = args.value_model_path or name
            value = open_value(path, model.dtype, tokenizer, args.trust_remote_code, revision)
        trained = PolicyWithValue(policy, value)
        if args.disable_dropout:
            disable_dropout_in_model(trained)
        if self.ref_model is not None:
            self.ref_model.requires_grad_(False).eval()

        self.rewards = Rewards(
            reward_funcs,
            args.reward_weights,
            reward_processing_classes,
            str(model_kwargs.get("dtype", "float32")).removeprefix("torch."),
            args.per_device_train_batch_size,
        )
        self.kl_controller = KLController(args.kl_coef, args.kl_target)
        self.counts: Counter[str] = Counter()  # unscored_completions
        self.kl: float | None = None  # KL to the starting model in the last rollout, in nats per completion
        self._step = 0  # number of forward and backward passes
        self._rollout: Batch = {}
        self._buffer: list[Batch] = []
        self._reported: dict[str, list[float]] = defaultdict(list)  # by reward functions, of this rank's completions
        # Values of each metric, with their weights in the next log line.
        self._metrics: dict[str, dict[str, list[tuple[float, int]]]] = {k: defaultdict(list) for k in ("train", "eval")}
        self._rows = 1  # rows of the current rollout: an evaluation's last one may be smaller
        self._seconds = 0.0

        if callable(optimizer_cls_and_kwargs):
            optimizer_cls_and_kwargs = optimizer_cls_and_kwargs(trained, args)
        if args.ddp_find_unused_parameters is None:
            args.ddp_find_unused_parameters = False  # all are used; Trainer would search in a non-PreTrainedModel
        super().__init__(
            model=trained,
            args=args,
            data_collator=identity,  # rows stay unchanged until sampling
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=tokenizer,
            callbacks=callbacks,
            optimizers=optimizers,
            optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
        )
        if args.n_gpu > 1:
            raise UserError("PPO: one process for several GPUs is not supported: use `accelerate launch`")

        if self.ref_model is not None:
            if self.is_deepspeed_enabled:
                self.ref_model = prepare_deepspeed(self.ref_model, self.accelerator)
            else:
                self.ref_model = self.accelerator.prepare_model(self.ref_model, evaluation_mode=True)
        self.rewards.prepare(self.accelerator, self.is_deepspeed_enabled)
        # Ranks with equal seeds would generate equal completions.
        set_seed(args.seed, device_specific=True)
        self.rollout = Rollout(args, policy, tokenizer, self.accelerator, self.eos_token_ids, rollout_func)
        policy.add_model_tags(self._tag_names)

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
        args = self.args
        return PromptSampler(
            data_source=self.train_dataset if train_dataset is None else train_dataset,
            mini_repeat_count=1,
            batch_size=args.rollout_batch_size * args.world_size,
            repeat_count=args.steps_per_rollout * args.gradient_accumulation_steps,
            shuffle=args.shuffle_dataset,
            seed=args.seed if args.data_seed is None else args.data_seed,
        )

    def _prepare_inputs(self, inputs: list[dict[str, Any]]) -> Batch:
        """Return the next minibatch. `inputs` are the prompts of this process's rollout, which is generated once."""
        if not self.model.training:
            (batch,) = self._in_batches(self._roll_out(inputs), torch.arange(len(inputs)), len(inputs), 1)
            return batch
        a_pass = self.args.num_mini_batches * self.args.gradient_accumulation_steps
        turn = self._step % (a_pass * self.args.num_ppo_epochs)
        if turn == 0:
            self._buffer = []
            self._rollout = self._roll_out(inputs)
        if turn % a_pass == 0:
            order = torch.randperm(len(inputs))
            size = self.args.per_device_train_batch_size
            self._buffer = self._in_batches(self._rollout, order, size, self.args.gradient_accumulation_steps)
        return self._buffer[turn % a_pass]

    def _in_batches(self, rollout: Batch, order: torch.Tensor, size: int, accumulate: int) -> list[Batch]:
        """Yield the rollout's rows in that order, `size` at a time, with their minibatch's token count over ranks."""
        order = order.to(self.accelerator.device)
        tokens = rollout["mask"][order].view(-1, size * accumulate, rollout["mask"].shape[1]).sum((1, 2))
        tokens = self._total(tokens.float()).clamp(min=1)
        rows = [{key: values[part] for key, values in rollout.items()} for part in order.split(size)]
        return [trimmed(batch) | {"tokens": tokens[i // accumulate]} for i, batch in enumerate(rows)]

    # ---- the rollout

    def _total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over all processes."""
        return self.accelerator.reduce(values, "sum")

    @torch.no_grad()
    def _roll_out(self, inputs: list[dict[str, Any]]) -> Batch:
        """Generate and score completions for this process's prompts: all tensors for the steps, (rows, tokens) each.

        Prompts are padded on the left, completions on the right. `mask` is true for tokens with loss; `advantages` and
        `returns` are 0 elsewhere.
        """
        self._require_finite()
        self._rows = len(inputs)
        prompts = [row["prompt"] for row in inputs]
        answers = self.rollout(self, prompts)
        if not all(answers.completion_ids):
            raise UserError(f"answer {answers.completion_ids.index([])} of a rollout is empty, without an EOS token")
        device = self.accelerator.device
        batch = as_tensors(answers, self.processing_class.pad_token_id, device)
        acted = batch.pop("acted")
        by_function = self.rewards(prompts, answers, self._columns(inputs, answers)).to(device)
        left_out = by_function.isnan().all(1)
        rewards = (by_function * self.rewards.weights.to(device)).nansum(1)
        ended = torch.tensor([ids[-1] in self.eos_token_ids for ids in answers.completion_ids], device=device)
        scores = rewards - (self.args.missing_eos_penalty or 0.0) * ~ended

        logps, values, entropy, ref_logps = self._score(batch)
        kl = kl_penalty(logps, ref_logps, self.args.kl_estimator) * acted
        kl_sequence = self._watch_kl(kl, acted)
        mask = acted & ~left_out[:, None]
        if self.args.mask_truncated_completions:
            mask &= ended[:, None]
            if self.model.training and not self._total(ended.sum().float()):
                raise UserError(
                    f"step {self.state.global_step}: max_completion_length {self.args.max_completion_length} cut all "
                    "completions, and mask_truncated_completions masks them: change one of them"
                )
        per_token = -self.kl_controller.coef * kl
        # The score is added at the last token that the model itself generated.
        places = torch.arange(acted.shape[1], device=device)
        last = (acted * places).argmax(1)
        per_token[torch.arange(len(last), device=device), last] += scores
        advantages, returns = gae(per_token, values, mask, self.args.gamma, self.args.lam)
        foreseen = explained_variance(values, returns, mask, self._total)
        if self.args.whiten_advantages:
            advantages = whiten(advantages, mask, self._total)

        lengths = acted.sum(1)
        self._log_answers(answers, lengths, ended, by_function, rewards, left_out)
        count = self._total(lengths.sum().float())
        self._log("entropy", self._total((entropy * acted).sum()) / count)
        self._log("kl", self._total(kl.sum()) / count)
        self._log("kl_sequence", kl_sequence)
        self._log("kl_coef", self.kl_controller.coef)
        self._log("explained_variance", foreseen)
        if self.model.training:
            self.kl = kl_sequence
            self.kl_controller.update(kl_sequence)
        batch |= {"logps": logps, "values": values, "advantages": advantages, "returns": returns, "mask": mask}
        if answers.logprobs is not None and self.args.vllm_importance_sampling_correction:
            batch["weights"] = self._sampling_weights(logps, answers.logprobs, acted)
        return batch

    def _columns(self, inputs: list[dict[str, Any]], answers: Completions) -> dict[str, Any]:
        """Return what reward functions get besides prompts and completions."""
        columns = {key: [row[key] for row in inputs] for key in inputs[0] if key not in ("prompt", "completion")}
        given = {"trainer_state": self.state, "log_metric": self._report, "log_extra": lambda column, values: None}
        return columns | (answers.columns or {}) | given

    def _score(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """Compute log-probabilities, values and entropies of all completion tokens, and reference log-probabilities."""
        size = self.args.per_device_train_batch_size
        width = batch["completion_ids"].shape[1]
        found: list[list[torch.Tensor]] = []
        for start in range(0, len(batch["completion_ids"]), size):
            part = trimmed({key: values[start : start + size] for key, values in batch.items()})
            ids, mask, keep = joined(part)
            with self.accelerator.autocast():
                own = self.model(ids, mask, keep, self.args.temperature, with_entropy=True)
                with self._as_reference() as reference:
                    ref_logps, _, _ = token_scores(reference, ids, mask, keep, self.args.temperature)
            found.append([nn.functional.pad(x.float(), (0, width - keep)) for x in (*own, ref_logps)])
        return tuple(torch.cat(parts) for parts in zip(*found, strict=True))

    @contextlib.contextmanager
    def _as_reference(self) -> Iterator[Any]:
        if self.ref_model is not None:
            yield self.ref_model
        else:
            with self.model.policy.disable_adapter():
                yield self.model.policy

    @contextlib.contextmanager
    def start_model(self) -> Iterator[Any]:
        """Provide the starting model, ready to `generate`. Every rank must enter this context."""
        if self.ref_model is not None:
            with unwrapped_policy(self.ref_model, self.accelerator) as model:
                yield model
        else:
            with unwrapped_policy(self.model_wrapped, self.accelerator) as model, model.disable_adapter():
                yield model

    @contextlib.contextmanager
    def trained_model(self) -> Iterator[Any]:
        """Provide the current policy, ready to `generate`. Every rank must enter this context."""
        with unwrapped_policy(self.model_wrapped, self.accelerator, self.args) as model:
            yield model

    def _sampling_weights(
        self, logps: torch.Tensor, sampled: Sequence[Sequence[float | None]], acted: torch.Tensor
    ) -> torch.Tensor:
        """Return importance weights: the token's probability here over the sampler's, clipped at the maximum.

        Truncated importance sampling (Yao et al. 2025, "Your Efficient RL Framework Secretly Brings You Off-Policy RL
        Training").
        """
        known = [[math.nan if logp is None else logp for logp in row] for row in sampled]
        theirs = padded(known, 0.0, torch.float32, logps.device)
        theirs = torch.where(theirs.isnan(), logps, theirs)  # TRL gives None where vLLM's is NaN: no correction
        weights = torch.exp((logps - theirs) * acted).clamp(max=self.args.vllm_importance_sampling_clip_max)
        ratio = self._total((weights * acted).sum()) / self._total(acted.sum())
        self._log("sampling/importance_sampling_ratio/mean", ratio)
        return weights

    # ---- exploding KL

    def _watch_kl(self, kl: torch.Tensor, acted: torch.Tensor) -> float:
        """Return the mean KL per completion over all processes. Raises `UserError` if KL per token is too large."""
        sums = [kl.sum(), acted.sum().float(), torch.tensor(float(len(kl)), device=kl.device)]
        total, tokens, rows = self._total(torch.stack(sums)).tolist()
        if not abs(total / tokens) <= self.args.kl_limit:
            what = f"KL to the start model is {total / tokens:.3g} nats per token, over kl_limit {self.args.kl_limit:g}"
            raise UserError(self._exploded(what))
        return total / rows

    def _require_finite(self) -> None:
        # Of a weight that ZeRO-3 shards, this rank's part. One answer for all, as each would block an accelerator.
        held = [getattr(p, "ds_tensor", p.data) for p in self.model.parameters() if p.requires_grad]
        exploded = ~torch.stack([weight.isfinite().all() for weight in held]).all()
        if self._total(exploded.float()):
            raise UserError(self._exploded("the weights are no longer finite"))

    def _exploded(self, what: str) -> str:
        steps = [
            int(path.name.split("-")[1])
            for path in Path(self.args.output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*")
            if re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-\d+", path.name)
        ]
        # This step's own checkpoint has the diverged weights.
        good = [step for step in steps if step < self.state.global_step]
        last = f"{self.args.output_dir}/{PREFIX_CHECKPOINT_DIR}-{max(good)}" if good else "none"
        return (
            f"step {self.state.global_step}: {what}: training has diverged (last good checkpoint: {last}): lower "
            "learning_rate, or raise kl_coef"
        )

    # ---- the loss

    def compute_loss(
        self, model: nn.Module, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Return the batch's share of its minibatch's mean loss over tokens."""
        args, mask = self.args, inputs["mask"]
        if self.model.training:
            ids, attention, keep = joined(inputs)
            logps, values = model(ids, attention, keep, args.temperature)
        else:  # an evaluation's rollout has just been scored with these weights, a few rows at a time
            logps, values = inputs["logps"], inputs["values"]
        actor, is_clipped = policy_loss(logps, inputs["logps"], inputs["advantages"], args.cliprange)
        critic, is_value_clipped = value_loss(values, inputs["values"], inputs["returns"], args.cliprange_value)
        if "weights" in inputs:
            actor = actor * inputs["weights"]
        share = mask / inputs["tokens"]
        loss = ((actor + args.vf_coef * critic) * share).sum()

        with torch.no_grad():
            # The k3 estimator, which is never below 0.
            moved = kl_penalty(inputs["logps"], logps, "k3")
            low, high = is_clipped & (inputs["advantages"] < 0), is_clipped & (inputs["advantages"] > 0)
            parts = torch.stack([x.float() for x in (actor, critic, moved, is_clipped, low, high, is_value_clipped)])
            sums = self._total(torch.cat([(parts * mask).sum((1, 2)), mask.sum()[None].float()]))
        if not sums.isfinite().all():
            raise UserError(self._exploded("the loss is no longer finite"))
        names = ["policy_loss", "value_loss", "approx_kl"]
        names += [f"clip_ratio/{which}_mean" for which in ("region", "low", "high", "value")]
        for name, value in zip(names, (sums[:-1] / sums[-1].clamp(min=1)).tolist(), strict=True):
            self._log(name, value)
        # Gradients are averaged over processes, and `tokens` counts those of all.
        return loss * self.accelerator.num_processes

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        start = time.perf_counter()
        loss = super().training_step(*args, **kwargs)
        self._step += 1
        self._seconds += time.perf_counter() - start
        if self._step % self.args.gradient_accumulation_steps == 0:
            self._log("step_time", self._seconds)
            self._seconds = 0.0
        return loss

    def prediction_step(
        self, model: nn.Module, inputs: list[dict[str, Any]], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[torch.Tensor, None, None]:
        batch = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss = self.compute_loss(model, batch)
        return loss.detach(), None, None

    # ---- the log, with GRPOTrainer's names where they exist

    def _log(self, name: str, value: Any) -> None:
        """Add a value, the same on all ranks, to the average of the next log line."""
        self._metrics["train" if self.model.training else "eval"][name].append((float(value), self._rows))

    def _report(self, name: str, value: Any) -> None:
        """Keep a value of this rank's completions for the log, as a reward function's `log_metric`."""
        self._reported[name].append(float(value))

    def _log_answers(
        self,
        answers: Completions,
        lengths: torch.Tensor,
        ended: torch.Tensor,
        by_function: torch.Tensor,
        rewards: torch.Tensor,
        left_out: torch.Tensor,
    ) -> None:
        gather = self.accelerator.gather
        prompt_tokens = torch.tensor(float(sum(map(len, answers.prompt_ids))), device=lengths.device)
        lengths, ended, by_function, rewards, left_out = map(gather, (lengths, ended, by_function, rewards, left_out))
        if self.model.training:
            self.counts["unscored_completions"] += int(left_out.sum())
            self.state.num_input_tokens_seen += int(self._total(prompt_tokens)) + int(lengths.sum())
            self._metrics["train"]["num_tokens"] = [(float(self.state.num_input_tokens_seen), 1)]
        by_end = lengths[ended] if ended.any() else torch.zeros(1)
        for label, some in (("", lengths.float()), ("terminated_", by_end.float())):
            for statistic in ("mean", "min", "max"):
                self._log(f"completions/{statistic}_{label}length", getattr(some, statistic)())
        self._log("completions/clipped_ratio", 1 - ended.float().mean())
        for name, column in zip(self.rewards.names, by_function.T, strict=True):
            known = column[~column.isnan()]
            self._log(f"rewards/{name}/mean", known.mean())
            self._log(f"rewards/{name}/std", known.std() if len(known) > 1 else 0.0)
        judged = rewards[~left_out]
        for name in sorted(set(gather_object(list(self._reported)))):  # a rank may have reported none
            values = self._reported.pop(name, [])
            total, count = self._total(torch.tensor([sum(values), float(len(values))], device=lengths.device))
            self._log(name, total / count)
        self._log("reward", judged.mean())
        self._log("reward_std", judged.std() if len(judged) > 1 else 0.0)

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        mode, prefix = ("train", "") if self.model.training else ("eval", "eval_")
        for key, values in self._metrics[mode].items():
            # There is no mean if no function returned a reward for the rollout.
            known = [(value, rows) for value, rows in values if not math.isnan(value)]
            weight = sum(rows for _, rows in known)
            logs[prefix + key] = sum(value * rows for value, rows in known) / weight if known else None
        if mode == "eval" and logs.get("eval_reward", 0.0) is None:
            raise UserError("evaluation: no reward function returned a reward for any held-out prompt")
        means = [logs.get(f"{prefix}rewards/{name}/mean") for name in self.rewards.names]
        if (worst := self.rewards.worst(means)) is not None:
            logs[f"{prefix}reward_worst"] = worst
        self._metrics[mode].clear()
        super().log(logs, start_time)

    # ---- model folders and checkpoints

    @contextlib.contextmanager
    def _policy_alone(self) -> Iterator[None]:
        """Context for Trainer's handling of a model folder."""
        trained = self.model
        self.model = trained.policy
        try:
            yield
        finally:
            self.model = trained

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Save the policy as an ordinary model folder, and the value beside it in a checkpoint."""
        folder = Path(output_dir or self.args.output_dir)
        state = self.model.state_dict() if state_dict is None else state_dict
        policy = {key.removeprefix("policy."): value for key, value in state.items() if key.startswith("policy.")}
        with self._policy_alone():
            super()._save(output_dir, None if state_dict is None else policy)
        if folder.name.startswith(PREFIX_CHECKPOINT_DIR) and self.args.should_save:
            value = {key.removeprefix("value."): t for key, t in state.items() if key.startswith("value.")}
            save_file({key: t.detach().cpu().clone() for key, t in value.items()}, folder / VALUE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        with self._policy_alone():
            sharded = self.is_deepspeed_enabled or self.is_fsdp_enabled
            if isinstance(self.model, PreTrainedModel) and expert_stacks(self.model) and not sharded:
                reload(self.model, resume_from_checkpoint)  # see `ResumableTrainer._reloads`
            else:
                super()._load_from_checkpoint(resume_from_checkpoint)
        self.model.value.load_state_dict(load_file(Path(resume_from_checkpoint) / VALUE))

    def _load_best_model(self) -> None:
        if self.is_deepspeed_enabled:
            super()._load_best_model()
        else:
            self._load_from_checkpoint(self.state.best_model_checkpoint)
        self.rollout.forget_weights()

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self.create_model_card(model_name=Path(self.args.hub_model_id or self.args.output_dir).name)
        super()._save_checkpoint(model, trial)
        if self.args.should_save:
            folder = Path(self._get_output_dir(trial=trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            (folder / CONTROLLER).write_text(json.dumps({"coef": self.kl_controller.coef}))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self.kl_controller.coef = json.loads((Path(checkpoint) / CONTROLLER).read_text())["coef"]


class KLBudget(TrainerCallback, ExportableState):
    """Ends training after the step at which KL to the starting model exceeds `budget`, in nats per completion."""

    def __init__(self, trainer: PPOTrainer, budget: float):
        self.trainer, self.budget = trainer, budget
        self.stopped_at: int | None = None

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": {"stopped_at": self.stopped_at}}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.stopped_at = state.stateful_callbacks.get("KLBudget", self.state())["attributes"]["stopped_at"]

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.trainer.kl is not None and self.trainer.kl > self.budget:
            self.stopped_at = state.global_step
            control.should_training_stop = True
            if state.is_world_process_zero:
                kl = f"KL {self.trainer.kl:.2f} nats per completion"
                print(f"step {state.global_step}: {kl}, over kl_budget {self.budget:g}: stopped", flush=True)

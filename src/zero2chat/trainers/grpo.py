"""GRPO (Shao et al. 2024, arXiv:2402.03300) with TRL's trainer, our own tool loop, and new prompts for zero-variance
groups. From prompts to the loss (shapes are per process, except "of all processes"):

    prompts        (rows,)                each prompt appears `num_generations` times: a group (TRL's RepeatSampler)
      ↓ TRL generates the first turn (on a CPU by `inference/fast_generate.py`)
    completions    (rows, tokens)         with tools, `_tool_call_loop` runs calls and generates the next turns
      ↓ `_calculate_rewards`, each by a `rewards.Reward`
    rewards        (rows of all processes, functions)    `fill_missing`: a missing reward is the group's mean
      ↓ TRL: weighted sum of the functions; minus the group's mean, over its standard deviation
    advantages     (rows,)                `resample` replaces groups whose advantages are all 0
      ↓ TRL `_compute_loss`: each token's probability ratio times advantage, clipped
    loss           scalar, over generated tokens: tool results, and a turn's end after a call, have no loss
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from datasets import Dataset
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from trl import GRPOConfig, GRPOTrainer

from zero2chat.core.errors import UserError
from zero2chat.inference.fast_generate import reusing_cache
from zero2chat.inference.generate import encode_prompts
from zero2chat.inference.responses import ensure_response_template
from zero2chat.inference.tool_calls import Unfolding, read_all
from zero2chat.inference.tool_format import Formats, Tools, row_schemas
from zero2chat.rewards import Reward
from zero2chat.tools.environments import Episode, worlds_of
from zero2chat.trainers.muon import use_muon
from zero2chat.trainers.trainer import ResumableTrainer

COUNT = "num_items_in_batch"  # tokens in the loss, over all processes
# Advantages of equal rewards are float noise divided by 0 + 1e-4: up to about 0.01. If rewards differ by more than
# 1e-5, one advantage is above this.
_NOISE = 0.05
Batch = dict[str, Any]


class GrpoTrainer(ResumableTrainer, GRPOTrainer):
    """TRL's GRPOTrainer with our rewards, tools and worlds. A row with an `environment` acts in its own world, with the
    world's methods instead of the tools. `resample_rounds` is the maximum of extra generations per batch. With
    `by_turn`, each turn also has an advantage of its own, from `turn_advantages`."""

    def __init__(
        self,
        model: PreTrainedModel,
        args: GRPOConfig,
        processing_class: Any,
        rewards: Sequence[Reward],
        tools: Tools | None = None,
        resample_rounds: int = 0,
        muon: bool = False,
        by_turn: bool = False,
        **kwargs: Any,
    ):
        self.resample_rounds, self.by_turn = resample_rounds, by_turn
        self.episodes: list[Episode | None] = []  # of the current batch, if any row of the dataset has a world
        args.reward_weights = [reward.weight for reward in rewards]
        # Before the trainer is built: under DeepSpeed this sets what the trainer then reads.
        optimizer = use_muon(model, args) if muon else None
        ends = model.generation_config.eos_token_id
        self.offered, worlds = tools, worlds_of(kwargs["train_dataset"])
        self.formats, self.acts = Formats(tools, worlds, processing_class, ends), any(worlds)
        if self.formats.functions:  # a turn may end with a call during training, not in the saved model
            ensure_response_template(processing_class)
            model.generation_config.eos_token_id = [*ends, *sorted(self.formats.stops - {*ends})]
        if args.use_vllm:  # it reads the model's folder, which may lack the end-of-turn token of the chat template
            args.generation_kwargs = {"stop_token_ids": model.generation_config.eos_token_id} | (
                args.generation_kwargs or {}
            )
        super().__init__(
            model=model,
            args=args,
            processing_class=processing_class,
            reward_funcs=list(rewards),
            tools=self.formats.functions or None,  # of worlds, TRL gets the methods only to know that there are some
            **kwargs,
        )
        model.generation_config.eos_token_id = ends
        self.optimizer_cls_and_kwargs = optimizer  # GRPOTrainer has no such argument

    # ---- prompts → completions

    def _tokenize_prompts(self, prompts: list[Any]) -> Any:
        if not self.acts:
            return super()._tokenize_prompts(prompts)
        schemas = row_schemas([one.name if one else None for one in self.episodes], self.offered)
        options = {"chat_template": self.chat_template, **self.chat_template_kwargs}
        return encode_prompts(self.processing_class, prompts, self.offered, schemas, options), None, {}

    def _generate(self, prompts: list[Any]) -> Any:
        with reusing_cache(bool(self.tools)):
            return super()._generate(prompts)

    def _tool_call_loop(
        self, prompts: Any, prompt_ids: Any, completion_ids: Any, completions: Any, logprobs: Any, *images: Any
    ) -> Any:
        """Run tool calls as our chat does. TRL's own loop would accept truncated, nested or forged calls, and control
        tokens in tool results.

        `prompt_ids` and `completion_ids` (the first turn) have a list of ids per row. Returns the mask of generated
        tokens, the messages, ids and vLLM's log-probabilities of each row, then the total calls and failures.
        """
        most, episodes = self.max_completion_length, self.episodes or [None] * len(prompt_ids)
        answers = [
            Unfolding(ids, self.processing_class, self.formats.of(episode), len(ids) + most)
            for ids, episode in zip(prompt_ids, episodes, strict=True)
        ]
        # vLLM's server refuses prompts whose new tokens exceed its context: no round asks for more than the first did.
        limit = self._most(map(len, prompt_ids)) + most
        log_probs = [list[float]() for _ in answers]
        rows = list(range(len(answers)))  # the rows of this round
        ids, sampled = completion_ids, logprobs  # their new tokens, and with vLLM the log-probabilities of these
        while True:
            starts = [len(answers[row].mask) for row in rows]
            read_all([answers[row] for row in rows], ids, self.formats.ends)  # `Calls` reads the calls' own ends
            for row, start, values in zip(rows, starts, sampled or [], strict=sampled is not None):
                count = sum(answers[row].mask[start:])
                # The turn's tokens, but those cut after a call; then zeros for the results
                log_probs[row] += values[:count] + [0.0] * (len(answers[row].mask) - start - count)
                if answers[row].end is not None:
                    log_probs[row].append(values[count])  # of the end token
            open_rows = [row for row, answer in enumerate(answers) if answer.goes_on]
            room = self._most(answers[row].room for row in open_rows)
            if not room:
                break
            # The other rows follow in a later round, which generates fewer tokens.
            rows = [row for row in open_rows if not self.use_vllm or len(answers[row].ids) + room <= limit]
            ids, sampled = self._next_turns([answers[row].ids for row in rows], prompt_ids[0], room)
        self.observed = [observations(answer.messages) for answer in answers]
        ends = [[] if answer.end is None else [answer.end] for answer in answers]
        masks = [answer.mask + [1] * len(end) for answer, end in zip(answers, ends, strict=True)]
        ids = [answer.ids[answer.prompt :] + end for answer, end in zip(answers, ends, strict=True)]
        calls, failures = sum(answer.made for answer in answers), sum(answer.failures for answer in answers)
        return masks, [answer.messages for answer in answers], ids, log_probs if logprobs else None, calls, failures, []

    def _next_turns(self, given: list[list[int]], filler: list[int], room: int) -> tuple[Any, Any]:
        """Continue these ids. Returns the new ids and, with vLLM, their log-probabilities. A rank without calls still
        generates: all ranks must gather sharded weights, and vLLM needs equally many prompts per rank."""
        rows = self._most([len(given)]) if self.use_vllm else 1
        prompts = given + [filler] * (rows - len(given))
        if self.use_vllm:
            self.vllm_generation.max_completion_length = room
        try:
            ids, log_probs = self._generate_single_turn(prompts, None, {}, num_generations=1)
        finally:
            if self.use_vllm:
                self.vllm_generation.max_completion_length = self.max_completion_length
        return ids[: len(given)], log_probs and log_probs[: len(given)]

    def _most(self, numbers: Iterable[int]) -> int:
        """Return the largest number, or 0 if there is none. Covers all ranks if they must generate together."""
        largest = max(numbers, default=0)
        together = self.use_vllm or is_deepspeed_zero3_enabled() or self.is_fsdp_enabled
        return max(gather_object([largest])) if together else largest

    # ---- completions → rewards → advantages

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids: Any) -> torch.Tensor:
        """Return the rewards of all processes' rows, shape (rows, functions)."""
        self.environments = self.episodes or None  # only here: TRL would `reset` them
        rewards: torch.Tensor = super()._calculate_rewards(inputs, prompts, completions, completion_ids)
        self.environments = None
        self.counts["unscored_completions"] += int(rewards.isnan().all(1).sum())
        self.filled = fill_missing(rewards, self.num_generations)
        return self.filled

    def _generate_and_score_completions(self, inputs: list[Any]) -> dict[str, Any]:
        """Return TRL's batch of completions with advantages; with `resample`, replace zero-variance groups."""

        def sample(inputs: list[Any]) -> Batch:
            self.episodes = [Episode(one) if one.get("environment") else None for one in inputs if self.acts]
            batch: Batch = super(GrpoTrainer, self)._generate_and_score_completions(inputs)
            return self._with_turns(batch) if self.by_turn and self.tools else batch

        if not self.resample_rounds:
            return sample(inputs)
        where = f"{self.args.seed} {self.state.global_step} {self.accelerator.process_index} {inputs[0]['prompt']}"
        rounds, group, pad = self.resample_rounds, self.num_generations, self.processing_class.pad_token_id

        def fresh(number: int) -> list[Any]:
            rows = draw_others(self.train_dataset, inputs[::group], rounds, random.Random(where))
            size = len(inputs) // group
            chosen = [rows[i % len(rows)] for i in range(number * size, (number + 1) * size)]
            return [self.train_dataset[row] for row in chosen for _ in range(group)]

        batch, replaced = resample(sample, inputs, fresh, rounds, group, pad, self.accelerator)
        replaced = int(self.accelerator.reduce(torch.tensor(float(replaced), device=self.accelerator.device)))
        self.counts["groups_replaced"] += replaced
        return batch

    def _with_turns(self, batch: Batch) -> Batch:
        """Add the turns' advantages to the completions', which gives one per token."""
        totals = (self.filled * self.reward_weights.to(self.filled.device)).nansum(1)
        totals[self.filled.isnan().all(1)] = math.nan
        observed, group = gather_object(self.observed), self.num_generations
        turns = turn_advantages(totals.tolist(), observed, group, self.scale_rewards != "none")
        own = turns.chunk(self.accelerator.num_processes)[self.accelerator.process_index].to(batch["advantages"])
        drawn = batch["completion_mask"] * batch["tool_mask"]
        turn = (F.pad(drawn, (1, -1)) < drawn).cumsum(1) - 1  # of each token; results have no loss
        return batch | {"advantages": batch["advantages"][:, None] + own.gather(1, turn.clamp(0, own.shape[1] - 1))}

    # ---- what is reported

    def example_group(self) -> dict[str, Any]:
        """Return the last rollout's first group whose rewards differ, or its first group; {} if this process resumed
        after the last rollout. `rewards` are by function."""
        size, advantages = self.num_generations, list(self._logs["advantages"])
        starts = [i for i in range(0, len(advantages), size) if max(map(abs, advantages[i : i + size])) > _NOISE]
        rows = slice(start := (starts or [0])[0], start + size)
        logs = {name: list(self._logs[name])[rows] for name in ("prompt", "completion", "advantages")}
        rewards = {name: list(values)[rows] for name, values in self._logs["rewards"].items()}
        return logs | {"rewards": rewards} if advantages else {}

    def final_metrics(self) -> dict[str, dict[str, Any]]:
        """Return the number of steps, counters, and completion statistics, averaged over the last tenth of the log."""
        metrics: dict[str, dict[str, Any]] = {"steps": {"value": self.state.global_step}}
        for name, key in (("entropy", "entropy"), ("completion_length", "completions/mean_length"), ("kl", "kl")):
            values = [line[key] for line in self.state.log_history if key in line]
            last = values[-max(len(values) // 10, 1) :]
            metrics |= {name: {"value": round(sum(last) / len(last), 4)}} if last else {}
        counted = ["unscored_completions", *["groups_replaced"] * bool(self.resample_rounds)]
        return metrics | {name: {"value": self.counts[name]} for name in counted}


def fill_missing(rewards: torch.Tensor, group: int) -> torch.Tensor:
    """Replace each missing reward (a function returned None; here NaN) by the function's mean over the rest of the
    group, because 0 may be the best or the worst value. `rewards` has the shape (rows, functions). NaN stays in a row
    without any reward, and where a function has no value in the whole group."""
    means = rewards.view(-1, group, rewards.shape[1]).nanmean(1).repeat_interleave(group, 0)
    return torch.where(rewards.isnan() & ~rewards.isnan().all(1, keepdim=True), means, rewards)


def observations(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what the model read last before each of its turns: "" for the prompt, then the results of calls."""
    runs = groupby(messages, key=lambda message: message["role"] == "tool")
    return ["", *("\n".join(one["content"] for one in run) for is_result, run in runs if is_result)]


def turn_advantages(
    rewards: Sequence[float], observed: Sequence[Sequence[str]], group: int, scale: bool, discount: float = 0.95
) -> torch.Tensor:
    """Return an advantage for each turn of each completion, shape (completions, turns), padded with 0.

    As in GiGPO (Feng et al. 2025, arXiv:2505.10978), a turn's return is the completion's reward, discounted for each
    turn that follows. Its baseline is the mean over the turns of its group that follow the same observation. With
    `scale`, the difference is divided by their standard deviation. A completion whose reward is NaN has none."""
    returns = torch.zeros(len(observed), max(map(len, observed)))
    alike: dict[tuple[int, str], list[tuple[int, int]]] = {}
    for row, (reward, texts) in enumerate(zip(rewards, observed, strict=True)):
        for turn, text in enumerate([] if math.isnan(reward) else texts):
            returns[row, turn] = reward * discount ** (len(texts) - 1 - turn)
            alike.setdefault((row // group, text), []).append((row, turn))
    advantages = torch.zeros_like(returns)
    for places in alike.values():
        at = tuple(torch.tensor(places).T)
        apart = returns[at] - returns[at].mean()
        advantages[at] = apart / (returns[at].std() + 1e-4) if scale and len(places) > 1 else apart
    return advantages


def draw_others(problems: Dataset, own: Sequence[Mapping[str, Any]], rounds: int, rng: random.Random) -> list[int]:
    """Draw distinct rows that are not in the batch, in random order: enough for `rounds` batches, if available. If
    there are no other rows, return the batch's own rows."""
    rows = rng.sample(range(len(problems)), min(len(problems), (rounds + 1) * len(own)))
    prompts = [row["prompt"] for row in own]
    return [i for i in rows if problems[i]["prompt"] not in prompts] or rows


# ---- dynamic sampling (DAPO: Yu et al. 2025, arXiv:2503.14476, section 3.2): groups without a gradient are replaced


def resample(
    sample: Callable[[list[Any]], Batch],
    inputs: list[Any],
    fresh: Callable[[int], list[Any]],
    rounds: int,
    group: int,
    pad_id: int,
    accelerator: Accelerator,
) -> tuple[Batch, int]:
    """Return one process's batch for `inputs`, and the number of groups replaced in this batch.

    `sample` makes TRL's batch from the inputs; `fresh(round)` returns as many inputs, with new problems. Each process
    holds whole groups of `group` completions. While any process has a group to replace, all processes take part in the
    next round. Zero-variance groups left after the last round stay, without effect. Rewards must be scaled per group.
    """
    batch = sample(inputs)
    replaced = 0
    for number in range(rounds):
        dead = _groups(batch, group, alike=True)
        if not any(gather_object([len(dead)])):
            break
        more = sample(fresh(number))
        pairs = list(zip(dead, _groups(more, group, alike=False), strict=False))
        replaced += len(pairs)
        batch = _replace(batch, more, pairs, group, pad_id)
    batch[COUNT] = accelerator.gather(batch["completion_mask"].sum()).sum()  # no tool mask: tools exclude `resample`
    return batch, replaced


def _groups(batch: Batch, group: int, alike: bool) -> list[int]:
    """With `alike`, return the zero-variance groups: no token in the loss has a nonzero advantage. Otherwise, return
    the other groups. A completion masked by `mask_truncated_completions` has no token in the loss."""
    moved = batch["advantages"].abs() * batch["completion_mask"].any(1)
    flat = (moved.view(-1, group) < _NOISE).all(1)
    return [i for i, dead in enumerate(flat.tolist()) if dead == alike]


def _replace(batch: Batch, more: Batch, pairs: list[tuple[int, int]], group: int, pad_id: int) -> Batch:
    """For each pair (a, b), replace group a of `batch` by group b of `more`, padded to one length. Tensors are
    (completions,) or (completions, tokens). Prompts are padded left, all else right."""
    merged = dict(batch)
    for key in batch.keys() - {COUNT}:
        old, new = batch[key], more[key]
        if old.dim() > 1:  # (completions, 1) in both: one value per completion, which is not padded
            width, fill = max(old.shape[1], new.shape[1]), pad_id if key.endswith("_ids") else 0
            side = 0 if key.startswith("prompt_") else 1
            old, new = (F.pad(x, [0] * side + [width - x.shape[1]] + [0] * (1 - side), value=fill) for x in (old, new))
        merged[key] = old.clone()
        for a, b in pairs:
            merged[key][a * group : (a + 1) * group] = new[b * group : (b + 1) * group]
    return merged


# ---- settings


def set_generations(training: GRPOConfig, settings: Mapping[str, Any]) -> None:
    """Set the completions per generation from the global batch size, which `GRPOConfig` does not know. Raises
    `UserError` if groups do not divide the completions, or if a checkpoint would be saved amid a generation's steps."""
    batch, wanted = training.per_device_train_batch_size * training.world_size, settings.get("generation_batch_size")
    if wanted is not None:
        training.steps_per_generation = training.generation_batch_size // batch
    elif settings.get("steps_per_generation") is None:
        training.steps_per_generation = training.gradient_accumulation_steps
    size = batch * training.steps_per_generation
    if size % training.num_generations or (wanted is not None and size != training.generation_batch_size):
        raise UserError(
            f"one generation has {wanted or size} completions, not a multiple of num_generations "
            f"{training.num_generations} and of the batch size over all processes ({batch}): change one of them"
        )
    training.generation_batch_size = size
    share = size // training.world_size
    if settings.get("resample") and share % training.num_generations:
        raise UserError(
            f"resample: each process samples {share} completions, not a multiple of num_generations "
            f"{training.num_generations}: change one of them"
        )
    # Optimizer steps per generation.
    steps = training.steps_per_generation * training.num_iterations / training.gradient_accumulation_steps
    saves = training.save_steps if training.save_steps >= 1 else math.ceil(training.save_steps * training.max_steps)
    if training.save_strategy == "steps" and saves > 0 and saves % max(steps, 1):
        raise UserError(
            f"save_steps {training.save_steps:g} is not a multiple of the {steps:g} optimizer steps per generation, "
            "so a resumed run would lose completions: change save_steps"
        )


def require_problems(problems: Dataset, training: GRPOConfig, key: str, remedy: str) -> None:
    """Raises `UserError` if there are fewer problems than one generation needs."""
    at_once = training.generation_batch_size // training.num_generations
    if len(problems) < at_once:
        raise UserError(f"{key}: {len(problems)} problems remain, but one generation needs {at_once}: {remedy}")

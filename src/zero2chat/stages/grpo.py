"""GRPO: practice problems. The model tries each problem several times, and what worked better than its peers is
made likelier (Shao et al. 2024, arXiv:2402.03300).

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat.stages.grpo --config recipes/quickstart/grpo.yaml

One GPU: `single_gpu.yaml`; eight: `ddp.yaml`; ZeRO: `zero2.yaml`, `zero3.yaml`, on two CPU ranks `cpu_zero2.yaml`.

Reads a chat model, and problems with their final answers; writes a model folder, its accuracy on each task's test
rows, and how reward, length, entropy and habits of thought went. Rewards are functions by dotted path and weight.

The loss counts each token alike (`loss_type: dapo`, TRL's default). What else DAPO (arXiv:2503.14476) found to help is
asked for by the keys `epsilon_high` (clip-higher), `mask_truncated_completions`, `resample` (dynamic sampling), and the
reward `zero2chat.rewards.length.soft_overlong`; `pass_rate` leaves out problems too easy or too hard beforehand.

With `tools` an answer may call them, several times over: what they say stands in it, and carries no loss.
"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Sampler
from transformers import set_seed
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.integrations.fsdp import is_fsdp_enabled
from trl import GRPOConfig, GRPOTrainer, ModelConfig, get_peft_config

from zero2chat.config import build
from zero2chat.data.prompts import load_parts, safe_problems
from zero2chat.data.sources import mix, read_sources
from zero2chat.errors import UserError, exit_on_mistake
from zero2chat.evaluation.tasks import evaluate_tasks, read_specs
from zero2chat.export.merge import check_merge, merge_trained
from zero2chat.hub.push import finish_model_folder
from zero2chat.inference.fast_generate import use_fast_rollouts
from zero2chat.inference.tool_calls import Unfolding
from zero2chat.inference.tool_format import CallFormat, make_tools
from zero2chat.models.chat_template import settle_chat
from zero2chat.models.loading import context_length, refuse_adapter
from zero2chat.rewards import read_rewards, written
from zero2chat.runs import Run, is_main_process
from zero2chat.trainers.arguments import open_model, parse_training, refused_settings, set_global_batch
from zero2chat.trainers.callbacks import RunCallback
from zero2chat.trainers.eval_callback import Examination, check_tasks_steps, examine
from zero2chat.trainers.grpo_resample import resample
from zero2chat.trainers.muon import use_muon
from zero2chat.trainers.pass_rate_filter import PassRate, keep_by_pass_rate, passing_function
from zero2chat.trainers.reflection_phrases import habits
from zero2chat.trainers.trainer import ResumableTrainer, train

_SHOWN = 6  # answers of a task that are kept from before the first step
_HOW_TO_READ = """\
How to read the log. loss: near 0 by construction, since advantages sum to 0 in each group and the ratio of new to old
probability starts at 1; its gradient is not 0, and what to watch is the reward. alike: groups whose answers all got
the same reward, which teach nothing (with `resample` others are tried in their place). cut: answers that
max_completion_length ended. entropy: in nats a token; near 0 the model tries nothing new. KL is logged where beta is
above 0."""


@dataclass
class GrpoArguments:
    """The problems, the rewards, the tasks to be examined in, and what `GRPOConfig` lacks."""

    datasets: list[dict] = field(default_factory=list, metadata={"help": "Sources of problems: prompt and answer."})
    rewards: list[dict] = field(default_factory=list, metadata={"help": "Reward functions: function, weight, options."})
    tasks: list[dict] = field(default_factory=list, metadata={"help": "Tasks whose test rows are asked at the end."})
    tasks_steps: int | None = field(
        default=None, metadata={"help": "Ask them every so many steps too, for accuracy over compute."}
    )
    tools: dict = field(default_factory=dict, metadata={"help": "Tools by name, at hand in each problem."})
    pass_rate: dict | None = field(
        default=None, metadata={"help": "Keep problems that the model solves sometimes: samples, low, high, by."}
    )
    resample: int = field(
        default=0,
        metadata={
            "help": "Generations of other problems, at most, in place of groups that are all alike; each costs as much "
            "time as the first."
        },
    )
    merge_adapter: bool = field(
        default=False, metadata={"help": "With use_peft: write the whole model, with the adapter merged into it."}
    )
    muon: bool = field(default=False, metadata={"help": "Muon for the matrices, AdamW for the rest; else `optim`."})
    global_batch_size: int | None = field(default=None, metadata={"help": "Answers a step over all processes."})
    chat_template_path: str | None = None
    eval_batch_size: int = 128

    def __post_init__(self) -> None:
        if self.eval_batch_size < 1:
            raise ValueError(f"eval_batch_size {self.eval_batch_size} is not above 0")
        if self.resample < 0:
            raise ValueError(f"resample {self.resample} is below 0")
        # Here too, so that a recipe is refused before its first step runs.
        read_sources(self.datasets)
        rewards = read_rewards(self.rewards)
        if self.pass_rate is not None:
            passing_function(build([PassRate], self.pass_rate, "pass_rate")[0], rewards)
        read_specs(self.tasks, self.tools)
        check_tasks_steps(self.tasks_steps, self.tasks)


ARGUMENTS = (GrpoArguments, GRPOConfig, ModelConfig)


def _set_generations(training: GRPOConfig, settings: Mapping[str, Any]) -> None:
    """Fit the answers of one generation to the global batch, as `GRPOConfig` does before it knows of that.

    Raises `UserError` where groups do not fit, or a checkpoint would fall between two generations.
    """
    batch = training.per_device_train_batch_size * training.world_size
    if settings.get("generation_batch_size") is not None:
        training.steps_per_generation, left = divmod(training.generation_batch_size, batch)
        if left or not training.steps_per_generation:
            raise UserError(
                f"generation_batch_size {training.generation_batch_size} is no multiple of the {batch} answers that "
                "the processes take at once"
            )
    elif settings.get("steps_per_generation") is None:
        training.steps_per_generation = training.gradient_accumulation_steps
    training.generation_batch_size = batch * training.steps_per_generation
    if training.generation_batch_size % training.num_generations:
        raise UserError(
            f"num_generations {training.num_generations} does not divide the {training.generation_batch_size} answers "
            "of a generation: change it, or global_batch_size"
        )
    # Optimizer steps that learn from one generation.
    steps = training.steps_per_generation * training.num_iterations / training.gradient_accumulation_steps
    if training.save_strategy == "steps" and training.save_steps >= 1 and training.save_steps % max(steps, 1):
        raise UserError(
            f"save_steps {training.save_steps:g} is no multiple of {steps:g}, the steps that learn from one "
            "generation: a run that went on from a checkpoint between two would have lost its answers"
        )


def _check_resampling(training: GRPOConfig) -> None:
    """Raises `UserError` where a group would be spread over processes, or is not normalised by itself."""
    share = training.generation_batch_size // training.world_size
    if share % training.num_generations:
        raise UserError(
            f"resample: a process samples {share} answers, no multiple of num_generations {training.num_generations}"
        )
    if training.scale_rewards != "group" or training.multi_objective_aggregation != "sum_then_normalize":
        raise UserError(
            "resample: rewards must be normalised in each group: leave out scale_rewards, or set it to group"
        )


def _check_sampling(training: GRPOConfig) -> None:
    """Raises `UserError` where practice would sample in another way than `pass_rate` does."""
    usual = {"top_p": 1.0, "top_k": 0, "min_p": None, "repetition_penalty": 1.0, "generation_kwargs": None}
    for key, value in usual.items():
        if getattr(training, key) != value:
            raise UserError(f"pass_rate: it samples by temperature alone: leave out {key}, or pass_rate")


def _filled(rewards: torch.Tensor, group: int) -> torch.Tensor:
    """Rewards (answers, functions) where None of one function, NaN, is its mean of the group's other answers.

    TRL would count it as 0, which may be the best or the worst there is. Left are answers that no function judges, and
    a function's silence on a whole group, which moves nothing.
    """
    means = rewards.view(-1, group, rewards.shape[1]).nanmean(1).repeat_interleave(group, 0)
    return torch.where(rewards.isnan() & ~rewards.isnan().all(1, keepdim=True), means, rewards)


class _Trainer(ResumableTrainer, GRPOTrainer):
    counts: Counter[str]
    resample_rounds = 0  # generations of other problems, at most
    call_format: CallFormat | None = None

    def _tool_call_loop(
        self, prompts: Any, prompt_ids: Any, completion_ids: Any, completions: Any, logprobs: Any, *images: Any
    ) -> Any:
        """The calls of a chat in the place of TRL's own, which lets a call be cut, nested or forged, and what a
        tool says hold control tokens.

        Returns of each answer the mask of what the model drew, its messages and its ids, and then the numbers of calls
        and of those that failed.
        """
        written = self.call_format
        assert written
        assert logprobs is None
        turns = [
            Unfolding(ids, self.processing_class, written, len(ids) + self.max_completion_length) for ids in prompt_ids
        ]
        drawn, going = completion_ids, turns
        while going:
            for turn, ids in zip(going, drawn, strict=True):
                turn.read(ids, written.ends)
            going = [turn for turn in going if turn.goes_on]
            if going:
                drawn, _ = self._generate_single_turn([turn.ids for turn in going], None, {}, num_generations=1)
        ends = [[] if turn.end is None else [turn.end] for turn in turns]
        masks = [turn.mask + [1] * len(end) for turn, end in zip(turns, ends, strict=True)]
        ids = [turn.ids[turn.prompt :] + end for turn, end in zip(turns, ends, strict=True)]
        calls, failures = sum(turn.made for turn in turns), sum(turn.failures for turn in turns)
        return masks, [turn.messages for turn in turns], ids, None, calls, failures, []

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids: Any) -> torch.Tensor:
        # (answers of all processes, functions)
        rewards: torch.Tensor = super()._calculate_rewards(inputs, prompts, completions, completion_ids)
        # No function had an opinion on them.
        self.counts["answers_left_out"] += int(rewards.isnan().all(1).sum())
        for name, rate in habits([written(completion) for completion in completions]).items():
            self._log_metric(f"habits/{name}", rate)
        return _filled(rewards, self.num_generations)

    def _generate_and_score_completions(self, inputs: list[Any]) -> dict[str, Any]:
        sample = super()._generate_and_score_completions
        if not self.resample_rounds:
            return sample(inputs)
        where = f"{self.args.seed} {self.state.global_step} {self.accelerator.process_index} {inputs[0]['prompt']}"
        pad = self.processing_class.pad_token_id
        rounds, group = self.resample_rounds, self.num_generations

        def fresh(number: int) -> list[Any]:
            rows = _others(self.train_dataset, inputs[::group], rounds, random.Random(where))
            size = len(inputs) // group
            chosen = [rows[i % len(rows)] for i in range(number * size, (number + 1) * size)]
            return [self.train_dataset[row] for row in chosen for _ in range(group)]

        batch, replaced = resample(sample, inputs, fresh, rounds, group, pad, self.accelerator)
        replaced = int(self.accelerator.reduce(torch.tensor(float(replaced), device=self.accelerator.device)))
        self.counts["groups_replaced"] += replaced
        return batch

    def _get_train_sampler(self, train_dataset: TorchDataset | None = None) -> Sampler:
        sampler = GRPOTrainer._get_train_sampler(self, train_dataset)
        if self.shuffle_dataset:
            # TRL's order in a later epoch depends on those before, which a resumed run does not go through.
            sampler.set_epoch = lambda epoch: sampler.generator.manual_seed(self.args.seed + epoch)
        return sampler


def _others(problems: Dataset, own: Sequence[Mapping[str, Any]], rounds: int, rng: random.Random) -> list[int]:
    """Rows that are none of a batch's own, in an order drawn, each once: enough for `rounds` batches, if there are.

    All that were drawn where there are no others.
    """
    drawn = rng.sample(range(len(problems)), min(len(problems), (rounds + 1) * len(own)))
    prompts = [row["prompt"] for row in own]
    return [i for i in drawn if problems[i]["prompt"] not in prompts] or drawn


def main(argv: Sequence[str] | None = None) -> None:
    settings, (args, training, model_args) = parse_training(ARGUMENTS, argv)
    sources, specs = read_sources(args.datasets), read_specs(args.tasks, args.tools)
    rewards = read_rewards(args.rewards)
    if training.beta and model_args.model_revision not in (None, "main"):
        raise UserError("beta: TRL would take the reference from the model's main revision: leave out model_revision")
    check_merge(args.merge_adapter, model_args, training)
    if training.max_completion_length is None:
        raise UserError("max_completion_length is not set: say how many tokens an answer may have")
    pass_rate = None if args.pass_rate is None else build([PassRate], args.pass_rate, "pass_rate")[0]
    if args.tools and (training.use_vllm or pass_rate or args.resample):
        raise UserError("tools: answers with calls are drawn by transformers: leave out use_vllm, pass_rate, resample")
    if pass_rate and (is_deepspeed_zero3_enabled() or is_fsdp_enabled()):
        raise UserError("pass_rate: sharded weights can answer only once training has begun: take zero2 or ddp")
    if pass_rate:
        _check_sampling(training)
    run = Run.open(training.output_dir, "grpo", settings)
    if run.done:
        print(f"{run.folder}: done already")
        return
    set_seed(training.seed)
    set_global_batch(training, args.global_batch_size)
    _set_generations(training, settings)
    if args.resample:
        _check_resampling(training)

    model, tokenizer = open_model(model_args)
    refuse_adapter(model, model_args.model_name_or_path)
    settle_chat(model, tokenizer, args.chat_template_path, model_args)
    tools, ends = make_tools(args.tools), model.generation_config.eos_token_id
    call_format = CallFormat(tools, tokenizer, ends) if tools else None
    parts = load_parts(sources, rewards)
    problems = mix(parts, [s.fraction for s in sources], size=lambda _: 1)
    at_once = training.generation_batch_size // training.num_generations
    if len(problems) < at_once:
        raise UserError(f"datasets: {len(problems)} problems, and one generation takes {at_once}: give more")
    room = context_length(model) - training.max_completion_length
    problems = safe_problems(problems, tokenizer, room, tools=tools, template_kwargs=training.chat_template_kwargs)
    use_fast_rollouts(model)
    chosen: dict[str, dict[str, Any]] = {}
    if pass_rate:
        problems, chosen = keep_by_pass_rate(
            problems,
            pass_rate,
            passing_function(pass_rate, rewards),
            model.to(training.device),
            tokenizer,
            run,
            max_new_tokens=training.max_completion_length,
            temperature=training.temperature,
            batch_size=args.eval_batch_size,
            seed=training.seed,
            cut_fails=training.mask_truncated_completions,
        )
        if len(problems) < at_once:
            raise UserError(
                f"pass_rate: {len(problems)} problems are left, and one generation takes {at_once}: widen low and "
                "high, or give other problems"
            )
    training.reward_weights = [reward.weight for reward in rewards]
    # Before the trainer is made: under DeepSpeed it sets what the trainer then reads.
    optimizer = use_muon(model, training) if args.muon else None
    if call_format:  # a turn may end with a call, in practice and not for good
        model.generation_config.eos_token_id = [*ends, *sorted(call_format.stops - {*ends})]
    with refused_settings():
        trainer = _Trainer(
            model=model,
            args=training,
            reward_funcs=list(rewards),
            train_dataset=problems,
            processing_class=tokenizer,
            peft_config=get_peft_config(model_args),
            tools=list(tools.functions.values()) if tools else None,
        )
    model.generation_config.eos_token_id, trainer.call_format = ends, call_format
    trainer.resample_rounds = args.resample
    trainer.optimizer_cls_and_kwargs = optimizer  # GRPOTrainer takes no such argument

    if is_main_process():
        print(f"{len(problems):,} problems\n{_HOW_TO_READ}", flush=True)
    # A few questions of the examination, so that what practice changed can be seen. (Sharded weights can answer only
    # once training has begun.)
    if specs and not (is_deepspeed_zero3_enabled() or trainer.is_fsdp_enabled):
        few = [dataclasses.replace(spec, n=min(spec.n, _SHOWN), samples=0) for spec in specs]
        _, samples = evaluate_tasks(model.to(training.device), tokenizer, few, show=_SHOWN, tools=tools)
        if trainer.is_world_process_zero():
            run.sample_anew(0, samples)

    callback = RunCallback(run)
    trainer.counts = callback.counts
    if args.tasks_steps:
        every, at_once = args.tasks_steps, args.eval_batch_size
        trainer.add_callback(Examination(trainer, tokenizer, specs, run, callback, every, at_once, tools))
    train(trainer, run, callback, count="no")  # TRL counts the tokens

    metrics: dict[str, dict[str, Any]] = {
        "problems": {"value": len(problems)},
        "answers_left_out": {"value": trainer.counts["answers_left_out"]},
        **chosen,
    }
    if args.resample:
        metrics["groups_replaced"] = {"value": trainer.counts["groups_replaced"]}
    metrics |= examine(trainer, tokenizer, specs, run, args.eval_batch_size, tools)
    if args.merge_adapter and trainer.is_world_process_zero():
        trained = trainer.accelerator.unwrap_model(trainer.model)
        trainer.model = merge_trained(trained, model, tokenizer, run)
    finish_model_folder(run, trainer, tokenizer, metrics)


if __name__ == "__main__":
    with exit_on_mistake():
        main()

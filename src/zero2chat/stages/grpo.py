"""GRPO on practice problems. The model answers each problem several times; answers that score above their group's
mean become more likely (Shao et al. 2024, arXiv:2402.03300).

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat.stages.grpo --config recipes/quickstart/grpo.yaml

One GPU: `single_gpu.yaml`; eight: `ddp.yaml`; ZeRO: `zero2.yaml`, `zero3.yaml`, on two CPU ranks `cpu_zero2.yaml`.

Reads a chat model and problems with final answers. Writes a model folder, its accuracy on each task's test rows, and
curves of reward, length, entropy and reflection phrases. Rewards are functions given by dotted path and weight.

The loss weights every token equally (`loss_type: dapo`, TRL's default). TRL's other losses are set by its keys. The
other parts of DAPO (arXiv:2503.14476) are enabled with `epsilon_high` (clip-higher), `mask_truncated_completions`,
`resample` (dynamic sampling), and the reward `zero2chat.rewards.length.soft_overlong`. `pass_rate` removes problems
that are too easy or too hard before training.

With `tools` a completion may contain tool calls. The tools' results are part of it and carry no loss.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from trl import GRPOConfig, GRPOTrainer, ModelConfig

from zero2chat.core.config import Range
from zero2chat.core.errors import UserError
from zero2chat.core.runs import Run, is_main_process
from zero2chat.data.prepared import Prepared, prompt_rows
from zero2chat.data.prompts import load_parts, read_schemas, safe_problems, schemas_of
from zero2chat.data.sources import mixed, read_sources
from zero2chat.evaluation.tasks import evaluate_tasks
from zero2chat.inference.fast_generate import use_fast_rollouts
from zero2chat.inference.generate import render_prompts
from zero2chat.inference.responses import ensure_response_template
from zero2chat.inference.tool_calls import Unfolding, read_all
from zero2chat.inference.tool_format import CallFormat, make_tools
from zero2chat.models.hardware import is_fsdp
from zero2chat.models.loading import context_length
from zero2chat.models.training_job import NOT_WHOLE, SHARDED, EmptyModel, Job, quantized_refuses, vllm_share
from zero2chat.report.samples import Answers
from zero2chat.report.section import ACCURACIES, ANSWERED, ENTROPY, LENGTHS, REWARDS, TASK_SCORES, Curve, Section
from zero2chat.rewards import read_rewards, written
from zero2chat.stages import Stage
from zero2chat.trainers.arguments import TaskStepsArguments
from zero2chat.trainers.evaluate import finish_with_tasks, train_with_tasks
from zero2chat.trainers.grpo_resample import resample
from zero2chat.trainers.muon import use_muon
from zero2chat.trainers.pass_rate_filter import PassRate, keep_by_pass_rate, passing_function
from zero2chat.trainers.reflection_phrases import habits
from zero2chat.trainers.start import (
    adapter_config,
    open_chat_model,
    refused_settings,
    set_global_batch,
    start_from_adapter,
    stop_vllm_at,
)
from zero2chat.trainers.trainer import ResumableTrainer

_SHOWN = 6  # completions per task saved before the first step
_HOW_TO_READ = """\
How to read the log. loss: near 0 by construction, because advantages sum to 0 in each group and the probability ratio
starts at 1. Its gradient is not 0; watch the reward instead. zero-variance groups: groups whose completions all got the
same reward, so they give no gradient (with `resample` they are replaced by other prompts). truncated: completions that
reached max_completion_length. entropy: nats per token; near 0 the model no longer explores. KL: logged if beta is above
0."""


@dataclass
class GrpoArguments(TaskStepsArguments):
    """Problems, rewards, evaluation tasks, and settings that `GRPOConfig` lacks."""

    rewards: list[dict] = field(default_factory=list, metadata={"help": "Reward functions: function, weight, options."})
    tools: dict = field(default_factory=dict, metadata={"help": "Tools by name, available in each problem."})
    pass_rate: PassRate | None = field(
        default=None, metadata={"help": "Keep problems the model solves sometimes: samples, low, high, by."}
    )
    resample: Annotated[int, Range(min=0)] = field(
        default=0,
        metadata={
            "help": "Maximum extra generations that replace zero-variance groups by other prompts; each takes as long "
            "as the first."
        },
    )
    chat_template_path: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        rewards = read_rewards(self.rewards)
        if self.pass_rate is not None:
            passing_function(self.pass_rate, rewards)


def _set_generations(training: GRPOConfig, settings: Mapping[str, Any]) -> None:
    """Set the completions per generation for the global batch size. `GRPOConfig` does so before it knows that size.

    Raises `UserError` if groups do not fit, or if a checkpoint would fall between two generations.
    """
    batch = training.per_device_train_batch_size * training.world_size
    if settings.get("generation_batch_size") is not None:
        training.steps_per_generation, left = divmod(training.generation_batch_size, batch)
        if left or not training.steps_per_generation:
            raise UserError(
                f"generation_batch_size {training.generation_batch_size} is not a multiple of {batch}, the batch size "
                "over all processes: change it"
            )
    elif settings.get("steps_per_generation") is None:
        training.steps_per_generation = training.gradient_accumulation_steps
    training.generation_batch_size = batch * training.steps_per_generation
    if training.generation_batch_size % training.num_generations:
        raise UserError(
            f"num_generations {training.num_generations} does not divide {training.generation_batch_size}, the "
            "completions of one generation: change it, or global_batch_size"
        )
    # Optimizer steps per generation.
    steps = training.steps_per_generation * training.num_iterations / training.gradient_accumulation_steps
    saves = training.save_steps if training.save_steps >= 1 else math.ceil(training.save_steps * training.max_steps)
    if training.save_strategy == "steps" and saves > 0 and saves % max(steps, 1):
        raise UserError(
            f"save_steps {training.save_steps:g} is not a multiple of {steps:g}, the optimizer steps per generation: "
            "a run resumed from a checkpoint in between would lose its completions"
        )


def _check_resampling(training: GRPOConfig) -> None:
    """Raises `UserError` if a group would span processes, or if rewards are not normalised per group."""
    share = training.generation_batch_size // training.world_size
    if share % training.num_generations:
        raise UserError(
            f"resample: each process samples {share} completions, not a multiple of num_generations "
            f"{training.num_generations}: change one of them"
        )
    if training.scale_rewards != "group" or training.multi_objective_aggregation != "sum_then_normalize":
        raise UserError("resample: rewards must be normalised per group: remove scale_rewards, or set it to group")


def _check_sampling(training: GRPOConfig) -> None:
    """Raises `UserError` if training would sample with other settings than `pass_rate`."""
    usual = {"top_p": 1.0, "top_k": 0, "min_p": None, "repetition_penalty": 1.0, "generation_kwargs": None}
    for key, value in usual.items():
        if getattr(training, key) != value:
            raise UserError(f"pass_rate: only temperature sampling is supported: remove {key}, or pass_rate")


def _filled(rewards: torch.Tensor, group: int) -> torch.Tensor:
    """Replace each missing reward (None of a function, NaN) by that function's mean over the rest of the group.

    `rewards` has the shape (completions, functions). TRL would count it as 0, which may be the best or the worst value.
    Completions without any reward stay NaN, and so does a function without a value in a whole group.
    """
    means = rewards.view(-1, group, rewards.shape[1]).nanmean(1).repeat_interleave(group, 0)
    return torch.where(rewards.isnan() & ~rewards.isnan().all(1, keepdim=True), means, rewards)


class _Trainer(ResumableTrainer, GRPOTrainer):
    counts: Counter[str]
    resample_rounds = 0  # maximum number of extra generations
    call_format: CallFormat | None = None
    own_schemas: Sequence[Any] | None = None  # of the tools of each row that is sampled

    def _tokenize_prompts(self, prompts: Any) -> Any:
        """Show each prompt's own tools. TRL knows only tools that all prompts have."""
        if self.own_schemas is None:
            return super()._tokenize_prompts(prompts)
        return render_prompts(self.processing_class, prompts, self.own_schemas, **self.chat_template_kwargs), None, {}

    def _tool_call_loop(
        self, prompts: Any, prompt_ids: Any, completion_ids: Any, completions: Any, logprobs: Any, *images: Any
    ) -> Any:
        """Run tool calls as our chat does. TRL's own loop accepts truncated, nested or forged calls, and control
        tokens in a tool's result.

        Returns, per completion, the mask of generated tokens, the messages, the ids and, with vLLM, their
        log-probabilities in its sampler; then the numbers of calls and of failed calls.
        """
        written = self.call_format
        assert written
        turns = [
            Unfolding(ids, self.processing_class, written, len(ids) + self.max_completion_length) for ids in prompt_ids
        ]
        # vLLM's server refuses requests for more tokens, with their prompt, than its context: none asks for more than
        # the first one did.
        limit = self._most(map(len, prompt_ids)) + self.max_completion_length
        sampled = [list[float]() for _ in turns]
        asked, drawn, found = list(range(len(turns))), completion_ids, logprobs
        while True:
            before = [len(turns[i].mask) for i in asked]
            read_all([turns[i] for i in asked], drawn, written.ends)
            for i, start, here in zip(asked, before, found or [], strict=found is not None):
                kept = sum(turns[i].mask[start:])
                sampled[i] += here[:kept] + [0.0] * (len(turns[i].mask) - start - kept)
                if turns[i].end is not None:
                    sampled[i].append(here[kept])
            going = [i for i, turn in enumerate(turns) if turn.goes_on]
            room = self._most(turns[i].room for i in going)
            if not room:
                break
            # The others are asked in a later round, which asks for fewer tokens.
            asked = [i for i in going if not self.use_vllm or len(turns[i].ids) + room <= limit]
            drawn, found = self._next_turns([turns[i].ids for i in asked], prompt_ids[0], room)
        ends = [[] if turn.end is None else [turn.end] for turn in turns]
        masks = [turn.mask + [1] * len(end) for turn, end in zip(turns, ends, strict=True)]
        ids = [turn.ids[turn.prompt :] + end for turn, end in zip(turns, ends, strict=True)]
        calls, failures = sum(turn.made for turn in turns), sum(turn.failures for turn in turns)
        scores = sampled if logprobs is not None else None
        return masks, [turn.messages for turn in turns], ids, scores, calls, failures, []

    def _next_turns(self, asked: list[list[int]], filler: list[int], room: int) -> tuple[Any, Any]:
        """Generate after these ids. Returns ids, and with vLLM their log-probabilities.

        A rank without calls left generates for nothing: to take part in gathering sharded weights or, with vLLM, all
        ranks' prompts, as many from each.
        """
        rows = self._most([len(asked)]) if self.use_vllm else 1
        prompts = asked + [filler] * (rows - len(asked))
        if self.use_vllm:
            self.vllm_generation.max_completion_length = room
        try:
            ids, log_probs = self._generate_single_turn(prompts, None, {}, num_generations=1)
        finally:
            if self.use_vllm:
                self.vllm_generation.max_completion_length = self.max_completion_length
        return ids[: len(asked)], log_probs and log_probs[: len(asked)]

    def _most(self, numbers: Iterable[int]) -> int:
        """Return the largest number, or 0. Where generation needs all ranks, of all of them: they must then generate
        equally often."""
        here = max(numbers, default=0)
        together = self.use_vllm or is_deepspeed_zero3_enabled() or self.is_fsdp_enabled
        return max(gather_object([here])) if together else here

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids: Any) -> torch.Tensor:
        # (completions of all processes, functions)
        rewards: torch.Tensor = super()._calculate_rewards(inputs, prompts, completions, completion_ids)
        # No function returned a reward for these.
        self.counts["unscored_completions"] += int(rewards.isnan().all(1).sum())
        for name, rate in habits([written(completion) for completion in completions]).items():
            self._log_metric(f"habits/{name}", rate)
        return _filled(rewards, self.num_generations)

    def _generate_and_score_completions(self, inputs: list[Any]) -> dict[str, Any]:
        def sample(inputs: list[Any]) -> dict[str, Any]:
            self.own_schemas = read_schemas([row.get("tools") for row in inputs])
            return GRPOTrainer._generate_and_score_completions(self, inputs)

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


def _at_the_end(logged: Sequence[Mapping[str, Any]], steps: int) -> dict[str, dict[str, Any]]:
    """Return the number of steps, and the mean over the log's last tenth of what became of the completions."""
    found: dict[str, dict[str, Any]] = {"steps": {"value": steps}}
    for name, key in (("entropy", "entropy"), ("completion_length", "completions/mean_length"), ("kl", "kl")):
        values = [line[key] for line in logged if key in line]
        last = values[-max(len(values) // 10, 1) :]
        found |= {name: {"value": round(sum(last) / len(last), 4)}} if last else {}
    return found


def _others(problems: Dataset, own: Sequence[Mapping[str, Any]], rounds: int, rng: random.Random) -> list[int]:
    """Draw rows that are not in the batch, in random order, each once: enough for `rounds` batches, if available.

    If there are no other rows, returns the batch's own.
    """
    drawn = rng.sample(range(len(problems)), min(len(problems), (rounds + 1) * len(own)))
    prompts = [row["prompt"] for row in own]
    return [i for i in drawn if problems[i]["prompt"] not in prompts] or drawn


def _check(args: GrpoArguments, training: GRPOConfig, model_args: ModelConfig) -> None:
    if training.beta and model_args.model_revision not in (None, "main"):
        raise UserError("beta: TRL would load the reference model from the main revision: remove model_revision")
    if args.tools and (args.pass_rate is not None or args.resample):
        raise UserError("tools: these sample completions without calls: remove pass_rate and resample")
    if args.pass_rate is not None and (is_deepspeed_zero3_enabled() or is_fsdp(training.fsdp)):
        raise UserError("pass_rate: sharded weights cannot generate before training starts: use zero2 or ddp")
    if args.pass_rate is not None:
        _check_sampling(training)


def run(run: Run, args: GrpoArguments, training: GRPOConfig, model_args: ModelConfig) -> None:
    sources, specs = read_sources(args.datasets), args.specs
    rewards, pass_rate = read_rewards(args.rewards), args.pass_rate
    set_global_batch(training, args.global_batch_size)
    _set_generations(training, run.settings)
    if args.resample:
        _check_resampling(training)

    start_from_adapter(run, model_args)
    model, tokenizer = open_chat_model(model_args, args.chat_template_path)
    tools, ends = make_tools(args.tools), model.generation_config.eos_token_id
    call_format = CallFormat(tools, tokenizer, ends) if tools else None
    if call_format:
        ensure_response_template(tokenizer)
    parts = load_parts(sources, rewards, tools=True)
    problems, _ = mixed(parts, sources)
    if tools and schemas_of(problems):
        raise UserError("tools: the rows have tools of their own, which cannot run: remove `tools`, or their column")
    at_once = training.generation_batch_size // training.num_generations
    if len(problems) < at_once:
        raise UserError(f"datasets: {len(problems)} problems, but one generation needs {at_once}: give more")
    room = context_length(model) - training.max_completion_length
    template: Any = training.chat_template_kwargs  # a mapping: a text has been parsed
    problems = safe_problems(problems, tokenizer, room, tools=tools, template_kwargs=template)
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
            template=template,
        )
        if len(problems) < at_once:
            raise UserError(
                f"pass_rate: {len(problems)} problems remain, but one generation needs {at_once}: widen low and high, "
                "or give more problems"
            )
    training.reward_weights = [reward.weight for reward in rewards]
    # Before the trainer is built: under DeepSpeed this sets what the trainer then reads.
    optimizer = use_muon(model, training) if args.muon else None
    if call_format:  # a turn may end with a call during training, not in the saved model
        model.generation_config.eos_token_id = [*ends, *sorted(call_format.stops - {*ends})]
    stop_vllm_at(model, training)
    with refused_settings():
        trainer = _Trainer(
            model=model,
            args=training,
            reward_funcs=list(rewards),
            train_dataset=problems,
            processing_class=tokenizer,
            peft_config=adapter_config(model_args),
            tools=list(tools.functions.values()) if tools else None,
        )
    model.generation_config.eos_token_id, trainer.call_format = ends, call_format
    trainer.resample_rounds = args.resample
    trainer.optimizer_cls_and_kwargs = optimizer  # GRPOTrainer has no such argument

    if is_main_process():
        print(f"{len(problems):,} problems\n{_HOW_TO_READ}", flush=True)
    # Sample a few evaluation prompts before training, for comparison. (Sharded weights cannot generate before training
    # starts.)
    if specs and not (is_deepspeed_zero3_enabled() or trainer.is_fsdp_enabled):
        few = [replace(spec, n=min(spec.n, _SHOWN), samples=0) for spec in specs]
        _, samples, _ = evaluate_tasks(
            model.to(training.device), tokenizer, few, show=_SHOWN, tools=tools, template=template
        )
        if trainer.is_world_process_zero():
            run.replace_samples(0, samples)

    train_with_tasks(trainer, run, args, "no", tools)  # TRL counts the tokens
    metrics: dict[str, dict[str, Any]] = {
        "problems": {"value": len(problems)},
        **_at_the_end(trainer.state.log_history, trainer.state.global_step),
        "unscored_completions": {"value": trainer.counts["unscored_completions"]},
        **chosen,
    }
    if args.resample:
        metrics["groups_replaced"] = {"value": trainer.counts["groups_replaced"]}
    finish_with_tasks(trainer, model, run, args, metrics, tools)


def _rows(args: GrpoArguments, training: GRPOConfig, model_args: ModelConfig) -> Prepared:
    tools = make_tools(args.tools)
    return prompt_rows(args, training, model_args, read_rewards(args.rewards), tools, own_tools=True)


def _cost(job: Job, _: EmptyModel, args: GrpoArguments, training: GRPOConfig, model_args: ModelConfig) -> Job:
    # A rollout is read once by the reference model, and, if it is vLLM's or used several times, by the older policy.
    reads = (bool(training.beta) + (training.use_vllm or training.num_iterations > 1)) / training.num_iterations
    batch = args.global_batch_size or training.per_device_train_batch_size * training.gradient_accumulation_steps
    whole = SHARDED if args.pass_rate else quantized_refuses(model_args)
    return replace(
        job,
        model=replace(job.model, readers=job.parameters if training.beta and not model_args.use_peft else 0),
        work=replace(job.work, head="tiles"),
        flops=job.flops + reads * job.forward,
        rollout=training.generation_batch_size / batch,
        vllm=vllm_share(training),
        refused=NOT_WHOLE if args.merge_adapter else whole,
        unit="answers",
    )


STAGE = Stage(
    name="grpo",
    story="A language model trained with GRPO: answers rewarded above their group's mean became more likely.",
    kind="trains",
    arguments=(GrpoArguments, GRPOConfig, ModelConfig),
    check=_check,
    run=run,
    prepare=_rows,
    cost=_cost,
    section=Section(
        title="Practice problems",
        story="A textbook's chapter ends with practice problems that come with only the final answer. The model "
        "answers each problem several times, and the attempts that led to a correct answer become more likely. Nobody "
        "shows it a solution: it discovers for itself which way of working succeeds.",
        metrics=ANSWERED
        | {
            "problems": "training problems",
            "problems_too_easy": "problems filtered out as too easy",
            "problems_too_hard": "problems filtered out as too hard",
            "pass_rate_before": "mean pass rate of all problems before training",
            "groups_replaced": "zero-variance groups replaced by other problems",
            "unscored_completions": "completions without any reward",
            "completion_length": "tokens in a completion, at the end of training",
            "entropy": "entropy, nats per token, at the end of training",
            "kl": "KL from the start, nats per token, at the end of training",
        },
        figures=(
            REWARDS,
            Curve(
                "Zero-variance groups, whose completions all got the same reward, give no gradient. Truncated "
                "completions reached the length limit.",
                "share",
                {"zero-variance groups": "frac_reward_zero_std", "truncated": "completions/clipped_ratio"},
                percent=True,
            ),
            ACCURACIES,
            LENGTHS,
            Curve(
                "Reflection: phrases such as “let me check” and “wait”. No reward asks for them.",
                "phrases per completion",
                {"self-checks": "habits/self_checks", "backtracking": "habits/backtracks"},
            ),
            ENTROPY,
            Curve("KL from the reference model.", "KL, nats per token", "kl"),
            TASK_SCORES,
        ),
        samples=Answers("Before and after"),
    ),
)
main = STAGE.main

if __name__ == "__main__":
    STAGE.command()

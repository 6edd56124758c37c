"""GRPO on practice problems. The model answers each problem several times; answers that score above their group's
mean become more likely (Shao et al. 2024, arXiv:2402.03300).

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat.stages.grpo --config recipes/quickstart/grpo.yaml

One GPU: `single_gpu.yaml`; eight: `ddp.yaml`; ZeRO: `zero2.yaml`, `zero3.yaml`, on two CPU ranks `cpu_zero2.yaml`.

Reads a chat model and problems with final answers. Writes a model folder, the model's accuracy on each task's test
rows, and curves of reward, length and entropy. Each reward is a function, given by its dotted path and a weight.

The loss weights every token equally (`loss_type: dapo`, TRL's default). TRL's keys select other losses. The other parts
of DAPO (arXiv:2503.14476) are enabled with `epsilon_high` (clip-higher), `mask_truncated_completions`, `resample`
(dynamic sampling), and the reward `zero2chat.rewards.length.soft_overlong`. `pass_rate` removes problems that are too
easy or too hard before training.

With `tools`, or in a world, a completion may contain calls. Their results are part of it, but have no loss.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from trl import GRPOConfig, ModelConfig

from zero2chat.core.errors import UserError
from zero2chat.core.runs import Run, is_main_process
from zero2chat.data.prepared import Prepared, prompt_rows
from zero2chat.inference.tool_format import make_tools
from zero2chat.models.training_job import NOT_WHOLE, SHARDED, EmptyModel, Job, quantized_refuses, vllm_share
from zero2chat.report.samples import Answers, group_part
from zero2chat.report.section import TASK_SCORES, Curve, Section
from zero2chat.rewards import read_rewards
from zero2chat.stages import Stage
from zero2chat.stages.shared import ACCURACIES, ANSWERED, ENTROPY, LENGTHS, REWARDS
from zero2chat.tools.environments import worlds_of
from zero2chat.trainers.arguments import TaskStepsArguments
from zero2chat.trainers.evaluate import finish_with_tasks, show_before_training, train_with_tasks
from zero2chat.trainers.grpo import GrpoTrainer, require_problems, set_generations
from zero2chat.trainers.pass_rate_filter import PassRate, check_pass_rate, keep_by_pass_rate
from zero2chat.trainers.start import adapter_config, open_chat_model, refused_settings, set_global_batch

_HOW_TO_READ = """\
How to read the log. loss: near 0 by construction, because advantages sum to 0 in each group and the probability ratio
starts at 1. Its gradient is not 0; watch the reward instead. zero-variance groups: groups whose completions all got the
same reward, so they give no gradient (with `resample` they are replaced by other prompts). truncated: completions that
reached max_completion_length. entropy: nats per token; near 0 the model no longer explores. KL: logged if beta > 0."""
_PER_GROUP = ("group", "sum_then_normalize")


@dataclass
class GrpoArguments(TaskStepsArguments):
    """Problems, rewards, evaluation tasks, and settings that `GRPOConfig` lacks."""

    rewards: list[dict] = field(default_factory=list, metadata={"help": "Reward functions: function, weight, options."})
    tools: dict = field(default_factory=dict, metadata={"help": "Tools by name, available in each problem."})
    pass_rate: PassRate | None = field(
        default=None, metadata={"help": "Keep problems the model solves sometimes: samples, low, high."}
    )
    resample: int = field(
        default=0, metadata={"help": "Most extra generations, each as long as the first, for zero-variance groups."}
    )
    credit: Literal["trajectory", "turn"] = field(default="trajectory", metadata={"help": "turn: advantages per turn."})
    chat_template_path: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        read_rewards(self.rewards)  # also here: a recipe fails before its first step runs


def _check(args: GrpoArguments, training: GRPOConfig, model_args: ModelConfig) -> None:
    if training.beta and model_args.model_revision not in (None, "main"):
        raise UserError("beta: TRL would load the reference model from the main revision: remove model_revision")
    if args.tools and (args.pass_rate is not None or args.resample):
        raise UserError("`pass_rate` and `resample` sample without tool calls: remove both, or `tools`")
    if args.resample and (training.scale_rewards, training.multi_objective_aggregation) != _PER_GROUP:
        raise UserError("`resample` needs per-group scaling: remove scale_rewards and multi_objective_aggregation")
    if args.credit == "turn" and training.scale_rewards == "batch":
        raise UserError("`credit: turn` scales per group: remove `scale_rewards: batch`, or set `credit: trajectory`")
    if args.pass_rate is not None:
        check_pass_rate(read_rewards(args.rewards)[0], training)


def prepare(args: GrpoArguments, training: GRPOConfig, model_args: ModelConfig) -> Prepared:
    """Return the problems. The trainer tokenizes their prompts."""
    rows = prompt_rows(args, training, model_args, read_rewards(args.rewards), tools=make_tools(args.tools))
    if any(worlds_of(rows.train)) and (args.pass_rate is not None or args.resample):
        raise UserError("`pass_rate` and `resample` sample without worlds: remove both, or the worlds' rows")
    return replace(rows, note="pass_rate: the run keeps only problems solved sometimes" if args.pass_rate else "")


def run(run: Run, args: GrpoArguments, training: GRPOConfig, model_args: ModelConfig) -> None:
    set_global_batch(training, args.global_batch_size)
    set_generations(training, run.settings)
    problems = prepare(args, training, model_args).train
    require_problems(problems, training, "datasets", "give more")

    # Load.
    model, tokenizer = open_chat_model(run, model_args, args.chat_template_path, generates=True)
    rewards, tools = read_rewards(args.rewards), make_tools(args.tools)
    chosen: dict[str, dict[str, Any]] = {}
    if args.pass_rate:
        problems, chosen = keep_by_pass_rate(
            problems, args.pass_rate, rewards[0], model, tokenizer, run, training, args.eval_batch_size
        )
        require_problems(problems, training, "pass_rate", "widen low and high, or give more problems")

    # Train.
    with refused_settings():
        trainer = GrpoTrainer(
            model=model,
            args=training,
            processing_class=tokenizer,
            train_dataset=problems,
            rewards=rewards,
            tools=tools,
            resample_rounds=args.resample,
            muon=args.muon,
            by_turn=args.credit == "turn",
            peft_config=adapter_config(model_args),
        )
    if is_main_process():
        print(f"{len(problems):,} problems\n{_HOW_TO_READ}", flush=True)
    show_before_training(trainer, model, run, args, tools)
    train_with_tasks(trainer, run, args, count="no", tools=tools)  # TRL counts the tokens
    if is_main_process() and (group := trainer.example_group()):
        run.log({"step": trainer.state.global_step, "group": group})

    # Evaluate, and save.
    metrics = {"problems": {"value": len(problems)}, **trainer.final_metrics(), **chosen}
    finish_with_tasks(trainer, model, run, args, metrics, tools)


def _cost(job: Job, _: EmptyModel, args: GrpoArguments, training: GRPOConfig, model_args: ModelConfig) -> Job:
    # A rollout is read once by the reference model, and, if it is vLLM's or used several times, by the older policy.
    reads = (bool(training.beta) + (training.use_vllm or training.num_iterations > 1)) / training.num_iterations
    batch = args.global_batch_size or training.per_device_train_batch_size * training.gradient_accumulation_steps
    whole = SHARDED if args.pass_rate else quantized_refuses(model_args)
    return replace(
        job,
        readers=job.parameters if training.beta and not model_args.use_peft else 0,
        head="tiles",
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
    prepare=prepare,
    cost=_cost,
    section=Section(
        title="Learning from rewards",
        story="The model answers each prompt several times, and answers with a higher reward than the mean of their "
        "group become more likely. This step shows no solution: the model finds by sampling what is rewarded.",
        textbook="In a textbook, these are the practice problems: after worked examples, with only the final answer.",
        metrics=ANSWERED
        | {
            "problems_seen": "training problems used",
            "problems": "training problems in all",
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
            ENTROPY,
            Curve("KL from the reference model.", "KL, nats per token", "kl"),
            TASK_SCORES,
        ),
        samples=Answers("Before and after"),
        extra=group_part,
    ),
)

if __name__ == "__main__":
    STAGE.command()

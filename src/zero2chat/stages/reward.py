"""The reward model: predict which of two answers people prefer, trained on preference pairs.

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat.stages.reward --config recipes/quickstart/reward.yaml

One GPU: `single_gpu.yaml`; eight: `ddp.yaml`; ZeRO: `zero2.yaml` (with `datasets` also `zero3.yaml`), on two CPU ranks
`cpu_zero2.yaml`.

Reads a chat model and preference pairs. Pairs come from datasets, or the model answers a task's prompts, and the task's
taste ranks the answers with noise. Writes `pairs/{train,test}.jsonl`, a model folder with one output (used by
`reward_model.score_texts`), and three accuracies on held-out pairs: of the model, of length alone, of the noisy labels.
The loss is that of Bradley and Terry (1952), as in Ouyang et al. 2022 (arXiv:2203.02155, section 3.5).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from trl import ModelConfig, RewardConfig

from zero2chat.core.runs import Run, is_main_process
from zero2chat.data.preferences import Comparisons, PairArguments
from zero2chat.hub.push import finish_model_folder
from zero2chat.models.reward_model import merged_to_score
from zero2chat.models.training_job import FSDP, SHARDED, EmptyModel, Job
from zero2chat.report.samples import SampleTable
from zero2chat.report.section import Curve, Section
from zero2chat.report.steps import Points, StepResult
from zero2chat.stages import Stage
from zero2chat.trainers.arguments import MuonArguments
from zero2chat.trainers.callbacks import RunCallback
from zero2chat.trainers.reward_trainer import (
    RewardModelTrainer,
    check_reward,
    make_pairs,
    open_new_reward_model,
    prepare_pairs,
)
from zero2chat.trainers.start import (
    adapter_config,
    refused_settings,
    remove_start,
    set_global_batch,
    start_from_adapter,
)
from zero2chat.trainers.trainer import train


@dataclass
class RewardArguments(PairArguments, MuonArguments):
    """The preference pairs (from datasets, from a task, or both), and settings that `RewardConfig` lacks."""

    comparisons: Comparisons | None = field(
        default=None, metadata={"help": "A task's pairs: task, n, answers, noise, …"}
    )

    def __post_init__(self) -> None:
        if not (self.comparisons or self.datasets):
            raise ValueError("no data: set `comparisons` (of a task), `datasets` (of preferences), or both")
        super().__post_init__()


def run(run: Run, args: RewardArguments, training: RewardConfig, model_args: ModelConfig) -> None:
    set_global_batch(training, args.global_batch_size)

    start_from_adapter(run, model_args, merged_to_score)
    make_pairs(args, training, model_args)
    rows = prepare_pairs(args, training, model_args)
    if is_main_process():
        n, test = len(rows.known), len(rows.held_out)
        print(f"{n:,} training pairs, {test:,} held out, {rows.equal:,} dropped as equal", flush=True)

    # Load.
    model, tokenizer = open_new_reward_model(training, model_args)

    # Train.
    model_args.lora_task_type = "SEQ_CLS"  # so that the head is trained and saved with the adapter
    with refused_settings():
        trainer = RewardModelTrainer(
            model=model,
            args=training,
            train_dataset=rows.train.shuffle(seed=training.seed),
            processing_class=tokenizer,
            peft_config=adapter_config(model_args),
            muon=args.muon,
        )
    train(trainer, run, RunCallback(run), count="non_padding")

    # Evaluate.
    metrics, samples, bins = trainer.score_pairs(rows.known, rows.held_out, args.eval_batch_size, model_args.use_peft)
    metrics |= {"pairs_equal": {"value": rows.equal}}
    if trainer.is_world_process_zero():
        run.log({"step": trainer.state.global_step, "reliability": bins})
        run.replace_samples(trainer.state.global_step, samples)
    if is_main_process():
        print(" | ".join(f"{name} {metric['value']}" for name, metric in metrics.items()), flush=True)

    # Save.
    remove_start(run, trainer)
    finish_model_folder(run, trainer, tokenizer, metrics)


def _cost(job: Job, _: EmptyModel, args: RewardArguments, training: RewardConfig, model_args: ModelConfig) -> Job:
    refused = tuple(name for name in SHARDED if args.comparisons and name != FSDP)
    return replace(job, sequences=2, head="none", refused=refused, unit="pairs")


def _reliability(step: StepResult) -> dict[str, Points]:
    """Return label → points (confidence, accuracy), from the last reliability bins in the history."""
    logged = [line["reliability"] for line in step.history if "reliability" in line]
    if not logged:
        return {}
    bins = [(one["sure"], one["right"]) for one in logged[-1]]
    return {"the model": bins, "perfectly calibrated": [(0.5, 0.5), (1, 1)]}


STAGE = Stage(
    name="reward",
    story="A reward model trained on preference pairs. It scores an answer; the preferred answer scores higher.",
    limits="It has learned preferences between answers like those in its training data. On other answers its scores "
    "are unreliable: a model trained to raise them can learn to exploit its errors (reward hacking).",
    kind="trains",
    arguments=(RewardArguments, RewardConfig, ModelConfig),
    check=check_reward,
    run=run,
    prepare=prepare_pairs,
    cost=_cost,
    section=Section(
        title="Learning preferences",
        story="Many tasks have no single correct answer, only better and worse ones. Choosing the better of two "
        "is easier than writing a good one. The reward model learns from many such comparisons to score any answer, "
        "and can then judge more answers than were ever compared.",
        metrics={
            "accuracy": "accuracy on held-out preference pairs",
            "accuracy_length": "accuracy by length alone",
            "accuracy_noisy": "accuracy by the simulated person's noisy labels",
            "noise_ceiling": "of the simulated person's labels are correct (ceiling)",
            "calibration_error": "calibration error",
            "pairs_seen": "training pairs used",
            "pairs_train": "training pairs in all",
        },
        figures=(
            Curve(
                "Reliability diagram: on the diagonal the model is perfectly calibrated.",
                "accuracy",
                _reliability,
                x="predicted probability",
                percent=True,
            ),
            Curve("Loss (chance: ln 2 ≈ 0.69).", "loss", "loss"),
            Curve("Accuracy on training pairs during training.", "accuracy", "accuracy", percent=True),
        ),
        samples=SampleTable(
            "Pairs and their scores",
            "The first held-out pairs; not cherry-picked. A score of 0.8 means: better than four in five answers.",
            columns={
                "prompt": "prompt",
                "chosen": "completion",
                "score of chosen": "score_chosen",
                "rejected": "rejected",
                "score of rejected": "score_rejected",
            },
            n=3,
        ),
    ),
)

if __name__ == "__main__":
    STAGE.command()

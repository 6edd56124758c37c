"""GKD: on-policy distillation. The student generates completions, and learns a teacher's distribution at each token.

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat.stages.gkd --config recipes/distill/gkd.yaml

One GPU: `single_gpu.yaml`; several: `ddp.yaml`; ZeRO-2: `zero2.yaml`, on two CPU ranks `cpu_zero2.yaml`.

Reads a chat model, a teacher (`teacher_model_name_or_path`) that was trained to chat, and prompts without answers.
Writes a model folder, and the model's accuracy on each task's test rows.

This is generalised knowledge distillation (Agarwal et al. 2024, arXiv:2306.13649) with TRL's DistillationTrainer. The
loss is the generalised Jensen-Shannon divergence (eq. 1) between the full distributions of student and teacher, at the
tokens that the student has just sampled (λ = 1). Sampling has no gradient. `beta: 1`, the default, is the reverse KL,
which penalizes what the teacher would never say. `beta: 0` is the forward KL. `distill` trains on the teacher's
answers; GKD corrects the student's own mistakes. GKD uses no reward, so the teacher's mistakes are learned, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase
from trl import DistillationConfig, DistillationTrainer, ModelConfig

from zero2chat.core.errors import UserError
from zero2chat.core.runs import Run, is_main_process
from zero2chat.data.prepared import Prepared, open_empty_chat, prompt_rows
from zero2chat.models.hardware import flops_per_token, is_fsdp, parameter_count
from zero2chat.models.loading import context_length, load_model
from zero2chat.models.training_job import FSDP, NOT_WHOLE, EmptyModel, Job, quantized_refuses
from zero2chat.report.section import TASK_SCORES, Curve, Section
from zero2chat.stages import Stage
from zero2chat.stages.shared import ACCURACIES, ANSWERED, ENTROPY, LENGTHS
from zero2chat.trainers.arguments import TaskStepsArguments
from zero2chat.trainers.evaluate import finish_with_tasks, train_with_tasks
from zero2chat.trainers.muon import use_muon
from zero2chat.trainers.start import adapter_config, open_chat_model, refused_settings, set_global_batch
from zero2chat.trainers.trainer import ResumableTrainer

_PROMPT = [{"role": "user", "content": "a"}]


@dataclass
class GkdArguments(TaskStepsArguments):
    """Prompts, evaluation tasks, and settings that `DistillationConfig` lacks."""

    chat_template_path: str | None = None


def _require_same_tokens(teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase, path: str) -> None:
    """Raises `UserError` if the teacher has no chat template, or if tokenizer or template differ from the student's."""
    if not teacher.chat_template:
        raise UserError(f"{path}: no chat template: use a teacher that was trained to chat")
    if teacher.get_vocab() != student.get_vocab():
        raise UserError(f"{path}: its tokenizer differs from the student's: use another teacher, or `distill`")
    ids = [each.apply_chat_template(_PROMPT, add_generation_prompt=True)["input_ids"] for each in (teacher, student)]
    if ids[0] != ids[1]:
        raise UserError(f"{path}: the chat template is not the student's: set chat_template_path to the teacher's")


class _Trainer(ResumableTrainer, DistillationTrainer):
    pass


def _check(args: GkdArguments, training: DistillationConfig, model_args: ModelConfig) -> None:
    if training.teacher_model_name_or_path is None:
        raise UserError("teacher_model_name_or_path is not set: set it to a model folder or a Hub name")
    if training.use_vllm:
        raise UserError("use_vllm: gkd cannot sample with vLLM: remove use_vllm")
    if is_fsdp(training.fsdp):
        raise UserError("gkd: FSDP is not supported (it would leave the teacher on the CPU): use ddp.yaml or ZeRO")


def prepare(args: GkdArguments, training: DistillationConfig, model_args: ModelConfig) -> Prepared:
    """Return the prompts; the trainer tokenizes them. Raises `UserError` if the teacher's tokens would differ."""
    path, revision = training.teacher_model_name_or_path, training.teacher_model_revision or "main"
    teacher, of_teacher = load_model(path, None, revision, weights=False)
    _require_same_tokens(of_teacher, open_empty_chat(model_args, args.chat_template_path)[1], path)
    rows = prompt_rows(args, training, model_args, [], answers=False, context=context_length(teacher))
    return replace(rows, train=rows.train.select_columns("prompt"))


def run(run: Run, args: GkdArguments, training: DistillationConfig, model_args: ModelConfig) -> None:
    set_global_batch(training, args.global_batch_size)
    prompts = prepare(args, training, model_args).train
    at_once = training.per_device_train_batch_size * training.gradient_accumulation_steps * training.world_size
    if len(prompts) < at_once:
        raise UserError(f"datasets: {len(prompts)} prompts, but one step needs {at_once}: give more prompts")

    # Load.
    model, tokenizer = open_chat_model(run, model_args, args.chat_template_path, generates=True)
    revision = training.teacher_model_revision or "main"
    teacher, _ = load_model(training.teacher_model_name_or_path, model_args.dtype, revision)

    # Train.
    optimizer = use_muon(model, training) if args.muon else None
    with refused_settings():
        trainer = _Trainer(
            model=model,
            teacher_model=teacher,
            args=training,
            train_dataset=prompts,
            processing_class=tokenizer,
            peft_config=adapter_config(model_args),
        )
    trainer.optimizer_cls_and_kwargs = optimizer  # DistillationTrainer has no such argument
    if is_main_process():
        print(f"{len(prompts):,} prompts", flush=True)
    train_with_tasks(trainer, run, args, count="no")  # TRL counts the tokens

    # Evaluate, and save.
    finish_with_tasks(trainer, model, run, args, {"prompts": {"value": len(prompts)}})


def _cost(
    job: Job, empty: EmptyModel, args: GkdArguments, training: DistillationConfig, model_args: ModelConfig
) -> Job:
    teacher = empty(training.teacher_model_name_or_path, False)
    return replace(
        job,
        readers=parameter_count(teacher),
        head="tiles",
        flops=job.flops + flops_per_token(teacher, job.length) / 3,
        rollout=1.0,
        refused=NOT_WHOLE if args.merge_adapter else (FSDP, *quantized_refuses(model_args)),
        unit="answers",
    )


STAGE = Stage(
    name="gkd",
    story="A language model distilled with GKD: on its own answers, it learned a teacher's next-token probabilities.",
    limits="It has learned from its teacher, and shares the teacher's errors.",
    kind="trains",
    arguments=(GkdArguments, DistillationConfig, ModelConfig),
    check=_check,
    run=run,
    prepare=prepare,
    cost=_cost,
    section=Section(
        title="Corrected by a teacher, word by word",
        story="On-policy distillation: the model generates answers, and a teacher gives its probability for each "
        "generated token. So the model is corrected on its own mistakes, instead of imitating someone else's correct "
        "answers.",
        metrics=ANSWERED | {"prompts_seen": "training prompts used", "prompts": "training prompts in all"},
        figures=(
            Curve("Divergence from the teacher, on the model's own completions.", "divergence, nats per token", "loss"),
            ACCURACIES,
            LENGTHS,
            ENTROPY,
            TASK_SCORES,
        ),
    ),
)

if __name__ == "__main__":
    STAGE.command()

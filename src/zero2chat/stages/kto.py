"""KTO: train on votes (thumbs up or down for single answers), without a reward model and without sampling.

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat.stages.kto --config recipes/votes/kto.yaml

One GPU: `single_gpu.yaml`; eight: `ddp.yaml`; ZeRO: `zero2.yaml`, `zero3.yaml`, on two CPU ranks `cpu_zero2.yaml`.

Reads a chat model and votes. Votes are rows with `prompt`, `completion` and `label` (true is thumbs up), as in TRL's
unpaired preferences. Preference pairs, such as those of `zero2chat rank`, work too: each pair gives one vote up and one
vote down. Writes a model folder (with `use_peft`, an adapter folder), and how well the implicit reward separates
held-out votes up from votes down. Everything else is as in `dpo`.

KTO (Ethayarajh et al. 2024, arXiv:2402.01306, eq. 8) uses DPO's implicit reward. Training pushes the reward of an
upvoted answer above a reference point, and the reward of a downvoted answer below that point. The point estimates the
KL to the model before training: it is the mean reward of prompts paired with other prompts' answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from datasets import Dataset
from trl import KTOConfig, ModelConfig

from zero2chat.core import stats
from zero2chat.core.errors import UserError
from zero2chat.core.runs import Run
from zero2chat.core.stats import Metrics
from zero2chat.data.preferences import Thumb, load_votes, pairs_of_thumbs
from zero2chat.models.training_job import EmptyModel, Job
from zero2chat.report.samples import SampleTable
from zero2chat.report.section import Curve, Section
from zero2chat.stages import Stage
from zero2chat.stages.dpo import cost, train_on
from zero2chat.stages.shared import IMPLICIT_REWARDS, PREFERRED
from zero2chat.trainers.preferences import (
    Kind,
    PreferenceArguments,
    Preferences,
    VoteTrainer,
    check_reference,
    margin_metrics,
    prepare_preferences,
)
from zero2chat.trainers.start import set_global_batch


def with_other_answers(rows: Dataset, training: KTOConfig) -> Dataset:
    """Add the column `KL_completion_ids`: the previous row's answer within the same batch, as TRL does, but never an
    answer to the row's own prompt. Raises `UserError` if all votes are on one prompt."""
    if training.loss_type == "apo_zero_unpaired":  # has no reference point
        return rows
    prompts, answers, size = rows["prompt_ids"][:], rows["completion_ids"][:], training.per_device_train_batch_size
    if all(prompt == prompts[0] for prompt in prompts):
        raise UserError("datasets: all training votes are on one prompt, and KTO compares prompts: add other prompts")

    def other(i: int) -> list[int]:
        start, n = i - i % size, len(rows)
        order = chain(range(i - 1, start - 1, -1), range(min(start + size, n) - 1, i, -1), range(n))
        return next(answers[j] for j in order if prompts[j] != prompts[i])

    return rows.add_column("KL_completion_ids", [other(i) for i in range(len(rows))])


def _sample(thumb: Thumb, before: Sequence[float], after: Sequence[float], beta: float) -> dict[str, Any]:
    return {
        "prompt": thumb["prompt"][-1]["content"],
        "completion": thumb["completion"][-1]["content"],
        "vote": "up" if thumb["label"] else "down",
        "reward": round(beta * (after[0] - before[0]), 4),
    }


def vote_metrics(
    train: Sequence[Thumb],
    test: Sequence[Thumb],
    before: Sequence[Sequence[float]],
    after: Sequence[Sequence[float]],
    beta: float,
    seed: int,
) -> Metrics:
    """Return metrics on held-out votes, from the results of `log_probs` before and after training.

    `auroc` compares every vote up with every vote down. If a prompt has votes up and down, they also form pairs, and
    the metrics of `dpo` are added for these pairs.
    """
    rewards = [beta * (a - b) for (a,), (b,) in zip(after, before, strict=True)]
    area = stats.auroc(rewards, [thumb["label"] for thumb in test], seed)
    metrics: Metrics = {} if area is None else {"auroc": area}
    (known, _), (pairs, places) = _paired(train), _paired(test)
    if known and pairs:
        old, new = ([(logged[up][0], logged[down][0]) for up, down in places] for logged in (before, after))
        metrics |= margin_metrics(known, pairs, old, new, beta, seed)
    return metrics | {"votes_up": {"value": sum(thumb["label"] for thumb in train)}}


def _paired(thumbs: Sequence[Thumb]) -> tuple[list[dict[str, Any]], list[tuple[int, int]]]:
    places = pairs_of_thumbs(thumbs)
    return [{"chosen": thumbs[up]["completion"], "rejected": thumbs[down]["completion"]} for up, down in places], places


VOTES = Kind("votes", load_votes, VoteTrainer, vote_metrics, _sample, with_other_answers)


def prepare(args: PreferenceArguments, training: KTOConfig, model_args: ModelConfig) -> Preferences:
    """Return the votes as tokenized rows. Raises `UserError` if all votes are up, or if all are down."""
    rows = prepare_preferences(VOTES, args, training, model_args)
    require_both_sides(rows.known + rows.held_out)
    return rows


def require_both_sides(thumbs: Sequence[Thumb]) -> None:
    votes = [thumb["label"] for thumb in thumbs]
    if len(set(votes)) == 1:
        side, other = ("up", "down") if votes[0] else ("down", "up")
        raise UserError(f"datasets: all {len(votes)} votes are thumbs {side}: add votes that are thumbs {other}")


def run(run: Run, args: PreferenceArguments, training: KTOConfig, model_args: ModelConfig) -> None:
    set_global_batch(training, args.global_batch_size)
    train_on(VOTES, prepare(args, training, model_args), run, args, training, model_args)


def _cost(job: Job, _: EmptyModel, args: PreferenceArguments, training: KTOConfig, model_args: ModelConfig) -> Job:
    # The reference reads each answer, and both models read another row's answer for the reference point.
    return cost(job, training, model_args, "votes", sequences=1, forwards=3 if training.loss_type == "kto" else 1)


STAGE = Stage(
    name="kto",
    story="A language model trained with KTO on votes: answers with thumbs up gained likelihood, answers with thumbs "
    "down lost likelihood.",
    limits="It has learned to tell answers like those voted up in its training data from those voted down.",
    kind="trains",
    arguments=(PreferenceArguments, KTOConfig, ModelConfig),
    check=check_reference,
    run=run,
    prepare=prepare,
    cost=_cost,
    section=Section(
        title="Learning from thumbs up and down",
        story="A user who reads one answer can say whether it is good. KTO needs no second answer to compare with: one "
        "with thumbs up becomes more likely than the model before training had it, one with thumbs down less likely, "
        "both relative to how far the model has moved from its start on average.",
        metrics={"auroc": "AUROC of the implicit reward: a vote up against a vote down, held out"}
        | PREFERRED
        | {"votes_seen": "training votes used", "votes_train": "training votes in all"}
        | {"votes_up": "of all votes: thumbs up"},
        figures=(Curve("Loss (before training: 0.5).", "loss", "loss"), IMPLICIT_REWARDS),
        samples=SampleTable(
            "Votes and their implicit rewards",
            "The first held-out votes; not cherry-picked. Above 0, an answer became more likely in training.",
            columns={"prompt": "prompt", "answer": "completion", "vote": "vote", "implicit reward": "reward"},
        ),
    ),
)

if __name__ == "__main__":
    STAGE.command()

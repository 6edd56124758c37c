"""Average: make one model whose weights are the mean of several models, fine-tuned from the same model.

    zero2chat run recipes/claims --only averaged

Reads model folders, such as several `sft` runs that differ in `seed`. What each model memorized differs and fades in
the mean; what all models learned stays ("model soups", arXiv:2203.05482). `shares` weight the models: between a base
model and its fine-tuned version, they set how much of the fine-tuning to keep (arXiv:2109.01903). Running the mean
costs as much as running one model. `zero2chat average A B C --output_dir D` does the same from the shell.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zero2chat.core.errors import UserError
from zero2chat.core.runs import is_main_process
from zero2chat.hub.model_card import CARD, make_card
from zero2chat.models.loading import find_model, load_model, refuse_reward_model
from zero2chat.report.section import Section
from zero2chat.stages import Stage

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from zero2chat.core.runs import Run

# Least cosine of two models' matrices. Fine-tuned from one start they had 0.98 and more, trained from two 0.08.
_ONE_START = 0.5
# Keys of a config that do not change what the weights compute.
_FREE = ("_name_or_path", "architectures", "bos_token_id", "dtype", "eos_token_id", "pad_token_id", "use_cache")


def check(models: Sequence[str]) -> None:
    """Raise `UserError`, before loading any model, for a path without a whole language model, such as an adapter."""
    for path in models:
        if find_model(path)[1]:
            raise _adapter(path)
        refuse_reward_model(path)


def averaged(
    models: Sequence[str], shares: Sequence[float] = ()
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, float]:
    """Return a model with the mean of the models' weights, its tokenizer, and the lowest cosine similarity between the
    first model's matrices and another model's.

    Each model is weighted by its part of the sum of `shares`; without `shares` all are weighted equally. Chat template
    and generation config are those of the first model that has a template: a base model may have none. Sums are
    computed in float32 and rounded once. Two models and the sum are in memory at a time. Raises `UserError` for models
    that cannot be averaged.
    """
    import torch

    check(models)
    first, *others = models
    shares = [share / sum(shares) for share in shares] or [1 / len(models)] * len(models)
    model, tokenizer = _load(first)
    weights, similarity = _weights(model), 1.0
    with torch.no_grad():
        total = {name: shares[0] * weight.float() for name, weight in weights.items()}
        for path, share in zip(others, shares[1:], strict=True):
            other, its_tokenizer = _load(path)
            _refuse_other_config(first, path, model, other)
            templates = {one.chat_template for one in (tokenizer, its_tokenizer)} - {None}
            ends = {one.eos_token for one in (tokenizer, its_tokenizer) if one.chat_template or not templates}
            if its_tokenizer.get_vocab() != tokenizer.get_vocab() or len(ends) > 1:
                raise UserError(f"models: {first} and {path} have different tokenizers: train both with one")
            if len(templates) > 1:
                raise UserError(f"models: {first} and {path} have different chat templates: train both with one")
            if tokenizer.chat_template is None:
                tokenizer, model.generation_config = its_tokenizer, other.generation_config
            added = _weights(other)
            cosine = _cosine(weights, added)
            if cosine < _ONE_START:
                raise UserError(
                    f"models: {first} and {path} were not fine-tuned from the same model (their weights' cosine is "
                    f"{cosine:.2f}), so the mean would be useless: name models with the same start model"
                )
            similarity = min(similarity, cosine)
            for name, weight in added.items():
                total[name] += share * weight.float()
            del other, added, weight  # free them before the next one is loaded
        for name, weight in weights.items():
            weight.copy_(total[name])
    return model, tokenizer, similarity


def _adapter(path: str) -> UserError:
    return UserError(f"models: {path} is an adapter: `zero2chat export {path} --merge` writes a whole model")


def _load(path: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    model, tokenizer = load_model(path, "auto")
    if hasattr(model, "peft_config"):  # of the Hub: a mean of its matrices is not the mean of their products
        raise _adapter(path)
    if not all(bool(weight.isfinite().all()) for weight in _weights(model).values()):
        raise UserError(f"models: {path} has weights that are not finite: train it again")
    return model, tokenizer


def _weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return the parameters, tied ones once, and the buffers that are saved, such as expert biases."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    saved = {name: buffer for name, buffer in model.state_dict().items() if name not in parameters}
    return dict(model.named_parameters()) | {name: one for name, one in saved.items() if one.is_floating_point()}


def _refuse_other_config(first: str, path: str, model: PreTrainedModel, other: PreTrainedModel) -> None:
    ours, its = (one.config.to_dict() for one in (model, other))
    for key in {**ours, **its}:
        if key not in _FREE and ours.get(key) != its.get(key):
            raise UserError(
                f"models: {first} and {path} have different configs ({key}: {ours.get(key)} and {its.get(key)}): "
                "name models fine-tuned from the same model"
            )


def _cosine(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """Return the cosine of the matrices alone: norms start at 1, and would make any two models similar."""

    def product(x: Mapping[str, Tensor], y: Mapping[str, Tensor]) -> float:
        return sum(float((x[name].float() * y[name].float()).sum()) for name in x if x[name].ndim > 1)

    return product(a, b) / (product(a, a) * product(b, b)) ** 0.5


@dataclass
class AverageArguments:
    output_dir: str | None = None
    models: list[str] = field(
        default_factory=list, metadata={"help": "Two or more model folders, fine-tuned from one start."}
    )
    shares: list[float] = field(
        default_factory=list, metadata={"help": "How much each model counts, such as [6, 6, 6, 1]; default: alike."}
    )

    def __post_init__(self) -> None:
        if len(self.models) < 2:
            raise ValueError(f"models: {len(self.models)} given: name two or more model folders")
        if len({os.path.realpath(path) for path in self.models}) < len(self.models):
            raise ValueError("models: a model is named twice: name each model once")
        if self.shares and (
            len(self.shares) != len(self.models) or min(self.shares) <= 0 or not math.isfinite(sum(self.shares))
        ):
            raise ValueError(f"shares: {self.shares}: give a number above 0 for each of the {len(self.models)} models")


def run(run: Run, args: AverageArguments) -> None:
    if not is_main_process():  # a launcher may start several processes
        return
    model, tokenizer, similarity = averaged(args.models, args.shares)
    model.save_pretrained(run.folder)
    tokenizer.save_pretrained(run.folder)
    metrics = {
        "models": {"value": len(args.models)},
        "parameters": {"value": model.num_parameters()},
        "weight_similarity": {"value": round(similarity, 4)},
    }
    make_card(run.folder, run.identity, metrics, run.story, run.limits).save(run.folder / CARD)
    run.finish(metrics)


STAGE = Stage(
    name="average",
    story="A model whose weights are the mean of several models fine-tuned from one start model. What each memorized "
    "fades.",
    kind="plain",
    arguments=(AverageArguments,),
    positional="models",
    check=lambda args: check(args.models),
    run=run,
    section=Section(
        title="One mind of several",
        story="Fine-tuned several times from one start, a model learns the same lesson each time, and each time learns "
        "other things by heart. The mean of the weights keeps the lesson.",
        metrics={
            "models": "models averaged",
            "parameters": "parameters",
            "weight_similarity": "lowest cosine of two models' weights",
        },
        samples=None,
    ),
)

if __name__ == "__main__":
    STAGE.command()

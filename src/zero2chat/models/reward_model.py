"""Load reward models and score conversations. Training and inference use the same encoding."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from jinja2 import TemplateError
from safetensors import SafetensorError
from safetensors.torch import save_model
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase
from trl.trainer.reward_trainer import suppress_seqcls_warning

from zero2chat.core.errors import UserError
from zero2chat.core.runs import is_main_process
from zero2chat.models.adapters import merged
from zero2chat.models.hardware import share_of
from zero2chat.models.loading import find_model, is_reward_model, load_tokenizer, refuse_adapter
from zero2chat.models.tokenization import neutral, pad_apart

Conversation = Sequence[Mapping[str, str]]


def load_reward_model(
    path: str | Path | None, dtype: str | None = "float32", revision: str = "main", fresh: bool = False, **options: Any
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model with one output, on the CPU, and its tokenizer. A LoRA adapter is merged into its base model.

    `fresh` gives a language model a new head with random weights. Raises `UserError` if there is no model, or, without
    `fresh`, if it is not a reward model.
    """
    if not path:
        raise UserError("model_name_or_path is not set: set it to a model folder or a Hub name")
    tokenizer = load_tokenizer(path, revision)
    folder, adapter = find_model(path)
    if folder and adapter and (fresh or is_reward_model(folder)):
        if is_main_process():
            print(f"{path}: merging the LoRA adapter into its base model", flush=True)
        with tempfile.TemporaryDirectory() as whole:
            _write(merged_to_score(folder), Path(whole))
            tokenizer.save_pretrained(whole)
            model, tokenizer = load_reward_model(whole, dtype, fresh=fresh, **options)
        model.config._name_or_path = str(path)
        return model, tokenizer
    try:
        with suppress_seqcls_warning():
            model = AutoModelForSequenceClassification.from_pretrained(
                str(path),
                num_labels=1,
                dtype=dtype,
                revision=revision,
                use_safetensors=True,
                **({"trust_remote_code": False} | options),
            )
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"{path}: cannot be loaded as a reward model ({reason})") from error
    if not fresh and not (model.config.architectures or [""])[0].endswith("ForSequenceClassification"):
        raise UserError(f"{path}: not a reward model (no score head): give the folder of a `reward` step")
    refuse_adapter(model, path)
    if fresh:  # a trained head expects the padding it was trained with
        pad_apart(tokenizer, [tokenizer.eos_token_id])
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    # The model uses the pad token to find the last token, whose output is the score.
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    return model.eval(), tokenizer


def merged_to_score(folder: Path) -> PreTrainedModel:
    """Load the base model of a language model's or a reward model's adapter, with the adapter merged in."""
    if is_reward_model(folder):
        return merged(folder, partial(load_reward_model, fresh=True), "SEQ_CLS")
    return merged(folder)


def _write(model: PreTrainedModel, folder: Path) -> None:
    """Write a model folder on every rank; `save_pretrained` would write on rank 0 alone."""
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    save_model(model, str(folder / "model.safetensors"), metadata={"format": "pt"})


def encode(tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Conversation]) -> list[list[int]]:
    """Encode each conversation with the chat template. The last turn ends as in training.

    Control tokens in the text are neutralised. Raises `UserError` if the template rejects a conversation.
    """
    turns = [neutral(conversation, tokenizer) for conversation in conversations]
    try:
        return tokenizer.apply_chat_template(turns, return_dict=True)["input_ids"] if turns else []
    except TemplateError as error:
        raise UserError(f"the chat template refuses a conversation: {error}") from error


def score_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Conversation],
    batch_size: int = 128,
    shared: bool = False,
) -> tuple[list[float], list[float]]:
    """Score conversations that end with an assistant's turn. Returns raw scores, and scores from 0 to 1.

    Raw scores are only meaningful in comparison: sigmoid(a - b) is the probability that a is preferred to b. A score
    from 0 to 1 is the share of training answers with lower scores, assuming a normal distribution. A conversation
    longer than the model's context is truncated at its beginning. `shared`: every rank calls this with the same
    conversations, scores a share, and gets all scores.
    """
    raw = score_ids(model, tokenizer, encode(tokenizer, conversations), batch_size, shared)
    return raw, [unit_score(model, value) for value in raw]


@torch.no_grad()
def score_ids(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    ids: Sequence[Sequence[int]],
    batch_size: int = 128,
    shared: bool = False,
) -> list[float]:
    """Return raw scores of tokenized conversations, in order; longer ones are truncated at their beginning. `shared` is
    as in `score_texts`."""
    room = model.config.get_text_config().max_position_embeddings
    encoded = [list(row[-room:]) for row in ids]
    raw: dict[int, float] = {}
    order = sorted(range(len(encoded)), key=lambda i: (-len(encoded[i]), i))  # less padding
    was_training = model.training
    model.eval()
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    for batch in share_of(batches) if shared else batches:
        inputs = tokenizer.pad(
            {"input_ids": [encoded[i] for i in batch]}, padding_side="right", return_tensors="pt"
        ).to(model.device)
        outputs = model(**inputs, use_cache=False).logits[:, 0].float().tolist()
        for i, value in zip(batch, outputs, strict=True):
            raw[i] = value
    model.train(was_training)
    if shared:
        raw = dict(gather_object(list(raw.items())))
    return [raw[i] for i in range(len(encoded))]


def unit_score(model: PreTrainedModel, raw: float) -> float:
    """Map a raw score to 0 to 1 with the normal distribution function, at the scale in the model's config."""
    mean, std = scale_of(model) or (0.0, 1.0)
    return 0.5 * (1.0 + math.erf((raw - mean) / std / math.sqrt(2)))


def scale_of(model: PreTrainedModel) -> tuple[float, float] | None:
    """Return the mean and standard deviation of training answers' scores; None if the config lacks either."""
    mean, std = getattr(model.config, "score_mean", None), getattr(model.config, "score_std", None)
    return None if mean is None or std is None else (mean, std)


def set_scale(model: PreTrainedModel, raw: Sequence[float]) -> None:
    """Save mean and standard deviation of the raw scores in the model's config."""
    mean = sum(raw) / len(raw)
    std = math.sqrt(sum((value - mean) ** 2 for value in raw) / len(raw))
    model.config.score_mean, model.config.score_std = mean, max(std, 1e-6)

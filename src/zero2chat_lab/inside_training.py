"""What the page `inside` shows of training: other stages' models on the same text, a group of sampled answers with the
advantages of GRPO, and the training documents behind each token."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.trainer_utils import get_last_checkpoint

from zero2chat import tasks
from zero2chat.core.errors import UserError
from zero2chat.inference.confidence import log_probabilities
from zero2chat.inference.generate import complete, generating
from zero2chat.models.loading import context_length
from zero2chat.rewards import last_message
from zero2chat.trainers.checkpoints import VALUE
from zero2chat_lab.attribution import blame, by_bm25, by_ngrams
from zero2chat_lab.inside_numbers import of_next, rounded
from zero2chat_lab.memorization import Excerpt

_ANSWERS = 8  # of a group, as in the project's recipes
_PASSAGE = 500  # characters
_CANDIDATES, _SHOWN = 200, 3


def with_values(path: str) -> str:
    """Return the folder to compare: of a run of PPO its last checkpoint, as only checkpoints have the value head."""
    last = get_last_checkpoint(path) if Path(path).is_dir() else None
    return last if last and (Path(last) / VALUE).is_file() else path


def compared(path: str, model: PreTrainedModel, ids: Tensor, own: Tensor) -> dict[str, Any]:
    """Return how another model reads the text: the log-probability of each token but the first, the KL divergence of
    the page's model, whose log-probabilities are `own`, from it, and, for a checkpoint of PPO, the value: the return
    that PPO foresees before the token. Raises `UserError` if the model cannot read the text."""
    if len(ids) > (most := context_length(model)):
        raise UserError(f"compare: {path}: reads {most} tokens, and the text has {len(ids)}: remove it")
    with torch.no_grad():
        output = model(input_ids=ids[None].to(model.device), output_hidden_states=True, use_cache=False)
    logs = output.logits[0, :, : own.shape[1]].float().log_softmax(-1).to(own.device)
    kl = (own.exp() * (own - logs)).sum(-1)
    found = {"log_p": rounded(of_next(logs, ids)), "kl": rounded(kl[:-1])}
    if (file := Path(path) / VALUE).is_file():
        try:
            weight = load_file(file)["score.weight"].float().to(model.device)
        except (SafetensorError, KeyError) as error:
            raise UserError(f"compare: {file}: is damaged ({error}): name another checkpoint") from error
        found["value"] = rounded((output.hidden_states[-1][0, :-1].float() @ weight.T)[:, 0])
    return found


def reward(right: str, said: str) -> float:
    """Return 1.0 if the answer's last number is the right one, or, unless that is one number, if it has its words."""
    if len(tasks.numbers_in(right)) == 1:
        return float(tasks.numbers_in(said)[-1:] == tasks.numbers_in(right))
    words = " ".join(right.casefold().split())
    return float(re.search(rf"(?<!\w){re.escape(words)}(?!\w)", " ".join(said.casefold().split())) is not None)


def group(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: list[int],
    one: GenerationConfig,
    right: str,
    seed: int,
) -> dict[str, Any]:
    """Sample answers, where `one` would write the likeliest. Each has a reward, and the advantage that GRPO gives to
    all of its tokens: the reward less the group's mean, in standard deviations (Shao et al. 2024, arXiv:2402.03300,
    section 4.1)."""
    settings = GenerationConfig(**one.to_dict() | {"do_sample": True, "top_k": 0, "temperature": 1.0})
    with generating(model, seed):
        answers = complete(model, [prompt] * _ANSWERS, settings)
    ends = set(one.eos_token_id or ())
    said = [last_message(tokenizer.decode([token for token in ids if token not in ends])) for ids in answers]
    rewards = torch.tensor([reward(right, text) for text in said])
    advantages = rounded((rewards - rewards.mean()) / (rewards.std() + 1e-4))
    rows = [
        {"ids": ids, "log_p": log_probabilities(model, prompt, ids), "reward": score, "advantage": advantage}
        for ids, score, advantage in zip(answers, rewards.tolist(), advantages, strict=True)
    ]
    return {"right": right, "answers": rows}


def documents(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    ids: Sequence[int],
    start: int,
    texts: Sequence[str],
    prompt: str,
) -> dict[str, Any]:
    """Return, for each token from `start` on, the passages of `texts` whose gradients point most towards raising its
    probability, and those that share the longest word n-grams with prompt and answer up to it. Candidates are the
    passages that BM25 finds for the whole text, as gradients of a whole corpus take too long (Grosse et al. 2023,
    arXiv:2308.03296, section 3.2). Changes the model, as `Gradients` does."""

    def said(end: int) -> str:  # without a chat template, the model continues the prompt, perhaps within a word
        return prompt + " " * bool(tokenizer.chat_template) + tokenizer.decode(ids[start:end], skip_special_tokens=True)

    found = [passage.text for passage in by_bm25([said(len(ids))], texts, _CANDIDATES, _PASSAGE)[0]]
    if not found:
        return {"texts": {}, "tokens": []}
    tokens = [Excerpt(list(ids[: i + 1]), i) for i in range(start, len(ids))]
    blamed = blame(model, tokenizer, found, tokens, min(_SHOWN, len(found)))
    rows: list[dict[str, Any]] = [
        {"blamed": [pair for pair in some if pair[1] > 0], "ngrams": by_ngrams(said(end), found)[:_SHOWN]}
        for end, some in enumerate(blamed, start + 1)
    ]
    used = {i for row in rows for i in (*row["ngrams"], *(i for i, _ in row["blamed"]))}
    return {"texts": {i: found[i] for i in used}, "tokens": rows}

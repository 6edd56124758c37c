"""Sample completions for `PPOTrainer` as tensors. Prompts are padded on the left; completions and per-token values are
padded on the right. Prompts are rendered, and completions parsed, as in `GRPOTrainer`."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase
from trl.chat_template_utils import parse_response
from trl.data_utils import is_conversational
from trl.trainer.utils import pad

from zero2chat.inference.generate import complete
from zero2chat.trainers.ppo.config import PPOConfig

Batch = dict[str, torch.Tensor]


class Completions(NamedTuple):
    """One completion per prompt, as token ids without padding, and in the form that reward functions take."""

    prompt_ids: list[list[int]]
    completion_ids: list[list[int]]  # a completion that is not truncated includes its EOS token
    completions: list[Any]  # texts, or lists of messages if the prompts are messages


class Rollout:
    """Samples completions with `generate`."""

    def __init__(self, args: PPOConfig, tokenizer: PreTrainedTokenizerBase, eos_token_ids: list[int]):
        self.tokenizer = tokenizer
        self.template_kwargs: Any = args.chat_template_kwargs or {}  # TrainingArguments has parsed JSON
        settings: dict[str, Any] = {
            "max_new_tokens": args.max_completion_length,
            "do_sample": True,
            "temperature": args.temperature,
            # Every token at its own probability; `generate` would take these from the model's folder.
            **{"top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0},
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": eos_token_ids,
        }
        more: Any = args.generation_kwargs or {}
        self.generation_config = GenerationConfig(**settings | more, disable_compile=True)

    def __call__(self, policy: Any, prompts: list[Any]) -> Completions:
        """Sample one completion for each prompt, text or messages."""
        talks = is_conversational({"prompt": prompts[0]})
        if talks:
            prompt_ids = self.tokenizer.apply_chat_template(
                prompts, add_generation_prompt=True, return_dict=True, **self.template_kwargs
            )["input_ids"]
        else:
            prompt_ids = self.tokenizer(text=prompts)["input_ids"]
        training = policy.training
        policy.eval()
        completion_ids = complete(policy, prompt_ids, self.generation_config)
        policy.train(training)
        if talks and getattr(self.tokenizer, "response_template", None) is not None:
            pairs = zip(prompt_ids, completion_ids, strict=True)
            turns = [[parse_response(self.tokenizer, ids, prefix=prompt)] for prompt, ids in pairs]
            return Completions(prompt_ids, completion_ids, turns)
        texts = self.tokenizer.batch_decode(completion_ids, skip_special_tokens=True)
        turns = [[{"role": "assistant", "content": text}] for text in texts]
        return Completions(prompt_ids, completion_ids, turns if talks else texts)


def as_tensors(answers: Completions, pad_id: int, device: torch.device) -> Batch:
    """Return the ids and masks of prompts and completions, each of shape (rows, tokens)."""
    batch = {}
    for name, rows, side in (("prompt", answers.prompt_ids, "left"), ("completion", answers.completion_ids, "right")):
        tensors = [torch.tensor(ids) for ids in rows]
        batch[f"{name}_ids"] = pad(tensors, pad_id, side).to(device)
        batch[f"{name}_mask"] = pad([torch.ones_like(ids) for ids in tensors], 0, side).to(device)
    return batch


def trimmed(batch: Batch) -> Batch:
    """Drop columns that contain only padding."""
    left = int(batch["prompt_mask"].sum(1).max())
    right = int(batch["completion_mask"].sum(1).max())
    return {key: values[:, -left:] if key.startswith("prompt_") else values[:, :right] for key, values in batch.items()}


def joined(batch: Batch) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Join prompts and completions. Returns ids and mask, each (rows, length), and the number of completion columns."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    return ids, mask, batch["completion_ids"].shape[1]

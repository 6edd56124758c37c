"""Sample answers for `PPOTrainer`. Prompts are rendered, and answers truncated and parsed, as in `GRPOTrainer`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import nn
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from trl.chat_template_utils import parse_response
from trl.data_utils import is_conversational
from trl.distributed import DistributedBackend
from trl.generation.vllm_generation import VLLMGeneration
from trl.models import unwrap_model_for_generation
from trl.models.utils import add_hooks, remove_hooks

from zero2chat.inference.generate import complete

if TYPE_CHECKING:
    from zero2chat.trainers.ppo.config import PPOConfig


# Settings of vLLM, in `PPOConfig` with the prefix `vllm_`.
_VLLM = ("mode", "enable_sleep_mode", "server_base_url", "gpu_memory_utilization", "max_model_length")


class Completions(NamedTuple):
    """One completion per prompt, as token ids without padding and as passed to reward functions."""

    prompt_ids: list[list[int]]
    completion_ids: list[list[int]]  # a completion that is not truncated includes its EOS token
    completions: list[Any]  # texts, or lists of messages if the prompts are messages
    logprobs: list[list[float | None]] | None = None  # the sampler's, if it returns them; None where it does not know


@contextlib.contextmanager
def unwrapped_policy(model: nn.Module, accelerator: Accelerator, args: PPOConfig | None = None) -> Iterator[Any]:
    """Provide the policy in a trained model (or a reference) with gathered weights, ready to `generate`."""
    kwargs = None if args is None else args.gradient_checkpointing_kwargs
    backend = DistributedBackend(accelerator)
    with unwrap_model_for_generation(
        model, accelerator, gather_deepspeed3_params=False, gradient_checkpointing_kwargs=kwargs
    ) as unwrapped:
        policy = getattr(unwrapped, "policy", unwrapped)
        if not backend.is_zero3:
            yield policy
            return
        # As TRL does it, but without the value model, which generates nothing.
        with backend.gather_params(list(policy.parameters())):
            remove_hooks(model)
            yield policy
            add_hooks(model)


class Rollout:
    """Samples completions with `generate` or with vLLM."""

    def __init__(
        self,
        args: PPOConfig,
        policy: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        accelerator: Accelerator,
        eos_token_ids: list[int],
    ):
        self.args, self.tokenizer, self.accelerator = args, tokenizer, accelerator
        self.template_kwargs = args.mapping("chat_template_kwargs")
        self._loaded_step = -1  # step of the weights loaded in vLLM
        self.vllm: Any = None
        if args.use_vllm:
            self.vllm = VLLMGeneration(
                model=policy,
                accelerator=accelerator,
                processing_class=tokenizer,
                **{key: getattr(args, f"vllm_{key}") for key in _VLLM},
                max_num_seqs=args.rollout_batch_size,
                temperature=args.temperature,
                max_completion_length=args.max_completion_length,
                logprobs=0,  # only those of the sampled tokens
                # vLLM reads the ends of a turn in the model's folder, which may lack that of the chat template.
                generation_kwargs={"stop_token_ids": eos_token_ids, **args.mapping("generation_kwargs")},
            )
        settings: dict[str, Any] = {
            "max_new_tokens": args.max_completion_length,
            "do_sample": True,
            "temperature": args.temperature,
            # Every token at its own probability; `generate` would take these from the model's folder.
            **{"top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0},
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": eos_token_ids,
            **args.mapping("generation_kwargs"),
        }
        self.generation_config = None if args.use_vllm else GenerationConfig(**settings, disable_compile=True)

    def forget_weights(self) -> None:
        """Mark vLLM's weights as outdated after the trainer has loaded others."""
        self._loaded_step = -1

    def __call__(self, trainer: Any, prompts: list[Any]) -> Completions:
        """Sample one completion for each of this process's prompts. Every rank must call this."""
        if self.vllm is not None and trainer.state.global_step != self._loaded_step:
            self.vllm.sync_weights()
            self._loaded_step = trainer.state.global_step
        prompt_ids = self.encode(prompts)
        logprobs: list[list[float | None]] | None = None
        if self.vllm is not None:
            _, completion_ids, sampled, _ = self.vllm.generate(prompts=prompt_ids, images=None, num_generations=1)
            logprobs = [[of_token[0] for of_token in row] for row in sampled]
        else:
            completion_ids = self._generate(trainer, prompt_ids)
        if is_conversational({"prompt": prompts[0]}):
            completions: list[Any] = self._messages(prompt_ids, completion_ids)
        else:
            completions = self.tokenizer.batch_decode(completion_ids, skip_special_tokens=True)
        return Completions(prompt_ids, completion_ids, completions, logprobs)

    def encode(self, prompts: Sequence[Any]) -> list[list[int]]:
        """Encode each prompt (text or messages) up to where the completion begins."""
        if is_conversational({"prompt": prompts[0]}):
            return self.tokenizer.apply_chat_template(
                prompts, add_generation_prompt=True, return_dict=True, **self.template_kwargs
            )["input_ids"]
        return self.tokenizer(text=list(prompts))["input_ids"]

    def _generate(self, trainer: Any, prompt_ids: list[list[int]]) -> list[list[int]]:
        with unwrapped_policy(trainer.model_wrapped, self.accelerator, self.args) as policy, torch.no_grad():
            training = policy.training
            policy.eval()
            completion_ids: list[list[int]] = []
            size = self.args.per_device_generation_batch_size
            for start in range(0, len(prompt_ids), size):
                completion_ids += complete(policy, prompt_ids[start : start + size], self.generation_config)
            policy.train(training)
        return completion_ids

    def _messages(self, prompt_ids: list[list[int]], completion_ids: list[list[int]]) -> list[list[dict[str, Any]]]:
        if getattr(self.tokenizer, "response_template", None) is not None:
            pairs = zip(prompt_ids, completion_ids, strict=True)
            return [[parse_response(self.tokenizer, ids, prefix=prompt)] for prompt, ids in pairs]
        texts = self.tokenizer.batch_decode(completion_ids, skip_special_tokens=True)
        return [[{"role": "assistant", "content": text}] for text in texts]

"""Sample several answers per prompt, from a local model or an API, with the reasoning separated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from zero2chat.core.errors import UserError
from zero2chat.inference.generate import answer_each
from zero2chat.inference.openai_client import Endpoint, NoReply
from zero2chat.models.chat_template import prepare_chat_template
from zero2chat.models.hardware import start_processes
from zero2chat.models.loading import context_length, load_model
from zero2chat.models.tokenization import as_message

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Messages = list[dict[str, Any]]
Said = dict[str, Any]  # a message: content, maybe reasoning_content; why (it cannot be kept), and later score
# Prompts and a seed → the answers to each, and the error that stopped it early, if any.
Ask = Callable[[Sequence[Messages], int], tuple[list[list[Said]], UserError | None]]


def open_teacher(
    path: str | None, dtype: str, revision: str, attention: str | None, template: str | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, int]:
    """Load a local model to sample from, on this process's device. Returns model, tokenizer and context length.

    Raises `UserError` if the model is missing, or has no chat template.
    """
    state = start_processes()
    model, tokenizer = load_model(path, dtype, revision, attn_implementation=attention)
    prepare_chat_template(tokenizer, template)
    return model.to(state.device), tokenizer, context_length(model)


def ask_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    samples: int,
    temperature: float,
    longest: int,
    batch_size: int = 128,
) -> Ask:
    """Return a function that samples from a local model: `samples` answers per prompt, of at most `longest` tokens."""

    def ask(prompts: Sequence[Messages], seed: int) -> tuple[list[list[Said]], None]:
        answers = answer_each(model, tokenizer, prompts, samples, longest, temperature, batch_size, seed, unaided=True)
        return [[as_message(a.text) | {"why": None if a.stopped else "cut"} for a in some] for some in answers], None

    return ask


def ask_endpoint(endpoint: Endpoint, samples: int, temperature: float, longest: int) -> Ask:
    """Return a function like `ask_model`'s that asks an API. Raises `UserError` if the API key is missing."""
    endpoint.headers()

    def one(prompt: Messages) -> Said:
        try:
            choice = endpoint.ask(prompt, temperature=temperature, max_tokens=longest)
        except NoReply as error:
            if not error.unread:
                raise
            return {"content": "", "why": "refused", "reason": str(error)}
        message = choice["message"]
        # Broken JSON may contain half a surrogate pair.
        text = message["content"].encode("utf-8", "replace").decode() if isinstance(message["content"], str) else ""
        said: Said = as_message(text)
        for key in ("reasoning_content", "reasoning"):  # DeepSeek's and SGLang's name, and vLLM's
            if isinstance(message.get(key), str) and message[key]:
                said["reasoning_content"] = message[key].encode("utf-8", "replace").decode()
        return said | {"why": None if choice.get("finish_reason") in (None, "stop") else "cut"}

    def ask(prompts: Sequence[Messages], seed: int) -> tuple[list[list[Said]], UserError | None]:
        replies: list[list[Said]] = []
        with ThreadPoolExecutor(endpoint.at_once) as pool:
            waiting = [[pool.submit(one, prompt) for _ in range(samples)] for prompt in prompts]
            try:
                for some in waiting:
                    replies.append([reply.result() for reply in some])
            except (NoReply, UserError) as error:
                pool.shutdown(cancel_futures=True)
                said = f"endpoint: {endpoint}: no reply: {error}"
                return replies, error if isinstance(error, UserError) else UserError(said)
        return replies, None

    return ask

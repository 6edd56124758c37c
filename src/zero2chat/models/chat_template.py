"""Set a model's chat template from a file, and derive the end-of-turn token and the pad token from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jinja2 import TemplateError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zero2chat.errors import UserError
from zero2chat.models.tokenization import pad_apart, set_chat_template, visible
from zero2chat.runs import is_main_process

if TYPE_CHECKING:
    from trl import ModelConfig

_TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
_ZERO = 1e-16  # largest absolute value of an untrained embedding


def prepare_chat_template(tokenizer: PreTrainedTokenizerBase, path: str | None, replace: bool = True) -> None:
    """Set the chat template from a file, if given; without `replace` only if the tokenizer has none. Raises `UserError`
    if there is no template, or if it is invalid."""
    if path is not None and (replace or tokenizer.chat_template is None):
        set_chat_template(tokenizer, path)
    if tokenizer.chat_template is None:
        raise UserError(
            "the tokenizer has no chat template: set chat_template_path, such as chat_templates/chatml.jinja"
        )
    try:
        tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False)
    except TemplateError as error:
        raise UserError(f"{path or 'the tokenizer'}: the chat template fails: {error}") from error


def settle_chat(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: str | None, model_args: ModelConfig
) -> None:
    """Set the chat template, EOS token and pad token of a model to be trained for chat, and print them.

    The template's end-of-turn token becomes the tokenizer's EOS token and the first stop id, in addition to the model's
    own EOS. The pad token is a separate special token that is never a stop token. `path` is the template's file, or
    None for the tokenizer's own. Raises `UserError` as the functions below do.
    """
    prepare_chat_template(tokenizer, path)
    end_turn(model, tokenizer)
    if model_args.use_peft:
        _refuse_unlearnable(model, tokenizer, model_args.lora_modules_to_save or [])
    if is_main_process():
        template, end, pad = path or "the tokenizer's own", visible(tokenizer.eos_token), visible(tokenizer.pad_token)
        print(f"chat template: {template}; turns end with {end}; padding with {pad}", flush=True)


def _refuse_unlearnable(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, trained: Sequence[str]) -> None:
    """Raise `UserError` if tokens of the template have zero embeddings, which an adapter cannot train.

    Llama 3's base models have such tokens: they were never trained on chat turns.
    """
    weight = model.get_input_embeddings().weight
    if "embed_tokens" in trained or weight.shape[0] == 0:  # ZeRO-3 has sharded it
        return
    turns = tokenizer.apply_chat_template(_TURNS, return_dict=True)["input_ids"]
    empty = [i for i in sorted(set(turns)) if weight[i].abs().max() <= _ZERO]
    if empty:
        names = ", ".join(visible(token) for token in tokenizer.convert_ids_to_tokens(empty))
        raise UserError(
            f"use_peft: {names} are untrained in the model, and an adapter cannot train them: set "
            "`lora_modules_to_save: [embed_tokens, lm_head]`, or start from a chat model"
        )


def end_turn(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make the end-of-turn token of the assistant a stop token, in addition to the model's own EOS.

    Raises `UserError` if the template does not mark the assistant's tokens, or does not end the turn with a special
    token, so that the model could not learn to stop; and if no separate pad token is available.
    """
    from trl.chat_template_utils import has_generation_markers  # trl takes seconds, and not all stages train

    if not has_generation_markers(tokenizer.chat_template):
        raise UserError(
            "the chat template has no {% generation %} markers, so the assistant's tokens are unknown: add them"
        )
    encoded = tokenizer.apply_chat_template(_TURNS, return_assistant_tokens_mask=True, return_dict=True)
    said = [i for i, mine in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if mine]
    ends = [i for i in said if i in set(tokenizer.get_added_vocab().values())]
    if not ends:
        end = tokenizer.decode(said).partition("b")[2].strip()
        raise UserError(
            "the chat template does not end the assistant's turn with a special token"
            + (f" ({visible(end)} is plain text for this tokenizer)" if end else "")
            + ": the model would never stop: use the template of its model family, see chat_templates/README.md"
        )
    stops = model.generation_config.eos_token_id
    stops = stops if isinstance(stops, list) else [stops]
    model.generation_config.eos_token_id = [ends[-1], *(i for i in stops if i not in (None, ends[-1]))]
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(ends[-1])
    pad_apart(tokenizer, model.generation_config.eos_token_id)
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        raise UserError("the tokenizer's pad token is missing or is the end-of-turn token: set a separate pad token")
    model.generation_config.pad_token_id = model.config.pad_token_id = tokenizer.pad_token_id

"""Load a model to evaluate, in 8 or 4 bits if set, with its chat template."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zero2chat.core.errors import UserError
from zero2chat.core.runs import is_main_process
from zero2chat.models.chat_template import end_turn, prepare_chat_template
from zero2chat.models.hardware import is_on_cpu, start_processes
from zero2chat.models.loading import load_model


def open_evaluated(
    path: str, args: Any, revision: str = "main", chats: bool = True
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a chat model and its tokenizer. Raises `UserError` if the model is missing or has no chat template."""
    options: dict[str, Any] = {"attn_implementation": args.attn_implementation}
    # In fp32 an 8B model and its batch of keys and values would fill a GPU.
    dtype = args.dtype or ("float32" if args.load_in_8bit or args.load_in_4bit or is_on_cpu() else "auto")
    if args.load_in_8bit or args.load_in_4bit:
        from trl import ModelConfig, get_quantization_config  # trl takes seconds

        quantized = ModelConfig(dtype=dtype, load_in_8bit=args.load_in_8bit, load_in_4bit=args.load_in_4bit)
        options["quantization_config"] = get_quantization_config(quantized)
    state = start_processes()
    model, tokenizer = load_model(path, dtype, revision, **options)
    model.to(state.device)
    if chats:
        prepare_chat_template(tokenizer, args.chat_template_path)
    if chats and args.chat_template_path is not None:
        # A base model's generation config has only the end-of-document token, so it would not stop after a turn.
        try:
            end_turn(model, tokenizer)
        except UserError as error:
            if is_main_process():
                print(f"{path}: only the model's own EOS tokens end an answer: {error}", flush=True)
    return model, tokenizer

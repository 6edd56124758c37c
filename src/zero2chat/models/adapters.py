"""Merge a LoRA adapter into its base model: the result is an equivalent model without an adapter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zero2chat.core.errors import UserError
from zero2chat.models.loading import adapter_settings, load_model, unsharded

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from zero2chat.core.runs import Run

_PROBE = 16  # tokens for comparing the merged model with the adapter
_TOLERANCE = 1e-3  # relative to the largest logit; float32 rounding alone gives about 1e-6


def merged(
    folder: Path, load: Callable[..., tuple[PreTrainedModel, Any]] = load_model, kind: str = "CAUSAL_LM"
) -> PreTrainedModel:
    """Load the base model with the adapter of `folder` added to its weights, in the base's own precision, on the CPU.

    Sums are computed in float32 and rounded once. The generation config is the adapter's. `load` opens the base model,
    and `kind` is PEFT's task type. Raises `UserError` if the adapter cannot be merged, or if merging changes the
    logits, as when an adapter changes only one of two tied weights.
    """
    settings = adapter_settings(folder, folder)
    base = settings["base_model_name_or_path"]
    if settings.get("peft_type") != "LORA" or (settings.get("task_type") or "CAUSAL_LM") != kind:
        what = f"{settings.get('peft_type')} adapter for {settings.get('task_type')}"
        raise UserError(f"{folder}: is a {what}: only LoRA adapters of language models can be merged")
    if not (folder / "adapter_model.safetensors").exists():
        raise UserError(f"{folder}: no weights (adapter_model.safetensors): save the adapter again")
    if base and (Path(base) / "adapter_config.json").exists():
        raise UserError(
            f"{folder}: its base model {base} is an adapter too: merge {base} first, and set "
            "base_model_name_or_path in this adapter_config.json to the merged folder"
        )
    with unsharded():
        try:
            model, _ = load(base, "auto", revision=settings.get("revision") or "main")
        except UserError as error:
            raise UserError(f"{folder}: cannot load the adapter's base model: {error}") from error
        return _add(folder, base, model)


def _add(folder: Path, base: str, model: PreTrainedModel) -> PreTrainedModel:
    import torch
    from peft import PeftConfig, PeftModel
    from safetensors import SafetensorError
    from transformers import GenerationConfig

    precision = model.dtype
    with torch.no_grad():
        try:
            config = PeftConfig.from_pretrained(str(folder))
            config.inference_mode = True
            adapted = PeftModel(model.float(), config)
            result = adapted.load_adapter(str(folder), "default", torch_device="cpu")
            strangers = [*result.missing_keys, *result.unexpected_keys]
            if strangers:
                raise ValueError(f"{len(strangers)} weights have no counterpart, such as {strangers[0]}")
            probe = torch.arange(min(_PROBE, model.config.get_text_config().vocab_size))[None]
            wanted = adapted.eval()(probe).logits
            whole = adapted.merge_and_unload(safe_merge=True)
            got = whole(probe).logits
        except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{folder}: the adapter does not fit its base model {base} ({reason[:300]})") from error
    difference = (got - wanted).abs().max() / wanted.abs().max()
    if not difference <= _TOLERANCE:
        raise UserError(
            f"{folder}: merging would change the outputs (logits {difference:.1e} apart), as the adapter changes the "
            f"tied embedding and head of {base}: train the adapter with other lora_target_modules"
        )
    if (folder / "generation_config.json").exists():
        whole.generation_config = GenerationConfig.from_pretrained(str(folder))
    return whole.to(precision)


def merge_trained(trained: Any, model: PreTrainedModel, tokenizer: Any, run: Run) -> PreTrainedModel:
    """Return the whole model with the trained adapter of `trained` merged in, on the CPU.

    `model` is the model given to the trainer: its generation config has the stop tokens.
    """
    from zero2chat.models.chat_template import end_turn

    adapter = run.folder / "_adapter"  # an ordinary adapter folder
    for part in (trained, model.generation_config, tokenizer):
        part.save_pretrained(adapter)
    whole = merged(adapter)  # from the base model's own weights, not its 4-bit ones
    end_turn(whole, tokenizer)
    return whole

"""Opening a model folder, or a model of the Hub."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zero2chat.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_OTHER_BASE = "is the adapter of another model than the base_model_name_or_path of its adapter_config.json names"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
_HUB_NAME = re.compile(r"(?:[\w-][\w.-]*/)?[\w-][\w.-]*")  # "name" or "owner/name"


def load_tokenizer(path: str | Path, revision: str = "main") -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or of a Hub name. Raises `UserError` where there is none."""
    folder = _find(path)
    if folder and not any((folder / name).exists() for name in TOKENIZER_FILES):
        raise UserError(f"{path}: holds no tokenizer (no tokenizer.json): {_remedy(folder)}")
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(path), revision=revision)
    except (OSError, ValueError) as error:
        raise _refused(path, folder, "tokenizer", error) from error


def find_model(path: str | Path) -> tuple[Path | None, bool]:
    """The model's local folder, or None where the path may be a Hub name, and whether it holds a LoRA adapter.

    Raises `UserError` where it is neither, or the folder holds no model.
    """
    folder = _find(path)
    adapter = folder is not None and (folder / "adapter_config.json").exists()
    if folder and not adapter and not (folder / "config.json").exists():
        raise UserError(f"{path}: holds no model (no config.json): {_remedy(folder)}")
    return folder, adapter


def load_model(
    path: str | Path | None,
    dtype: str | None = "float32",
    revision: str = "main",
    weights: bool = True,
    **options: Any,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model, on the CPU, and the tokenizer of a folder or of a Hub name; of LoRA's folder with its base model.

    `dtype` "auto" keeps the precision that the weights were saved in; `options` go to `from_pretrained`. Without
    `weights` it is on the meta device, with its config and generation config alone. Raises `UserError` where there is
    no model, no tokenizer, or no safetensors weights, and where an adapter's do not fit.
    """
    if not path:
        raise UserError("model_name_or_path is not set: name a model folder or a Hub model")
    folder, adapter = find_model(path)
    if adapter and not weights:
        raise _frozen(path)
    refuse_reward_model(path)
    tokenizer = load_tokenizer(path, revision)
    import torch

    if not torch.accelerator.is_available():
        # Else DeepSpeed, which transformers imports with the models, warns on stdout that it found no GPU.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    try:
        if folder is None:
            refuse_reward_model(path, AutoConfig.from_pretrained(str(path), revision=revision).architectures)
        if not weights:
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(str(path), revision=revision))
            with contextlib.suppress(OSError):  # it has none of its own
                model.generation_config = GenerationConfig.from_pretrained(str(path), revision=revision)
            return model, tokenizer
        model = AutoModelForCausalLM.from_pretrained(
            str(path), dtype=dtype, revision=revision, use_safetensors=True, **options
        )
        if adapter:  # transformers has read the base model's, whose turns may end with another token
            model.generation_config = GenerationConfig.from_pretrained(str(path))
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise _refused(path, folder, "model", error) from error
    except RuntimeError as error:  # what transformers says of shapes that differ
        if "ignore_mismatched_sizes" not in str(error):
            raise
        raise UserError(f"{path}: {_OTHER_BASE if adapter else 'its weights do not fit its config.json'}") from error
    if folder and adapter and not _is_whole_adapter(model, folder):
        raise UserError(f"{path}: {_OTHER_BASE}")
    return model.eval(), tokenizer


def refuse_reward_model(path: str | Path, made: Sequence[str] | None = None) -> None:
    """Raise `UserError` for a model that has a head for scores in the place of one for tokens: it would be given one of
    random weights, and babble. `made` is its config's `architectures`, which a folder's own files tell at once."""
    try:
        folder, adapter = find_model(path)
    except UserError:
        return  # no model at all, which is said where it is opened
    if folder is not None:
        try:
            file = folder / ("adapter_config.json" if adapter else "config.json")
            told = json.loads(file.read_text(encoding="utf-8"))
            made = [str(told.get("task_type"))] if adapter else told.get("architectures")
        except (OSError, ValueError, AttributeError):
            return  # which is said where the model is opened
    if made and made[0].endswith(("Classification", "SEQ_CLS")):
        raise UserError(
            f"{path}: is a reward model, which scores answers and writes none: name a language model, such as an sft "
            "step's"
        )


def _is_whole_adapter(model: PreTrainedModel, folder: Path) -> bool:
    """Whether the adapter's file has a matrix for each of LoRA's in the model, and no other: else some stay random."""
    from safetensors import safe_open

    kinds = (".lora_A.", ".lora_B.")
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        saved = {name.removeprefix("base_model.model.") for name in file.keys()}  # noqa: SIM118 - it is no dict
    there = {name.replace(".default.", ".") for name, _ in model.named_parameters()}
    saved, there = ({name for name in names if any(kind in name for kind in kinds)} for names in (saved, there))
    return saved == there


def load_for_use(path: str | Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The same, ready to use: on the accelerator in the weights' own precision, or on the CPU in fp32."""
    import torch

    device = torch.accelerator.current_accelerator(check_available=True)
    model, tokenizer = load_model(path, "auto" if device else "float32")
    return model.to(device or "cpu"), tokenizer


def refuse_adapter(model: PreTrainedModel, path: str | Path | None) -> None:
    """Raise `UserError` where the model is a LoRA adapter on its base model: it was loaded frozen, to be used."""
    if getattr(model, "_hf_peft_config_loaded", False):
        raise _frozen(path)


def _frozen(path: str | Path | None) -> UserError:
    return UserError(
        f"{path}: is a LoRA adapter, whose weights are frozen: merge it first (`zero2chat export {path} --merge`), or "
        "name its base model"
    )


def end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The ids that end an answer: the generation config's, or else the tokenizer's own."""
    eos = model.generation_config.eos_token_id
    eos = tokenizer.eos_token_id if eos is None else eos
    return set(eos) if isinstance(eos, list) else {eos}


def context_length(model: PreTrainedModel) -> int:
    """How many tokens the model can see at once."""
    return int(model.config.get_text_config().max_position_embeddings)


def head_width(text_config: PreTrainedConfig) -> int:
    """The width of an attention head, which only some configs say."""
    return int(getattr(text_config, "head_dim", None) or text_config.hidden_size // text_config.num_attention_heads)


def is_hub_name(path: str) -> bool:
    """Whether it names a model or dataset of the Hub, and nothing on this machine."""
    return not Path(path).exists() and Path(path).parts[:1] != ("runs",) and bool(_HUB_NAME.fullmatch(path))


def _find(path: str | Path) -> Path | None:
    """The local folder, or None where the path may be a Hub name. Raises `UserError` where it is neither."""
    folder = Path(path)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise UserError(f"{path}: is a file: give the folder that holds config.json and the weights")
    if folder.parts[:1] == ("runs",):
        raise UserError(f"{path}: no such run: {_remedy(folder)}")
    if not is_hub_name(str(path)):
        raise UserError(f"{path}: no such folder: give a model folder, such as runs/quickstart/sft, or a Hub name")
    return None


def _remedy(folder: Path) -> str:
    if folder.parts[:1] == ("runs",) and len(folder.parts) > 2:
        return f"`zero2chat run recipes/{folder.parts[1]}` makes it (step {folder.parts[2]})"
    return "give a folder that `save_pretrained` wrote, such as runs/quickstart/sft"


def _refused(path: str | Path, folder: Path | None, what: str, error: Exception) -> UserError:
    reason = str(error).strip().split("\n")[0]
    if folder is None:
        return UserError(f"{path}: no such folder here, and the Hub gave no {what} of that name ({reason})")
    return UserError(f"{path}: the {what} cannot be opened ({reason})")

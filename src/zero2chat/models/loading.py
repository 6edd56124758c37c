"""Load models and tokenizers from a folder or from the Hub."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zero2chat.core.errors import UserError, nearest
from zero2chat.core.package_files import find
from zero2chat.models.vocabulary import refuse_grown

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_OTHER_BASE = "does not fit base_model_name_or_path in its adapter_config.json: name the adapter's base model there"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
_HUB_NAME = re.compile(r"(?:[\w-][\w.-]*/)?[\w-][\w.-]*")  # "name" or "owner/name"


def load_tokenizer(path: str | Path, revision: str = "main") -> PreTrainedTokenizerBase:
    """Load the tokenizer from a folder or the Hub. Raises `UserError` if there is no tokenizer."""
    folder = _find(path)
    if folder and not any((folder / name).exists() for name in TOKENIZER_FILES):
        raise UserError(f"{path}: no tokenizer (no tokenizer.json): {_remedy(folder)}")
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(path), revision=revision, trust_remote_code=False)
    except Exception as error:  # of whatever type a damaged file, also config.json, leads to
        raise _refused(path, folder, "tokenizer", error) from error


def find_model(path: str | Path) -> tuple[Path | None, bool]:
    """Return the model's local folder (None if the path may be a Hub name), and whether it holds a LoRA adapter.

    Raises `UserError` if the path is neither a folder nor a Hub name, or if the folder holds no model.
    """
    folder = _find(path)
    adapter = folder is not None and (folder / "adapter_config.json").exists()
    if folder and not adapter and not (folder / "config.json").exists():
        raise UserError(f"{path}: no model (no config.json): {_remedy(folder)}")
    return folder, adapter


def bases(settings: Mapping[str, Any]) -> list[str]:
    """Return the models that a run's settings start from: none, one, or several that are averaged."""
    named = settings.get("model_name_or_path") or settings.get("models") or []
    return [str(name) for name in ([named] if isinstance(named, str) else named)]


@contextlib.contextmanager
def unsharded() -> Iterator[None]:
    """Within the block, one rank alone can load whole weights: under ZeRO-3, transformers would shard them."""
    from transformers.integrations import deepspeed

    held = deepspeed._hf_deepspeed_config_weak_ref
    deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        if held is not None and (config := held()) is not None:
            deepspeed.set_hf_deepspeed_config(config)


def load_model(
    path: str | Path | None,
    dtype: str | None = "float32",
    revision: str = "main",
    weights: bool = True,
    may_score: bool = False,
    **options: Any,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load model (on the CPU) and tokenizer from a folder or a Hub name. A LoRA adapter comes with its base model.

    `dtype` "auto" keeps the precision of the saved weights; `options` go to `from_pretrained`. With `weights=False` the
    model is on the meta device, with its config (for an adapter, its base model's) and generation config. Raises
    `UserError` if there is no such model, if its weights do not fit, and for a reward model, unless `may_score` is set.
    """
    if not path:
        raise UserError("model_name_or_path is not set: set it to a model folder or a Hub name")
    folder, adapter = find_model(path)
    shape, fitting = path, revision
    if adapter and folder and not weights:
        shape, fitting = str(adapter_settings(path, folder)["base_model_name_or_path"]), "main"
    if not may_score:
        refuse_reward_model(path)
    tokenizer = load_tokenizer(path, revision)
    import torch

    if not torch.accelerator.is_available():
        # Otherwise DeepSpeed, which transformers imports, warns on stdout that it found no GPU.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    try:
        if folder is None:
            config = AutoConfig.from_pretrained(str(path), revision=revision, trust_remote_code=False)
            if not may_score:
                refuse_reward_model(path, config.architectures)
        if not weights:
            config = AutoConfig.from_pretrained(str(shape), revision=fitting, trust_remote_code=False)
            with unsharded(), torch.device("meta"):
                model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
            with contextlib.suppress(OSError):  # the model has no generation config
                model.generation_config = GenerationConfig.from_pretrained(str(path), revision=revision)
            refuse_grown(model, tokenizer, path)
            return model, tokenizer
        model = AutoModelForCausalLM.from_pretrained(
            str(path), dtype=dtype, revision=revision, use_safetensors=True, trust_remote_code=False, **options
        )
        if adapter:  # transformers loaded the base model's generation config, whose EOS token may differ
            model.generation_config = GenerationConfig.from_pretrained(str(path))
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise _refused(path, folder, "model", error) from error
    except RuntimeError as error:  # raised by transformers if shapes differ
        if "ignore_mismatched_sizes" not in str(error):
            raise
        raise UserError(f"{path}: {_OTHER_BASE if adapter else 'the weights do not fit config.json'}") from error
    if folder and adapter and not _is_whole_adapter(model, folder):
        raise UserError(f"{path}: {_OTHER_BASE}")
    refuse_grown(model, tokenizer, path)
    return model.eval(), tokenizer


def adapter_settings(path: str | Path, folder: Path) -> dict[str, Any]:
    """Return an adapter's config. Raises `UserError` if the config cannot be read, or does not name a base model."""
    try:
        settings: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        settings["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: adapter_config.json is damaged ({error}): save the adapter again") from error
    return settings


def is_reward_model(path: str | Path, made: Sequence[str] | None = None) -> bool:
    """Whether a folder holds a sequence classifier, or an adapter of a classifier. `made` is the config's
    `architectures`; for a local folder it is read from the files."""
    try:
        folder, adapter = find_model(path)
        if folder is not None:
            config = json.loads((folder / ("adapter_config.json" if adapter else "config.json")).read_text())
            made = [str(config.get("task_type"))] if adapter else config.get("architectures")
    except (UserError, OSError, ValueError, AttributeError):
        return False  # loading the model reports what is wrong
    return bool(made and made[0].endswith(("Classification", "SEQ_CLS")))


def refuse_reward_model(path: str | Path, made: Sequence[str] | None = None) -> None:
    """Raise `UserError` for a reward model: loaded as a language model, it would get an LM head of random weights."""
    if is_reward_model(path, made):
        raise UserError(f"{path}: is a reward model, which cannot generate text: give a language model's folder")


def _is_whole_adapter(model: PreTrainedModel, folder: Path) -> bool:
    """Whether the adapter's file has exactly the model's LoRA matrices. Missing matrices would stay random."""
    from safetensors import safe_open

    kinds = (".lora_A.", ".lora_B.")
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        saved = {name.removeprefix("base_model.model.") for name in file.keys()}  # noqa: SIM118 - not a dict
    there = {name.replace(".default.", ".") for name, _ in model.named_parameters()}
    saved, there = ({name for name in names if any(kind in name for kind in kinds)} for names in (saved, there))
    return saved == there


def load_for_use(path: str | Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load model and tokenizer for inference: on the accelerator in the saved precision, or on the CPU in fp32."""
    import torch

    device = torch.accelerator.current_accelerator(check_available=True)
    model, tokenizer = load_model(path, "auto" if device else "float32")
    return model.to(device or "cpu"), tokenizer


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """Prefix every `UserError` in the block with the model's path."""
    try:
        yield
    except UserError as error:
        raise error if str(error).startswith(path) else UserError(f"{path}: {error}") from error


def refuse_adapter(model: PreTrainedModel, path: str | Path | None) -> None:
    """Raise `UserError` if the model is a LoRA adapter on its base model: the adapter would be loaded frozen."""
    if getattr(model, "_hf_peft_config_loaded", False):
        raise frozen(path)


def frozen(path: str | Path | None) -> UserError:
    get = f"`hf download {path} --local-dir FOLDER`, and name the folder" if is_hub_name(str(path)) else ""
    return UserError(
        f"{path}: is a LoRA adapter, whose weights are frozen: "
        f"{get or f'merge it first (`zero2chat export {path} --merge`), or give its base model'}"
    )


def end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Return the stop ids: the generation config's EOS ids, or else the tokenizer's EOS id."""
    eos = model.generation_config.eos_token_id
    eos = tokenizer.eos_token_id if eos is None else eos
    return set(eos) if isinstance(eos, list) else {eos}


def context_length(model: PreTrainedModel) -> int:
    return int(model.config.get_text_config().max_position_embeddings)


def head_width(text_config: PreTrainedConfig) -> int:
    """Return the width of an attention head, which only some configs contain."""
    return int(getattr(text_config, "head_dim", None) or text_config.hidden_size // text_config.num_attention_heads)


def is_hub_name(path: str) -> bool:
    """Whether the path can be a Hub name and does not exist locally."""
    return not Path(path).exists() and Path(path).parts[:1] != ("runs",) and bool(_HUB_NAME.fullmatch(path))


def _find(path: str | Path) -> Path | None:
    """Return the local folder, or None if the path may be a Hub name. Raises `UserError` for other paths."""
    folder = Path(path)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise UserError(f"{path}: is a file: give the folder with config.json and the weights")
    if folder.parts[:1] == ("runs",):
        raise UserError(f"{path}: no such run: {_remedy(folder)}")
    if not is_hub_name(str(path)):
        raise UserError(f"{path}: no such folder: give a model folder, such as runs/quickstart/sft, or a Hub name")
    return None


def _remedy(folder: Path) -> str:
    if folder.parts[:1] == ("runs",) and len(folder.parts) > 2:
        name, step = folder.parts[1:3]
        recipe = recipe_of(name)
        file = find(recipe if recipe.endswith(".yaml") else Path(recipe, "recipe.yaml"))
        written = file.read_text(encoding="utf-8") if file.is_file() else ""
        steps = re.findall(r"^ *- {?name: ([\w-]+)", written, re.MULTILINE)
        if step in steps:
            return f"`zero2chat run {recipe}` makes it (step {step})"
        if steps:
            return f"{recipe} has no step '{step}'{nearest(step, steps)}"
    return "give a folder written by `save_pretrained`, such as runs/quickstart/sft"


def recipe_of(name: str) -> str:
    """Return the recipe that writes runs/<name>: a folder, or one file such as recipes/chat/qwen3-0.6b.yaml."""
    if Path(name, "recipe.yaml").exists():  # `zero2chat new` writes NAME
        return name
    files = {f"{path.parent.name}-{path.stem}": path for path in find("recipes").glob("*/*.yaml")}
    return f"recipes/{files[name].parent.name}/{files[name].name}" if name in files else f"recipes/{name}"


def _refused(path: str | Path, folder: Path | None, what: str, error: Exception) -> UserError:
    reason = str(error).strip().split("\n")[0]
    if folder is None:
        return UserError(f"{path}: no such folder, and no {what} of that name from the Hub ({reason})")
    return UserError(f"{path}: cannot load the {what} ({reason})")

"""Start a stage from a LoRA adapter: it is merged into its base model first, as trainers need whole weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from accelerate import PartialState
from transformers import PreTrainedModel
from trl import ModelConfig

from zero2chat.core.runs import Run, is_main_process
from zero2chat.models.adapters import merged
from zero2chat.models.hardware import first_goes_first
from zero2chat.models.loading import find_model, load_tokenizer

_BASE = "_base"


def start_from_adapter(run: Run, model_args: ModelConfig, merge: Callable[[Path], PreTrainedModel] = merged) -> None:
    """If the start model is an adapter, write it merged into its base model to the run folder, and start from that.

    Every rank must call this; the first one merges. Raises `UserError` as `merged` does.
    """
    path = model_args.model_name_or_path
    folder, is_adapter = find_model(path) if path else (None, False)
    if folder is None or not is_adapter:
        return
    target = run.folder / _BASE
    with first_goes_first(is_main_process()):
        if is_main_process() and not target.exists():  # it exists if the run is resumed
            print(f"{path}: a LoRA adapter: merged into its base model, in {target}", flush=True)
            partial = target.with_name(f"{_BASE}.tmp")
            shutil.rmtree(partial, ignore_errors=True)
            merge(folder).save_pretrained(partial)
            load_tokenizer(folder).save_pretrained(partial)
            partial.rename(target)
    model_args.model_name_or_path, model_args.model_revision = str(target), "main"


def remove_start(run: Run, model_args: ModelConfig) -> None:
    """Remove the merged start model of a trained run, unless it is the base of the run's own adapter.

    Every rank must call this, before the run is done: a kill in between would leave it for ever.
    """
    PartialState().wait_for_everyone()  # no rank reads it any more
    if is_main_process() and not model_args.use_peft:
        shutil.rmtree(run.folder / _BASE, ignore_errors=True)

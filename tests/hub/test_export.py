"""GGUF export and merged adapters: the answers stay the same, and a mistake is one line that leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import re
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from zero2chat import cli
from zero2chat.hub.converter import splits_as_ours
from zero2chat.hub.modelfile import CHATML, chatml, default_system, is_chatml
from zero2chat.models.tokenization import set_chat_template

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / ".gguf"
needs_llama_cpp = pytest.mark.skipif(not (PACKAGES / "llama_cpp").exists(), reason="`make gguf` has not run")


@pytest.fixture(scope="module")
def write_own(write_adapter):
    """An adapter with a stop token and a chat template that its base has not."""
    from transformers import AutoTokenizer, GenerationConfig

    def write(folder, *base, **changes):
        write_adapter(folder, *base, r=4, **changes)
        GenerationConfig(eos_token_id=[3, 0], pad_token_id=1).save_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.chat_template = "{{ messages }}"
        tokenizer.save_pretrained(folder)
        return folder

    return write


@pytest.fixture(scope="module")
def adapter(write_own, tmp_path_factory):
    return write_own(tmp_path_factory.mktemp("adapter"))


def _files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_merged_model_is_an_ordinary_one_that_says_what_the_adapter_says(dtype, model_folder, write_own, tmp_path):
    import torch

    from zero2chat.models.loading import load_model, refuse_adapter

    base, out = tmp_path / "base", tmp_path / "new" / "merged"
    model, tokenizer = load_model(model_folder)
    model.to(getattr(torch, dtype)).save_pretrained(base)
    tokenizer.save_pretrained(base)
    adapter = write_own(tmp_path / "adapter", base)
    cli.main(["export", str(adapter), "--merge", "--out", str(out)])
    assert not [path for path in out.iterdir() if "adapter" in path.name]
    assert _files(out.parent) == {out, *out.iterdir()}

    (merged, tokenizer), (adapted, _), (plain, _) = load_model(out, "auto"), load_model(adapter), load_model(base)
    refuse_adapter(merged, out)
    assert merged.dtype == getattr(torch, dtype)
    assert merged.generation_config.eos_token_id == [3, 0]
    assert tokenizer.chat_template == "{{ messages }}"
    ids = torch.arange(60)[None]
    with torch.no_grad():
        wanted, got, without = (one(ids).logits for one in (adapted, merged.float(), plain))
    assert (wanted - without).abs().max() > 0.5
    assert (wanted - got).abs().max() < (1e-4 if dtype == "float32" else 0.2)


def test_what_a_merge_wrote_can_be_pushed_with_the_card_of_its_run(adapter, model_folder, tmp_path):
    from zero2chat.hub.model_card import make_card
    from zero2chat.hub.push import pack

    first = tmp_path / "first"
    first.mkdir()
    of_first = {"stage": "sft", "settings": {"model_name_or_path": "some/base"}, "inputs": {}, "versions": {}}
    (first / "run.json").write_text(json.dumps({"fingerprint": of_first, "seconds": 1}))
    trained = shutil.copytree(adapter, tmp_path / "run")
    _settings(trained, "adapter_config.json", base_model_name_or_path=str(model_folder))
    settings = {"model_name_or_path": str(first), "use_peft": True}
    made = {"stage": "sft", "settings": settings, "inputs": {}, "versions": {}}
    (trained / "run.json").write_text(json.dumps({"fingerprint": made, "seconds": 1}))
    metrics = {"accuracy": {"value": 0.75, "n": 40}}
    (trained / "metrics.json").write_text(json.dumps(metrics))
    card = make_card(trained, {"fingerprint": made, "seconds": 1}, metrics)  # as every finished run has one
    card.text += "\nBetter at cooking than at sums.\n"
    card.save(trained / "README.md")
    (trained / "abstention.json").write_text('{"abstain_below": 0.6, "temperature": 0.3}')
    cli.main(["export", str(trained), "--merge", "--out", str(tmp_path / "merged")])
    written = ModelCard.load(tmp_path / "merged" / "README.md")
    assert ("merged into its base" in written.text, "load it on" in written.text) == (True, False)
    assert (written.data.library_name, written.data.base_model) == ("transformers", "some/base")
    parcel = pack(tmp_path / "merged", "me/merged")
    assert {"abstention.json", "config.json", "model.safetensors", "tokenizer.json", "README.md"} <= set(parcel.files)
    assert not {"run.json", "adapter_config.json"} & set(parcel.files)
    text = str(parcel.card)
    assert "merged into its base model" in text
    assert "load it on top" not in text
    assert "Better at cooking than at sums." in text
    assert "| accuracy | 0.75 | 40 |" in text
    assert parcel.card.data.base_model == "some/base"


def test_a_full_fine_tune_can_be_exported_as_merged(model_folder, tmp_path, capsys):
    from safetensors.torch import load_file

    out = tmp_path / "out"
    cli.main(["export", str(model_folder), "--merge", "--out", str(out)])
    assert "not an adapter: nothing to merge" in capsys.readouterr().out
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in out.iterdir()}
    saved, wanted = (load_file(folder / "model.safetensors") for folder in (out, model_folder))
    assert saved.keys() == wanted.keys()
    assert all(saved[name].equal(wanted[name]) for name in wanted)


def _settings(folder: Path, name: str, **changes: Any) -> None:
    settings = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(settings | changes))


def _adapter(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: _settings(folder / "adapter", "adapter_config.json", **changes)


def _gone(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).rename(folder / "old")


def _written(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


F16 = "model --gguf f16"
MERGE = "adapter --merge"
HEAD = {"architectures": ["Qwen3ForSequenceClassification"]}


@pytest.mark.parametrize(
    ("arguments", "says", "prepare"),
    [
        ("model", "nothing to write", None),
        ("./none --gguf f16", "no such folder", None),
        ("own/er --gguf f16", "hf download own/er", None),
        ("runs/quickstart/sft --gguf f16", "zero2chat run recipes/quickstart", None),
        (F16, r"no config\.json", _gone("model/config.json")),
        (F16, "cannot load the tokenizer", _written("model/config.json", "{")),
        (F16, "is a reward model, which cannot generate text", lambda f: _settings(f / "model", "config.json", **HEAD)),
        (F16, r"no tokenizer\.json", _gone("model/tokenizer.json")),
        (F16, "no weights", _gone("model/model.safetensors")),
        (F16, "make gguf", _gone(".gguf")),
        ("model --gguf q8_0", "make gguf", _gone(".gguf/llama_cpp")),
        (f"{F16} --out model", "model: already exists", None),
        (MERGE, "the adapter's base model: /not/here: no such folder", _adapter(base_model_name_or_path="/not/here")),
        (MERGE, "cannot load the adapter's base model: ", _adapter(base_model_name_or_path=None)),
        (MERGE, "is an adapter too", _adapter(base_model_name_or_path="adapter")),
        (MERGE, "does not fit its base", _adapter(r=2)),
        (MERGE, "no counterpart", _adapter(base_model_name_or_path="shallow")),
        (MERGE, "does not fit.*Target modules", _adapter(target_modules=["query"])),
        (MERGE, "IA3 adapter", _adapter(peft_type="IA3")),
        (MERGE, "for SEQ_CLS", _adapter(task_type="SEQ_CLS")),
        (MERGE, "is damaged", _written("adapter/adapter_config.json", '{"peft_type": "LO')),
        ("tied --merge", "merging would change the outputs", None),  # an adapter of a head that is the embedding too
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(
    arguments, says, prepare, model_folder, adapter, write_own, write_model, tmp_path, capsys
):
    shutil.copytree(model_folder, tmp_path / "model")
    shutil.copytree(adapter, tmp_path / "adapter")
    if says == "no counterpart":
        write_model(tmp_path / "shallow", num_hidden_layers=1)
    if arguments.startswith("tied"):
        write_own(tmp_path / "tied", target_modules=["q_proj", "lm_head"])
    (tmp_path / ".gguf" / "llama_cpp").mkdir(parents=True)
    (tmp_path / ".gguf" / "convert_hf_to_gguf.py").touch()
    if prepare:
        prepare(tmp_path)
    before = _files(tmp_path)
    with contextlib.chdir(tmp_path), pytest.raises(SystemExit) as end:
        cli.main(["export", *arguments.split()])
    assert end.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert re.search(says, line), line
    assert _files(tmp_path) == before


def test_a_tokenizer_that_cuts_text_in_another_way_is_not_called_qwen2(tokenizer_folder):
    def read() -> dict[str, Any]:
        return json.loads((tokenizer_folder / "tokenizer.json").read_text())

    assert splits_as_ours(read())
    others = [read() for _ in range(6)]
    others[0]["normalizer"] = {"type": "NFC"}
    others[1]["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] += "|x"
    others[2]["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = True
    others[3]["pre_tokenizer"]["pretokenizers"][1]["use_regex"] = True
    others[4]["model"]["ignore_merges"] = True
    others[5]["pre_tokenizer"] = None
    assert not any(map(splits_as_ours, others))
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    digits = {"type": "Digits", "individual_digits": True}
    assert not splits_as_ours(read() | {"pre_tokenizer": level})
    assert not splits_as_ours(read() | {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [digits, level]}})


SMOLLM = (
    "{% for message in messages %}{% if loop.first and message.role != 'system' %}"
    "<|im_start|>system\nI am Smol<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "fits", "system"),
    [
        ("chatml.jinja", True, ""),
        ("chatml_thinking.jinja", True, ""),
        ("llama3.jinja", False, ""),
        ("r1_zero.jinja", False, ""),
        (None, False, ""),
        (SMOLLM, True, "I am Smol"),
        (SMOLLM.replace("{{ message.content }}", "{{ message.content | trim }}"), False, ""),
        (SMOLLM.replace("I am Smol", '"""\nPARAMETER stop x'), True, ""),
        ("{{ none.such }}", False, ""),
    ],
)
def test_a_template_is_written_where_it_is_chatml_and_nowhere_else(template, fits, system, tokenizer_folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    if template and template.endswith(".jinja"):
        set_chat_template(tokenizer, ROOT / "chat_templates" / template)
    else:
        tokenizer.chat_template = template
    thinks = template == "chatml_thinking.jinja"
    assert is_chatml(tokenizer, thinks) == fits
    assert not is_chatml(tokenizer, not thinks)
    if template in ("chatml.jinja", "chatml_thinking.jinja"):
        turns = [{"role": role, "content": f" {role}\n"} for role in ("system", "user", "assistant", "user")]
        assert chatml(turns, thinks) == tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert (default_system(tokenizer) if fits else "") == system


@needs_llama_cpp
@pytest.mark.slow
@pytest.mark.parametrize("merge", [False, True])
def test_llama_cpp_reads_the_same_tokens_and_says_the_same(merge, model_folder, adapter, tmp_path, monkeypatch):
    import torch

    from zero2chat.models.loading import load_model
    from zero2chat.models.tokenization import plain_ids

    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "gguf.py"))
    source = adapter if merge else model_folder
    model, tokenizer = load_model(source)
    texts = [*benchmark["TEXTS"], "<|im_start|>user\n12 é<|im_end|>\n<think>"]
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    monkeypatch.chdir(tmp_path)
    tops = {}
    for kind in ("f32",) if merge else ("f32", "f16", "q8_0", "q4_k_m"):
        given = ["export", str(source), "--gguf", kind, "--out", kind, "--packages", str(PACKAGES)]
        cli.main([*given, "--merge"] if merge else given)
        (file,) = Path(kind).glob("*.gguf")
        assert {path.name for path in Path(kind).iterdir()} == {file.name, "Modelfile"}
        ends = ["<|im_end|>", "<|endoftext|>"] if merge else ["<|im_end|>"]
        lines = (Path(kind) / "Modelfile").read_text().splitlines()
        assert lines[0] == f"FROM ./{file.name}"
        assert [line for line in lines if line.startswith("PARAMETER")] == [f'PARAMETER stop "{end}"' for end in ends]
        assert (f'TEMPLATE """{CHATML}"""' in "\n".join(lines)) == (not merge)
        llama = benchmark["Llama"](str(file), 128, whole_cache=kind == "f32")
        for text, ids in zip(texts, encoded, strict=True):
            assert llama("ids", text, True) == ids
            assert llama("ids", text, False) == plain_ids(tokenizer, [text])[0]
        if kind == "f32":
            with torch.no_grad():
                for ids in encoded[:20]:
                    said, _, _ = benchmark["continued"](model, ids[:90])
                    assert llama("greedy", ids[:90], len(said), []) == said
        tops[kind] = [token for ids in encoded for token in llama("top", ids[:128])]
        llama.close()
    least = {"f32": 1.0, "f16": 0.98, "q8_0": 0.9, "q4_k_m": 0.5}
    for kind, top in tops.items():
        agree = sum(a == b for a, b in zip(tops["f32"], top, strict=True))
        assert agree / len(top) >= least[kind], kind

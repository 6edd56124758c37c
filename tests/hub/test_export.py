"""GGUF export and merged adapters: the answers stay the same, and a mistake is one line that leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import re
import runpy
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from zero2chat import cli
from zero2chat.hub.converter import splits_as_ours
from zero2chat.hub.modelfile import CHATML, chatml, default_system, is_chatml
from zero2chat.models.tokenization import set_chat_template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / ".gguf"
needs_llama_cpp = pytest.mark.skipif(not (PACKAGES / "llama_cpp").exists(), reason="`make gguf` has not run")


@pytest.fixture(scope="module")
def write_adapter(model_folder: Path, tokenizer_folder: Path) -> Callable[..., Path]:
    """`write_adapter(folder, **changes)` saves a LoRA adapter of random weights on `model_folder`, as a stage does."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoTokenizer, GenerationConfig

    from zero2chat.models.loading import load_model

    def write(folder: Path, base: Path = model_folder, **changes: Any) -> Path:
        settings = {"task_type": "CAUSAL_LM", "target_modules": "all-linear", "r": 4, "init_lora_weights": False}
        with torch.random.fork_rng():
            torch.manual_seed(1)
            model = get_peft_model(load_model(base, "auto")[0], LoraConfig(**settings | changes))
        model.save_pretrained(folder)
        GenerationConfig(eos_token_id=[3, 0], pad_token_id=1).save_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
        tokenizer.chat_template = "{{ messages }}"
        tokenizer.save_pretrained(folder)
        return folder

    return write


@pytest.fixture(scope="module")
def adapter(write_adapter: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(tmp_path_factory.mktemp("adapter"))


def _files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


# ---- merges


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_merged_model_is_an_ordinary_one_that_says_what_the_adapter_says(
    dtype: str, model_folder: Path, write_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    import torch

    from zero2chat.models.loading import load_model, refuse_adapter

    base, out = tmp_path / "base", tmp_path / "new" / "merged"
    model, tokenizer = load_model(model_folder)
    model.to(getattr(torch, dtype)).save_pretrained(base)
    tokenizer.save_pretrained(base)
    adapter = write_adapter(tmp_path / "adapter", base)
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


def test_what_a_merge_wrote_can_be_pushed_with_the_card_of_its_run(
    adapter: Path, model_folder: Path, tmp_path: Path
) -> None:
    from zero2chat.hub.model_card import make_card
    from zero2chat.hub.push import pack

    trained = shutil.copytree(adapter, tmp_path / "run")
    _settings(trained, "adapter_config.json", base_model_name_or_path=str(model_folder))
    settings = {"model_name_or_path": "some/base", "use_peft": True}
    made = {"stage": "sft", "settings": settings, "inputs": {}, "versions": {}}
    (trained / "run.json").write_text(json.dumps({"fingerprint": made, "seconds": 1}))
    metrics = {"accuracy": {"value": 0.75, "n": 40}}
    (trained / "metrics.json").write_text(json.dumps(metrics))
    card = make_card(trained, {"fingerprint": made, "seconds": 1}, metrics)  # as every finished run has one
    card.text += "\nBetter at cooking than at sums.\n"
    card.save(trained / "README.md")
    cli.main(["export", str(trained), "--merge", "--out", str(tmp_path / "merged")])
    parcel = pack(tmp_path / "merged", "me/merged")
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= set(parcel.files)
    assert not {"run.json", "adapter_config.json"} & set(parcel.files)
    text = str(parcel.card)
    assert "merged into its base model" in text
    assert "load it on top" not in text
    assert "Better at cooking than at sums." in text
    assert "| accuracy | 0.75 | 40 |" in text
    assert parcel.card.data.base_model == "some/base"


def test_gguf_of_an_adapter_is_that_of_the_merged_model_and_the_command_says_so(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from zero2chat.hub import export

    seen: list[set[str]] = []

    def write(run: str, source: Path, file: Path, *_: Any) -> None:
        seen.append({path.name for path in source.iterdir()})
        file.write_bytes(b"GGUF")

    monkeypatch.setattr(export, "_write_gguf", write)
    (tmp_path / "convert_hf_to_gguf.py").touch()
    out = ["--out", str(tmp_path / "out"), "--packages", str(tmp_path)]
    cli.main(["export", str(adapter), "--gguf", "f16", *out])
    assert f"{adapter}: a LoRA adapter: merged into its base model\n" in capsys.readouterr().out
    assert "model.safetensors" in seen[0]
    assert "adapter_config.json" not in seen[0]


# ---- mistakes


class Mistake(NamedTuple):
    arguments: list[str]
    says: str
    prepare: Callable[[Path], object] = lambda here: None


def _settings(folder: Path, name: str, **changes: Any) -> None:
    settings = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(settings | changes))


def _packages(here: Path) -> None:
    (here / ".gguf" / "llama_cpp").mkdir(parents=True)
    (here / ".gguf" / "convert_hf_to_gguf.py").touch()


F16 = ["model", "--gguf", "f16"]
MERGE = ["adapter", "--merge"]
MISTAKES = {
    "nothing to do": Mistake(["model"], "nothing to write"),
    "no folder": Mistake(["./none", *F16[1:]], "no such folder"),
    "a Hub name": Mistake(["own/er", *F16[1:]], "hf download own/er"),
    "no run": Mistake(["runs/quickstart/sft", *F16[1:]], "zero2chat run recipes/quickstart"),
    "no model": Mistake(F16, r"no config\.json", lambda here: (here / "model/config.json").unlink()),
    "a damaged config": Mistake(
        F16, r"cannot load the tokenizer", lambda here: (here / "model/config.json").write_text("{")
    ),
    "a reward model": Mistake(
        F16,
        "is a reward model, which cannot generate text",
        lambda here: _settings(here / "model", "config.json", architectures=["Qwen3ForSequenceClassification"]),
    ),
    "no tokenizer": Mistake(F16, r"no tokenizer\.json", lambda here: (here / "model/tokenizer.json").unlink()),
    "no safetensors": Mistake(
        F16, "no weights", lambda here: (here / "model/model.safetensors").rename(here / "model/model.bin")
    ),
    "no converter": Mistake(F16, "make gguf", lambda here: shutil.rmtree(here / ".gguf")),
    "no quantizer": Mistake(
        ["model", "--gguf", "q8_0"], "make gguf", lambda here: (here / ".gguf/llama_cpp").rename(here / ".gguf/old")
    ),
    "the output is there": Mistake([*F16, "--out", "model"], "model: already exists"),
    "no adapter": Mistake(["model", "--merge"], "remove --merge"),
    "no base": Mistake(
        MERGE, "the adapter's base model: /not/here: no such folder", lambda here: _base(here, "/not/here")
    ),
    "no base named": Mistake(MERGE, "cannot load the adapter's base model: ", lambda here: _base(here, None)),
    "an adapter's adapter": Mistake(MERGE, "is an adapter too", lambda here: _base(here, str(here / "adapter"))),
    "other shapes": Mistake(MERGE, "does not fit its base", lambda here: _shrink(here)),
    "fewer layers": Mistake(MERGE, "no counterpart", lambda here: _base(here, str(here / "shallow"))),
    "unknown targets": Mistake(MERGE, "does not fit.*Target modules", lambda here: _targets(here, "query")),
    "not LoRA": Mistake(
        MERGE,
        "IA3 adapter",
        lambda here: _settings(here / "adapter", "adapter_config.json", peft_type="IA3"),
    ),
    "not a language model": Mistake(
        MERGE, "for SEQ_CLS", lambda here: _settings(here / "adapter", "adapter_config.json", task_type="SEQ_CLS")
    ),
    "damaged settings": Mistake(
        MERGE, "is damaged", lambda here: (here / "adapter/adapter_config.json").write_text('{"peft_type": "LO')
    ),
}


def _base(here: Path, base: str | None) -> None:
    _settings(here / "adapter", "adapter_config.json", base_model_name_or_path=base)


def _targets(here: Path, *names: str) -> None:
    _settings(here / "adapter", "adapter_config.json", target_modules=names)


def _shrink(here: Path) -> None:
    _settings(here / "adapter", "adapter_config.json", r=2)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(
    name: str,
    model_folder: Path,
    adapter: Path,
    write_model: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mistake = MISTAKES[name]
    shutil.copytree(model_folder, tmp_path / "model")
    shutil.copytree(adapter, tmp_path / "adapter")
    if name == "fewer layers":
        write_model(tmp_path / "shallow", num_hidden_layers=1)
    _packages(tmp_path)
    mistake.prepare(tmp_path)
    _one_line(["export", *mistake.arguments], mistake.says, tmp_path, capsys)


def _one_line(arguments: list[str], says: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = _files(here)
    with contextlib.chdir(here), pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert re.search(says, lines[0]), lines[0]
    assert _files(here) == before


def test_an_adapter_of_a_head_that_is_the_embedding_too_is_refused(
    write_adapter: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_adapter(tmp_path / "adapter", target_modules=["q_proj", "lm_head"])
    _one_line(["export", "adapter", "--merge"], "would behave differently", tmp_path, capsys)


# ---- what is told of the tokenizer


def test_a_tokenizer_that_cuts_text_in_another_way_is_not_called_qwen2(tokenizer_folder: Path) -> None:
    def read() -> dict[str, Any]:
        found: dict[str, Any] = json.loads((tokenizer_folder / "tokenizer.json").read_text())
        return found

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
        ("llama3.jinja", False, ""),
        ("r1_zero.jinja", False, ""),
        (None, False, ""),
        (SMOLLM, True, "I am Smol"),
        (SMOLLM.replace("{{ message.content }}", "{{ message.content | trim }}"), False, ""),
        (SMOLLM.replace("I am Smol", '"""\nPARAMETER stop x'), True, ""),
        ("{{ none.such }}", False, ""),
    ],
)
def test_a_template_is_written_where_it_is_chatml_and_nowhere_else(
    template: str | None, fits: bool, system: str, tokenizer_folder: Path
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    if template and template.endswith(".jinja"):
        set_chat_template(tokenizer, ROOT / "chat_templates" / template)
    else:
        tokenizer.chat_template = template
    assert is_chatml(tokenizer) == fits
    assert (default_system(tokenizer) if fits else "") == system


GO = """package main
import ("encoding/json"; "os"; "text/template")
func main() {
    var messages []struct{ Role, Content string }
    if err := json.Unmarshal([]byte(os.Args[2]), &messages); err != nil { panic(err) }
    values := map[string]any{"Messages": messages}
    if err := template.Must(template.New("").Parse(os.Args[1])).Execute(os.Stdout, values); err != nil { panic(err) }
}
"""


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("go"), reason="there is no Go here")
def test_gos_own_templates_render_the_modelfiles_as_chatml(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    (tmp_path / "main.go").write_text(GO)
    messages = [
        {"role": role, "content": f" {role}\n“2 < 3” & {{{{ . }}}} "}
        for role in ("system", "user", "assistant", "user")
    ]
    for turns in (messages, messages[1:2]):
        command = ["go", "run", str(tmp_path / "main.go"), CHATML, json.dumps(turns)]
        shown = subprocess.run(command, capture_output=True, check=True).stdout.decode()
        assert shown == tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        assert shown == chatml(turns)


# ---- in llama.cpp


@needs_llama_cpp
@pytest.mark.slow
@pytest.mark.parametrize("merge", [False, True])
def test_llama_cpp_reads_the_same_tokens_and_says_the_same(
    merge: bool, model_folder: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


@needs_llama_cpp
@pytest.mark.slow
@pytest.mark.parametrize("what", ["architecture", "tokenizer"])
def test_what_the_converter_does_not_know_is_one_line(
    what: str, model_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(model_folder, tmp_path / "model")
    if what == "architecture":
        _settings(folder, "config.json", architectures=["NoneSuchForCausalLM"])
    else:
        settings = json.loads((folder / "tokenizer.json").read_text())
        settings["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\p{N}{1,3}|\p{L}+|\s+|."
        (folder / "tokenizer.json").write_text(json.dumps(settings))
    says = "does not support the architecture NoneSuch" if what == "architecture" else "does not support the tokenizer"
    _one_line(["export", "model", "--gguf", "f16", "--packages", str(PACKAGES)], says, tmp_path, capfd)

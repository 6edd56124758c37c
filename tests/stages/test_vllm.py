"""vLLM itself, on CPUs, in server mode: GRPO samples from it, and it has the weights of each step.

It has its own environment (`make .venv-vllm`), where the trainer runs too, as TRL's client wants vLLM
beside it. TRL sends weights by NCCL alone, which needs GPUs: `vllm_on_cpu.py` puts gloo in its place, and nothing else.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from stage_fixtures import Configured, history, metrics
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from zero2chat.inference.tool_format import call_message, make_tools
from zero2chat_practice import lines

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
HERE = Path(__file__).parent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),  # on busy cores vLLM takes minutes to start
    pytest.mark.skipif(not PYTHON.exists(), reason="vLLM for CPUs is not here: `make .venv-vllm` installs it"),
]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def environment(*paths: Path) -> dict[str, str]:
    more = {
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TORCHDYNAMO_DISABLE": "1",  # for a few tokens compiling does not pay
        "VLLM_USE_AOT_COMPILE": "0",
        "VLLM_HOST_IP": "127.0.0.1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_SERVER_DEV_MODE": "1",  # the endpoints that take weights
    }
    return {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"} | more


@pytest.fixture(scope="module")
def folder(write_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose heads are as wide as vLLM's kernels want them."""
    return write_model(tmp_path_factory.mktemp("vllm") / "model", hidden_size=64, head_dim=64, initializer_range=0.1)


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    """The address of vLLM's own server, with "gloo" among the ways in which weights can come."""
    plugin = folder.parent / "plugin"
    meta = plugin / "vllm_gloo-1.dist-info"
    meta.mkdir(parents=True)
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm-gloo\nVersion: 1\n")
    (meta / "entry_points.txt").write_text("[vllm.general_plugins]\ngloo = vllm_on_cpu:register\n")
    port, log = free_port(), folder.parent / "server.log"
    command = [str(PYTHON), "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--max-model-len", "128"]
    command += ["--max-num-seqs", "16", "--enforce-eager", "--weight-transfer-config", '{"backend": "gloo"}']
    # TRL asks for the log-probabilities with which the tokens were sampled.
    command += ["--logprobs-mode", "processed_logprobs", "--max-logprobs", "-1"]
    url = f"http://127.0.0.1:{port}"
    with log.open("w") as out:
        process = subprocess.Popen(command, env=environment(plugin, HERE), stdout=out, stderr=out)
    try:
        while not _answers(f"{url}/health"):
            assert process.poll() is None, log.read_text()[-3000:]
            time.sleep(1)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


@pytest.fixture
def train(configured: Configured) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`train(model, **settings)` runs GRPO in vLLM's environment. In mode `server` weights go by gloo."""
    usual: dict[str, Any] = {
        "chat_template_path": None,
        "datasets": [{"task": "lines", "n": 32}],
        "tasks": [{"task": "lines", "n": 4, "max_new_tokens": 4}],
        "global_batch_size": 8,
        "per_device_train_batch_size": 8,
        "max_steps": 3,
        # So that each step's weights are far from those before.
        "learning_rate": 1.0e-2,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "use_vllm": True,
    }

    def run(model: Path, vllm_mode: str = "server", **settings: Any) -> subprocess.CompletedProcess[str]:
        own = {"model_name_or_path": str(model), "vllm_mode": vllm_mode}
        path = configured("grpo", "run", **usual | own | settings)
        started = [str(HERE / "vllm_on_cpu.py"), "grpo"] if vllm_mode == "server" else ["-m", "zero2chat.stages.grpo"]
        return in_environment(*started, "--config", str(path))

    return run


def in_environment(*words: str) -> subprocess.CompletedProcess[str]:
    env = environment(ROOT / "src")
    return subprocess.run([str(PYTHON), *words], env=env, cwd=ROOT, capture_output=True, text=True, check=False)


def of_the_server(url: str) -> dict[str, Any]:
    return {"vllm_server_base_url": url, "vllm_group_port": free_port()}


def check(done: subprocess.CompletedProcess[str], model: Path, run: Path, longest: int) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr[-3000:]
    lines = history(run)
    assert len(lines) == 3
    for line in lines:
        # A sampler with other weights, or one that a step's weights reached in part, would find its tokens more or
        # less likely than the trainer does.
        assert line["sampling/importance_sampling_ratio/mean"] == pytest.approx(1, abs=2e-3), line["step"]
        assert 1 <= line["completions/mean_length"] <= longest
    before, after = (load_file(f / "model.safetensors") for f in (model, run))
    assert all((before[name] != after[name]).any() for name in before)
    assert metrics(run)["seconds"]["value"] > 0
    return lines


def test_grpo_samples_from_the_server_with_the_weights_of_each_step(
    server: str, folder: Path, tmp_path: Path, train: Callable[..., Any]
) -> None:
    check(train(folder, **of_the_server(server)), folder, tmp_path / "run", longest=12)


@pytest.fixture(scope="module")
def caller(folder: Path, tokenizer: PreTrainedTokenizerBase) -> Path:
    """The folder of such a model, but it calls Python, and then answers in one way or another."""
    model, schemas = AutoModelForCausalLM.from_pretrained(folder), make_tools({"python": {}}).schemas
    call = call_message(("python", {"code": "6 * 7"}))
    result = {"role": "tool", "name": "python", "content": "42"}
    chats = [
        [{"role": "user", "content": row["question"]}, call, result, {"role": "assistant", "content": answer}]
        for row in lines.rows("train", 0, 8)
        for answer in ("42", "It is 42.")
    ]
    texts = [tokenizer.apply_chat_template(chat, tools=schemas, tokenize=False) for chat in chats]
    batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(150):
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    made = folder.parent / "caller"
    model.save_pretrained(made)
    tokenizer.save_pretrained(made)
    return made


def test_grpo_samples_calls_and_resumes_after_their_results(
    server: str, caller: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, train: Callable[..., Any]
) -> None:
    calls = {"tools": {"python": {}}, "max_completion_length": 40, "learning_rate": 1.0e-3, "tasks": []}
    done = train(caller, **calls, **of_the_server(server))
    first, *_ = check(done, caller, tmp_path / "run", longest=40)
    assert first["tools/call_frequency"] > 0.5
    assert first["tools/failure_frequency"] < 0.5
    # It went on after the result, whose tokens do not count.
    assert first["completions/mean_terminated_length"] > len(tokenizer.encode("<PYTHON_START>6 * 7<PYTHON_END>")) + 1
    assert first["completions/clipped_ratio"] < 0.5


def test_too_little_memory_for_the_context_is_one_line(
    write_model: Callable[..., Path], tmp_path: Path, train: Callable[..., Any]
) -> None:
    # 32 KiB a token in bf16: 2 GiB, where `environment` gives 1.
    wide = {"num_hidden_layers": 16, "num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 64}
    folder = write_model(tmp_path / "model", max_position_embeddings=65536, **wide)
    done = train(folder, vllm_mode="colocate")
    assert done.returncode == 2, done.stderr[-3000:]
    (line,) = [line for line in done.stderr.splitlines() if "the trainer refuses its settings: " in line]
    assert "2.0 GiB KV cache is needed" in line
    assert "increasing `gpu_memory_utilization`" in line
    assert "decreasing `max_model_len`" in line


def test_the_contracts_hold_and_recipes_parse_in_the_versions_of_a_gpu() -> None:
    done = in_environment(
        "-m", "pytest", "-p", "no:cacheprovider", "tests/contracts", "tests/recipes/test_every_recipe.py"
    )
    assert done.returncode == 0, done.stdout[-3000:]

"""vLLM itself, on CPUs, in server mode: GRPO and PPO sample from it, and it has the weights of each step.

It has its own environment (`make .venv-vllm`), where the trainer runs too, as TRL's client wants vLLM
beside it. TRL sends weights by NCCL alone, which needs GPUs: `vllm_on_cpu.py` puts gloo in its place, and nothing else.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

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


SETTINGS: dict[str, dict[str, Any]] = {
    "ppo": {"num_ppo_epochs": 1, "kl_limit": 100.0, "held_out": {"task": "lines", "n": 4}},
    "grpo": {"num_generations": 4, "tasks": [{"task": "lines", "n": 4, "max_new_tokens": 4}]},
}


@pytest.mark.parametrize("stage", SETTINGS)
def test_a_stage_samples_from_the_server_with_the_weights_of_each_step(
    stage: str, server: str, folder: Path, tmp_path: Path, write_yaml: Callable[..., Path]
) -> None:
    path = write_yaml(
        tmp_path / f"{stage}.yaml",
        output_dir=str(tmp_path / "run"),
        model_name_or_path=str(folder),
        datasets=[{"task": "lines", "n": 32}],
        rewards=[{"function": "zero2chat.rewards.length.short_answer", "options": {"longest": 60}}],
        global_batch_size=8,
        per_device_train_batch_size=8,
        max_completion_length=12,
        max_steps=3,
        # So that each step's weights are far from those before.
        learning_rate=1.0e-2,
        lr_scheduler_type="constant",
        max_grad_norm=1.0,
        gradient_checkpointing=False,
        bf16=False,
        logging_steps=1,
        save_strategy="no",
        disable_tqdm=True,
        use_vllm=True,
        vllm_mode="server",
        vllm_server_base_url=server,
        vllm_group_port=free_port(),
        **SETTINGS[stage],
    )
    command = [str(PYTHON), str(HERE / "vllm_on_cpu.py"), stage, "--config", str(path)]
    done = subprocess.run(command, env=environment(ROOT / "src"), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    assert len(lines) == 3
    for line in lines:
        # A sampler with other weights, or one that a step's weights reached in part, would find its tokens more or
        # less likely than the trainer does.
        assert line["sampling/importance_sampling_ratio/mean"] == pytest.approx(1, abs=2e-3), line["step"]
        assert 1 <= line["completions/mean_length"] <= 12
    before, after = (load_file(f / "model.safetensors") for f in (folder, tmp_path / "run"))
    assert all((before[name] != after[name]).any() for name in before)
    assert yaml.safe_load((tmp_path / "run" / "metrics.json").read_text())["seconds"]["value"] > 0

"""This machine's peak and memory, and the FLOPs of a model."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import Qwen3Config, Qwen3ForCausalLM

from zero2chat.models import hardware
from zero2chat.models.hardware import GPUS, flops_per_token, peak_flops


@pytest.mark.parametrize("tied", [True, False])
def test_flops_a_token_are_those_counted_by_hand(tied: bool) -> None:
    config = Qwen3Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        tie_word_embeddings=tied,
    )
    projections = 32 * 32 + 32 * 16 + 32 * 16 + 32 * 32  # q, k, v, o
    mlp = 3 * 32 * 48
    norms = 32 + 32 + 16 + 16  # before attention and MLP, of q and k
    head = 64 * 32  # the table of embeddings costs nothing, or is the head itself
    n = 2 * (projections + mlp + norms) + 32 + head
    attention = 12 * 2 * 2 * 16 * 10  # 12 · layers · heads · head width · length
    assert flops_per_token(Qwen3ForCausalLM(config), 10) == 6 * n + attention


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's memory")
def test_memory_that_a_cpu_process_frees_is_kept_unless_its_environment_says_how() -> None:
    code = """
import resource, torch
from zero2chat.models.hardware import keep_memory
keep_memory()
torch.empty(2**24).fill_(1.0)  # 64 MB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.empty(2**24).fill_(1.0)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    plain["ACCELERATE_USE_CPU"] = "true"  # also where there is a GPU

    def faults(**more: str) -> int:
        command = [sys.executable, "-c", code]
        return int(subprocess.run(command, env=plain | more, capture_output=True, text=True, check=True).stdout)

    assert 20 * faults() < faults(MALLOC_MMAP_THRESHOLD_="131072")


def test_measuring_the_peak_moves_no_random_numbers() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    assert peak_flops(torch.device("cpu"), torch.float32) > 1e8
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("name", "key", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", "H100", 989e12),
        ("NVIDIA H100 PCIe", "H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", "H100 NVL", 835e12),
        ("NVIDIA H200", "H200", 989e12),
        ("NVIDIA H200 NVL", "H200 NVL", 835e12),
    ],
)
def test_a_card_of_less_power_than_its_sxm_module_has_a_peak_of_its_own(
    name: str, key: str, peak: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert peak_flops(torch.device("cuda", 0), torch.bfloat16) == GPUS[key].peak == peak


@pytest.mark.parametrize(("given", "address"), [("eth7", "127.0.0.1"), ("", "127.0.0.1"), ("", "no such host")])
def test_gloos_interface_is_the_users_or_none_that_nobody_else_is_on(
    given: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "1"), ("MASTER_ADDR", address)):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", given)
    hardware._choose_interface()
    assert os.environ["GLOO_SOCKET_IFNAME"] == given


# Rank 0 works for eight seconds, and a collective waits for six: first in a stage that does not train, whose group is
# `start_processes`' own, then in one whose group was started with `ddp_timeout`.
RANKS = """
import os, sys, time
from datetime import timedelta
from pathlib import Path
from torch.distributed import distributed_c10d
distributed_c10d._get_default_timeout = lambda backend: timedelta(seconds=6)
from accelerate.utils import broadcast_object_list
from datasets import load_from_disk
from transformers import AutoTokenizer
from zero2chat.data import packing
from zero2chat.models import hardware

state = hardware.start_processes()

def work(*_):
    if state.is_main_process:
        time.sleep(8)

said = [None]
work()
if state.is_main_process:
    said = ["said"]
assert broadcast_object_list(said) == ["said"]

distributed_c10d._set_pg_timeout(timedelta(seconds=6))
encode, made = packing.plain_ids, []
packing.plain_ids = lambda *a: (work(), made.append(1), encode(*a))[-1]
rows = packing.pack_documents(load_from_disk(sys.argv[1]), "text", AutoTokenizer.from_pretrained(sys.argv[2]), 8, "x")
Path(f"{sys.argv[1]}-{state.process_index}").write_text(f"{len(rows)} {bool(made)}")  # one pipe would mix lines
os._exit(0)
"""


def test_a_process_may_tokenize_or_ask_an_api_for_longer_than_a_collective_waits(
    tokenizer_folder: Path, tmp_path: Path
) -> None:
    Dataset.from_dict({"text": ["Ada was born in Genoa in 1984."] * 9}).save_to_disk(tmp_path / "rows")
    (tmp_path / "ranks.py").write_text(RANKS)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    environment: dict[str, Any] = os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(tmp_path / "ranks.py"), str(tmp_path / "rows"), str(tokenizer_folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (first, one), (second, other) = ((tmp_path / f"rows-{rank}").read_text().split() for rank in range(2))
    assert first == second > "1"
    assert {one, other} == {"True", "False"}  # only one of them tokenized

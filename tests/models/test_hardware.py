"""This machine's peak and memory, and the FLOPs of a model."""

from __future__ import annotations

import os

import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset
from tiny import SIZES, mixture, qwen3, two_ranks
from transformers import MixtralConfig, MixtralForCausalLM

from zero2chat.models import hardware
from zero2chat.models.experts import ExpertLoads, expert_stacks, experts_per_token, idle_count
from zero2chat.models.hardware import GPUS, active_count, flops_per_token, parameter_count, peak_flops


@pytest.mark.parametrize("tied", [True, False])
def test_flops_a_token_are_those_counted_by_hand(tied):
    projections = 32 * 32 + 32 * 16 + 32 * 16 + 32 * 32  # q, k, v, o
    mlp = 3 * 32 * 48
    norms = 32 + 32 + 16 + 16  # before attention and MLP, of q and k
    head = 64 * 32  # the table of embeddings costs nothing, or is the head itself
    n = 2 * (projections + mlp + norms) + 32 + head
    attention = 12 * 2 * 2 * 16 * 10  # 12 · layers · heads · head width · length
    assert flops_per_token(qwen3(tie_word_embeddings=tied), 10) == 6 * n + attention


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
def test_a_card_of_less_power_than_its_sxm_module_has_a_peak_of_its_own(name, key, peak, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert peak_flops(torch.device("cuda", 0), torch.bfloat16) == GPUS[key].peak == peak


@pytest.mark.parametrize(("given", "address"), [("eth7", "127.0.0.1"), ("", "127.0.0.1"), ("", "no such host")])
def test_gloos_interface_is_the_users_or_none_that_nobody_else_is_on(given, address, monkeypatch):
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


def test_a_process_may_tokenize_or_ask_an_api_for_longer_than_a_collective_waits(tokenizer_folder, tmp_path):
    Dataset.from_dict({"text": ["Ada was born in Genoa in 1984."] * 9}).save_to_disk(tmp_path / "rows")
    two_ranks(RANKS, tmp_path, tmp_path / "rows", tokenizer_folder)
    (first, one), (second, other) = ((tmp_path / f"rows-{rank}").read_text().split() for rank in range(2))
    assert first == second > "1"
    assert {one, other} == {"True", "False"}  # only one of them tokenized


def test_a_token_uses_its_experts_and_all_else():
    model = mixture()
    dense = qwen3(num_key_value_heads=2, tie_word_embeddings=True)
    routers = 2 * 8 * 32
    assert active_count(model) == parameter_count(dense) + routers  # two experts of 24 are one MLP of 48
    assert parameter_count(model) - active_count(model) == idle_count(model) == 2 * 6 * 3 * 24 * 32
    assert flops_per_token(model, 10) == flops_per_token(dense, 10) + 6 * routers
    assert (idle_count(dense), active_count(dense), expert_stacks(dense)) == (0, parameter_count(dense), [])
    assert idle_count(mixture(mlp_only_layers=[0])) == idle_count(model) // 2  # a layer without experts counts whole
    shape = SIZES | {"num_key_value_heads": 2, "intermediate_size": 24, "num_local_experts": 4}
    other = MixtralForCausalLM(MixtralConfig(**shape, num_experts_per_tok=1))
    assert (experts_per_token(other.config), idle_count(other)) == (1, 2 * 3 * 3 * 24 * 32)


def test_loads_are_those_of_the_routers_choices_in_one_mode():
    model = mixture()
    loads, accelerator = ExpertLoads(model), Accelerator(cpu=True)
    assert loads.take(accelerator) == []
    ids = torch.randint(64, (3, 20))
    model.eval()(input_ids=ids)  # as sampling does: not counted
    assert loads.take(accelerator) == []
    routed = model.train()(input_ids=ids, output_router_logits=True).router_logits
    shares = loads.take(accelerator)
    for layer, logits in zip(shares, routed, strict=True):
        counts = torch.bincount(logits.topk(2).indices.flatten(), minlength=8)
        assert layer == pytest.approx((counts / 60).tolist())
        assert sum(layer) == pytest.approx(2)
    assert loads.take(accelerator) == []


def test_experts_take_part_in_autocast():
    model, ids = mixture(), torch.randint(64, (2, 20))
    exact = model(input_ids=ids).logits
    grads = []
    for implementation in ("grouped_mm", "eager"):  # eager's products are torch's own, which autocast knows
        model.set_experts_implementation(implementation)
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            output = model(input_ids=ids, labels=ids)
        output.loss.backward()
        torch.testing.assert_close(output.logits.float(), exact, atol=2e-2, rtol=0)
        grads.append(model.model.layers[0].mlp.experts.down_proj.grad.clone())
    assert grads[0].dtype == torch.float32
    torch.testing.assert_close(grads[0], grads[1], atol=1e-6, rtol=2e-2)

"""One recipe means the same training however the global batch is spread: over processes, or over time."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from stage_fixtures import CPU_ZERO2, checkpoints, history, main, stage_environment

# A step's loss in fp32, with AdamW, which divides by a gradient's size and so enlarges what differs in it. Sums in
# another order made 1e-6 of it in 12 steps, the last digit that history.jsonl keeps; other processors may make more.
TOLERANCE = 2e-5

SPREAD = {"max_steps": 12, "logging_steps": 1, "save_strategy": "no", "muon": False}
SPREAD |= {"global_batch_size": 8, "per_device_train_batch_size": 8}
CHANGES: dict[str, dict[str, Any]] = {
    "pretrain": {"sample_prompts": []},
    # 12 steps are less than an epoch: of its last, incomplete batch two processes fill up their shares.
    "sft": {"datasets": [{"task": "facts", "n": 500}], "tasks": []},
}


def _curve(run: Path) -> tuple[list[float], list[float]]:
    """The loss and the norm of the gradient of each step."""
    lines = history(run)
    return [line["loss"] for line in lines], [line["grad_norm"] for line in lines]


@pytest.mark.parametrize("stage", CHANGES)
def test_eight_sequences_at_once_one_after_another_and_on_two_zero2_ranks_train_alike(stage, configured, two_ranks):
    changes = SPREAD | CHANGES[stage]
    losses, norms = _curve(main(stage, configured(stage, "one", **changes)))
    assert len(losses) == 12
    assert losses[0] - losses[-1] > 0.3  # it learns, or agreeing would say little
    one_by_one = main(stage, configured(stage, "parts", **changes | {"per_device_train_batch_size": 1}))
    path = configured(stage, "ranks", **changes | {"per_device_train_batch_size": 2})
    two_ranks(stage, path)
    for run in (one_by_one, path.with_suffix("")):
        other_losses, other_norms = _curve(run)
        assert other_losses == pytest.approx(losses, abs=TOLERANCE), run
        assert other_norms == pytest.approx(norms, rel=1e-3), run


# ---- two hosts, that is two network namespaces of this machine with a cable between, which write to one disk


class Hosts:
    """Two hosts, 10.77.0.1 and 10.77.0.2. Raises `OSError` where this machine makes none."""

    def __init__(self, name: str):
        self.names = [f"{name}-{i}" for i in (0, 1)]
        self.running: list[subprocess.Popen[str]] = []
        try:
            for space in self.names:
                _ip("netns", "add", space)
                _ip("-n", space, "link", "set", "lo", "up")
            _ip("link", "add", "wire0", "netns", self.names[0], "type", "veth", "peer", "wire1", "netns", self.names[1])
            for i, space in enumerate(self.names):
                _ip("-n", space, "address", "add", f"10.77.0.{i + 1}/24", "dev", f"wire{i}")
            self.connect("up")
        except OSError:
            self.remove()
            raise

    def connect(self, state: str) -> None:
        for i, space in enumerate(self.names):
            _ip("-n", space, "link", "set", f"wire{i}", state)

    def cut(self, host: int) -> None:
        _ip("-n", self.names[host], "link", "set", f"wire{host}", "down")

    def carried(self) -> int:
        """Bytes that the second host has had from the first."""
        said = json.loads(_ip("-n", self.names[1], "-s", "-j", "link", "show", "wire1"))
        return int(said[0]["stats64"]["rx"]["bytes"])

    def launch(self, config: Path) -> None:
        """The same command on each, but for its rank."""
        accelerate = str(Path(sys.executable).with_name("accelerate"))
        # cpu_zero2.yaml on one host more, as multi_node.yaml is zero3.yaml on more.
        words = ["--quiet", "--config_file", str(CPU_ZERO2), "--num_machines", "2"]
        words += ["--main_process_ip", "10.77.0.1", "--main_process_port", "29500"]
        words += ["--deepspeed_multinode_launcher", "standard"]
        stage = ["-m", "zero2chat.stages.pretrain", "--config", str(config)]
        options = {"env": stage_environment(), "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.running = []
        for i, space in enumerate(self.names):
            launch = ["ip", "netns", "exec", space, accelerate, "launch", *words, "--machine_rank", str(i), *stage]
            self.running.append(subprocess.Popen(launch, **options))

    def wait(self, seconds: float) -> list[tuple[int, str, str]]:
        """(exit code, stdout, stderr) of each host's launch. Nothing of it lives on."""
        families = [member for process in self.running for member in _family(process.pid)]
        end = time.monotonic() + seconds
        ends = []
        for process in self.running:
            out, err = process.communicate(timeout=max(1.0, end - time.monotonic()))
            ends.append((process.returncode, out, err))
        assert not psutil.wait_procs(families, timeout=max(1.0, end - time.monotonic()))[1]
        return ends

    def remove(self) -> None:
        for process in self.running:
            for member in _family(process.pid):
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
        for space in self.names:
            subprocess.run(["ip", "netns", "delete", space], capture_output=True, check=False)


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def _family(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    return []


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    try:
        made = Hosts(f"zero2chat-{os.getpid()}")
    except OSError as error:  # no `ip`, not root, or not in this container
        pytest.skip(f"this machine makes no network namespaces: {error}")
    yield made
    made.remove()


@pytest.mark.slow
@pytest.mark.timeout(1800)  # two launches, each of two hosts on the same cores
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="DeepSpeed and network namespaces are for Linux")
def test_two_hosts_train_as_one_process_and_stop_and_resume_where_a_cable_is_cut(hosts, configured):
    changes = {
        "muon": True,
        "max_grad_norm": 0.0,  # DeepSpeed's Muon clips none
        "per_device_train_batch_size": 2,
        "max_steps": 20,
        "save_steps": 5,
        "logging_steps": 1,
        "sample_prompts": [],
        "ddp_timeout": 20,  # seconds; a host that does not answer ends the others then
    }
    one, path = main("pretrain", configured("pretrain", "one", **changes)), configured("pretrain", "two", **changes)
    two = path.with_suffix("")
    hosts.launch(path)
    lines = two / "history.jsonl"
    while not lines.exists() or lines.read_bytes().count(b"\n") < 7:
        assert all(process.poll() is None for process in hosts.running), hosts.wait(60)
        time.sleep(0.01)
    assert hosts.carried() > 500_000  # 7 steps' gradients of 31,456 parameters, in fp32
    hosts.cut(1)
    assert all(code != 0 for code, _, _ in hosts.wait(120))
    last = checkpoints(two)[-1]

    hosts.connect("up")
    hosts.launch(path)
    ends = hosts.wait(900)
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert f"{two}: resuming from checkpoint-{last}\n" in "".join(out for _, out, _ in ends)
    assert "error: " not in "".join(err for _, _, err in ends)
    assert [line["step"] for line in history(two)] == list(range(1, 21))
    assert _curve(two)[0] == pytest.approx(_curve(one)[0], abs=4e-4)  # as in test_counted

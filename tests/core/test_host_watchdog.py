"""A host that loses another one stops with one line; a host that is done may exit before the others."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from zero2chat.core import host_watchdog

# A rank alone on its host; with others it joins over a file instead of a process group. It begins with its
# work when all are watched.
RANK = """
import json, os, sys, time, types
from pathlib import Path

folder, ranks = Path(sys.argv[1]), int(os.environ["WORLD_SIZE"])
rank = int(os.environ["RANK"])

def broadcast_object_list(words):
    if rank == 0:
        (folder / "new").write_text(json.dumps(words))
        (folder / "new").rename(folder / "meeting")
    while not (folder / "meeting").exists():
        time.sleep(0.01)
    words[:] = json.loads((folder / "meeting").read_text())

sys.modules["accelerate"] = sys.modules["accelerate.utils"] = types.SimpleNamespace(
    broadcast_object_list=broadcast_object_list
)
from zero2chat.core import host_watchdog
from zero2chat.core.errors import UserError, exit_on_mistake

with exit_on_mistake():
    host_watchdog.watch()
    host_watchdog.saved(7)
    while len(host_watchdog._connections) < (ranks - 1 if rank == 0 else 1):
        time.sleep(0.01)
    (folder / f"watching-{rank}").touch()
    while len(list(folder.glob("watching-*"))) < ranks:
        time.sleep(0.01)
    exec(sys.argv[2])
"""
WORK = "time.sleep(60)"
NAME = socket.gethostname()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., list[subprocess.Popen[str]]]]:
    """`start(*works)` → a process for each rank, which does that when all are watched."""
    started = []

    def run(*works: str) -> list[subprocess.Popen[str]]:
        for rank, work in enumerate(works):
            where = {"RANK": str(rank), "WORLD_SIZE": str(len(works)), "MASTER_ADDR": "127.0.0.1"}
            where |= {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
            command = [sys.executable, "-c", RANK, str(tmp_path), work]
            started.append(subprocess.Popen(command, env=os.environ | where, stderr=subprocess.PIPE, text=True))
        patience = time.monotonic() + 60
        while len(list(tmp_path.glob("watching-*"))) < len(works) and time.monotonic() < patience:
            time.sleep(0.01)
        return started

    yield run
    for process in started:
        process.kill()
        process.communicate()


def _ends(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    said = [process.communicate(timeout=30)[1] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


@pytest.mark.parametrize("killed", [0, 2])
def test_a_killed_host_stops_all_others_with_one_line(killed: int, start: Callable[..., Any]) -> None:
    ranks = start(WORK, WORK, WORK)
    ranks[killed].send_signal(signal.SIGKILL)
    others = _ends([rank for i, rank in enumerate(ranks) if i != killed])
    line = (
        f"error: host 127.0.0.1, {NAME} (rank {killed}) is lost: it was killed, or failed and reports why; "
        "start the same command on all hosts again: it resumes from checkpoint-7\n"
    )
    assert others == [(1, line)] * 2


def test_hosts_that_are_done_go_one_by_one(start: Callable[..., Any]) -> None:
    assert _ends(start("time.sleep(0.5)", "pass", "time.sleep(1)")) == [(0, "")] * 3


def test_why_a_host_failed_is_said_by_all(start: Callable[..., Any]) -> None:
    mistake, *others = _ends(start("raise UserError('no such\\nfile')", WORK, WORK))
    assert mistake == (2, "error: no such file\n")
    line = f"error: {NAME} (rank 0) failed: no such file; start the same command on all hosts again: it resumes from "
    assert others == [(1, line + "checkpoint-7\n")] * 2


def test_the_line_comes_in_place_of_a_collectives_own_words(start: Callable[..., Any], tmp_path: Path) -> None:
    fails = "while not Path(sys.argv[1], 'now').exists(): time.sleep(0.01)\nraise RuntimeError('gloo')"
    first, second = start(fails, WORK)
    (tmp_path / "now").touch()
    time.sleep(0.1)
    second.kill()
    ((code, said),) = _ends([first])
    assert code == 1
    assert said.startswith(f"error: host 127.0.0.1, {NAME} (rank 1) is lost")
    assert said.count("\n") == 1


def test_strangers_at_the_door_are_not_listened_to(start: Callable[..., Any], tmp_path: Path) -> None:
    ranks = start("time.sleep(1)", "time.sleep(1)")
    port = json.loads((tmp_path / "meeting").read_text())[0]
    for words in (b"", b"bye", b"0123456789abcdef somebody\nall is lost", b"\xff" * 9000):
        with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(words)
    assert _ends(ranks) == [(0, ""), (0, "")]


class Silent:
    """A connection that the system's keepalive ends."""

    def recv(self, size: int) -> bytes:
        raise TimeoutError(110, "Connection timed out")


def test_a_host_that_does_not_answer_is_lost_after_half_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(host_watchdog, "_stop", said.append)
    # Of this process, in which other tests may have run a stage to its end
    monkeypatch.setattr(host_watchdog, "_parted", False)
    monkeypatch.setattr(host_watchdog, "_connections", {})
    host_watchdog._follow(Silent(), "10.0.0.2, b (rank 1)")  # type: ignore[arg-type]
    silence = "has not answered for 30 seconds: the host or its network is down"
    assert said == [f"host 10.0.0.2, b (rank 1) {silence}"]
    with socket.create_server(("127.0.0.1", 0)) as door, socket.create_connection(door.getsockname()) as connection:
        host_watchdog._keep_alive(connection)
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if sys.platform.startswith("linux"):
            options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            assert [connection.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [10, 5, 4]


def test_without_a_checkpoint_it_starts_over(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(host_watchdog.os, "_exit", lambda code: None)
    monkeypatch.setattr(host_watchdog, "_parted", False)
    monkeypatch.setattr(host_watchdog, "_checkpoint", None)
    host_watchdog._stop("host b is gone")
    assert (
        capsys.readouterr().err == "error: host b is gone; start the same command on all hosts again: it starts over\n"
    )


def test_one_host_needs_no_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    host_watchdog.choose_wire()
    host_watchdog.watch()
    assert "GLOO_SOCKET_IFNAME" not in os.environ
    assert host_watchdog._door is None


@pytest.mark.parametrize(("given", "address"), [("eth7", "127.0.0.1"), ("", "127.0.0.1"), ("", "no such host")])
def test_gloos_interface_is_the_users_or_none_that_nobody_else_is_on(
    given: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "1"), ("MASTER_ADDR", address)):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", given)
    host_watchdog.choose_wire()
    assert os.environ["GLOO_SOCKET_IFNAME"] == given

"""Detect lost hosts in multi-node training: report in one line and stop, instead of waiting for a timeout.

A collective waits for a lost host until `ddp_timeout`, 30 minutes by default. So the first rank of each host keeps a
TCP connection to rank 0, separate from gloo or NCCL, which is silent until its end. If a process is killed, the system
closes the connection. If a host is off or disconnected, the system's keepalive ends it; unlike our own heartbeat, it is
not delayed by busy Python code.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

IDLE, EVERY, TRIES = 10, 5, 4  # idle seconds, interval in seconds, probes: a silent host is lost after 30 seconds
_CONNECT = 30.0  # seconds
_HOLD = 5.0  # seconds
_LONGEST = 4096  # bytes of the final message
_BYE = b"bye"  # sent by a host that is done, maybe long before another

_connections: dict[socket.socket, str] = {}  # → the host on the other side
_door: socket.socket | None = None
_parted = False
_speaking = threading.Lock()
_checkpoint: int | None = None


def _close() -> None:
    for connection in [*_connections, *([_door] if _door else [])]:
        connection.close()
    _connections.clear()


# A worker that outlives its process must not keep the connection open. (Programs that are started inherit none.)
os.register_at_fork(after_in_child=_close)


def are_several() -> bool:
    ranks = os.environ.get("WORLD_SIZE", "1")
    return int(ranks) > int(os.environ.get("LOCAL_WORLD_SIZE", ranks))


def choose_wire() -> None:
    """Make gloo use the network interface that leads to rank 0.

    By default it uses the interface of the host's own name, which on many systems is the loopback.
    """
    if not are_several() or os.environ.get("GLOO_SOCKET_IFNAME"):
        return
    import psutil

    with contextlib.suppress(OSError):  # unknown host: connecting the ranks will report it
        family, *_, address = socket.getaddrinfo(os.environ["MASTER_ADDR"], 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)  # sends nothing
            own = probe.getsockname()[0]
        for interface, addresses in psutil.net_if_addrs().items():
            if own in [a.address for a in addresses] and not own.startswith("127."):
                os.environ["GLOO_SOCKET_IFNAME"] = interface


def watch() -> None:
    """Stop this process if another host is lost before `part` is called. Every rank of the group must call this."""
    global _door
    if not are_several():
        return
    from accelerate.utils import broadcast_object_list

    meeting: list[Any] = [0, "", ""]
    if os.environ["RANK"] == "0":
        _door = socket.create_server(("", 0), backlog=1024)
        meeting = [_door.getsockname()[1], secrets.token_hex(8), name()]
    broadcast_object_list(meeting)
    port, token, first = meeting
    if _door:
        _start(_receive, _door, token)
    elif os.environ["LOCAL_RANK"] == "0":
        _start(_visit, port, token, first)


def saved(step: int) -> None:
    """Record the checkpoint from which the same command would resume. The disk may be lost with its host."""
    global _checkpoint
    _checkpoint = step


def part(why: str = "") -> None:
    """Call before this process ends. `why` is the reason for a failure, which the other hosts report, too."""
    global _parted
    _parted = True
    for connection in list(_connections):
        with contextlib.suppress(OSError):
            connection.sendall(why.encode()[:_LONGEST] if why else _BYE)
            connection.shutdown(socket.SHUT_WR)


def hold() -> None:
    """Wait a moment after an error, which may be caused by a lost host: that message should come first."""
    if are_several():
        time.sleep(_HOLD)


def name() -> str:
    """Return this host's name for messages."""
    first, count = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    ranks = f"rank {first}" if count == 1 else f"ranks {first} to {first + count - 1}"
    return f"{socket.gethostname()} ({ranks})"


def _start(work: Callable[..., None], *arguments: Any) -> None:
    threading.Thread(target=work, args=arguments, daemon=True).start()


def _keep_alive(connection: socket.socket) -> None:
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    idle = "TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE"  # as macOS calls it
    for option, value in ((idle, IDLE), ("TCP_KEEPINTVL", EVERY), ("TCP_KEEPCNT", TRIES)):
        connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def _visit(port: int, token: str, first: str) -> None:
    address = os.environ["MASTER_ADDR"]
    try:
        connection = socket.create_connection((address, port), _CONNECT)
        connection.sendall(f"{token} {name()}\n".encode())
    except OSError as error:
        why = error.strerror or error
        print(f"{address}:{port} cannot be reached ({why}): a lost host is only detected after ddp_timeout", flush=True)
        return
    _keep_alive(connection)
    _follow(connection, f"{address}, {first}")


def _receive(door: socket.socket, token: str) -> None:
    while True:
        connection, (address, *_) = door.accept()
        _start(_greet, connection, address, token)


def _greet(connection: socket.socket, address: str, token: str) -> None:
    connection.settimeout(_CONNECT)
    try:
        with connection.makefile("rb", buffering=0) as file:
            given, _, guest = file.readline(_LONGEST).decode(errors="replace").strip().partition(" ")
    except OSError:
        given = guest = ""
    if not hmac.compare_digest(given.encode(), token.encode()):  # a stranger
        connection.close()
        return
    _keep_alive(connection)
    _follow(connection, f"{address}, {guest}")


def _follow(connection: socket.socket, host: str) -> None:
    _connections[connection] = host
    said, lost = b"", "is lost: it was killed, or failed and reports why"
    try:
        while len(said) < _LONGEST and (more := connection.recv(_LONGEST)):
            said += more
    except ConnectionError:
        pass
    except OSError:  # timed out, or no route
        lost = f"has not answered for {IDLE + EVERY * TRIES} seconds: the host or its network is down"
    if said == _BYE or _parted:
        return
    del _connections[connection]
    _stop(said.decode(errors="replace") or f"host {host} {lost}")


def _stop(why: str) -> NoReturn:
    with _speaking:  # report only one of several lost hosts; other threads wait here
        part(why)
        where = "starts over" if _checkpoint is None else f"resumes from checkpoint-{_checkpoint}"
        line = f"error: {why}; start the same command on all hosts again: it {where}"
        print(" ".join(line.split()), file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(1)

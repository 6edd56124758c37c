"""Ranks on several hosts: one that loses another host says so in a line and stops, rather than waiting for it.

A collective waits for a lost host until `ddp_timeout`, 30 minutes by default. So the first rank of each host keeps a
connection to rank 0 beside those of gloo or NCCL, over which nothing is said before its end. Of a process that was
killed the system closes it. Of a host that is off, or cut off, no word comes: there the system's keepalive ends it,
which no busy Python delays, as it would a beat of our own.
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

IDLE, EVERY, TRIES = 10, 5, 4  # seconds, seconds, and how often: after 30 seconds a silent host is lost
_CONNECT = 30.0  # seconds
_HOLD = 5.0  # seconds
_LONGEST = 4096  # bytes of what is said at the end
_BYE = b"bye"  # said by a host that is done, which may be long before another

_connections: dict[socket.socket, str] = {}  # → the host on the other side
_door: socket.socket | None = None
_parted = False
_speaking = threading.Lock()
_checkpoint: int | None = None


def _close() -> None:
    for connection in [*_connections, *([_door] if _door else [])]:
        connection.close()
    _connections.clear()


# A worker that outlives its process must not keep the connection alive. (Programs that are started inherit none.)
os.register_at_fork(after_in_child=_close)


def are_several() -> bool:
    ranks = os.environ.get("WORLD_SIZE", "1")
    return int(ranks) > int(os.environ.get("LOCAL_WORLD_SIZE", ranks))


def choose_wire() -> None:
    """Have gloo take the interface that leads to rank 0.

    It would take that of the host's own name, which many systems give to the loopback, where nobody else is.
    """
    if not are_several() or os.environ.get("GLOO_SOCKET_IFNAME"):
        return
    import psutil

    with contextlib.suppress(OSError):  # no such host: whoever joins the ranks will say so
        family, *_, address = socket.getaddrinfo(os.environ["MASTER_ADDR"], 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)  # sends nothing
            own = probe.getsockname()[0]
        for interface, addresses in psutil.net_if_addrs().items():
            if own in [a.address for a in addresses] and not own.startswith("127."):
                os.environ["GLOO_SOCKET_IFNAME"] = interface


def watch() -> None:
    """Stop this process when another host is lost, from now on until `part`. Every rank calls it, the group joined."""
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
    """Where the same command would go on. It is asked here, as the disk may be gone with its host."""
    global _checkpoint
    _checkpoint = step


def part(why: str = "") -> None:
    """Before this process ends: it is done, or `why` it is not, as the other hosts will say too."""
    global _parted
    _parted = True
    for connection in list(_connections):
        with contextlib.suppress(OSError):
            connection.sendall(why.encode()[:_LONGEST] if why else _BYE)
            connection.shutdown(socket.SHUT_WR)


def hold() -> None:
    """What fails because a host was lost fails in words of its own: give the line about it time to come first."""
    if are_several():
        time.sleep(_HOLD)


def name() -> str:
    """This host, in messages."""
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
    if not hmac.compare_digest(given.encode(), token.encode()):  # somebody else
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
    except OSError:  # timed out, or no way leads there
        lost = f"has not answered for {IDLE + EVERY * TRIES} seconds: the host or its network is down"
    if said == _BYE or _parted:
        return
    del _connections[connection]
    _stop(said.decode(errors="replace") or f"host {host} {lost}")


def _stop(why: str) -> NoReturn:
    with _speaking:  # one of several that are lost; the others wait here until the end
        part(why)
        where = "starts over" if _checkpoint is None else f"resumes from checkpoint-{_checkpoint}"
        line = f"error: {why}; start the same command on all hosts again: it {where}"
        print(" ".join(line.split()), file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(1)

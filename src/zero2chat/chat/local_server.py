"""What page and server share: a local port. On a loopback address, it only accepts this machine's own host names."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

from zero2chat.core.errors import UserError


def take_own_names(app: Any, address: str) -> None:
    """If `address` is a loopback address, make the Starlette application reject other host names."""
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    if ipaddress.ip_address(address).is_loopback:
        # Otherwise a website whose name resolves to this machine (DNS rebinding) could talk to the model.
        names = ["localhost", "127.0.0.1", "::1", "[::1]", address]
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=names)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 picks a free port. Raises `UserError` if the address is not available."""
    try:
        family, *_, address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server((address[0], port), family=family)
    except (OSError, OverflowError, UnicodeError) as error:  # UnicodeError: a host name with an empty part
        reason = str(getattr(error, "strerror", None) or error).split(" (while")[0]
        raise UserError(
            f"port {port} of {host} is not available ({reason}): give another --port, or 0 to pick a free port"
        ) from error


def run(app: Any, listener: socket.socket, shown: str, **options: Any) -> None:
    """Print `shown` with the address filled in, then serve until Ctrl-C. `options` are uvicorn's."""
    import uvicorn

    address, port = listener.getsockname()[:2]
    print(shown.format(f"http://{f'[{address}]' if ':' in address else address}:{port}"), flush=True)
    # Streams that are still open at Ctrl-C, such as a tab's heartbeat, are closed.
    uvicorn.Server(uvicorn.Config(app, timeout_graceful_shutdown=1, **options)).run(sockets=[listener])

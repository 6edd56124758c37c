"""What stands between the network and the page, or the server: a port of this machine, which on loopback answers to its
own names alone; and, before the page, a door that takes what the page sends."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

from zero2chat.errors import UserError

_BODY = 64 * 1024  # bytes of a request

# All that the page asks of Gradio's own interface; uploads, links to a state and the like are not there.
_CALLS = {"queue/join", "queue/data", "heartbeat", "info", "startup-events", "app_id"}
_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'"
)


class Guard:
    """Around the server: requests are small and to known places, and the page loads nothing from elsewhere."""

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        call = scope["path"].removeprefix("/gradio_api/")
        known = call in _CALLS or (call == scope["path"] and scope["method"] in ("GET", "HEAD"))
        known = known or call.startswith("heartbeat/")
        if not known or b"transfer-encoding" in headers or not length.isdigit() or int(length) > _BODY:
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body"})
            return

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                policy = [(b"content-security-policy", _POLICY.encode()), (b"referrer-policy", b"no-referrer")]
                message = {**message, "headers": [*message.get("headers", []), *policy]}
            await send(message)

        await self.app(scope, receive, guarded)


def take_own_names(app: Any, address: str) -> None:
    """Have an ASGI application of Starlette's, at a loopback address, answer to no name but this machine's."""
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    if ipaddress.ip_address(address).is_loopback:
        # Else a page of somebody's, whose name is made to mean this machine, could talk to the model.
        names = ["localhost", "127.0.0.1", "::1", "[::1]", address]
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=names)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises `UserError` where it cannot be had."""
    if not 0 <= port < 65536:
        raise UserError(f"port: {port} is out of range: give 0 (picks a free port) to 65535")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        reason = str(error.strerror).split(" (while")[0]
        raise UserError(
            f"port {port} of {host} is not available ({reason}): give another --port, or 0 to pick a free port"
        ) from error

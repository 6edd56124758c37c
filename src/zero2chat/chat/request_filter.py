"""Protection of the page and the server: a local port that, on loopback, only answers to this machine's own names, and
a filter that only accepts the page's own requests."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

from zero2chat.core.errors import UserError

_BODY = 64 * 1024  # bytes of a request

# The parts of Gradio's API that the page uses. Uploads, state links and others are blocked.
_CALLS = {"queue/join", "queue/data", "heartbeat", "info", "startup-events", "app_id"}
_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'"
)


class Guard:
    """ASGI middleware: requests must be small and to known paths, and the page loads nothing from other hosts."""

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
    """Make a Starlette application at a loopback address reject other host names."""
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    if ipaddress.ip_address(address).is_loopback:
        # Otherwise a website whose name resolves to this machine (DNS rebinding) could talk to the model.
        names = ["localhost", "127.0.0.1", "::1", "[::1]", address]
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=names)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises `UserError` if the address is not available."""
    if not 0 <= port < 65536:
        raise UserError(f"port: {port} is out of range: give 0 (picks a free port) to 65535")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family)
    except (OSError, UnicodeError) as error:  # UnicodeError: a host name with an empty part
        reason = str(getattr(error, "strerror", None) or "not a host name").split(" (while")[0]
        raise UserError(
            f"port {port} of {host} is not available ({reason}): give another --port, or 0 to pick a free port"
        ) from error

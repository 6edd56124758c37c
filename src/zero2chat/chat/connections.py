"""Request handling of `zero2chat serve`: limits on time and size, and abort when the client disconnects.

A client that sends an incomplete request blocks a connection slot; it is disconnected after `PATIENCE` seconds.
Generation stops if its client disconnects.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from contextvars import ContextVar
from typing import Any

from starlette.responses import JSONResponse
from uvicorn.protocols.http.h11_impl import H11Protocol

LONGEST_REQUEST = 1 << 20  # bytes of a request
PATIENCE = 5.0  # seconds for the head, and as many for the body

# For the request that is being answered: set when its client disconnects.
client_gone: ContextVar[threading.Event] = ContextVar("client_gone")


class Connection(H11Protocol):
    """uvicorn's connection, which waits for a request head no longer than `PATIENCE`."""

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait_for_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting:
            self._waiting.cancel()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        if self._waiting:
            self._waiting.cancel()
        self._waiting = self.loop.call_later(PATIENCE, self._give_up)

    def _give_up(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


class WholeRequests:
    """Reads the complete request first, and rejects one that is too long (whatever its headers say) or too slow.
    Afterwards it watches for the client's disconnect."""

    def __init__(self, app: Any):
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body, more = b"", True
        try:
            async with asyncio.timeout(PATIENCE):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return
                    body, more = body + message.get("body", b""), message.get("more_body", False)
                    if len(body) > LONGEST_REQUEST:
                        told = refusal(413, f"the request is longer than {LONGEST_REQUEST} bytes")
                        await told(scope, receive, send)
                        return
        except TimeoutError:
            told = refusal(408, f"the request is incomplete after {PATIENCE:g} seconds")
            told.headers["connection"] = "close"
            await told(scope, receive, send)
            return
        try:
            body.decode()
        except UnicodeDecodeError as error:
            told = refusal(400, f"the request is not UTF-8: byte {error.start} is 0x{body[error.start]:02x}")
            await told(scope, receive, send)
            return
        await self._answer(scope, body, receive, send)

    async def _answer(self, scope: Any, body: bytes, receive: Any, send: Any) -> None:
        gone, left = threading.Event(), asyncio.Event()
        client_gone.set(gone)

        async def look_out() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            gone.set()
            left.set()

        told = [{"type": "http.request", "body": body}]

        async def again() -> Any:
            if told:
                return told.pop()
            await left.wait()
            return {"type": "http.disconnect"}

        watch = asyncio.create_task(look_out())
        try:
            await self._app(scope, again, send)
        finally:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch


def refusal(status: int, why: str) -> JSONResponse:
    """Return an error in the format that OpenAI clients display."""
    why = why.encode("utf-8", "replace").decode()  # it may quote half a surrogate pair
    return JSONResponse({"error": {"message": why, "type": "invalid_request_error"}}, status)

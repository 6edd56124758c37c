"""A server on this machine whose replies a test decides. The fixture `serve` starts it."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server(ThreadingHTTPServer):
    """Records each request's path, key and JSON body, and gives its handler and body to `says`, which replies."""

    daemon_threads = True

    def __init__(self, says: Callable[[Handler, dict[str, Any]], object]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.says = says
        self.asked: list[dict[str, Any]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
        self.server.asked.append({"path": self.path, "key": self.headers.get("Authorization"), **body})
        self.server.says(self, body)

    do_POST = do_GET

    def give(self, body: str | bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode() if isinstance(body, str) else body)

    def give_choice(self, message: dict[str, Any], finish_reason: str = "stop") -> None:
        """Reply as OpenAI's API does."""
        choice = {"message": {"role": "assistant"} | message, "finish_reason": finish_reason}
        self.give(json.dumps({"choices": [choice]}))

    def log_message(self, *_: Any) -> None:
        pass

"""Client for an OpenAI-compatible API, with limits on time and size. Messages never contain the key."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Annotated, Any
from urllib.parse import SplitResult

import httpx2

from zero2chat.config import Refuse
from zero2chat.errors import UserError
from zero2chat.text import http_address
from zero2chat.tools.bounded_http import fetch, reason

_LARGEST_REPLY = 1_000_000  # bytes; a longer one is not a chat completion
_REFUSED = (401, 403, 404, 405)  # every request would fail
_UNREAD = (400, 413, 422)  # this request would fail again


class NoReply(Exception):
    """The endpoint did not answer a request; the text says why. `unread`: it rejects this request, but may accept
    others."""

    def __init__(self, reason: str, unread: bool = False):
        super().__init__(reason)
        self.unread = unread


class Endpoint:
    """`url` is the base URL, such as http://localhost:8000/v1, and `key_variable` the environment variable with the
    key. A request has `timeout` seconds per attempt, and `retries` further attempts. `who` is used in messages."""

    def __init__(self, who: str, url: Any, key_variable: str | None = None, timeout: float = 60.0, retries: int = 2):
        """Raises `UserError` for invalid settings. No part of a bad URL is shown: it may hold a secret."""
        self.who, self.key_variable, self.timeout, self.retries = who, key_variable, timeout, retries
        parts = http_address(url)
        if parts is None:
            raise UserError(f"{who}: url is not an http URL: set the endpoint's base, such as http://localhost:8000/v1")
        if "@" in parts.netloc:
            raise UserError(f"{who}: url contains a user name or password: set key_variable instead")
        self._parts: SplitResult = parts._replace(path=parts.path.rstrip("/") + "/chat/completions", fragment="")
        if not isinstance(timeout, int | float) or not isfinite(timeout) or timeout < 0.1:
            raise UserError(f"{who}: timeout: expected 0.1 seconds or more, got {timeout!r}")
        if not isinstance(retries, int) or retries < 0:
            raise UserError(f"{who}: retries: expected an integer of 0 or more, got {retries!r}")

    def __str__(self) -> str:
        """Return scheme, host and path, without the query, which may hold a key."""
        return self._parts._replace(query="").geturl()

    def headers(self) -> dict[str, str]:
        """Return the headers. Raises `UserError` if the key is missing."""
        headers = {"Content-Type": "application/json"}
        if self.key_variable is not None:
            if not os.environ.get(self.key_variable):
                raise UserError(
                    f"{self.who}: the environment variable {self.key_variable} is not set: set it to the API key"
                )
            headers["Authorization"] = f"Bearer {os.environ[self.key_variable]}"
        return headers

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request and return the first of the reply's `choices`, whose `message` is a mapping with `content`.

        Raises `NoReply` if the last attempt fails, and `UserError` if the endpoint would refuse every request. Errors
        never contain the request, which holds the key.
        """
        url, headers, body, why = self._parts.geturl(), self.headers(), json.dumps(request).encode(), ""
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(min(0.5 * 2 ** (attempt - 1), 8))
            try:
                status, reply = fetch(
                    "POST", url, headers, body, seconds=self.timeout, largest=_LARGEST_REPLY, proxies=True
                )
            except httpx2.HTTPError as error:
                why = reason(error)
                continue
            if status in _REFUSED or 300 <= status < 400:
                raise UserError(f"{self.who}: {self} answers {status}: check url, model and key")
            if status in _UNREAD:
                raise NoReply(f"it answers {status}", unread=True)
            why = f"it answers {status}"
            if 200 <= status < 300:
                try:
                    choice: dict[str, Any] = json.loads(reply)["choices"][0]
                    choice["message"].keys()
                    choice["message"]["content"]
                    return choice
                except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
                    why = "the reply is not a chat completion"
        raise NoReply(why)


@dataclass
class EndpointSpec:
    """A YAML's `endpoint:`, used as `<url>/chat/completions`."""

    url: str | None = None
    model: str | None = None
    key_variable: str | None = field(default=None, metadata={"help": "Environment variable with the API key."})
    timeout: float = 600.0  # seconds per attempt
    retries: int = 3
    at_once: Annotated[int, Refuse("not above 0")] = 8  # requests

    def __post_init__(self) -> None:
        if not self.model:
            raise ValueError("model is not set: set it to the model's name at the endpoint")
        self.open()

    def open(self) -> Endpoint:
        return Endpoint("endpoint", self.url, self.key_variable, self.timeout, self.retries)

"""Client for an OpenAI-compatible API, with limits on time and size. Error messages never contain the key."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

import httpx2

from zero2chat.core.config import Range
from zero2chat.core.errors import UserError
from zero2chat.tools.bounded_http import fetch, reason

_LARGEST_REPLY = 1_000_000  # bytes; a longer one is not a chat completion
_REFUSED = (401, 403, 404, 405)  # every request would fail
_UNREAD = (400, 413, 422)  # this request would fail again


def _http_address(url: Any) -> SplitResult | None:
    """Return the parts of an http URL, or None if it is invalid."""
    try:
        parts = urlsplit(url if isinstance(url, str) and re.fullmatch("[!-~]+", url) else "")
        return parts if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 else None
    except ValueError:
        return None


class NoReply(Exception):
    """The endpoint did not answer a request; the text says why. `unread`: the endpoint rejected this request, but may
    accept others."""

    def __init__(self, why: str, unread: bool = False):
        super().__init__(why)
        self.unread = unread


@dataclass
class Endpoint:
    """An API at `<url>/chat/completions`, as a YAML's `endpoint:` or `judge:` sets it."""

    url: str | None = None  # the base URL, such as http://localhost:8000/v1
    model: str | None = None
    key_variable: str | None = field(default=None, metadata={"help": "Environment variable with the API key."})
    timeout: float = 600.0  # seconds per attempt
    retries: int = 3  # further attempts per request
    at_once: Annotated[int, Range(min=1)] = 8  # requests

    def __post_init__(self) -> None:
        """Raises `ValueError` for invalid settings. Messages show no part of a bad URL, which may hold a secret."""
        if not self.model:
            raise ValueError("model is not set: give the model's name at the endpoint")
        parts = _http_address(self.url)
        if parts is None:
            raise ValueError("url is not an http URL: give the endpoint's base URL, such as http://localhost:8000/v1")
        if "@" in parts.netloc:
            raise ValueError("url contains a user name or password: set key_variable instead")
        self._parts: SplitResult = parts._replace(path=parts.path.rstrip("/") + "/chat/completions", fragment="")
        if not isinstance(self.timeout, int | float) or not isfinite(self.timeout) or self.timeout < 0.1:
            raise ValueError(f"timeout: expected 0.1 seconds or more, got {self.timeout!r}")
        if not isinstance(self.retries, int) or self.retries < 0:
            raise ValueError(f"retries: expected an integer of 0 or more, got {self.retries!r}")

    def __str__(self) -> str:
        """Return scheme, host and path, without the query, which may hold a key."""
        return self._parts._replace(query="").geturl()

    def headers(self) -> dict[str, str]:
        """Return the headers. Raises `UserError` if the key is missing or malformed."""
        headers = {"Content-Type": "application/json"}
        if self.key_variable is not None:
            if not os.environ.get(self.key_variable):
                raise UserError(
                    f"endpoint: the environment variable {self.key_variable} is not set: set it to the API key"
                )
            if not re.fullmatch("[!-~]+", os.environ[self.key_variable]):  # an error of the client would show it
                raise UserError(
                    f"endpoint: the environment variable {self.key_variable} has a space, a line end or another "
                    "character that no API key has: set it again"
                )
            headers["Authorization"] = f"Bearer {os.environ[self.key_variable]}"
        return headers

    def ask(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> dict[str, Any]:
        """Send a request and return the first of the reply's `choices`. Its `message` is a mapping with `content`.

        Raises `NoReply` if the last attempt fails, and `UserError` if the endpoint would refuse every request. Errors
        never contain the request, which holds the key.
        """
        url, headers, why = self._parts.geturl(), self.headers(), ""
        body = json.dumps({"model": self.model, "messages": messages, **options}).encode()
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(min(0.5 * 2 ** (attempt - 1), 8))
            try:
                status, reply = fetch("POST", url, headers, body, seconds=self.timeout, largest=_LARGEST_REPLY)
            except httpx2.HTTPError as error:
                why = reason(error)
                continue
            if status in _REFUSED or 300 <= status < 400:
                raise UserError(f"endpoint: {self} answered with status {status}: check url, model and key")
            if status in _UNREAD:
                raise NoReply(f"it answered {status}", unread=True)
            why = f"it answered {status}"
            if 200 <= status < 300:
                try:
                    choice: dict[str, Any] = json.loads(reply)["choices"][0]
                    choice["message"].keys()
                    choice["message"]["content"]
                    return choice
                except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
                    why = "the reply is not a chat completion"
        raise NoReply(why)

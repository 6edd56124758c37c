"""Web search with SearXNG's JSON API (`search?q=…&format=json`), which its settings must allow.

The URL is set by the user; replies are untrusted. The total time is limited, also for a server that sends single bytes
slowly, and so is the size of replies. From the environment only OpenSSL's certificates are used: no proxy, and no
password of another program. Redirects are not followed.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import Any
from urllib.parse import parse_qsl, urlencode

import httpx2

from zero2chat.core.errors import UserError
from zero2chat.core.text import http_address
from zero2chat.tools.bounded_http import fetch, reason
from zero2chat.tools.search_types import Passage, SearchFailed

SECONDS = 10.0  # in total per query
LARGEST = 2_000_000  # bytes per reply


class SearXNG:
    """SearXNG at `url`: its base URL, such as http://localhost:8888, or its page /search. Query parameters in the URL
    (`?language=en&engines=wikipedia`) are kept."""

    def __init__(self, url: str, seconds: float = SECONDS):
        """Raises `UserError`, which contains no part of the URL: it may hold a secret."""
        parts = http_address(url)
        if parts is None:
            raise UserError("search: not an http URL: give SearXNG's base URL, such as http://localhost:8888")
        if "@" in parts.netloc:
            raise UserError("search: the URL contains a user name or password, which each query would send: remove it")
        path = parts.path.rstrip("/")
        self.parts = parts._replace(path=path if path.endswith("/search") else path + "/search")
        self.seconds = seconds

    def find(self, query: str, n: int) -> list[Passage]:
        """See `zero2chat.tools.search_types.Engine`. A passage is a result's title and excerpt."""
        try:
            reply = json.loads(self._ask(query))
            passages = [passage for passage in map(_passage, reply["results"]) if passage.text]
            silent = not passages and reply.get("unresponsive_engines")
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
            raise SearchFailed("The search failed: the reply is not SearXNG's JSON.") from None
        if silent:
            raise SearchFailed("The search failed: the engines that it asks have not answered.")
        return passages[:n]

    def _ask(self, query: str) -> bytes:
        asked = dict(parse_qsl(self.parts.query)) | {"q": query, "format": "json"}
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "zero2chat"}
        url = self.parts._replace(query=urlencode(asked), fragment="").geturl()
        try:
            status, body = fetch("GET", url, headers, seconds=self.seconds, largest=LARGEST)
        except httpx2.TimeoutException:
            raise SearchFailed(f"The search failed: no whole reply within {self.seconds:g} seconds.") from None
        except httpx2.ProtocolError:
            raise SearchFailed("The search failed: the reply is not HTTP.") from None
        except httpx2.HTTPError as error:
            raise SearchFailed(f"The search failed: no connection ({reason(error)}).") from None
        if status != 200:
            raise SearchFailed(f"The search failed: the server answers {status}{_HINTS.get(status, '')}.")
        if len(body) > LARGEST:
            raise SearchFailed(f"The search failed: the reply has over {LARGEST:,} bytes.")
        return body


_HINTS = {
    403: " (are `formats: [html, json]` allowed in SearXNG's settings?)",
    429: " (too many requests)",
} | dict.fromkeys((301, 302, 303, 307, 308), ", a redirect, which is not followed")


def _passage(result: Any) -> Passage:
    """Convert a result. Raises `TypeError` or `AttributeError` if it is invalid. Missing or null parts are empty."""
    title, excerpt, url = (result.get(key) or "" for key in ("title", "content", "url"))
    text = "\n".join(part.strip() for part in (title, excerpt) if part.strip())
    score = result.get("score")
    known = isinstance(score, int | float) and isfinite(score)
    return Passage(text, url.strip(), float(score) if known else 0.0)

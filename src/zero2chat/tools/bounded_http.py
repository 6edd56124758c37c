"""One HTTP request with a limit on its total time and on the size of the reply."""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import Mapping
from functools import cache

import httpx2

from zero2chat.tools.environments import bounded

# Its lines of level INFO show each URL, whose query may hold a key.
logging.getLogger("httpx2").setLevel(logging.WARNING)
_ssl_context = cache(ssl.create_default_context)  # OpenSSL's certificates, as set in the environment


def fetch(
    method: str,
    url: str,
    headers: Mapping[str, str],
    content: bytes | None = None,
    *,
    seconds: float,
    largest: int,
) -> tuple[int, bytes]:
    """Send a request; return the status, and the body if the status is a success. Redirects are not followed.

    The body is read until it has more than `largest` bytes. If the connection breaks, the received part is returned.
    Proxies set in the environment are used. Raises `httpx2.HTTPError`; after `seconds`, it is a `TimeoutException`.
    """
    client = httpx2.Client(timeout=seconds, verify=_ssl_context())

    def send() -> tuple[int, bytes]:
        request = httpx2.Request(method, url, headers=headers, content=content)
        response = client.send(request, stream=True)
        body = bytearray()
        with contextlib.suppress(httpx2.RemoteProtocolError):
            for piece in response.iter_raw() if response.is_success else ():
                body += piece
                if len(body) > largest:
                    break
        return response.status_code, bytes(body)

    try:
        # The client's own timeout restarts with each byte, and looking up a name has none.
        return bounded(send, seconds)
    except TimeoutError:
        raise httpx2.TimeoutException("timed out") from None
    except (httpx2.InvalidURL, UnicodeError):
        raise httpx2.ConnectError("the host's name is invalid") from None
    finally:
        client.close()  # closing the connection ends a thread that still reads


def reason(error: httpx2.HTTPError) -> str:
    """Return why a request failed, without error numbers: "Connection refused"."""
    return str(error).rpartition("] ")[2] or type(error).__name__

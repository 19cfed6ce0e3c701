"""HTTP with retry_policy: a request is made again while the server is busy or out of reach, a few times.

A request that carries a key is never sent on to another address: redirects of a POST are refused.
"""

import http.client
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from featgraph.errors import UsageError

MOST_BYTES = 256 * 2**20
"""Of one answer; an answer that is larger is none that we asked for."""

_PASSING = {408, 409, 425, 429, 500, 502, 503, 504, 529}
"""Status codes after which the same request may succeed. Source: RFC 9110, RFC 6585; 529 is "overloaded"."""

_LONGEST_WAIT = 60.0


class Unreachable(Exception):
    """A server was out of reach or busy at every try."""


class Refused(Exception):
    """A server answered that the request is wrong."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}" if message else str(status))
        self.status, self.message = status, message


@dataclass(frozen=True)
class RetryPolicy:
    """How long one request is tried."""

    timeout: float = 60.0
    """Seconds without a sign of the server."""
    tries: int = 5
    first_wait: float = 1.0
    """Seconds before the second try, twice as many before each next one; or what the server asks for."""
    stop: threading.Event = field(default_factory=threading.Event)
    """When it is set, no further try is made."""


def checked_url(url: str) -> str:
    """Return an http(s) address without its last slash.

    Raises UsageError: it is none, or holds a password or a key, which would be written down with it.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{url!r} is no address; write http://HOST... or https://HOST...")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        bare = f"{parts.scheme}://{parts.hostname}{parts.path}"
        raise UsageError(f"the address of {parts.hostname} may hold no user, password or query; write {bare}")
    return url.rstrip("/")


def fetch(request: urllib.request.Request, retry_policy: RetryPolicy) -> bytes:
    """Return what a server answers.

    Raises Refused: it does not want the request. Unreachable: it could not be had in all the tries.
    """
    opener = _STRAIGHT if request.get_method() == "POST" else urllib.request.build_opener()
    wait, fault = retry_policy.first_wait, ""
    for left in range(retry_policy.tries - 1, -1, -1):
        pause = wait
        try:
            with opener.open(request, timeout=retry_policy.timeout) as answer:
                body: bytes = answer.read(MOST_BYTES)
                return body
        except urllib.error.HTTPError as error:
            with error:
                fault = f"{error.code} {error.reason}"
                if error.code not in _PASSING:
                    raise Refused(error.code, _said(error)) from error
                pause = _asked_wait(error, wait)
        except (OSError, http.client.HTTPException) as error:
            fault = str(getattr(error, "reason", "") or error) or type(error).__name__
        if not left or retry_policy.stop.wait(pause):
            break
        wait *= 2
    raise Unreachable(fault)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Makes of every redirect an error."""

    def redirect_request(self, *_: Any) -> None:
        """Answer no request."""


_STRAIGHT = urllib.request.build_opener(_NoRedirect)


def _asked_wait(error: urllib.error.HTTPError, otherwise: float) -> float:
    """Return the seconds that the server asks us to wait, at most a minute; a date counts as nothing said."""
    try:
        return min(max(float(error.headers.get("Retry-After", "")), 0.0), _LONGEST_WAIT)
    except ValueError:
        return min(otherwise, _LONGEST_WAIT)


def _said(error: urllib.error.HTTPError) -> str:
    """Return the beginning of what a server says of its refusal, on one line."""
    try:
        text = error.read(2000).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return str(error.reason)
    return " ".join(text.split())[:300] or str(error.reason)

"""HTTP that tries again: a request is repeated while the server is busy or out of reach, a few times.

httpx and tenacity are imported by the first request. A request with a body, which may carry a key, is never
sent on to another address: its redirects are refused.
"""

import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from featgraph.errors import UsageError

if TYPE_CHECKING:
    import httpx
    import tenacity

MAX_BYTES = 256 * 2**20
"""Most bytes of one response. Our choice; a bulk file of 1,024 explanations has less than 1 MB."""

_RETRIED = {408, 409, 425, 429, 500, 502, 503, 504, 529}
"""Status codes after which the same request may succeed. Source: RFC 9110, RFC 6585; 529 is "overloaded"."""

_LONGEST_WAIT = 60.0


class Unreachable(Exception):
    """A server could not be reached, or was busy, at every try."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        """retry_after: seconds that the server asks us to wait; None if it does not."""
        super().__init__(message)
        self.retry_after = retry_after


class Refused(Exception):
    """A server rejected the request, or its response cannot be used."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}" if message else str(status))
        self.status, self.message = status, message


@dataclass(frozen=True)
class RetryPolicy:
    """How often and for how long to retry a request."""

    timeout: float = 60.0
    """Seconds without data after which a try fails."""
    tries: int = 5
    first_wait: float = 1.0
    """Seconds before the second try, doubled before each next one, unless the server asks for another
    wait."""
    stop: threading.Event = field(default_factory=threading.Event)
    """Event that ends the retries."""


def checked_url(url: str) -> str:
    """Return an http(s) address without its last slash.

    Raises UsageError: not a web address, or one with a password or key, which would be stored.
    """
    import httpx

    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise UsageError(
            f"{url!r} is not a web address: {error}; write http://HOST... or https://HOST..."
        ) from error
    if parts.scheme not in ("http", "https") or not parts.host:
        raise UsageError(f"{url!r} is not a web address; write http://HOST... or https://HOST...")
    if parts.userinfo or parts.query or parts.fragment:
        bare = parts.copy_with(username=None, password=None, query=None, fragment=None)
        raise UsageError(f"the address of {parts.host} may hold no user, password or query; write {bare}")
    return url.rstrip("/")


def fetch(
    url: str,
    retry_policy: RetryPolicy,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """Return the response to a GET, or to a POST if there is a body.

    Raises Refused: the server rejects the request, or the response is too large.
    Unreachable: no response in any try.
    """
    import tenacity

    def wait(seconds: float) -> None:
        if retry_policy.stop.wait(seconds):
            raise Unreachable("it was stopped between two tries")

    repeated = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(Unreachable),
        stop=tenacity.stop_after_attempt(retry_policy.tries),
        wait=_Wait(tenacity.wait_exponential(retry_policy.first_wait, max=_LONGEST_WAIT)),
        sleep=wait,
        reraise=True,
    )
    return repeated(_try, url, retry_policy.timeout, body, headers or {})


@dataclass(frozen=True)
class _Wait:
    """The wait before the next try: as the server asked, else as `otherwise` computes."""

    otherwise: "tenacity.wait.wait_base"

    def __call__(self, state: "tenacity.RetryCallState") -> float:
        failure = state.outcome.exception() if state.outcome else None
        asked = failure.retry_after if isinstance(failure, Unreachable) else None
        return self.otherwise(state) if asked is None else asked


def _try(url: str, timeout: float, body: bytes | None, headers: Mapping[str, str]) -> bytes:
    import httpx

    try:
        with httpx.stream(
            "GET" if body is None else "POST",
            url,
            content=body,
            headers={"Accept-Encoding": "identity", **headers},
            follow_redirects=body is None,
            timeout=timeout,
            verify=_certificates(),
        ) as response:
            if response.is_success:
                return _content(response)
            reason = response.reason_phrase
            if response.status_code in _RETRIED:
                raise Unreachable(f"{response.status_code} {reason}".strip(), _retry_after(response))
            raise Refused(response.status_code, _beginning(response) or reason)
    except httpx.TransportError as error:
        raise Unreachable(str(error) or type(error).__name__) from error
    except httpx.TooManyRedirects as error:
        raise Refused(302, "too many redirects") from error


@cache
def _certificates() -> ssl.SSLContext:
    """Return the system's certificates, cached because reading them is slower than most requests."""
    return ssl.create_default_context()


def _content(response: "httpx.Response") -> bytes:
    """Return the raw bytes: a compressed file stays compressed."""
    parts: list[bytes] = []
    n_bytes = 0
    for part in response.iter_raw():
        n_bytes += len(part)
        if n_bytes > MAX_BYTES:
            raise Refused(response.status_code, f"its answer is larger than {MAX_BYTES >> 20} MB")
        parts.append(part)
    return b"".join(parts)


def _retry_after(response: "httpx.Response") -> float | None:
    """Return the seconds of the header Retry-After, at most 60; None if it is absent or a date."""
    try:
        seconds = float(response.headers.get("Retry-After", ""))
    except ValueError:
        return None
    return min(seconds, _LONGEST_WAIT) if seconds >= 0 else None


def _beginning(response: "httpx.Response") -> str:
    """Return the beginning of the server's error message, on one line."""
    import httpx

    try:
        text = next(response.iter_raw(2000), b"").decode(errors="replace")
    except httpx.TransportError:
        return ""
    return " ".join(text.split())[:300]

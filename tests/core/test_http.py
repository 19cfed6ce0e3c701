"""HTTP that tries again, against a server on this machine."""

from collections.abc import Iterator

import pytest

from featgraph.core import http
from featgraph.core.http import Refused, RetryPolicy, Unreachable, checked_url, fetch
from featgraph.errors import UsageError
from helpers.label_server import Reply, Stub, serving

QUICK = RetryPolicy(timeout=30, tries=3, first_wait=0.001)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(lambda _: Reply(body=b"whole")) as stub:
        yield stub


def test_a_request_is_repeated_while_the_server_is_busy(server: Stub) -> None:
    server.queued += [Reply(503), Reply(429, headers={"Retry-After": "0.001"})]
    assert fetch(server.url, QUICK) == b"whole"
    assert len(server.asked) == 3


def test_the_last_failure_is_told(server: Stub) -> None:
    server.rule = lambda _: Reply(503)
    with pytest.raises(Unreachable, match=r"^503 Service Unavailable$"):
        fetch(server.url, QUICK)
    assert len(server.asked) == 3


def test_a_refusal_is_not_repeated_and_says_why(server: Stub) -> None:
    server.rule = lambda _: Reply(400, b"wrong\n  model")
    with pytest.raises(Refused, match=r"^400: wrong model$"):
        fetch(server.url, QUICK)
    assert len(server.asked) == 1


def test_no_try_is_made_once_it_is_stopped(server: Stub) -> None:
    policy = RetryPolicy(tries=5, first_wait=60)
    policy.stop.set()
    server.rule = lambda _: Reply(503)
    with pytest.raises(Unreachable):
        fetch(server.url, policy)
    assert len(server.asked) == 1


def test_a_get_follows_a_redirect_and_a_post_does_not(server: Stub) -> None:
    with serving(lambda _: Reply(body=b"moved")) as other:
        server.rule = lambda _: Reply(302, headers={"Location": f"{other.url}/new"})
        assert fetch(server.url, QUICK) == b"moved"
        with pytest.raises(Refused, match="302"):
            fetch(server.url, QUICK, body=b"{}", headers={"Authorization": "Bearer secret"})
        assert [asked.method for asked in other.asked] == ["GET"]


def test_redirects_in_a_circle_are_refused(server: Stub) -> None:
    server.rule = lambda _: Reply(302, headers={"Location": server.url})
    with pytest.raises(Refused, match="too many redirects"):
        fetch(server.url, QUICK)


def test_an_answer_too_large_is_refused(server: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_BYTES", 2**20)
    server.rule = lambda _: Reply(body=b"x" * (2**20 + 1))
    with pytest.raises(Refused, match="its answer is larger than 1 MB"):
        fetch(server.url, QUICK)


def test_a_zipped_file_stays_zipped(server: Stub) -> None:
    server.rule = lambda _: Reply(body=b"\x1f\x8bzip", headers={"Content-Encoding": "gzip"})
    assert fetch(server.url, QUICK) == b"\x1f\x8bzip"


@pytest.mark.parametrize("url", ["host/v1", "ftp://host", "http://", "http://host:port", "http://host/\n"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="is not a web address"):
        checked_url(url)


@pytest.mark.parametrize(
    "url", ["https://me:word@host/v1", "https://host/v1?key=word", "https://host/v1#word"]
)
def test_an_address_holds_no_secret(url: str) -> None:
    with pytest.raises(UsageError, match=r"write https://host/v1$") as caught:
        checked_url(url)
    assert "word" not in str(caught.value).replace("password", "")

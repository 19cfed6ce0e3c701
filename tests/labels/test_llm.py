"""Labels by a language model, with a local server: requests, and labels from its answers."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner

import featgraph
from featgraph.cli import app
from featgraph.errors import QueryError, SourceError, UsageError
from featgraph.labels import Endpoint, Labelled, RetryPolicy, from_llm, key_from, llm
from helpers.label_server import Asked, Reply, Stub, chat, serving
from helpers.labelled import Label, labels
from helpers.repository import ROOT
from helpers.toy import LABELS, ids

KEY = "sk-very-secret-0123456789"

SHOWN = ["0/res/0", "1/mlp/0", "1/res/0", "1/res/3", "2/res/0"]
"""Features of the toy that have examples, in order of their ids."""


@pytest.fixture
def server() -> Iterator[Stub]:
    with serving(lambda _: chat("Words for rain.")) as stub:
        yield stub


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def endpoint(server: Stub, key: str | None = None, **retry_policy: Any) -> Endpoint:
    settings = {"timeout": 5.0, "tries": 3, "first_wait": 0.001, **retry_policy}
    return Endpoint(f"{server.url}/v1", "tiny", key, RetryPolicy(**settings))


def ask(toy_copy: Path, server: Stub, **options: Any) -> Labelled:
    return from_llm(toy_copy, endpoint(server), **{"concurrency": 1, **options})


def made(*keys: str, text: str = "Words for rain", source: str = "llm:tiny") -> list[Label]:
    return [(key, source, text) for key in keys]


# ---- what is asked, and of what


@pytest.mark.thorough
def test_features_with_examples_are_labelled(toy_copy: Path, server: Stub) -> None:
    done = ask(toy_copy, server)
    assert labels(toy_copy) == made(*SHOWN)
    assert [(each.source, each.n) for each in done.added] == [("llm:tiny", 5)]
    assert done.left_out == ["31 features without examples"]


def test_a_request_follows_the_protocol(toy_copy: Path, server: Stub) -> None:
    from_llm(toy_copy, endpoint(server, KEY), where="key = '1/res/0'")
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/v1/chat/completions")
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert set(asked.json) == {"model", "messages"}
    assert asked.json["model"] == "tiny"
    assert [message["role"] for message in asked.json["messages"]] == ["system", "user"]


def test_without_a_key_none_is_sent(toy_copy: Path, server: Stub) -> None:
    ask(toy_copy, server, limit=1)
    assert "authorization" not in server.asked[0].headers


def test_the_question_holds_the_examples_marked_and_the_tokens(toy_copy: Path, server: Stub) -> None:
    with duckdb.connect(str(toy_copy / "graph.duckdb")) as connection:
        connection.execute(
            "insert into example values (?, 2, 2.0, 0, ['x', ' y'], [2.0, 0.0])", [ids()["1/res/0"]]
        )
    ask(toy_copy, server, where="key = '1/res/0'")
    assert server.asked[0].question.splitlines() == [
        "Texts:",
        "1. a<< b|10>><< c|2>>",
        "2. <<x|5>> y",
        "Strongest on the tokens: 'token0', 'other0'",
        "Makes the model predict: 'next0', 'then0'",
    ]


@pytest.mark.thorough
def test_where_and_limit_choose_features(toy_copy: Path, server: Stub) -> None:
    ask(toy_copy, server, where="layer = 1 -- and no other", limit=2)
    assert [label[0] for label in labels(toy_copy)] == ["1/mlp/0", "1/res/0"]
    ask(toy_copy, server, where="layer = 1")
    assert [label[0] for label in labels(toy_copy)] == ["1/mlp/0", "1/res/0", "1/res/3"]
    assert len(server.asked) == 3


@pytest.mark.parametrize("where", ["leyer = 1", "1); drop table label; --"])
def test_a_malformed_condition_is_refused(toy_copy: Path, server: Stub, where: str) -> None:
    with pytest.raises(QueryError):
        ask(toy_copy, server, where=where)
    assert server.asked == []
    assert not (toy_copy / ".labelling").exists()


@pytest.mark.thorough
def test_features_that_are_labelled_are_asked_about_again_only_on_demand(
    toy_copy: Path, server: Stub
) -> None:
    ask(toy_copy, server)
    ask(toy_copy, server)
    assert len(server.asked) == 5
    server.rule = lambda _: chat("better")
    ask(toy_copy, server, again=True, where="layer = 0")
    assert ("0/res/0", "llm:tiny", "better") in labels(toy_copy)
    assert len(labels(toy_copy)) == 5
    ask(toy_copy, server, source="mine", where="layer = 0")
    assert ("0/res/0", "mine", "better") in labels(toy_copy)


@pytest.mark.thorough
def test_several_requests_are_on_their_way_at_a_time(toy_copy: Path, server: Stub) -> None:
    together = threading.Barrier(4, timeout=5)

    def rule(_: Asked) -> Reply:
        if len(server.asked) <= 4:
            together.wait()
        return chat("x")

    server.rule = rule
    ask(toy_copy, server, concurrency=4)
    assert len(labels(toy_copy)) == 5


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("http://host:8000", "http://host:8000/v1/chat/completions"),
        ("http://host:8000/v1/", "http://host:8000/v1/chat/completions"),
        ("https://host/api/v3", "https://host/api/v3/chat/completions"),
        ("http://host/v1/chat/completions", "http://host/v1/chat/completions"),
    ],
)
def test_an_address_goes_up_to_v1(base: str, url: str) -> None:
    assert Endpoint(base, "m").url == url


# ---- what is answered


@pytest.mark.thorough
@pytest.mark.parametrize(
    "answer",
    [
        chat(None),
        chat(""),
        chat("one\ntwo"),
        chat("long " * 40),
        chat("cut of", finish="length"),
        chat(["parts"]),
        Reply(body=b"<html>"),
        Reply(body=b'{"choices": []}'),
        Reply(body=b'{"error": {"message": "no"}}'),
        Reply(body=b"[1]"),
        Reply(400, b'{"error": "content filter"}'),
    ],
    ids=lambda reply: reply.body.decode()[-60:],
)
def test_an_unusable_answer_is_counted(toy_copy: Path, server: Stub, answer: Reply) -> None:
    server.queued.append(answer)
    done = ask(toy_copy, server, where="site = 'res'")
    assert labels(toy_copy) == made("1/res/0", "1/res/3", "2/res/0")
    assert done.left_out[0] == "1 feature that got no usable answer; run it again"
    ask(toy_copy, server, where="site = 'res'")
    assert labels(toy_copy) == made("0/res/0", "1/res/0", "1/res/3", "2/res/0")


@pytest.mark.thorough
@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(toy_copy: Path, server: Stub, status: int) -> None:
    server.queued += [Reply(status), Reply(status)]
    ask(toy_copy, server)
    assert labels(toy_copy) == made(*SHOWN)
    assert len(server.asked) == 7


@pytest.mark.thorough
def test_the_server_says_how_long_to_wait(toy_copy: Path, server: Stub) -> None:
    server.queued.append(Reply(429, headers={"Retry-After": "0.2"}))
    before = time.monotonic()
    ask(toy_copy, server, limit=1)
    assert time.monotonic() - before > 0.2


@pytest.mark.thorough
def test_a_slow_answer_is_not_waited_for(toy_copy: Path, server: Stub) -> None:
    server.queued.append(Reply(slow=1.0))
    from_llm(toy_copy, endpoint(server, timeout=0.2), concurrency=1)
    assert labels(toy_copy) == made(*SHOWN)
    assert len(server.asked) == 6


def test_an_unreachable_server_ends_labelling_at_once(toy_copy: Path) -> None:
    nowhere = Endpoint("http://127.0.0.1:1", "m", None, RetryPolicy(tries=2, first_wait=0.001))
    with pytest.raises(SourceError, match=r"gave no label for 0/res/0 \(.*refused\); labels so far are kept"):
        from_llm(toy_copy, nowhere, concurrency=1)


@pytest.mark.thorough
def test_too_many_consecutive_failures_end_labelling_and_keep_the_labels(
    toy_copy: Path, server: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llm, "MOST_FAILURES", 3)
    server.queued += [chat("kept"), *[Reply(500)] * 9]
    with pytest.raises(
        SourceError, match=r"for 3 features in a row .500 Internal Server Error.; labels so far"
    ):
        ask(toy_copy, server)
    assert labels(toy_copy) == made("0/res/0", text="kept")
    ask(toy_copy, server)
    assert len(labels(toy_copy)) == 5


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("status", "mend"),
    [(401, "name the variable that holds the key with --api-key-env"), (404, "check --base-url and --model")],
)
def test_a_refused_request_ends_labelling_with_a_hint(
    toy_copy: Path, server: Stub, status: int, mend: str
) -> None:
    server.queued += [chat("kept"), Reply(status, b'{"error": "wrong \n thing"}')]
    with pytest.raises(SourceError, match=f"refuses to answer .{status}: .*wrong thing.*; {mend}"):
        ask(toy_copy, server)
    assert labels(toy_copy) == made("0/res/0", text="kept")


# ---- the key


@pytest.mark.thorough
@pytest.mark.parametrize("status", [401, 400, 500])
def test_the_key_is_nowhere_to_be_read(
    toy_copy: Path, server: Stub, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """Also where a server repeats it."""
    monkeypatch.setenv("MY_KEY", KEY)
    monkeypatch.setattr(llm, "MOST_FAILURES", 1)
    monkeypatch.setattr(RetryPolicy, "__init__", _impatient(RetryPolicy.__init__))
    server.rule = lambda _: Reply(status, f"wrong key {KEY}".encode())
    arguments = ["--from", "llm", "--base-url", server.url, "--model", "m", "--api-key-env", "MY_KEY"]
    done = CliRunner().invoke(app, ["label", str(toy_copy), *arguments])
    assert done.exit_code == 4
    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in done.output
    assert KEY not in repr(Endpoint(server.url, "m", KEY))
    assert all(KEY.encode() not in path.read_bytes() for path in toy_copy.rglob("*") if path.is_file())


def _impatient(made_so: Callable[..., None]) -> Callable[..., None]:
    def make(self: RetryPolicy, **given: Any) -> None:
        made_so(self, **{"tries": 1, **given})

    return make


def test_the_key_is_not_sent_on_to_another_address(toy_copy: Path, server: Stub) -> None:
    with serving(lambda _: chat("stolen")) as other:
        server.rule = lambda _: Reply(307, headers={"Location": f"{other.url}/v1/chat/completions"})
        with pytest.raises(SourceError, match=r"refuses to answer .307"):
            from_llm(toy_copy, endpoint(server, KEY))
        assert other.asked == []
    assert labels(toy_copy) == []


def test_a_key_is_in_a_variable_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(UsageError, match=r"the environment has no MY_KEY; write `export MY_KEY=...` first"):
        key_from("MY_KEY")
    monkeypatch.setenv("MY_KEY", "a\nb")
    with pytest.raises(
        UsageError, match=r"MY_KEY does not hold a key: it has characters that are not allowed"
    ):
        key_from("MY_KEY")
    assert key_from(None) is None


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:8000", "'localhost:8000' is not a web address; write http://HOST"),
        (
            "http://me:secret@host/v1",
            "the address of host may hold no user, password or query; write http://host/v1",
        ),
        ("file:///etc/passwd", "is not a web address"),
    ],
)
def test_an_address_is_checked_before_anything_is_sent(url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        Endpoint(url, "m")
    assert "secret" not in str(caught.value)


# ---- cut off


def running(toy_copy: Path, server: Stub) -> "subprocess.Popen[str]":
    """The command, in a process of its own, one request at a time."""
    arguments = ["--from", "llm", "--base-url", server.url, "--model", "tiny", "--concurrency", "1", "-q"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "featgraph", "label", str(toy_copy), *arguments]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def asked_for(server: Stub, n: int) -> None:
    deadline = time.monotonic() + 60
    while len(server.asked) < n:
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.thorough
def test_answers_survive_a_kill(toy_copy: Path, server: Stub) -> None:
    server.queued += [chat("first"), chat("second"), Reply(slow=30)]
    process = running(toy_copy, server)
    asked_for(server, 3)
    process.kill()
    process.communicate()
    assert labels(toy_copy) == []
    with (toy_copy / ".labelling" / "llm.jsonl").open("a") as journal:
        journal.write('{"feature": 2, "sou')  # as a kill in the middle of a line leaves it
    ask(toy_copy, server)
    assert labels(toy_copy) == [
        *made("0/res/0", text="first"),
        *made("1/mlp/0", text="second"),
        *made("1/res/0", "1/res/3", "2/res/0"),
    ]
    assert len(server.asked) == 6
    assert not (toy_copy / ".labelling").exists()


def test_answers_left_for_another_model_are_kept_too(toy_copy: Path, server: Stub) -> None:
    (toy_copy / ".labelling").mkdir()
    entry = {"feature": ids()["0/att/0"], "source": "llm:other", "text": "left"}
    (toy_copy / ".labelling" / "llm.jsonl").write_text(json.dumps(entry) + "\n")
    ask(toy_copy, server, limit=1)
    assert labels(toy_copy) == [("0/att/0", "llm:other", "left"), *made("0/res/0")]


@pytest.mark.thorough
def test_an_interrupt_writes_the_answers_to_the_graph(toy_copy: Path, server: Stub) -> None:
    server.queued += [chat("first"), Reply(slow=30)]
    process = running(toy_copy, server)
    asked_for(server, 2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (130, "featgraph: interrupted\n")
    assert labels(toy_copy) == made("0/res/0", text="first")


def test_readers_see_the_best_label(toy_copy: Path, server: Stub) -> None:
    ask(toy_copy, server)
    with featgraph.open(toy_copy) as opened:
        (member,) = [one for one in opened.lineage("1/res/0").members if one.key == "1/res/0"]
        assert member.label == "Words for rain"
        assert LABELS["1/res/0"] in [row[0] for row in opened.sql("select text from label")]

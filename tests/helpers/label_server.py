"""A server on this machine that speaks what `featgraph label` speaks: bulk files and chat completions.

It keeps every request, and answers as its test has told it to: statuses and bodies in turn, then the rule.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """One answer; `slow` seconds pass before it."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    slow: float = 0.0


@dataclass
class Asked:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def question(self) -> str:
        return str(self.json["messages"][-1]["content"])


@dataclass
class Stub:
    """What the server was asked and what it is to answer."""

    rule: Callable[[Asked], Reply]
    """Answers what `queued` has no answer for."""
    queued: list[Reply] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reply(self, asked: Asked) -> Reply:
        with self.lock:
            self.asked.append(asked)
            queued = self.queued.pop(0) if self.queued else None
        return queued or self.rule(asked)


def chat(text: object, finish: str = "stop") -> Reply:
    """A chat completion, with the fields that OpenAI's has."""
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
    return Reply(
        body=json.dumps(
            {"id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        ).encode()
    )


@contextmanager
def serving(rule: Callable[[Asked], Reply]) -> Iterator[Stub]:
    """Run the server in a thread while the context is open."""
    stub = Stub(rule)

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = stub.reply(Asked(self.command, self.path, headers, body))
            time.sleep(reply.slow)
            try:
                self.send_response(reply.status)
                for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reply.body)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the client had no patience

        do_GET = do_POST = answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

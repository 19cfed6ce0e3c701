"""A language model behind an OpenAI-compatible endpoint: one conversation out, one answer back."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from featgraph.core.bounded import json_value
from featgraph.core.http import Refused, RetryPolicy, Unreachable, checked_url, fetch
from featgraph.errors import UsageError

_PATH = "/chat/completions"


@dataclass(frozen=True)
class Endpoint:
    """A server with an OpenAI-compatible API, and the model to use."""

    base_url: str
    """Address up to `/v1`; without a path, `/v1` is added."""
    model: str
    key: str | None = field(default=None, repr=False)
    """API key: sent only to this server and never stored."""
    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)

    def __post_init__(self) -> None:
        """Raise UsageError: the address is not valid, or the model has no name."""
        checked_url(self.base_url)
        if not self.model.strip():
            raise UsageError("the model has no name; write --model NAME")

    @property
    def url(self) -> str:
        """Address of the requests."""
        base = checked_url(self.base_url).removesuffix(_PATH)
        return f"{base if base.count('/') > 2 else f'{base}/v1'}{_PATH}"

    def answer(self, messages: Sequence[dict[str, str]]) -> str | None:
        """Return the model's answer to a conversation; None if it is not text or was cut off.

        The server chooses the sampling settings, because models accept different ones.

        Raises Refused: the server rejects the request. Unreachable: no answer in any try.
        """
        body = json.dumps({"model": self.model, "messages": list(messages)}).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        try:
            answer = fetch(self.url, self.retry_policy, body=body, headers=headers)
        except Refused as error:  # Some servers repeat the key in their messages.
            raise Refused(error.status, self._without_key(error.message)) from None
        except Unreachable as error:
            raise Unreachable(self._without_key(str(error))) from None
        try:
            (choice, *_) = json_value(answer)["choices"]
            whole, text = choice.get("finish_reason") in (None, "stop"), choice["message"]["content"]
            return text if whole and isinstance(text, str) else None
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def _without_key(self, message: str) -> str:
        return message.replace(self.key, "***") if self.key else message


def key_from(variable: str | None) -> str | None:
    """Return the API key in an environment variable.

    Raises UsageError: the variable is not set, or has characters that are not allowed in a header.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UsageError(f"the environment has no {variable}; write `export {variable}=...` first")
    if not key.isascii() or not key.isprintable():
        raise UsageError(
            f"{variable} does not hold a key: it has characters that are not allowed in a header"
        )
    return key

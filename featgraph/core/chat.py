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
    """A server that speaks the OpenAI protocol, and the model to ask there."""

    base_url: str
    """Address up to `/v1`; without a path, `/v1` is added."""
    model: str
    key: str | None = field(default=None, repr=False)
    """Sent to this server alone, and never written down."""
    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)

    def __post_init__(self) -> None:
        """Raise UsageError for an address or a model that cannot be."""
        checked_url(self.base_url)
        if not self.model.strip():
            raise UsageError("the model has no name; write --model NAME")

    @property
    def url(self) -> str:
        """Where requests go."""
        base = checked_url(self.base_url).removesuffix(_PATH)
        return f"{base if base.count('/') > 2 else f'{base}/v1'}{_PATH}"

    def answer(self, messages: Sequence[dict[str, str]]) -> str | None:
        """Return what the model says to a conversation, or None if it is no text or was cut off.

        Sampling is left to the server: models differ in which settings they take.

        Raises Refused: the server does not want such requests. Unreachable: no answer in all the tries.
        """
        body = json.dumps({"model": self.model, "messages": list(messages)}).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        try:
            answer = fetch(self.url, self.retry_policy, body=body, headers=headers)
        except Refused as error:  # some servers repeat the key in what they say
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
    """Return the key that an environment variable holds.

    Raises UsageError: it is not set, or holds what no header may.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UsageError(f"the environment has no {variable}; write `export {variable}=...` first")
    if not key.isascii() or not key.isprintable():
        raise UsageError(f"what {variable} holds is not a key: it has letters that a header cannot have")
    return key

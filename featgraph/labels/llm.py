"""Labels by a language model behind an OpenAI-compatible endpoint: one request per feature, several at once.

Answers go into a journal as they come; at the end, at an error and at an interrupt what is in it goes into
the graph. A killed run leaves the journal to the next one, so that no answer is asked for twice.
"""

import json
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from featgraph.core import arguments
from featgraph.core.bounded import json_value
from featgraph.core.chat import Endpoint
from featgraph.core.http import Refused, Unreachable, checked_url
from featgraph.core.progress import Progress, Silent
from featgraph.core.text import pluralize
from featgraph.errors import SourceError
from featgraph.labels.prompts import Prompt, prompts, read_label
from featgraph.labels.writing import Added, Labelled, Labelling, labelling
from featgraph.store import Store

MOST_FAILURES = 10
"""Features in a row without a label after which labelling stops."""

_FINAL = {*range(300, 400), 401, 402, 403, 404, 405}
"""Status codes that concern the server, not the feature: the next request would get the same."""

_JOURNAL = "llm.jsonl"


@dataclass(frozen=True)
class _Answer:
    prompt: Prompt
    label: str | None
    error: Exception | None = None


def from_llm(
    path: str | Path,
    endpoint: Endpoint,
    *,
    where: str | None = None,
    limit: int | None = None,
    concurrency: int = 4,
    again: bool = False,
    source: str | None = None,
    progress: Progress | None = None,
) -> Labelled:
    """Label features with a language model's answers about their examples; labelled ones are skipped.

    where: SQL condition on the columns of `feature`. limit: most features asked about. concurrency: requests
    at a time. again: ask again about features that have such a label. source: left out, `llm:MODEL`.

    Raises SourceError: the endpoint cannot be used; labels that it gave are in the graph. QueryError: `where`
    is no condition. StoreError: the graph cannot be read or written. KeyboardInterrupt: labels so far are in.
    """
    concurrency = arguments.check_count("concurrency", concurrency, 1)
    limit = None if limit is None else arguments.check_count("limit", limit, 1)
    source = source or f"llm:{endpoint.model}"
    endpoint = replace(endpoint, retry_policy=replace(endpoint.retry_policy, stop=threading.Event()))
    added: list[Added] = []
    with labelling(path) as work:
        journal = _Journal(work, source)
        try:
            wanted, n_without = _wanted(work, journal, where, again)
            bad = _ask_all(endpoint, work.store, wanted[:limit], concurrency, journal, progress or Silent())
        finally:
            added += journal.put(f"{checked_url(endpoint.base_url)} {endpoint.model}")
    left_out = [f"{pluralize(bad, 'feature')} that got no usable answer; run it again"] if bad else []
    if n_without:
        left_out.append(f"{pluralize(n_without, 'feature')} without examples")
    return Labelled(added, left_out)


class _Journal:
    """Answers on disk that are not yet in the graph, one JSON object per line."""

    def __init__(self, work: Labelling, source: str) -> None:
        self.work, self.source = work, source
        self.file = work.folder / _JOURNAL
        self.done: dict[int, str] = {}
        """Labels of this source, of an earlier run and of this one."""
        self.others: list[tuple[int, str, str]] = []
        """Labels that an earlier run left for another source."""
        for line in self.file.read_bytes().splitlines() if self.file.is_file() else []:
            try:
                entry = json_value(line)
                row = int(entry["feature"]), str(entry["source"]), str(entry["text"])
            except (ValueError, KeyError, TypeError, OverflowError):
                continue  # cut off when the run was killed
            if row[1] == source:
                self.done[row[0]] = row[2]
            else:
                self.others.append(row)
        self.stream = self.file.open("a", encoding="utf-8")
        self.stream.write("\n" if self.file.stat().st_size else "")

    def add(self, feature: int, text: str) -> None:
        """Write one answer to disk; from here on it outlives the process."""
        self.done[feature] = text
        self.stream.write(json.dumps({"feature": feature, "source": self.source, "text": text}) + "\n")
        self.stream.flush()

    def put(self, origin: str) -> list[Added]:
        """Write all answers to the graph and delete the journal."""
        self.stream.close()
        if self.done:
            self.work.stage(list(self.done), self.source, list(self.done.values()))
        for feature, source, text in self.others:
            self.work.stage([feature], source, [text])
        added = self.work.commit(origin)
        self.file.unlink()
        return added


def _wanted(work: Labelling, journal: _Journal, where: str | None, again: bool) -> tuple[list[int], int]:
    """Return the ids of features to ask about, and how many of those chosen have no examples."""
    from featgraph.query import run

    condition = f" where ({where}\n)" if where else ""
    statement = f"select id from feature{condition} order by id"
    chosen = [int(str(row[0])) for row in run(work.store, statement, max_rows=None).rows]
    known = "select distinct feature from label where source = $source"
    labelled = [] if again else work.store.rows(known, {"source": journal.source})
    done = set(journal.done) | {row[0] for row in labelled}
    shown = {row[0] for row in work.store.rows("select distinct feature from example")}
    left = [feature for feature in chosen if feature not in done]
    wanted = [feature for feature in left if feature in shown]
    return wanted, len(left) - len(wanted)


def _ask_all(
    endpoint: Endpoint,
    store: Store,
    wanted: list[int],
    concurrency: int,
    journal: _Journal,
    progress: Progress,
) -> int:
    """Ask about every feature; return how many got no usable answer.

    Raises SourceError: the server refuses, or too many features in a row got no answer.
    """
    bad = in_a_row = 0

    def ask(prompt: Prompt) -> str | None:
        text = endpoint.answer(prompt.messages)
        return None if text is None else read_label(text)

    answers = _concurrently(ask, prompts(store, wanted), concurrency, endpoint.retry_policy.stop)
    with progress.step("labels", len(wanted), "features") as advance, closing(answers):
        for answer in answers:
            if isinstance(answer.error, Refused) and answer.error.status in _FINAL:
                raise SourceError(_refusal(endpoint, answer.error)) from answer.error
            if answer.label is not None:
                journal.add(answer.prompt.feature, answer.label)
                in_a_row = 0
            else:
                bad, in_a_row = bad + 1, in_a_row + 1
                nothing_yet = isinstance(answer.error, Unreachable) and not journal.done
                if nothing_yet or in_a_row >= MOST_FAILURES:
                    raise SourceError(_failure(endpoint, answer, in_a_row)) from answer.error
            advance(1)
    return bad


def _concurrently(
    ask: Callable[[Prompt], str | None], asked: Iterator[Prompt], n: int, stop: threading.Event
) -> Generator[_Answer]:
    """Yield answers as they come; n requests run at a time, and at most n more wait for them.

    The threads are daemons, so that an error does not wait for a slow server.
    """
    tasks: queue.SimpleQueue[Prompt | None] = queue.SimpleQueue()
    answers: queue.SimpleQueue[_Answer] = queue.SimpleQueue()

    def work() -> None:
        while (prompt := tasks.get()) is not None and not stop.is_set():
            try:
                answers.put(_Answer(prompt, ask(prompt)))
            except Exception as error:
                answers.put(_Answer(prompt, None, error))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(n)]
    for thread in threads:
        thread.start()
    try:
        waiting = 0
        for prompt in asked:
            tasks.put(prompt)
            waiting += 1
            if waiting >= 2 * n:
                yield _raise_other_errors(answers.get())
                waiting -= 1
        for _ in range(waiting):
            yield _raise_other_errors(answers.get())
    except BaseException:
        stop.set()
        raise
    finally:
        for _ in threads:
            tasks.put(None)


def _raise_other_errors(answer: _Answer) -> _Answer:
    """Return an answer; raise its error if it is not the server's."""
    if answer.error is not None and not isinstance(answer.error, Refused | Unreachable):
        raise answer.error
    return answer


def _refusal(endpoint: Endpoint, error: Refused) -> str:
    name_key = "; name the variable that holds the key with --api-key-env"
    mend = {401: name_key, 403: name_key}.get(error.status, "; check --base-url and --model")
    return f"{endpoint.url} refuses to answer ({error}){mend}"


def _failure(endpoint: Endpoint, answer: _Answer, in_a_row: int) -> str:
    why = f"({answer.error})" if answer.error else "(its answers are not labels)"
    features = f"{in_a_row} features in a row" if in_a_row > 1 else answer.prompt.key
    return f"{endpoint.url} gave no label for {features} {why}; labels so far are kept, run it again to go on"

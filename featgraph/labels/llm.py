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
"""Labelling stops after so many consecutive features without a label. Our choice."""

_FINAL = {*range(300, 400), 401, 402, 403, 404, 405}
"""Status codes that every further request would get too, whatever the feature."""

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
    """Label features with a language model that reads their examples; labelled features are skipped.

    where: SQL condition on the columns of `feature`. limit: most features to label. concurrency: requests
    sent at the same time. again: label features again that have a label of this source. source: by default
    `llm:MODEL`.

    Raises SourceError: the endpoint fails; labels so far are in the graph. QueryError: `where` is not a
    condition. StoreError: the graph cannot be read or written. KeyboardInterrupt: labels so far are in.
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
    """A file of answers that are not yet in the graph, one JSON object per line."""

    def __init__(self, work: Labelling, source: str) -> None:
        self.work, self.source = work, source
        self.file = work.folder / _JOURNAL
        self.done: dict[int, str] = {}
        """Feature id -> label of this source, from this run and an interrupted one."""
        self.others: list[tuple[int, str, str]] = []
        """Labels that an earlier run left for another source."""
        for line in self.file.read_bytes().splitlines() if self.file.is_file() else []:
            try:
                entry = json_value(line)
                row = int(entry["feature"]), str(entry["source"]), str(entry["text"])
            except (ValueError, KeyError, TypeError, OverflowError):
                continue  # The last line is incomplete if the run was killed.
            if row[1] == source:
                self.done[row[0]] = row[2]
            else:
                self.others.append(row)
        self.stream = self.file.open("a", encoding="utf-8")
        self.stream.write("\n" if self.file.stat().st_size else "")

    def add(self, feature: int, text: str) -> None:
        """Write one answer to disk, so that it survives if the process is killed."""
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
    """Return the ids of the features to label, and the number of features skipped for lack of examples."""
    from featgraph.query import run

    condition = f" where ({where}\n)" if where else ""
    statement = f"select id from feature{condition} order by id"
    matching = [int(str(row[0])) for row in run(work.store, statement, max_rows=None).rows]
    known = "select distinct feature from label where source = $source"
    labelled = [] if again else work.store.rows(known, {"source": journal.source})
    done = set(journal.done) | {row[0] for row in labelled}
    shown = {row[0] for row in work.store.rows("select distinct feature from example")}
    left = [feature for feature in matching if feature not in done]
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
    """Label every feature; return the number of features without a usable answer.

    Raises SourceError: the server refuses, or too many consecutive features got no answer.
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
    """Yield answers as they arrive; n requests run at the same time, and at most n more are queued.

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
    """Return an answer; raise its error unless the server caused it."""
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

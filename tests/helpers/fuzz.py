"""Statements that went wrong on their way: valid ones, mutilated at random, run on the toy graph.

Whatever a user types is answered with rows or with a QueryError that points into the text; a UsageError is
for a value given to a parameter that the statement does not have. Everything else is a finding.

    python tests/fuzz.py --n 100000 --seed 0

Statement i of a seed does not depend on those before it: `--start i --n 1` runs it again.
"""

import argparse
import faulthandler
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from featgraph.core.result import Result
from featgraph.errors import QueryError, UsageError
from featgraph.query import run
from featgraph.store import Store, open_store
from helpers.fuzz_seeds import KINDS, SEEDS, WORDS
from helpers.toy import build_toy

TIMEOUT, PATIENCE = 5.0, 10.0
"""Seconds: the limit that a statement is given, and the time after which it counts as hanging."""
MAX_ROWS = 10_000

Parameters = dict[str, object]

_TOKEN = re.compile(
    r"\s+|'(?:[^']|'')*'|\"[^\"]*\"|\$?\w+|--[^\n]*|/\*.*?\*/|<-\[|\]->|-\[|->|<-|\]-|=>|.", re.DOTALL
)
_VALUES: tuple[object, ...] = (
    None,
    "",
    "1/res/0",
    "9/res/9",
    "x'",
    0,
    -1,
    10**30,
    0.5,
    float("nan"),
    [1],
    True,
)
_NUMBERS = (
    "0",
    "-1",
    "2147483648",
    "99999999999999999999",
    "1e400",
    "0.00000000000000001",
    "1.5",
    "00",
    "1_0",
    "0x1f",
)


@dataclass(frozen=True)
class Finding:
    """A statement that had an outcome other than those allowed."""

    index: int
    statement: str
    parameters: Parameters
    outcome: str


def run_fuzz(
    store: Store, n: int, seed: int, start: int = 0, say: Callable[[str], None] = lambda line: None
) -> list[Finding]:
    """Run the statements `start` to `start + n - 1` of a seed; return those that did what none may do."""
    findings: list[Finding] = []
    began = time.monotonic()
    answered = 0
    for index in range(start, start + n):
        statement, parameters = mutilated(Random(f"{seed}/{index}"))
        outcome = outcome_of(store, statement, parameters)
        answered += outcome is None
        if outcome:
            findings.append(Finding(index, statement, parameters, outcome))
            say(f"finding {index}: {outcome}: {statement!r} {parameters}")
        if (index - start) % 1000 == 999:
            pace = (time.monotonic() - began) / (index - start + 1)
            counts = f"{len(findings)} findings, {answered} answered"
            say(f"{index + 1 - start} of {n}: {counts}, {1000 * pace:.1f} ms each")
    return findings


def outcome_of(store: Store, statement: str, parameters: Parameters) -> str | None:
    """Run a statement; return what was wrong with its outcome: None for rows, "" for a proper refusal."""
    began = time.monotonic()
    fault: str | None
    try:
        result = run(store, statement, parameters, timeout=TIMEOUT, max_rows=MAX_ROWS)
    except QueryError as error:
        fault = _fault(error, statement)
    except UsageError as error:
        fault = "" if re.match(r"the statement has no parameter \$", str(error)) else f"UsageError: {error}"
    except Exception as error:
        fault = f"{type(error).__name__}: {error}"
    else:
        fault = None if isinstance(result, Result) and len(result) <= MAX_ROWS else "not a proper Result"
    taken = time.monotonic() - began
    return f"{taken:.0f} s, {fault or 'else fine'}" if taken > PATIENCE else fault


def _fault(error: QueryError, statement: str) -> str:
    """Return what is wrong with a refusal, empty if nothing."""
    if error.position is None:
        return f"no position: {error.message}"
    if not 0 <= error.position <= len(statement):
        return f"position {error.position} of {len(statement)}: {error.message}"
    try:
        said = str(error)
    except Exception as fault:
        return f"{type(fault).__name__} in str(): {error.message}"
    return "" if said.startswith(error.message) and error.message.strip() else f"says {said!r}"


def mutilated(random: Random) -> tuple[str, Parameters]:
    """Return a seed after one to four accidents, and perhaps other parameters than it wants."""
    seed = random.choice(SEEDS)
    parameters = dict(seed.parameters)
    text = seed.text
    accidents = random.choice((_GENTLE, _ACCIDENTS, _ACCIDENTS))
    for _ in range(random.choice((1, 1, 1, 2, 2, 3, 4))):
        text = random.choice(accidents)(text, random)
    if parameters and random.random() < 0.2:
        name = random.choice(list(parameters))
        parameters[name] = random.choice(_VALUES)
        if random.random() < 0.3:
            del parameters[name]
    elif random.random() < 0.02:
        parameters[random.choice(("x", "tau", "feature", "p0", "1", "é"))] = random.choice(_VALUES)
    return text, parameters


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text)


def _visible(tokens: list[str], random: Random) -> int:
    """Return the place of a token that is not blank."""
    places = [place for place, token in enumerate(tokens) if not token.isspace()]
    return random.choice(places) if places else 0


def _on_tokens(change: Callable[[list[str], int, Random], list[str]]) -> Callable[[str, Random], str]:
    def accident(text: str, random: Random) -> str:
        tokens = _tokens(text) or [" "]
        return "".join(change(tokens, _visible(tokens, random), random))

    return accident


def _delete(tokens: list[str], at: int, random: Random) -> list[str]:
    return tokens[:at] + tokens[at + random.choice((1, 1, 1, 2, 4)) :]


def _double(tokens: list[str], at: int, random: Random) -> list[str]:
    run_length = random.choice((1, 1, 2, 5, 9))
    return (
        tokens[:at] + tokens[at : at + run_length] * random.choice((2, 2, 3, 30)) + tokens[at + run_length :]
    )


def _swap(tokens: list[str], at: int, random: Random) -> list[str]:
    other = _visible(tokens, random)
    tokens[at], tokens[other] = tokens[other], tokens[at]
    return tokens


def _insert(tokens: list[str], at: int, random: Random) -> list[str]:
    space = random.choice(("", " "))
    return [*tokens[:at], space, random.choice(WORDS), space, *tokens[at:]]


def _replace(tokens: list[str], at: int, random: Random) -> list[str]:
    others = _tokens(random.choice(SEEDS).text)
    return [*tokens[:at], random.choice((random.choice(WORDS), random.choice(others))), *tokens[at + 1 :]]


def _misspell(tokens: list[str], at: int, random: Random) -> list[str]:
    names = [place for place, token in enumerate(tokens) if token[0].isalpha()]
    at = random.choice(names) if names else at
    token = tokens[at]
    place = random.randrange(len(token))
    letter = random.choice("aeinorst_1é")
    changed = random.choice((token[:place] + token[place + 1 :], token[:place] + letter + token[place:]))
    return [*tokens[:at], random.choice((changed, token.upper(), token.swapcase())), *tokens[at + 1 :]]


def _rename(tokens: list[str], at: int, random: Random) -> list[str]:
    """Give one name the spelling of another, everywhere."""
    names = sorted({token for token in tokens if token[0].isalpha()}) or ["a"]
    one, other = random.choice(names), random.choice(names)
    return [other if token == one else token for token in tokens]


def _number(tokens: list[str], at: int, random: Random) -> list[str]:
    numbers = [place for place, token in enumerate(tokens) if token.isdigit()] or [at]
    at = random.choice(numbers)
    return [*tokens[:at], random.choice(_NUMBERS), *tokens[at + 1 :]]


def _nest(tokens: list[str], at: int, random: Random) -> list[str]:
    depth = random.choice((1, 2, 3, 60, 400, 3000))
    opening, closing = random.choice(
        (("(", ")"), ("[", "]"), ("{", "}"), ("(a", ")->"), ("not ", ""), ("(select ", ")"))
    )
    end = at + random.choice((1, 1, 3, len(tokens)))
    return [
        *tokens[:at],
        opening * depth,
        *tokens[at:end],
        closing * random.choice((depth, depth, depth - 1)),
        *tokens[end:],
    ]


def _exchange(tokens: list[str], at: int, random: Random) -> list[str]:
    """Exchange some tokens for others of the same kind: what comes out is often valid."""
    for _ in range(random.choice((1, 2, 4))):
        found = [(place, kind) for place, token in enumerate(tokens) for kind in KINDS if token in kind]
        if found:
            place, kind = random.choice(found)
            tokens[place] = random.choice(kind)
    return tokens


def _graft(tokens: list[str], at: int, random: Random) -> list[str]:
    """Put brackets of another statement in the place of brackets of the same kind."""
    openings = [place for place, token in enumerate(tokens) if token[-1] in "([{"]
    if not openings:
        return tokens
    at = random.choice(openings)
    others = _tokens(random.choice(SEEDS).text)
    alike = [place for place, token in enumerate(others) if token[-1] == tokens[at][-1]]
    if not alike:
        return tokens
    start = random.choice(alike)
    return tokens[:at] + others[start : _end(others, start)] + tokens[_end(tokens, at) :]


def _end(tokens: list[str], at: int) -> int:
    """Return the place after the bracket that closes the one at `at`."""
    depth = 0
    for place in range(at, len(tokens)):
        depth += (tokens[place][-1] in "([{") - (tokens[place][0] in ")]}")
        if depth == 0:
            return place + 1
    return len(tokens)


def _cut(text: str, random: Random) -> str:
    start, end = sorted((random.randrange(len(text) + 1), random.randrange(len(text) + 1)))
    return random.choice((text[:end], text[start:], text[:start] + text[end:]))


def _splice(text: str, random: Random) -> str:
    one, other = _tokens(text), _tokens(random.choice(SEEDS).text)
    return "".join(one[: random.randrange(len(one) + 1)] + other[random.randrange(len(other)) :])


def _wrap(text: str, random: Random) -> str:
    forms = (
        "explain {}",
        "select * from ({})",
        "with q as ({}) from q",
        "{};",
        "{}; {}",
        "-- {}",
        "/* {}",
        "{} union all {}",
    )
    form = random.choice(
        (*forms, "select count(*) from ({}) t", "({})", "explain analyze {}", "\n\n{}\n", "describe {}")
    )
    return form.replace("{}", text)


def _character(text: str, random: Random) -> str:
    at = random.randrange(len(text) + 1)
    odd = random.choice("\0\x1a\x7f\u00a0\ufeff\u202e\u2028\u200b\x0b\x0c\r😀é'\"`$\\;#@~^&%!?")
    return text[:at] + odd + text[at + random.choice((0, 0, 1)) :]


def _space(text: str, random: Random) -> str:
    """Change blanks to others, or to comments."""
    blank = random.choice(("\n", "\t", "\r\n", " /* é */ ", " -- it's\n", "\u00a0", "\x0b", "\u2028", ""))
    return "".join(blank if token.isspace() and random.random() < 0.3 else token for token in _tokens(text))


_ACCIDENTS: tuple[Callable[[str, Random], str], ...] = (
    *map(
        _on_tokens,
        (_delete, _delete, _double, _swap, _insert, _insert, _replace, _replace, _misspell, _misspell),
    ),
    *map(_on_tokens, (_rename, _rename, _number, _nest)),
    *map(_on_tokens, (_exchange, _exchange, _graft, _graft)),
    *(_cut, _splice, _splice, _wrap, _character, _space),
)
_GENTLE = tuple(map(_on_tokens, (_exchange, _exchange, _exchange, _graft)))
"""After these a statement is often valid still, and an unusual one."""


def main() -> int:
    """Fuzz from the command line; exit 1 if anything was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--n", type=int, default=100_000, help="number of statements")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="number of the first statement")
    given = parser.parse_args()
    faulthandler.enable()
    with (
        tempfile.TemporaryDirectory() as folder,
        open_store(build_toy(Path(folder) / "toy.featgraph")) as store,
    ):
        findings = run_fuzz(store, given.n, given.seed, given.start, lambda line: _say(line))
    _say(f"{given.n} statements, {len(findings)} findings")
    for line in _kinds(findings):
        _say(line)
    return 1 if findings else 0


def _kinds(findings: list[Finding]) -> Iterator[str]:
    """Yield one line for each kind of finding: how often, and the shortest statement."""
    kinds: dict[str, list[Finding]] = {}
    for finding in findings:
        kinds.setdefault(re.sub(r"[\d'\"].*", "", finding.outcome)[:60], []).append(finding)
    for kind, found in sorted(kinds.items(), key=lambda item: -len(item[1])):
        shortest = min(found, key=lambda finding: len(finding.statement))
        yield f"{len(found)} x {kind}, such as {shortest}"


def _say(line: str) -> None:
    sys.stderr.write(ascii(line)[1:-1] + "\n")


if __name__ == "__main__":
    sys.exit(main())

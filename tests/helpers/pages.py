"""The pages of the documentation: their fenced blocks, their links, and the anchors of their headings."""

import re
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from helpers.repository import ROOT

PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        *(ROOT / name for name in ("queries/README.md", "ingest/README.md", "tests/readers/README.md")),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "tests" / "bench").glob("*.md"),
    ]
)

_LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)")


class Block(NamedTuple):
    """One fenced block of a page."""

    language: str
    text: str
    output: str | None
    """The block without a language right after it, which shows what this one prints."""


def name_of(page: Path) -> str:
    """The page's path in the repository."""
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page, in order."""
    text = page.read_text(encoding="utf-8")
    fences = list(re.finditer(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL))
    return [
        Block(one[1], one[2], after[2] if after and not after[1] and _adjoin(text, one, after) else None)
        for one, after in zip_longest(fences, fences[1:])
        if one is not None
    ]


def _adjoin(text: str, one: re.Match[str], after: re.Match[str]) -> bool:
    return not text[one.end() : after.start()].strip()


def session(page: Path) -> list[tuple[str, list[str]]]:
    """The commands in the console blocks of a page, each with the lines shown below it."""
    commands: list[tuple[str, list[str]]] = []
    for block in blocks(page):
        for line in block.text.splitlines() if block.language == "console" else ():
            if line.startswith("$ "):
                commands.append((line.removeprefix("$ "), []))
            else:
                commands[-1][1].append(line.rstrip())
    return commands


def links(page: Path) -> Iterator[tuple[str, str]]:
    """The targets of a page's links within the repository, as (path, anchor); either may be empty."""
    for found in _LINK.finditer(_prose(page)):
        target = found[1]
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            yield path, anchor


def files_named(page: Path) -> list[str]:
    """The paths of files and folders that a page writes as code: `suite/hooks.py`, `tests/suite/`."""
    path = r"`((?:[\w.-]+/)+(?:[\w-]+\.(?:py|sql|toml|md|sh))?)`"
    return re.findall(path, _without_fences(page))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    made: dict[str, int] = {}
    found = set()
    for heading in re.findall(r"^#{1,6} (.*)$", _without_fences(page), flags=re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "]", heading).lower().strip())
        slug = words.replace(" ", "-")
        found.add(slug if slug not in made else f"{slug}-{made[slug]}")
        made[slug] = made.get(slug, 0) + 1
    return found


def _without_fences(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def _prose(page: Path) -> str:
    return re.sub(r"`[^`\n]*`", "code", _without_fences(page))

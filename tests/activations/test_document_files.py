"""One file of every kind: the same documents however it is packed and cut; what is said of a broken one."""

import gzip
import os
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featgraph.activations import document_files as textfile
from featgraph.activations.document_files import split_at
from featgraph.activations.documents import documents
from featgraph.errors import SourceError
from featgraph.recipe import CODECS, TEXT_ENDINGS
from helpers.texts import STORIES, all_of, refusal, source, write

PACKED = [f"{ending}{codec}" for ending in (".txt", ".jsonl", "") for codec in CODECS]
NOT_JSON = "not JSON, of which each line must be one object"
MEND = "name one as 'text.column'"


@pytest.mark.parametrize("name", ["", ".log", *textfile.READERS, *PACKED, ".JSONL.GZ"])
def test_every_kind_of_file_gives_the_same_documents(tmp_path: Path, name: str) -> None:
    first, *others = STORIES
    path = write(tmp_path / f"stories{name}", [first, "", f" {others[0]}\n", "  ", None, *others[1:]])
    assert list(documents(source(path))) == STORIES
    assert list(documents(source(dataset=str(path)))) == STORIES


def test_every_ending_of_a_text_file_has_a_reader() -> None:
    assert tuple(textfile.READERS) == TEXT_ENDINGS


@pytest.mark.thorough
@given(
    rows=st.lists(st.text(max_size=9), max_size=4), name=st.sampled_from(["a.jsonl", "a.parquet", "a.csv"])
)
def test_any_text_in_a_column_comes_back(rows: list[str], name: str) -> None:
    with TemporaryDirectory() as folder:
        found = all_of(source(write(Path(folder, name), rows)))
    if name == "a.csv":  # read like other plain files: every line end becomes \n
        rows = [row.replace("\r\n", "\n").replace("\r", "\n") for row in rows]
    assert found == [row.strip() for row in rows if row.strip()]


def test_files_compressed_one_after_the_other_are_read_to_the_end(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"one ", mtime=0) + gzip.compress(b"two", mtime=0))
    assert list(documents(source(tmp_path / "a.gz"))) == ["one two"]


def test_lines_of_json_may_be_blank_and_end_as_on_windows(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf\r\n{"text": "one"}\r\n \r\n{"text": "two"}')
    assert list(documents(source(tmp_path / "a.json"))) == ["one", "two"]


def test_without_a_separator_a_file_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(" one\n\ntwo\n")
    assert list(documents(source(tmp_path / "a.txt", separator=""))) == ["one\n\ntwo"]


def test_another_column_is_read_where_the_recipe_names_it(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": 1, "story": "one"}\n{"story": null}\n{"story": "two"}\n')
    assert list(documents(source(tmp_path / "a.jsonl", column="story"))) == ["one", "two"]


def test_a_separator_of_windows_lines_is_found_in_a_file_of_windows_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\r\n\r\ntwo\r\n\r\n")
    for separator in ("\n\n", "\r\n\r\n"):
        assert list(documents(source(tmp_path / "a.txt", separator=separator))) == ["one", "two"]


def cut(text: str, places: list[int]) -> Iterator[str]:
    bounds = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return (text[start:end] for start, end in pairwise(bounds))


@given(
    separator=st.text("ab\n", min_size=1, max_size=4),
    text=st.text("ab\nc", max_size=40),
    places=st.lists(st.integers(0, 40), max_size=20),
)
def test_however_a_text_is_cut_into_chunks_its_parts_are_those_of_str_split(
    separator: str, text: str, places: list[int]
) -> None:
    assert list(split_at(separator, cut(text, places))) == text.split(separator)


@given(
    text=st.text("a|ä雨🌧\n\r\ufeff \x85", max_size=30),
    separator=st.sampled_from(["", "|", "||", "\n", "a\n|", "ä雨"]),
    chunk=st.integers(1, 12),
    mark=st.booleans(),
)
def test_a_file_read_in_chunks_of_any_size_gives_the_documents_of_the_whole(
    text: str, separator: str, chunk: int, mark: bool
) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(textfile, "CHUNK", chunk)
        path = Path(folder, "a.txt")
        path.write_bytes(("\ufeff" * mark + text).encode())
        whole = path.read_text(encoding="utf-8-sig")
        expected = [part.strip() for part in (whole.split(separator) if separator else [whole])]
        assert all_of(source(path, separator=separator)) == [part for part in expected if part]


@given(
    before=st.text("aä雨🌧\n\r\ufeff", max_size=12),
    bad=st.sampled_from([b"\xff", b"\xc3", b"\xe2\x82", b"\xed\xa0\x80"]),
    chunk=st.integers(1, 9),
)
def test_the_first_byte_that_is_not_utf8_is_named(before: str, bad: bytes, chunk: int) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(textfile, "CHUNK", chunk)
        path = Path(folder, "a.txt")
        path.write_bytes(before.encode() + bad)
        place = len(before.encode())
        assert refusal(source(path)) == f"{path} is not UTF-8 at byte {place}; convert it to UTF-8"


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.jsonl"])
def test_a_long_file_is_never_held_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(textfile, "CHUNK", 1 << 16)
    story = "the cat sat on the mat " * 40
    path = write(tmp_path / name, [story] * 8000)
    tracemalloc.start()
    try:
        assert sum(1 for _ in documents(source(path))) == 8000
        assert tracemalloc.get_traced_memory()[1] < len(story) * 1000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b" \n", "the text {} is empty; statistics need at least one token"),
        ("a.txt.gz", b"", "the text {} is empty; statistics need at least one token"),
        ("a.csv", b"text\n\n", "the text {} is empty; statistics need at least one token"),
        ("a.txt", "one".encode("utf-16"), "{} is not UTF-8 at byte 0; convert it to UTF-8"),
        (
            "a.gz",
            gzip.compress(b"one two", mtime=0)[:-9],
            "cannot read the text {}: Truncated compressed stream",
        ),
        ("a.gz", b"plain", "cannot read the text {}: zlib inflate failed: incorrect header check"),
        (
            "a.jsonl",
            b'{"text": "a"}\n\n{"text": "b"',
            f"{{}}:3: {NOT_JSON}: expecting ',' delimiter at column 13",
        ),
        ("a.json", b"[\n", f"{{}}:1: {NOT_JSON}: expecting value at column 2"),
        ("a.jsonl", b"[1, 2]", "{}:1: a line must be one JSON object, not [1, 2]"),
        ("a.jsonl", b"[" * 10**6, "{}:1: cannot read this JSON: maximum recursion depth exceeded"),
        ("a.jsonl", b'{"text": ' + b"1" * 5000 + b"}", "{}:1: cannot read this JSON: Exceeds the limit"),
        ("a.jsonl", b'{"text": 5}', "{}:1: column 'text' must hold text, not 5"),
        ("a.jsonl", rb'{"text": "\ud83d"}', r"{}:1: half a surrogate pair, '\ud83d', which is no character"),
        (
            "a.jsonl",
            b'{"txt": "", "n": 1}',
            f"{{}}:1: no column 'text'; did you mean 'txt'? columns are txt, n; {MEND}",
        ),
        ("a.jsonl", b"{}", f"{{}}:1: no column 'text'; there are no columns; {MEND}"),
        ("a.csv", b"id,story\n1,a\n", f"{{}}:2: no column 'text'; columns are id, story; {MEND}"),
        ("a.csv", b'id,text\n1,"a\nb"\n2\n', "{}:4: the header has 2 fields, but this row 1"),
        ("a.csv", b'id,text\n1,"a\n', "{}:3: not valid CSV: unexpected end of data"),
        ("a.parquet", b"PAR1 and nothing else PAR1", "cannot read the text {}: "),
    ],
)
def test_what_cannot_be_read_says_where_and_why(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert refusal(source(tmp_path / name)).startswith(message.format(tmp_path / name))


@given(
    ending=st.sampled_from([".jsonl", ".csv", ".txt.gz", ".jsonl.zst", ".txt.bz2"]),
    place=st.integers(0, 2000),
    byte=st.integers(0, 255),
    length=st.integers(0, 2000) | st.none(),
)
def test_a_damaged_file_is_read_or_refused_and_nothing_else(
    ending: str, place: int, byte: int, length: int | None
) -> None:
    with TemporaryDirectory() as folder:
        path = write(Path(folder, f"a{ending}"), STORIES * 10)
        content = bytearray(path.read_bytes())
        content[place % len(content)] = byte
        path.write_bytes(content[:length])
        with suppress(SourceError):
            list(documents(source(path)))


def test_a_parquet_file_without_the_column_or_with_numbers_in_it_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", ["a"])
    assert refusal(source(path, column="txt")) == (
        f"{path}: no column 'txt'; did you mean 'text'? columns are id, text; name one as 'text.column'"
    )
    assert refusal(source(path, column="id")) == f"{path}, row 1: column 'id' must hold text, not 0"


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [f"{number:x}" * 50 for number in range(5000)])
    content = bytearray(path.read_bytes())
    content[20_000:30_000] = os.urandom(10_000)
    path.write_bytes(content)
    assert refusal(source(path)).startswith(f"cannot read the text {path}: ")

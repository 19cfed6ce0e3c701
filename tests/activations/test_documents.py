"""Folders and datasets as one run of documents, read no further than asked; their digest; what is refused."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featgraph.activations import document_files as textfile
from featgraph.activations.documents import documents, text_digest
from featgraph.errors import SourceError
from featgraph.recipe import TextSource
from helpers.repository import ROOT
from helpers.texts import STORIES, all_of, refusal, source, write

NAMES = st.sampled_from(["a", "b/a", "b/c/a", "b.d/a", "b-/a", ".a", ".h/a", "Z"])
FILES = st.dictionaries(
    st.tuples(NAMES, st.sampled_from([".txt", ".txt.gz", ".jsonl", ".csv", ".parquet", ".md", ""])),
    st.lists(st.text("ab ä", max_size=5), max_size=3),
    max_size=6,
)


@given(FILES)
def test_a_folder_is_its_files_one_by_one(files: dict[tuple[str, str], list[str]]) -> None:
    with TemporaryDirectory() as folder:
        for (name, ending), rows in files.items():
            write(Path(folder, name + ending), rows)
        seen = sorted(Path(name + end) for name, end in files if end not in ("", ".md") and name[0] != ".")
        one_by_one = [document for path in seen for document in all_of(source(Path(folder) / path))]
        if seen:
            assert all_of(source(Path(folder))) == one_by_one
        else:
            assert refusal(source(Path(folder))).startswith(f"no text in the folder {folder}; ")


def test_a_linked_file_is_read_and_a_link_in_a_circle_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.md").write_text("linked")
    (tmp_path / "all" / "in").mkdir(parents=True)
    (tmp_path / "all" / "in" / "a.txt").symlink_to(tmp_path / "elsewhere.md")
    (tmp_path / "all" / "in" / "up").symlink_to(tmp_path / "all")
    (tmp_path / "all" / "nothing.txt").symlink_to(tmp_path / "absent")
    assert list(documents(source(tmp_path / "all"))) == ["linked"]


def test_a_caller_who_has_enough_leaves_the_rest_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(textfile, "CHUNK", 64)
    first = write(tmp_path / "a.jsonl", STORIES)
    first.write_bytes(first.read_bytes() + b" " * 64 + b"\xff")
    (tmp_path / "b.jsonl").write_text("broken")
    assert list(islice(documents(source(tmp_path)), len(STORIES))) == STORIES
    assert refusal(source(tmp_path)).startswith(f"{first} is not UTF-8 at byte ")


def test_an_absent_text_is_answered_with_the_nearest_name_there(tmp_path: Path) -> None:
    (tmp_path / "stories.txt").write_text("one")
    absent = tmp_path / "storeis.txt"
    assert refusal(source(absent)) == f"there is no text at {absent}; did you mean 'stories.txt'?"
    deeper = tmp_path.with_name(f"{tmp_path.name}x") / "a.txt"
    assert refusal(source(deeper)) == f"there is no text at {deeper}; did you mean {tmp_path.name!r}?"
    inside = tmp_path / "stories.txt" / "a.txt"
    assert refusal(source(inside)) == f"there is no text at {inside}; 'text.path' is relative to the recipe"


@pytest.mark.parametrize("ask", [lambda text: list(documents(text)), text_digest])
def test_neither_a_file_nor_a_folder_is_refused(tmp_path: Path, ask: Callable[[TextSource], object]) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match=r"pipe: it is neither a file nor a folder$"):
        ask(source(tmp_path / "pipe"))


def test_what_may_not_be_read_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "closed" / "a.txt", STORIES)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    assert refusal(source(path.parent)) == f"cannot read the text {path}: permission denied"
    path.parent.chmod(0)
    within = f"cannot read the text {tmp_path}: permission denied: {path.parent}"
    assert refusal(source(tmp_path)) == within
    for closed in (path, path.parent):
        assert refusal(source(closed)) == f"cannot read the text {closed}: permission denied"
    path.parent.chmod(0o700)


def test_the_digest_does_not_depend_on_where_the_text_lies_or_how_much_of_it_is_wanted(
    tmp_path: Path,
) -> None:
    for name in ("here", "there"):
        write(tmp_path / name / "in" / "a.txt", STORIES)
    here = source(tmp_path / "here")
    assert text_digest(here) == text_digest(source(tmp_path / "there"))
    assert text_digest(here) == text_digest(replace(here, tokens=5, context=99, column="text"))


def test_the_digest_changes_with_everything_that_may_change_a_document(tmp_path: Path) -> None:
    path = write(tmp_path / "all" / "a.txt", STORIES)
    text = source(tmp_path / "all")
    digests = [text_digest(text)]
    digests.append(text_digest(source(tmp_path / "all", separator="")))
    digests.append(text_digest(source(tmp_path / "all", column="other")))
    write(path, STORIES[:-1])
    digests.append(text_digest(text))
    path.rename(path.with_name("b.txt"))
    digests.append(text_digest(text))
    write(path, STORIES)
    digests.append(text_digest(text))
    (tmp_path / "all" / "README.md").write_text("not text")
    assert text_digest(text) == digests[-1]
    assert len(set(digests)) == len(digests) == 6


def test_the_digest_of_a_dataset_on_the_hub_needs_no_connection() -> None:
    hub = source(dataset="org/stories", split="train")
    others = [replace(hub, dataset="org/stories@v2"), replace(hub, split="test"), replace(hub, config="en")]
    assert text_digest(hub) == text_digest(replace(hub, tokens=5))
    assert len({text_digest(hub), *map(text_digest, others)}) == 4


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where `datasets` keeps what it has loaded; empty."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def folder(hub: Path, tmp_path: Path) -> Path:
    """A dataset with two splits in a folder that is named like a format."""
    for number, story in enumerate(STORIES[:-1]):
        write(tmp_path / "text" / "train" / f"{number}.jsonl", [story, ""])
    write(tmp_path / "text" / "test" / "0.jsonl", STORIES[-1:])
    return tmp_path / "text"


def test_a_split_of_a_folder_is_streamed_by_datasets(folder: Path) -> None:
    assert list(documents(source(dataset=str(folder), split="train"))) == STORIES[:-1]
    assert list(documents(source(dataset=str(folder), split="test"))) == STORIES[-1:]


def test_a_folder_of_parquet_has_one_split_and_needs_no_name_for_it(hub: Path, tmp_path: Path) -> None:
    write(tmp_path / "here" / "a.parquet", STORIES)
    assert list(documents(source(dataset=str(tmp_path / "here")))) == STORIES


def test_a_saved_dataset_is_read_whatever_format_it_was_saved_with(hub: Path, tmp_path: Path) -> None:
    saved = datasets.Dataset.from_dict({"text": STORIES, "id": list(range(len(STORIES)))}).with_format(
        "numpy"
    )
    saved.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": saved, "test": saved.select([1])}).save_to_disk(tmp_path / "several")
    assert list(documents(source(dataset=str(tmp_path / "one"), split="train"))) == STORIES
    assert list(documents(source(dataset=str(tmp_path / "several"), split="test"))) == STORIES[1:2]
    assert refusal(source(tmp_path / "one")) == (
        f"{tmp_path / 'one'} is a saved dataset; name it as 'text.dataset', not 'text.path'"
    )


def test_the_digest_of_a_dataset_in_a_folder_changes_with_any_of_its_files(folder: Path) -> None:
    text = source(dataset=str(folder), split="train")
    before = text_digest(text)
    (folder / "train" / "0.arrow").write_bytes(b"")
    assert len({before, text_digest(text), text_digest(replace(text, split="test"))}) == 3


def test_a_wrong_split_configuration_or_column_is_answered_with_those_that_there_are(folder: Path) -> None:
    name = str(folder)
    where = f"the dataset {name!r}"
    listed = "splits are train, test; name one as 'text.split'"
    assert refusal(source(dataset=name)) == f"{where} has several splits; {listed}"
    assert refusal(source(dataset=name, split="trian")) == (
        f"{where} has no split 'trian'; did you mean 'train'? {listed}"
    )
    assert refusal(source(dataset=name, split="train", config="en")).startswith(
        f"cannot read {where}: BuilderConfig 'en' not found. Available: ['default']"
    )
    assert refusal(source(dataset=name, split="train", column="texts")) == (
        f"{where}: no column 'texts'; did you mean 'text'? columns are id, text; name one as 'text.column'"
    )
    assert refusal(source(dataset=name, split="train", column="id")) == (
        f"{where}, row 1: column 'id' must hold text, not 0"
    )


def test_a_broken_file_of_a_dataset_is_an_error_after_what_could_be_read(folder: Path) -> None:
    (folder / "train" / "1.jsonl").write_text("broken")
    found = documents(source(dataset=str(folder), split="train"))
    assert next(found) == STORIES[0]
    with pytest.raises(SourceError, match=f"^cannot read the dataset '{folder}': JSON parse error"):
        next(found)


def test_without_a_connection_a_dataset_that_was_loaded_once_is_read(hub: Path, tmp_path: Path) -> None:
    datasets.load_dataset(str(write(tmp_path / "stories" / "a.jsonl", STORIES).parent))
    (hub / "stories").rename(hub / "org___stories")
    assert list(documents(source(dataset="org/stories", split="train"))) == STORIES


@pytest.mark.parametrize("name", ["org/stories", "stories", "org/stories@v2"])
def test_a_dataset_that_cannot_be_reached_says_how_to_bring_it_here(hub: Path, name: str) -> None:
    bare = name.partition("@")[0]
    assert refusal(source(dataset=name, split="train")) == (
        f"cannot reach the dataset {bare!r}, and there is no folder of that name; where there is a "
        f"connection, run `hf download {bare} --repo-type dataset --local-dir FOLDER`, then name that "
        f"folder as 'text.dataset'"
    )


def test_a_format_is_not_taken_for_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert refusal(source(dataset="json", split="train")) == (
        "'json' is a format, not a dataset; name the file or folder as 'text.path'"
    )


@pytest.mark.thorough
def test_reading_imports_nothing_heavy_before_it_is_needed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    code = (
        "import sys; from pathlib import Path; from featgraph.recipe import TextSource\n"
        "from featgraph.activations.documents import documents\n"
        "assert list(documents(TextSource(Path(sys.argv[1]), None, None, None, None, '', 1, 1))) == ['one']\n"
        "print({'datasets', 'torch', 'pyarrow', 'pandas'} & set(sys.modules))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.txt")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("set()\n", "")

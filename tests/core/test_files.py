"""Files appear under their names only when they are complete."""

from pathlib import Path

import pytest

from featgraph.core.files import atomic_file, fsync_path, os_reason, output_file
from featgraph.errors import UsageError


@pytest.mark.parametrize("fsync", [False, True])
def test_a_file_takes_its_name_once_it_is_written(tmp_path: Path, fsync: bool) -> None:
    path = tmp_path / "vector.json"
    with atomic_file(path, fsync=fsync) as partial:
        partial.write_text("{}")
        assert not path.exists()
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"vector.json": "{}"}


def test_a_writer_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "vector.json"
    path.write_text("old")

    def write() -> None:
        with atomic_file(path) as partial:
            partial.write_text("half")
            raise RuntimeError("cut off")

    with pytest.raises(RuntimeError, match="cut off"):
        write()
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"vector.json": "old"}


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    with atomic_file(tmp_path / "link") as partial:
        partial.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_only_an_output_file_turns_what_the_system_says_into_a_users_error(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere" / "file"
    with pytest.raises(FileNotFoundError), atomic_file(missing) as partial:
        partial.write_text("")
    refused = pytest.raises(UsageError, match=r"cannot write .*nowhere/file: no such file or directory$")
    with refused, output_file(missing) as partial:
        partial.write_text("")


def test_a_folder_can_be_forced_to_the_disk(tmp_path: Path) -> None:
    fsync_path(tmp_path)
    with pytest.raises(FileNotFoundError):
        fsync_path(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(28, "No space left on device"), "no space left on device"),
        (OSError("no number"), "no number"),
        (ValueError("the first line\nthe second"), "the first line"),
        (EOFError(), "EOFError"),
    ],
)
def test_a_reason_is_one_line(error: Exception, reason: str) -> None:
    assert os_reason(error) == reason

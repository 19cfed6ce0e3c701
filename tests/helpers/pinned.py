"""Texts that are pinned as files: a change shows as a diff; `pytest --update-texts` writes them anew."""

from pathlib import Path


def check_pinned(path: Path, text: str, *, update: bool) -> None:
    """Fail unless a file holds this text; with `update`, write it there.

    A test that calls this takes `update_texts`, the fixture that says what the flag says.
    """
    if update:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.is_file(), f"{path} is not there; write it with `pytest --update-texts`"
    assert text == path.read_text(encoding="utf-8"), (
        f"{path.name} changed; look, then `pytest --update-texts`"
    )

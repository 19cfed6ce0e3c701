"""Text that fits, whatever it holds."""

import unicodedata
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from featgraph.drawing.svg import Canvas
from featgraph.drawing.text import distinct, fit, fit_words, is_measured, text_width, visible, word, wrap
from helpers.pictures import HOSTILE, quick, words

rooms = st.floats(0, 300)
sizes = st.sampled_from([8.5, 11.0, 12.0])
UNSEEN = {"Cc", "Cs", "Zl", "Zp"}


@quick
@given(words)
def test_visible_text_is_valid_xml_without_direction_marks(text: str) -> None:
    shown = visible(text)
    assert visible(shown) == shown
    assert not {unicodedata.category(letter) for letter in shown} & UNSEEN
    assert not {unicodedata.bidirectional(letter) for letter in shown} & {
        "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"
    }  # fmt: skip
    canvas = Canvas("light")
    canvas.text(shown, 0, 0, 12)
    canvas.add("g", canvas.title(text), data_key=text)
    root = ElementTree.fromstring(canvas.finish(10, 10, text).encode())
    assert root.get("aria-label") == shown.replace("\t", " ")


def test_every_code_point_can_be_shown() -> None:
    for start in range(0, 0x110000, 0x8000):
        text = "".join(map(chr, range(start, start + 0x8000)))
        ElementTree.fromstring(f"<a>{visible(text).replace('&', '').replace('<', '')}</a>".encode())


@quick
@given(words, rooms, sizes, st.booleans())
def test_text_fits_its_room(text: str, room: float, size: float, bold: bool) -> None:
    shown = fit(visible(text), room, size, bold=bold)
    assert text_width(shown, size, bold=bold) <= room + 1e-6
    assert visible(text).startswith(shown.removesuffix("…"))


@quick
@given(words, rooms, sizes, st.integers(1, 3))
def test_wrapped_text_fits_line_by_line(text: str, room: float, size: float, lines: int) -> None:
    broken = wrap(visible(text), room, size, lines)
    assert len(broken) <= lines
    assert all(text_width(line, size) <= room + 1e-6 for line in broken)


@quick
@given(st.lists(words, max_size=6), rooms, sizes)
def test_words_are_whole_unless_there_is_room_for_none(several: list[str], room: float, size: float) -> None:
    seen = [visible(one) for one in several]
    shown = fit_words(seen, room, size)
    assert text_width(shown, size) <= room + 1e-6
    whole = [one for one in distinct(seen) if one]
    if whole and text_width(whole[0], size) <= room:
        assert any(shown == ", ".join(whole[:n]) for n in range(1, len(whole) + 1))
    else:
        assert shown == (fit(whole[0], room, size) if whole else "")


def test_a_long_first_word_is_cut() -> None:
    assert fit_words(["antidisestablishmentarianism", "b"], 60, 12).endswith("…")


@quick
@given(st.text(max_size=12), st.text(max_size=12), sizes)
def test_widths_add_up(one: str, two: str, size: float) -> None:
    assert abs(text_width(one + two, size) - text_width(one, size) - text_width(two, size)) < 1e-6


def test_widths_are_those_of_arial() -> None:
    # Advance widths of Arial in units of 2,048 to the em, from the font's own table.
    units = {" ": 569, "a": 1139, "i": 455, "m": 1706, "W": 1933, "@": 2079, "0": 1139, "é": 1139, "Ж": 1890}
    for letter, wide in units.items():
        assert -1e-3 < text_width(letter, 1) - wide / 2048 < 1 / 36, letter
    assert text_width("a", 1, bold=True) > 1139 / 2048 - 1e-3


def test_only_letters_of_the_tables_are_measured() -> None:
    assert is_measured("looked → sad, Жизнь…")
    assert not is_measured("日本")


def test_tokens_as_words() -> None:
    assert [word(token) for token in (" a", "\n", " ", "\t")] == ["a", r"\n", "' '", r"\t"]
    assert all(word(token) for token in HOSTILE if token)

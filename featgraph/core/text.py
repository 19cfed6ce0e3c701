"""Text for people: counts with their nouns, cells of tables, and text that is safe to print."""

import unicodedata


def pluralize(n: int, noun: str) -> str:
    """Return a number with a noun, plural if needed.

    >>> pluralize(1, "row"), pluralize(2000, "row")
    ('1 row', '2,000 rows')
    """
    return f"{n:,} {noun}{'s' * (n != 1)}"


def printable(text: str) -> str:
    r"""Return text without line breaks or terminal control codes, which tokens may contain.

    >>> print(printable("a\nb"))
    a\nb
    """
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def cut(text: str, most: int) -> str:
    """Return text, its end replaced by an ellipsis if it has more than `most` characters.

    >>> cut("a long label", 6), cut("short", 6)
    ('a lon…', 'short')
    """
    return text if len(text) <= most else text[: most - 1] + "…"


def cell(value: object) -> str:
    """Return a value as text for a table: floats with four digits, NULL empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(cell(item) for item in value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{printable(str(name))}: {cell(item)}" for name, item in value.items()) + "}"
    return printable(str(value))


def visible(text: str) -> str:
    r"""Return text without terminal control codes and invisible characters; line breaks and tabs stay.

    Removed are control characters, including escape sequences, and marks that change the writing direction.

    >>> print(visible("a\x1b[31mb\n\u202ec"))
    a\x1b[31mb
    \u202ec
    """
    return "".join(char if char in "\n\t" or not _is_control(char) else repr(char)[1:-1] for char in text)


def xml_text(text: str) -> str:
    r"""Return text with the characters escaped that XML forbids; others stay, joiners included.

    >>> xml_text("a\x00\u200cb") == "a" + r"\x00" + "\u200cb"
    True
    """
    kept = "\u200c\u200d"
    return "".join(
        char if char in kept or not (_is_control(char) or char in "\ufffe\uffff") else repr(char)[1:-1]
        for char in text
    )


def _is_control(char: str) -> bool:
    return not char.isprintable() and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")

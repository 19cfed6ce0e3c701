"""Text for people: a count with its noun, and text that a terminal shows as it is."""


def pluralize(n: int, noun: str) -> str:
    """Return a number and what it counts.

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

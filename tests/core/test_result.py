"""Conversions of a result, and its display."""

import pickle
from html.parser import HTMLParser

import pyarrow
import pytest

from featgraph import Result, UsageError

RESULT = Result.of(
    {"key": "VARCHAR", "n": "INTEGER", "cosine": "FLOAT", "members": "VARCHAR[]", "count_star()": "BIGINT"},
    [("0/res/1", 2, 0.8, ["1/res/1", "1/res/2"], 7), ("1/res/3", None, None, None, 8)],
)


def test_rows_have_names() -> None:
    first, second = RESULT
    assert (first.key, first.n, second.members) == ("0/res/1", 2, None)
    assert first == RESULT.rows[0]
    key, n, *_ = first
    assert (key, n) == ("0/res/1", 2)


def test_a_column_that_python_cannot_name_goes_by_its_place() -> None:
    assert [row._4 for row in RESULT] == [7, 8]


def test_rows_are_dictionaries_too() -> None:
    assert RESULT.dicts()[0]["count_star()"] == 7


def test_arrow_has_duckdbs_types() -> None:
    table = RESULT.to_arrow()
    assert table.schema.types == [
        pyarrow.string(),
        pyarrow.int32(),
        pyarrow.float32(),
        pyarrow.list_(pyarrow.string()),
        pyarrow.int64(),
    ]
    assert table.column("n").to_pylist() == [2, None]


def test_pandas_has_the_columns() -> None:
    frame = RESULT.to_pandas()
    assert list(frame.columns) == RESULT.columns
    assert frame["cosine"].dtype == "float32"
    assert frame["key"].tolist() == ["0/res/1", "1/res/3"]


def test_values_of_two_types_in_a_column_are_refused() -> None:
    with pytest.raises(UsageError, match=r"cannot hold column 'a' \(UNION\); cast it in the query"):
        Result(["a"], [(1,), ("x",)], ["UNION"]).to_pandas()


def test_a_result_without_columns_or_rows() -> None:
    assert repr(Result([], [])) == "Result of 0 rows"
    assert list(Result(["a"], [])) == []
    assert Result(["a"], []).to_arrow().num_rows == 0


def test_repr_shows_rows_in_columns() -> None:
    assert repr(RESULT).splitlines() == [
        "Result of 2 rows",
        "key      n  cosine  members           count_star()",
        "0/res/1  2  0.8     1/res/1, 1/res/2  7",
        "1/res/3                               8",
    ]


def test_repr_is_cut_and_says_so() -> None:
    lines = repr(Result.of({"n": "INTEGER"}, [(n,) for n in range(1000)])).splitlines()
    assert lines[0] == "Result of 1,000 rows, the first 20 shown"
    assert len(lines) == 22
    assert len(repr(Result(["text"], [("x" * 10_000,)]))) < 200


def test_a_token_cannot_steer_the_terminal() -> None:
    assert "\x1b" not in repr(Result(["token"], [("\x1b[2J\n",)]))


class _Text(HTMLParser):
    """The text of a document, and the names of its tags."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_html_escapes_what_a_graph_says() -> None:
    hostile = "<script>alert('x')</script>&lt;"
    parser = _Text()
    parser.feed(Result([hostile], [(hostile,)])._repr_html_())
    assert parser.tags == {"table", "thead", "tbody", "tr", "th", "td", "p"}
    assert parser.texts == [hostile, hostile, "1 row"]


def test_html_is_cut_with_a_count() -> None:
    page = Result(["n"], [(n,) for n in range(1000)])._repr_html_()
    assert page.count("<tr>") == 21
    assert page.endswith("<p>1,000 rows, the first 20 shown</p>")


def test_a_result_that_was_iterated_can_be_pickled() -> None:
    list(RESULT)
    assert pickle.loads(pickle.dumps(Result.of({"n": "INTEGER"}, [(1,)]))).rows == [(1,)]

"""Text search over labels: which labels have the words, in which order, and what a search may not be."""

import json
import shutil
import unicodedata
from collections.abc import Iterator
from math import log
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import featgraph
from featgraph import store as stores
from featgraph.cli import app
from featgraph.errors import QueryError, UsageError
from featgraph.graph import Graph
from helpers.examples import examples
from helpers.toy import ids

COLUMNS = ["id", "key", "layer", "site", "idx", "source", "text", "score"]

Label = tuple[str, str, str | None]

LABELS: list[Label] = [
    ("0/res/0", "tokens", "rain, Rain → drops"),
    ("0/res/0", "neuronpedia:oai", "Heavy rain and other weather"),
    ("0/res/1", "neuronpedia:oai", "words about weather"),
    ("0/res/2", "me", "weathering of stone"),
    ("1/res/0", "me", "stone"),
    ("1/res/1", "me", "100% sure_thing 'quoted' \\ back"),
    ("1/res/2", "me", "Über den Café-Rand"),
    ("1/res/3", "me", "rain of heavy stones, and heavy rainfall"),
    ("2/res/0", "neuronpedia", "U.S. weather"),
    ("2/res/1", "me", None),
]


def relabel(toy: Path, path: Path, labels: list[Label]) -> Path:
    """A copy of the toy graph with other labels."""
    number = ids()
    with duckdb.connect(str(shutil.copytree(toy, path) / "graph.duckdb")) as connection:
        connection.execute("truncate label")
        for key, source, text in labels:
            connection.execute("insert into label values (?, ?, ?)", [number[key], source, text])
    return path


@pytest.fixture(scope="module")
def labelled(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return relabel(toy, tmp_path_factory.mktemp("search") / "toy.featgraph", LABELS)


@pytest.fixture
def graph(labelled: Path) -> Iterator[Graph]:
    with featgraph.open(labelled) as opened:
        yield opened


def keys(graph: Graph, words: str, source: str | None = None) -> list[object]:
    return [row["key"] for row in graph.search(words, source=source).dicts()]


def test_a_row_is_a_feature_with_its_label_and_score(graph: Graph) -> None:
    found = graph.search("stone")
    assert found.columns == COLUMNS
    assert found.rows[0] == (20, "1/res/0", 1, "res", 0, "me", "stone", pytest.approx(2 * log(1 + 10 / 3)))
    assert [row[1] for row in found] == ["1/res/0", "0/res/2", "1/res/3"]


def test_whole_words_stand_before_beginnings_and_short_labels_before_long_ones(graph: Graph) -> None:
    assert keys(graph, "weather") == ["0/res/1", "2/res/0", "0/res/0", "0/res/2"]


def test_all_words_must_be_there_and_order_does_not_count(graph: Graph) -> None:
    assert keys(graph, "rain heavy") == keys(graph, "heavy rain") == ["0/res/0", "1/res/3"]
    assert keys(graph, "rain nowhere") == []


def test_words_in_double_quotes_stand_one_after_the_other(graph: Graph) -> None:
    assert keys(graph, '"heavy rain"') == ["0/res/0", "1/res/3"]
    assert keys(graph, '"rain heavy"') == []
    assert keys(graph, '"rain of" stone') == ["1/res/3"]
    assert keys(graph, "u.s.") == ["2/res/0"]


def test_a_word_counts_from_its_beginning_only(graph: Graph) -> None:
    assert keys(graph, "eather") == []
    assert keys(graph, "RAINF") == ["1/res/3"]


def test_case_and_accents_do_not_count(graph: Graph) -> None:
    assert keys(graph, "uber CAFE") == keys(graph, "ÜBER café") == ["1/res/2"]
    assert keys(graph, unicodedata.normalize("NFD", "Über")) == ["1/res/2"]


def test_a_feature_is_one_row_with_the_label_that_scores_most(graph: Graph) -> None:
    (row,) = [row for row in graph.search("rain").dicts() if row["key"] == "0/res/0"]
    assert (row["source"], row["text"]) == ("tokens", "rain, Rain → drops")
    (row,) = [row for row in graph.search("weather").dicts() if row["key"] == "0/res/0"]
    assert row["source"] == "neuronpedia:oai"


def test_of_labels_that_score_the_same_the_one_that_somebody_wrote_is_shown(
    toy: Path, tmp_path: Path
) -> None:
    same: list[Label] = [("0/res/0", source, "rain") for source in ("tokens", "zoe")]
    with featgraph.open(relabel(toy, tmp_path / "g.featgraph", same)) as graph:
        assert [row["source"] for row in graph.search("rain").dicts()] == ["zoe"]


def test_ties_go_by_id(toy: Path, tmp_path: Path) -> None:
    same: list[Label] = [(key, "me", "rain") for key in ("2/res/3", "0/att/1", "1/mlp/2")]
    with featgraph.open(relabel(toy, tmp_path / "g.featgraph", same)) as graph:
        assert keys(graph, "rain") == ["0/att/1", "1/mlp/2", "2/res/3"]


def test_a_source_is_one_or_all_that_begin_with_it(graph: Graph) -> None:
    assert keys(graph, "weather", source="neuronpedia:oai") == ["0/res/1", "0/res/0"]
    assert keys(graph, "weather", source="neuronpedia") == ["0/res/1", "2/res/0", "0/res/0"]
    assert keys(graph, "weather", source="neuro") == []
    assert keys(graph, "weather", source="tokens") == []


def test_rare_words_weigh_more(toy: Path, tmp_path: Path) -> None:
    common: list[Label] = [(f"0/res/{place}", "me", "the story of a day") for place in range(4)]
    labels: list[Label] = [
        *common,
        ("1/res/0", "me", "thesis rare thing a"),
        ("1/res/1", "me", "the rarely thing a"),
    ]
    with featgraph.open(relabel(toy, tmp_path / "g.featgraph", labels)) as graph:
        assert keys(graph, "the rare") == ["1/res/0", "1/res/1"]


@pytest.mark.parametrize("words", ["100%", "sure_thing", "'quoted'", "\\ back", "sure thing"])
def test_what_a_user_types_is_taken_as_it_is(graph: Graph, words: str) -> None:
    assert keys(graph, words) == ["1/res/1"]


@pytest.mark.parametrize(
    "words", ["%tone", "s_re", "s%e", "') union select 1 --", "[a-z]+x", "sure|stone", ".*stones.x"]
)
def test_nothing_a_user_types_is_a_pattern_or_sql(graph: Graph, words: str) -> None:
    assert keys(graph, words) == []


@pytest.mark.parametrize("words", ["", "  ", '""', "→ ()", "\x00"])
def test_a_search_for_nothing_is_refused(graph: Graph, labelled: Path, words: str) -> None:
    with pytest.raises(UsageError, match="has no letter or digit to search for; write 'rain'"):
        graph.search(words)
    with pytest.raises(QueryError, match="has no letter or digit"):
        graph.sql("from search($words)", {"words": words})
    with (
        duckdb.connect(str(labelled / "graph.duckdb"), read_only=True) as client,
        pytest.raises(duckdb.Error, match="search needs a word"),
    ):
        client.execute("from search(?)", [words]).fetchall()


def test_a_statement_searches_too(graph: Graph) -> None:
    rows = graph.sql("select key, score > 0 as ok from search('weather', source => 'me') order by key").rows
    assert rows == [("0/res/2", True)]
    joined = "select l.key from search($w) s, lineage('1/res/0') l where s.id = l.id"
    assert graph.sql(joined, {"w": "stone"}).rows == [("1/res/0",)]
    assert graph.sql("from search((select min(text) from label where text like 'sto%'))").rows


def test_any_duckdb_client_searches_and_gets_the_same(graph: Graph, labelled: Path) -> None:
    searches = ("weather", '"heavy rain"', "uber", "nowhere")
    with duckdb.connect(str(labelled / "graph.duckdb"), read_only=True) as client:
        found = [client.execute("from search(?)", [words]).fetchall() for words in searches]
    assert found == [graph.search(words).rows for words in searches]


def test_the_command_prints_what_the_verb_answers(graph: Graph, labelled: Path) -> None:
    arguments = ["search", str(labelled), "weather", "--source", "neuronpedia", "--format", "json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0
    assert [row["key"] for row in json.loads(done.stdout)] == keys(graph, "weather", "neuronpedia")
    refused = CliRunner().invoke(app, ["search", str(labelled), "()"])
    assert refused.exit_code == 2
    assert "words = '()' has no letter or digit to search for" in refused.stderr


# ---- against the definition, written in Python

ALPHABET = 'ab Ä,é."1'


def words_of(text: str) -> list[str]:
    bare = "".join(
        letter for letter in unicodedata.normalize("NFD", text) if not unicodedata.combining(letter)
    )
    return "".join(letter if letter.isalnum() else " " for letter in bare.lower()).split()


def expected(texts: list[str], query: str) -> dict[int, float]:
    """The score of each text that has all the words, by its place."""
    parts = query.split('"')
    alone = [word for part in parts[::2] for word in part.split()]
    terms = [term for term in map(words_of, [*alone, *parts[1::2]]) if term]
    folded = [unicodedata.normalize("NFD", text).lower() for text in texts]
    bare = ["".join(letter for letter in text if not unicodedata.combining(letter)) for text in folded]
    found = {}
    for place, words in enumerate(map(words_of, texts)):
        line = " " + " ".join(words) + " "
        if all(" " + " ".join(term) in line for term in terms):
            found[place] = sum(
                log(1 + len(texts) / sum(word in text for text in bare)) * ((word in words) + 1 / len(words))
                for word in {word for term in terms for word in term}
            )
    return found


class Labels:
    """A graph in memory that texts are put into."""

    def __init__(self) -> None:
        package = Path(stores.__file__).parent / "sql"
        self.connection = duckdb.connect(config={"threads": 1})
        for name in ("schema.sql", "search.sql"):
            self.connection.execute((package / name).read_text(encoding="utf-8"))
        statement = "insert into sae (layer, site, first_id, n_features) values (0, 'res', 0, 100)"
        self.connection.execute(statement)

    def search(self, texts: list[str], query: str) -> list[tuple[int, float]]:
        self.connection.execute("truncate label")
        self.connection.executemany("insert into label values (?, 'me', ?)", list(enumerate(texts)))
        return self.connection.execute("select id, score from search(?)", [query]).fetchall()

    def close(self) -> None:
        self.connection.close()
        del self.connection  # hypothesis keeps this object, and DuckDB counts what is left at exit


@pytest.fixture(scope="module")
def memory() -> Iterator[Labels]:
    opened = Labels()
    yield opened
    opened.close()


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    texts=st.lists(st.text(ALPHABET, max_size=12), min_size=1, max_size=6),
    query=st.text(ALPHABET, min_size=1, max_size=8),
)
def test_search_is_what_its_definition_says(memory: Labels, texts: list[str], query: str) -> None:
    assume(query.count('"') % 2 == 0 and words_of(query))
    rows = memory.search(texts, query)
    assert dict(rows) == pytest.approx(expected(texts, query), rel=1e-5)
    assert rows == sorted(rows, key=lambda row: (-row[1], row[0]))

"""What the shell offers at the cursor, which `^` marks."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from featgraph.core.keys import SaeRange
from featgraph.shell import Session
from featgraph.shell.completion import complete
from featgraph.shell.vocabulary import MOST_INDEXES, Words, keys
from helpers.toy import build_toy, ids


@pytest.fixture(scope="module")
def session(toy: Path) -> Iterator[Session]:
    with Session(toy) as opened:
        opened.parameters.update(min=0.5, most=3)
        yield opened


def offered(session: Session, line: str) -> list[str]:
    before, _, after = line.partition("^")
    typed, found = complete(session, before, after)
    assert before.endswith(typed)
    return [item.text for item in found]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        # where a statement starts
        ("se^", ["select"]),
        ("MA^", ["MATCH"]),
        ("select 1; ma^", ["match"]),
        ("with x as (se^", ["select"]),
        ("select key from (ma^", ["match"]),
        # tables and verbs
        ("select key from fe^", ["feature"]),
        ("from line^", ["lineage("]),
        ("from label l join ed^", ["edge"]),
        ("from splits() s, birt^", ["births("]),
        ("FROM GRA^", ["GRAPH_TABLE (MATCH"]),
        ("with strong as (select 1) from str^", ["strong"]),
        # columns
        ("select s_^ from feature", ["s_res", "s_mlp", "s_att"]),
        ("select found^", ["found_by"]),
        ("from edge where virt^", ["virtual_weight"]),
        ("from edge where rank_in * virt^", ["virtual_weight"]),
        ("from feature order by dens^", ["density"]),
        ("select count(dens^) from feature", ["density"]),
        ("select f.mean^ from feature f", ["mean_activation"]),
        ("select f.mean^ from feature as f", ["mean_activation"]),
        ("select l.key, f.i^ from splits() l join feature f using (id)", ["id", "idx"]),
        ("select label.te^ from label", ["text"]),
        ("select id from feature where id in (select ds^ from edge)", ["dst"]),
        # what follows an operand
        ("select key ^from feature", ["from", "as"]),
        ("select * fr^", ["from"]),
        ("from feature wh^", ["where"]),
        ("from lineage('1/res/0') LE^", ["LEFT JOIN"]),
        ("from feature where idx = 1 gr^", ["group by"]),
        ("from feature group ^", ["by"]),
        ("from feature order by key d^", ["desc"]),
        # verbs
        ("from lineage(^", ["f => ", "min => ", "hops => ", "writers => ", "writer_min => ", "by => "]),
        ("from lineage('1/res/0', h^", ["hops => "]),
        (
            "from lineage('1/res/0', min => 0.5, ^",
            ["f => ", "hops => ", "writers => ", "writer_min => ", "by => "],
        ),
        ("from lineage('1/res/0', writers => ^", ["true", "false"]),
        ("from splits(min => $^", ["$min", "$most"]),
        # patterns
        ("match ^", ["all", "all shortest", "any", "any shortest", "best", "shortest"]),
        ("match all ^", ["shortest"]),
        ("match best 3 ^", ["by"]),
        ("match best 3 by ^", ["product(", "sum(", "min("]),
        ("match best 3 by product(cos^", ["cosine"]),
        ("match (a:^", ["att", "mlp", "res"]),
        ("match (a is r^", ["res"]),
        ("match (a:mlp | ^", ["att", "mlp", "res"]),
        ("match (a)-[e:^", ["res_res", "mlp_res", "att_res"]),
        ("match (a)-[:res_res | ml^", ["mlp_res"]),
        ("match (a:res ^", ["where"]),
        ("match (a {dec^", ["decoder_norm"]),
        ("match (a)-[e {jac^", ["jaccard"]),
        ("match (a where ^", ["a."]),
        ("match (a where a.dens^", ["density"]),
        ("match (a)-[e where e.cos^", ["cosine"]),
        ("match (a)-[e where e.cosine > 0.5 an^", ["and"]),
        ("match (a)-[e]->(b), (^", ["a", "b"]),
        ("match (a)-[e]->(b) ^", ["where", "return"]),
        ("match (a)-[e]->{1,3}(b) where a.layer = 1 ret^", ["return"]),
        ("match (a)-[e]->(b) return ^", ["a.", "e.", "b."]),
        ("match p = (a)-[e]->+(b) return pa^", ["path_length(p)"]),
        ("match (a)-[e]->(b) return b.dens^", ["density"]),
        ("match (a)-[e]->(b) return avg(e.pea^", ["pearson"]),
        ("match (a)-[e]->(b) return a.key or^", ["order by"]),
        ("from graph_table (^", ["match"]),
        ("from graph_table (match (x)-[y]->(z) ^", ["where", "columns ("]),
        ("from graph_table (match (x)-[y]->(z) columns (y.fou^", ["found_by"]),
        ("select x.to^ from graph_table (match (x:res) columns (x.key))", ["top_tokens"]),
        # feature keys and other strings
        ("from lineage('^", ["0/", "1/", "2/"]),
        ("from lineage('1/^", ["1/att/", "1/mlp/", "1/res/"]),
        ("from lineage('1/r^", ["1/res/"]),
        ("from lineage('1/res/^", ["1/res/0", "1/res/1", "1/res/2", "1/res/3"]),
        ("from lineage('1/res/3^", ["1/res/3"]),
        ("from lineage('1/res/4^", []),
        ("match (a '2/m^", ["2/mlp/"]),
        ("select id from feature where key = '0/att/1^", ["0/att/1"]),
        ("from feature where site = '^", ["att", "mlp", "res"]),
        ("from feature where site in ('res', 'm^", ["mlp"]),
        ("match (a {site: 'r^", ["res"]),
        ("from edge where kind <> 'm^", ["mlp_res"]),
        ("from label where text like '^", []),
        # where nothing can be said
        ("select 1 -- fr^", []),
        ('select "ke^', []),
        ("from feature limit ^", []),
    ],
)
def test_a_statement_is_completed(session: Session, line: str, expected: list[str]) -> None:
    assert offered(session, line) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (".q^", [".queries", ".quit"]),
        (".schema sa^", ["sae"]),
        (".format js^", ["json", "jsonl"]),
        (".run st^", ["stable-features"]),
        (".queries st^", ["stable-features"]),
        (".run splits ^", ["min=", "layer="]),
        (".run splits min=0.5 ^", ["layer="]),
        (".run lineage feature=1/re^", ["feature=1/res/"]),
        (".run lineage writers=^", ["writers=true", "writers=false"]),
        (".run nothing ^", []),
        (".set m^", ["min=", "most="]),
        (".explain match (a:r^", ["res"]),
        (".timeout ^", []),
        (".nonsense ^", []),
    ],
)
def test_a_dot_command_is_completed(session: Session, line: str, expected: list[str]) -> None:
    assert offered(session, line) == expected


def test_an_empty_line_offers_statements_and_commands(session: Session) -> None:
    found = offered(session, "^")
    assert {"select", "match", ".help", ".run"} <= set(found)


def test_files_are_completed(session: Session, tmp_path: Path) -> None:
    (tmp_path / "one.sql").touch()
    (tmp_path / "folder").mkdir()
    assert offered(session, f".read {tmp_path}/^") == [f"{tmp_path}/folder/", f"{tmp_path}/one.sql"]
    assert offered(session, f".read {tmp_path}/nowhere/^") == []


def test_a_feature_is_shown_with_its_label(session: Session) -> None:
    _, found = complete(session, "from lineage('1/res/")
    assert [item.about for item in found] == ["cat, cats", "", "", "sun"]


def test_a_label_that_somebody_wrote_is_shown_rather_than_tokens(tmp_path: Path) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    with duckdb.connect(str(path / "graph.duckdb")) as connection:
        feature = ids()["1/res/0"]
        connection.execute("insert into label values ($1, 'user', 'zoo'), ($1, 'zzz', 'ape')", [feature])
    with Session(path) as session:
        _, found = complete(session, "from lineage('1/res/")
    assert [item.about for item in found] == ["zoo", "", "", "sun"]


def test_a_wide_sae_offers_the_first_features_that_begin_as_typed() -> None:
    words = Words({}, [SaeRange(0, 3, "res", 0, 65_536)], lambda ids: {}, {})
    found = [item.text for item in keys("3/res/12", words)]
    assert found[:3] == ["3/res/12", "3/res/120", "3/res/121"]
    assert len(found) == MOST_INDEXES
    assert [item.text for item in keys("3/res/6553", words)][-1] == "3/res/65535"


def test_a_graph_that_is_gone_still_completes_words(session: Session, toy: Path) -> None:
    with Session(toy) as other:
        assert other.words.tables
        other.store.connection.close()
        assert offered(other, "from lineage('1/res/3^") == ["1/res/3"]

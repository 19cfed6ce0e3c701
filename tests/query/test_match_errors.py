"""What is wrong in a pattern or a verb is said with the place, the nearest right thing, and what to write."""

from pathlib import Path

import pytest

from featgraph.errors import QueryError
from featgraph.query import run
from featgraph.query.language.source_map import mark, unmark
from featgraph.query.language.tokens import tokenize
from featgraph.store import Store


def refusal(store: Store, statement: str) -> tuple[str, str]:
    """The message, and the part of the statement that the carets are under."""
    with pytest.raises(QueryError) as caught:
        run(store, statement)
    message, line, carets = str(caught.value).splitlines()
    assert caught.value.position is not None
    assert 0 <= caught.value.position <= len(statement)
    return message, line[carets.index("^") : carets.rindex("^") + 1]


@pytest.mark.parametrize(
    ("statement", "message", "at"),
    [
        ("MATCH (a:rse) RETURN a.key", "no site 'rse'; did you mean 'res'?", "rse"),
        (
            "MATCH (a)-[e:res_rse]->(b) RETURN a.key",
            "no kind of edge 'res_rse'; did you mean 'res_res'?",
            "res_rse",
        ),
        (
            "MATCH (a) RETURN a.densty",
            "a feature has no property 'densty'; did you mean 'density'?",
            "densty",
        ),
        (
            "MATCH (a {layr: 1}) RETURN a.key",
            "a feature has no property 'layr'; did you mean 'layer'?",
            "layr",
        ),
        (
            "MATCH (a)-[e]->(b) RETURN e.cosin",
            "an edge has no property 'cosin'; did you mean 'cosine'?",
            "cosin",
        ),
        (
            "MATCH (one)->(b) RETURN onee.key",
            "no variable 'onee' in this pattern; did you mean 'one'?",
            "onee",
        ),
        ("MATCH (a '1/res/9') RETURN a.key", "1/res has 4 features; the last is '1/res/3'", "'1/res/9'"),
        ("MATCH (a '1/rse/0') RETURN a.key", "did you mean 'res'?", "'1/rse/0'"),
        ("MATCH (a '1-res-0') RETURN a.key", "is not a feature key; write layer/site/index", "'1-res-0'"),
        ('MATCH ("1/res/0") RETURN 1', "a feature key stands in single quotes: ('1/res/0')", '"1/res/0"'),
        ("MATCH (1/res/0) RETURN 1", "a feature key stands in single quotes", "1"),
        ("MATCH (a) RETURN a", "a is a node; write what of it you want, such as a.key", "a"),
        ("MATCH (a)-[e]->(b) RETURN e", "e is an edge; write what of it you want, such as e.cosine", "e"),
        ("MATCH p = (a)->(b) RETURN p", "p is a path; write what of it you want, such as keys(p)", "p"),
        ("MATCH p = (a)->(b) RETURN p.weight", "p is a path; write keys(p), path_length(p), weight(p)", "p"),
        (
            "MATCH (a)-[e]->+(b) RETURN e.cosine",
            "e is a run of edges; say how to combine them, such as avg",
            "e",
        ),
        ("MATCH (a)->(b) RETURN keys(a)", "keys wants a path; name it in the pattern", "a"),
        ("MATCH (a)-[a]->(b) RETURN 1", "the name a stands for two things; give one of them another", "a"),
        ("MATCH (a)-[e]->(b), (c)-[e]->(d) RETURN 1", "the name e stands for two things", "e"),
        ("MATCH (a WHERE a.layer < b.layer)->(b) RETURN 1", "move the one on b to the WHERE after", "b"),
        (
            "MATCH (a)-[e WHERE avg(e.cosine) > 0.5]->{2}(b) RETURN 1",
            "avg is of a whole path; in brackets",
            "avg",
        ),
        (
            "MATCH p = (a)-[e WHERE path_length(p) > 1]->*(b) RETURN 1",
            "path_length is of a whole path",
            "path_length",
        ),
        ("MATCH (a)-[e WHERE a.layer = 1]->(b) RETURN 1", "move the one on a to the WHERE after", "a"),
        (
            "MATCH (a) WHERE layer = 1 RETURN a.key",
            "in a pattern write variable.property, such as a.key",
            "layer",
        ),
        ("MATCH (a)->(b) RETURN *", "name what to return, such as a.key", "*"),
        ("MATCH (a)->(b)", "a MATCH needs what it returns, such as RETURN a.key", ""),
        ("MATCH (a) RETURN a.key, count(*)", "add GROUP BY ALL", "a.key"),
        ("MATCH (a) RETURN foo(a.key)", "no function 'foo'", "foo(a.key)"),
        ("MATCH (a) RETURN a.key ORDER", 'syntax error at or near "ORDER"', "ORDER"),
        ("MATCH (a) RETURN a.density::date", "unimplemented type for cast", "::date"),
    ],
)
def test_a_wrong_name_is_shown_with_the_right_one(
    store: Store, statement: str, message: str, at: str
) -> None:
    said, place = refusal(store, statement)
    assert message in said
    assert place.strip() == at or (not at and len(place) == 1)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("MATCH (a)-[e*1..5]->(b) RETURN 1", "the quantifier stands after the arrow: -[...]->{1,5}"),
        ("MATCH (a)-[:res_res*2]->(b) RETURN 1", "the quantifier stands after the arrow: -[...]->{2}"),
        ("MATCH (a)-[*]->(b) RETURN 1", "the quantifier stands after the arrow: -[...]->*"),
        ("MATCH (a)-[e]->*1..5(b) RETURN 1", "write {1,5} instead of *1"),
        ("MATCH (a)-->(b) RETURN 1", "--> begins a comment in SQL; write -> for an edge"),
        ("MATCH (a)<--(b) RETURN 1", "<-- begins a comment in SQL; write <-"),
        ("MATCH (a)-[e]-(b) RETURN 1", "an edge needs a direction"),
        ("MATCH (a)<-[e]->(b) RETURN 1", "an edge needs a direction"),
        ("MATCH (a)-(b) RETURN 1", "an edge needs a direction"),
        ("MATCH (a)~[e]~(b) RETURN 1", "expected an edge, WHERE, or the columns to return, found '~'"),
        (
            "MATCH ((a)-[e]->(b)){2} RETURN 1",
            "a path in parentheses is not supported; a quantifier stands after",
        ),
        ("MATCH (a){2} RETURN 1", "a quantifier stands after an edge"),
        ("MATCH (a)-[e]->{5,2}(b) RETURN 1", "{5,2} ends before it begins; write {2,5}"),
        ("MATCH (a)-[e]->{,}(b) RETURN 1", "a quantifier needs a number; write {1,5}, {2,} or *"),
        ("MATCH (a)-[e]->{1.5}(b) RETURN 1", "expected a whole number, found '1.5'"),
        ("MATCH OPTIONAL (a) RETURN 1", "OPTIONAL is not part of this language; write a LEFT JOIN"),
        ("MATCH CHEAPEST (a) RETURN 1", "CHEAPEST is not part of this language; write BEST"),
        ("MATCH SHORTEST (a)->(b) RETURN 1", "SHORTEST needs a number of paths"),
        ("MATCH SHORTEST 2 GROUPS (a)->(b) RETURN 1", "groups of paths are not supported; ALL SHORTEST"),
        ("MATCH ANY ANY (a)->(b) RETURN 1", "a path has one selector; take ANY away"),
        ("MATCH TRAIL (a)->(b)<-(c) RETURN 1", "TRAIL is for paths that go one way"),
        ("MATCH ANY 3 (a)->(b) RETURN 1", "ANY takes no number; write SHORTEST 3 or BEST"),
        ("MATCH BEST BY max(cosine) (a)->(b) RETURN 1", "paths have no score 'max'"),
        ("MATCH BEST BY sum(kind) (a)->(b) RETURN 1", "paths have no number 'kind' to be the best by"),
        ("MATCH (a:res&mlp) RETURN 1", "labels are joined by | only"),
        ("MATCH (a {layer = 1}) RETURN 1", "write {layer: ...}, or WHERE for other comparisons"),
        ("MATCH (a {layer: 1) RETURN 1", "expected '}' after the properties, found ')'"),
        ("MATCH (a RETURN 1", "expected ')' or WHERE in a node"),
        ("MATCH (a WHERE (b.x) RETURN 1", "expected ')' or WHERE in a node, found the end"),
        ("MATCH", "expected a node such as (a:res), found the end"),
        ("MATCH (a) RETURN element_id(a)", "write a.id for the id of a feature"),
        ("select * from (match (a) return a.key)", "inside SQL write FROM GRAPH_TABLE (MATCH ..."),
        ("with t as (match (a) return a.key) from t", "MATCH ... RETURN stands alone"),
        (
            "from graph_table (match (a) return a.key)",
            "inside GRAPH_TABLE write COLUMNS (...) in place of RETURN",
        ),
        ("from graph_table (match (a))", "GRAPH_TABLE needs its columns: COLUMNS (a.key, b.key)"),
        ("from graph_table (select 1)", "GRAPH_TABLE holds a pattern"),
        ("from graph_table (match (a) columns (a.key)", "this '(' is not closed; add ')'"),
        ("select 'a", "this string has no closing '"),
        ('select "a', 'this name has no closing "'),
        ("select /* a", "this comment has no closing */"),
        ("match (a) return a.key; match (b) return b.key", "2 statements where one is expected"),
        ("match (a) return a.key /* \ufdd0 */", "cannot be part of a statement"),
        ("from lineage(" * 30 + ")" * 30, "brackets are nested too deep here"),
        ("MATCH (a $$x$$) RETURN 1", "a feature key is text such as '12/res/345'"),
    ],
)
def test_what_is_written_otherwise_here_is_refused_with_how(
    store: Store, statement: str, message: str
) -> None:
    assert message in refusal(store, statement)[0]


@pytest.mark.parametrize(
    ("statement", "message", "at"),
    [
        ("from lineage('1/res/9')", "no feature '1/res/9'", "'1/res/9'"),
        ("from lineage()", "lineage needs f; write lineage('3/res/346')", "lineage"),
        ("from lineage('1/res/0', mn => 0.5)", "lineage takes no 'mn'; did you mean 'min'?", "mn"),
        ("from lineage('1/res/0', 0.5, min => 0.5)", "min is given twice", "min"),
        ("from lineage('1/res/0', min => 5)", "min = 5 is out of range: -1 to 1", "5"),
        ("from lineage('1/res/0', hops => -1)", "hops = -1 is too small", "-"),
        ("from splits(0.5, 1, 'cosine', 2)", "splits takes at most 3 arguments: min, layer, by", "2"),
        ("from splits(0.5, 1, 2)", "by = 2 is not text; write it in quotes", "2"),
        ("from splits(0.5,)", "an argument of splits is missing", "splits"),
        ("from paths('0/res/1', '2/res/1', score => 'prodct')", "did you mean 'product'?", "'prodct'"),
        ("from similar('1/res/0', k => layer)", "k must be a constant or a parameter here", "layer"),
        ("from similar(vector => [1, 2])", "the vector has 2 numbers", "similar"),
        ("from linage('1/res/0')", "no verb 'linage'; did you mean 'lineage'?", "linage('1/res/0')"),
        ("from featur", "no table 'featur'; did you mean 'feature'?", "featur"),
        ("select x.key from feature f", "no table or alias 'x' here", "x.key"),
    ],
)
def test_a_wrong_call_of_a_verb_is_pointed_at(store: Store, statement: str, message: str, at: str) -> None:
    said, place = refusal(store, statement)
    assert message in said
    assert place == at


@pytest.mark.parametrize(
    "statement",
    [
        "MATCH (a WHERE a.key in (select content from read_text('{file}'))) RETURN a.key",
        "MATCH (a) WHERE a.key in (from '{file}') RETURN a.key",
        "MATCH (a) RETURN (select count(*) from read_csv('{file}'))",
        "MATCH (a) RETURN a.key UNION ALL FROM read_text('{file}')",
        "MATCH (a) RETURN a.key; COPY label TO '{file}'",
        "from lineage((select content from read_text('{file}')))",
        "from graph_table (match (a) columns (a.key)) t, read_blob('{file}')",
        "explain analyze match (a) return (select count(*) from glob('{file}'))",
        "MATCH (a) RETURN getenv('HOME')",
    ],
)
def test_no_part_of_a_pattern_reaches_a_file(store: Store, tmp_path: Path, statement: str) -> None:
    file = tmp_path / "secret.txt"
    file.write_text("0/res/0")
    with pytest.raises(QueryError) as caught:
        run(store, statement.format(file=file))
    assert caught.value.position is not None
    assert file.read_text() == "0/res/0"


def test_a_fault_far_into_a_statement_is_shown_at_its_own_line(store: Store) -> None:
    statement = (
        "select s.key\nfrom splits() s\njoin graph_table (\n  match (a)-[e]->(b)\n"
        "  columns (a.id, b.kye)\n) t using (id)"
    )
    with pytest.raises(QueryError) as caught:
        run(store, statement)
    message, line, carets = str(caught.value).splitlines()
    assert message == "a feature has no property 'kye'; did you mean 'key'?"
    assert line == "  LINE 5, COLUMN 20:   columns (a.id, b.kye)"
    assert line[carets.index("^") :] == "kye)"


def test_the_caret_counts_characters_after_a_pattern_too(store: Store) -> None:
    statement = "MATCH (a)-[e]->{1,2}(b) WHERE a.key <> 'é→😀' RETURN b.key, 'é', foo(1)"
    assert refusal(store, statement)[1] == "foo(1)"


def test_a_long_line_is_shown_around_the_fault_only(store: Store) -> None:
    statement = (
        f"MATCH (a) WHERE a.key not in ({', '.join(['0'] * 300)}) RETURN a.kye, {', '.join(['1'] * 300)}"
    )
    with pytest.raises(QueryError) as caught:
        run(store, statement)
    _, line, carets = str(caught.value).splitlines()
    assert len(line) < 300
    assert line[carets.index("^") : carets.rindex("^") + 1] == "kye"


def test_marks_say_where_sql_comes_from() -> None:
    source = "select foo from bar"
    sql, origins = unmark(f"with x as ({mark('made up', 7, 10)}) {mark('from bar', 11, 19)}", source)
    assert sql == "with x as (made up) from bar"
    assert origins.span(sql.index("up"), sql.index("up") + 2) == (7, 3)
    assert origins.span(sql.index("bar"), sql.index("bar") + 3) == (16, 3)


def test_tokens_cover_a_statement_without_gaps_but_blanks_and_comments() -> None:
    text = 'select $x, $$a;b$$ -- c\n, E\'it\\\'s\', "q""x", .5, 1.5e-3, 1_000, 1..5 /* d */ from t'
    tokens = tokenize(text)
    words = [
        "select",
        "$x",
        ",",
        "$$a;b$$",
        ",",
        "E'it\\'s'",
        ",",
        '"q""x"',
        ",",
        ".5",
        ",",
        "1.5e-3",
        ",",
        "1_000",
    ]
    assert [token.text for token in tokens[:-1]] == [*words, ",", "1", ".", ".5", "from", "t"]
    assert all(text[token.start : token.end] == token.text for token in tokens)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("select error('does not have a column named')", "does not have a column named"),
        ("select error('Referenced table')", "referenced table"),
        ("select error('more paths than may be followed')", "more paths than may be followed"),
        ("select interval 9999999 years", "cast it to text"),
        ("splits(min => 1e9999999)", "syntax error"),
        ("from splits(min => 1e9999999)", "is out of range"),
        ("PIVOT feature ON site USING count(*)", "name the values, as in FROM (PIVOT"),
    ],
)
def test_odd_values_end_in_a_message(store: Store, statement: str, message: str) -> None:
    with pytest.raises(QueryError) as caught:
        run(store, statement, max_rows=None)
    assert message in str(caught.value)
    assert caught.value.position is not None

"""Graphs, recipes and models from somebody else: no code of theirs runs, no file is touched for them."""

import io
import json
import sys
from pathlib import Path

import duckdb
import pytest

import featgraph
from featgraph import StoreError, store
from featgraph.core.bounded import json_value, read_bytes, read_text, toml_value
from featgraph.errors import RecipeError, SourceError
from featgraph.labels import from_table
from featgraph.recipe import read_recipe
from featgraph.store.layout import DATABASE
from featgraph.store.verify import is_whole, verify
from helpers.toy import build_toy

ADDED = {
    "a label view that reads files": "alter table label rename to old; create view label as "
    "select 1 as feature, content as source, filename as text from read_text('/etc/passwd')",
    "another view": "create view mine as from edge",
    "a macro in place of DuckDB's own": "create macro list_contains(a, b) as true",
    "another verb": "create or replace macro splits(min := null, layer := null, by := 'cosine') as table "
    "select 1 as id",
    "another table": "create table mine (x integer)",
    "another column": "alter table label add column more varchar",
    "another type": "alter table label alter column feature type bigint",
    "a table that is gone": "drop table meta",
    "a default": "alter table label alter column text set default 'x'",
    "an index": "create index mine on label (feature)",
    "a sequence": "create sequence mine",
    "a type": "create type mine as enum ('a')",
    "a schema": "create schema mine",
    "a constraint": "create or replace table meta (key varchar not null, value varchar)",
    "a generated column": "create or replace table meta "
    "(key varchar, value varchar generated always as (key))",
}


@pytest.mark.parametrize(
    "macro", ["count_star() as 1", "max(x) as 0", "lower(x) as 'a'", "m() as table select 1"]
)
def test_a_macro_in_place_of_a_function_is_not_read(tmp_path: Path, macro: str) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    with duckdb.connect(str(path / DATABASE)) as connection:
        connection.execute(f"create macro {macro}")
    name = macro.partition("(")[0]
    with (
        pytest.raises(StoreError, match=f"has a macro '{name}', which no graph has"),
        featgraph.open(path) as g,
    ):
        g.sql("select count(*) from edge")
    assert not is_whole(verify(path))


@pytest.mark.thorough
@pytest.mark.parametrize("what", ADDED)
def test_a_graph_that_holds_something_else_is_not_written_to(tmp_path: Path, what: str) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    with duckdb.connect(str(path / DATABASE)) as connection:
        for statement in ADDED[what].split("; "):
            connection.execute(statement)
    before = (path / DATABASE).read_bytes()
    table = tmp_path / "labels.csv"
    table.write_text("key,text\n0/res/0,mine\n")
    with pytest.raises(StoreError, match=r"is not as featgraph writes a graph|has a view|has a macro"):
        from_table(path, table)
    assert (path / DATABASE).read_bytes() == before
    assert sorted(found.name for found in path.iterdir()) == [DATABASE, "manifest.json", "vectors"]


@pytest.mark.thorough
@pytest.mark.parametrize("name", [".labelling", DATABASE, "manifest.json"])
def test_a_link_in_a_graph_is_not_followed_when_it_is_written_to(tmp_path: Path, name: str) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    elsewhere = tmp_path / "elsewhere"
    if name == ".labelling":
        elsewhere.mkdir()
        (elsewhere / "graph.duckdb.mine").write_text("mine")
    else:
        (path / name).rename(elsewhere)
    (path / name).symlink_to(elsewhere)
    table = tmp_path / "labels.csv"
    table.write_text("key,text\n0/res/0,mine\n")
    with pytest.raises(StoreError, match="is a link, which no graph has"):
        from_table(path, table)
    if name == ".labelling":
        assert (elsewhere / "graph.duckdb.mine").read_text() == "mine"


DEEP = 100_000

PARTS: dict[str, object] = {
    "format_version": float("inf"),
    "recipe": {"name": "../../etc/recipe"},
    "model": {"name": "toy", "d_model": 2e9},
    "saes": [1, 2],
    "text": [],
    "vectors": {"res.0.faiss": 7},
    "labels": {"source": "x"},
}


@pytest.mark.thorough
@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_another_kind_is_one_line(tmp_path: Path, part: str) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    file = path / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), part: PARTS[part]}))
    with pytest.raises(StoreError, match="is broken") as refusal:
        featgraph.open(path)
    assert "\n" not in str(refusal.value)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "a\\b", "/etc/x", "../x"])
def test_the_name_of_a_recipe_leads_nowhere(tmp_path: Path, name: str) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    file = path / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "recipe": {"name": name}}))
    with pytest.raises(StoreError, match=r"its recipe\.name cannot be"):
        featgraph.open(path)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "text", ["[" * DEEP, "[" * DEEP + "]" * DEEP, '{"a":' * DEEP + "1" + "}" * DEEP, "9" * 9999]
)
def test_json_that_no_parser_should_see_is_an_error_like_any_other(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        json_value(text)
    path = build_toy(tmp_path / "toy.featgraph")
    (path / "manifest.json").write_text(text)
    with pytest.raises(StoreError, match="is broken"):
        featgraph.open(path)


def test_what_is_missing_is_named_when_it_is_needed(tmp_path: Path) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    (path / "manifest.json").write_text(json.dumps({"format_version": store.FORMAT_VERSION}))
    with featgraph.open(path) as graph:
        with pytest.raises(StoreError, match=r"has no 'saes'"):
            graph.steering_vector("1/res/0")
        with pytest.raises(StoreError, match=r"model\.d_model"):
            graph.similar("1/res/0")


RECIPES = {
    "seed": ("seed = 0", "seed = -1", "'seed' must be at least 0, not -1"),
    "layers": (
        "layers = 3",
        "layers = 1000000000000",
        "'suite.layers' must be at most 10,000, not 1,000,000,000,000",
    ),
    "digits": ("seed = 0", f"seed = {'9' * 5000}", "not valid TOML"),
    "deep": ("seed = 0", f"seed = {'[' * DEEP}", "nested"),
    "k": ("top_k = 3", "top_k = 2000000000", "'edges.top_k' must be at most 10,000"),
    "context": ("context = 12", "context = 99999999999", "'text.context' must be at most"),
    "backslash": ('path = "small/model"', 'path = "C:\\data"', "in single quotes"),
}


@pytest.mark.parametrize("what", RECIPES)
def test_numbers_and_nesting_of_a_recipe_have_bounds(small_recipe: Path, tmp_path: Path, what: str) -> None:
    before, after, said = RECIPES[what]
    file = tmp_path / "odd.toml"
    text = small_recipe.read_text()
    assert before in text
    file.write_text(text.replace(before, after, 1))
    with pytest.raises(RecipeError) as refusal:
        read_recipe(file)
    assert said in str(refusal.value)


def test_a_mark_at_the_beginning_and_the_users_folder_are_understood(
    small_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "marked.toml"
    text = small_recipe.read_text().replace('path = "small/', 'path = "~/small/')
    file.write_text("\ufeff" + text, encoding="utf-8")
    recipe = read_recipe(file)
    assert recipe.model.path == tmp_path / "small/model"
    assert str(recipe.sources[0].path).startswith(str(tmp_path))


def test_the_users_folder_is_understood_where_a_graph_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    build_toy(tmp_path / "toy.featgraph")
    with featgraph.open("~/toy.featgraph") as graph:
        assert graph.sql("select count(*) from edge").rows == [(len(graph.sql("from edge").rows),)]


def test_files_without_an_end_are_refused(tmp_path: Path) -> None:
    for read in (read_bytes, read_text):
        with pytest.raises(ValueError, match="not a regular file"):
            read(Path("/dev/zero"))
    (tmp_path / "large").write_bytes(b"x" * 11)
    with pytest.raises(ValueError, match="larger than"):
        read_bytes(tmp_path / "large", 10)
    with pytest.raises(ValueError, match="nested"):
        toml_value("a = " + "[" * 500 + "]" * 500)


def test_code_of_a_model_is_not_run_and_nothing_asks_for_it(
    small_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from featgraph import suite

    folder, ran = tmp_path / "model", tmp_path / "ran"
    folder.mkdir()
    (folder / "code.py").write_text(f"open({str(ran)!r}, 'w')\nclass C: pass\nclass M: pass\n")
    auto = {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M", "AutoTokenizer": ["code.M", None]}
    (folder / "config.json").write_text(json.dumps({"model_type": "mine", "auto_map": auto}))
    file = tmp_path / "theirs.toml"
    file.write_text(small_recipe.read_text().replace('"small/model"', f'"{folder}"'))
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 9))
    for load in (suite.load_model, suite.load_meta_model):
        with pytest.raises(SourceError, match="cannot load model") as refusal:
            load(read_recipe(file))
        assert "\n" not in str(refusal.value)
    assert not ran.exists()
    assert sys.stdin.read() == "y\n" * 9


def test_a_pickle_that_is_no_weights_is_one_line(small_recipe: Path, tmp_path: Path) -> None:
    import pickle
    import shutil

    from featgraph import suite

    class Harm:
        def __reduce__(self) -> tuple[object, ...]:
            return open, (str(tmp_path / "ran"), "w")

    folder = tmp_path / "model"
    shutil.copytree(small_recipe.parent / "small/model", folder)
    for file in folder.glob("*.safetensors"):
        file.unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Harm()))
    recipe = tmp_path / "theirs.toml"
    recipe.write_text(small_recipe.read_text().replace('"small/model"', f'"{folder}"'))
    with pytest.raises(SourceError, match="cannot load model"):
        suite.load_model(read_recipe(recipe))
    assert not (tmp_path / "ran").exists()

"""What `import featgraph` gives."""

from pathlib import Path

import pytest

import featgraph
from featgraph import errors, export
from featgraph.steering import SteeringVector


def test_every_name_of_the_door_is_there() -> None:
    for name in featgraph.__all__:
        assert getattr(featgraph, name) is not None
    assert featgraph.SteeringVector is SteeringVector
    classes = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert {name for name in classes if name.endswith("Error")} <= set(featgraph.__all__)


def test_a_name_that_is_not_there_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Grpah'"):
        featgraph.Grpah  # noqa: B018


def test_what_a_user_holds_says_what_it_is(toy: Path) -> None:
    with featgraph.open(toy) as graph:
        assert repr(graph).startswith(f"<Graph {toy}: ")
        lineage = graph.lineage("1/res/0")
        assert repr(lineage) == "<Lineage of 1/res/0: 7 features, 6 edges, layers 0 to 2>"
        vector = graph.steering_vector("1/res/0", unit="unit", scale=2)
    assert repr(vector).startswith("<SteeringVector add 1/res/0: scale 2 (unit), layers 1 of ")


def test_a_vector_is_saved_in_the_format_of_its_name(toy: Path, tmp_path: Path) -> None:
    with featgraph.open(toy) as graph:
        vector = graph.steering_vector("1/res/0", unit="unit")
    written = vector.save(tmp_path / "v.json")
    assert written.paths == (tmp_path / "v.json",)
    export.write(vector, tmp_path / "same.json", "json")
    assert (tmp_path / "v.json").read_bytes() == (tmp_path / "same.json").read_bytes()
    assert vector.save(tmp_path / "plan", format="json").paths == (tmp_path / "plan",)
    with pytest.raises(featgraph.UsageError, match="no export format 'ggu'; did you mean 'gguf'"):
        vector.save(tmp_path / "v.ggu")


@pytest.mark.thorough
def test_ingest_takes_a_recipe_by_path(small_recipe: Path, tmp_path: Path) -> None:
    summary = featgraph.ingest(small_recipe, tmp_path / "new.featgraph", data_free=True, progress=False)
    assert (summary.path, summary.n_tokens) == (tmp_path / "new.featgraph", 0)
    with featgraph.open(summary.path) as graph:
        assert graph.sql("select count(*) from edge").rows == [(summary.edges,)]


def test_ingest_names_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(featgraph.UsageError, match="no recipe named 'demmo'; did you mean 'demo'"):
        featgraph.ingest("demmo", tmp_path / "x.featgraph")
    with pytest.raises(featgraph.UsageError, match="leave out text and tokens"):
        featgraph.ingest("demo", tmp_path / "x.featgraph", data_free=True, tokens=10)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.thorough
def test_ingest_prints_nothing_to_stdout(
    small_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    featgraph.ingest(str(small_recipe), str(tmp_path / "new.featgraph"), data_free=True)
    assert capsys.readouterr().out == ""

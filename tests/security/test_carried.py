"""What a user put into a graph outlives an ingest over it, or the ingest is refused."""

import json
import shutil
from pathlib import Path

import duckdb
import pytest

import featgraph
from featgraph import StoreError
from featgraph.labels import from_table
from featgraph.store import carry
from featgraph.store.layout import DATABASE
from helpers.toy import build_toy, ids

LABELS = [("0/res/1", "mine", "split here"), ("1/mlp/0", "csv", "sun"), ("2/res/3", "mine", "born")]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A toy with labels and ablations of a user."""
    path = build_toy(tmp_path / "old.featgraph")
    table = tmp_path / "labels.csv"
    table.write_text("key,source,text\n" + "".join(f"{','.join(row)}\n" for row in LABELS))
    from_table(path, table)
    ablate(path, [("0/res/1", "1/res/1", 0.5, 4), ("1/mlp/0", "1/res/3", 0.25, 2)])
    return path


def ablate(path: Path, rows: list[tuple[str, str, float, int]]) -> None:
    number = ids()
    with duckdb.connect(str(path / DATABASE)) as connection:
        for src, dst, change, n in rows:
            connection.execute(
                "update edge set ablation_change = ?, ablation_n = ? where src = ? and dst = ?",
                [change, n, number[src], number[dst]],
            )
    change_manifest(path, ablations=[{"edges": None, "n_measured": len(rows)}])


def change_manifest(path: Path, **parts: object) -> None:
    file = path / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **parts}))


def with_places(path: Path, *, other: str = "") -> Path:
    """Name layer, site and sha256 of each SAE; one of them is another."""
    with featgraph.open(path) as graph:
        saes: list[dict[str, object]] = [
            {
                "layer": sae.layer,
                "site": sae.site,
                "sha256": f"{'new' if sae.name == other else 'the'} {sae.name}",
            }
            for sae in graph.store.saes
        ]
    change_manifest(path, saes=saes)
    return path


def labels(path: Path) -> list[tuple[object, ...]]:
    with featgraph.open(path) as graph:
        statement = (
            "select f.key, l.source, l.text from label l join feature f on f.id = l.feature "
            "where source <> 'tokens' order by all"
        )
        return graph.sql(statement).rows


def ablations(path: Path) -> list[tuple[object, ...]]:
    with featgraph.open(path) as graph:
        return graph.sql(
            "select s.key, d.key, ablation_change, ablation_n from edge e join feature s on s.id = src "
            "join feature d on d.id = dst where ablation_n is not null order by all"
        ).rows


@pytest.mark.thorough
def test_labels_and_ablations_go_along_where_all_is_the_same(tmp_path: Path, old: Path) -> None:
    new = with_places(build_toy(tmp_path / "new.featgraph"))
    with_places(old)
    assert carry.carry_over(old, new, force=False) == []
    assert labels(new) == labels(old) == sorted(LABELS)
    assert ablations(new) == ablations(old) != []
    manifest = json.loads((new / "manifest.json").read_text())
    assert {entry["source"] for entry in manifest["labels"]} == {"mine", "csv"}
    assert manifest["ablations"] == json.loads((old / "manifest.json").read_text())["ablations"]


@pytest.mark.thorough
def test_they_find_their_features_under_other_ids(tmp_path: Path, old: Path) -> None:
    with_places(old)
    new = with_places(build_toy(tmp_path / "new.featgraph"))
    with duckdb.connect(str(new / DATABASE)) as connection:  # as if an SAE of 100 features came before
        connection.execute("update sae set first_id = first_id + 100")
        connection.execute("update feature set id = id + 100")
        connection.execute("update edge set src = src + 100, dst = dst + 100")
        connection.execute("update label set feature = feature + 100")
    carry.carry_over(old, new, force=False)
    assert labels(new) == sorted(LABELS)
    assert ablations(new) == ablations(old)


@pytest.mark.thorough
def test_what_cannot_go_along_is_named_and_kept_unless_forced(tmp_path: Path, old: Path) -> None:
    with_places(old)
    new = with_places(build_toy(tmp_path / "new.featgraph"), other="0.res")
    with pytest.raises(StoreError) as refusal:
        carry.carry_over(old, new, force=False)
    assert str(refusal.value) == (
        f"{old} holds what the new graph cannot take over: "
        "1 label 'mine' of 0/res, which is another SAE now; 1 ablated edge whose SAEs are others now; "
        "--force drops it, or choose another name with -o"
    )
    assert labels(old) == sorted(LABELS)
    assert len(carry.carry_over(old, new, force=True)) == 2
    assert labels(new) == [row for row in sorted(LABELS) if row[0] != "0/res/1"]
    assert [row[0] for row in ablations(new)] == ["1/mlp/0"]


@pytest.mark.thorough
def test_an_ablation_of_another_model_does_not_go_along(tmp_path: Path, old: Path) -> None:
    with_places(old)
    new = with_places(build_toy(tmp_path / "new.featgraph"))
    change_manifest(new, model={"name": "toy", "d_model": 6, "sha256": "f" * 64})
    with pytest.raises(StoreError, match=r"2 ablated edges of another language model"):
        carry.carry_over(old, new, force=False)
    carry.carry_over(old, new, force=True)
    assert ablations(new) == []


@pytest.mark.thorough
def test_an_ablated_edge_that_is_no_candidate_any_more_is_named(tmp_path: Path, old: Path) -> None:
    with_places(old)
    new = with_places(build_toy(tmp_path / "new.featgraph"))
    with duckdb.connect(str(new / DATABASE)) as connection:
        connection.execute("delete from edge where kind = 'mlp_res'")
    with pytest.raises(StoreError, match=r"1 ablated edge no longer among the candidates"):
        carry.carry_over(old, new, force=False)


@pytest.mark.thorough
def test_answers_of_a_labelling_go_along_or_stop_the_ingest(tmp_path: Path, old: Path) -> None:
    with_places(old)
    (old / ".labelling").mkdir()
    journal = old / ".labelling" / "llm.jsonl"
    journal.write_text('{"feature": 3, "source": "llm:m", "text": "t"}\n')
    new = with_places(build_toy(tmp_path / "new.featgraph"))
    carry.carry_over(old, new, force=False)
    assert (new / ".labelling" / "llm.jsonl").read_text() == journal.read_text()
    other = with_places(build_toy(tmp_path / "other.featgraph"), other="0.res")
    with pytest.raises(StoreError, match=r"answers of a labelling that was cut off"):
        carry.carry_over(old, other, force=True)
    assert journal.is_file()


def test_a_graph_that_cannot_be_read_is_dropped_only_by_force(tmp_path: Path, old: Path) -> None:
    new = build_toy(tmp_path / "new.featgraph")
    (old / DATABASE).write_bytes(b"damaged")
    with pytest.raises(StoreError, match=r"cannot tell which labels and ablations"):
        carry.carry_over(old, new, force=False)
    assert carry.carry_over(old, new, force=True) == []


def test_a_real_ingest_takes_labels_over(small_recipe: Path, small: Path, tmp_path: Path) -> None:
    from featgraph.ingestion import ingest
    from featgraph.recipe import read_recipe

    path = tmp_path / "small.featgraph"
    shutil.copytree(small, path)
    table = tmp_path / "labels.csv"
    table.write_text("key,text\n1/res/3,mine\n")
    from_table(path, table)
    made = ingest(read_recipe(small_recipe).data_free(), path)
    assert made.dropped == []
    assert labels(path) == [("1/res/3", "csv", "mine")]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.thorough
def test_a_real_ingest_of_other_saes_is_refused_before_the_text_is_read(
    small_recipe: Path, small: Path, tmp_path: Path
) -> None:
    from featgraph.ingestion import ingest
    from featgraph.recipe import read_recipe

    path = tmp_path / "small.featgraph"
    shutil.copytree(small, path)
    table = tmp_path / "labels.csv"
    table.write_text("key,text\n1/att/3,mine\n")
    from_table(path, table)
    changed = tmp_path / "changed.toml"
    text = small_recipe.read_text().replace('path = "small', f'path = "{small_recipe.parent}/small')
    att = f'[suite.sites.att]\npath = "{small_recipe.parent}/small/saes/{{layer}}.att"\n'
    changed.write_text(text.replace(att, ""))
    with pytest.raises(StoreError, match=r"1 label 'csv' of 1/att, which is another SAE now"):
        ingest(read_recipe(changed), path)
    assert labels(path) == [("1/att/3", "csv", "mine")]
    assert not list(tmp_path.glob("**/codes"))
    assert ingest(read_recipe(changed), path, force=True).dropped
    assert labels(path) == []

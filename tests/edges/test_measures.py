"""The table of measures agrees with the schema, the formulas and the rows of an ingest."""

import re

from featgraph.core.measures import FINDERS, MEASURES, names
from featgraph.edges.evidence import FORMULAS
from featgraph.store.catalogue import package_sql

NOT_EVIDENCE = ("src", "dst", "kind", "rank_out", "rank_in", "found_by")


def edge_columns() -> dict[str, tuple[str, str]]:
    """Type and comment of each column of `edge` in schema.sql."""
    _, _, rest = package_sql("schema.sql").partition("create table edge (")
    body = rest[rest.index("\n") : rest.index("\n);")]
    columns: dict[str, tuple[str, str]] = {}
    name = ""
    for line in body.splitlines():
        code, _, comment = line.partition("-- ")
        if declared := re.match(r"\s+(\w+)\s+(\w+)", code):
            name = declared[1]
            columns[name] = declared[2], comment
        elif name:
            columns[name] = columns[name][0], f"{columns[name][1]} {comment}"
    return columns


def test_the_schema_has_every_measure_with_its_definition_in_order() -> None:
    columns = edge_columns()
    assert [name for name in columns if name not in NOT_EVIDENCE] == [one.name for one in MEASURES]
    for one in MEASURES:
        assert columns[one.name] == (one.sql_type, one.comment)


def test_the_schema_lists_the_searches() -> None:
    assert edge_columns()["found_by"][1].endswith(f": {', '.join(FINDERS)}")


def test_every_measure_of_an_ingest_has_a_formula_and_every_search_a_measure() -> None:
    assert set(FORMULAS) == set(names("statistical", "attributed")) - {"virtual_weight"}
    assert set(FINDERS) <= set(names())

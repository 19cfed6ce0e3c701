"""The shipped demo suite: its size, its SAEs through sae_lens, and the figures that its README claims."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from featgraph.graph import Graph
from featgraph.recipe import find_recipe

MAX_BYTES = 24_000_000


def test_the_demo_suite_fits_its_size() -> None:
    folder = find_recipe("demo").folder
    assert sum(path.stat().st_size for path in (folder / "demo").rglob("*") if path.is_file()) <= MAX_BYTES


def test_every_sae_loads_from_disk_and_is_stored_in_16_bits() -> None:
    from sae_lens import SAE
    from safetensors import safe_open

    recipe = find_recipe("demo")
    for layer in range(recipe.layers):
        for source in recipe.sources:
            folder = recipe.folder / str(source.path).format(layer=layer)
            sae: Any = SAE.load_from_disk(folder, dtype="float32")
            assert (sae.cfg.d_in, sae.cfg.d_sae) == (128, 1024)
            assert sae.W_dec.dtype == torch.float32
            with safe_open(folder / "sae_weights.safetensors", "pt") as tensors:
                assert {tensors.get_tensor(name).dtype for name in tensors.keys()} == {torch.float16}  # noqa: SIM118


@pytest.mark.slow
def test_the_saes_reach_the_figures_asked_of_them(demo_graph: Graph) -> None:
    rows = demo_graph.sql("select site, layer, explained_variance, l0, n_dead, n_features from sae").rows
    assert len(rows) == 24
    for site, layer, explained, l0, dead, n in rows:
        assert explained >= (0.80 if site == "res" else 0.65), (site, layer)  # type: ignore[operator]
        assert 10 <= l0 <= 40, (site, layer)  # type: ignore[operator]
        assert dead / n < 0.15, (site, layer)  # type: ignore[operator]


@pytest.mark.slow
def test_every_event_occurs_and_the_summary_tells_them(demo_graph: Graph, demo: tuple[Path, str]) -> None:
    for verb in ("births", "deaths", "splits", "merges"):
        [(count,)] = demo_graph.sql(f"select count(*) from {verb}()").rows
        assert isinstance(count, int)
        assert count > 0
        assert f"{count:,} {verb}" in demo[1]


@pytest.mark.slow
def test_an_exported_lineage_holds_its_vectors_and_each_moves_its_layer_alone(
    demo_graph: Graph, tmp_path: Path
) -> None:
    import gguf
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from featgraph import export

    vector = demo_graph.steering_vector("4/res/700", where="cumulative", scale=3.0, unit="unit").between(1, 7)
    assert list(vector.layers) == [1, 2, 3, 4, 5, 6, 7]
    export.write(vector, tmp_path / "v.gguf", "gguf")
    tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(tmp_path / "v.gguf").tensors}
    assert {name: values.tolist() for name, values in tensors.items()} == {
        f"direction.{layer}": values.tolist() for layer, values in vector.layers.items()
    }
    folder = find_recipe("demo").folder / "demo" / "model"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = AutoTokenizer.from_pretrained(folder)("Once upon a time there was a cat", return_tensors="pt")
    seen: list[torch.Tensor] = []
    for reader in [*model.model.layers[1:], model.model.norm]:  # what each reads is out(0), out(1), ...
        reader.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].clone()))
    with torch.inference_mode():
        model(**ids)
        before = [seen.pop(0) for _ in range(8)]
        for layer, values in vector.layers.items():
            with vector.between(layer, layer).apply(model):
                model(**ids)
            after = [seen.pop(0) for _ in range(8)]
            for lower in range(layer):
                torch.testing.assert_close(after[lower], before[lower])
            moved = after[layer] - before[layer]
            torch.testing.assert_close(moved, torch.from_numpy(values).expand_as(moved), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_any_duckdb_client_reads_the_graph_and_knows_the_verbs(
    demo_graph: Graph, demo: tuple[Path, str]
) -> None:
    ours = demo_graph.sql("select id, n from splits() order by id").rows
    program = (
        "import duckdb, sys; c = duckdb.connect(sys.argv[1], read_only=True); "
        "print(c.execute('select id, n from splits() order by id').fetchall())"
    )
    database = demo[0] / "demo.featgraph" / "graph.duckdb"
    ran = subprocess.run(
        [sys.executable, "-c", program, database], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == str(ours)

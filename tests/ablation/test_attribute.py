"""Gradient times activation, against derivatives with respect to one feature at a time."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from featgraph.ablation.attributing import attribute, attribute_logits
from featgraph.ablation.gradients import TargetTokens, carried
from featgraph.ablation.logits import logit_changes
from featgraph.ablation.sampled import ablate_exhaustively
from featgraph.cli import app
from featgraph.errors import SourceError, StoreError, UsageError
from featgraph.ingestion import ingest
from featgraph.recipe import read_recipe
from featgraph.store import open_store
from featgraph.store.verify import is_whole, verify
from featgraph.suite import LanguageModel, LoadedSae
from featgraph.suite.frozen import frozen
from featgraph.suite.hooks import on_tensor, sae_input
from helpers.one_sae import N_FEATURES, load_one, recipe_of, save_sae
from helpers.real_models import D_MODEL, D_Z, each_family, random_model

ROWS = [
    np.array(row, dtype=np.int32)
    for row in ([3, 9, 1, 4, 7, 7, 2, 30, 5, 11], [8, 2, 2, 40, 6, 1], [5, 6, 7, 8, 9, 10, 11, 12])
]
POSITIONS = np.array([7, 4, 6])
COUNTED = [np.arange(len(row)) > 0 for row in ROWS]
CENTRED: dict[str, Any] = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}


def one(folder: Path, model: Any, layer: int, site: str, hook: str, **options: Any) -> LoadedSae:
    place = folder / f"{layer}.{site}"
    d_in = D_Z if hook.endswith("hook_z") and not type(model).__name__.startswith("GPT") else D_MODEL
    save_sae(place, hook, d_in, **options)
    return load_one(recipe_of(place, site, layer=layer), model)  # type: ignore[arg-type]


def plain(
    model: Any, target: LoadedSae, idx: int, up: LoadedSae, row: int
) -> tuple[float, np.ndarray[Any, Any], np.ndarray[Any, Any]] | None:
    """Return the target's activation at its token, and what each feature carries: in all, and from there.

    Each feature's part of the decoded tensor is scaled by 1 + alpha; the derivative in alpha, at 0.
    """
    position = int(POSITIONS[row])
    ids = torch.from_numpy(ROWS[row][: position + 1].astype(np.int64))[None]
    alpha = torch.zeros(position + 1, N_FEATURES, requires_grad=True)
    kept: dict[str, Any] = {}
    assert up.reading is not None
    assert target.reading is not None

    def read(tensor: torch.Tensor) -> None:
        kept["up"] = tensor[0].detach()

    def write(tensor: torch.Tensor) -> torch.Tensor:
        assert up.sae is not None
        given = sae_input(kept["up"], up.reading, model)  # type: ignore[arg-type]
        codes = up.sae.encode(given).detach()
        codes[0] = 0  # the first token does not count
        moved, unmoved = up.decode(torch.stack([codes * (1 + alpha), codes]), given)
        delta = moved - unmoved
        if up.reading.rebuilt.form == "centred":  # type: ignore[union-attr]
            delta = delta - delta.mean(dim=-1, keepdim=True)
        changed: torch.Tensor = tensor + delta[None]
        return changed

    def last(tensor: torch.Tensor) -> None:
        kept["down"] = tensor[0, position]

    handles = [
        on_tensor(model.get_submodule(place.module), place.end, act)
        for place, act in ((up.reading, read), (up.reading.rebuilt, write), (target.reading, last))
    ]
    model(ids)
    for handle in handles:
        handle.remove()
    assert target.sae is not None
    active = target.sae.encode(sae_input(kept["down"][None], target.reading, model))[0, idx]
    if float(active.detach()) <= 0:
        return None
    (slope,) = torch.autograd.grad(active, alpha)
    shares = (slope / active.detach()).numpy()
    return float(active.detach()), shares.sum(axis=0), shares[-1]


def check(model: Any, target: LoadedSae, upstream: dict[int, LoadedSae]) -> None:
    """Hold what is carried of every feature of a target SAE against the plain way."""
    tokens = TargetTokens(ROWS, POSITIONS, COUNTED)
    largest = 0.0
    for idx in range(N_FEATURES):
        found = carried(LanguageModel(model, None, "random"), target, idx, upstream, tokens)
        for number, up in upstream.items():
            expected = [
                part for row in range(len(ROWS)) if (part := plain(model, target, idx, up, row)) is not None
            ]
            assert found[number].n == len(expected)
            if not expected:
                continue
            totals, own = (np.array([part[place] for part in expected]) for place in (1, 2))
            size = max(1.0, float(np.abs(totals).max()))
            np.testing.assert_allclose(found[number].attribution, totals.mean(axis=0), atol=1e-4 * size)
            np.testing.assert_allclose(found[number].same_token, own.mean(axis=0), atol=1e-4 * size)
            if len(expected) > 1:
                error = totals.std(axis=0, ddof=1) / np.sqrt(len(expected))
                np.testing.assert_allclose(found[number].error, error, atol=1e-3 * size)
            largest = max(largest, float(np.abs(totals).max()))
    assert largest > 0.01


@each_family()
@pytest.mark.parametrize("held", [False, True])
def test_every_family_matches_derivatives_of_one_feature_at_a_time(
    family: str, held: bool, tmp_path: Path
) -> None:
    model = random_model(family)
    target = one(tmp_path, model, 2, "res", "blocks.2.hook_resid_post", kind="gated")
    upstream = {
        0: one(tmp_path, model, 0, "res", "blocks.0.hook_resid_post", kind="jumprelu"),
        1: one(tmp_path, model, 1, "mlp", "blocks.1.hook_mlp_out"),
        2: one(tmp_path, model, 2, "att", "blocks.2.hook_attn_out"),
    }
    if not held:
        check(model, target, upstream)
        return
    with frozen(LanguageModel(model, None, "random")):
        check(model, target, upstream)


@pytest.mark.parametrize(
    ("family", "site", "hook", "options"),
    [
        ("llama", "att", "blocks.1.attn.hook_z", {"kind": "jumprelu"}),
        (
            "gpt2",
            "mlp",
            "blocks.1.mlp.hook_in",
            {"kind": "skip_transcoder", "hook_name_out": "blocks.1.hook_mlp_out"},
        ),
        ("gpt2", "res", "blocks.1.hook_resid_pre", CENTRED),
        ("gemma2", "res", "blocks.1.hook_resid_post", {"normalize_activations": "layer_norm"}),
        ("gpt2", "res", "blocks.1.hook_resid_post", {"kind": "topk", "k": 3}),
    ],
)
def test_other_hooks_and_saes_match_too(
    family: str, site: str, hook: str, options: dict[str, Any], tmp_path: Path
) -> None:
    model = random_model(family)
    target = one(tmp_path, model, 2, "res", "blocks.2.hook_resid_post")
    check(model, target, {0: one(tmp_path, model, int(hook.split(".")[1]), site, hook, **options)})


@each_family()
def test_holding_norms_and_patterns_changes_no_output(family: str) -> None:
    model = random_model(family)
    ids = torch.tensor([[3, 9, 1, 4, 7, 7, 2]])
    with torch.no_grad():
        before = model(ids).logits
        with frozen(LanguageModel(model, None, "random")):
            assert torch.allclose(model(ids).logits, before, rtol=1e-5, atol=1e-5)
        assert torch.equal(model(ids).logits, before)


@each_family()
def test_with_both_held_attention_is_linear_in_the_residual_stream(family: str, tmp_path: Path) -> None:
    model = random_model(family)
    model.set_attn_implementation("eager")  # others have no second derivatives
    site = one(tmp_path, model, 0, "res", "blocks.0.hook_resid_post")
    assert site.reading is not None
    leaf = torch.randn(1, 7, D_MODEL, requires_grad=True)

    def replaced(tensor: torch.Tensor) -> torch.Tensor:
        return leaf + 0 * tensor

    handle = on_tensor(model.get_submodule(site.reading.module), site.reading.end, replaced)
    with frozen(LanguageModel(model, None, "random")):
        out: list[torch.Tensor] = []
        block = model.get_submodule(site.reading.module.rsplit(".", 1)[0] + ".1")
        attention = next(
            part for name, part in block.named_children() if "att" in name and "norm" not in name
        )
        kept = attention.register_forward_hook(lambda _m, _a, given: out.append(given[0]))
        model(torch.tensor([[3, 9, 1, 4, 7, 7, 2]]))
        kept.remove()
        (slope,) = torch.autograd.grad(out[0].square().sum(), leaf, create_graph=True)
        (straight,) = torch.autograd.grad(out[0].sum(), leaf, create_graph=True)
    handle.remove()
    weights = torch.randn_like(leaf)
    assert torch.autograd.grad((weights * slope).sum(), leaf, retain_graph=True)[0].any()
    (bend,) = torch.autograd.grad((weights * straight).sum(), leaf, allow_unused=True)
    assert bend is None or not bend.any()  # the slope is the same wherever it is taken


@each_family()
def test_logits_change_by_the_derivative_along_the_feature(family: str, tmp_path: Path) -> None:
    model = random_model(family)
    loaded = one(tmp_path, model, 1, "res", "blocks.1.hook_resid_post")
    tokens = TargetTokens(ROWS, POSITIONS, COUNTED)
    expected = np.mean([plain_logits(model, loaded, row) for row in range(len(ROWS))], axis=0)
    for idx in range(N_FEATURES):
        found = logit_changes(LanguageModel(model, None, "random"), loaded, idx, tokens)
        assert found.n == len(ROWS)
        np.testing.assert_allclose(found.mean, expected[idx], atol=1e-4 * np.abs(expected).max())
    assert np.abs(expected).max() > 0.01


def plain_logits(model: Any, loaded: LoadedSae, row: int) -> np.ndarray[Any, Any]:
    """Return the change of each logit by each feature, (n_features, n_vocabulary): one logit at a time."""
    position = int(POSITIONS[row])
    ids = torch.from_numpy(ROWS[row][: position + 1].astype(np.int64))[None]
    alpha = torch.zeros(N_FEATURES, requires_grad=True)
    assert loaded.reading is not None

    def move(tensor: torch.Tensor) -> torch.Tensor:
        assert loaded.sae is not None
        given = tensor[0, -1:].detach()
        codes = loaded.sae.encode(given).detach()
        delta = loaded.decode(codes * (1 + alpha), given) - loaded.decode(codes, given)
        return torch.cat([tensor[:, :-1], tensor[:, -1:] + delta[None]], dim=1)

    handle = on_tensor(model.get_submodule(loaded.reading.module), loaded.reading.end, move)
    logits = model(ids).logits[0, -1]
    handle.remove()
    logits = logits - logits.mean()
    rows = [torch.autograd.grad(one, alpha, retain_graph=True)[0] for one in logits]
    return torch.stack(rows, dim=1).numpy()


def busiest(graph: Path, n: int = 2) -> list[str]:
    with open_store(graph) as store:
        rows = store.rows(
            "select key from feature where layer = 2 and site = 'res' order by density desc, id"
        )
        return [key for (key,) in rows[:n]]


@pytest.mark.thorough
def test_rows_are_the_strongest_of_all_earlier_saes(graph: Path) -> None:
    [first, second] = busiest(graph)
    result = attribute(graph, [first, second], top=5, tokens=8)
    rows: list[dict[str, Any]] = [dict(zip(result.columns, row, strict=True)) for row in result.rows]
    for key in (first, second):
        own = [row for row in rows if row["target"] == key]
        assert 1 <= len(own) <= 5
        sizes = [abs(row["attribution"]) for row in own]
        assert sizes == sorted(sizes, reverse=True)
        assert {row["n"] for row in own} <= set(range(1, 9))
    assert [row for row in attribute(graph, [first], top=5, tokens=8).rows] == [
        tuple(row.values()) for row in rows if row["target"] == first
    ]


def test_edges_of_kind_far_are_written_once_and_the_graph_stays_whole(graph: Path) -> None:
    [first, second] = busiest(graph)
    attribute(graph, [first, second], top=30, tokens=8, write=True)
    result = attribute(graph, [first], top=30, tokens=8, write=True)
    assert is_whole(verify(graph))
    with open_store(graph) as store:
        far = store.rows(
            "select f.key, d.key, e.attribution from edge e join feature f on f.id = e.src "
            "join feature d on d.id = e.dst where e.kind = 'far' order by all"
        )
        joined = set(store.rows("select src_sae, dst_sae from pair where kind <> 'far'"))
        numbers = {f"{sae.layer}/{sae.site}": sae.number for sae in store.saes}
        assert len(store.manifest["attributions"]) == 2
    assert {row[1] for row in far} == {first, second}
    place = {name: number for number, name in enumerate(result.columns)}
    found: list[Any] = list(result.rows)
    expected: list[Any] = [
        (row[place["key"]], first, pytest.approx(row[place["attribution"]]))
        for row in found
        if (numbers[row[place["key"]].rpartition("/")[0]], numbers[first.rpartition("/")[0]]) not in joined
    ]
    assert expected
    assert sorted([row for row in far if row[1] == first]) == sorted(expected, key=lambda row: row[0])


def test_logits_of_a_feature_are_half_raised_half_lowered(graph: Path) -> None:
    result = attribute_logits(graph, busiest(graph, 1), top=6, tokens=8)
    changes: list[Any] = [row[result.columns.index("change")] for row in result.rows]
    assert len(changes) == 6
    assert changes == sorted(changes, reverse=True)
    assert changes[0] > 0 > changes[-1]


@pytest.mark.thorough
def test_the_command_prints_what_the_function_returns(graph: Path) -> None:
    [key] = busiest(graph, 1)
    run = CliRunner().invoke(app, ["attribute", str(graph), key, "--tokens", "4", "--format", "csv", "-q"])
    assert run.exit_code == 0, run.output
    lines = run.stdout.splitlines()
    assert len(lines) == 1 + len(attribute(graph, [key], tokens=4).rows)


@pytest.mark.parametrize(
    ("features", "more", "message"),
    [
        (["9/res/0"], {}, "did you mean"),
        (["0/res/7"], {}, "never fires on the text"),
        ([], {}, "give one feature or more"),
        (["2/res/0"], {"tokens": 0}, "tokens = 0"),
        (["2/res/0"], {"top": 0}, "top = 0"),
    ],
)
def test_what_cannot_be_attributed_is_refused(
    graph: Path, features: list[str], more: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        attribute(graph, features, **more)


@pytest.mark.thorough
def test_a_graph_without_a_text_has_nothing_to_attribute(small_recipe: Path, tmp_path: Path) -> None:
    shutil.copytree(small_recipe.parent, tmp_path, dirs_exist_ok=True)
    ingest(read_recipe(tmp_path / small_recipe.name).data_free(), tmp_path / "free.featgraph")
    with pytest.raises(SourceError, match="made without a text"):
        attribute(tmp_path / "free.featgraph", ["1/res/0"])


def test_an_ingest_names_the_far_edges_that_it_would_drop(graph: Path) -> None:
    attribute(graph, busiest(graph, 1), top=30, tokens=8, write=True)
    recipe = read_recipe(graph.parent / "small.toml")
    with pytest.raises(StoreError, match=r"\d+ edges? of kind far, .*--force drops it"):
        ingest(recipe, graph)
    ingest(recipe, graph, force=True)
    with open_store(graph) as store:
        assert store.rows("select count(*) from edge where kind = 'far'") == [(0,)]


def test_far_edges_do_not_change_an_exhaustive_ablation(graph: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(graph, graph.with_name("other.featgraph")))
    attribute(graph, busiest(graph, 1), top=30, tokens=8, write=True)
    assert ablate_exhaustively(graph, tokens=20).rows == ablate_exhaustively(other, tokens=20).rows
    assert is_whole(verify(graph))
    with open_store(graph) as store:
        assert store.rows("select count(*) from threshold where measure = 'effect'") != [(0,)]
        assert store.rows("select count(*) from edge where kind = 'far' and effect is not null") == [(0,)]

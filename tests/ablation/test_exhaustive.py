"""Exhaustive removal against one full pass of the model for each removal, on every family and kind of SAE."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from typer.testing import CliRunner

from featgraph.ablation import effects, exhaustive
from featgraph.ablation.columns import ColumnEncoder
from featgraph.ablation.effects import EffectAccumulator, EffectSums, PairEffects
from featgraph.ablation.exhaustive import TokenSample, exhaustive_effects, removal_sums
from featgraph.ablation.sampled import ablate_exhaustively, draw_tokens
from featgraph.ablation.sessions import Session
from featgraph.cli import app
from featgraph.store import open_store
from featgraph.suite import LanguageModel, LoadedSae
from helpers.every_removal import every_removal, figures
from helpers.one_sae import N_FEATURES, load_one, recipe_of, save_sae
from helpers.real_models import D_MODEL, D_Z, each_family, random_model

ROWS = [
    np.array(row, dtype=np.int32)
    for row in ([3, 9, 1, 4, 7, 7, 2, 30, 5, 11], [8, 2, 2, 40, 6, 1], [5, 6, 7, 8, 9, 10, 11, 12])
]
SAMPLE = TokenSample(
    np.array([2, 0, 0, 2, 1]), np.array([7, 3, 9, 1, 4]), np.array([1.0, 3.0, 1.0, 2.0, 0.5])
)
CENTRED: dict[str, Any] = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}


def one(
    folder: Path, model: Any, layer: int, site: str, hook: str, kind: str = "standard", **more: Any
) -> LoadedSae:
    name = f"{layer}.{site}.{kind}"
    d_in = D_Z if hook.endswith("hook_z") and not type(model).__name__.startswith("GPT") else D_MODEL
    save_sae(folder / name, hook, d_in, kind=kind, **more)
    return load_one(recipe_of(folder / name, site, layer=layer), model)  # type: ignore[arg-type]


def check(model: Any, saes: dict[int, LoadedSae], pairs: list[tuple[int, int]]) -> None:
    """Hold the effects of some pairs of SAEs against the plain way."""
    effects = exhaustive_effects(LanguageModel(model, None, "random"), saes, ROWS, SAMPLE, pairs)
    assert SAMPLE.weight is not None
    for up, down in pairs:
        expected = figures(*every_removal(model, saes[up], saes[down], ROWS, SAMPLE), SAMPLE.weight)
        found = effects[up, down]
        assert list(zip(found.src.tolist(), found.dst.tolist(), strict=True)) == list(expected)
        assert len(expected) > 3
        assert max(abs(row[0]) for row in expected.values()) > 0.05
        for place, name in enumerate(
            ("effect", "effect_n", "effect_se", "silenced", "ablation_change", "ablation_n")
        ):
            wanted = [row[place] for row in expected.values()]
            np.testing.assert_allclose(getattr(found, name), wanted, rtol=1e-3, atol=2e-3, err_msg=name)


@pytest.mark.thorough
@each_family()
def test_every_site_of_every_family_matches_a_pass_for_each_removal(family: str, tmp_path: Path) -> None:
    model = random_model(family)
    saes = {
        0: one(tmp_path, model, 0, "res", "blocks.0.hook_resid_post", "jumprelu"),
        1: one(tmp_path, model, 1, "mlp", "blocks.1.hook_mlp_out"),
        2: one(tmp_path, model, 1, "att", "blocks.1.hook_attn_out"),
        3: one(tmp_path, model, 1, "res", "blocks.1.hook_resid_post", "gated"),
        4: one(tmp_path, model, 2, "res", "blocks.2.hook_resid_post", "topk", k=3),
    }
    check(model, saes, [(0, 3), (1, 3), (2, 3), (3, 4), (0, 4)])


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
@pytest.mark.parametrize(
    ("site", "hook", "options"),
    [
        ("att", "blocks.2.attn.hook_z", {"kind": "jumprelu"}),
        ("mlp", "blocks.2.hook_mlp_out", {"kind": "topk", "k": 3, "rescale_acts_by_decoder_norm": True}),
        (
            "mlp",
            "blocks.2.mlp.hook_in",
            {"kind": "skip_transcoder", "hook_name_out": "blocks.2.hook_mlp_out"},
        ),
        ("res", "blocks.0.hook_resid_pre", {}),
        ("res", "blocks.1.hook_resid_post", {"normalize_activations": "layer_norm"}),
        ("res", "blocks.2.hook_resid_pre", CENTRED),
        ("mlp", "blocks.2.hook_mlp_out", {"normalize_activations": "constant_norm_rescale"}),
    ],
)
def test_other_hooks_and_saes_match_too(
    family: str, site: str, hook: str, options: dict[str, Any], tmp_path: Path
) -> None:
    """Heads before W_O, transcoders, SAEs that normalise, and residual SAEs several blocks above."""
    model = random_model(family)
    saes = {
        4: one(tmp_path, model, int(hook.split(".")[1]), site, hook, **options),
        5: one(tmp_path, model, 2, "res", "blocks.2.hook_resid_post"),
    }
    check(model, saes, [(4, 5)])


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "standard", "normalize_activations": "layer_norm"},
        {"kind": "jumprelu", **CENTRED},
        {"kind": "matching_pursuit"},
    ],
)
def test_downstream_saes_of_every_form_are_read_as_they_encode(
    options: dict[str, Any], tmp_path: Path
) -> None:
    model = random_model("gpt2")
    saes = {
        0: one(tmp_path, model, 0, "res", "blocks.0.hook_resid_post"),
        1: one(tmp_path, model, 2, "res", "blocks.2.hook_resid_pre", **options),
    }
    check(model, saes, [(0, 1)])


@pytest.mark.parametrize(("family", "attention"), [("gemma2", "eager"), ("gemma3", "sdpa")])
def test_a_window_that_slides_hides_the_same_tokens_from_copies(
    family: str, attention: str, tmp_path: Path
) -> None:
    model = random_model(family)
    model.config.sliding_window = 3
    for layer in model.model.layers:
        layer.self_attn.sliding_window = 3
    model.set_attn_implementation(attention)
    assert "sliding_attention" in model.config.layer_types[1:3]
    saes = {
        0: one(tmp_path, model, 0, "res", "blocks.0.hook_resid_post"),
        1: one(tmp_path, model, 2, "res", "blocks.2.hook_resid_post"),
    }
    check(model, saes, [(0, 1)])


def two_layers(tmp_path: Path, model: Any) -> dict[int, LoadedSae]:
    return {
        0: one(tmp_path, model, 0, "res", "blocks.0.hook_resid_post"),
        1: one(tmp_path, model, 1, "mlp", "blocks.1.hook_mlp_out"),
        2: one(tmp_path, model, 1, "res", "blocks.1.hook_resid_post"),
    }


def same(found: PairEffects, expected: PairEffects) -> None:
    for name in PairEffects.__dataclass_fields__:
        np.testing.assert_allclose(
            getattr(found, name), getattr(expected, name), rtol=1e-4, atol=1e-4, err_msg=name
        )


@pytest.mark.parametrize(
    ("copies", "rows", "tokens", "buffer"), [(1, 1, 8192, 5), (3, 2, 20, 1), (64, 32, 1, 40)]
)
def test_how_removals_are_batched_makes_no_difference(
    copies: int, rows: int, tokens: int, buffer: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model("llama")
    saes, pairs = two_layers(tmp_path, model), [(0, 2), (1, 2)]
    language_model = LanguageModel(model, None, "random")
    whole = exhaustive_effects(language_model, saes, ROWS, SAMPLE, pairs)
    monkeypatch.setattr(exhaustive, "COPIES", copies)
    monkeypatch.setattr(exhaustive, "ROWS", rows)
    monkeypatch.setattr(exhaustive, "BATCH_TOKENS", tokens)
    monkeypatch.setattr(effects, "BUFFER", buffer)
    for pair, found in exhaustive_effects(language_model, saes, ROWS, SAMPLE, pairs).items():
        same(found, whole[pair])


def test_shards_merge_to_the_whole(tmp_path: Path) -> None:
    model = random_model("llama")
    saes, pairs = two_layers(tmp_path, model), [(0, 2)]
    language_model = LanguageModel(model, None, "random")
    [whole] = removal_sums(language_model, saes, ROWS, SAMPLE, pairs).values()
    parts = [SAMPLE.take(np.array(places)) for places in ([4, 0], [1], [3, 2])]
    merged = EffectSums.empty(N_FEATURES)
    for part in parts:
        merged = merged.merge(removal_sums(language_model, saes, ROWS, part, pairs)[0, 2])
    same(merged.effects(), whole.effects())


def test_no_tokens_have_no_effects(tmp_path: Path) -> None:
    model = random_model("llama")
    nothing = TokenSample(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    saes = two_layers(tmp_path, model)
    [found] = exhaustive_effects(LanguageModel(model, None, "random"), saes, ROWS, nothing, [(0, 2)]).values()
    assert len(found) == 0


def test_no_hook_is_left_behind_even_by_an_error(tmp_path: Path) -> None:
    model = random_model("llama")
    saes = two_layers(tmp_path, model)
    beyond = [np.array([10**6], dtype=np.int32)]
    sample = TokenSample(np.array([0]), np.array([0]))
    with pytest.raises(IndexError):
        exhaustive_effects(LanguageModel(model, None, "random"), saes, beyond, sample, [(1, 2)])
    hooks = [(module._forward_hooks, module._forward_pre_hooks) for module in model.modules()]
    assert not any(after or before for after, before in hooks)


@pytest.mark.parametrize("kind", ["standard", "jumprelu", "gated", "topk"])
def test_columns_of_the_encoder_give_what_the_whole_of_it_gives(kind: str, tmp_path: Path) -> None:
    model = random_model("llama")
    loaded = one(
        tmp_path, model, 0, "res", "blocks.0.hook_resid_post", kind, **({"k": 3} if kind == "topk" else {})
    )
    assert loaded.sae is not None
    torch.manual_seed(0)
    read, group = torch.randn(9, D_MODEL), torch.tensor([0, 0, 1, 1, 1, 1, 2, 3, 3])
    columns = torch.randint(N_FEATURES, (4, 5))
    with torch.no_grad():
        expected = loaded.sae.encode(read).gather(1, columns[group])
        found = ColumnEncoder(loaded)(read, group, columns)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


ENTRIES = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 4), st.floats(-2, 1), st.sampled_from([0.5, 1.0, 4.0])),
    max_size=40,
)


@pytest.mark.thorough
@given(ENTRIES, st.integers(1, 9))
def test_sums_do_not_depend_on_the_parts(entries: list[tuple[int, int, float, float]], size: int) -> None:
    def added(accumulator: EffectAccumulator, some: list[tuple[int, int, float, float]]) -> None:
        src, dst, lost, weight = (np.array(column) for column in zip(*some, strict=True))
        accumulator.fire(dst, weight)
        accumulator.add(src, dst, weight, lost, lost == 1)

    whole, parts, merged = EffectAccumulator(5), EffectAccumulator(5), EffectSums.empty(5)
    if entries:
        added(whole, entries)
    for start in range(0, len(entries), size):
        part = EffectAccumulator(5)
        for accumulator in (part, parts):
            added(accumulator, entries[start : start + size])
            accumulator._flush()
        merged = merged.merge(part.sums())
    same(parts.sums().effects(), whole.sums().effects())
    same(merged.effects(), whole.sums().effects())
    expected: dict[tuple[int, int], list[float]] = {}
    for src, dst, lost, weight in entries:
        expected.setdefault((src, dst), []).append(weight * lost)
    totals: NDArray[np.float64] = whole.sums().figures[:, 2]
    np.testing.assert_allclose(totals, [sum(expected[pair]) for pair in sorted(expected)], atol=1e-9)


# ---- into a graph


@pytest.mark.thorough
def test_every_edge_gets_the_effect_on_the_sampled_tokens(graph: Path) -> None:
    """Of a few edges of each kind, token by token, one pass of the model for each removal."""
    answer = ablate_exhaustively(graph, tokens=30, seed=3).dicts()
    with open_store(graph) as store:
        session = Session(store, None, None)
        sample = draw_tokens(session.text, 30, 3)
        pairs = store.rows("select src_sae, dst_sae, n_edges from pair where n_edges > 0")
        assert sorted(int(str(row["n_edges"])) for row in answer) == sorted(n for _, _, n in pairs)
        for up, down, _ in [pairs[0], pairs[-1]]:
            saes, (src, dst) = session.saes([up, down]), (store.saes[up].first_id, store.saes[down].first_id)
            losses, fires = every_removal(
                session.model.model, saes[up], saes[down], session.text.rows, sample
            )
            expected = figures(losses, fires, np.ones(30))
            rows = store.rows(
                "select src, dst, effect, effect_n, effect_se, silenced, ablation_change, ablation_n "
                "from edge where src >= $a and src < $b and dst >= $c and dst < $d",
                {
                    "a": src,
                    "b": src + store.saes[up].n_features,
                    "c": dst,
                    "d": dst + store.saes[down].n_features,
                },
            )
            assert rows
            for s, d, *found in rows:
                n = len(fires.get(d - dst, []))
                silent = (0.0, n, 0.0, 0.0, None, 0) if n else (None, 0, None, None, None, 0)
                wanted = expected.get((s - src, d - dst), silent)
                for one, other in zip(found, wanted, strict=True):
                    unknown = other is None or other != other
                    assert one is None if unknown else one == pytest.approx(other, abs=2e-3)


def test_the_manifest_tells_of_an_exhaustive_ablation(graph: Path) -> None:
    ablate_exhaustively(graph, tokens=5)
    with open_store(graph) as store:
        [entry] = store.manifest["ablations"]
    assert (entry["exhaustive"], entry["tokens"], entry["seed"]) == (True, 5, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--edges", "SELECT src, dst FROM edge"], "takes no --edges"),
        (["--sample", "5"], "takes no --sample"),
        (["--report", "methods"], "either it or --exhaustive"),
    ],
)
def test_options_that_exhaustive_ablation_does_not_use_are_refused(options: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["ablate", "any.featgraph", "--exhaustive", *options])
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize("massive", [0, 2])
def test_nothing_fires_on_tokens_of_massive_activations(massive: int, tmp_path: Path) -> None:
    model = random_model("llama")
    saes = two_layers(tmp_path, model)
    saes[massive] = replace(saes[massive], massive_norm=0.0)
    [found] = exhaustive_effects(LanguageModel(model, None, "random"), saes, ROWS, SAMPLE, [(0, 2)]).values()
    assert len(found) == 0

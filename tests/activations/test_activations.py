"""Reading text: token rows, BOS, the token limit, batches that lose nothing, and codes as sparse rows."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from featgraph import suite
from featgraph.activations import TokenRows, Tokens, read_shards
from featgraph.activations import tokens as cutting
from featgraph.activations.encoding import encode_batch
from featgraph.errors import SourceError
from featgraph.recipe import TextSource, read_recipe
from featgraph.suite import LanguageModel
from featgraph.suite.sae import tokens_at_once

BOS = 0


@pytest.fixture(scope="module")
def model(small_recipe: Path) -> LanguageModel:
    return suite.load_model(read_recipe(small_recipe))


def text_at(path: Path, tokens: int, context: int) -> TextSource:
    return TextSource(path, None, None, None, None, "", tokens, context)


def rows_of(path: Path, model: LanguageModel, tokens: int, context: int) -> list[np.ndarray]:
    shards = read_shards(text_at(path, tokens, context), model.tokenizer)
    return [row for shard in shards for row in shard.rows]


def test_every_row_opens_with_bos_and_fits_the_context(model: LanguageModel, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(
        "the cat sat on the mat and the dog ran to the park " * 3, encoding="utf-8"
    )
    rows = rows_of(tmp_path / "a.txt", model, 1000, 8)
    assert all(row[0] == BOS and 2 <= len(row) <= 8 for row in rows)
    whole = model.tokenizer((tmp_path / "a.txt").read_text().strip())["input_ids"]
    assert np.concatenate([row[1:] for row in rows]).tolist() == whole


@pytest.mark.parametrize("tokens", [1, 7, 8, 20])
def test_the_token_limit_is_exact(model: LanguageModel, tmp_path: Path, tokens: int) -> None:
    (tmp_path / "a.txt").write_text(
        "the cat sat on the mat and the dog ran to the park " * 3, encoding="utf-8"
    )
    assert sum(len(row) - 1 for row in rows_of(tmp_path / "a.txt", model, tokens, 8)) == tokens


@pytest.mark.parametrize("size", [1, 9, 30])
def test_shards_follow_each_other_and_hold_the_whole_text(
    model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    (tmp_path / "a.txt").write_text("the cat sat on the mat and the dog ran " * 4, encoding="utf-8")
    whole = rows_of(tmp_path / "a.txt", model, 1000, 8)
    monkeypatch.setattr(cutting, "SHARD_TOKENS", size)
    shards = list(read_shards(text_at(tmp_path / "a.txt", 1000, 8), model.tokenizer))
    assert len(shards) > 1
    assert [shard.first for shard in shards] == [
        sum(len(before.rows) for before in shards[:place]) for place in range(len(shards))
    ]
    cut = [row for shard in shards for row in shard.rows]
    assert [row.tolist() for row in cut] == [row.tolist() for row in whole]
    assert all(shard.n_tokens >= size for shard in shards[:-1])
    numbers = [int(row) for shard in shards for batch in shard.batches() for row in batch.row]
    assert sorted(set(numbers)) == list(range(len(whole)))


def test_batches_cover_every_counted_token_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "BATCH_TOKENS", 20)
    rng = np.random.default_rng(0)
    rows = [
        np.r_[BOS, rng.integers(1, 50, size=length)].astype(np.int32)
        for length in rng.integers(1, 15, size=30)
    ]
    token_rows = TokenRows(rows, frozenset({BOS}))
    seen: dict[tuple[int, int], int] = {}
    for batch in token_rows.batches():
        for row, position, token in zip(batch.row, batch.position, batch.token, strict=True):
            assert (int(row), int(position)) not in seen
            seen[int(row), int(position)] = int(token)
    expected = {(p, i): int(t) for p, row in enumerate(rows) for i, t in enumerate(row) if i > 0}
    assert seen == expected


@pytest.mark.parametrize("every", [None, 1, 3])
def test_codes_are_what_the_sae_encodes(small_recipe: Path, model: LanguageModel, every: int | None) -> None:
    recipe = read_recipe(small_recipe)
    loaded = suite.load_sae(recipe, recipe.sources[2], 1, model)
    torch.manual_seed(0)
    x = torch.randn(700, 16)
    assert loaded.sae is not None
    assert loaded.reading is not None
    places = np.arange(700)
    encoded = encode_batch(loaded, {loaded.reading: x}, Tokens(places // 7, places % 7, places), every)
    with torch.inference_mode():
        dense = loaded.sae.encode(x)
        whole = loaded.sae.decode(dense)
    np.testing.assert_array_equal(encoded.codes.toarray(), dense.numpy())
    assert not encoded.massive.any()
    chosen = x[:0] if every is None else x[::every]
    assert encoded.rebuilt.n.sum() == len(chosen)
    assert (
        encoded.rebuilt.n.tolist()
        == np.bincount((places // 7 % 10)[:: every or 1000] if every else [], minlength=10).tolist()
    )
    if every:
        error = (x - whole)[::every].double().square().sum()
        variance = (chosen.double() - chosen.double().mean(dim=0)).square().sum()
        assert encoded.rebuilt.explained_variance == pytest.approx(1 - float(error / variance), rel=1e-5)


def test_wide_saes_encode_fewer_tokens_at_once() -> None:
    assert [tokens_at_once(n) for n in (2**10, 2**14, 2**15, 2**17, 2**23)] == [256, 256, 128, 32, 1]


def test_without_bos_the_first_token_of_a_piece_does_not_count(model: LanguageModel, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the cat sat on the mat and the dog ran " * 3, encoding="utf-8")
    tokenizer = copy.deepcopy(model.tokenizer)
    tokenizer.bos_token = None
    [whole] = [tokenizer((tmp_path / "a.txt").read_text().strip())["input_ids"]]
    [shard] = read_shards(text_at(tmp_path / "a.txt", 1000, 8), tokenizer)
    assert np.concatenate(shard.rows).tolist() == whole
    positions = [int(position) for batch in shard.batches() for position in batch.position]
    assert 0 not in positions
    assert shard.n_tokens == len(positions) == len(whole) - len(shard.rows)
    for limit in (1, 7, 8, 9):
        [few] = read_shards(text_at(tmp_path / "a.txt", limit, 8), tokenizer)
        assert few.n_tokens == limit


def test_a_text_of_one_token_without_bos_is_refused(model: LanguageModel, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a", encoding="utf-8")
    tokenizer = copy.deepcopy(model.tokenizer)
    tokenizer.bos_token = None
    with pytest.raises(SourceError, match="has no counted token"):
        list(read_shards(text_at(tmp_path / "a.txt", 9, 8), tokenizer))


def test_a_text_of_special_tokens_alone_is_refused(model: LanguageModel, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(model.tokenizer.bos_token * 3, encoding="utf-8")
    with pytest.raises(SourceError, match="has no counted token"):
        list(read_shards(text_at(tmp_path / "a.txt", 9, 8), model.tokenizer))

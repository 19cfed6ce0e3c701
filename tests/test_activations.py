"""Reading text: pieces, BOS, the token limit, batches that lose nothing, and codes as sparse rows."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from featgraph import activations, suite
from featgraph.activations import Pieces, decoded, documents, encode, read_pieces
from featgraph.recipe import TextSource, read_recipe
from featgraph.suite import LanguageModel

BOS = 0


@pytest.fixture(scope="module")
def model(small_recipe: Path) -> LanguageModel:
    return suite.load_model(read_recipe(small_recipe))


def test_documents_are_split_at_the_separator_plain_or_gzipped(tmp_path: Path) -> None:
    text = "one\n\nmore<|end|>\n two <|end|>  <|end|>"
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    with gzip.open(tmp_path / "a.txt.gz", "wt", encoding="utf-8") as handle:
        handle.write(text)
    for name in ("a.txt", "a.txt.gz"):
        assert list(documents(tmp_path / name, "<|end|>")) == ["one\n\nmore", "two"]


def test_every_piece_opens_with_bos_and_fits_the_context(model: LanguageModel, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(
        "the cat sat on the mat and the dog ran to the park " * 3, encoding="utf-8"
    )
    pieces = read_pieces(TextSource(tmp_path / "a.txt", "", 1000, 8), model)
    assert all(row[0] == BOS and 2 <= len(row) <= 8 for row in pieces.rows)
    whole = model.tokenizer((tmp_path / "a.txt").read_text().strip())["input_ids"]
    assert np.concatenate([row[1:] for row in pieces.rows]).tolist() == whole


@pytest.mark.parametrize("tokens", [1, 7, 8, 20])
def test_the_token_limit_is_exact(model: LanguageModel, tmp_path: Path, tokens: int) -> None:
    (tmp_path / "a.txt").write_text(
        "the cat sat on the mat and the dog ran to the park " * 3, encoding="utf-8"
    )
    assert read_pieces(TextSource(tmp_path / "a.txt", "", tokens, 8), model).n_tokens == tokens


def test_batches_cover_every_counted_token_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations, "BATCH_TOKENS", 20)
    rng = np.random.default_rng(0)
    rows = [
        np.r_[BOS, rng.integers(1, 50, size=length)].astype(np.int32)
        for length in rng.integers(1, 15, size=30)
    ]
    pieces = Pieces(rows, frozenset({BOS}))
    seen: dict[tuple[int, int], int] = {}
    for batch in pieces.batches():
        for piece, position, token in zip(batch.piece, batch.position, batch.token, strict=True):
            assert (int(piece), int(position)) not in seen
            seen[int(piece), int(position)] = int(token)
    expected = {(p, i): int(t) for p, row in enumerate(rows) for i, t in enumerate(row) if i > 0}
    assert seen == expected


def test_codes_are_what_the_sae_encodes(small_recipe: Path, model: LanguageModel) -> None:
    recipe = read_recipe(small_recipe)
    loaded = suite.load_sae(recipe, recipe.sources[2], 1, 0, 0, model)
    torch.manual_seed(0)
    x = torch.randn(1300, 16)
    codes, rebuilt = encode(loaded, x)
    with torch.inference_mode():
        dense = loaded.sae.encode(x)
        np.testing.assert_array_equal(codes.toarray(), dense.numpy())
        whole = loaded.sae.decode(dense)
    torch.testing.assert_close(rebuilt, torch.cat([whole[:256], whole[1024:1280]]))
    torch.testing.assert_close(decoded(x), torch.cat([x[:256], x[1024:1280]]))

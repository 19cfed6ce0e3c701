"""Labels made of the tokens on which a feature is active and those it promotes, as ingest makes them."""

from pathlib import Path

from featgraph.activations.vocabulary import label
from featgraph.core.progress import Progress, Silent
from featgraph.core.text import pluralize
from featgraph.labels.writing import Labelled, labelling

SOURCE = "tokens"

_ROWS = 50_000
"""Features whose tokens are in memory at once."""


def from_tokens(path: str | Path, *, progress: Progress | None = None) -> Labelled:
    """Recompute the labels of source `tokens`; they replace the old ones.

    Raises StoreError: the graph cannot be read or written.
    """
    n_without = 0
    with labelling(path) as work, work.store.connection.cursor() as cursor:
        total = sum(sae.n_features for sae in work.store.saes)
        cursor.execute(
            "select id, coalesce(top_tokens, []), coalesce(telling_tokens, logit_tokens, []) from feature"
        )
        with (progress or Silent()).step("labels", total, "features") as advance:
            while rows := cursor.fetchmany(_ROWS):
                made = [(number, label(top, promotes)) for number, top, promotes in rows]
                named = [(number, text) for number, text in made if text]
                work.stage([number for number, _ in named], SOURCE, [text for _, text in named])
                n_without += len(rows) - len(named)
                advance(len(rows))
        added = work.commit("top and promoted tokens", remade=(SOURCE,))
    left_out = [f"{pluralize(n_without, 'feature')} without tokens"] if n_without else []
    return Labelled(added, left_out)

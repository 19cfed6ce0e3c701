"""Whether the SAEs of a graph work on the model and the text that it was made of."""

from featgraph.store import Store

LOW_VARIANCE = 0.3
"""An SAE that explains less does not fit what it reads. Our choice: the residual SAEs for which sae_lens's
registry has figures explain 0.6 and more; a wrong model or hook leaves about 0, or less."""

FAR_L0 = 3.0
"""Times the registry's L0, or its share, from which an SAE is named; texts differ by less. Our choice."""

CAUSES = (
    "likely causes: another model than the SAEs were trained on (an instruction-tuned one, another "
    "checkpoint), a hook or layer other than theirs, or a text unlike theirs"
)

_LOW = """
    select layer || '/' || site as place, explained_variance, expected_variance
    from sae
    where explained_variance < $low or isnan(explained_variance)
        or (explained_variance is null and l0 is not null)
    order by explained_variance
"""

_FAR = """
    select layer || '/' || site as place, l0, expected_l0
    from sae
    where l0 > $times * expected_l0 or l0 * $times < expected_l0
    order by l0 / expected_l0
"""


_UNPREDICTED = """
    select layer || '/' || site as place, no_virtual_weight
    from sae
    where no_virtual_weight is not null
    order by number
"""


def warnings(store: Store) -> list[str]:
    """Return a sentence for each sign that the suite does not fit; it names the worst SAE.

    Raises StoreError: the database cannot be read.
    """
    sentences = []
    low = store.rows(_LOW, {"low": LOW_VARIANCE})
    if low:
        place, variance, expected = low[0]
        shown = "it does not vary" if variance is None else f"{variance:.2f}"
        published = "" if expected is None else f", published as {expected:.2f}"
        sentences.append(
            f"{len(low)} of {len(store.saes)} SAEs explain less than {LOW_VARIANCE} of the variance of what "
            f"they read ({place}: {shown}{published}); {CAUSES}"
        )
    far = store.rows(_FAR, {"times": FAR_L0})
    if far:
        place, l0, expected = far[0]
        sentences.append(
            f"{len(far)} of {len(store.saes)} SAEs have another L0 than published "
            f"({place}: {l0:.1f} for {expected:.1f}); {CAUSES}"
        )
    return sentences


def unpredicted(store: Store) -> str | None:
    """Return which SAEs have edges without predicted causes, and why; None where all have them.

    Raises StoreError: the database cannot be read.
    """
    rows = store.rows(_UNPREDICTED)
    if not rows:
        return None
    place, reason = rows[0]
    return (
        f"no virtual_weight, attribution and twera on the edges of {len(rows)} of {len(store.saes)} SAEs "
        f"({place}: {reason})"
    )

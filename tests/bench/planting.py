"""Plant lineages: a synthetic suite of residual SAEs whose events are known, and the codes that go with it.

A *concept* is what a feature stands for: a unit direction, the tokens it is relevant to, and how strongly on
each (standard normal at first); it fires where that passes its bar. From one layer to the next:

- **persistence**: the direction turns; its cosine to itself is Beta distributed with the mean and spread of
  `Noise.cosine`. So is the correlation with which strengths are kept (`Noise.memory`); the bar is drawn anew.
- **death** (DEATHS of the live features): nothing of it goes on.
- **split** (SPLITS): 2 or 3 children on disjoint parts of its tokens, none with less than LEAST_SHARE. A
  child's cosine to the parent is that of a persistence times its share of it, uniform in SHARED.
- **merge** (MERGES; of 2 or 3 siblings): one child on all tokens of the parents, whose direction is the
  parents' mean, turned as in a persistence.
- **birth**: as many as keep the number of live features, of the kinds in BIRTHS. `plain`: a direction and
  tokens of its own. `family`: siblings with one cosine among them, uniform in KIN, that turn alike from then
  on, as children of a split do. Four are distractors: `near living`, `near dying` and `opposite` lie near
  (cosine uniform in NEAR) or opposite to a feature of the previous layer; a `companion` fires with some other
  living feature and has a direction of its own. Siblings and what lies near or opposite have tokens of their
  own but for a share, uniform up to `Noise.touching`, on which they also fire as strongly.

A share `Noise.spurious` of all firings are weak and on random tokens. Half of a concept's tokens are of one
topic, so that unrelated features fire together above chance. Random directions are not isotropic. DEAD of the
features never fire. Features are shuffled within each layer. `README.md` sets this beside real suites.
"""

from collections import defaultdict
from dataclasses import dataclass, field, replace

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from featgraph.core.arrays import Indices, Matrix

DEATHS, SPLITS, MERGES = 0.15, 0.04, 0.04
"""Events per live feature and layer. 12 to 30 % appear and disappear per layer of GPT-2 small.

Source: arXiv 2410.08869, charts of its repository (Pearson 0.4), for deaths; splits and merges are ours."""
BIRTHS = {
    "plain": 0.40,
    "family": 0.25,
    "near living": 0.15,
    "near dying": 0.10,
    "companion": 0.05,
    "opposite": 0.05,
}
FAMILIES = 0.30
"""Share of the first layer's features that have siblings."""
LEAST_SHARE = 0.20
"""Source: Rusalev's evolution of clusters of SAE features: a branch of a split gets 0.20 of the mass."""
SHARED, NEAR, KIN = (0.70, 0.95), (0.5, 0.9), (0.3, 0.8)
DEAD, TOPICS, OF_TOPIC = 0.10, 40, 0.5
DENSITY, SPREAD, FEWEST = 0.012, 1.0, 30
"""Share of the tokens that a concept is relevant to (about three times its density): median, spread of the
logarithm; and the smallest number of them."""
DENSE = 0.005
"""Share of concepts that are relevant to at least half of all tokens, as a few features of every SAE are."""
BAR, UNEVEN = 0.5, 0.3
"""Mean and spread of bars. The same concept may fire on twice as many tokens one layer on."""
STEEP = 0.5
"""An activation is exp(STEEP * strength): the largest is over twice the mean, as in real features."""
SPECTRUM = 0.5
"""The variance of the i-th coordinate of a random direction falls as i to the minus this."""


@dataclass(frozen=True)
class Noise:
    """How much changes from one layer to the next."""

    cosine: tuple[float, float]
    """Mean and spread of the cosine between a feature and itself one layer on."""
    memory: tuple[float, float]
    """The same of the correlation between a concept's strengths and those one layer on."""
    spurious: float
    """Share of a feature's firings that have nothing to do with its concept."""
    touching: float = 0.3
    """Largest share of its tokens that a feature has in common with one that it only looks like."""


NOISES = {
    "low": Noise((0.85, 0.08), (0.90, 0.08), 0.05),
    "moderate": Noise((0.70, 0.12), (0.75, 0.15), 0.10),
    "high": Noise((0.55, 0.14), (0.55, 0.20), 0.20),
}


@dataclass(frozen=True)
class Events:
    """What happened between the layers; a feature is its id, layer * n_features + index."""

    persistences: set[tuple[int, int]] = field(default_factory=set)
    births: set[int] = field(default_factory=set)
    deaths: set[int] = field(default_factory=set)
    splits: set[tuple[int, frozenset[int]]] = field(default_factory=set)
    """Each feature that splits, with its children."""
    merges: set[tuple[int, frozenset[int]]] = field(default_factory=set)
    """Each feature that others merge into, with these."""


@dataclass(frozen=True)
class Suite:
    """One residual SAE per layer, all of one width, and what is true of them."""

    n_features: int
    n_tokens: int
    directions: list[Matrix] = field(default_factory=list)
    """Unit rows per layer, (n_features, d_model)."""
    codes: list[scipy.sparse.csr_matrix] = field(default_factory=list)
    """Per layer, (n_tokens, n_features)."""
    truth: Events = field(default_factory=Events)
    distractors: dict[str, set[tuple[int, int]]] = field(default_factory=lambda: defaultdict(set))
    """Unrelated features of adjacent layers that were made to look alike, by kind of birth."""


@dataclass(frozen=True)
class _Concept:
    """One feature of the layer at hand, and how it came about."""

    tokens: Indices
    strength: Matrix
    family: int
    base: Matrix
    """The direction it is turned from."""
    cosine: float
    """To that direction."""
    parents: tuple[int, ...] = ()
    """Places in the previous layer's list."""
    like: tuple[str, int] | None = None
    """A distractor's kind and the place of what it is like."""


@dataclass(frozen=True)
class _Fates:
    """What becomes of the features of a layer: places in its list."""

    merging: list[list[int]]
    dying: list[int]
    splitting: list[int]
    lasting: list[int]


def plant(
    noise: Noise, *, d_model: int, n_features: int, layers: int = 6, n_tokens: int = 30_000, seed: int = 0
) -> Suite:
    """Make a suite; the same arguments make the same one."""
    garden = _Garden(noise, Suite(n_features, n_tokens), d_model, np.random.default_rng(seed))
    garden.begin()
    for _ in range(layers - 1):
        garden.grow()
    return garden.suite


class _Garden:
    """A suite in the making, layer by layer."""

    def __init__(self, noise: Noise, suite: Suite, d_model: int, rng: np.random.Generator) -> None:
        self.noise, self.suite, self.rng = noise, suite, rng
        self.n_live = round(suite.n_features * (1 - DEAD))
        self.spectrum = (np.arange(1, d_model + 1) ** (-SPECTRUM / 2)).astype(np.float32)
        self.topics = np.array_split(rng.permutation(suite.n_tokens), TOPICS)
        self.kin: list[float] = []
        """One cosine among siblings per family."""
        self.concepts: list[_Concept] = []
        self.rows: Matrix = np.zeros((0, d_model), dtype=np.float32)
        """Directions of the concepts."""
        self.ids: Indices = np.zeros(0, dtype=np.int64)

    def begin(self) -> None:
        """Plant the first layer."""
        related = round(self.n_live * FAMILIES)
        born = [*self._families(related), *self._plain(self.n_live - related)]
        self._settle(born)

    def grow(self) -> None:
        """Plant the next layer."""
        fates = self._fates()
        there = [self._last(place) for place in fates.lasting]
        there += [self._merge(group) for group in fates.merging]
        for place in fates.splitting:
            there += self._split(place)
        there += self._births(self.n_live - len(there), fates)
        before = self.ids
        self._settle(there)
        self._tell(fates, before)

    # ---- what becomes of the features of a layer

    def _fates(self) -> _Fates:
        siblings = defaultdict(list)
        for place in self.rng.permutation(len(self.concepts)).tolist():
            if self.concepts[place].family >= 0:
                siblings[self.concepts[place].family].append(place)
        several = [group[: int(self.rng.integers(2, 4))] for group in siblings.values() if len(group) >= 2]
        merging = several[: round(MERGES * self.n_live)]
        gone = {place for group in merging for place in group}
        rest = [place for place in self.rng.permutation(len(self.concepts)).tolist() if place not in gone]
        n_dying, n_splitting = round(DEATHS * self.n_live), round(SPLITS * self.n_live)
        dying, rest = rest[:n_dying], rest[n_dying:]
        rich = [place for place in rest if len(self.concepts[place].tokens) >= 3 * FEWEST]
        splitting = rich[:n_splitting]
        return _Fates(merging, dying, splitting, sorted(set(rest) - set(splitting)))

    def _last(self, place: int) -> _Concept:
        old = self.concepts[place]
        return _Concept(
            old.tokens, self._remember(old.strength), old.family, self.rows[place], self._cosine(), (place,)
        )

    def _merge(self, group: list[int]) -> _Concept:
        tokens = np.concatenate([self.concepts[place].tokens for place in group])
        strength = np.concatenate([self.concepts[place].strength for place in group])
        tokens, first = np.unique(tokens, return_index=True)
        base = _unit(self.rows[group].mean(axis=0))
        return _Concept(tokens, self._remember(strength[first]), -1, base, self._cosine(), tuple(group))

    def _split(self, place: int) -> list[_Concept]:
        old = self.concepts[place]
        shares = self._shares(int(self.rng.integers(2, 4)))
        part = self.rng.permutation(
            np.searchsorted(np.cumsum(shares), np.arange(len(old.tokens)) / len(old.tokens), "right")
        )
        cosines = [self._cosine() * float(self.rng.uniform(*SHARED)) for _ in shares]
        self.kin.append(cosines[0] * cosines[1])
        return [
            _Concept(
                old.tokens[part == number],
                self._remember(old.strength[part == number]),
                len(self.kin) - 1,
                self.rows[place],
                cosine,
                (place,),
            )
            for number, cosine in enumerate(cosines)
        ]

    def _shares(self, n: int) -> NDArray[np.float64]:
        while True:
            shares = self.rng.dirichlet([5.0] * n)
            if shares.min() >= LEAST_SHARE:
                return shares

    # ---- births

    def _births(self, n: int, fates: _Fates) -> list[_Concept]:
        counts = {kind: round(n * share) for kind, share in BIRTHS.items() if kind != "plain"}
        living, dying = self.rng.permutation(fates.lasting), fates.dying
        born = self._families(counts["family"])
        for kind, models, sign in (
            ("near living", living, 1),
            ("near dying", dying, 1),
            ("opposite", living[::-1], -1),
        ):
            for place in models[: counts[kind]]:
                cosine = float(self.rng.uniform(*NEAR))
                model = self.concepts[place]
                tokens = self._tokens(beside=(model.tokens, self._remember(model.strength)))
                born.append(_Concept(*tokens, -1, sign * self.rows[place], cosine, like=(kind, int(place))))
        for place in self.rng.permutation(living)[: counts["companion"]]:
            old = self.concepts[place]
            born.append(
                replace(
                    self._plain(1)[0],
                    tokens=old.tokens,
                    strength=self._remember(old.strength),
                    like=("companion", int(place)),
                )
            )
        return [*born, *self._plain(n - len(born))]

    def _plain(self, n: int) -> list[_Concept]:
        return [_Concept(*self._tokens(), -1, row, 1.0) for row in self._random(n)]

    def _families(self, n: int) -> list[_Concept]:
        found: list[_Concept] = []
        while len(found) < n:
            kin = float(self.rng.uniform(*KIN))
            topic = int(self.rng.integers(TOPICS))
            centre, common = self._random(1)[0], self._tokens(topic)
            self.kin.append(kin)
            found += [
                _Concept(*self._tokens(topic, common), len(self.kin) - 1, centre, kin**0.5)
                for _ in range(int(self.rng.integers(2, 6)))
            ]
        return found[:n]

    def _tokens(
        self, topic: int | None = None, beside: tuple[Indices, Matrix] | None = None
    ) -> tuple[Indices, Matrix]:
        """Draw what a concept is relevant to and how strongly; `beside`: the same of what it looks like."""
        share = DENSITY * np.exp(SPREAD * self.rng.standard_normal())
        if self.rng.random() < DENSE:
            share = self.rng.uniform(0.5, 1.0)
        n = max(round(min(share, 1.0) * self.suite.n_tokens), FEWEST)
        own = self.topics[int(self.rng.integers(TOPICS)) if topic is None else topic]
        n_own = min(round(OF_TOPIC * n), len(own))
        drawn = np.concatenate(
            [
                self.rng.choice(own, n_own, replace=False),
                self.rng.integers(self.suite.n_tokens, size=n - n_own),
            ]
        )
        strength = self.rng.standard_normal(len(drawn)).astype(np.float32)
        if beside is not None:
            both = min(n, len(beside[0]))
            shared = self.rng.choice(
                len(beside[0]), round(self.rng.uniform(0, self.noise.touching) * both), replace=False
            )
            drawn = np.concatenate([beside[0][shared], drawn[len(shared) :]])
            strength = np.concatenate([beside[1][shared], strength[len(shared) :]])
        tokens, first = np.unique(drawn, return_index=True)
        return tokens, strength[first]

    # ---- noise

    def _beta(self, mean: float, spread: float) -> float:
        both = mean * (1 - mean) / spread**2 - 1
        return float(self.rng.beta(mean * both, (1 - mean) * both))

    def _cosine(self) -> float:
        return self._beta(*self.noise.cosine)

    def _remember(self, strength: Matrix) -> Matrix:
        memory = self._beta(*self.noise.memory)
        fresh = self.rng.standard_normal(len(strength))
        kept: Matrix = (memory * strength + (1 - memory**2) ** 0.5 * fresh).astype(np.float32)
        return kept

    def _random(self, n: int) -> Matrix:
        drawn = self.rng.standard_normal((n, len(self.spectrum)), dtype=np.float32)
        return _unit(drawn * self.spectrum)

    # ---- a layer, once all its features are known

    def _settle(self, there: list[_Concept]) -> None:
        """Turn the directions, place the features among dead ones, and let them fire."""
        self.rows = self._turned(there)
        self.concepts = there
        places = self.rng.permutation(self.suite.n_features)
        self.ids = len(self.suite.directions) * self.suite.n_features + places[: len(there)]
        directions = self._random(self.suite.n_features)
        directions[places[: len(there)]] = self.rows
        self.suite.directions.append(directions)
        fired = [self._fire(concept) for concept in there]
        shape = (self.suite.n_tokens, self.suite.n_features)
        column = np.repeat(places[: len(there)], [len(tokens) for tokens, _ in fired])
        row, value = (np.concatenate(parts) for parts in zip(*fired, strict=True))
        self.suite.codes.append(scipy.sparse.csr_matrix((value, (row, column)), shape=shape))

    def _turned(self, there: list[_Concept]) -> Matrix:
        """Turn each direction away from its base; what siblings turn towards has their cosine too."""
        base = np.stack([concept.base for concept in there])
        cosine = np.array([concept.cosine for concept in there], dtype=np.float32)[:, None]
        away = self._random(len(there))
        common = dict[int, Matrix]()
        for place, concept in enumerate(there):
            lasts = len(concept.parents) == 1 and concept.family == self.concepts[concept.parents[0]].family
            if lasts and concept.family >= 0:
                kin = self.kin[concept.family]
                if concept.family not in common:
                    common[concept.family] = self._random(1)[0]
                away[place] = kin**0.5 * common[concept.family] + (1 - kin) ** 0.5 * away[place]
        away -= (away * base).sum(axis=1, keepdims=True) * base
        turned = cosine * base + np.sqrt(1 - cosine**2) * _unit(away)
        return _unit(turned.astype(np.float32))

    def _fire(self, concept: _Concept) -> tuple[Indices, Matrix]:
        bar = BAR + UNEVEN * self.rng.standard_normal()
        on = concept.strength > bar
        n = int(self.rng.poisson(on.sum() * self.noise.spurious / (1 - self.noise.spurious)))
        tokens = np.concatenate([concept.tokens[on], self.rng.integers(self.suite.n_tokens, size=n)])
        strength = np.concatenate([concept.strength[on], np.full(n, bar, dtype=np.float32)])
        tokens, first = np.unique(tokens, return_index=True)
        gain = np.exp(self.rng.standard_normal())
        return tokens, (gain * np.exp(STEEP * strength[first])).astype(np.float32)

    def _tell(self, fates: _Fates, before: Indices) -> None:
        """Write down what happened since the layer whose ids were `before`."""
        truth, children = self.suite.truth, defaultdict(list)
        for concept, id in zip(self.concepts, self.ids.tolist(), strict=True):
            parents = [int(before[place]) for place in concept.parents]
            for parent in parents:
                children[parent].append(id)
            if not parents:
                truth.births.add(id)
            if len(parents) > 1:
                truth.merges.add((id, frozenset(parents)))
            if concept.like:
                self.suite.distractors[concept.like[0]].add((int(before[concept.like[1]]), id))
        truth.deaths.update(int(before[place]) for place in fates.dying)
        for place in fates.splitting:
            parent = int(before[place])
            truth.splits.add((parent, frozenset(children[parent])))
        for place in fates.lasting:
            parent = int(before[place])
            truth.persistences.add((parent, children[parent][0]))


def _unit(rows: Matrix) -> Matrix:
    found: Matrix = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return found

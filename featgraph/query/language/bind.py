"""A `Match` with every name looked up: which features and edges each variable can be.

Conditions on one variable go to that variable; those on layer, site, key, id and kind become sets of SAEs,
which are then narrowed along the arrows. What is left of WHERE is tested on whole rows.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from featgraph.core.keys import SITES
from featgraph.errors import UsageError, nearest
from featgraph.query.language.ast import EdgePattern, Element, Expression, Match, PathPattern, Selector
from featgraph.query.language.context import QueryContext
from featgraph.query.language.predicates import conjuncts, constant, read_predicate
from featgraph.query.language.sae_sets import Hops, Kinds, SaeGraph, SaeRanges, hops
from featgraph.query.language.tokens import Token
from featgraph.store.features import find_feature


@dataclass(eq=False)
class Node:
    """A node of a pattern, shared by all places that name the same variable."""

    name: str
    saes: SaeRanges
    id: int | None = None
    """The one feature that it can be, if a key or an id says so."""
    conditions: list[Expression] = field(default_factory=list)
    """What a row of `feature` must pass; the row has the name of the node."""


@dataclass(eq=False)
class Edge:
    """An edge of a pattern; `left` and `right` as written, `down` = it points from left to right."""

    name: str
    left: Node
    right: Node
    down: bool
    kinds: Kinds
    low: int = 1
    high: int | None = 1
    is_group: bool = False
    """Whether it stands for a run of edges."""
    conditions: list[Expression] = field(default_factory=list)
    """What a row of `edge` must pass; the row has the name of the edge."""
    scored: str | None = None
    """What a property must be for BEST to score the edge, such as `"cosine" > 0`."""
    hops: Hops = field(default_factory=lambda: Hops((1,), ()))


@dataclass(eq=False)
class Path:
    """A path of a pattern."""

    selector: Selector
    name: str | None
    nodes: list[Node]
    edges: list[Edge]


@dataclass
class Bindings:
    """All variables of a MATCH, and what is left of its WHERE."""

    paths: list[Path]
    variables: dict[str, Node | Edge | Path]
    where: list[Expression]
    is_empty: bool = False
    """Whether the SAEs that have edges rule out every match."""


def bind(match: Match, context: QueryContext) -> Bindings:
    """Return the match with its names looked up.

    Raises QueryError: an unknown site, kind, property or feature, or a name that stands for two things.
    """
    binder = _Binder(context)
    paths = [binder.path(pattern) for pattern in match.paths]
    bound = Bindings(paths, binder.variables, [])
    bound.where = [part for part in conjuncts(match.where) if not binder.push(part, bound)]
    _narrow(bound, context.graph)
    return bound


def variables_in(expression: Expression, variables: Mapping[str, object]) -> set[str]:
    """Return the names of the variables that an expression mentions."""
    before = [None, *expression[:-1]]
    return {
        token.name
        for token, previous in zip(expression, before, strict=True)
        if token.is_name and token.name in variables and not (previous and previous.is_symbol("."))
    }


class _Binder:
    def __init__(self, context: QueryContext) -> None:
        self.context = context
        self.graph = context.graph
        self.variables: dict[str, Node | Edge | Path] = {}
        self.count = 0

    def path(self, pattern: PathPattern) -> Path:
        inner = range(1, len(pattern.edges)) if pattern.selector.choice != "all" else ()
        nodes = [self.node(element, place in inner) for place, element in enumerate(pattern.nodes)]
        edges = [self.edge(edge, nodes[place], nodes[place + 1]) for place, edge in enumerate(pattern.edges)]
        path = Path(pattern.selector, None, nodes, edges)
        if pattern.variable is not None:
            path.name = pattern.variable.name
            self.declare(pattern.variable, path)
        self.score(pattern.selector, edges)
        return path

    def declare(self, token: Token, thing: Node | Edge | Path) -> None:
        if token.name in self.variables:
            self.context.fail(f"the name {token.text} stands for two things; give one of them another", token)
        self.variables[token.name] = thing

    def anonymous(self, noun: str) -> str:
        """Return a name that the statement does not mention."""
        self.count += 1
        while f"{noun} {self.count}" in self.context.text.lower():
            self.count += 1
        return f"{noun} {self.count}"

    def node(self, element: Element, is_inner: bool) -> Node:
        """Return the node that an element stands for.

        is_inner: it lies inside a path with a selector, which chooses among all paths that its own conditions
        allow; so it is a node apart from the variable, and what others say of that is tested later.
        """
        token = element.variable
        name = token.name if token else self.anonymous("node")
        node = Node(name, self.graph.everything)
        if token is not None:
            known = self.variables.get(name)
            if not isinstance(known, Node):
                self.declare(token, node)
                known = node
            node = Node(name, self.graph.everything) if is_inner else known
        if element.labels:
            node.saes &= self.sites(element.labels)
        if element.key is not None:
            self.place(node, self.key(element.key))
        for part in self.parts(element, node.name):
            if not self.narrow_node(node, part):
                node.conditions.append(part)
        return node

    def sites(self, labels: tuple[Token, ...]) -> SaeRanges:
        for label in labels:
            if label.name not in SITES:
                hint = nearest(label.name, SITES) or f"; sites are {', '.join(SITES)}"
                self.context.fail(f"no site {label.text!r}{hint}", label)
        wanted = {label.name for label in labels}
        return sum(1 << sae.number for sae in self.graph.saes if sae.site in wanted)

    def key(self, token: Token) -> int:
        value = constant([token], self.context.values)
        if value is None or value[0] is None:
            self.context.fail("a feature key is text such as '12/res/345'", token)
        try:
            key, sae = find_feature(self.graph.saes, str(value[0]))
        except UsageError as error:
            self.context.fail(str(error), token)
        return sae.first_id + key.idx

    def place(self, node: Node, id: int | None) -> None:
        """Let a node be one feature only; None = no feature at all."""
        if id is None or (node.id is not None and node.id != id):
            node.saes = 0
            return
        node.id = id
        node.saes &= sum(
            1 << sae.number for sae in self.graph.saes if sae.first_id <= id < sae.first_id + sae.n_features
        )

    def edge(self, pattern: EdgePattern, left: Node, right: Node) -> Edge:
        element, token = pattern.element, pattern.element.variable
        name = token.name if token else self.anonymous("edge")
        kinds = self.graph.kinds
        for label in element.labels:
            if label.name not in kinds:
                hint = nearest(label.name, kinds) or f"; kinds are {', '.join(sorted(kinds))}"
                if label.name == "far":
                    hint = "; `featgraph attribute GRAPH FEATURE --write` adds such edges"
                self.context.fail(f"no kind of edge {label.text!r}{hint}", label)
        if element.labels:
            kinds = frozenset(label.name for label in element.labels)
        edge = Edge(name, left, right, pattern.down, kinds)
        if pattern.quantifier is not None:
            edge.is_group, edge.low, edge.high = True, pattern.quantifier.low, pattern.quantifier.high
        if token is not None:
            self.declare(token, edge)
        for part in self.parts(element, name):
            if not self.narrow_edge(edge, part):
                edge.conditions.append(part)
        return edge

    def parts(self, element: Element, name: str) -> Iterator[Expression]:
        """Yield the conditions inside an element's brackets, `{property: literal}` as equalities."""
        for prop, literal in element.properties:
            variable = Token("quoted", '"' + name.replace('"', '""') + '"', prop.start, prop.start)
            dot = Token("symbol", ".", prop.start, prop.start)
            yield variable, dot, prop, Token("symbol", "=", prop.end, literal[0].start), *literal
        if element.where:
            yield from conjuncts(element.where)

    def push(self, part: Expression, bound: Bindings) -> bool:
        """Hand a part of the final WHERE to the one variable that it is on; say whether that was right."""
        names = variables_in(part, self.variables)
        if len(names) != 1 or any(token.is_word("select", "from", "lambda") for token in part):
            return False
        name = next(iter(names))
        thing = self.variables[name]
        kept = [path for path in bound.paths if path.selector.choice != "all"]
        if isinstance(thing, Node):
            if not any(thing in path.nodes for path in bound.paths):
                return False  # it lies inside a path with a selector
            if not self.narrow_node(thing, part):
                thing.conditions.append(part)
            return True
        if isinstance(thing, Edge) and not thing.is_group and not any(thing in path.edges for path in kept):
            if not self.narrow_edge(thing, part):
                thing.conditions.append(part)
            return True
        return False

    def narrow_node(self, node: Node, part: Expression) -> bool:
        """Narrow a node by a condition on its SAE or id; say whether nothing of the condition is left."""
        predicate = read_predicate(part, self.context.values)
        if predicate is None or predicate.variable != node.name:
            return False
        feature = predicate.feature(self.graph.saes)
        if feature is not None:
            self.place(node, feature[0] if feature else None)
            return True
        test = predicate.sae_test()
        if test is not None:
            node.saes &= sum(1 << sae.number for sae in self.graph.saes if test(sae))
        return test is not None

    def narrow_edge(self, edge: Edge, part: Expression) -> bool:
        """Narrow the kinds of an edge by a condition; say whether nothing of the condition is left."""
        predicate = read_predicate(part, self.context.values)
        test = predicate.kind_test() if predicate is not None and predicate.variable == edge.name else None
        if test is not None:
            edge.kinds = frozenset(kind for kind in edge.kinds if test(kind))
        return test is not None

    def score(self, selector: Selector, edges: list[Edge]) -> None:
        """Check what BEST is by, and keep edges out that it cannot score."""
        kind = self.context.columns["edge"].get(selector.prop)
        numbers = ("INTEGER", "SMALLINT", "FLOAT", "DOUBLE", "BIGINT")
        if kind not in numbers and selector.at is not None:
            known = [name for name, type in self.context.columns["edge"].items() if type in numbers]
            hint = nearest(selector.prop, known) or f"; it can be {', '.join(known)}"
            self.context.fail(f"paths have no number {selector.prop!r} to be the best by{hint}", selector.at)
        for edge in edges if selector.choice == "best" else ():
            edge.scored = f'"{selector.prop}" {"> 0" if selector.by == "product" else "is not null"}'


def _narrow(bound: Bindings, graph: SaeGraph) -> None:
    """Narrow the SAEs of all nodes along all edges until nothing changes."""
    edges = [edge for path in bound.paths for edge in path.edges]
    before: list[SaeRanges] = []
    while before != (now := [node.saes for edge in edges for node in (edge.left, edge.right)]):
        before = now
        for edge in edges:
            edge.hops = hops(
                graph, edge.left.saes, edge.right.saes, edge.kinds, edge.low, edge.high, down=edge.down
            )
            edge.right.saes &= edge.hops.ends
            edge.left.saes &= edge.hops.at[0] if edge.hops.lengths else 0
    bound.is_empty = any(not node.saes for path in bound.paths for node in path.nodes)

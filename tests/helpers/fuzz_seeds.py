"""Valid statements of every kind for the toy graph, and words to throw into them."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Seed:
    """A statement that is answered with rows."""

    text: str
    parameters: dict[str, object] = field(default_factory=dict)


_FILE = Path(__file__).with_suffix(".txt")
_WITH_PARAMETERS: tuple[tuple[str, dict[str, object]], ...] = (
    ("select key from feature where density >= $least", {"least": 0.1}),
    ("match (a $feature)-[e where e.cosine >= $tau]->+(b) return b.key", {"feature": "0/res/0", "tau": 0.5}),
    ("match (a)-[e]->(b) where e.cosine = $tau return a.id, $tau as tau", {"tau": 0.7}),
    ("from lineage($feature, min => $tau)", {"feature": "1/res/0", "tau": 0.5}),
    ("select * from paths($a, $b, k => $k)", {"a": "0/res/0", "b": "2/res/0", "k": 2}),
    ("from graph_table (match (a $k)<-(b) columns (b.id as id)) where id <> $n", {"k": "1/res/0", "n": 3}),
)

SEEDS: tuple[Seed, ...] = (
    *(Seed(line) for line in _FILE.read_text(encoding="utf-8").splitlines()),
    *(Seed(text, parameters) for text, parameters in _WITH_PARAMETERS),
)

_WORDS = """
match where return columns graph_table best any all shortest by is trail optional cheapest keep group
select from join on with recursive as union distinct order limit offset having explain lineage paths
( ) [ ] { } -[ ]-> -> <- <-[ ]- --> <-- ~[ ]~ - > < = => := : :: | || & ! % * + ? ; , . .. $ # @ \\ `
{1,3} {,2} {2,} {3,1} {0} {} {,} *1..5 {1000000} {99999999999999999999} {-1,2} {1.5} {a}
' " '' \"\" $$ $tag$ -- /* */ $x $1 ?1 'x' "x" e'\\n' x'00' null true 0 1 -1 1e400 nan 0x1 .5 1. 1..5
a b e p x a.id b.key e.cosine e.nothing nothing.id a.* p.x nodes(p) keys(e) count(a) element_id(a)
'0/res/0' '9/res/9' '0/res' '1/nowhere/0' '-1/res/0' res mlp att nowhere res_res
drop copy insert attach set pragma create delete update call install begin
"""
WORDS: tuple[str, ...] = (
    *_WORDS.split(),
    *("\0", "\ufeff", "\u202e", "\u2028", "\x1b", "\u00a0", "\uff41", "😀", "é", "ß", "\ud800", "\udcff"),
    *("(a)->(b)", "(a)-[e]->{1,2}(b)", "(match (a) return a.id)", "graph_table (match (a) columns (a.id))"),
    *("a.id in (select src from edge)", "order by 1", "group by all", "((((", "))))", "shortest 2 group"),
)
"""Keywords, punctuation, halves of things, and what no statement has a use for."""

_KINDS = """
res mlp att
res_res mlp_res att_res
id key layer site idx density mean_activation max_activation decoder_norm s_res top_tokens
src dst kind cosine rank_out rank_in n_both jaccard pearson necessity ablation_change found_by
a b c e f p x y
count min max avg sum product list
nodes vertices edges keys weight bottleneck path_length
product sum min
-> <-
* + ?
0 1 2 3 4
'0/res/0' '0/res/1' '1/res/0' '1/res/1' '1/res/2' '1/res/3' '2/res/0' '2/res/1' '1/mlp/0' '2/att/3'
any best all
lineage ancestors descendants subgraph
splits merges births deaths chains components flow
= <> < > <= >=
and or
"""
KINDS: tuple[tuple[str, ...], ...] = tuple(tuple(line.split()) for line in _KINDS.strip().splitlines())
"""Tokens that can stand in each other's place."""

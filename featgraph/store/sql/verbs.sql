-- The verbs as table macros, stored in graph.duckdb: one definition for the command line, Python, the named
-- queries and any other DuckDB client. `min` is the cosine threshold in use; left out, each edge is held
-- against `threshold_high` of its downstream SAE. An edge may skip layers.
--
-- Where a macro follows edges, a materialized CTE first fetches those at known features by `in`, which reads
-- little of `edge`; all else is joined to what it found. As one join, DuckDB would read the whole table.

-- One row: the SAE of feature `id` is sae[id // size + 1], found without a join, however many ids there are.
create macro places() as table
    select w.size,
        flatten(list(repeat([{
            number: s.number, prefix: s.layer || '/' || s.site || '/', first_id: s.first_id,
            threshold_low: s.threshold_low, threshold_high: s.threshold_high
        }], s.n_features // w.size) order by s.first_id)) as sae
    from main.sae s, (select list_reduce(list(n_features), lambda x, y: gcd(x, y))::integer as size from main.sae) w
    group by w.size;

-- The key of a feature from its id and the two columns of `places`.
create macro key_of(id, size, sae) as sae[id // size + 1].prefix || (id - sae[id // size + 1].first_id);

-- Residual edges that pass the threshold. With `evidence`, those from `threshold_low` on whose ends fire
-- together, on a fifth of the tokens of one of them (the share of a branch in Rusalev's clusters of features)
-- and correlated (0.1: ours), ranked among themselves; where nothing was counted, those that pass without.
create macro matched(min := null, evidence := false) as table
    select e.* from main.edge e, places() p
    where not evidence and e.kind = 'res_res'
        and (min is null or e.cosine >= min::float)
        and (min is not null or e.cosine >= p.sae[e.dst // p.size + 1].threshold_high)
    union all
    select e.* replace (
        row_number() over (partition by e.src order by e.cosine desc, e.dst)::smallint as rank_out,
        row_number() over (partition by e.dst order by e.cosine desc, e.src)::smallint as rank_in
    )
    from main.edge e, places() p
    where evidence and e.kind = 'res_res' and case
        when e.n_both is null then e.cosine >= coalesce(min::float, p.sae[e.dst // p.size + 1].threshold_high)
        else e.cosine >= coalesce(min::float, p.sae[e.dst // p.size + 1].threshold_low)
            and greatest(e.necessity, e.sufficiency) >= 0.2::float and e.pearson >= 0.1::float end;

-- A feature and what it reaches over residual edges that pass: upstream, downstream, or both ways (`ups`).
-- The distance is the fewest edges on the way, the weight the best product of cosines.
create macro reached(f, min := null, hops := null, ups := [true, false]) as table
    with recursive found(id, up, distance, weight) as (
        select id, unnest(ups), 0, 1::float from main.feature where key = f
        union all
        from (
            with near as materialized (
                select dst as here, src as there, true as up, dst, cosine
                from main.edge
                where kind = 'res_res' and (min is null or cosine >= min::float)
                    and dst in (select id from found where up and distance < coalesce(hops, 2147483647))
                union all
                select src, dst, false, dst, cosine
                from main.edge
                where kind = 'res_res' and (min is null or cosine >= min::float)
                    and src in (select id from found where not up and distance < coalesce(hops, 2147483647))
            )
            select n.there, n.up, r.distance + 1, max(r.weight * n.cosine)
            from found r
            join near n on n.here = r.id and n.up = r.up
            join main.sae s on n.dst between s.first_id and s.first_id + s.n_features - 1
            where n.cosine >= coalesce(min::float, s.threshold_high)
            group by all
        )
    )
    select id, min(distance) as distance, max(weight) as weight
    from found
    group by id;

-- Everything downstream of a feature over residual edges that pass.
create macro descendants(f, min := null, hops := null) as table
    select r.id, concat_ws('/', s.layer, s.site, r.id - s.first_id) as key, s.layer, s.site,
        r.id - s.first_id as idx, r.distance, r.weight
    from reached(f, min := min, hops := hops, ups := [false]) r
    join main.sae s on r.id between s.first_id and s.first_id + s.n_features - 1
    where r.distance > 0
    order by r.id;

-- Everything upstream of a feature over residual edges that pass.
create macro ancestors(f, min := null, hops := null) as table
    select r.id, concat_ws('/', s.layer, s.site, r.id - s.first_id) as key, s.layer, s.site,
        r.id - s.first_id as idx, r.distance, r.weight
    from reached(f, min := min, hops := hops, ups := [true]) r
    join main.sae s on r.id between s.first_id and s.first_id + s.n_features - 1
    where r.distance > 0
    order by r.id;

-- A feature with its ancestors and descendants, and the mlp and att features that write each residual member
-- (cosine >= writer_min). A writer stands one step beyond the member it writes most strongly.
create macro lineage(f, min := null, hops := null, writers := true, writer_min := 0.25) as table
    with member as materialized (from reached(f, min := min, hops := hops)),
    written as materialized (
        select src, dst, cosine
        from main.edge
        where writers and kind in ('mlp_res', 'att_res') and cosine >= writer_min::float
            and dst in (select id from member)
    ),
    writer as (
        select e.src as id, m.distance + 1 as distance, m.weight * e.cosine as weight
        from written e join member m on m.id = e.dst
        qualify row_number() over (partition by e.src order by m.weight * e.cosine desc, m.id) = 1
    )
    select n.id, concat_ws('/', s.layer, s.site, n.id - s.first_id) as key, s.layer, s.site,
        n.id - s.first_id as idx, n.distance, n.weight
    from (from member union all from writer) n
    join main.sae s on n.id between s.first_id and s.first_id + s.n_features - 1
    order by n.id;

-- The edges among some features, given as a list of ids: residual edges that pass and the writers' edges.
create macro edges_among(ids, min := null, writer_min := 0.25) as table
    with chosen as materialized (select unnest(ids) as id),
    near as materialized (
        select src, dst, kind, cosine
        from main.edge
        where src in (select id from chosen) and dst in (select id from chosen)
    )
    select n.src, n.dst, n.kind, n.cosine
    from near n
    join main.sae s on n.dst between s.first_id and s.first_id + s.n_features - 1
    where n.cosine >= case
        when n.kind = 'res_res' then coalesce(min::float, s.threshold_high) else writer_min::float end
    order by n.src, n.dst;

-- The edges of a lineage, for drawing it.
create macro subgraph(f, min := null, hops := null, writers := true, writer_min := 0.25) as table
    with member as materialized (
        select list(id) as ids
        from lineage(f, min := min, hops := hops, writers := writers, writer_min := writer_min)
    )
    from edges_among((select m.ids from member m), min := min, writer_min := writer_min);

-- Every edge at a feature that passes, residual edges by `min` and writers' edges by `writer_min`.
create macro neighbors(f, min := null, writer_min := 0.25) as table
    with seed as materialized (select id from main.feature where key = f),
    near as materialized (
        select src as other, 'up' as direction, * from main.edge where dst in (select id from seed)
        union all
        select dst, 'down', * from main.edge where src in (select id from seed)
    )
    select n.other as id, concat_ws('/', s.layer, s.site, n.other - s.first_id) as key, s.layer, s.site,
        n.other - s.first_id as idx, n.direction, n.kind, n.cosine, n.rank_out, n.rank_in,
        n.jaccard, n.pearson, n.virtual_weight
    from near n
    join main.sae s on n.other between s.first_id and s.first_id + s.n_features - 1
    join main.sae d on n.dst between d.first_id and d.first_id + d.n_features - 1
    where n.cosine >= case
        when n.kind = 'res_res' then coalesce(min::float, d.threshold_high) else writer_min::float end
    order by n.direction desc, n.cosine desc, n.other;

-- The k best paths from feature `a` down to `b` over residual edges that pass; out of an mlp or att feature,
-- the first edge is one by which it writes. `by`: what a path scores, product, sum or min of its cosines.
--
-- Of the paths of one length to a feature only the k best go on. Between two of the same score and length,
-- the one whose last feature but one has the smaller id is ahead; if it is the same feature, the one that was
-- ahead there. `back` decides that: the features before the last, backwards, each with its negated score.
create macro paths(a, b, k := 1, min := null, by := 'product', writer_min := 0.25) as table
    with recursive source as materialized (select id from main.feature where key = a),
    target as materialized (select id from main.feature where key = b),
    ahead(src, dst, cosine) as (
        select id, id, null::float from source
        union
        from (
            with near as materialized (
                select src, dst, kind, cosine from main.edge where src in (select dst from ahead)
            )
            select n.src, n.dst, n.cosine
            from near n
            join main.sae s on n.dst between s.first_id and s.first_id + s.n_features - 1
            join target t on n.dst <= t.id
            where ("by" <> 'product' or n.cosine > 0) and n.cosine >= case
                when n.kind = 'res_res' then coalesce(min::float, s.threshold_high) else writer_min::float end
        )
    ),
    between_both(src, dst, cosine) as (
        from ahead where src <> dst and dst in (select id from target)
        union
        from ahead where src <> dst and dst in (select src from between_both)
    ),
    path(id, length, score, weight, bottleneck, back) as (
        select id, 0, case "by" when 'product' then 1::double when 'sum' then 0 else 'infinity'::double end,
            1::double, null::float, []::struct(id integer, negated double)[]
        from source
        union all
        from (
            with longer as (
                select e.dst as id, p.length + 1 as length,
                    case "by"
                        when 'product' then p.score * e.cosine
                        when 'sum' then p.score + e.cosine
                        when 'min' then least(p.score, e.cosine)
                        else error('by is product, sum or min')
                    end as score,
                    p.weight * e.cosine as weight, least(p.bottleneck, e.cosine) as bottleneck,
                    [{id: p.id, negated: -p.score}] || p.back as back
                from path p
                join between_both e on e.src = p.id
            )
            from longer
            qualify row_number() over (partition by id order by score desc, back) <= k
        )
    ),
    best as (
        select row_number() over (order by score desc, length, back)::integer as rank, length,
            score::float as score, weight::float as weight, bottleneck,
            list_reverse(list_prepend(id, [step.id for step in back])) as nodes
        from path
        where id in (select id from target)
        qualify rank <= k
    )
    select b.*, [key_of(node, p.size, p.sae) for node in b.nodes] as keys
    from best b, places() p
    order by b.rank;

-- Features that are the best end of two or more others: those that split, or with `merging` those that others
-- merge into. Of two links of one feature, one has a rank above 1, so that few features are left to group.
-- Members go by rank, which stands above the id in one number because numbers sort fast.
create macro forks(min := null, layer := null, merging := false, evidence := false) as table
    with link as materialized (
        select case when merging then dst else src end as id,
            case when merging then src else dst end as member,
            case when merging then rank_in else rank_out end as rank,
            cosine
        from matched(min := min, evidence := evidence)
        where case when merging then rank_out else rank_in end = 1
    ),
    fork as (
        select id, count(*)::integer as n, list(rank::bigint * 4294967296 + member) as ranked,
            list(cosine) as cosines
        from link
        where id in (select id from link where rank > 1)
        group by id
        having count(*) >= 2
    )
    select f.id, key_of(f.id, p.size, p.sae) as key, f.n,
        [key_of(ranked % 4294967296, p.size, p.sae) for ranked in list_sort(f.ranked)] as members,
        list_reverse_sort(f.cosines) as weights
    from fork f, places() p
    where layer is null or p.sae[f.id // p.size + 1].prefix = layer::integer || '/res/'
    order by f.id;

-- Features with two or more children that pass and whose best parent they are.
create macro splits(min := null, layer := null, evidence := false) as table
    from forks(min := min, layer := layer, merging := false, evidence := evidence);

-- Features with two or more parents that pass and whose best child they are.
create macro merges(min := null, layer := null, evidence := false) as table
    from forks(min := min, layer := layer, merging := true, evidence := evidence);

-- Residual features above the first layer that no edge passes into (with `evidence`, live ones only), and
-- whether an mlp or att feature of the same layer passes `min` or `threshold_high`; where none does and the
-- layer lacks an SAE of either, that is not measured.
create macro births(min := null, layer := null, evidence := false) as table
    select f.id, f.key, f.layer,
        coalesce(nullif(concat_ws('+',
            if(f.s_mlp >= coalesce(min::float, s.threshold_high), 'mlp', null),
            if(f.s_att >= coalesce(min::float, s.threshold_high), 'att', null)
        ), ''), if(
            (f.s_mlp is null and not w.has_mlp) or (f.s_att is null and not w.has_att),
            'not measured', 'unexplained'
        )) as origin
    from main.feature f
    join main.sae s on s.site = 'res' and s.layer = f.layer
    join (
        select m.layer as place, bool_or(m.site = 'mlp') as has_mlp, bool_or(m.site = 'att') as has_att
        from main.sae m
        group by m.layer
    ) w on w.place = f.layer
    anti join matched(min := min, evidence := evidence) e on e.dst = f.id
    where f.site = 'res' and (not evidence or f.density is distinct from 0)
        and f.layer > (select min(s.layer) from main.sae s where s.site = 'res')
        and (layer is null or f.layer = layer)
    order by f.id;

-- Residual features below the last layer that no edge to a later residual passes out of.
create macro deaths(min := null, layer := null, evidence := false) as table
    select f.id, f.key, f.layer
    from main.feature f
    anti join matched(min := min, evidence := evidence) e on e.src = f.id
    where f.site = 'res' and (not evidence or f.density is distinct from 0)
        and f.layer < (select max(s.layer) from main.sae s where s.site = 'res')
        and (layer is null or f.layer = layer)
    order by f.id;

-- Edges at which a feature persists: each end is the other's best candidate, and the edge passes.
create macro persists(min := null, evidence := false) as table
    from matched(min := min, evidence := evidence)
    where rank_out = 1 and rank_in = 1;

-- Maximal runs of features that persist, each in the next. No feature is in two of them.
create macro chains(min := null) as table
    with recursive link as materialized (select src, dst, cosine from persists(min := min)),
    run(head, id, cosine) as (
        select l.src, l.src, null::float from link l anti join link before on before.dst = l.src
        union all
        select r.head, l.dst, l.cosine from run r join link l on l.src = r.id
    ),
    chain as (
        select head as id, max(id) as last, count(*)::integer as n, list(id) as ids, min(cosine) as weakest,
            product(cosine)::float as weight
        from run
        group by head
    )
    select c.id, key_of(c.id, p.size, p.sae) as key, key_of(c.last, p.size, p.sae) as last, c.n,
        [key_of(id, p.size, p.sae) for id in list_sort(c.ids)] as members, c.weakest, c.weight
    from chain c, places() p
    order by c.id;

-- What happens between residual layers that edges join, one row per pair of layers from layer_a to layer_b.
create macro flow(layer_a := null, layer_b := null, min := null) as table
    with passing as (
        select p.sae[e.src // p.size + 1].number as src_sae, p.sae[e.dst // p.size + 1].number as dst_sae,
            count(*) as n_edges, count(*) filter (e.rank_out = 1 and e.rank_in = 1) as n_persists,
            avg(e.cosine)::float as cosine
        from matched(min := min) e, places() p
        group by all
    ),
    event as (
        select id, 'split' as what from splits(min := min)
        union all select id, 'merge' from merges(min := min)
        union all select id, 'birth' from births(min := min)
        union all select id, 'death' from deaths(min := min)
    ),
    counted as materialized (
        select p.sae[e.id // p.size + 1].number as number,
            count(*) filter (e.what = 'split') as n_splits, count(*) filter (e.what = 'merge') as n_merges,
            count(*) filter (e.what = 'birth') as n_births, count(*) filter (e.what = 'death') as n_deaths
        from event e, places() p
        group by all
    )
    select a.layer as layer_a, b.layer as layer_b, a.n_features as n_a, b.n_features as n_b,
        coalesce(e.n_edges, 0) as n_edges, coalesce(e.n_persists, 0) as n_persists,
        coalesce(above.n_splits, 0) as n_splits, coalesce(below.n_merges, 0) as n_merges,
        coalesce(below.n_births, 0) as n_births, coalesce(above.n_deaths, 0) as n_deaths,
        e.cosine, if(min is null, pair.n_crowded, null) as n_crowded
    from main.pair
    join main.sae a on a.number = pair.src_sae
    join main.sae b on b.number = pair.dst_sae
    left join passing e on e.src_sae = pair.src_sae and e.dst_sae = pair.dst_sae
    left join counted above on above.number = pair.src_sae
    left join counted below on below.number = pair.dst_sae
    where pair.kind = 'res_res'
        and (layer_a is null or a.layer >= layer_a) and (layer_b is null or b.layer <= layer_b)
    order by a.number, b.number;

-- The verbs as table macros, stored in graph.duckdb: one definition for the command line, Python, the named
-- queries and any other DuckDB client. `by` is the measure that edges are held against and ranked by, `min` its
-- threshold in its own unit; left out, each edge is held against that of its downstream SAE: `threshold_high`
-- for the cosine, `threshold.high` for the others, which have no default where that table has no row. Writers'
-- edges go by the cosine always. An edge may skip layers.
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

-- Edges with `value`, the measure in use, NULL where it is not known. `coactive` is the cosine of edges whose
-- ends fire together, on a fifth of the tokens of one of them (the share of a branch in Rusalev's clusters of
-- features) and correlated (0.1: ours), and of those for which nothing was counted. A share of the target is
-- the same number for both ends: among the children of one feature, the one that owes it most comes first.
create macro weighed(by) as table
    select *, case "by"
        when 'cosine' then cosine
        when 'coactive' then if(
            n_both is null or (greatest(necessity, sufficiency) >= 0.2::float and pearson >= 0.1::float),
            cosine, null
        )
        when 'jaccard' then jaccard
        when 'necessity' then necessity
        when 'sufficiency' then sufficiency
        when 'pearson' then pearson
        when 'virtual_weight' then virtual_weight
        when 'attribution' then attribution
        when 'twera' then twera
        when 'effect' then effect
        when 'silenced' then silenced
        when 'ablation_change' then ablation_change
        else error('no measure ' || "by")
        end as value
    from main.edge;

-- The SAEs, each with `pass`: what the measure must reach on edges into it where no `min` is given, and
-- `pass_uncounted`, the same where nothing was counted. NULL: nothing passes.
create macro saes_by(by) as table
    select s.*, case "by"
        when 'cosine' then s.threshold_high
        when 'coactive' then s.threshold_low
        else t.high
        end as pass, case when "by" in ('cosine', 'coactive') then s.threshold_high else t.high end as pass_uncounted
    from main.sae s
    left join main.threshold t on t.sae = s.number and t.measure = "by";

-- Residual edges that pass, with `value`. By another measure than the cosine, `rank_out` and `rank_in` are
-- places among the edges that pass, by that measure, ties by id.
create macro matched(min := null, by := 'cosine') as table
    select e.*, e.cosine as value from main.edge e, places() p
    where "by" = 'cosine' and e.kind = 'res_res'
        and (min is null or e.cosine >= min::float)
        and (min is not null or e.cosine >= p.sae[e.dst // p.size + 1].threshold_high)
    union all
    select e.* replace (
        row_number() over (partition by e.src order by e.value desc, e.dst)::smallint as rank_out,
        row_number() over (partition by e.dst order by e.value desc, e.src)::smallint as rank_in
    )
    from weighed("by") e
    join saes_by("by") s on e.dst between s.first_id and s.first_id + s.n_features - 1
    where "by" <> 'cosine' and e.kind = 'res_res'
        and e.value >= coalesce(min::float, if(e.n_both is null, s.pass_uncounted, s.pass));

-- A feature and what it reaches over residual edges that pass: upstream, downstream, or both ways (`ups`).
-- The distance is the fewest edges on the way, the weight the best product of the measure.
create macro reached(f, min := null, hops := null, ups := [true, false], by := 'cosine') as table
    with recursive found(id, up, distance, weight) as (
        select id, unnest(ups), 0, 1::float from main.feature where key = f
        union all
        from (
            with near as materialized (
                select dst as here, src as there, true as up, dst, value, n_both
                from weighed("by")
                where kind = 'res_res' and (min is null or value >= min::float)
                    and dst in (select id from found where up and distance < coalesce(hops, 2147483647))
                union all
                select src, dst, false, dst, value, n_both
                from weighed("by")
                where kind = 'res_res' and (min is null or value >= min::float)
                    and src in (select id from found where not up and distance < coalesce(hops, 2147483647))
            )
            select n.there, n.up, r.distance + 1, max(r.weight * n.value)
            from found r
            join near n on n.here = r.id and n.up = r.up
            join saes_by("by") s on n.dst between s.first_id and s.first_id + s.n_features - 1
            where n.value >= coalesce(min::float, if(n.n_both is null, s.pass_uncounted, s.pass))
            group by all
        )
    )
    select id, min(distance) as distance, max(weight) as weight
    from found
    group by id;

-- Everything downstream of a feature over residual edges that pass.
create macro descendants(f, min := null, hops := null, by := 'cosine') as table
    select r.id, concat_ws('/', s.layer, s.site, r.id - s.first_id) as key, s.layer, s.site,
        r.id - s.first_id as idx, r.distance, r.weight
    from reached(f, min := min, hops := hops, ups := [false], by := "by") r
    join main.sae s on r.id between s.first_id and s.first_id + s.n_features - 1
    where r.distance > 0
    order by r.id;

-- Everything upstream of a feature over residual edges that pass.
create macro ancestors(f, min := null, hops := null, by := 'cosine') as table
    select r.id, concat_ws('/', s.layer, s.site, r.id - s.first_id) as key, s.layer, s.site,
        r.id - s.first_id as idx, r.distance, r.weight
    from reached(f, min := min, hops := hops, ups := [true], by := "by") r
    join main.sae s on r.id between s.first_id and s.first_id + s.n_features - 1
    where r.distance > 0
    order by r.id;

-- A feature with its ancestors and descendants, and the mlp and att features that write each residual member
-- (cosine >= writer_min). A writer stands one step beyond the member it writes most strongly.
create macro lineage(f, min := null, hops := null, writers := true, writer_min := 0.25, by := 'cosine') as table
    with member as materialized (from reached(f, min := min, hops := hops, by := "by")),
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
create macro edges_among(ids, min := null, writer_min := 0.25, by := 'cosine') as table
    with chosen as materialized (select unnest(ids) as id),
    near as materialized (
        select src, dst, kind, cosine, value, n_both
        from weighed("by")
        where src in (select id from chosen) and dst in (select id from chosen) and kind <> 'far'
    )
    select n.src, n.dst, n.kind, n.cosine, if(n.kind = 'res_res', n.value, n.cosine) as value
    from near n
    join saes_by("by") s on n.dst between s.first_id and s.first_id + s.n_features - 1
    where case n.kind
        when 'res_res' then n.value >= coalesce(min::float, if(n.n_both is null, s.pass_uncounted, s.pass))
        else n.cosine >= writer_min::float end
    order by n.src, n.dst;

-- The edges of a lineage, for drawing it.
create macro subgraph(f, min := null, hops := null, writers := true, writer_min := 0.25, by := 'cosine') as table
    with member as materialized (
        select list(id) as ids
        from lineage(f, min := min, hops := hops, writers := writers, writer_min := writer_min, by := "by")
    )
    from edges_among((select m.ids from member m), min := min, writer_min := writer_min, by := "by");

-- Every edge at a feature that passes, residual edges by `min` and writers' edges by `writer_min`.
create macro neighbors(f, min := null, writer_min := 0.25, by := 'cosine') as table
    with seed as materialized (select id from main.feature where key = f),
    near as materialized (
        select src as other, 'up' as direction, * from weighed("by") where dst in (select id from seed)
        union all
        select dst, 'down', * from weighed("by") where src in (select id from seed)
    )
    select n.other as id, concat_ws('/', s.layer, s.site, n.other - s.first_id) as key, s.layer, s.site,
        n.other - s.first_id as idx, n.direction, n.kind, n.cosine, n.rank_out, n.rank_in,
        n.jaccard, n.pearson, n.virtual_weight, n.necessity, n.sufficiency, n.attribution, n.twera, n.effect,
        n.silenced, n.ablation_change
    from near n
    join main.sae s on n.other between s.first_id and s.first_id + s.n_features - 1
    join saes_by("by") d on n.dst between d.first_id and d.first_id + d.n_features - 1
    where case n.kind
        when 'res_res' then n.value >= coalesce(min::float, if(n.n_both is null, d.pass_uncounted, d.pass))
        else n.cosine >= writer_min::float end
    order by n.direction desc, if(n.kind = 'res_res', n.value, n.cosine) desc, n.other;

-- The k best paths from feature `a` down to `b` over residual edges that pass; out of an mlp or att feature,
-- the first edge is one by which it writes, at its cosine. `score`: what a path scores,
-- product, sum or min of the measure on its edges.
--
-- Of the paths of one length to a feature only the k best go on. Between two of the same score and length,
-- the one whose last feature but one has the smaller id is ahead; if it is the same feature, the one that was
-- ahead there. `back` decides that: the features before the last, backwards, each with its negated score.
create macro paths(a, b, k := 1, min := null, score := 'product', writer_min := 0.25,
    by := 'cosine') as table
    with recursive source as materialized (select id from main.feature where key = a),
    target as materialized (select id from main.feature where key = b),
    ahead(src, dst, value) as (
        select id, id, null::float from source
        union
        from (
            with near as materialized (
                select src, dst, kind, n_both, if(kind = 'res_res', value, cosine) as value
                from weighed("by") where src in (select dst from ahead) and kind <> 'far'
            )
            select n.src, n.dst, n.value
            from near n
            join saes_by("by") s on n.dst between s.first_id and s.first_id + s.n_features - 1
            join target t on n.dst <= t.id
            where (score <> 'product' or n.value > 0) and n.value >= case
                when n.kind <> 'res_res' then writer_min::float
                else coalesce(min::float, if(n.n_both is null, s.pass_uncounted, s.pass)) end
        )
    ),
    between_both(src, dst, value) as (
        from ahead where src <> dst and dst in (select id from target)
        union
        from ahead where src <> dst and dst in (select src from between_both)
    ),
    path(id, length, score, weight, bottleneck, back) as (
        select id, 0, case score when 'product' then 1::double when 'sum' then 0 else 'infinity'::double end,
            1::double, null::float, []::struct(id integer, negated double)[]
        from source
        union all
        from (
            with longer as (
                select e.dst as id, p.length + 1 as length,
                    case score
                        when 'product' then p.score * e.value
                        when 'sum' then p.score + e.value
                        when 'min' then least(p.score, e.value)
                        else error('score is product, sum or min')
                    end as score,
                    p.weight * e.value as weight, least(p.bottleneck, e.value) as bottleneck,
                    [{id: p.id, negated: -p.score}] || p.back as back
                from path p
                join between_both e on e.src = p.id
            )
            from longer
            qualify row_number() over (partition by longer.id order by longer.score desc, longer.back) <= k
        )
    ),
    best as (
        select row_number() over (order by path.score desc, length, back)::integer as rank, length,
            path.score::float as score, weight::float as weight, bottleneck,
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
create macro forks(min := null, layer := null, merging := false, by := 'cosine') as table
    with link as materialized (
        select case when merging then dst else src end as id,
            case when merging then src else dst end as member,
            case when merging then rank_in else rank_out end as rank,
            value
        from matched(min := min, by := "by")
        where case when merging then rank_out else rank_in end = 1
    ),
    fork as (
        select id, count(*)::integer as n, list(rank::bigint * 4294967296 + member) as ranked,
            list(value) as found
        from link
        where id in (select id from link where rank > 1)
        group by id
        having count(*) >= 2
    )
    select f.id, key_of(f.id, p.size, p.sae) as key, f.n,
        [key_of(ranked % 4294967296, p.size, p.sae) for ranked in list_sort(f.ranked)] as members,
        list_reverse_sort(f.found) as weights
    from fork f, places() p
    where layer is null or p.sae[f.id // p.size + 1].prefix = layer::integer || '/res/'
    order by f.id;

-- Features with two or more children that pass and whose best parent they are.
create macro splits(min := null, layer := null, by := 'cosine') as table
    from forks(min := min, layer := layer, merging := false, by := "by");

-- Features with two or more parents that pass and whose best child they are.
create macro merges(min := null, layer := null, by := 'cosine') as table
    from forks(min := min, layer := layer, merging := true, by := "by");

-- Residual features above the first layer that no edge passes into (by another measure than the cosine, live ones only), and
-- whether an edge from an mlp or att feature of the same layer passes; where none does and the
-- layer lacks an SAE of either, that is not measured.
create macro births(min := null, layer := null, by := 'cosine') as table
    select f.id, f.key, f.layer,
        coalesce(nullif(concat_ws('+',
            if(if("by" in ('cosine', 'coactive'), f.s_mlp, m.mlp) >= coalesce(min::float, s.pass_uncounted), 'mlp', null),
            if(if("by" in ('cosine', 'coactive'), f.s_att, m.att) >= coalesce(min::float, s.pass_uncounted), 'att', null)
        ), ''), if(
            (f.s_mlp is null and not w.has_mlp) or (f.s_att is null and not w.has_att),
            'not measured', 'unexplained'
        )) as origin
    from main.feature f
    join saes_by("by") s on s.site = 'res' and s.layer = f.layer
    left join (
        select dst, max(value) filter (kind = 'mlp_res') as mlp, max(value) filter (kind = 'att_res') as att
        from weighed("by")
        where "by" not in ('cosine', 'coactive') and kind in ('mlp_res', 'att_res')
        group by dst
    ) m on m.dst = f.id
    join (
        select a.layer as place, bool_or(a.site = 'mlp') as has_mlp, bool_or(a.site = 'att') as has_att
        from main.sae a
        group by a.layer
    ) w on w.place = f.layer
    anti join matched(min := min, by := "by") e on e.dst = f.id
    where f.site = 'res' and ("by" = 'cosine' or f.density is distinct from 0)
        and f.layer > (select min(s.layer) from main.sae s where s.site = 'res')
        and (layer is null or f.layer = layer)
    order by f.id;

-- Residual features below the last layer that no edge to a later residual passes out of.
create macro deaths(min := null, layer := null, by := 'cosine') as table
    select f.id, f.key, f.layer
    from main.feature f
    anti join matched(min := min, by := "by") e on e.src = f.id
    where f.site = 'res' and ("by" = 'cosine' or f.density is distinct from 0)
        and f.layer < (select max(s.layer) from main.sae s where s.site = 'res')
        and (layer is null or f.layer = layer)
    order by f.id;

-- Edges at which a feature persists: each end is the other's best candidate, and the edge passes.
create macro persists(min := null, by := 'cosine') as table
    from matched(min := min, by := "by")
    where rank_out = 1 and rank_in = 1;

-- Maximal runs of features that persist, each in the next. No feature is in two of them.
create macro chains(min := null, by := 'cosine') as table
    with recursive link as materialized (select src, dst, value from persists(min := min, by := "by")),
    run(head, id, value) as (
        select l.src, l.src, null::float from link l anti join link before on before.dst = l.src
        union all
        select r.head, l.dst, l.value from run r join link l on l.src = r.id
    ),
    chain as (
        select head as id, max(id) as last, count(*)::integer as n, list(id) as ids, min(value) as weakest,
            product(value)::float as weight
        from run
        group by head
    )
    select c.id, key_of(c.id, p.size, p.sae) as key, key_of(c.last, p.size, p.sae) as last, c.n,
        [key_of(id, p.size, p.sae) for id in list_sort(c.ids)] as members, c.weakest, c.weight
    from chain c, places() p
    order by c.id;

-- What happens between residual layers that edges join, one row per pair of layers from layer_a to layer_b.
create macro flow(layer_a := null, layer_b := null, min := null, by := 'cosine') as table
    with passing as (
        select p.sae[e.src // p.size + 1].number as src_sae, p.sae[e.dst // p.size + 1].number as dst_sae,
            count(*) as n_edges, count(*) filter (e.rank_out = 1 and e.rank_in = 1) as n_persists,
            avg(e.cosine)::float as cosine, avg(e.value)::float as value
        from matched(min := min, by := "by") e, places() p
        group by all
    ),
    event as (
        select id, 'split' as what from splits(min := min, by := "by")
        union all select id, 'merge' from merges(min := min, by := "by")
        union all select id, 'birth' from births(min := min, by := "by")
        union all select id, 'death' from deaths(min := min, by := "by")
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
        e.cosine, if(min is null and "by" = 'cosine', pair.n_crowded, null) as n_crowded, e.value
    from main.pair
    join main.sae a on a.number = pair.src_sae
    join main.sae b on b.number = pair.dst_sae
    left join passing e on e.src_sae = pair.src_sae and e.dst_sae = pair.dst_sae
    left join counted above on above.number = pair.src_sae
    left join counted below on below.number = pair.dst_sae
    where pair.kind = 'res_res'
        and (layer_a is null or a.layer >= layer_a) and (layer_b is null or b.layer <= layer_b)
    order by a.number, b.number;

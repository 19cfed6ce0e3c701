-- The verbs as table macros, stored in graph.duckdb: one definition for the command line, Python, the named
-- queries and any other DuckDB client. `min` is the cosine threshold in use; left out, each edge is held
-- against `threshold_high` of its downstream SAE.

-- Residual edges that pass the threshold.
create macro matched(min := null) as table
    select e.*
    from edge e
    join sae s on e.dst between s.first_id and s.first_id + s.n_features - 1
    where e.kind = 'res_res' and e.cosine >= coalesce(min::float, s.threshold_high);

-- Everything downstream of a feature over residual edges that pass; weight = best product of cosines.
create macro descendants(f, min := null, hops := null) as table
    with recursive passing as (from matched(min := min)),
    reached(id, distance, weight) as (
        select id, 0, 1::float from feature where key = f
        union all
        select e.dst, r.distance + 1, max(r.weight * e.cosine)
        from reached r join passing e on e.src = r.id
        where r.distance < coalesce(hops, 2147483647)
        group by all
    )
    select n.id, n.key, n.layer, n.site, n.idx, min(r.distance) as distance, max(r.weight) as weight
    from reached r join feature n using (id)
    where r.distance > 0
    group by all
    order by n.id;

-- Everything upstream of a feature over residual edges that pass; weight = best product of cosines.
create macro ancestors(f, min := null, hops := null) as table
    with recursive passing as (from matched(min := min)),
    reached(id, distance, weight) as (
        select id, 0, 1::float from feature where key = f
        union all
        select e.src, r.distance + 1, max(r.weight * e.cosine)
        from reached r join passing e on e.dst = r.id
        where r.distance < coalesce(hops, 2147483647)
        group by all
    )
    select n.id, n.key, n.layer, n.site, n.idx, min(r.distance) as distance, max(r.weight) as weight
    from reached r join feature n using (id)
    where r.distance > 0
    group by all
    order by n.id;

-- A feature with its ancestors and descendants, and the mlp and att features that write each residual member
-- (cosine >= writer_min). A writer stands one step beyond the member it writes most strongly.
create macro lineage(f, min := null, hops := null, writers := true, writer_min := 0.25) as table
    with member as (
        select id, key, layer, site, idx, 0 as distance, 1::float as weight from feature where key = f
        union all
        from ancestors(f, min := min, hops := hops)
        union all
        from descendants(f, min := min, hops := hops)
    ),
    writer as (
        select n.id, n.key, n.layer, n.site, n.idx, m.distance + 1 as distance, m.weight * e.cosine as weight
        from member m
        join edge e on e.dst = m.id
        join feature n on n.id = e.src
        where writers and e.kind in ('mlp_res', 'att_res') and e.cosine >= writer_min::float
            and m.site = 'res'
        qualify row_number() over (partition by n.id order by m.weight * e.cosine desc, m.id) = 1
    )
    select * from (from member union all by name from writer)
    order by id;

-- The edges among some features, given as a list of ids: residual edges that pass and the writers' edges.
create macro edges_among(ids, min := null, writer_min := 0.25) as table
    select e.src, e.dst, e.kind, e.cosine
    from edge e
    join sae s on e.dst between s.first_id and s.first_id + s.n_features - 1
    where e.src in (select unnest(ids))
        and e.dst in (select unnest(ids))
        and e.cosine >= case
            when e.kind = 'res_res' then coalesce(min::float, s.threshold_high) else writer_min::float end
    order by e.src, e.dst;

-- The edges of a lineage, for drawing it.
create macro subgraph(f, min := null, hops := null, writers := true, writer_min := 0.25) as table
    with member as materialized (
        select list(id) as ids
        from lineage(f, min := min, hops := hops, writers := writers, writer_min := writer_min)
    )
    from edges_among((select m.ids from member m), min := min, writer_min := writer_min);

-- Features with two or more children that pass and whose best parent they are.
create macro splits(min := null, layer := null) as table
    select n.id, n.key, count(*)::integer as n,
        list(c.key order by e.cosine desc, e.dst) as members,
        list(e.cosine order by e.cosine desc, e.dst) as weights
    from matched(min := min) e
    join feature n on n.id = e.src
    join feature c on c.id = e.dst
    where e.rank_in = 1 and (layer is null or n.layer = layer)
    group by n.id, n.key
    having count(*) >= 2
    order by n.id;

-- Features with two or more parents that pass and whose best child they are.
create macro merges(min := null, layer := null) as table
    select n.id, n.key, count(*)::integer as n,
        list(p.key order by e.cosine desc, e.src) as members,
        list(e.cosine order by e.cosine desc, e.src) as weights
    from matched(min := min) e
    join feature n on n.id = e.dst
    join feature p on p.id = e.src
    where e.rank_out = 1 and (layer is null or n.layer = layer)
    group by n.id, n.key
    having count(*) >= 2
    order by n.id;

-- Residual features above the first layer that no edge from the previous residual passes into. The origin
-- says whether an mlp or att feature of the same layer passes the same threshold.
create macro births(min := null, layer := null) as table
    select f.id, f.key, f.layer,
        case
            when f.s_mlp >= t.threshold and f.s_att >= t.threshold then 'mlp+att'
            when f.s_mlp >= t.threshold then 'mlp'
            when f.s_att >= t.threshold then 'att'
            else 'unexplained'
        end as origin
    from feature f
    join (
        select s.layer as at, coalesce(min::float, s.threshold_high) as threshold
        from sae s
        where s.site = 'res'
    ) t on t.at = f.layer
    where f.site = 'res'
        and f.layer > (select min(s.layer) from sae s where s.site = 'res')
        and f.id not in (select dst from matched(min := min))
        and (layer is null or f.layer = layer)
    order by f.id;

-- Residual features below the last layer that no edge to the next residual passes out of.
create macro deaths(min := null, layer := null) as table
    select f.id, f.key, f.layer
    from feature f
    where f.site = 'res'
        and f.layer < (select max(s.layer) from sae s where s.site = 'res')
        and f.id not in (select src from matched(min := min))
        and (layer is null or f.layer = layer)
    order by f.id;

-- Edges at which a feature persists: each end is the other's best candidate, and the edge passes.
create macro persists(min := null) as table
    from matched(min := min)
    where rank_out = 1 and rank_in = 1;

-- How many features of each layer persist, are born, die, split and merge, over a range of thresholds.
-- :low float = 0.3  first threshold; below threshold_low of an SAE a match says nothing
-- :high float = 0.9  last threshold
-- :step float = 0.1  distance between thresholds
with threshold as (
    select round($low::double + i * $step::double, 6)::float as tau
    from range(1 + floor(($high::double - $low::double) / $step::double + 0.000001)::bigint) t(i)
),
residual as (
    select layer, first_id, n_features as n, threshold_low,
        layer = min(layer) over () as is_first, layer = max(layer) over () as is_last
    from sae
    where site = 'res'
),
arrival as (                    -- up to which threshold a feature has a parent, persists, is merged into
    select dst as id, max(cosine) as parent, max(cosine) filter (rank_out = 1 and rank_in = 1) as same,
        max(cosine, 2) filter (rank_out = 1)[2] as merge
    from edge
    where kind = 'res_res'
    group by dst
),
departure as (                  -- up to which threshold a feature has a child, splits
    select src as id, max(cosine) as child, max(cosine, 2) filter (rank_in = 1)[2] as split
    from edge
    where kind = 'res_res'
    group by src
)
select r.layer, t.tau, any_value(t.tau >= r.threshold_low) as above_null, any_value(r.n) as n,
    count(*) filter (a.same >= t.tau) as n_persists,
    count(*) filter (not r.is_first and coalesce(a.parent < t.tau, true)) as n_births,
    count(*) filter (not r.is_last and coalesce(d.child < t.tau, true)) as n_deaths,
    count(*) filter (d.split >= t.tau) as n_splits,
    count(*) filter (a.merge >= t.tau) as n_merges
from residual r
cross join threshold t
join feature f on f.id between r.first_id and r.first_id + r.n - 1
left join arrival a using (id)
left join departure d using (id)
group by r.layer, t.tau
order by r.layer, t.tau

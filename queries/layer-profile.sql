-- One row per residual layer: dead features, births, deaths, splits, merges, persistence and mean best cosines.
-- :min float = null  smallest cosine; null = threshold_high of the edge's downstream SAE
with born as (
    select layer, count(*) as n
    from births(min := $min::float)
    group by layer
),
died as (
    select layer, count(*) as n
    from deaths(min := $min::float)
    group by layer
),
split as (
    select f.layer, count(*) as n
    from splits(min := $min::float)
    join feature f using (id)
    group by f.layer
),
merged as (
    select f.layer, count(*) as n
    from merges(min := $min::float)
    join feature f using (id)
    group by f.layer
),
persisting as (
    select f.layer, count(*) as n
    from persists(min := $min::float) e
    join feature f on f.id = e.dst
    group by f.layer
),
score as (
    select layer, avg(s_res)::float as s_res, avg(s_mlp)::float as s_mlp, avg(s_att)::float as s_att
    from feature
    where site = 'res'
    group by layer
)
select s.layer, s.n_features as n, s.n_dead, coalesce($min::float, s.threshold_high) as tau,
    coalesce(persisting.n, 0) as n_persists,
    coalesce(born.n, 0) as n_births,
    coalesce(died.n, 0) as n_deaths,
    coalesce(split.n, 0) as n_splits,
    coalesce(merged.n, 0) as n_merges,
    score.s_res, score.s_mlp, score.s_att
from sae s
left join score using (layer)
left join persisting using (layer)
left join born using (layer)
left join died using (layer)
left join split using (layer)
left join merged using (layer)
where s.site = 'res'
order by s.layer

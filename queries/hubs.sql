-- Features with the most residual edges that pass, which match by being common rather than by meaning the same.
-- :min float = null  smallest cosine; null = threshold_high of the edge's downstream SAE
-- :top int = 20  how many features
with touched as (
    from (select src as id, 1 as is_child, 0 as is_parent from matched(min := $min::float))
    union all
    from (select dst, 0, 1 from matched(min := $min::float))
)
select f.id, f.key, count(*) as n, sum(t.is_child)::integer as n_children, sum(t.is_parent)::integer as n_parents,
    f.density, l.text as label
from touched t
join feature f using (id)
left join label l on l.feature = f.id and l.source = 'tokens'
group by all
order by n desc, f.id
limit $top

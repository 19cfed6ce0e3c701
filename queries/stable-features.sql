-- Features that persist unchanged over the most layers: each link is the best of both its ends and passes.
-- :min float = null  smallest cosine; null = threshold_high of the edge's downstream SAE
-- :layers int = 2  only features that persist over at least this many links
-- :top int = 50  how many features
with recursive link as (
    select src, dst, cosine
    from persists(min := $min::float)
),
chain(first, last, n, weakest) as (
    select src, dst, 1, cosine
    from link
    where src not in (select dst from link)
    union all
    select c.first, l.dst, c.n + 1, least(c.weakest, l.cosine)
    from chain c
    join link l on l.src = c.last
)
select a.id, a.key, b.key as last, c.n, c.weakest, a.density, l.text as label
from chain c
join feature a on a.id = c.first
join feature b on b.id = c.last
left join label l on l.feature = a.id and l.source = 'tokens'
where c.n >= $layers
qualify row_number() over (partition by c.first order by c.n desc) = 1
order by c.n desc, c.weakest desc, a.id
limit $top

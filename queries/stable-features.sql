-- Features that persist unchanged over the most layers: each link is the best of both its ends and passes.
-- :min float = null  smallest cosine; null = threshold_high of the edge's downstream SAE
-- :layers int = 2  only features that persist over at least this many links
-- :top int = 50  how many features
select c.id, c.key, c.last, c.n - 1 as n, c.weakest, f.density, l.text as label
from chains(min => $min::float) c
join feature f using (id)
left join label l on l.feature = c.id and l.source = 'tokens'
where c.n > $layers
order by c.n desc, c.weakest desc, c.id
limit $top

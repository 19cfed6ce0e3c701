-- Features that lead to no feature of the next layer, with the best cosine they reach there.
-- :min float = null  smallest cosine; null = threshold_high of the next layer's SAE
-- :layer int = null  only features of this layer; null = all
select d.id, d.key, d.layer, e.best, f.density, l.text as label
from deaths(min := $min::float, layer := $layer::integer) d
join feature f using (id)
left join (
    select src, max(cosine) as best
    from edge
    where kind = 'res_res'
    group by src
) e on e.src = d.id
left join label l on l.feature = d.id and l.source = 'tokens'
order by d.id

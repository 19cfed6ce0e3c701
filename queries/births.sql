-- Features that no feature of the previous layer leads to, and whether mlp or att writes them.
-- :min float = null  smallest cosine; null = threshold_high of the feature's SAE
-- :layer int = null  only features of this layer; null = all
select b.id, b.key, b.layer, b.origin, f.s_res, f.s_mlp, f.s_att, f.density, l.text as label
from births(min := $min::float, layer := $layer::integer) b
join feature f using (id)
left join label l on l.feature = b.id and l.source = 'tokens'
order by b.id

-- Where a feature comes from and what becomes of it, first layer first, with the words for each member.
-- :feature key  the feature to start from, such as 3/res/346
-- :min float = null  smallest cosine of a residual edge; null = threshold_high of the edge's downstream SAE
-- :hops int = null  how many edges to go each way; null = all
-- :writers bool = true  whether to add the mlp and att features that write each residual member
-- :writer_min float = 0.25  smallest cosine of a writer's edge
select m.id, m.key, m.layer, m.site, m.idx, m.distance, m.weight, f.density, l.text as label
from lineage($feature, min := $min::float, hops := $hops::integer, writers := $writers, writer_min := $writer_min) m
join feature f using (id)
left join label l on l.feature = m.id and l.source = 'tokens'
order by m.id

-- The mlp and att features that write a residual feature, by how strongly they drive it.
-- :feature key  the residual feature, such as 3/res/346
-- :min float = 0.25  smallest cosine
match (w:mlp|att)-[e where e.cosine >= $min::float]->(f $feature)
return w.id, w.key, e.cosine, e.virtual_weight, e.pearson, e.jaccard, w.density, w.top_tokens
order by e.virtual_weight desc, w.id

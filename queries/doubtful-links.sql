-- Residual links that look like the same feature by cosine but do not fire together on text.
-- :min float = 0.6  smallest cosine
-- :pearson float = 0.1  largest correlation of activations
-- :top int = 50  how many links
match (a)-[e:res_res where e.cosine >= $min::float and e.pearson <= $pearson::float]->(b)
return a.key as src, b.key as dst, e.cosine, e.pearson, e.n_both, a.density as src_density, b.density as dst_density
order by e.pearson, a.id, b.id
limit $top

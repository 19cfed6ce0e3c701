-- The strongest paths from one feature down to another, over links of any strength, with the words on the way.
-- :from key  where the paths begin
-- :to key  where they end
-- :top int = 3  how many paths, 10 at most
match best 10 p = (a $from)-[e]->+(b $to)
return weight(p) as weight, bottleneck(p) as bottleneck, min(e.pearson) as weakest_pearson, keys(p) as keys
order by weight desc, keys
limit $top

-- Features that split: two or more children pass the threshold and have them as best parent.
-- :min float = null  smallest cosine; null = threshold_high of the edge's downstream SAE
-- :layer int = null  only features of this layer; null = all
with found as (
    from splits(min := $min::float, layer := $layer::integer)
),
words as (
    select feature as id, text
    from label
    where source = 'tokens'
),
child as (
    select m.id, list(w.text order by m.place) as labels
    from (select id, unnest(members) as key, generate_subscripts(members, 1) as place from found) m
    join feature f using (key)
    left join words w on w.id = f.id
    group by m.id
)
select s.id, s.key, s.n, s.members, s.weights, words.text as label, child.labels as member_labels
from found s
join child using (id)
left join words using (id)
order by s.n desc, s.id

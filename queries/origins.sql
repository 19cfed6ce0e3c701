-- Per layer, how many features come from the previous residual, from mlp or att, from both or from neither.
-- :min float = null  smallest cosine that counts as high; null = threshold_high of the feature's SAE
-- :module_min float = null  the same for mlp and att; null = as min
-- Classes A to D of arXiv 2502.03032, section 3.3, from the largest cosines s_res, s_mlp and s_att.
with scored as (
    select f.layer, f.density,
        coalesce(f.s_res >= coalesce($min::float, s.threshold_high), false) as from_residual,
        coalesce(
            greatest(f.s_mlp, f.s_att) >= coalesce($module_min::float, $min::float, s.threshold_high), false
        ) as from_module
    from feature f
    join sae s on s.layer = f.layer and s.site = 'res'
    where f.site = 'res' and f.layer > (select min(layer) from sae where site = 'res')
),
class(class, meaning, from_residual, from_module) as (
    values
        ('A', 'carried over from the previous residual', true, false),
        ('B', 'carried over and written again by mlp or att', true, true),
        ('C', 'born, written by mlp or att', false, true),
        ('D', 'explained by no cosine', false, false)
)
select l.layer, c.class, c.meaning, count(s.layer) as n, count(*) filter (s.density = 0) as n_dead,
    (count(s.layer) / sum(count(s.layer)) over (partition by l.layer))::float as share
from (select distinct layer from scored) l
cross join class c
left join scored s
    on s.layer = l.layer and s.from_residual = c.from_residual and s.from_module = c.from_module
group by l.layer, c.class, c.meaning
order by l.layer, c.class

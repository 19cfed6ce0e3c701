-- Per layer, how many features come from the previous residual, from mlp or att, from both or from neither.
-- :min float = null  smallest cosine that counts as high; null = threshold_high of the feature's SAE
-- :module_min float = null  the same for mlp and att; null = as min
-- Classes A to D of arXiv 2502.03032, section 3.3, from the largest cosines s_res, s_mlp and s_att. Where a
-- layer has no SAE of mlp or att, what else a feature could come from is not measured.
with writer as (
    select layer, bool_or(site = 'mlp') as has_mlp, bool_or(site = 'att') as has_att
    from sae
    group by all
),
measured as (
    select f.layer, f.density,
        coalesce(f.s_res >= coalesce($min::float, s.threshold_high), false) as from_residual,
        coalesce(
            greatest(f.s_mlp, f.s_att) >= coalesce($module_min::float, $min::float, s.threshold_high), false
        ) as from_module,
        (f.s_mlp is null and not w.has_mlp) or (f.s_att is null and not w.has_att) as lacks_module
    from feature f
    join sae s on s.layer = f.layer and s.site = 'res'
    join writer w on w.layer = f.layer
    where f.site = 'res' and f.layer > (select min(layer) from sae where site = 'res')
),
scored as (
    select layer, density, case
            when from_residual and from_module then 'B'
            when from_residual then 'A'
            when from_module then 'C'
            when lacks_module then '-'
            else 'D'
        end as class
    from measured
),
class(class, meaning) as (
    values
        ('A', 'carried over from the previous residual'),
        ('B', 'carried over and written again by mlp or att'),
        ('C', 'born, written by mlp or att'),
        ('D', 'explained by no cosine'),
        ('-', 'born, not measured: no SAE of mlp or att')
)
select l.layer, c.class, c.meaning, count(s.layer) as n, count(*) filter (s.density = 0) as n_dead,
    (count(s.layer) / sum(count(s.layer)) over (partition by l.layer))::float as share
from (select distinct layer from scored) l
cross join class c
left join scored s on s.layer = l.layer and s.class = c.class
group by l.layer, c.class, c.meaning
having c.class <> '-' or n > 0
order by l.layer, c.class = '-', c.class

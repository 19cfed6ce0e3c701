-- Features that never fired on the text, with the largest cosine that still links them to other features.
-- :site text = null  only this site: res, mlp or att; null = all
-- :layer int = null  only this layer; null = all
select f.id, f.key, f.layer, f.site, f.decoder_norm, max(e.cosine) as best
from feature f
left join edge e on e.src = f.id or e.dst = f.id
where f.density = 0
    and ($site::varchar is null or f.site = $site)
    and ($layer::integer is null or f.layer = $layer)
group by all
order by f.id

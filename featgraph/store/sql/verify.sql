-- What must hold in every graph: each statement returns what breaks its rule, one text per case, and is named
-- by the comment before it, `-- check: detail of the rule`.

-- saes: one SAE per layer and site, in topological order, features numbered without a gap
with placed as (
    select *, row_number() over (order by number) - 1 as wanted,
        coalesce(sum(n_features) over (order by number rows between unbounded preceding and 1 preceding), 0) as start
    from main.sae
)
select format('number {}', number) from placed
where number is distinct from wanted or first_id is distinct from start or n_features is null or n_features < 0
    or layer is null or layer < 0 or site is null or site not in ('res', 'mlp', 'att')
union all
select format('{}/{}', layer, site) from main.sae group by layer, site having count(*) > 1;

-- thresholds: threshold_low <= threshold_high, both cosines or both NULL
select format('{}/{}', layer, site) from main.sae
where (threshold_low is null) <> (threshold_high is null) or threshold_low > threshold_high
    or isnan(threshold_low) or isnan(threshold_high) or abs(threshold_low) > 1.001 or abs(threshold_high) > 1.001;

-- features: one row per feature of every SAE, ids dense and in order
select format('{} rows for {} features', n, wanted)
from (select count(*) as n from main.feature), (select coalesce(sum(n_features), 0) as wanted from main.sae)
where n <> wanted
union all
select format('id {}', id) from (select id, lag(id, 1, -1) over (order by rowid) as before from main.feature)
where id is distinct from before + 1;

-- keys: layer, site, index and key of a feature are those of its id
select format('id {}: {}', f.id, f.key)
from main.feature f
left join main.sae s on f.id between s.first_id and s.first_id + s.n_features - 1
where f.layer is distinct from s.layer or f.site is distinct from s.site or f.idx is distinct from f.id - s.first_id
    or f.key is distinct from concat_ws('/', s.layer, s.site, f.id - s.first_id);

-- measures: shares lie between 0 and 1, cosines between -1 and 1, nothing is NaN
select key from main.feature
where not (coalesce(density, 0) between 0 and 1) or isnan(density) or isnan(mean_activation) or isnan(max_activation)
    or decoder_norm is null or not isfinite(decoder_norm) or decoder_norm < 0
    or abs(s_res) > 1.001 or abs(s_mlp) > 1.001 or abs(s_att) > 1.001;

-- nulls: a feature has a mean and a largest activation if it fires, and no density without a text
select key from main.feature
where (coalesce(density, 0) > 0) <> (mean_activation is not null)
    or (mean_activation is null) <> (max_activation is null)
union all
select format('{} of {} densities are NULL', n_null, n)
from (select count(*) filter (density is null) as n_null, count(*) as n from main.feature)
where n_null not in (0, n);

-- order: every edge goes downstream, src before dst, between features that are there
select format('{} -> {}', src, dst) from main.edge
where src is null or dst is null or src >= dst or src < 0
    or dst >= (select coalesce(sum(n_features), 0) from main.sae);

-- sorted: edges lie in order of src and dst, each once
select format('{} -> {}', src, dst)
from (
    select src, dst, lag(src) over (order by rowid) as src_before, lag(dst) over (order by rowid) as dst_before
    from main.edge
)
where src < src_before or (src = src_before and dst <= dst_before);

-- kinds: the kind of an edge is that of the sites of its ends, or far
select format('{} -> {}: {}', e.src, e.dst, e.kind)
from main.edge e
left join main.sae u on e.src between u.first_id and u.first_id + u.n_features - 1
left join main.sae d on e.dst between d.first_id and d.first_id + d.n_features - 1
where e.kind is null or e.kind not in ('res_res', 'mlp_res', 'att_res', 'far')
    or (e.kind <> 'far' and e.kind is distinct from u.site || '_' || d.site);

-- cosines: every edge has one, between -1 and 1
select format('{} -> {}', src, dst) from main.edge
where cosine is null or isnan(cosine) or abs(cosine) > 1.001;

-- ranks: rank_out and rank_in are the places by cosine, ties by id
select format('{} -> {}', src, dst)
from (
    select src, dst, rank_out, rank_in,
        row_number() over (partition by src, kind order by cosine desc, dst) as place_out,
        row_number() over (partition by dst, kind order by cosine desc, src) as place_in
    from main.edge
)
where rank_out is distinct from place_out or rank_in is distinct from place_in;

-- evidence: shares between 0 and 1, correlations between -1 and 1, none where nothing was counted
select format('{} -> {}', src, dst) from main.edge
where not (coalesce(jaccard, 0) between 0 and 1) or not (coalesce(necessity, 0) between 0 and 1)
    or not (coalesce(sufficiency, 0) between 0 and 1) or not (coalesce(pearson, 0) between -1.001 and 1.001)
    or n_both < 0 or isnan(virtual_weight)
    or (n_both is null and coalesce(jaccard, necessity, sufficiency, pearson) is not null);

-- ablations: a change is measured on at least one token, and no change on none
select format('{} -> {}', src, dst) from main.edge
where (coalesce(ablation_n, 0) > 0) <> (ablation_change is not null) or ablation_n < 0 or isnan(ablation_change);

-- pairs: the pairs of SAEs are those of the edges, and as many
with counted as (
    select u.number as src_sae, d.number as dst_sae, e.kind, count(*) as n_edges
    from main.edge e
    join main.sae u on e.src between u.first_id and u.first_id + u.n_features - 1
    join main.sae d on e.dst between d.first_id and d.first_id + d.n_features - 1
    group by all
)
select format('{} -> {}: {}', coalesce(p.src_sae, c.src_sae), coalesce(p.dst_sae, c.dst_sae), coalesce(p.kind, c.kind))
from main.pair p
full join counted c on c.src_sae = p.src_sae and c.dst_sae = p.dst_sae and c.kind = p.kind
where p.n_edges is distinct from c.n_edges;

-- examples: ranks without a gap, the peak inside the text, an activation per token
select format('feature {}, rank {}', feature, rank)
from (select *, row_number() over (partition by feature order by rank) as place from main.example)
where feature is null or feature < 0 or feature >= (select coalesce(sum(n_features), 0) from main.sae)
    or rank is distinct from place or len(tokens) <> len(activations) or token_index < 0
    or token_index >= len(tokens) or activations[token_index + 1] is distinct from activation;

-- labels: of features that are there, with a source and a text
select format('feature {}', feature) from main.label
where feature is null or feature < 0 or feature >= (select coalesce(sum(n_features), 0) from main.sae)
    or source is null or text is null;

-- meta: each fact once, with its value
select coalesce(key, 'NULL') from main.meta
group by key having key is null or key = '' or count(*) > 1 or count(value) < count(*);

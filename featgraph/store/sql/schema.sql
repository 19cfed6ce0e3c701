-- The tables of graph.duckdb. Ids are dense and topological: every edge has src < dst.
-- No primary keys and no indexes: rows are stored in id order (edge: in src order), which prunes as well
-- and keeps the file small.

create table sae (                    -- one row per SAE, in the order the model computes its site
    number             integer,       -- 0 .. number of SAEs - 1, topological
    layer              integer,       -- 0 = first block
    site               varchar,       -- res | mlp | att
    first_id           integer,       -- id of its feature 0
    n_features         integer,       -- number of features
    hook_name          varchar,       -- where the SAE reads, as its own metadata says
    release            varchar,       -- registry release, or the recipe's name for local SAEs
    sae_id             varchar,       -- id within the release, or the folder it was read from
    architecture       varchar,       -- as saved: jumprelu, topk, standard, ...
    d_in               integer,       -- width the SAE reads
    neuronpedia_id     varchar,       -- model/source on Neuronpedia, NULL if there is none
    n_dead             integer,       -- features that never fired; NULL without a text, as the next six
    l0                 float,         -- mean number of active features per token that counts
    n_massive          integer,       -- tokens left out because the site is many times as long there as usual
    massive_norm       float,         -- the length from which they are; NULL where none is left out
    explained_variance float,         -- 1 - squared error / variance, over 32,768 tokens that count or more
    explained_variance_se float,      -- its standard error; NULL where the text is a single piece
    rms_length         float,         -- root mean square length of what it rebuilds, over the same tokens
    expected_l0        float,         -- what sae_lens's registry says of it; NULL where it says nothing
    expected_variance  float,         -- likewise, of explained_variance
    no_virtual_weight  varchar,       -- why virtual_weight, twera and attribution of its edges (res: of those
                                      -- into it) are NULL; NULL where they are known
    threshold_low      float,         -- cosine below which a match from the previous layer says nothing
    threshold_high     float          -- cosine from which a match is taken as the same feature
);

create table threshold (              -- what a measure other than the cosine must reach on edges into an SAE
    sae     integer,                  -- sae.number
    measure varchar,                  -- column of edge
    low     float,                    -- what one pair in a hundred reaches by chance
    high    float                     -- one pair in a thousand, the default of `min`; edges/cause_nulls.py
);

create table feature (                -- one row per feature, ordered by id
    id              integer,          -- first_id of its SAE + idx
    key             varchar,          -- layer/site/idx
    layer           integer,
    site            varchar,
    idx             integer,          -- index within its SAE
    density         float,            -- share of tokens on which it is active; 0 = dead, NULL without a text
    mean_activation float,            -- mean over the tokens on which it is active; NULL if dead
    max_activation  float,            -- largest activation on the text; NULL if dead
    decoder_norm    float,            -- length of its W_dec row before scaling to unit length
    encoder_alignment float,          -- cosine of its encoder and decoder rows, -1 to 1; NULL where they are
                                      -- not of one space; low = dead or unstable; arXiv 2605.18629
    s_res           float,            -- largest cosine to a feature of the previous residual; res only
    s_mlp           float,            -- largest cosine to an mlp feature of its layer; res only
    s_att           float,            -- largest cosine to an att feature of its layer; res only
    top_tokens      varchar[],        -- ten tokens with the largest mean activation
    logit_tokens    varchar[],        -- ten tokens its direction promotes most through the unembedding
    telling_tokens  varchar[]         -- of these, the ones a label names: in the text, and not by chance
);

create table edge (                   -- one row per candidate link, ordered by src, dst; u = src, d = dst;
                                      -- a measure that is not known is NULL
    src             integer,          -- upstream feature id
    dst             integer,          -- downstream feature id
    kind            varchar,          -- res_res | mlp_res | att_res
    cosine          float,            -- of the two decoder directions; never NULL; -1 to 1; arXiv 2502.03032
    rank_out        smallint,         -- 1 = best of src's edges of this kind by cosine, ties by id
    rank_in         smallint,         -- 1 = best of dst's edges of this kind by cosine, ties by id
    n_both          integer,          -- tokens on which both are active
    jaccard         float,            -- n_both / tokens on which either is active; 0 to 1; arXiv 2410.08869
    necessity       float,            -- P(u active | d active); 0 to 1; arXiv 2410.08869
    sufficiency     float,            -- P(d active | u active); 0 to 1; arXiv 2410.08869
    pearson         float,            -- correlation of activations over all tokens; -1 to 1; arXiv 2410.08869
    virtual_weight  float,            -- d's pre-activation per unit of u's activation along the residual
                                      -- stream; d / u; arXiv 2406.11944 s4
    attribution     float,            -- virtual_weight * mean of u / d over tokens where both are active:
                                      -- predicted loss; share of d's activation; arXiv 2406.11944 s4
    twera           float,            -- virtual_weight * E[u d] / E[d], means over all tokens: predicted
                                      -- traffic; d's pre-activation; Anthropic, Circuit Tracing (2025), global
                                      -- weights
    effect          float,            -- mean of 1 - d without u / d over tokens where d is active, 0 where u
                                      -- is silent; share of d's activation; at most 1; ours
    effect_n        integer,          -- tokens on which effect was measured
    effect_se       float,            -- standard error of effect; share of d's activation; from 0; ours
    silenced        float,            -- share of those tokens on which d falls silent without u; 0 to 1; ours
    ablation_change float,            -- mean of 1 - d without u / d over tokens where both are active; share
                                      -- of d's activation; at most 1; arXiv 2502.03032 s5.2
    ablation_n      integer,          -- tokens on which ablation_change was measured
    found_by        varchar           -- searches that proposed it, in this order, joined by commas:
                                      -- cosine, twera, effect
);

create table pair (                   -- one row per pair of SAEs that edges join, ordered by src_sae, dst_sae
    src_sae         integer,          -- sae.number of the upstream ends
    dst_sae         integer,          -- sae.number of the downstream ends
    kind            varchar,          -- of these edges: res_res | mlp_res | att_res
    n_edges         integer,          -- how many there are
    n_crowded       integer           -- pairs at or above threshold_high that are no edge: both ends have top_k
                                      -- closer ones; NULL if not counted
);

create table example (                -- the strongest contexts of each feature
    feature     integer,              -- feature id
    rank        smallint,             -- 1 = strongest
    activation  float,                -- at the peak token
    token_index integer,              -- place of the peak in tokens, from 0
    tokens      varchar[],            -- the text around the peak
    activations float[]               -- the feature's activation on each of them
);

create table label (                  -- words for features, from any number of sources
    feature integer,                  -- feature id
    source  varchar,                  -- tokens = made from top and promoted tokens; neuronpedia:TYPE, ...: `label`
    text    varchar
);

create table meta (                   -- what a reader must know before the rest
    key   varchar,                    -- recipe, model, n_tokens, top_k, ...; the rest is in manifest.json
    value varchar
);

-- Text search over labels, as a table macro beside those of verbs.sql.

-- A text as `search` compares it: without case and accents. The arrow goes first: every label made of tokens
-- has it, and accents are looked for fast only where all is ASCII.
create macro folded(text) as lower(strip_accents(replace(text, '→', '>')));

-- Its words, which are runs of letters and digits, with a space on each side of every one.
create macro spaced(text) as ' ' || trim(regexp_replace(folded(text), '[^\p{L}\p{N}]+', ' ', 'g')) || ' ';

-- Features whose label has all the words, each whole or as the beginning of a longer one; words in double
-- quotes must stand one after the other. One row per feature, with the label of it that scores most; `source`
-- names one source, or with `neuronpedia` all those that begin with `neuronpedia:`.
--
-- The score is a sum over the words: rarity * (1 if the label has it as a whole word + 1 / words of the label).
-- So whole words stand before beginnings, rare words before common ones, short labels before long ones.
-- Rarity is ln(1 + N / n), for N labels of which n have the word's letters; after Sparck Jones 1972, "A
-- statistical interpretation of term specificity". Only labels that have the letters of all words are split.
create macro search(words, source := null) as table
    with asked as materialized (
        select case when regexp_matches(folded(words), '[\p{L}\p{N}]') then words
            else error('search needs a word of letters or digits') end as text
    ),
    phrase as materialized (
        select distinct rtrim(spaced(p.part)) as text
        from (select unnest(regexp_extract_all(a.text, '"[^"]*"|[^\s"]+')) as part from asked a) p
        where spaced(p.part) <> '  '
    ),
    word as materialized (select distinct unnest(string_split(ltrim(p.text), ' ')) as text from phrase p),
    searched as not materialized (
        select l.rowid as place, l.* from main.label l
        where source is null or l.source = source or starts_with(l.source, source || ':')
    ),
    held as materialized (
        select l.place, w.text as word
        from (select s.place, folded(s.text) as text from searched s) l join word w on contains(l.text, w.text)
    ),
    rarity as materialized (
        select h.word, ln(1 + whole.n / count(*)) as weight
        from held h, (select count(*) as n from searched) whole
        group by h.word, whole.n
    ),
    near as materialized (
        select distinct l.feature, l.source, l.text, spaced(l.text) as words,
            len(string_split(trim(spaced(l.text)), ' ')) as n_words
        from searched l
        where l.place in (select place from held group by place having count(*) = (select count(*) from word))
    ),
    found as (
        select n.feature, n.source, n.text, sum(
            r.weight * (contains(n.words, ' ' || r.word || ' ')::integer + 1 / n.n_words) order by r.word
        )::float as score
        from near n, rarity r
        where not exists (select 1 from phrase p where not contains(n.words, p.text))
        group by n.feature, n.source, n.text, n.words, n.n_words
        qualify row_number() over (
            partition by n.feature order by score desc, n.source = 'tokens', n.source, n.text
        ) = 1
    )
    select f.feature as id, concat_ws('/', s.layer, s.site, f.feature - s.first_id) as key, s.layer, s.site,
        f.feature - s.first_id as idx, f.source, f.text, f.score
    from found f
    join main.sae s on f.feature between s.first_id and s.first_id + s.n_features - 1
    order by f.score desc, f.feature;

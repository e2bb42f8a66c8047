-- Records a conflict; one of a cell that is held already goes on, with the same number, the same base and the present
-- values.
insert into mirror.conflict (entity_no, record_id, field, side, base, base_is_known, canonical, observed,
    canonical_transaction_id, observed_transaction_id, decision, decided_at)
select $1, $2, $3, $4, $5::text::jsonb, $5::text is not null, $6::text::jsonb, $7::text::jsonb,
    (select source_transaction_id from mirror.journal
     where record_id = $2 and source_transaction_id < $8 and ($3::text is null or after -> $3 is not null)
     order by journal_id desc limit 1),
    $8, $9, case when $9 = 'held' then null else now() end
on conflict (record_id, entity_no, field, side) where decision = 'held' and decided_at is null do update
    set observed = excluded.observed, observed_transaction_id = excluded.observed_transaction_id,
        canonical = excluded.canonical, canonical_transaction_id = excluded.canonical_transaction_id

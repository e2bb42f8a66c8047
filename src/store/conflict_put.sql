-- Records conflicts; one of a cell that is held already goes on, with the same number, the same base and the present
-- values. A cell occurs once in the arrays. Who made the canonical value is looked up in the journal, which this batch
-- has written.
insert into mirror.conflict (entity_no, record_id, field, side, base, base_is_known, canonical, observed,
    canonical_transaction_id, observed_transaction_id, decision, decided_at)
select u.entity_no, u.record_id, u.field, u.side, u.base::jsonb, u.base is not null, u.canonical::jsonb, u.observed::jsonb,
    (select source_transaction_id from mirror.journal j
     where j.record_id = u.record_id and source_transaction_id < u.id and (u.field is null or after -> u.field is not null)
     order by journal_id desc limit 1),
    u.id, u.decision, case when u.decision = 'held' then null else now() end
from unnest($1::smallint[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[], $9::text[])
    with ordinality as u (entity_no, record_id, field, side, base, canonical, observed, id, decision, nth)
order by u.nth
on conflict (record_id, entity_no, field, side) where decision = 'held' and decided_at is null do update
    set observed = excluded.observed, observed_transaction_id = excluded.observed_transaction_id,
        canonical = excluded.canonical, canonical_transaction_id = excluded.canonical_transaction_id

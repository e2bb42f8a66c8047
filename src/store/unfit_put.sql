-- Keeps what cells held that were refused and replaced within one batch: side, entity, record, field, the text that was
-- refused (JSON), the value now (JSON), the transaction that brought the text, and why it was refused.
insert into mirror.conflict (side, entity_no, record_id, field, observed, canonical, observed_transaction_id, unfit,
    base_is_known, canonical_transaction_id, decision, decided_at)
select side, entity_no, u.record_id, u.field, observed::jsonb, canonical::jsonb, transaction_id, unfit, false,
    (select source_transaction_id from mirror.journal j
     where j.record_id = u.record_id and j.after -> u.field is not null order by journal_id desc limit 1),
    'overwritten', now()
from unnest($1::text[], $2::smallint[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::text[])
    as u (side, entity_no, record_id, field, observed, canonical, transaction_id, unfit)

-- The side gives a cell that is held another value ($5): the one that it had, which somebody entered and which never
-- became canonical, is kept beside it, in a row that nobody has to decide.
insert into mirror.conflict (entity_no, record_id, field, side, base, base_is_known, canonical, observed,
    canonical_transaction_id, observed_transaction_id, decision, decided_at)
select entity_no, record_id, field, side, base, base_is_known, canonical, observed,
    canonical_transaction_id, observed_transaction_id, 'overwritten', now()
from mirror.conflict
where entity_no = $1 and record_id = $2 and field = $3 and side = $4 and decision = 'held' and decided_at is null
  and observed is distinct from $5::text::jsonb

-- A side gives cells that are held other values ($5): each one that it had, which somebody entered and which never became
-- canonical, is kept beside it, in a row that nobody has to decide.
insert into mirror.conflict (entity_no, record_id, field, side, base, base_is_known, canonical, observed,
    canonical_transaction_id, observed_transaction_id, decision, decided_at)
select c.entity_no, c.record_id, c.field, c.side, c.base, c.base_is_known, c.canonical, c.observed,
    c.canonical_transaction_id, c.observed_transaction_id, 'overwritten', now()
from unnest($1::smallint[], $2::uuid[], $3::text[], $4::text[], $5::text[])
    with ordinality as u (entity_no, record_id, field, side, observed, nth)
join mirror.conflict c on c.entity_no = u.entity_no and c.record_id = u.record_id and c.field = u.field and c.side = u.side
where c.decision = 'held' and c.decided_at is null and c.observed is distinct from u.observed::jsonb
order by u.nth

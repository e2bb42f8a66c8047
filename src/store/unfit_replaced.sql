-- Keeps what the cells held that are refused and that hold something else now: side, entity, key, record, field (null:
-- all of the record), value now (JSON), and by whom that was seen. A cell that is taken at last holds what it held:
-- a link whose record has come, a choice that its code table has now, a text that fits since the mapping has changed.
insert into mirror.conflict (entity_no, record_id, field, side, base_is_known, canonical, observed,
    canonical_transaction_id, observed_transaction_id, decision, decided_at, unfit)
select r.entity_no, u.record_id, r.field, r.side, false, coalesce(u.value::jsonb, 'null'), r.raw,
    (select source_transaction_id from mirror.journal j
     where j.record_id = u.record_id and j.after -> r.field is not null order by journal_id desc limit 1),
    r.source_transaction_id, 'overwritten', now(), r.reason
from unnest($1::text[], $2::smallint[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::text[])
    as u (side, entity_no, side_key, record_id, field, value, seen_by)
join mirror.refusal r on r.side = u.side and r.entity_no = u.entity_no and r.side_key = u.side_key
    and (u.field is null or r.field = u.field)
where r.raw is not null and r.raw <> '"[erased]"'
    and r.raw #>> '{}' is distinct from u.value::jsonb #>> '{}'
    and (r.waits_for is null or u.seen_by = 'us')
    and (r.kind <> 'unknown choice' or u.seen_by <> 'scan')
    and not exists (
        select from mirror.conflict c
        where c.record_id = u.record_id and c.entity_no = r.entity_no and c.field = r.field and c.side = r.side
            and c.observed_transaction_id = r.source_transaction_id and c.observed = r.raw and c.unfit is not null)

-- Binds writes to side $1 of entity $2: operation, record, kind, cells, whether it goes in parts; only while $8 is the
-- writer's epoch. What a cell holds that one of them goes over, and
-- that could not be taken, is kept in the same transaction: nothing else knows of it once the write is sent.
with bound as (
    insert into mirror.operation (operation_id, side, entity_no, record_id, kind, cells, is_partial)
    select operation_id, $1, $2, record_id, kind, cells, is_partial
    from unnest($3::uuid[], $4::uuid[], $5::text[], $6::jsonb[], $7::bool[])
        as u (operation_id, record_id, kind, cells, is_partial)
    where exists (
        select from mirror.outbox o
        where o.side = $1 and o.entity_no = $2 and o.record_id = u.record_id and o.attempt_count > 0
            and o.stopped_by is null)
        and not exists (select from mirror.recovery where approved_at is null)
        and ($8::bigint is null or exists (select from mirror.writer where epoch = $8))
    on conflict do nothing returning record_id, kind, cells
), kept as (
    insert into mirror.conflict (entity_no, record_id, field, side, base_is_known, canonical, observed,
        canonical_transaction_id, observed_transaction_id, decision, decided_at, unfit)
    select $2, b.record_id, r.field, $1, false, coalesce(b.cells -> r.field -> 'value', 'null'), r.raw,
        (select source_transaction_id from mirror.journal j
         where j.record_id = b.record_id and j.after -> r.field is not null order by journal_id desc limit 1),
        r.source_transaction_id, 'overwritten', now(), r.reason
    from bound b
    left join mirror.link l on l.side = $1 and l.entity_no = $2 and l.record_id = b.record_id
    join mirror.refusal r on r.side = $1 and r.entity_no = $2 and r.side_key = coalesce(l.side_key, b.record_id::text)
        and (b.kind = 'delete' or b.cells ? r.field)
    where r.raw is not null and r.raw <> '"[erased]"'
        and not exists (
            select from mirror.conflict c
            where c.record_id = b.record_id and c.entity_no = $2 and c.field = r.field and c.side = $1
                and c.observed_transaction_id = r.source_transaction_id and c.observed = r.raw and c.unfit is not null)
)
select record_id from bound

-- Queues records ($2) of the entity $1 for sides ($3). One with seconds ($4) waits until nobody has changed it for so
-- long, and not longer than five minutes after the change that began the wait. One that is counted ($5, $6: for how many
-- seconds, and in which transaction) waits so long, and one that changes all the time for a minute at most; one of a full read
-- ($7) for its end. A row that is stopped stays so.
insert into mirror.outbox (entity_no, record_id, side, settles_at, settle_began_at, counts_until, counted_transaction_id, is_being_read)
select $1, record_id, side, now() + settle_s * interval '1 s', case when settle_s is not null then now() end,
    now() + counts_s * interval '1 s', counted_id, is_being_read
from unnest($2::uuid[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::boolean[])
    as u (record_id, side, settle_s, counts_s, counted_id, is_being_read)
on conflict (side, entity_no, record_id) do update
set due_at = now(), attempt_count = 0, waits_for = null, is_incomplete = false,
    settle_began_at = case when excluded.settles_at is not null
        then coalesce(outbox.settle_began_at, excluded.settle_began_at) end,
    settles_at = case when excluded.settles_at is not null
        then least(excluded.settles_at, outbox.settle_began_at + interval '5 min') end,
    counts_until = case when excluded.counts_until is null or excluded.is_being_read
        then greatest(outbox.counts_until, excluded.counts_until)
        else greatest(outbox.counts_until, least(excluded.counts_until, outbox.queued_at + interval '1 min')) end,
    counted_transaction_id = coalesce(excluded.counted_transaction_id, outbox.counted_transaction_id),
    is_being_read = outbox.is_being_read or excluded.is_being_read

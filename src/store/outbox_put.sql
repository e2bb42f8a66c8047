-- Queues records ($2) of the entity $1 for sides ($3). One with seconds ($4) waits until nobody has changed it for so
-- long, and not longer than five minutes after the change that began the wait.
insert into mirror.outbox (entity_no, record_id, side, settles_at, settle_began_at)
select $1, record_id, side, now() + settle_s * interval '1 s', case when settle_s is not null then now() end
from unnest($2::uuid[], $3::text[], $4::bigint[]) as u (record_id, side, settle_s)
on conflict (side, entity_no, record_id) do update
set due_at = now(), attempt_count = 0, waits_for = null, is_incomplete = false,
    settle_began_at = case when excluded.settles_at is not null
        then coalesce(outbox.settle_began_at, excluded.settle_began_at) end,
    settles_at = case when excluded.settles_at is not null
        then least(excluded.settles_at, outbox.settle_began_at + interval '5 min') end

-- Holds what records ($10) of the entity $1 owe to the sides other than $2: their author ($3, told as $4 to $6) has changed too
-- many since $7 (µs), in the transactions $8 to $9. One stop is open for an author, and more of the records join it.
with stop as (
    insert into mirror.mass_change (entity_no, side, author, via, author_id, author_name, since, record_count,
        first_transaction_id, last_transaction_id)
    values ($1, $2, $3, $4, $5, $6, timestamptz 'epoch' + $7::bigint * interval '1 microsecond', cardinality($10::uuid[]), $8, $9)
    on conflict (entity_no, side, author) where ended_at is null do update
    set last_transaction_id = greatest(mass_change.last_transaction_id, excluded.last_transaction_id),
        record_count = mass_change.record_count + (
            select count(*) from unnest($10::uuid[]) as u (record_id)
            where not exists (select from mirror.outbox o where o.record_id = u.record_id and o.entity_no = $1
                and o.stopped_by = mass_change.mass_change_id))
    returning mass_change_id
)
update mirror.outbox o set stopped_by = stop.mass_change_id, counts_until = null
from stop
where o.entity_no = $1 and o.side <> $2 and o.record_id = any ($10::uuid[])

-- A full read of the entity $1 on side $2, or a transaction of it that came in parts, is over. What it changed goes to the
-- other side now, unless somebody is to be asked about it ($3) and it is more than the larger of $8 records and $9 % of all: then
-- it is held, and so is what the same author ($4, told as $5 to $7) adds to a stop that is open.
with changed as (
    select side, record_id, counted_transaction_id from mirror.outbox where entity_no = $1 and side <> $2 and is_being_read
), counted as (
    select count(distinct record_id) as record_count, min(counted_transaction_id) as first_id, max(counted_transaction_id) as last_id
    from changed
), rule as (
    select *, $3 and (record_count > $8::bigint and record_count * 100 > $9::bigint * (select count(*) from {table})
        or exists (select from mirror.mass_change where entity_no = $1 and side = $2 and author = $4 and ended_at is null)) as is_stop
    from counted
), stop as (
    insert into mirror.mass_change (entity_no, side, author, via, author_id, author_name, since, record_count,
        first_transaction_id, last_transaction_id)
    select $1, $2, $4, $5, $6, $7,
        coalesce((select at from mirror.source_transaction where source_transaction_id = first_id), now()),
        record_count, first_id, last_id
    from rule where is_stop and record_count > 0
    on conflict (entity_no, side, author) where ended_at is null do update
    set record_count = mass_change.record_count + excluded.record_count,
        last_transaction_id = greatest(mass_change.last_transaction_id, excluded.last_transaction_id)
    returning mass_change_id
)
update mirror.outbox o
set is_being_read = false, counts_until = null, due_at = now(), attempt_count = 0,
    stopped_by = coalesce((select mass_change_id from stop), o.stopped_by)
from changed
where o.entity_no = $1 and o.side = changed.side and o.record_id = changed.record_id

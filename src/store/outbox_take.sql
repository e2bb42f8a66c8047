-- Takes up to $3 due rows of side $1, parents ($2, the entities' numbers in the mapping's order) before children, and
-- sets each to its next try at once: a crash before the answer costs a delay (2 s, 4 s, … 1 h), not the push. None while a recovery is open,
-- and none that a guard for mass changes holds or still counts.
update mirror.outbox o
set attempt_count = o.attempt_count + 1,
    due_at = now() + least(interval '1 hour', interval '2 s' * power(2, least(o.attempt_count, 11)))
from (
    select side, entity_no, record_id
    from mirror.outbox join unnest($2::smallint[]) with ordinality as e (entity_no, depth) using (entity_no)
    where side = $1 and due_at <= now() and settles_at is null
        and stopped_by is null and (counts_until is null or counts_until <= now())
        and not exists (select from mirror.recovery where approved_at is null)
    order by depth, queued_at limit $3 for update of outbox skip locked
) taken
where o.side = taken.side and o.entity_no = taken.entity_no and o.record_id = taken.record_id
returning o.entity_no, o.record_id

-- The records of an entity to which something may be owed on a side. What it is, merge says.
select record_id from mirror.shadow where entity_no = $1 and side = $2
union
select record_id from mirror.absence where entity_no = $1 and side = $2 and not was_deleted
union
select record_id from mirror.pending_delete where entity_no = $1 and side = $2
order by record_id

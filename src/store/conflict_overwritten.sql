-- A person gives a second value to a cell that is held, and did not see the first one, since a write of ours that was
-- on its way when the conflict was found had put another in its place ($5): the first one keeps a row of its own.
update mirror.conflict set decision = 'overwritten', decided_at = now()
where entity_no = $1 and record_id = $2 and field = $3 and side = $4 and decision = 'held' and decided_at is null
  and observed is distinct from $5::text::jsonb

-- The mapping's own yes to deletes on the other side ($1: the entity, $2: the records), unless there are more than the
-- larger of 5 and 2 % of the entity in 10 minutes: then these wait for a person, and so do those before them that were
-- not carried out yet. A record that was found to be another one is not deleted anywhere. A tombstone without its transaction belongs to the large one that is being written.
with recent as (
    select count(*) as delete_count
    from mirror.tombstone left join mirror.source_transaction s using (source_transaction_id)
    where entity_no = $1 and coalesce(s.recorded_at > now() - interval '10 minutes' and s.via <> 'match', true)
), rule as (
    select delete_count > greatest(5, 0.02 * (delete_count + (select count(*) from {table}))) as is_stop from recent
)
update mirror.pending_delete p
set approved_at = case when not is_stop then now() end,
    approved_by = case when not is_stop then 'policy' end,
    stopped_by_count = is_stop
from rule
where p.entity_no = $1
  and (p.record_id = any($2) and p.approved_at is null or is_stop and p.approved_by = 'policy')

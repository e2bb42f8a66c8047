select c.conflict_id, e.name as entity, c.record_id, c.field, c.side, c.base, c.base_is_known, c.canonical, c.observed,
    c.decision, c.decided_at, c.decided_by, c.settled_value,
    k.at as canonical_at, coalesce(k.author_name, k.author_id, k.via) as canonical_author,
    o.at as observed_at, coalesce(o.author_name, o.author_id, o.via) as observed_author, o.recorded_at as found_at
from mirror.conflict c
join mirror.entity e using (entity_no)
left join mirror.source_transaction k on k.source_transaction_id = c.canonical_transaction_id
left join mirror.source_transaction o on o.source_transaction_id = c.observed_transaction_id

-- Of a conflict that waits, both values are the present ones: the side whose value is canonical may have moved on.
select c.conflict_id, e.name as entity, c.record_id, c.field, c.side, c.base, c.base_is_known,
    coalesce(n.value, c.canonical) as canonical, c.observed,
    c.decision, c.decided_at, c.decided_by, c.settled_value, c.unfit,
    k.at as canonical_at, coalesce(k.author_name, k.author_id, k.via) as canonical_author,
    o.at as observed_at, coalesce(o.author_name, o.author_id, o.via) as observed_author, o.recorded_at as found_at
from mirror.conflict c
join mirror.entity e using (entity_no)
left join lateral (
    select (j.after -> c.field)::jsonb as value, j.source_transaction_id
    from mirror.journal j
    where c.decision = 'held' and c.decided_at is null and j.record_id = c.record_id and j.entity_no = c.entity_no
        and j.after -> c.field is not null
    order by j.journal_id desc limit 1
) n on true
left join mirror.source_transaction k on k.source_transaction_id = coalesce(n.source_transaction_id, c.canonical_transaction_id)
left join mirror.source_transaction o on o.source_transaction_id = c.observed_transaction_id

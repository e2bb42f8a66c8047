-- Cells of a side that could not be taken, with what they hold, and who entered that when.
select 'i' || left(md5(concat_ws('/', r.side, r.entity_no, r.side_key, r.field)), 8) as id, r.side,
    e.name as entity, r.side_key, l.record_id, r.field, r.kind, r.reason, r.refused_at, r.raw,
    t.at, coalesce(t.author_name, t.author_id, t.via) as author
from mirror.refusal r join mirror.entity e using (entity_no)
left join mirror.link l on l.side = r.side and l.entity_no = r.entity_no and l.side_key = r.side_key
left join mirror.source_transaction t using (source_transaction_id)

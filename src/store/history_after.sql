-- The entries after $1, oldest first, at most $2 of them; a line a field, or one without for a record that
-- came or went without any.
with entry as (
    select * from mirror.journal where journal_id > $1 order by journal_id limit $2
)
select j.journal_id, t.at, t.side, coalesce(t.author_name, t.author_id, t.via) as author, e.name as entity,
       j.record_id, j.action, f.field, j.before -> f.field as before, j.after -> f.field as after
from entry j
join mirror.source_transaction t using (source_transaction_id)
join mirror.entity e using (entity_no)
left join lateral (select json_object_keys(j.before) as field union select json_object_keys(j.after)) f on true
order by j.journal_id, f.field

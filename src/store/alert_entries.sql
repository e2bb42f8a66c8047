-- The entries after $1, oldest first, at most $2 of them, whole.
with entry as (
    select * from mirror.journal where journal_id > $1 order by journal_id limit $2
)
select j.journal_id, j.source_transaction_id as transaction, e.name as entity, j.record_id, j.action,
       j.before, j.after, t.at, t.side, coalesce(t.author_name, t.author_id, t.via) as author, t.via, t.recorded_at
from entry j
join mirror.source_transaction t using (source_transaction_id)
join mirror.entity e using (entity_no)
order by j.journal_id

-- A cheaper journal: what the merge costs beside the rows themselves is mostly its upkeep.

drop view mirror.history;

-- Written at every change, taken apart only when somebody asks: no need to parse it at once.
alter table mirror.journal
    alter column before type json using before::json,
    alter column after type json using after::json;

-- One record's few entries are looked up, all of them: a hash, which is cheaper to keep than a tree.
drop index mirror.journal_record_id;
create index journal_record_id on mirror.journal using hash (record_id);

create view mirror.history as
select j.journal_id, t.at, t.side, coalesce(t.author_name, t.author_id, t.via) as author, t.via, e.name as entity,
       j.record_id, j.action, coalesce(a.key, b.key) as field, b.value as before, a.value as after,
       t.recorded_at, j.source_transaction_id
from mirror.journal j
join mirror.source_transaction t using (source_transaction_id)
join mirror.entity e using (entity_no)
left join lateral (select coalesce(x.key, y.key) as key from json_each(j.before) x full join json_each(j.after) y using (key)) k on true
left join lateral (select k.key, (j.before -> k.key)::jsonb as value) b on true
left join lateral (select k.key, (j.after -> k.key)::jsonb as value) a on true;
comment on view mirror.history is 'The journal, a row a field: when, where, who, which record and field, before and after.';

comment on table mirror.tombstone is 'Records whose canonical row was deleted, even if they came back since; their last values are in the journal''s delete entry.';

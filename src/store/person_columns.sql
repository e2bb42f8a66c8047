-- Columns of mirror with texts or JSON, without keys; the journal last, since it is where the values to look for are
-- found again.
select c.relname::text as table, a.attname::text as column, format_type(a.atttypid, null) as kind
from pg_attribute a join pg_class c on c.oid = a.attrelid
where c.relnamespace = 'mirror'::regnamespace and c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped
    and a.attgenerated = ''
    and format_type(a.atttypid, null) in ('text', 'json', 'jsonb', 'text[]', 'character varying')
    and c.relname not in ('shadow', 'outbox', 'position', 'entity', 'erasure', 'erasure_cell')
    and not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary and a.attnum = any(i.indkey))
order by c.relname = 'journal', c.relname, a.attname

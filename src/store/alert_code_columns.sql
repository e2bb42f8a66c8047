-- Canonical columns that refer to a reference table: one with code, label_fr and label_en.
select o.relname::text as table_name, a.attname::text as column_name, r.relname::text as reference
from pg_constraint c
join pg_class r on r.oid = c.confrelid
join pg_class o on o.oid = c.conrelid
join pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1]
where c.contype = 'f' and cardinality(c.conkey) = 1
  and c.connamespace = 'canon'::regnamespace and r.relnamespace = 'canon'::regnamespace
  and (select count(*) from pg_attribute l
       where l.attrelid = r.oid and l.attname in ('code', 'label_fr', 'label_en') and not l.attisdropped) = 3

-- What fields $3 of record $2 of entity $1 hold or held, wherever that is kept, each value once.
with field as (select unnest($3::text[]) as field)
select distinct field, value from (
    select f.field, (v.held -> f.field)::jsonb as value
    from mirror.journal j, field f, lateral (values (j.before), (j.after)) v (held)
    where j.record_id = $2 and j.entity_no = $1
    union all
    select c.field, v.held
    from mirror.conflict c join field f using (field),
        lateral (values (c.base), (c.canonical), (c.observed), (c.settled_value)) v (held)
    where c.record_id = $2 and c.entity_no = $1
    union all
    select s.field, s.value from mirror.shadow s join field f using (field)
    where s.record_id = $2 and s.entity_no = $1
    union all
    select r.field, r.raw
    from mirror.refusal r join field f using (field)
    left join mirror.link l on l.side = r.side and l.entity_no = r.entity_no and l.side_key = r.side_key
    where r.entity_no = $1 and coalesce(l.record_id::text, r.side_key) = $2::text
    union all
    select p.field, p.value from mirror.parked p join field f using (field)
    where p.record_id = $2 and p.entity_no = $1
    union all
    select f.field, o.cells -> f.field -> v.key
    from mirror.operation o, field f, lateral (values ('expected'), ('value')) v (key)
    where o.record_id = $2 and o.entity_no = $1
) held
where value is not null and value not in ('null', 'false', '"[erased]"')
order by field, value

-- What the sides have not taken yet of erasure $1: values that they are known to hold still, writes under way, and
-- cells whose value could not be read there.
with cell as (
    select c.entity_no, c.record_id, c.field, e.name as entity
    from mirror.erasure_cell c join mirror.entity e using (entity_no) where c.erasure_id = $1
)
select s.side, case when p.reason is null then 'owed' else 'parked' end as what, c.entity, c.record_id, c.field, p.reason
from cell c
join mirror.shadow s using (entity_no, record_id, field)
left join mirror.parked p on p.side = s.side and p.entity_no = c.entity_no and p.record_id = c.record_id
    and p.field in (c.field, '*')
union
select o.side, 'under way', c.entity, c.record_id, null, null
from cell c join mirror.operation o using (entity_no, record_id) where o.settled_at is null
union
select r.side, 'refused', c.entity, c.record_id, c.field, r.reason
from cell c
join mirror.refusal r on r.entity_no = c.entity_no and r.field in (c.field, '*')
left join mirror.link l on l.side = r.side and l.entity_no = r.entity_no and l.side_key = r.side_key
where coalesce(l.record_id::text, r.side_key) = c.record_id::text
order by 1, 2, 3, 4, 5

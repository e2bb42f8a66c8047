-- Canonical ids that $2 may mean among the records of entity $1: the id itself ($3), or a side's key, linked now
-- or not any more.
select $3::uuid as record_id where $3::uuid is not null
    and not exists (select from mirror.link l join mirror.entity e using (entity_no)
        where e.name = $1 and l.side_key = $2)
union
select l.record_id from mirror.link l join mirror.entity e using (entity_no)
where e.name = $1 and l.side_key = $2

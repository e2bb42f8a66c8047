-- Names of the users of Directus with the ids $1: members, whose canonical id is the user's unless a link says otherwise.
with author as (
    select u.id as side_key, coalesce(l.record_id::text, u.id) as member_id
    from unnest($1::text[]) as u (id)
    left join mirror.link l on l.side = 'directus' and l.side_key = u.id
        and l.entity_no = (select entity_no from mirror.entity where name = 'member')
)
select a.side_key, concat_ws(' ', m.first_name, m.last_name) as name
from author a join canon.member m on m.id::text = a.member_id
where concat_ws(' ', m.first_name, m.last_name) <> ''

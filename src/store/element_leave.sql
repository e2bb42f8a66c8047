-- Forgets junction rows ($1, the entity's number; $2, $3, $4: side, field, row), and keeps the columns of their own that
-- each had, by owner and element. The row with the greatest key counts where several meant the same element.
with gone as (
    delete from mirror.element e using unnest($2::text[], $3::text[], $4::text[]) as u (side, field, row_key)
    where e.entity_no = $1 and e.side = u.side and e.field = u.field and e.row_key = u.row_key
    returning e.side, e.entity_no, e.field, e.row_key, e.record_id, e.element, e.columns
)
insert into mirror.element_left (side, entity_no, field, record_id, element, columns)
select distinct on (side, entity_no, field, record_id, element) side, entity_no, field, record_id, element, columns
from gone where columns is not null
order by side, entity_no, field, record_id, element, row_key desc
on conflict (side, entity_no, field, record_id, element) do update set columns = excluded.columns, left_at = now()

-- Opens an incident for each entity with deletes that were stopped for their number and wait for a person.
insert into mirror.incident (log, code, text)
select 'plait', 'many_deletes_' || e.name,
       'so many records of ' || e.name || ' were deleted at once that none of these deletes goes on to ' || string_agg(distinct p.side, ', ')
       || ': look at them with `plait plan`, then allow them with `plait approve`, or bring them back with `plait undo`'
from mirror.pending_delete p join mirror.entity e using (entity_no)
where p.stopped_by_count and p.approved_at is null
group by e.name
on conflict (log, code) where closed_at is null do update
    set text = excluded.text, seen_at = now(), seen_count = incident.seen_count + 1

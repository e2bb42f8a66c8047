-- Looks for deletes that were stopped for their number and wait for a person: an incident is open for each entity that has
-- some. One that is open already counts as seen again after ten minutes.
with stopped as (
    select 'many_deletes_' || e.name as code,
           'so many records of ' || e.name || ' were deleted at once that none of these deletes goes on to ' || string_agg(distinct p.side, ', ')
           || ': look at them with `plait plan`, then allow them with `plait approve`, or bring them back with `plait undo`' as text
    from mirror.pending_delete p join mirror.entity e using (entity_no)
    where p.stopped_by_count and p.approved_at is null
    group by e.name
), over as (
    update mirror.incident set closed_at = now()
    where closed_at is null and log = 'plait' and code like 'many\_deletes\_%' and code not in (select code from stopped)
)
insert into mirror.incident (log, code, text, subject)
select 'plait', code, text, 'deletes' from stopped
on conflict (log, code) where closed_at is null do update
    set text = excluded.text, seen_at = now(), seen_count = incident.seen_count + 1
    where incident.text <> excluded.text or incident.seen_at < now() - interval '10 minutes'

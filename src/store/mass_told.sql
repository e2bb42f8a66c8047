-- Looks for mass changes that wait for a person: an incident is open for each. One that is open already counts as seen again
-- after ten minutes.
with stopped as (
    select 'many_changes_' || m.mass_change_id as code,
           count(distinct o.record_id) || ' records of ' || e.name || ' were changed on ' || m.side || ' at once by '
           || case when m.author = 'read' then 'something that a full read has found'
                   else concat_ws(', ', coalesce(m.author_name, m.author_id), m.via) end
           || ': none of this goes on to ' || string_agg(distinct o.side, ', ') || ' before a person has seen it. '
           || '`plait plan` shows it, `plait approve changes ' || m.mass_change_id || '` lets it through, `plait undo changes '
           || m.mass_change_id || '` takes it back' as text
    from mirror.mass_change m join mirror.entity e using (entity_no)
        join mirror.outbox o on o.stopped_by = m.mass_change_id
    where m.ended_at is null
    group by m.mass_change_id, e.name
), over as (
    update mirror.incident set closed_at = now()
    where closed_at is null and log = 'plait' and code like 'many\_changes\_%' and code not in (select code from stopped)
)
insert into mirror.incident (log, code, text, subject)
select 'plait', code, text, 'changes' from stopped
on conflict (log, code) where closed_at is null do update
    set text = excluded.text, seen_at = now(), seen_count = incident.seen_count + 1
    where incident.text <> excluded.text or incident.seen_at < now() - interval '10 minutes'

-- Looks for records that are held because nothing but our own writes changes them: an incident is open for each entity that
-- has some. One that is open already counts as seen again after ten minutes.
with held as (
    select 'answers_itself_' || e.name as code,
           count(distinct p.record_id) || ' records of ' || e.name || ' are held: a side changes them by itself with each write of ours, and that change makes the next write. '
           || '`plait errors` names them and says what to do; all other records go on' as text
    from mirror.parked p join mirror.entity e using (entity_no)
    where p.code = 'answers_itself'
    group by e.name
), over as (
    update mirror.incident set closed_at = now()
    where closed_at is null and log = 'plait' and code like 'answers\_itself\_%' and code not in (select code from held)
)
insert into mirror.incident (log, code, text, subject)
select 'plait', code, text, 'answers' from held
on conflict (log, code) where closed_at is null do update
    set text = excluded.text, seen_at = now(), seen_count = incident.seen_count + 1
    where incident.text <> excluded.text or incident.seen_at < now() - interval '10 minutes'

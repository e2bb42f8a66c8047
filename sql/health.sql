-- How the mirror does, for people who only know SQL. The one thing that a reporting role sees of `mirror`: it runs with
-- the rights of its owner, and shows counts and times, no values.

create or replace view report.mirror_health as
select 'log' as item, s.log as name, s.side, (s.state in ('streaming', 'copying') and s.reported_at > now() - interval '2 minutes') as is_well,
       s.lag_bytes as count, s.reported_at as since,
       s.words as words
from mirror.capture_status s
union all
select 'conflicts', null, c.side, false, count(*), min(t.at), 'values that both sides changed, and that wait for a person: plait conflicts'
from mirror.conflict c left join mirror.source_transaction t on t.source_transaction_id = c.observed_transaction_id
where c.decision = 'held' and c.decided_at is null group by c.side
union all
select 'parked', null, p.side, false, count(*), min(p.parked_at), 'cells that a side does not take: plait errors'
from mirror.parked p where p.skipped_at is null group by p.side
union all
select 'refused', null, r.side, false, count(*), min(r.refused_at), 'cells of a side that could not be read: plait errors'
from mirror.refusal r group by r.side
union all
select 'deletes', null, d.side, false, count(*), min(d.found_at), 'records deleted on one side, held until somebody says yes: plait conflicts'
from mirror.pending_delete d where d.approved_at is null group by d.side
union all
select 'outbox', null, o.side, min(o.queued_at) > now() - interval '5 minutes', count(*), min(o.queued_at), 'records with something still to write'
from mirror.outbox o where o.stopped_by is null group by o.side
union all
select 'changes', null, o.side, false, count(*), min(m.stopped_at), 'records that were changed by many at once, held until somebody says yes: plait plan'
from mirror.outbox o join mirror.mass_change m on m.mass_change_id = o.stopped_by group by o.side
union all
select 'incident', i.log, null, false, i.seen_count, i.opened_at, i.code
from mirror.incident i where i.closed_at is null;
comment on view report.mirror_health is 'A row a log that is read, and a row for each kind of thing that waits or needs a person; is_well says whether it is in order.';

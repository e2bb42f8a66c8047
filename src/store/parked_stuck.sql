-- By side, the records that are owed something which nobody and nothing restrains, and that the side has not said that it
-- took: a side that refuses every write parks nothing. With them, the side's open incidents.
with owed as (
    select o.side, o.queued_at
    from mirror.outbox o
    where o.stopped_by is null
        and not exists (
            select from mirror.parked p
            where p.side = o.side and p.entity_no = o.entity_no and p.record_id = o.record_id)
        and not exists (
            select from mirror.conflict c
            where c.entity_no = o.entity_no and c.record_id = o.record_id and c.decision = 'held' and c.decided_at is null)
        and not exists (
            select from mirror.match_question q
            where q.entity_no = o.entity_no and o.record_id = any(q.record_id || q.candidates) and q.answered_at is null)
        and not exists (
            select from mirror.operation f
            where f.side = o.side and f.entity_no = o.entity_no and f.record_id = o.record_id
                and f.settled_at is null and f.sent_at is not null)
        and (
            exists (
                select from mirror.operation f
                where f.side = o.side and f.entity_no = o.entity_no and f.record_id = o.record_id and f.settled_at is null)
            or exists (
                select from mirror.absence a join mirror.approval y on y.entity_no = a.entity_no and y.field = '*'
                where a.side = o.side and a.entity_no = o.entity_no and a.record_id = o.record_id)
            or exists (
                select from mirror.pending_delete d
                where d.side = o.side and d.entity_no = o.entity_no and d.record_id = o.record_id
                    and d.approved_at is not null)
            or exists (
                select from mirror.shadow s
                join mirror.approval y on y.entity_no = s.entity_no
                    and y.field = case s.field when '#id' then '*' else s.field end
                where s.side = o.side and s.entity_no = o.entity_no and s.record_id = o.record_id)
        )
),
incident as (
    select split_part(log, ':', 1) as side, array_agg(text order by incident_id) as texts
    from mirror.incident where closed_at is null and code not like '%renamed' group by 1
)
select o.side, count(*) as record_count, min(o.queued_at) as oldest_at, coalesce(i.texts, '{}') as incidents
from owed o left join incident i using (side)
group by o.side, i.texts
order by o.side

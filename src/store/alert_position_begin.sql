-- Where alerts begin, once each of the logs $1 has a position: behind the last entry that a first copy has made. What
-- people changed while the copies ran is behind it or part of them.
insert into mirror.alert_position (journal_id)
select coalesce((
    select max(j.journal_id) from mirror.journal j join mirror.source_transaction t using (source_transaction_id)
    where t.via in ('snapshot', 'listing')), 0)
where (select count(*) from mirror.position where log = any($1) and position <> '') = cardinality($1)
on conflict do nothing
returning journal_id

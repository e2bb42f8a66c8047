-- One alert; nothing if it was raised before.
insert into mirror.alert (rule, kind, entity_no, record_id, journal_id, at, side, author, record_name, before, after,
                          text_fr, text_en)
select $1, $2, e.entity_no, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13
from mirror.entity e where e.name = $3
on conflict on constraint alert_once do nothing

-- Pairs of records of the entity $1 that are two by a person's word, one of each among $2 ($3: the same as texts): by the
-- answer to a question, or since a match was split. $4: the side whose keys without a link are canonical ids.
select q.record_id, c.candidate
from mirror.match_question q, unnest(q.candidates) as c (candidate)
where q.entity_no = $1 and q.answered_at is not null and (q.record_id = any($2) or c.candidate = any($2))
union
select l.record_id, m.record_id
from mirror.match m join mirror.link l using (side, entity_no, side_key)
where m.entity_no = $1 and m.split_at is not null and (l.record_id = any($2) or m.record_id = any($2))
union
select m.side_key::uuid, m.record_id
from mirror.match m
where m.entity_no = $1 and m.split_at is not null and m.side = $4
  and (m.side_key = any($3) or m.record_id = any($2) and m.side_key ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$')

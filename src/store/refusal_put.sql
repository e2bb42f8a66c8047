-- Lists cells that could not be taken, each once in the arrays, in place of what was listed of them before. `waits_for`
-- is a JSON array: arrays of unequal lengths cannot be elements of one.
insert into mirror.refusal (side, entity_no, side_key, field, kind, reason, waits_for, source_transaction_id, raw)
select side, entity_no, side_key, field, kind, reason,
    case when waits_for is not null then array(select jsonb_array_elements_text(waits_for::jsonb)) end, id, raw::jsonb
from unnest($1::text[], $2::smallint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[], $9::text[])
    as u (side, entity_no, side_key, field, kind, reason, waits_for, id, raw)
on conflict (side, entity_no, side_key, field) do update
    set kind = excluded.kind, reason = excluded.reason, waits_for = excluded.waits_for,
        source_transaction_id = excluded.source_transaction_id, raw = excluded.raw, refused_at = now()

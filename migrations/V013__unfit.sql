-- A cell of a side that does not fit its field is still what somebody entered. What it held is kept with the refusal, and
-- for good, as a conflict, before anything is written over it.

alter table mirror.refusal add column raw jsonb;
comment on column mirror.refusal.raw is 'What the cell holds, as a JSON string that people can read; null: refused before this column was there, or the record as a whole.';

alter table mirror.conflict add column unfit text;
comment on column mirror.conflict.unfit is 'Why `observed` is no value of the field, where it is not: then it is the text of the side''s cell, which could not be taken, and which something was written over; `canonical` is what replaced it.';

-- Directus names the first column of a statement for a value that is too long or too large. Cells that were parked for
-- that may not be at fault: they are tried again, and judged anew.
insert into mirror.outbox (side, entity_no, record_id)
select distinct side, entity_no, record_id from mirror.parked
where side = 'directus' and code in ('too_long', 'out_of_range') and skipped_at is null
on conflict (side, entity_no, record_id) do update set due_at = now(), attempt_count = 0;
delete from mirror.parked
where side = 'directus' and code in ('too_long', 'out_of_range') and skipped_at is null;

-- An option of a select that gets another name in Airtable has it on all records at once, and nobody has edited one.
create table mirror.option_yes (
    entity_no smallint not null,
    field text not null,
    name text not null,
    said_at timestamptz not null default now(),
    said_by text not null,
    constraint option_yes_pkey primary key (entity_no, field, name)
);
comment on table mirror.option_yes is 'New names of options that a person said yes to: values follow, though the other side''s choices do not have the name.';
comment on column mirror.option_yes.entity_no is 'mirror.entity.';
comment on column mirror.option_yes.field is 'The field''s name in the mapping.';
comment on column mirror.option_yes.name is 'What the option is called in Airtable now.';
comment on column mirror.option_yes.said_at is 'When.';
comment on column mirror.option_yes.said_by is 'Who.';

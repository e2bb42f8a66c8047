-- Erasures of persons: who asked when, for which record, and how far it has come. What was erased is not here.

create table mirror.erasure (
    erasure_id bigint generated always as identity constraint erasure_pkey primary key,
    entity_no smallint not null,
    record_id uuid not null,
    pseudonym text not null,
    asked_by text not null,
    asked_at timestamptz not null default now(),
    emptied_at timestamptz,
    redacted_at timestamptz,
    completed_at timestamptz
);
create index erasure_record_id on mirror.erasure (record_id, entity_no);
create index erasure_open on mirror.erasure (erasure_id) where completed_at is null;
comment on table mirror.erasure is 'Erasures of persons, for ever, since whoever restores a backup has to do them again. No personal value is in it.';
comment on column mirror.erasure.erasure_id is 'Grows with time.';
comment on column mirror.erasure.entity_no is 'mirror.entity.';
comment on column mirror.erasure.record_id is 'The canonical id of the record, which stays.';
comment on column mirror.erasure.pseudonym is 'What stands for the person from now on: made of a random number, and of nothing personal.';
comment on column mirror.erasure.asked_by is 'Who carried it out.';
comment on column mirror.erasure.asked_at is 'When.';
comment on column mirror.erasure.emptied_at is 'When canonical held nothing of it any more, and both sides were owed that.';
comment on column mirror.erasure.redacted_at is 'When the past was redacted: journal, conflicts, and all other tables of this schema.';
comment on column mirror.erasure.completed_at is 'When both sides had taken it, and what was under way meanwhile was redacted too.';

create table mirror.erasure_cell (
    erasure_id bigint not null constraint erasure_cell_erasure_id_fkey references mirror.erasure (erasure_id),
    entity_no smallint not null,
    record_id uuid not null,
    field text not null,
    constraint erasure_cell_pkey primary key (erasure_id, record_id, entity_no, field)
);
create index erasure_cell_record_id on mirror.erasure_cell (record_id, entity_no);
comment on table mirror.erasure_cell is 'Which cells an erasure is about: those of the person''s own record that the mapping calls personal, and those of others that named the person.';
comment on column mirror.erasure_cell.erasure_id is 'The erasure.';
comment on column mirror.erasure_cell.entity_no is 'mirror.entity.';
comment on column mirror.erasure_cell.record_id is 'The canonical id.';
comment on column mirror.erasure_cell.field is 'The field''s name in the mapping.';

-- A table that only grows still names authors. An erasure, which says so for its own transaction by this setting,
-- may replace an author's name by the pseudonym: that column, and no other, and no row goes.
create or replace function canon.refuse_edit() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' and current_setting('plait.erasing', true) = 'on'
        and to_jsonb(new) - 'author' = to_jsonb(old) - 'author'
    then
        return new;
    end if;
    raise exception 'rows of %.% are written once and never edited', tg_table_schema, tg_table_name
        using errcode = 'integrity_constraint_violation';
end
$$;
comment on function canon.refuse_edit() is 'Trigger for tables that only grow. The one exception is an erasure, which may replace an author.';

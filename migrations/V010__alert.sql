-- What people want to be told of: a rule of the settings that a change of the journal met. Written by the task `alerts`
-- of `plait run`, with its place in the journal, so that each change is looked at once.

create table mirror.alert (
    alert_id bigint generated always as identity constraint alert_pkey primary key,
    rule text not null,
    kind text not null constraint alert_kind_known check (kind in ('legal_event', 'valuation_down', 'stage_change', 'member_status', 'field_change')),
    entity_no smallint not null,
    record_id uuid not null,
    journal_id bigint not null,
    at timestamptz not null,
    side text not null,
    author text not null,
    record_name text not null,
    before jsonb not null,
    after jsonb not null,
    text_fr text not null,
    text_en text not null,
    raised_at timestamptz not null default now(),
    seen_at timestamptz,
    seen_by text,
    constraint alert_once unique (rule, journal_id, record_id)
);
create index alert_record_id on mirror.alert (record_id);
create index alert_unseen on mirror.alert (alert_id) where seen_at is null;
comment on table mirror.alert is 'Changes that a rule of the settings asks to be told of. The rule is named as it was then: rules come and go, what they have raised stays.';
comment on column mirror.alert.alert_id is 'Grows with time.';
comment on column mirror.alert.rule is 'The rule''s name in the settings.';
comment on column mirror.alert.kind is 'What kind of rule it is.';
comment on column mirror.alert.entity_no is 'mirror.entity.';
comment on column mirror.alert.record_id is 'The canonical id of the record that changed.';
comment on column mirror.alert.journal_id is 'The change: mirror.journal.';
comment on column mirror.alert.at is 'When, by the clock of the side where it happened.';
comment on column mirror.alert.side is 'Where: airtable, directus, or plait for a decision that a person made there.';
comment on column mirror.alert.author is 'Who, by name where one is known, else as far as the side tells.';
comment on column mirror.alert.record_name is 'What the record was called then, with its company.';
comment on column mirror.alert.before is 'Values that count, before: field → value.';
comment on column mirror.alert.after is 'Values that count, after.';
comment on column mirror.alert.text_fr is 'The whole of it in a sentence, in French. Of a legal event it is completed for a day, until somebody ticks it off: rows are filled in cell by cell.';
comment on column mirror.alert.text_en is 'The same in English.';
comment on column mirror.alert.raised_at is 'When it was raised here.';
comment on column mirror.alert.seen_at is 'When somebody ticked it off; empty: nobody did yet.';
comment on column mirror.alert.seen_by is 'Who did.';

create table mirror.alert_position (
    is_only boolean constraint alert_position_pkey primary key default true constraint alert_position_one check (is_only),
    journal_id bigint not null,
    stored_at timestamptz not null default now()
);
comment on table mirror.alert_position is 'How far the journal was looked at for alerts: one row. None: the sides are not copied yet, and nothing alerts before they are.';
comment on column mirror.alert_position.journal_id is 'The last entry that was looked at.';
comment on column mirror.alert_position.stored_at is 'When.';

create table mirror.alert_scope (
    side text not null,
    entity_no smallint not null,
    counts_from timestamptz not null,
    constraint alert_scope_pkey primary key (side, entity_no)
);
comment on table mirror.alert_scope is 'Since when what a whole reading of a side finds counts as a change of it. What the first reading brings in is no news.';
comment on column mirror.alert_scope.side is 'airtable or directus.';
comment on column mirror.alert_scope.entity_no is 'mirror.entity.';
comment on column mirror.alert_scope.counts_from is 'Entries via snapshot or listing that were applied before this alert nobody.';

-- A mirror that runs already has been copied: alerts begin with what comes next.
insert into mirror.alert_position (journal_id)
select coalesce((select max(journal_id) from mirror.journal), 0)
where exists (select from mirror.position where position <> '');
insert into mirror.alert_scope (side, entity_no, counts_from)
select p.side, e.entity_no, now()
from (select distinct side from mirror.position where position <> '') p cross join mirror.entity e
where p.side in ('airtable', 'directus');

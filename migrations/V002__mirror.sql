-- What plait remembers beside the canonical rows. Nothing is stored that can be told from something else: a
-- side's shadow only where it differs from canonical, an absence only where a record is missing, a link only
-- where a side's key is not the canonical id. `apply` alone writes here, in the transaction that writes canon.

create schema if not exists mirror;
comment on schema mirror is 'The state of the mirror: what each side holds, who changed what, what lost, how far each log was read.';

create table mirror.entity (
    entity_no smallint constraint entity_pkey primary key,
    name text not null constraint entity_name_key unique
);
comment on table mirror.entity is 'Numbers for the mapping''s entities, given once, so that a mapping may be reordered.';
comment on column mirror.entity.entity_no is 'The number.';
comment on column mirror.entity.name is 'The name in the mapping.';

create table mirror.source_transaction (
    source_transaction_id bigint constraint source_transaction_pkey primary key,
    side text not null,
    at timestamptz not null,
    position text,
    author_id text,
    author_name text,
    via text not null,
    operation_id uuid,
    recorded_at timestamptz not null default now()
);
comment on table mirror.source_transaction is 'A transaction of a side that changed something here: when, which side, where in its log, by whom.';
comment on column mirror.source_transaction.source_transaction_id is 'Grows in the order of application.';
comment on column mirror.source_transaction.side is 'airtable or directus.';
comment on column mirror.source_transaction.at is 'Commit time by the side''s clock: for people; it never decides which value survives.';
comment on column mirror.source_transaction.position is 'LSN, or webhook#cursor; empty for a page of a listing.';
comment on column mirror.source_transaction.author_id is 'The side''s id of the user, if it tells.';
comment on column mirror.source_transaction.author_name is 'Name or e-mail, if it tells.';
comment on column mirror.source_transaction.via is 'By what means: client, publicApi, automation, a user agent, sql, snapshot, listing, …';
comment on column mirror.source_transaction.operation_id is 'Our own operation, if it was one.';
comment on column mirror.source_transaction.recorded_at is 'When it was applied here.';

create table mirror.journal (
    journal_id bigint constraint journal_pkey primary key,
    source_transaction_id bigint not null,
    entity_no smallint not null,
    record_id uuid not null,
    action text not null constraint journal_action_known check (action in ('create', 'update', 'delete', 'restore')),
    before jsonb not null,
    after jsonb not null
);
comment on table mirror.journal is 'Every change of a canonical record, for ever: field → value before and after. The rows of a first copy into empty tables are not repeated here: going back from the present through the journal gives them.';
comment on column mirror.journal.journal_id is 'Grows in the order of application.';
comment on column mirror.journal.source_transaction_id is 'Who, when, where: mirror.source_transaction. Not a foreign key: both are written by one writer in one transaction, and the check would cost a third of the write.';
comment on column mirror.journal.entity_no is 'mirror.entity.';
comment on column mirror.journal.record_id is 'The canonical id.';
comment on column mirror.journal.action is 'create, update, delete or restore.';
comment on column mirror.journal.before is 'Values before, of the fields that changed.';
comment on column mirror.journal.after is 'Values after.';
create index journal_record_id on mirror.journal (record_id, journal_id);

create table mirror.link (
    side text not null,
    entity_no smallint not null,
    side_key text not null,
    record_id uuid not null,
    constraint link_pkey primary key (side, entity_no, side_key),
    constraint link_record_key unique (record_id, entity_no, side)
);
comment on table mirror.link is 'Which record of a side is which canonical record, where the side''s key is not the canonical id itself.';
comment on column mirror.link.side is 'airtable or directus.';
comment on column mirror.link.entity_no is 'mirror.entity.';
comment on column mirror.link.side_key is 'rec…, or the primary key as text.';
comment on column mirror.link.record_id is 'The canonical id.';

create table mirror.shadow (
    record_id uuid not null,
    entity_no smallint not null,
    side text not null,
    field text not null,
    value jsonb not null,
    constraint shadow_pkey primary key (record_id, entity_no, side, field)
);
comment on table mirror.shadow is 'What a side is known to hold, where that is not the canonical value: exactly what is owed to it. Every other cell of a record that is present on a side equals canonical there.';
comment on column mirror.shadow.record_id is 'The canonical id.';
comment on column mirror.shadow.entity_no is 'mirror.entity.';
comment on column mirror.shadow.side is 'airtable or directus.';
comment on column mirror.shadow.field is 'The field''s name in the mapping.';
comment on column mirror.shadow.value is 'The value read last in that side''s own log.';

create table mirror.absence (
    record_id uuid not null,
    entity_no smallint not null,
    side text not null,
    source_transaction_id bigint not null,
    was_deleted boolean not null,
    constraint absence_pkey primary key (record_id, entity_no, side)
);
comment on table mirror.absence is 'Canonical records that a side does not have: not yet created there, or deleted there.';
comment on column mirror.absence.record_id is 'The canonical id.';
comment on column mirror.absence.entity_no is 'mirror.entity.';
comment on column mirror.absence.side is 'The side that lacks it.';
comment on column mirror.absence.source_transaction_id is 'Since when.';
comment on column mirror.absence.was_deleted is 'True: it was there and was deleted. False: it never was.';

create table mirror.tombstone (
    record_id uuid not null,
    entity_no smallint not null,
    source_transaction_id bigint not null,
    constraint tombstone_pkey primary key (record_id, entity_no)
);
comment on table mirror.tombstone is 'Records whose canonical row was deleted; their last values are in the journal''s delete entry.';
comment on column mirror.tombstone.record_id is 'The canonical id.';
comment on column mirror.tombstone.entity_no is 'mirror.entity.';
comment on column mirror.tombstone.source_transaction_id is 'Who, when, where.';

create table mirror.element (
    side text not null,
    entity_no smallint not null,
    field text not null,
    row_key text not null,
    record_id uuid not null,
    element text not null,
    constraint element_pkey primary key (side, entity_no, field, row_key)
);
comment on table mirror.element is 'Rows of a side''s junction tables: a set''s elements by the key of their row, since a delete in the log names only that.';
comment on column mirror.element.side is 'The side.';
comment on column mirror.element.entity_no is 'mirror.entity of the set''s owner.';
comment on column mirror.element.field is 'The set.';
comment on column mirror.element.row_key is 'Primary key of the junction row, as text.';
comment on column mirror.element.record_id is 'Canonical id of the set''s owner.';
comment on column mirror.element.element is 'Code, or canonical id of the linked record.';
create index element_record_id on mirror.element (record_id, entity_no, field);

create table mirror.conflict (
    conflict_id bigint generated always as identity constraint conflict_pkey primary key,
    entity_no smallint not null,
    record_id uuid not null,
    field text,
    side text not null,
    base jsonb,
    base_is_known boolean not null,
    canonical jsonb not null,
    observed jsonb not null,
    canonical_transaction_id bigint,
    observed_transaction_id bigint not null,
    decision text not null constraint conflict_decision_known check (decision in ('held', 'canonical kept', 'observed taken', 'merged')),
    decided_at timestamptz
);
comment on table mirror.conflict is 'Both sides changed a cell since they last agreed. No value is ever dropped without a row here.';
comment on column mirror.conflict.conflict_id is 'Grows with time.';
comment on column mirror.conflict.entity_no is 'mirror.entity.';
comment on column mirror.conflict.record_id is 'The canonical id.';
comment on column mirror.conflict.field is 'The field; empty: a delete met an edit of the record.';
comment on column mirror.conflict.side is 'The side whose value came second to plait.';
comment on column mirror.conflict.base is 'The last value that this side and canonical agreed on.';
comment on column mirror.conflict.base_is_known is 'False when the record was matched just now and there is no common past.';
comment on column mirror.conflict.canonical is 'The canonical value that it met.';
comment on column mirror.conflict.observed is 'The side''s value.';
comment on column mirror.conflict.canonical_transaction_id is 'Who made the canonical value, as far as the journal tells.';
comment on column mirror.conflict.observed_transaction_id is 'Who made the side''s value.';
comment on column mirror.conflict.decision is 'held: waits for a person; else what the policy of the field did.';
comment on column mirror.conflict.decided_at is 'When it was settled; empty while held.';
create index conflict_record_id on mirror.conflict (record_id, entity_no);
create unique index conflict_held on mirror.conflict (record_id, entity_no, field, side) where decision = 'held' and decided_at is null;

create table mirror.refusal (
    side text not null,
    entity_no smallint not null,
    side_key text not null,
    field text not null,
    kind text not null,
    reason text not null,
    waits_for text[],
    source_transaction_id bigint not null,
    refused_at timestamptz not null default now(),
    constraint refusal_pkey primary key (side, entity_no, side_key, field)
);
comment on table mirror.refusal is 'Cells that could not be taken, with the reason; the other cells of the record went ahead. A row goes when the cell gets a value that fits.';
comment on column mirror.refusal.side is 'Where the value is.';
comment on column mirror.refusal.entity_no is 'mirror.entity.';
comment on column mirror.refusal.side_key is 'rec…, or the primary key as text.';
comment on column mirror.refusal.field is 'The field; "*" when the record as a whole could not be taken.';
comment on column mirror.refusal.kind is 'wrong type, out of range, unstorable, unknown choice, unknown target, constraint.';
comment on column mirror.refusal.reason is 'What is wrong and what to do, for a person.';
comment on column mirror.refusal.waits_for is 'Keys of the linked records, when one of them is not known yet: taken as soon as it is.';
comment on column mirror.refusal.source_transaction_id is 'Who, when, where.';
comment on column mirror.refusal.refused_at is 'When it was refused here.';
create index refusal_waits_for on mirror.refusal using gin (waits_for) where waits_for is not null;

create table mirror.position (
    log text constraint position_pkey primary key,
    side text not null,
    position text not null,
    identity jsonb not null default '{}',
    stored_at timestamptz not null default now()
);
comment on table mirror.position is 'How far each log was read and applied; stored in the transaction that applies.';
comment on column mirror.position.log is 'directus, or airtable: and the base''s id.';
comment on column mirror.position.side is 'The side.';
comment on column mirror.position.position is 'LSN, or webhook#cursor: where the log goes on.';
comment on column mirror.position.identity is 'What the position belongs to: slot and system identifier, or webhook and resolved field ids.';
comment on column mirror.position.stored_at is 'When.';

create table mirror.incident (
    incident_id bigint generated always as identity constraint incident_pkey primary key,
    log text not null,
    code text not null,
    text text not null,
    opened_at timestamptz not null default now(),
    seen_at timestamptz not null default now(),
    seen_count integer not null default 1,
    closed_at timestamptz
);
comment on table mirror.incident is 'A side, or the whole line, needs a person, or needed one.';
comment on column mirror.incident.incident_id is 'Grows with time.';
comment on column mirror.incident.log is 'Which log, or plait itself.';
comment on column mirror.incident.code is 'What kind, for programs.';
comment on column mirror.incident.text is 'What, where and what to do, for people.';
comment on column mirror.incident.opened_at is 'First seen.';
comment on column mirror.incident.seen_at is 'Last seen.';
comment on column mirror.incident.seen_count is 'How often.';
comment on column mirror.incident.closed_at is 'When it was over.';
create unique index incident_open on mirror.incident (log, code) where closed_at is null;

create table mirror.capture_status (
    log text constraint capture_status_pkey primary key,
    side text not null,
    state text not null,
    words text not null,
    position text,
    lag_bytes bigint,
    lag_ms bigint,
    last_change_at timestamptz,
    reported_at timestamptz not null default now()
);
comment on table mirror.capture_status is 'What a running plait last said of each log; `plait status` shows it.';
comment on column mirror.capture_status.log is 'Which log.';
comment on column mirror.capture_status.side is 'The side.';
comment on column mirror.capture_status.state is 'starting, copying, streaming, waiting, stopped.';
comment on column mirror.capture_status.words is 'The same for people, with the reason.';
comment on column mirror.capture_status.position is 'Where the log was read up to.';
comment on column mirror.capture_status.lag_bytes is 'What the side has written and we have not applied; empty where it has no bytes.';
comment on column mirror.capture_status.lag_ms is 'How long ago the newest applied change was made when it was applied.';
comment on column mirror.capture_status.last_change_at is 'When the side last changed something.';
comment on column mirror.capture_status.reported_at is 'When this was said; old: plait is not running.';

create view mirror.history as
select j.journal_id, t.at, t.side, coalesce(t.author_name, t.author_id, t.via) as author, t.via, e.name as entity,
       j.record_id, j.action, coalesce(a.key, b.key) as field, b.value as before, a.value as after,
       t.recorded_at, j.source_transaction_id
from mirror.journal j
join mirror.source_transaction t using (source_transaction_id)
join mirror.entity e using (entity_no)
left join lateral (select coalesce(x.key, y.key) as key from jsonb_each(j.before) x full join jsonb_each(j.after) y using (key)) k on true
left join lateral (select k.key, j.before -> k.key as value) b on true
left join lateral (select k.key, j.after -> k.key as value) a on true;
comment on view mirror.history is 'The journal, a row a field: when, where, who, which record and field, before and after.';

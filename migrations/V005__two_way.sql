-- What goes back out to the sides. What is owed is never stored: it is the difference between canonical and a
-- side's shadows and absences. Here is when it is tried, what is under way, what waits for a person, and what
-- people have decided.

create table mirror.outbox (
    side text not null,
    entity_no smallint not null,
    record_id uuid not null,
    attempt_count integer not null default 0,
    due_at timestamptz not null default now(),
    queued_at timestamptz not null default now(),
    waits_for text,
    constraint outbox_pkey primary key (side, entity_no, record_id)
);
create index outbox_due_at on mirror.outbox (side, due_at);
comment on table mirror.outbox is 'The schedule of what is owed to a side, a row a record; it holds no values. A row without anything owed is dropped by the next push.';
comment on column mirror.outbox.attempt_count is 'Tries that failed since the last one that did not.';
comment on column mirror.outbox.due_at is 'When it is tried next.';
comment on column mirror.outbox.queued_at is 'Since when something is owed.';
comment on column mirror.outbox.waits_for is 'In words, what a part of it waits for, such as a linked record that the side does not have yet; null: nothing.';

create table mirror.operation (
    operation_id uuid not null,
    side text not null,
    entity_no smallint not null,
    record_id uuid not null,
    kind text not null constraint operation_kind_known check (kind in ('create', 'update', 'delete')),
    cells jsonb not null,
    bound_at timestamptz not null default now(),
    sent_at timestamptz,
    side_key text,
    settled_at timestamptz,
    constraint operation_pkey primary key (operation_id, entity_no, record_id)
);
create unique index operation_in_flight on mirror.operation (record_id, entity_no, side) where settled_at is null;
create index operation_record_id on mirror.operation (record_id, entity_no);
create index operation_settled_at on mirror.operation (settled_at) where settled_at is not null;
comment on table mirror.operation is 'Writes of ours, a row a record; one request to a side is one operation_id. Bound before it is sent, settled by the side''s own log. Kept for nine days after that: a late second copy of a write is known as ours for as long as Airtable keeps its payloads.';
comment on column mirror.operation.cells is '{"field": {"expected": value, "value": value}}: what the side held by its log, and what is sent. Canonical values, as in mirror.shadow.';
comment on column mirror.operation.sent_at is 'When the side said that it took it; null: not sent, or no answer came.';
comment on column mirror.operation.side_key is 'How the side calls a record that this operation created, by its answer.';
comment on column mirror.operation.settled_at is 'When its effect was read in the side''s log, or it was given up.';

create table mirror.parked (
    side text not null,
    entity_no smallint not null,
    record_id uuid not null,
    field text not null,
    code text not null,
    reason text not null,
    value jsonb,
    parked_at timestamptz not null default now(),
    try_count integer not null default 1,
    skipped_at timestamptz,
    constraint parked_pkey primary key (side, entity_no, record_id, field)
);
comment on table mirror.parked is 'Cells (field *: whole records) that a side did not take. They hold nothing else up; tried again when the canonical value changes, when the mapping changes, now and then, or on command.';
comment on column mirror.parked.code is 'The kind of objection, for programs.';
comment on column mirror.parked.reason is 'What is wrong and what to do, for people, without the value.';
comment on column mirror.parked.value is 'The canonical value that was not taken: another one is tried at once. Null for a whole record.';
comment on column mirror.parked.skipped_at is 'When a person said that this is to stay as it is: it is not tried again until the value changes.';

create table mirror.pending_delete (
    entity_no smallint not null,
    record_id uuid not null,
    side text not null,
    source_transaction_id bigint not null,
    found_at timestamptz not null default now(),
    approved_at timestamptz,
    approved_by text,
    stopped_by_count boolean not null default false,
    constraint pending_delete_pkey primary key (record_id, entity_no, side)
);
create index pending_delete_found_at on mirror.pending_delete (entity_no, found_at);
comment on table mirror.pending_delete is 'Records that were deleted on one side and still live on `side`. They are deleted (or archived, as the entity''s policy says) there only once approved_at is set: by a person, or at once where the policy is to propagate and there are not too many.';
comment on column mirror.pending_delete.side is 'Where the record is still to be deleted.';
comment on column mirror.pending_delete.source_transaction_id is 'The transaction that deleted it on the other side.';
comment on column mirror.pending_delete.approved_by is 'Who approved it; `policy` for the mapping''s own yes.';
comment on column mirror.pending_delete.stopped_by_count is 'There were so many deletes at once that a person has to look first.';

create table mirror.approval (
    entity_no smallint not null,
    field text not null,
    approved_at timestamptz not null default now(),
    approved_by text not null,
    plan_digest text not null,
    constraint approval_pkey primary key (entity_no, field)
);
comment on table mirror.approval is 'Fields (*: records as a whole) of which a person has accepted the plan of the first push. Nothing of others is written to any side.';
comment on column mirror.approval.plan_digest is 'Digest of the plan that was accepted.';

create table mirror.match (
    match_id bigint generated always as identity constraint match_pkey primary key,
    entity_no smallint not null,
    record_id uuid not null,
    side text not null,
    side_key text not null,
    matched_by text not null,
    matched_at timestamptz not null default now(),
    split_at timestamptz
);
create index match_record_id on mirror.match (record_id, entity_no);
comment on table mirror.match is 'Which records of a side were taken for a canonical record by what they hold, and not by an id that they carry.';
comment on column mirror.match.matched_by is 'The natural key that agreed, such as `email` or `name+city`; `person` for one that a person joined.';
comment on column mirror.match.split_at is 'When a person undid it.';

create table mirror.match_question (
    match_question_id bigint generated always as identity constraint match_question_pkey primary key,
    entity_no smallint not null,
    side text not null,
    side_key text not null,
    record_id uuid not null,
    candidates uuid[] not null,
    reason text not null,
    asked_at timestamptz not null default now(),
    answered_at timestamptz,
    answered_by text
);
create unique index match_question_open on mirror.match_question (record_id, entity_no) where answered_at is null;
comment on table mirror.match_question is 'Records that may be the same as others: a person decides. Until then the record is not created on the other side.';
comment on column mirror.match_question.record_id is 'The canonical record that was made for it meanwhile.';
comment on column mirror.match_question.candidates is 'Canonical records that it may be.';

create table mirror.command (
    command_id bigint generated always as identity constraint command_pkey primary key,
    author text not null,
    body jsonb not null,
    made_at timestamptz not null default now(),
    done_at timestamptz,
    outcome text
);
create index command_open on mirror.command (command_id) where done_at is null;
comment on table mirror.command is 'What people have decided, in order: apply carries it out as it does what a side''s log says. The log `plait` in mirror.position is how far.';
comment on column mirror.command.body is 'The decision: see `plait::model::Decision`.';
comment on column mirror.command.outcome is 'In words, what could not be done; null: all of it was.';

-- A conflict that a person has settled, and a value that our own write has overwritten, are kept like the others.
alter table mirror.conflict drop constraint conflict_decision_known;
alter table mirror.conflict add constraint conflict_decision_known
    check (decision in ('held', 'canonical kept', 'observed taken', 'merged', 'overwritten'));
alter table mirror.conflict add column decided_by text, add column settled_value jsonb;
comment on column mirror.conflict.decided_by is 'The person who settled it; null: a rule, or the sides came to agree.';
comment on column mirror.conflict.settled_value is 'The value that it was settled with.';

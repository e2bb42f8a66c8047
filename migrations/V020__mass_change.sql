-- Many records that change at once, and not by a person's hand, stop before they go to the other side, and ask.

create table mirror.mass_change (
    mass_change_id bigint generated always as identity constraint mass_change_pkey primary key,
    entity_no smallint not null,
    side text not null,
    author text not null,
    via text not null,
    author_id text,
    author_name text,
    since timestamptz not null,
    record_count bigint not null,
    first_transaction_id bigint not null,
    last_transaction_id bigint not null,
    stopped_at timestamptz not null default now(),
    approved_at timestamptz,
    approved_by text,
    ended_at timestamptz
);
create unique index mass_change_open on mirror.mass_change (entity_no, side, author) where ended_at is null;
comment on table mirror.mass_change is 'Each time that more records of an entity were changed at once, by a full read or by an author who is not a person at the keyboard, than may be. The rows of mirror.outbox that name it wait for a person.';
comment on column mirror.mass_change.entity_no is 'mirror.entity.';
comment on column mirror.mass_change.side is 'Where they were changed.';
comment on column mirror.mass_change.author is 'What tells the author from others; read: a full read, of which nobody knows who made what it shows.';
comment on column mirror.mass_change.via is 'As in mirror.source_transaction, as are author_id and author_name.';
comment on column mirror.mass_change.since is 'When the first of the changes was made, by the side''s clock.';
comment on column mirror.mass_change.record_count is 'Records that were changed when it stopped, or since.';
comment on column mirror.mass_change.first_transaction_id is 'mirror.source_transaction: the first that is counted.';
comment on column mirror.mass_change.last_transaction_id is 'The last.';
comment on column mirror.mass_change.stopped_at is 'When they were too many.';
comment on column mirror.mass_change.approved_at is 'When a person last let through what was shown of it.';
comment on column mirror.mass_change.approved_by is 'Who did.';
comment on column mirror.mass_change.ended_at is 'When nothing waited for it any more: it was let through, or taken back.';

alter table mirror.outbox
    add column counts_until timestamptz,
    add column is_being_read boolean not null default false,
    add column counted_transaction_id bigint,
    add column stopped_by bigint;
create index outbox_is_being_read on mirror.outbox (entity_no) where is_being_read;
create index outbox_stopped_by on mirror.outbox (stopped_by) where stopped_by is not null;
comment on column mirror.outbox.counts_until is 'No push takes the row before: it was changed by an author who is not a person, and what that one changes with it is counted first.';
comment on column mirror.outbox.is_being_read is 'A full read that has not ended changed it, and is judged at its end.';
comment on column mirror.outbox.counted_transaction_id is 'The last transaction that was counted of it.';
comment on column mirror.outbox.stopped_by is 'mirror.mass_change: no push takes the row before a person has let its changes through.';

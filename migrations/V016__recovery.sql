-- What proves that this database and the sides' logs belong together, and what is done where they do not any more:
-- one of them was restored from a backup.

create table mirror.installation (
    is_only boolean not null default true constraint installation_pkey primary key constraint installation_one check (is_only),
    installation_id uuid not null default gen_random_uuid(),
    seat text not null,
    epoch bigint not null default 0,
    marked_epoch bigint not null default 0,
    copying_from text
);
comment on table mirror.installation is 'Who this installation of plait is, one row. A mark with the same id and epoch stands on the source beside the slot (in the comment on the publication), so that a database that was restored, or another installation, is told from this one.';
comment on column mirror.installation.installation_id is 'Made once. A backup of this database has the same.';
comment on column mirror.installation.seat is 'Cluster and database (system identifier/oid) in which this database was seen last: a restored one has another.';
comment on column mirror.installation.epoch is 'The epoch that the mark outside has, or is about to have. It grows with each session, and every hour.';
comment on column mirror.installation.marked_epoch is 'The epoch that the mark outside is known to have had.';
comment on column mirror.installation.copying_from is 'The stored position when the slot was last about to be made anew; empty: there was none. While the position is still that one, a slot that is ahead of it is left over from the copy that was cut off.';

create table mirror.recovery (
    recovery_id bigint generated always as identity constraint recovery_pkey primary key,
    subject text not null,
    reason text not null,
    begun_at timestamptz not null default now(),
    approved_at timestamptz,
    approved_by text,
    plan_digest text
);
create unique index recovery_open on mirror.recovery (subject) where approved_at is null;
comment on table mirror.recovery is 'Each time that a side, or this database, was found to have gone back in time. While one is not approved, nothing is written to any side.';
comment on column mirror.recovery.subject is 'What went back: canonical, directus, or airtable:app….';
comment on column mirror.recovery.reason is 'What proved it, in words.';
comment on column mirror.recovery.begun_at is 'When it was found.';
comment on column mirror.recovery.approved_at is 'When a person opened the way out again.';
comment on column mirror.recovery.approved_by is 'Who did.';
comment on column mirror.recovery.plan_digest is 'Digest of the plan that was accepted with it.';

create table mirror.recovery_read (
    recovery_id bigint not null constraint recovery_read_recovery_id_fkey references mirror.recovery (recovery_id),
    log text not null,
    pass smallint not null,
    read_at timestamptz not null default now(),
    constraint recovery_read_pkey primary key (recovery_id, log, pass)
);
comment on table mirror.recovery_read is 'Which logs have been read whole in a recovery: its plan is not all before each was.';
comment on column mirror.recovery_read.recovery_id is 'The recovery.';
comment on column mirror.recovery_read.log is 'directus, or airtable:app….';
comment on column mirror.recovery_read.pass is '1: records that carry their canonical id; 2: all of them.';
comment on column mirror.recovery_read.read_at is 'When what was read was applied.';

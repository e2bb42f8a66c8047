-- Who writes, whether every task of it lives, and what a side keeps for us. One plait writes at a time; the others stand
-- by. No lock that anybody else can take decides it: a row that readers may not see does, and whether the session that
-- it names is still there.

create table mirror.writer (
    is_single boolean not null default true constraint writer_pkey primary key constraint writer_is_single check (is_single),
    epoch bigint not null default 0,
    owner uuid,
    backend_pid integer,
    backend_start timestamptz,
    host text,
    process_pid integer,
    process_start text,
    request_ms_max bigint,
    taken_at timestamptz
);
insert into mirror.writer default values;
comment on table mirror.writer is 'Who writes canonical rows and the state of the mirror: one row. The place is free when the session that it names has ended.';
comment on column mirror.writer.is_single is 'Keeps it at one row.';
comment on column mirror.writer.epoch is 'Counts the takeovers. Each transaction of a writer begins with a check that its epoch is still this one.';
comment on column mirror.writer.owner is 'The run that holds the place; null: it was given back in good order.';
comment on column mirror.writer.backend_pid is 'The server process of its writing session.';
comment on column mirror.writer.backend_start is 'When that one started: process ids are used again.';
comment on column mirror.writer.host is 'The machine that it runs on.';
comment on column mirror.writer.process_pid is 'Its process there.';
comment on column mirror.writer.process_start is 'When that one started, as that machine counts; null: it does not tell.';
comment on column mirror.writer.request_ms_max is 'The longest that one of its requests to a side may take; null: it sends none.';
comment on column mirror.writer.taken_at is 'When it took the place.';

create table mirror.writer_beat (
    is_single boolean not null default true constraint writer_beat_pkey primary key constraint writer_beat_is_single check (is_single),
    epoch bigint not null default 0,
    beat_at timestamptz not null default now()
);
insert into mirror.writer_beat default values;
comment on table mirror.writer_beat is 'The last sign of life of the writer, every second: one row. Apart from mirror.writer, whose row a long transaction of the writer holds.';
comment on column mirror.writer_beat.is_single is 'Keeps it at one row.';
comment on column mirror.writer_beat.epoch is 'Of which writer.';
comment on column mirror.writer_beat.beat_at is 'When.';

create function mirror.hold_writer(held bigint) returns void language plpgsql as $$
begin
    perform from mirror.writer where epoch = held for share;
    if not found then
        raise exception 'another plait has taken over' using errcode = 'PL001';
    end if;
end
$$;
comment on function mirror.hold_writer(bigint) is 'Fails unless the epoch is the writer''s; while the transaction is open, nobody takes the place.';

create table mirror.standby (
    owner uuid constraint standby_pkey primary key,
    host text not null,
    process_pid integer not null,
    since timestamptz not null default now(),
    seen_at timestamptz not null default now()
);
comment on table mirror.standby is 'Runs that wait for the writer''s place.';
comment on column mirror.standby.owner is 'The run.';
comment on column mirror.standby.host is 'The machine that it waits on.';
comment on column mirror.standby.process_pid is 'Its process there.';
comment on column mirror.standby.since is 'Since when it waits.';
comment on column mirror.standby.seen_at is 'Its last sign of life; old: it is gone.';

create table mirror.task (
    task text constraint task_pkey primary key,
    is_well boolean not null,
    words text not null,
    since timestamptz,
    beat_at timestamptz not null,
    reported_at timestamptz not null default now()
);
comment on table mirror.task is 'What a running plait last said of each of its tasks; `plait status` shows those that are not well.';
comment on column mirror.task.task is 'Its name: apply, push directus, alerts, …';
comment on column mirror.task.is_well is 'Whether it does its work.';
comment on column mirror.task.words is 'What it is at, or what is wrong with it, for people.';
comment on column mirror.task.since is 'Since when it is not well.';
comment on column mirror.task.beat_at is 'When it last finished a round of its work.';
comment on column mirror.task.reported_at is 'When this was said; old: plait is not running.';

alter table mirror.capture_status
    add column retained_bytes bigint,
    add column retained_bytes_max bigint,
    add column wal_status text;
comment on column mirror.capture_status.retained_bytes is 'Log that the side''s server keeps for us; null: it has none, or did not tell.';
comment on column mirror.capture_status.retained_bytes_max is 'What it keeps at most before it gives us up (max_slot_wal_keep_size); null: no limit but its disk.';
comment on column mirror.capture_status.wal_status is 'Postgres''s word for it: reserved, extended, unreserved, lost.';
comment on column mirror.capture_status.state is 'starting, copying, streaming, behind, held up, waiting, suspended, stopped.';

alter table mirror.operation add column under_way_until timestamptz;
comment on column mirror.operation.under_way_until is 'Bound by a writer that was replaced and may not have ended: what it sent of this has, by then. Not sent again before.';

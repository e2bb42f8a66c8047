-- What may ask for a part of Airtable's allowance, and what has used it lately.

create table mirror.guest (
    is_single boolean not null default true constraint guest_pkey primary key constraint guest_is_single check (is_single),
    asked_at timestamptz not null
);
comment on table mirror.guest is 'When a command last asked the running plait to leave it room in what Airtable allows: one row, or none. A notification of it wakes; only this row, which readers may not write, takes anything.';
comment on column mirror.guest.is_single is 'Keeps it at one row.';

create table mirror.api_call_day (
    day date not null,
    base text not null,
    call_count bigint not null,
    constraint api_call_day_pkey primary key (base, day)
);
comment on table mirror.api_call_day is 'Calls to the Airtable API, a row a base and day (UTC), of the last weeks: the pace by which the month''s are forecast. Counted with mirror.api_call.';
comment on column mirror.api_call_day.base is 'app…';

-- How many calls each Airtable base has cost: the plan of a workspace allows so many in a month.

create table mirror.api_call (
    month date not null,
    base text not null,
    call_count bigint not null,
    counted_at timestamptz not null default now(),
    constraint api_call_pkey primary key (base, month)
);
comment on table mirror.api_call is 'Calls to the Airtable API, a row a base and calendar month (UTC). Each process adds its own now and then: what a crash loses is a minute''s worth at most.';
comment on column mirror.api_call.month is 'Its first day.';
comment on column mirror.api_call.base is 'app…';
comment on column mirror.api_call.counted_at is 'When it was last added to.';

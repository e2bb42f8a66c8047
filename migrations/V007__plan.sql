-- What people were shown before the first push.

create table mirror.plan (
    plan_id bigint generated always as identity constraint plan_pkey primary key,
    digest text not null,
    tallies jsonb not null,
    shown_at timestamptz not null default now()
);
comment on table mirror.plan is 'Plans of what is owed to the sides and not approved, as they were shown. Only the one that was shown last can be accepted, and only while it still holds.';
comment on column mirror.plan.digest is 'Digest over every cell of it.';
comment on column mirror.plan.tallies is 'How much there was to do, by entity and side: {"member": {"airtable": {"create": 3, …}}}.';

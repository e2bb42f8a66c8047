-- Which plans people have looked at: what is accepted is the one that was shown, or nothing.

create table mirror.plan (
    plan_digest text not null,
    shown_at timestamptz not null default now(),
    shown_to text not null,
    summary jsonb not null,
    constraint plan_pkey primary key (plan_digest)
);
create index plan_shown_at on mirror.plan (shown_at);
comment on table mirror.plan is 'Plans of first pushes that were shown to a person. Kept for a week, and for ever once accepted; they hold no values.';
comment on column mirror.plan.plan_digest is 'Digest of all that the plan would write, cell by cell, and of the fields that it accepts.';
comment on column mirror.plan.summary is '{"side entity kind": count}: to say what is different when the plan does not hold any more.';

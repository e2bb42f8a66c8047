-- What a line's figures are made of, without its rows.
create index cash_flow_line on canon.cash_flow (investment_id, flow_on) include (kind_code, amount, currency, quantity, deleted_at);
drop index canon.cash_flow_investment_id;
-- Who put money into a company twice: read in the order of the index, since there are about as many pairs as lines.
create index investment_member on canon.investment (member_id, startup_id) include (deleted_at);
create statistics canon.investment_pairs (ndistinct) on member_id, startup_id from canon.investment;
drop index canon.investment_member_id;
-- Companies that were written off: few.
create index valuation_write_off on canon.valuation (startup_id) include (as_of, approved_on)
    where method_code = 'write_off' and approved_on is not null and deleted_at is null;
-- Reports share out whole lines among workers. Postgres weighs that only for a query that has no workers of its own within,
-- and would rather have some read this table, which is small.
alter table canon.investment set (parallel_workers = 0);

-- Yearly statistics are read often and count everything: they are kept, and counted anew after a change. A row for each
-- statement that changed what they count; whoever keeps them deletes the rows that he saw, so that a transaction that was
-- not over yet leaves its own behind.
create table mirror.canon_change (
    change_id bigint generated always as identity constraint canon_change_pkey primary key
);
comment on table mirror.canon_change is 'Changes of what kept reports count, since these were last kept. Empty: they are up to date.';
comment on column mirror.canon_change.change_id is 'Which.';

create table mirror.kept_report (
    name text constraint kept_report_pkey primary key,
    made_on date not null,
    made_at timestamptz not null default now(),
    rows jsonb not null
);
comment on table mirror.kept_report is 'Reports that are kept, to be read at once. Written by plait run.';
comment on column mirror.kept_report.name is 'The view in the schema report.';
comment on column mirror.kept_report.made_on is 'The day that it is of.';
comment on column mirror.kept_report.made_at is 'When it was made.';
comment on column mirror.kept_report.rows is 'Its rows, an array of objects.';

-- All names are whole: to set a path would cost as much again, at each statement.
create function mirror.note_canon_change() returns trigger language plpgsql security definer as $$
begin
    insert into mirror.canon_change default values;
    return null;
end
$$;
comment on function mirror.note_canon_change is 'Says that kept reports are no longer up to date.';

-- Always: also for who loads data as a replica does.
do $$
declare
    name text;
begin
    foreach name in array array['member', 'project', 'stage', 'investment', 'cash_flow', 'cash_flow_kind'] loop
        execute format('create trigger kept_reports after insert or update or delete or truncate on canon.%I
            for each statement execute function mirror.note_canon_change()', name);
        execute format('alter table canon.%I enable always trigger kept_reports', name);
    end loop;
end
$$;

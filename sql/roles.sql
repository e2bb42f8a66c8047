-- The reporting roles, and which rows an investor sees. Run by `plait setup roles`; sql/grants.sql comes after it.
-- Row-level security is for those who are no owner: plait itself is not slowed, and reads and writes everything.

do $$
begin
    if to_regrole('plait_analyst') is null then
        create role plait_analyst nologin;
    end if;
    if to_regrole('plait_delegate') is null then
        create role plait_delegate nologin;
    end if;
    if to_regrole('plait_investor') is null then
        create role plait_investor nologin;
    end if;
    if not pg_has_role('plait_delegate', 'plait_analyst', 'member') then
        grant plait_analyst to plait_delegate;
    end if;
end
$$;

-- Readers read: no temporary tables, which fill the disk. Whoever does not own the database is warned, and told by
-- `plait setup roles`.
do $$
begin
    execute format('revoke temporary on database %I from public', current_database());
end
$$;

alter table report.reader enable row level security;
alter table canon.member enable row level security;
alter table canon.startup enable row level security;
alter table canon.round enable row level security;
alter table canon.investment enable row level security;
alter table canon.cash_flow enable row level security;
alter table canon.valuation enable row level security;

drop policy if exists own on report.reader;
create policy own on report.reader for select to plait_investor using (role_name = current_user);

do $$
declare
    name text;
begin
    foreach name in array array['member', 'startup', 'round', 'investment', 'cash_flow', 'valuation'] loop
        execute format('drop policy if exists staff on canon.%I', name);
        execute format('create policy staff on canon.%I for select to plait_analyst using (true)', name);
        execute format('drop policy if exists own on canon.%I', name);
    end loop;
end
$$;
create policy own on canon.member for select to plait_investor using (id = (select report.reader_member_id()));
create policy own on canon.investment for select to plait_investor using (member_id = (select report.reader_member_id()));
create policy own on canon.cash_flow for select to plait_investor using (investment_id in (select i.id from canon.investment i));
create policy own on canon.startup for select to plait_investor using (id in (select i.startup_id from canon.investment i));
create policy own on canon.round for select to plait_investor using (id in (select i.round_id from canon.investment i));
-- Of a price, only what was decided: drafts, and what was taken back, are the staff's.
create policy own on canon.valuation for select to plait_investor
    using (approved_on is not null and deleted_at is null and startup_id in (select i.startup_id from canon.investment i));

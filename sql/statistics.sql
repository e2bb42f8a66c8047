-- The network in figures: by year, vintage, sector, region; how concentrated it is; how its lines ended.

-- Yearly statistics count everything there is, and are read often: `plait run` keeps them (report.keep), and they are read
-- from there as long as nothing has changed since. Everybody who may read them reads all of it.
create or replace function report.kept(name text) returns jsonb
language sql stable parallel safe security definer set search_path = pg_catalog, pg_temp as $$
    select k.rows from mirror.kept_report k
    where k.name = kept.name and k.made_on = current_date and not exists (select from mirror.canon_change)
$$;
comment on function report.kept is 'The rows of a report that is kept, if it is up to date; else null.';

create or replace view report.network_by_year_counted with (security_invoker) as
with years as (
    select generate_series(
        (select min(extract(year from d))::integer from (
            select min(joined_on) from canon.member union all select min(submitted_on) from canon.project
            union all select min(signed_on) from canon.investment) x (d)),
        extract(year from current_date)::integer) as year
),
members as (
    select extract(year from m.joined_on)::integer as year, count(*) as joined_count
    from canon.member m where m.deleted_at is null group by 1
),
projects as (
    select extract(year from p.submitted_on)::integer as year, count(*) as count,
           count(*) filter (where s.kind = 'won') as funded_count, sum(p.amount_sought) as sought
    from canon.project p left join canon.stage s on s.code = p.stage_code where p.deleted_at is null group by 1
),
paid as materialized (
    select extract(year from f.flow_on)::integer as year, i.currency, i.id, i.member_id, i.startup_id, -f.amount as amount
    from canon.cash_flow f
    join canon.cash_flow_kind k on k.code = f.kind_code and k.counts_as = 'paid in'
    join canon.investment i on i.id = f.investment_id and i.deleted_at is null and i.currency = f.currency
    where f.deleted_at is null and f.flow_on <= current_date
),
invested as (
    select p.year, p.currency, sum(p.amount) as invested, count(distinct p.id) as line_count, count(distinct p.member_id) as investor_count,
           count(distinct p.startup_id) as startup_count, count(distinct p.startup_id) filter (where b.year = p.year) as new_startup_count,
           sum(p.amount) filter (where b.year < p.year) as follow_on
    from paid p
    left join (select startup_id, min(year) as year from paid group by startup_id) b using (startup_id)
    group by p.year, p.currency
),
proceeds as (
    -- By day first: there are few of them.
    select extract(year from d.flow_on)::integer as year, d.currency, sum(d.amount) as proceeds
    from (
        select f.flow_on, f.currency, sum(f.amount) as amount
        from canon.cash_flow f
        join canon.cash_flow_kind k on k.code = f.kind_code and k.counts_as = 'proceeds'
        join canon.investment i on i.id = f.investment_id and i.deleted_at is null and i.currency = f.currency
        where f.deleted_at is null and f.flow_on <= current_date
        group by f.flow_on, f.currency
    ) d
    group by 1, 2
),
flows as (
    select year, currency, i.invested, i.line_count, i.investor_count, i.startup_count, i.new_startup_count, i.follow_on, p.proceeds
    from invested i full join proceeds p using (year, currency)
)
select y.year, f.currency, coalesce(m.joined_count, 0)::integer as member_joined_count, coalesce(p.count, 0)::integer as project_count,
       coalesce(p.funded_count, 0)::integer as project_funded_count, coalesce(p.sought, 0)::numeric(18,2) as amount_sought,
       coalesce(f.investor_count, 0)::integer as investor_count, coalesce(f.startup_count, 0)::integer as startup_count,
       coalesce(f.new_startup_count, 0)::integer as new_startup_count, coalesce(f.line_count, 0)::integer as line_count,
       coalesce(f.invested, 0)::numeric(18,2) as invested, coalesce(f.follow_on, 0)::numeric(18,2) as invested_follow_on,
       coalesce(f.proceeds, 0)::numeric(18,2) as proceeds, (f.invested / nullif(f.line_count, 0))::numeric(18,2) as ticket_mean
from years y
left join members m using (year)
left join projects p using (year)
left join flows f using (year);
comment on view report.network_by_year_counted is 'The same as report.network_by_year, counted anew each time.';

create or replace view report.network_by_year with (security_invoker) as
select k.* from jsonb_populate_recordset(null::report.network_by_year_counted, report.kept('network_by_year')) k
union all
select c.* from report.network_by_year_counted c where report.kept('network_by_year') is null;
comment on view report.network_by_year is 'A row a year and currency: members who joined, applications, what was invested and what came back in that year.';

-- Refused to who sees only some rows: it is for everybody.
create or replace function report.keep() returns void
language plpgsql set row_security = off as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'report.keep has to see what was committed before it: call it in a transaction that is read committed'
            using errcode = 'invalid_transaction_state';
    end if;
    -- One at a time, and each with what the one before has seen.
    perform pg_advisory_xact_lock(hashtext('report.keep'));
    -- One statement, so that what is deleted is what is counted.
    with seen as (delete from mirror.canon_change)
    insert into mirror.kept_report (name, made_on, rows)
    select 'network_by_year', current_date, coalesce(jsonb_agg(to_jsonb(c)), '[]') from report.network_by_year_counted c
    on conflict (name) do update set made_on = excluded.made_on, made_at = excluded.made_at, rows = excluded.rows;
end
$$;
comment on function report.keep is 'Counts the reports that are kept. For plait run.';

create or replace view report.network_by_vintage with (security_invoker) as
with lines as materialized (
    select extract(year from l.first_on)::integer as vintage, l.currency, l.startup_id, l.invested, l.proceeds, l.fair_value,
           l.flow_amounts, l.flow_years
    from report.line_returns(current_date) l
    where l.first_on is not null
)
select g.vintage, g.currency, g.startup_count, g.line_count, g.invested::numeric(18,2), g.proceeds::numeric(18,2), g.fair_value::numeric(18,2),
       ((g.proceeds + g.fair_value) / nullif(g.invested, 0))::numeric(18,6) as multiple, (g.proceeds / nullif(g.invested, 0))::numeric(18,6) as dpi,
       (g.loss_count / nullif(g.line_count, 0)::numeric)::numeric(9,6) as loss_ratio,
       (x.irr).rate::numeric(18,9) as irr, (x.irr).status as irr_status
from (
    select l.vintage, l.currency, count(distinct l.startup_id)::integer as startup_count, count(*)::integer as line_count,
           sum(l.invested) as invested, sum(l.proceeds) as proceeds, sum(l.fair_value) as fair_value,
           count(*) filter (where l.fair_value + l.proceeds < l.invested) as loss_count
    from lines l
    group by l.vintage, l.currency
) g
left join (
    -- By day first: there are few of them.
    select d.vintage, d.currency, array_agg(d.amount) as amounts, array_agg(d.years) as years
    from (
        select l.vintage, l.currency, f.years, round(sum(f.amount)::numeric, 2)::float8 as amount
        from lines l cross join lateral unnest(l.flow_amounts, l.flow_years) f (amount, years)
        group by l.vintage, l.currency, f.years
    ) d
    where d.amount <> 0
    group by d.vintage, d.currency
) d on d.vintage = g.vintage and d.currency = g.currency
cross join lateral (
    select report.irr_of(d.amounts, d.years, make_date(g.vintage, 1, 1), g.fair_value, current_date) as irr order by null::integer
) x;
comment on view report.network_by_vintage is 'A row a year of first payment and currency: what became of the lines that began in it.';

create or replace view report.network_by_sector with (security_invoker) as
select s.sector_code, c.label_fr as sector_fr, c.label_en as sector_en, l.currency, count(distinct l.startup_id)::integer as startup_count,
       count(distinct l.member_id)::integer as investor_count, count(*)::integer as line_count, sum(l.invested)::numeric(18,2) as invested,
       sum(l.proceeds)::numeric(18,2) as proceeds, sum(l.fair_value)::numeric(18,2) as fair_value,
       ((sum(l.proceeds) + sum(l.fair_value)) / nullif(sum(l.invested), 0))::numeric(18,6) as multiple,
       (sum(l.invested) / nullif(sum(sum(l.invested)) over (partition by l.currency), 0))::numeric(9,6) as share_of_invested
from report.line_returns(current_date) l
left join canon.startup s on s.id = l.startup_id
left join canon.sector c on c.code = s.sector_code
group by s.sector_code, c.label_fr, c.label_en, l.currency;
comment on view report.network_by_sector is 'A row a sector and currency: companies, lines, what was invested, what came back and what is held.';

create or replace view report.network_by_region with (security_invoker) as
select p.region, p.currency, count(*)::integer as project_count, (count(*) filter (where s.kind = 'won'))::integer as funded_count,
       count(distinct p.startup_id) filter (where f.invested > 0)::integer as startup_count,
       sum(f.invested) filter (where p.is_first)::numeric(18,2) as invested
from (
    select p.region, p.currency, p.startup_id, p.stage_code, row_number() over (partition by p.startup_id order by p.submitted_on, p.id) = 1 as is_first
    from canon.project p where p.deleted_at is null
) p
left join canon.stage s on s.code = p.stage_code
left join (
    select i.startup_id, i.currency, sum(-f.amount) as invested
    from canon.investment i
    join canon.cash_flow f on f.investment_id = i.id and f.deleted_at is null and f.currency = i.currency and f.flow_on <= current_date
    join canon.cash_flow_kind k on k.code = f.kind_code and k.counts_as = 'paid in'
    where i.deleted_at is null
    group by i.startup_id, i.currency
) f on f.startup_id = p.startup_id and f.currency = p.currency
group by p.region, p.currency;
comment on view report.network_by_region is 'A row a region and currency: applications, and what was invested in the companies behind them (each counted where it applied first).';

create or replace view report.concentration with (security_invoker) as
select case when x.is_startup then 'startup' else 'investor' end as dimension, case when x.is_startup then x.startup_id else x.member_id end as id,
       case when x.is_startup then s.name else nullif(concat_ws(' ', m.first_name, m.last_name), '') end as label, x.currency,
       x.invested::numeric(18,2), x.fair_value::numeric(18,2), row_number() over size as rank,
       (x.invested / nullif(sum(x.invested) over total, 0))::numeric(9,6) as share_of_invested,
       (sum(x.invested) over (size rows unbounded preceding) / nullif(sum(x.invested) over total, 0))::numeric(9,6) as share_with_those_before
from (
    select l.startup_id, l.member_id, l.currency, grouping(l.startup_id) = 0 as is_startup, sum(l.invested) as invested, sum(l.fair_value) as fair_value
    from report.line_returns(current_date) l
    group by grouping sets ((l.startup_id, l.currency), (l.member_id, l.currency))
) x
left join canon.startup s on x.is_startup and s.id = x.startup_id
left join canon.member m on not x.is_startup and m.id = x.member_id
window total as (partition by x.is_startup, x.currency),
       size as (partition by x.is_startup, x.currency order by x.invested desc, x.startup_id, x.member_id);
comment on view report.concentration is 'A row a company, and a row an investor, by size: its share of all that was invested, and that of it and all larger ones.';

create or replace view report.exit_list with (security_invoker) as
select l.startup_id, s.name as startup, l.currency, l.value_basis as outcome, count(*)::integer as line_count,
       count(distinct l.member_id)::integer as investor_count, min(l.first_on) as first_on, max(e.ended_on) as ended_on,
       sum(l.invested)::numeric(18,2) as invested, sum(l.proceeds)::numeric(18,2) as proceeds,
       (sum(l.proceeds) / nullif(sum(l.invested), 0))::numeric(18,6) as multiple,
       (sum(l.proceeds) - sum(l.invested))::numeric(18,2) as gain
from report.line_returns(current_date) l
left join canon.startup s on s.id = l.startup_id
left join lateral (
    select max(f.flow_on) as ended_on
    from canon.cash_flow f join canon.cash_flow_kind k on k.code = f.kind_code and k.ends_line
    where f.investment_id = l.investment_id and f.deleted_at is null and f.flow_on <= current_date
) e on true
where l.value_basis in ('exited', 'written off')
group by l.startup_id, s.name, l.currency, l.value_basis;
comment on view report.exit_list is 'A row a company and outcome: lines that were sold or repaid, and lines that were lost, with what came back of them.';

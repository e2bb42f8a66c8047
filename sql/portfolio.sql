-- Lines of investors, and their sums. Facts count by business date up to `as_of`, from what was known at `known_at`
-- (null: now). Money is rounded to the cent at the line: every total is the sum of its lines. Amounts of another
-- currency than their line's are left out (report.data_quality lists them); sums are by currency.
--
-- Per line: invested = what was paid in, fees apart; proceeds = what came back; fair value = securities held x the
-- latest approved price of their class, or cost where there is none or the instrument is worth its cost; multiple (MOIC,
-- TVPI) = (proceeds + fair value) / invested; DPI = proceeds / invested; RVPI = fair value / invested. A part that is
-- sold takes its part of the cost, by average cost.

create or replace function report.movement_at(as_of date, known_at timestamptz default null)
returns table (
    cash_flow_id uuid, investment_id uuid, reference text, member_id uuid, investor text, startup_id uuid, startup text,
    flow_on date, kind_code text, kind_fr text, kind_en text, counts_as text, amount numeric, currency char(3),
    quantity numeric, label text
)
language sql stable parallel safe as $$
    select f.id, i.id, i.reference, i.member_id, concat_ws(' ', m.first_name, m.last_name), i.startup_id, s.name,
           f.flow_on, f.kind_code, k.label_fr, k.label_en, k.counts_as, f.amount, f.currency, f.quantity, f.label
    from report.known_cash_flow(movement_at.known_at) f
    join report.known_investment(movement_at.known_at) i on i.id = f.investment_id
    join canon.cash_flow_kind k on k.code = f.kind_code
    left join canon.member m on m.id = i.member_id
    left join canon.startup s on s.id = i.startup_id
    where f.flow_on <= movement_at.as_of
$$;
comment on function report.movement_at is 'Movements of money of all lines up to a day; see the view report.movement.';

do $$
begin
    if to_regprocedure('report.array_concat(anycompatiblearray)') is null then
        create aggregate report.array_concat(anycompatiblearray) (
            sfunc = array_cat, combinefunc = array_cat, stype = anycompatiblearray, initcond = '{}', parallel = safe
        );
    end if;
end
$$;
comment on aggregate report.array_concat(anycompatiblearray) is 'One array of all: {1,2} and {3} make {1,2,3}.';

-- The figures of each line, without names: what the other functions add up.
create or replace function report.line_figures_now(as_of date)
returns table (
    investment_id uuid, reference text, member_id uuid, startup_id uuid, round_id uuid, instrument_code text, status_code text,
    wrapper text, signed_on date, quantity numeric, unit_price numeric, currency char(3), first_on date,
    committed numeric, invested numeric, fees numeric, proceeds numeric, quantity_held numeric, cost_held numeric,
    fair_value numeric, value_basis text, price numeric, price_as_of date, share_now numeric,
    amounts numeric[], dates date[]
)
language sql stable parallel safe as $$
    select i.id, i.reference, i.member_id, i.startup_id, i.round_id, i.instrument_code, i.status_code, i.wrapper, i.signed_on,
           i.quantity, i.unit_price, i.currency, f.first_on,
           i.committed, f.invested, f.fees, f.proceeds, h.quantity, h.cost, w.fair_value, w.basis,
           case when w.basis = 'priced' then v.price end,
           case when w.basis = 'priced' then v.as_of end,
           case when w.basis = 'priced' and v.equity_value > 0 and v.price > 0 then h.quantity * v.price / v.equity_value end,
           f.amounts, f.dates
    from canon.investment i
    left join canon.instrument n on n.code = i.instrument_code
    cross join lateral (
        select coalesce(sum(-c.amount) filter (where k.counts_as = 'paid in' and c.flow_on <= line_figures_now.as_of), 0) as invested,
               coalesce(sum(-c.amount) filter (where k.counts_as = 'fee' and c.flow_on <= line_figures_now.as_of), 0) as fees,
               coalesce(sum(c.amount) filter (where k.counts_as = 'proceeds' and c.flow_on <= line_figures_now.as_of), 0) as proceeds,
               coalesce(sum(c.quantity) filter (where k.ends_line and c.flow_on <= line_figures_now.as_of), 0) as quantity_gone,
               coalesce(sum(c.amount) filter (where c.kind_code = 'repayment' and c.flow_on <= line_figures_now.as_of), 0) as repaid,
               min(c.flow_on) filter (where k.counts_as = 'paid in' and c.flow_on <= line_figures_now.as_of) as first_on,
               max(c.flow_on) filter (where k.ends_line) as gone_on,
               array_agg(c.amount) filter (where k.counts_as <> 'fee' and c.flow_on <= line_figures_now.as_of) as amounts,
               array_agg(c.flow_on) filter (where k.counts_as <> 'fee' and c.flow_on <= line_figures_now.as_of) as dates
        from canon.cash_flow c
        join canon.cash_flow_kind k on k.code = c.kind_code
        where c.investment_id = i.id and c.currency = i.currency and c.deleted_at is null
    ) f
    -- A loss of the whole company is one of every class.
    left join lateral (
        select p.as_of, p.price, p.equity_value, p.method_code
        from canon.valuation p
        where p.startup_id = i.startup_id and p.as_of <= line_figures_now.as_of and p.approved_on is not null and p.deleted_at is null
          and p.currency = i.currency
          and (p.method_code = 'write_off' or coalesce(p.instrument_code, 'ao') = coalesce(i.instrument_code, 'ao'))
        order by p.as_of desc, p.approved_on desc, p.id
        limit 1
    ) v on true
    left join lateral (
        select min(p.as_of) as as_of
        from canon.valuation p
        where i.status_code = 'written_off' and p.startup_id = i.startup_id and p.approved_on is not null and p.deleted_at is null
          and p.method_code = 'write_off'
    ) o on true
    -- Whether all of it has gone: as the line's status says, from the day of its last sale, repayment or
    -- liquidation on, or of the valuation that writes it off; from the first day where there is neither.
    cross join lateral (
        select case
            when i.status_code = 'exited' then coalesce(f.gone_on <= line_figures_now.as_of, true)
            when i.status_code = 'written_off' then coalesce(f.gone_on <= line_figures_now.as_of, o.as_of <= line_figures_now.as_of, true)
            else false
        end as is_gone
    ) e
    cross join lateral (
        select case when e.is_gone then 0 when i.quantity is not null then greatest(i.quantity - f.quantity_gone, 0) end as quantity,
               case
                   when e.is_gone then 0
                   when n.valued_at = 'cost' and f.quantity_gone = 0 then greatest(f.invested - f.repaid, 0)
                   when i.quantity > 0 then round(f.invested * greatest(i.quantity - f.quantity_gone, 0) / i.quantity, 2)
                   else f.invested
               end as cost
    ) h
    cross join lateral (
        select b.basis,
               case b.basis
                   when 'priced' then round(h.quantity * v.price, 2)
                   when 'cost' then h.cost
                   when 'unpriced, at cost' then h.cost
                   else 0
               end as fair_value
        from (
            select case
                when f.invested = 0 then 'not paid'
                when e.is_gone and i.status_code = 'written_off' or v.method_code = 'write_off' then 'written off'
                when e.is_gone then 'exited'
                when n.valued_at = 'cost' then 'cost'
                when v.price is not null and h.quantity is not null then 'priced'
                else 'unpriced, at cost'
            end as basis
        ) b
    ) w
    where i.deleted_at is null
$$;
comment on function report.line_figures_now is 'The figures of each line on a day, without names, from what is known now. amounts and dates: its movements, fees apart, for report.xirr.';

-- The same from what was known at an instant: the same text, over the rows of that time.
do $$
declare
    now_oid regprocedure := 'report.line_figures_now(date)';
    body text := (select p.prosrc from pg_proc p where p.oid = now_oid);
begin
    body := replace(body, 'line_figures_now.', 'line_figures_then.');
    body := regexp_replace(body, 'canon\.(investment|cash_flow|valuation) (\w+)', 'report.known_\1(line_figures_then.known_at) \2', 'g');
    body := regexp_replace(body, '(and|where) \w+\.deleted_at is null', '', 'g');
    execute format('create or replace function report.line_figures_then(as_of date, known_at timestamptz) returns %s language sql stable parallel safe as %L',
        pg_get_function_result(now_oid), body);
end
$$;
comment on function report.line_figures_then is 'The figures of each line on a day, from what was known at an instant.';

create or replace function report.line_figures(as_of date, known_at timestamptz default null)
returns table (
    investment_id uuid, reference text, member_id uuid, startup_id uuid, round_id uuid, instrument_code text, status_code text,
    wrapper text, signed_on date, quantity numeric, unit_price numeric, currency char(3), first_on date,
    committed numeric, invested numeric, fees numeric, proceeds numeric, quantity_held numeric, cost_held numeric,
    fair_value numeric, value_basis text, price numeric, price_as_of date, share_now numeric,
    amounts numeric[], dates date[]
)
language sql stable parallel safe as $$
    select l.* from report.line_figures_now(line_figures.as_of) l where line_figures.known_at is null
    union all
    select l.* from report.line_figures_then(line_figures.as_of, line_figures.known_at) l where line_figures.known_at is not null
$$;
comment on function report.line_figures is 'The figures of each line on a day, without names. amounts and dates: its movements, fees apart, for report.xirr.';

do $$
begin
    if to_regtype('report.irr') is null then
        create type report.irr as (rate numeric, status text);
    end if;
end
$$;

-- A rate of return says little in the first year; on request, report.xirr gives it all the same.
create or replace function report.irr_of(amounts numeric[], dates date[], first_on date, fair_value numeric, as_of date) returns report.irr
language plpgsql immutable parallel safe as $$
declare
    found record;
    answer report.irr;
begin
    if as_of - first_on < 365 then
        answer.status := 'young';
        return answer;
    end if;
    if fair_value <> 0 then
        amounts := amounts || fair_value;
        dates := dates || as_of;
    end if;
    found := report.xirr_with_status(coalesce(amounts, '{}'), coalesce(dates, '{}'));
    answer.status := found.status;
    if found.rate > 1e6 then
        answer.status := 'out_of_range';
    else
        answer.rate := round(found.rate::numeric, 9);
    end if;
    return answer;
end
$$;
comment on function report.irr_of is 'Rate of return a year of movements, the first of them on first_on, and what is held on a day, and its status: those of report.xirr_with_status, `young` for less than 365 days, `out_of_range` also for more than 1,000,000 a year.';

create or replace function report.portfolio_line_at(as_of date, known_at timestamptz default null)
returns table (
    investment_id uuid, reference text, member_id uuid, investor text, startup_id uuid, startup text, round_id uuid, round text,
    instrument_code text, instrument_fr text, instrument_en text, status_code text, status_fr text, status_en text,
    wrapper text, signed_on date, first_on date, currency char(3), committed numeric, uncalled numeric, invested numeric,
    fees numeric, proceeds numeric, quantity numeric, unit_price numeric, quantity_held numeric, cost_held numeric,
    fair_value numeric, value_basis text, price numeric, price_as_of date, gain_realised numeric, gain_unrealised numeric,
    multiple numeric, dpi numeric, rvpi numeric, irr numeric, irr_status text, share_entry numeric, share_now numeric,
    dilution numeric, is_follow_on boolean
)
language sql stable parallel safe as $$
    select l.investment_id, l.reference, l.member_id, concat_ws(' ', m.first_name, m.last_name), l.startup_id, s.name, l.round_id, r.name,
           l.instrument_code, n.label_fr, n.label_en, l.status_code, t.label_fr, t.label_en,
           l.wrapper, l.signed_on, l.first_on, l.currency, l.committed,
           case when l.status_code in ('committed', 'paid', 'held') then greatest(l.committed - l.invested, 0) else 0 end,
           l.invested, l.fees, l.proceeds, l.quantity, l.unit_price, l.quantity_held, l.cost_held,
           l.fair_value, l.value_basis, l.price, l.price_as_of,
           l.proceeds - (l.invested - l.cost_held), l.fair_value - l.cost_held,
           (l.proceeds + l.fair_value) / nullif(l.invested, 0), l.proceeds / nullif(l.invested, 0), l.fair_value / nullif(l.invested, 0),
           (x.irr).rate, (x.irr).status,
           o.share, l.share_now, 1 - l.share_now / nullif(o.share, 0),
           l.first_on > (
               select min(e.signed_on) from report.known_investment(portfolio_line_at.known_at) e
               where e.member_id = l.member_id and e.startup_id = l.startup_id and e.round_id is distinct from l.round_id
           )
    from report.line_figures(portfolio_line_at.as_of, portfolio_line_at.known_at) l
    left join canon.member m on m.id = l.member_id
    left join canon.startup s on s.id = l.startup_id
    left join canon.round r on r.id = l.round_id
    left join canon.instrument n on n.code = l.instrument_code
    left join canon.investment_status t on t.code = l.status_code
    cross join lateral (
        select case when n.valued_at is distinct from 'cost' then l.invested / nullif(r.pre_money + r.amount_raised, 0) end as share
    ) o
    -- An aggregate, so that it is reckoned once for both columns, and not at all where neither is asked for.
    cross join lateral (
        select (array_agg(report.irr_of(l.amounts, l.dates, l.first_on, l.fair_value, portfolio_line_at.as_of) order by q.one))[1] as irr
        from (values (1)) q (one)
    ) x
$$;
comment on function report.portfolio_line_at is 'Each line on a day; see the view report.portfolio_line.';

create or replace view report.portfolio_line with (security_invoker) as
select investment_id, reference, member_id, investor, startup_id, startup, round_id, round,
       instrument_code, instrument_fr, instrument_en, status_code, status_fr, status_en, wrapper, signed_on, first_on, currency,
       committed::numeric(18,2), uncalled::numeric(18,2), invested::numeric(18,2), fees::numeric(18,2), proceeds::numeric(18,2),
       quantity::numeric(20,6), unit_price::numeric(20,8), quantity_held::numeric(20,6), cost_held::numeric(18,2),
       fair_value::numeric(18,2), value_basis, price::numeric(20,8), price_as_of,
       gain_realised::numeric(18,2), gain_unrealised::numeric(18,2),
       multiple::numeric(18,6), dpi::numeric(18,6), rvpi::numeric(18,6), irr::numeric(18,9), irr_status,
       share_entry::numeric(9,6), share_now::numeric(9,6), dilution::numeric(18,6), is_follow_on
from report.portfolio_line_at(current_date);
comment on view report.portfolio_line is 'A row a line: what one investor put into one company at a time, what came back, what it is worth today.';

create or replace view report.movement with (security_invoker) as
select cash_flow_id, investment_id, reference, member_id, investor, startup_id, startup, flow_on, kind_code, kind_fr, kind_en,
       counts_as, amount::numeric(18,2), currency, quantity::numeric(20,6), label
from report.movement_at(current_date);
comment on view report.movement is 'A row a movement of money of a line, up to today; paid out by the investor is negative.';

-- ---- sums ------------------------------------------------------------------------------------------------------------------

create or replace function report.portfolio_by_investor_at(as_of date, known_at timestamptz default null)
returns table (
    member_id uuid, investor text, currency char(3), line_count integer, startup_count integer, first_on date, last_on date,
    committed numeric, invested numeric, fees numeric, proceeds numeric, cost_held numeric, fair_value numeric,
    fair_value_at_cost numeric, gain_realised numeric, gain_unrealised numeric, multiple numeric, dpi numeric, rvpi numeric,
    irr numeric, irr_status text, line_count_at_loss integer, line_count_written_off integer
)
language sql stable parallel safe as $$
    select g.member_id, concat_ws(' ', m.first_name, m.last_name), g.currency, g.line_count, g.startup_count, g.first_on, g.last_on,
           g.committed, g.invested, g.fees, g.proceeds, g.cost_held, g.fair_value, g.fair_value_at_cost,
           g.proceeds - (g.invested - g.cost_held), g.fair_value - g.cost_held,
           (g.proceeds + g.fair_value) / nullif(g.invested, 0), g.proceeds / nullif(g.invested, 0), g.fair_value / nullif(g.invested, 0),
           (x.irr).rate, (x.irr).status, g.line_count_at_loss, g.line_count_written_off
    from (
        select l.member_id, l.currency, count(*)::integer as line_count, count(distinct l.startup_id)::integer as startup_count,
               min(l.first_on) as first_on, max(l.first_on) as last_on, sum(l.committed) as committed, sum(l.invested) as invested,
               sum(l.fees) as fees, sum(l.proceeds) as proceeds, sum(l.cost_held) as cost_held, sum(l.fair_value) as fair_value,
               coalesce(sum(l.fair_value) filter (where l.value_basis in ('cost', 'unpriced, at cost')), 0) as fair_value_at_cost,
               (count(*) filter (where l.fair_value + l.proceeds < l.invested))::integer as line_count_at_loss,
               (count(*) filter (where l.value_basis = 'written off'))::integer as line_count_written_off,
               report.array_concat(l.amounts) as amounts, report.array_concat(l.dates) as dates
        from report.line_figures(portfolio_by_investor_at.as_of, portfolio_by_investor_at.known_at) l
        where l.member_id is not null
        group by l.member_id, l.currency
    ) g
    left join canon.member m on m.id = g.member_id
    cross join lateral (
        select (array_agg(report.irr_of(g.amounts, g.dates, g.first_on, g.fair_value, portfolio_by_investor_at.as_of) order by q.one))[1] as irr
        from (values (1)) q (one)
    ) x
$$;
comment on function report.portfolio_by_investor_at is 'Each investor''s portfolio on a day; see the view report.portfolio_by_investor.';

create or replace view report.portfolio_by_investor with (security_invoker) as
select member_id, investor, currency, line_count, startup_count, first_on, last_on,
       committed::numeric(18,2), invested::numeric(18,2), fees::numeric(18,2), proceeds::numeric(18,2), cost_held::numeric(18,2),
       fair_value::numeric(18,2), fair_value_at_cost::numeric(18,2), gain_realised::numeric(18,2), gain_unrealised::numeric(18,2),
       multiple::numeric(18,6), dpi::numeric(18,6), rvpi::numeric(18,6), irr::numeric(18,9), irr_status,
       line_count_at_loss, line_count_written_off
from report.portfolio_by_investor_at(current_date);
comment on view report.portfolio_by_investor is 'A row an investor and currency: the sums of his lines today, and his rate of return over all of them.';

create or replace function report.portfolio_by_startup_at(as_of date, known_at timestamptz default null)
returns table (
    startup_id uuid, startup text, sector_code text, sector_fr text, sector_en text, currency char(3), investor_count integer,
    line_count integer, first_on date, last_on date, committed numeric, invested numeric, fees numeric, proceeds numeric,
    cost_held numeric, fair_value numeric, fair_value_at_cost numeric, gain_realised numeric, gain_unrealised numeric,
    multiple numeric, dpi numeric, rvpi numeric, irr numeric, irr_status text, share_now numeric, price_as_of date
)
language sql stable parallel safe as $$
    select g.startup_id, s.name, s.sector_code, c.label_fr, c.label_en, g.currency, g.investor_count, g.line_count, g.first_on, g.last_on,
           g.committed, g.invested, g.fees, g.proceeds, g.cost_held, g.fair_value, g.fair_value_at_cost,
           g.proceeds - (g.invested - g.cost_held), g.fair_value - g.cost_held,
           (g.proceeds + g.fair_value) / nullif(g.invested, 0), g.proceeds / nullif(g.invested, 0), g.fair_value / nullif(g.invested, 0),
           (x.irr).rate, (x.irr).status, g.share_now, g.price_as_of
    from (
        select l.startup_id, l.currency, count(distinct l.member_id)::integer as investor_count, count(*)::integer as line_count,
               min(l.first_on) as first_on, max(l.first_on) as last_on, sum(l.committed) as committed, sum(l.invested) as invested,
               sum(l.fees) as fees, sum(l.proceeds) as proceeds, sum(l.cost_held) as cost_held, sum(l.fair_value) as fair_value,
               coalesce(sum(l.fair_value) filter (where l.value_basis in ('cost', 'unpriced, at cost')), 0) as fair_value_at_cost,
               sum(l.share_now) as share_now, max(l.price_as_of) as price_as_of,
               report.array_concat(l.amounts) as amounts, report.array_concat(l.dates) as dates
        from report.line_figures(portfolio_by_startup_at.as_of, portfolio_by_startup_at.known_at) l
        where l.startup_id is not null
        group by l.startup_id, l.currency
    ) g
    left join canon.startup s on s.id = g.startup_id
    left join canon.sector c on c.code = s.sector_code
    cross join lateral (
        select (array_agg(report.irr_of(g.amounts, g.dates, g.first_on, g.fair_value, portfolio_by_startup_at.as_of) order by q.one))[1] as irr
        from (values (1)) q (one)
    ) x
$$;
comment on function report.portfolio_by_startup_at is 'What is held of each company on a day; see the view report.portfolio_by_startup.';

create or replace view report.portfolio_by_startup with (security_invoker) as
select startup_id, startup, sector_code, sector_fr, sector_en, currency, investor_count, line_count, first_on, last_on,
       committed::numeric(18,2), invested::numeric(18,2), fees::numeric(18,2), proceeds::numeric(18,2), cost_held::numeric(18,2),
       fair_value::numeric(18,2), fair_value_at_cost::numeric(18,2), gain_realised::numeric(18,2), gain_unrealised::numeric(18,2),
       multiple::numeric(18,6), dpi::numeric(18,6), rvpi::numeric(18,6), irr::numeric(18,9), irr_status,
       share_now::numeric(9,6), price_as_of
from report.portfolio_by_startup_at(current_date);
comment on view report.portfolio_by_startup is 'A row a company and currency: the sums of all lines of it today.';

create or replace function report.network_total_at(as_of date, known_at timestamptz default null)
returns table (
    currency char(3), investor_count integer, startup_count integer, line_count integer, committed numeric, invested numeric,
    fees numeric, proceeds numeric, cost_held numeric, fair_value numeric, fair_value_at_cost numeric, gain_realised numeric,
    gain_unrealised numeric, multiple numeric, dpi numeric, rvpi numeric, irr numeric, irr_status text, loss_ratio numeric,
    line_count_at_loss integer, line_count_written_off integer
)
language sql stable parallel safe as $$
    select g.currency, g.investor_count, g.startup_count, g.line_count, g.committed, g.invested, g.fees, g.proceeds, g.cost_held,
           g.fair_value, g.fair_value_at_cost, g.proceeds - (g.invested - g.cost_held), g.fair_value - g.cost_held,
           (g.proceeds + g.fair_value) / nullif(g.invested, 0), g.proceeds / nullif(g.invested, 0), g.fair_value / nullif(g.invested, 0),
           (x.irr).rate, (x.irr).status, g.line_count_at_loss::numeric / nullif(g.paid_count, 0), g.line_count_at_loss, g.line_count_written_off
    from (
        select l.currency, count(distinct l.member_id)::integer as investor_count, count(distinct l.startup_id)::integer as startup_count,
               count(*)::integer as line_count, count(*) filter (where l.invested > 0) as paid_count, sum(l.committed) as committed,
               sum(l.invested) as invested, sum(l.fees) as fees, sum(l.proceeds) as proceeds, sum(l.cost_held) as cost_held,
               sum(l.fair_value) as fair_value,
               coalesce(sum(l.fair_value) filter (where l.value_basis in ('cost', 'unpriced, at cost')), 0) as fair_value_at_cost,
               (count(*) filter (where l.fair_value + l.proceeds < l.invested))::integer as line_count_at_loss,
               (count(*) filter (where l.value_basis = 'written off'))::integer as line_count_written_off
        from report.line_figures(network_total_at.as_of, network_total_at.known_at) l
        group by l.currency
    ) g
    cross join lateral (
        select report.irr_of(array_agg(d.amount), array_agg(d.flow_on), min(d.flow_on), g.fair_value, network_total_at.as_of) as irr
        from (
            select f.flow_on, sum(f.amount) as amount
            from report.known_investment(network_total_at.known_at) i
            join report.known_cash_flow(network_total_at.known_at) f on f.investment_id = i.id and f.currency = i.currency
            join canon.cash_flow_kind k on k.code = f.kind_code and k.counts_as <> 'fee'
            where i.currency = g.currency and f.flow_on <= network_total_at.as_of
            group by f.flow_on
        ) d
    ) x
$$;
comment on function report.network_total_at is 'All lines together on a day; see the view report.network_total.';

create or replace view report.network_total with (security_invoker) as
select currency, investor_count, startup_count, line_count, committed::numeric(18,2), invested::numeric(18,2), fees::numeric(18,2),
       proceeds::numeric(18,2), cost_held::numeric(18,2), fair_value::numeric(18,2), fair_value_at_cost::numeric(18,2),
       gain_realised::numeric(18,2), gain_unrealised::numeric(18,2), multiple::numeric(18,6), dpi::numeric(18,6),
       rvpi::numeric(18,6), irr::numeric(18,9), irr_status, loss_ratio::numeric(9,6), line_count_at_loss, line_count_written_off
from report.network_total_at(current_date);
comment on view report.network_total is 'A row a currency: all lines of all investors together today.';

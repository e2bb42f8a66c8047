-- Lines of investors, and their sums. Facts count by business date up to `as_of`, from what was known at `known_at`
-- (null: now). Money is rounded to the cent at the line: every total is the sum of its lines. Amounts of another
-- currency than their line's are left out (report.data_quality lists them); sums are by currency.
--
-- Per line: invested = what was paid in, fees apart; proceeds = what came back; fair value = securities held x the
-- latest approved price of their class, or cost where there is none or the instrument is worth its cost; multiple (MOIC,
-- TVPI) = (proceeds + fair value) / invested; DPI = proceeds / invested; RVPI = fair value / invested. A part that is
-- sold takes its part of the cost, by average cost.

create or replace function report.movement_now(as_of date)
returns table (
    cash_flow_id uuid, investment_id uuid, reference text, member_id uuid, investor text, startup_id uuid, startup text,
    flow_on date, kind_code text, kind_fr text, kind_en text, counts_as text, amount numeric, currency char(3),
    quantity numeric, label text
)
language sql stable parallel safe as $$
    select f.id as cash_flow_id, i.id as investment_id, i.reference, i.member_id, i.investor, i.startup_id, i.startup,
           f.flow_on, f.kind_code, k.label_fr as kind_fr, k.label_en as kind_en, k.counts_as, f.amount, f.currency, f.quantity, f.label
    from canon.cash_flow f
    -- Ordered by nothing, so that names are looked up for each line and not for each movement.
    join (
        select i.id, i.reference, i.member_id, concat_ws(' ', m.first_name, m.last_name) as investor, i.startup_id, s.name as startup
        from canon.investment i
        left join canon.member m on m.id = i.member_id
        left join canon.startup s on s.id = i.startup_id
        where i.deleted_at is null
        order by null::integer
    ) i on i.id = f.investment_id
    join canon.cash_flow_kind k on k.code = f.kind_code
    where f.flow_on <= movement_now.as_of and f.deleted_at is null
$$;
comment on function report.movement_now is 'Movements of money of all lines up to a day, from what is known now.';

-- The view is the same text: so the amounts are of their columns' types, and no million of them has to be cast.
do $$
begin
    execute 'create or replace view report.movement with (security_invoker) as' || replace(
        (select p.prosrc from pg_proc p where p.oid = 'report.movement_now(date)'::regprocedure), 'movement_now.as_of', 'current_date');
end
$$;
comment on view report.movement is 'A row a movement of money of a line, up to today; paid out by the investor is negative.';

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

create or replace function report.years(day date) returns float8
language sql immutable parallel safe as $$
    select (day - date '2000-01-01') / 365::float8
$$;
comment on function report.years is 'Time in years of 365 days, from the first day of 2000 on.';

-- The figures of each line, without names: what the other functions add up. Plain joins and one grouping, so that
-- Postgres may read one line's rows by their indexes, or all of them in order and with several workers. To order by
-- nothing keeps a subquery apart, so that what it works out is worked out once for all that is made of it, and not at all
-- where nothing is.
create or replace function report.line_figures_now(as_of date)
returns table (
    investment_id uuid, reference text, member_id uuid, startup_id uuid, round_id uuid, instrument_code text, status_code text,
    wrapper text, signed_on date, quantity numeric, unit_price numeric, currency char(3), first_on date,
    committed numeric, invested numeric, fees numeric, proceeds numeric, quantity_held numeric, cost_held numeric,
    fair_value numeric, value_basis text, price numeric, price_as_of date, share_now numeric, is_follow_on boolean,
    flow_amounts float8[], flow_years float8[]
)
language sql stable parallel safe as $$
    select b.id, b.reference, b.member_id, b.startup_id, b.round_id, b.instrument_code, b.status_code, b.wrapper, b.signed_on,
           b.quantity, b.unit_price, b.currency, b.first_on,
           b.committed, b.invested, b.fees, b.proceeds, b.quantity_held, b.cost_held,
           case b.basis
               when 'priced' then round(b.quantity_held * b.price, 2)
               when 'cost' then b.cost_held
               when 'unpriced, at cost' then b.cost_held
               else 0
           end,
           b.basis,
           case when b.basis = 'priced' then b.price end,
           case when b.basis = 'priced' then b.price_as_of end,
           case when b.basis = 'priced' and b.equity_value > 0 and b.price > 0 then b.quantity_held * b.price / b.equity_value end,
           b.is_follow_on, b.flow_amounts, b.flow_years
    from (
        select f.*, v.price, v.equity_value, v.as_of as price_as_of, h.quantity as quantity_held, h.cost as cost_held,
               case
                   when f.invested = 0 then 'not paid'
                   when e.is_gone and f.status_code = 'written_off' or e.is_lost then 'written off'
                   when e.is_gone then 'exited'
                   when n.valued_at = 'cost' then 'cost'
                   when v.price is not null and h.quantity is not null then 'priced'
                   else 'unpriced, at cost'
               end as basis,
               coalesce(f.first_on > a.signed_on and f.round_id is distinct from a.round_id, false) as is_follow_on
        from (
            select i.id, i.reference, i.member_id, i.startup_id, i.round_id, i.instrument_code, i.status_code, i.wrapper, i.signed_on,
                   i.quantity, i.unit_price, i.currency, i.committed,
                   coalesce(sum(-c.amount) filter (where k.counts_as = 'paid in' and c.flow_on <= line_figures_now.as_of), 0) as invested,
                   coalesce(sum(-c.amount) filter (where k.counts_as = 'fee' and c.flow_on <= line_figures_now.as_of), 0) as fees,
                   coalesce(sum(c.amount) filter (where k.counts_as = 'proceeds' and c.flow_on <= line_figures_now.as_of), 0) as proceeds,
                   coalesce(sum(c.quantity) filter (where k.ends_line and c.flow_on <= line_figures_now.as_of), 0) as quantity_gone,
                   coalesce(sum(c.amount) filter (where c.kind_code = 'repayment' and c.flow_on <= line_figures_now.as_of), 0) as repaid,
                   min(c.flow_on) filter (where k.counts_as = 'paid in' and c.flow_on <= line_figures_now.as_of) as first_on,
                   max(c.flow_on) filter (where k.ends_line) as gone_on,
                   array_agg(c.amount::float8) filter (where k.counts_as <> 'fee' and c.flow_on <= line_figures_now.as_of and c.amount <> 0) as flow_amounts,
                   array_agg(report.years(c.flow_on)) filter (where k.counts_as <> 'fee' and c.flow_on <= line_figures_now.as_of and c.amount <> 0) as flow_years
            from canon.investment i
            left join canon.cash_flow c on c.investment_id = i.id and c.currency = i.currency and c.deleted_at is null
            left join canon.cash_flow_kind k on k.code = c.kind_code
            where i.deleted_at is null
            group by i.id, i.reference, i.member_id, i.startup_id, i.round_id, i.instrument_code, i.status_code, i.wrapper, i.signed_on,
                     i.quantity, i.unit_price, i.currency, i.committed
        ) f
        left join canon.instrument n on n.code = f.instrument_code
        -- The latest price of its class.
        left join (
            select p.startup_id, p.currency, coalesce(p.instrument_code, 'ao') as class, p.as_of, p.approved_on, p.price, p.equity_value
            from canon.valuation p
            where p.as_of <= line_figures_now.as_of and p.approved_on is not null and p.deleted_at is null
              and not exists (
                  select from canon.valuation l
                  where l.startup_id = p.startup_id and l.currency = p.currency
                    and coalesce(l.instrument_code, 'ao') = coalesce(p.instrument_code, 'ao')
                    and l.as_of <= line_figures_now.as_of and l.approved_on is not null and l.deleted_at is null
                    and (l.as_of, l.approved_on, p.id) > (p.as_of, p.approved_on, l.id)
              )
        ) v on v.startup_id = f.startup_id and v.currency = f.currency and v.class = coalesce(f.instrument_code, 'ao')
        -- A loss of the whole company is one of every class and currency; entered with a price of the same day, it is the later one.
        left join (
            select p.startup_id, min(p.as_of) as first_on,
                   (max(array[p.as_of, p.approved_on]) filter (where p.as_of <= line_figures_now.as_of)) as last_on
            from canon.valuation p
            where p.method_code = 'write_off' and p.approved_on is not null and p.deleted_at is null
            group by p.startup_id
        ) o on o.startup_id = f.startup_id
        -- With what the investor first came into the company, where that may be another line.
        left join (
            select distinct on (p.member_id, p.startup_id) p.member_id, p.startup_id, p.signed_on, p.round_id
            from canon.investment p
            join (
                select q.member_id, q.startup_id from canon.investment q where q.deleted_at is null
                group by q.member_id, q.startup_id having count(*) > 1
            ) d on d.member_id = p.member_id and d.startup_id = p.startup_id
            where p.deleted_at is null
            order by p.member_id, p.startup_id, p.signed_on, p.id
        ) a on a.member_id = f.member_id and a.startup_id = f.startup_id
        -- Whether all of it has gone: as the line's status says, from the day of its last sale, repayment or
        -- liquidation on, or of the valuation that writes it off; from the first day where there is neither.
        cross join lateral (
            select case
                       when f.status_code = 'exited' then coalesce(f.gone_on <= line_figures_now.as_of, true)
                       when f.status_code = 'written_off' then coalesce(f.gone_on <= line_figures_now.as_of, o.first_on <= line_figures_now.as_of, true)
                       else false
                   end as is_gone,
                   o.last_on is not null and (v.as_of is null or o.last_on >= array[v.as_of, v.approved_on]) as is_lost
        ) e
        cross join lateral (
            select case when e.is_gone then 0 when f.quantity is not null then greatest(f.quantity - f.quantity_gone, 0) end as quantity,
                   case
                       when e.is_gone then 0
                       when n.valued_at = 'cost' and f.quantity_gone = 0 then greatest(f.invested - f.repaid, 0)
                       when f.quantity > 0 then round(f.invested * greatest(f.quantity - f.quantity_gone, 0) / f.quantity, 2)
                       else f.invested
                   end as cost
        ) h
        order by null::integer
    ) b
$$;
comment on function report.line_figures_now is 'The figures of each line on a day, without names, from what is known now. flow_amounts and flow_years: its movements, fees apart, for report.irr_of.';

-- The same from what was known at an instant: the same text, over the rows of that time.
do $$
declare
    name text;
    now_oid regprocedure;
    body text;
begin
    foreach name in array array['movement', 'line_figures'] loop
        now_oid := format('report.%s_now(date)', name);
        body := replace((select p.prosrc from pg_proc p where p.oid = now_oid), name || '_now.', name || '_then.');
        body := regexp_replace(body, 'canon\.(investment|cash_flow|valuation) (\w+)', format('report.known_\1(%s_then.known_at) \2', name), 'g');
        body := regexp_replace(body, '(and|where) \w+\.deleted_at is null', '', 'g');
        execute format('create or replace function report.%s_then(as_of date, known_at timestamptz) returns %s language sql stable parallel safe as %L',
            name, pg_get_function_result(now_oid), body);
    end loop;
end
$$;
comment on function report.movement_then is 'Movements of money of all lines up to a day, from what was known at an instant.';
comment on function report.line_figures_then is 'The figures of each line on a day, from what was known at an instant.';

create or replace function report.movement_at(as_of date, known_at timestamptz default null)
returns table (
    cash_flow_id uuid, investment_id uuid, reference text, member_id uuid, investor text, startup_id uuid, startup text,
    flow_on date, kind_code text, kind_fr text, kind_en text, counts_as text, amount numeric, currency char(3),
    quantity numeric, label text
)
language sql stable parallel safe as $$
    select m.* from report.movement_now(movement_at.as_of) m where movement_at.known_at is null
    union all
    select m.* from report.movement_then(movement_at.as_of, movement_at.known_at) m where movement_at.known_at is not null
$$;
comment on function report.movement_at is 'Movements of money of all lines up to a day; see the view report.movement.';

create or replace function report.line_figures(as_of date, known_at timestamptz default null)
returns table (
    investment_id uuid, reference text, member_id uuid, startup_id uuid, round_id uuid, instrument_code text, status_code text,
    wrapper text, signed_on date, quantity numeric, unit_price numeric, currency char(3), first_on date,
    committed numeric, invested numeric, fees numeric, proceeds numeric, quantity_held numeric, cost_held numeric,
    fair_value numeric, value_basis text, price numeric, price_as_of date, share_now numeric, is_follow_on boolean,
    flow_amounts float8[], flow_years float8[]
)
language sql stable parallel safe as $$
    select l.* from report.line_figures_now(line_figures.as_of) l where line_figures.known_at is null
    union all
    select l.* from report.line_figures_then(line_figures.as_of, line_figures.known_at) l where line_figures.known_at is not null
$$;
comment on function report.line_figures is 'The figures of each line on a day, without names. flow_amounts and flow_years: its movements, fees apart, for report.irr_of.';

do $$
begin
    if to_regtype('report.irr') is null then
        create type report.irr as (rate numeric, status text);
    end if;
end
$$;

-- A rate of return says little in the first year; on request, report.xirr gives it all the same.
--
-- Most lines are simple: all was paid before anything came back, so that there is one rate and no more, and Newton finds it
-- in two steps or three. That is tried first, on the movements as they come, since a report may ask for as many rates as
-- there are lines; what it does not settle is for report.xirr_with_status.
create or replace function report.irr_of(flow_amounts float8[], flow_years float8[], first_on date, fair_value numeric, as_of date) returns report.irr
language plpgsql immutable parallel safe cost 200 as $$
declare
    n constant integer := coalesce(cardinality(flow_amounts), 0);
    held constant float8 := fair_value;
    now_at constant float8 := report.years(as_of);
    -- Worth of what comes in and of what goes out, and the same times the years, at x = ln(1 + rate); at 0 first.
    coming float8 := held;
    going float8 := 0;
    coming_time float8 := held * now_at;
    going_time float8 := 0;
    first_in float8 := case when held > 0 then now_at end;
    first_out float8;
    last_out float8;
    w float8;
    x float8;
    slope float8;
    step float8;
    bend float8;
    is_settled boolean := false;
    a float8[];
    t float8[];
    found record;
    answer report.irr;
begin
    if as_of - first_on < 365 then
        answer.status := 'young';
        return answer;
    end if;
    for i in 1..n loop
        if flow_amounts[i] > 0 then
            coming := coming + flow_amounts[i];
            coming_time := coming_time + flow_amounts[i] * flow_years[i];
            first_in := least(first_in, flow_years[i]);
        else
            going := going - flow_amounts[i];
            going_time := going_time - flow_amounts[i] * flow_years[i];
            first_out := least(first_out, flow_years[i]);
            last_out := greatest(last_out, flow_years[i]);
        end if;
    end loop;
    -- At 66 years e^600 is no overflow yet.
    if held >= 0 and coming > 0 and going > 0 and least(first_in, first_out) > -66 and now_at < 66 then
        slope := going_time / going - coming_time / coming;
        x := ln(coming / going) / nullif(-slope, 0);
        -- Half of what the slope may change by, a unit of x.
        bend := (now_at - least(first_in, first_out)) ^ 2 / 8;
        for i in 1..20 loop
            exit when not (slope < 0 and abs(x) < 9);
            w := exp(-x * now_at) * held;
            coming := w;
            coming_time := w * now_at;
            going := 0;
            going_time := 0;
            for i in 1..n loop
                w := flow_amounts[i] * exp(-x * flow_years[i]);
                if w > 0 then
                    coming := coming + w;
                    coming_time := coming_time + w * flow_years[i];
                else
                    going := going - w;
                    going_time := going_time - w * flow_years[i];
                end if;
            end loop;
            slope := going_time / going - coming_time / coming;
            step := ln(coming / going) / nullif(slope, 0);
            x := x - step;
            -- What is left of the error is less than step² * bend / -slope.
            is_settled := step * step * bend < -1e-11 * slope;
            exit when is_settled;
        end loop;
    end if;
    if is_settled and first_in <= last_out then
        -- The one rate, if a payment is never more than what is owed of the ones before. On one day what comes back is first,
        -- so that no order within the day would be worse.
        select array_agg(f.a), array_agg(f.t) into a, t
        from (
            select f.a, f.t from unnest(flow_amounts || held, flow_years || now_at) f (a, t) where f.a <> 0 order by f.t, f.a desc
        ) f;
        is_settled := a[1] < 0 and report.xirr_is_only(a, t, x);
    end if;
    if is_settled then
        answer.rate := round((exp(x) - 1)::numeric, 9);
        answer.status := 'ok';
        return answer;
    end if;
    -- Money is in cents: to 15 digits it is exact.
    select x.rate, x.status into found
    from (
        select array_agg(f.amount::numeric) as amounts, array_agg(date '2000-01-01' + round(f.years * 365)::integer) as dates
        from unnest(flow_amounts || held, flow_years || now_at) f (amount, years)
    ) f
    cross join lateral report.xirr_with_status(f.amounts, f.dates) x;
    if found.rate > 1e6 then
        answer.status := 'out_of_range';
    else
        answer.rate := round(found.rate::numeric, 9);
        answer.status := found.status;
    end if;
    return answer;
end
$$;
comment on function report.irr_of is 'Rate of return a year of movements up to a day (amounts, and when as report.years), the first of them on first_on, and what is held on a day, and its status: those of report.xirr_with_status, `young` for less than 365 days, `out_of_range` also for more than 1,000,000 a year.';

-- With the rate of return of each line. A function that is called for each line cannot be shared out among workers behind
-- a grouping; so the lines come in two parts, which two workers may take.
create or replace function report.line_returns(as_of date, known_at timestamptz default null)
returns table (
    investment_id uuid, reference text, member_id uuid, startup_id uuid, round_id uuid, instrument_code text, status_code text,
    wrapper text, signed_on date, quantity numeric, unit_price numeric, currency char(3), first_on date,
    committed numeric, invested numeric, fees numeric, proceeds numeric, quantity_held numeric, cost_held numeric,
    fair_value numeric, value_basis text, price numeric, price_as_of date, share_now numeric, is_follow_on boolean,
    flow_amounts float8[], flow_years float8[], irr report.irr
)
language sql stable parallel safe as $$
    (
        select l.*, report.irr_of(l.flow_amounts, l.flow_years, l.first_on, l.fair_value, line_returns.as_of)
        from report.line_figures(line_returns.as_of, line_returns.known_at) l
        where uuid_hash(l.investment_id) >= 0
        order by null::integer
    ) union all (
        select l.*, report.irr_of(l.flow_amounts, l.flow_years, l.first_on, l.fair_value, line_returns.as_of)
        from report.line_figures(line_returns.as_of, line_returns.known_at) l
        where uuid_hash(l.investment_id) < 0
        order by null::integer
    )
$$;
comment on function report.line_returns is 'The figures of each line on a day, with its rate of return, without names.';

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
           (l.irr).rate, (l.irr).status,
           o.share, l.share_now, 1 - l.share_now / nullif(o.share, 0),
           l.is_follow_on
    from report.line_returns(portfolio_line_at.as_of, portfolio_line_at.known_at) l
    left join canon.member m on m.id = l.member_id
    left join canon.startup s on s.id = l.startup_id
    left join canon.round r on r.id = l.round_id
    left join canon.instrument n on n.code = l.instrument_code
    left join canon.investment_status t on t.code = l.status_code
    cross join lateral (
        select case when n.valued_at is distinct from 'cost' then l.invested / nullif(r.pre_money + r.amount_raised, 0) end as share
    ) o
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

-- ---- sums ------------------------------------------------------------------------------------------------------------------

create or replace function report.investor_sums(as_of date, known_at timestamptz, is_first boolean)
returns table (
    member_id uuid, currency char(3), line_count integer, startup_count integer, first_on date, last_on date,
    committed numeric, invested numeric, fees numeric, proceeds numeric, cost_held numeric, fair_value numeric,
    fair_value_at_cost numeric, line_count_at_loss integer, line_count_written_off integer, irr report.irr
)
language sql stable parallel safe as $$
    select l.member_id, l.currency, count(*)::integer as line_count, count(distinct l.startup_id)::integer as startup_count,
           min(l.first_on) as first_on, max(l.first_on) as last_on, sum(l.committed) as committed, sum(l.invested) as invested,
           sum(l.fees) as fees, sum(l.proceeds) as proceeds, sum(l.cost_held) as cost_held, sum(l.fair_value) as fair_value,
           coalesce(sum(l.fair_value) filter (where l.value_basis in ('cost', 'unpriced, at cost')), 0) as fair_value_at_cost,
           (count(*) filter (where l.fair_value + l.proceeds < l.invested))::integer as line_count_at_loss,
           (count(*) filter (where l.value_basis = 'written off'))::integer as line_count_written_off,
           report.irr_of(report.array_concat(l.flow_amounts), report.array_concat(l.flow_years), min(l.first_on), sum(l.fair_value),
               investor_sums.as_of) as irr
    from report.line_figures(investor_sums.as_of, investor_sums.known_at) l
    where (uuid_hash(l.member_id) < 0) = investor_sums.is_first
    group by l.member_id, l.currency
$$;
comment on function report.investor_sums is 'The sums of half of the investors.';

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
           (g.irr).rate, (g.irr).status, g.line_count_at_loss, g.line_count_written_off
    from (
        select f.* from report.investor_sums(portfolio_by_investor_at.as_of, portfolio_by_investor_at.known_at, true) f
        union all
        select f.* from report.investor_sums(portfolio_by_investor_at.as_of, portfolio_by_investor_at.known_at, false) f
    ) g
    left join canon.member m on m.id = g.member_id
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

create or replace function report.startup_sums(as_of date, known_at timestamptz, is_first boolean)
returns table (
    startup_id uuid, currency char(3), investor_count integer, line_count integer, first_on date, last_on date,
    committed numeric, invested numeric, fees numeric, proceeds numeric, cost_held numeric, fair_value numeric,
    fair_value_at_cost numeric, share_now numeric, price_as_of date, irr report.irr
)
language sql stable parallel safe as $$
    select l.startup_id, l.currency, count(distinct l.member_id)::integer as investor_count, count(*)::integer as line_count,
           min(l.first_on) as first_on, max(l.first_on) as last_on, sum(l.committed) as committed, sum(l.invested) as invested,
           sum(l.fees) as fees, sum(l.proceeds) as proceeds, sum(l.cost_held) as cost_held, sum(l.fair_value) as fair_value,
           coalesce(sum(l.fair_value) filter (where l.value_basis in ('cost', 'unpriced, at cost')), 0) as fair_value_at_cost,
           sum(l.share_now) as share_now, max(l.price_as_of) as price_as_of,
           report.irr_of(report.array_concat(l.flow_amounts), report.array_concat(l.flow_years), min(l.first_on), sum(l.fair_value),
               startup_sums.as_of) as irr
    from report.line_figures(startup_sums.as_of, startup_sums.known_at) l
    where (uuid_hash(l.startup_id) < 0) = startup_sums.is_first
    group by l.startup_id, l.currency
$$;
comment on function report.startup_sums is 'The sums of half of the companies.';

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
           (g.irr).rate, (g.irr).status, g.share_now, g.price_as_of
    from (
        select f.* from report.startup_sums(portfolio_by_startup_at.as_of, portfolio_by_startup_at.known_at, true) f
        union all
        select f.* from report.startup_sums(portfolio_by_startup_at.as_of, portfolio_by_startup_at.known_at, false) f
    ) g
    left join canon.startup s on s.id = g.startup_id
    left join canon.sector c on c.code = s.sector_code
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
        from report.line_returns(network_total_at.as_of, network_total_at.known_at) l
        group by l.currency
    ) g
    cross join lateral (
        select report.irr_of(array_agg(d.amount::float8), array_agg(report.years(d.flow_on)), min(d.flow_on), g.fair_value, network_total_at.as_of) as irr
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

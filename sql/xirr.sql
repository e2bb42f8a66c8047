-- The internal rate of return of dated flows: the rate r > -1 at which they are worth nothing together,
-- sum of amount * (1 + r) ^ (-days / 365) = 0. A rate that exists is found, one that does not is said so, and so is
-- one of several. Everything is reckoned with x = ln(1 + r) and t = days / 365, where a flow is worth a * exp(-x * t).

-- What comes in and what goes out at x, each worth at the first day: the logarithm of their ratio and its slope.
-- It has the sign of the present value, and is so nearly a straight line that Newton's steps are few.
create or replace function report.xirr_gap(a float8[], t float8[], x float8, out gap float8, out slope float8)
language plpgsql immutable parallel safe as $$
declare
    w float8;
    coming float8 := 0;
    going float8 := 0;
    coming_time float8 := 0;
    going_time float8 := 0;
begin
    for i in 1..cardinality(a) loop
        -- Beyond e^600 a sum may overflow, and below e^-600 a product underflow: Postgres raises both.
        w := a[i] * exp(greatest(-600, least(600, -x * t[i])));
        if w > 0 then
            coming := coming + w;
            coming_time := coming_time + w * t[i];
        else
            going := going - w;
            going_time := going_time - w * t[i];
        end if;
    end loop;
    gap := ln(coming / going);
    slope := going_time / going - coming_time / coming;
end
$$;
comment on function report.xirr_gap is 'At x = ln(1 + rate): ln(worth of what comes in / worth of what goes out), and its derivative. Both kinds have to occur.';

-- The root between two points where the gap has opposite signs: Newton's steps, halving where one leaves the bracket.
create or replace function report.xirr_root(
    a float8[], t float8[], low float8, high float8, is_low_up boolean, start float8
) returns float8
language plpgsql immutable parallel safe as $$
declare
    x float8 := start;
    step float8;
    g record;
begin
    for i in 1..300 loop
        g := report.xirr_gap(a, t, x);
        if (g.gap > 0) = is_low_up then
            low := x;
        else
            high := x;
        end if;
        step := case when g.slope <> 0 then greatest(-3, least(3, g.gap / g.slope)) end;
        if step is null or x - step <= low or x - step >= high then
            step := x - (low + high) / 2;
        end if;
        x := x - step;
        -- What is left of the error is of the order of the square of the last step.
        exit when g.gap = 0 or abs(step) <= 1e-10;
    end loop;
    return case when g.gap = 0 then x + step else x end;
end
$$;
comment on function report.xirr_root is 'The x in [low, high] where the gap of xirr_gap is 0. It has opposite signs at the ends, at low as is_low_up says; `start` is where to look first.';

-- Whether x is the only root: if what was put in, with its return so far, is never more than given back before the end
-- (the worths added up from the first flow on never change sign), no other rate can be one.
create or replace function report.xirr_is_only(a float8[], t float8[], x float8) returns boolean
language plpgsql immutable parallel safe as $$
declare
    w float8;
    sum float8 := 0;
    size float8 := 0;
    is_up boolean := a[1] > 0;
begin
    for i in 1..cardinality(a) - 1 loop
        w := a[i] * exp(greatest(-600, least(600, -x * t[i])));
        sum := sum + w;
        size := size + abs(w);
        -- What is so near to nothing that x is not exact enough to say on which side it is, is as good as beyond it.
        if (case when is_up then -sum else sum end) > -1e-8 * size then
            return false;
        end if;
    end loop;
    return true;
end
$$;
comment on function report.xirr_is_only is 'True: no other rate than x solves the flows (Laguerre''s rule of signs on the discounted partial sums, forwards and backwards). False: another may.';

-- Whether x is the only root between rates of -99.99 % and 10,000 %, where the partial sums do not tell. With all flows
-- within `span` years, the gap never falls or rises faster than by `span` a unit of x, and its slope never changes faster
-- than by span² / 4: so beside x there is a stretch without a root, and from its end on the gap says how far it is to the
-- next one at least.
create or replace function report.xirr_is_alone(a float8[], t float8[], x float8) returns boolean
language plpgsql immutable parallel safe as $$
declare
    low constant float8 := ln(0.0001);
    high constant float8 := ln(101);
    span constant float8 := t[cardinality(t)];
    g record;
    slope float8;
    place float8;
begin
    if x < low or x > high then
        return false;
    end if;
    g := report.xirr_gap(a, t, x);
    slope := g.slope;
    foreach place in array array[x - 3.9 * abs(slope) / (span * span), x + 3.9 * abs(slope) / (span * span)] loop
        for i in 1..60 loop
            exit when place < low or place > high;
            g := report.xirr_gap(a, t, place);
            -- The sign that it has beside x, and not too near to nothing.
            if g.gap * slope * (place - x) <= 0 or abs(g.gap) < 1e-9 or i = 60 then
                return false;
            end if;
            place := place + sign(place - x) * abs(g.gap) / span;
        end loop;
    end loop;
    return true;
end
$$;
comment on function report.xirr_is_alone is 'True: between -99.99 % and 10,000 % no other rate than x solves the flows. False: another may.';

-- All roots between rates of -99.99 % and 10,000 %. A grid finds the changes of sign; where the present value only
-- comes near to zero between two points, the place where it is nearest is looked at too.
create or replace function report.xirr_scan(a float8[], t float8[]) returns float8[]
language plpgsql immutable parallel safe as $$
declare
    low constant float8 := ln(0.0001);
    step constant float8 := (ln(101) - ln(0.0001)) / 256;
    g float8[] := '{}';
    roots float8[] := '{}';
    l float8;
    h float8;
    p float8;
    q float8;
    sign float8;
begin
    for i in 0..256 loop
        g := g || (report.xirr_gap(a, t, low + i * step)).gap;
    end loop;
    for i in 1..257 loop
        if g[i] = 0 then
            roots := roots || (low + (i - 1) * step);
        elsif i < 257 and g[i] * g[i + 1] < 0 then
            l := low + (i - 1) * step;
            roots := roots || report.xirr_root(a, t, l, l + step, g[i] > 0, l + step / 2);
        elsif i between 2 and 256 and g[i] * g[i - 1] > 0 and g[i] * g[i + 1] > 0
              and abs(g[i]) <= abs(g[i - 1]) and abs(g[i]) <= abs(g[i + 1]) then
            sign := sign(g[i]);
            l := low + (i - 2) * step;
            h := l + 2 * step;
            for j in 1..60 loop
                p := (l + h) / 2;
                if sign * (report.xirr_gap(a, t, p)).slope > 0 then
                    h := p;
                else
                    l := p;
                end if;
            end loop;
            p := (l + h) / 2;
            q := sign * (report.xirr_gap(a, t, p)).gap;
            if abs(q) < 1e-12 then
                roots := roots || p;
            elsif q < 0 then
                l := low + (i - 2) * step;
                roots := roots || report.xirr_root(a, t, l, p, g[i] > 0, (l + p) / 2)
                    || report.xirr_root(a, t, p, l + 2 * step, g[i] < 0, p / 2 + l / 2 + step);
            end if;
        end if;
    end loop;
    return roots;
end
$$;
comment on function report.xirr_scan is 'The x = ln(1 + rate) of all rates between -99.99 % and 10,000 % at which the flows are worth nothing.';

create or replace function report.xirr_with_status(amounts numeric[], dates date[], out rate float8, out status text)
language plpgsql immutable parallel safe as $$
declare
    a float8[];
    t float8[];
    n integer;
    first float8;
    x float8;
    low float8;
    high float8;
    is_first_up boolean;
    change_count integer := 0;
    roots float8[];
begin
    if cardinality(amounts) is distinct from cardinality(dates) then
        raise exception 'xirr: % amounts and % dates', cardinality(amounts), cardinality(dates)
            using errcode = 'array_subscript_error', hint = 'Give each amount its date.';
    end if;
    -- The flows of a day are one flow: added up exactly, so that what cancels out is not there.
    select array_agg(day.amount), array_agg((day.flow_on - date '2000-01-01') / 365::float8) into a, t
    from (
        select f.flow_on, sum(f.amount)::float8 as amount
        from unnest(amounts, dates) f (amount, flow_on)
        where f.amount is not null and f.flow_on is not null
        group by f.flow_on
        having sum(f.amount) <> 0
        order by f.flow_on
    ) day;
    n := coalesce(cardinality(a), 0);
    if n = 0 then
        status := 'no_flows';
        return;
    end if;
    is_first_up := a[1] > 0;
    first := t[1];
    t[1] := 0;
    for i in 2..n loop
        t[i] := t[i] - first;
        if (a[i] > 0) <> (a[i - 1] > 0) then
            change_count := change_count + 1;
        end if;
    end loop;
    if change_count = 0 then
        if is_first_up then
            status := 'no_sign_change';
        else
            rate := -1;
            status := 'total_loss';
        end if;
        return;
    end if;
    if (a[n] > 0) <> is_first_up then
        -- The last flow decides at a low rate, the first at a high one: between them is a root.
        low := greatest(-512, -600 / t[n]);
        high := 512;
        x := report.xirr_root(a, t, low, high, not is_first_up, 0);
        if x < low + 1e-6 or x > high - 1e-6 then
            x := null;
        elsif change_count = 1 or report.xirr_is_only(a, t, x) or report.xirr_is_alone(a, t, x) then
            rate := exp(x) - 1;
            status := 'ok';
            return;
        end if;
    end if;
    -- One within what a rate may be is meant, whatever there is beyond.
    roots := report.xirr_scan(a, t);
    if cardinality(roots) = 0 and x is not null then
        roots := array[x];
    end if;
    if cardinality(roots) = 1 then
        rate := exp(roots[1]) - 1;
        status := 'ok';
    elsif cardinality(roots) = 0 then
        status := case when (a[n] > 0) <> is_first_up then 'out_of_range' else 'none' end;
    else
        status := 'several';
    end if;
end
$$;
comment on function report.xirr_with_status is 'Internal rate of return a year (0.1 is 10 %), days over 365, of signed amounts on dates in any order. status: ok; total_loss: paid out and nothing came back, -1 by definition; no_flows, no_sign_change, none: there is no rate, show the multiple; several: more than one rate solves it, none is meant; out_of_range: it is beyond e^512.';

create or replace function report.xirr(amounts numeric[], dates date[]) returns float8
language sql immutable parallel safe as $$
    select rate from report.xirr_with_status(amounts, dates)
$$;
comment on function report.xirr is 'Internal rate of return a year (0.1 is 10 %) of signed amounts on dates in any order; null where there is none, or several. xirr_with_status says which.';

-- What was known at an instant: the rows as they are, or as the journal says that they were. Business dates are in the
-- rows; when something was learnt is in the journal.

create or replace function report.known(shape anyelement, known_at timestamptz) returns setof anyelement
language plpgsql stable parallel safe security definer set search_path = pg_catalog, pg_temp as $$
declare
    entity text;
    number smallint;
    cutoff bigint;
    cells text;
    reader name := report.caller();
begin
    select c.relname into entity from pg_class c join pg_type t on t.typrelid = c.oid
    where t.oid = pg_typeof(shape) and c.relnamespace = 'canon'::regnamespace;
    if entity is null then
        raise exception 'report.known takes a row of a table of the schema canon, not %', pg_typeof(shape)
            using errcode = 'wrong_object_type', hint = 'For example null::canon.investment.';
    end if;
    -- This function reads as its owner: what the caller may not select is left empty.
    select string_agg(
        case when has_column_privilege(reader, a.attrelid, a.attnum, 'select') then format('r.%I', a.attname)
             else format('null::%s', format_type(a.atttypid, a.atttypmod)) end, ', ' order by a.attnum)
    into cells
    from pg_attribute a
    where a.attrelid = format('canon.%I', entity)::regclass and a.attnum > 0 and not a.attisdropped;
    select e.entity_no into number from mirror.entity e where e.name = entity;
    select min(t.source_transaction_id) into cutoff from mirror.source_transaction t where t.recorded_at > known_at;
    return query execute format($sql$
        select %2$s from (
        with later as materialized (
            select j.journal_id, j.record_id, j.action, j.before
            from mirror.journal j
            where j.entity_no = $1 and j.source_transaction_id >= $2
        ),
        first as (
            select distinct on (record_id) record_id, action from later order by record_id, journal_id
        ),
        cell as (
            select distinct on (l.record_id, b.key) l.record_id, b.key, b.value
            from later l, json_each(l.before) b
            order by l.record_id, b.key, l.journal_id
        ),
        patch as (
            select record_id, jsonb_object_agg(key, value) as cells from cell group by record_id
        )
        select (jsonb_populate_record(t, coalesce(p.cells, '{}'))).*
        from canon.%1$I t
        left join first f on f.record_id = t.id
        left join patch p on p.record_id = t.id
        where case when f.action is null then t.deleted_at is null else f.action in ('update', 'delete') end
          -- One that went for good and came back since is newer than what it is the return of.
          and (t.created_at <= $3 or exists (select from later l where l.record_id = t.id and l.action = 'create'))
        union all
        -- Those that are gone for good: all their cells are in the entry of their delete.
        select (jsonb_populate_record(jsonb_populate_record(null::canon.%1$I,
            jsonb_build_object('id', f.record_id, 'currency', 'EUR', 'created_at', $3)), coalesce(p.cells, '{}'))).*
        from first f
        left join patch p on p.record_id = f.record_id
        where f.action in ('update', 'delete') and not exists (select from canon.%1$I t where t.id = f.record_id)
          and $3 >= (select min(t.recorded_at) from mirror.source_transaction t)
        ) r
    $sql$, entity, cells) using number, coalesce(cutoff, 9223372036854775807), known_at;
end
$$;
comment on function report.known is 'The living rows of a table of canon as they were known at an instant: report.known(null::canon.investment, ''2026-03-01''); columns that the caller may not select are empty. From the journal, by when it was recorded; a first copy was known when it was made. Fields and tables have to be called alike in the mapping and in canon.';


create or replace function report.known_investment(known_at timestamptz)
returns table (
    id uuid, reference text, member_id uuid, startup_id uuid, round_id uuid, instrument_code text, status_code
    text, committed numeric, amount numeric, currency char(3), signed_on date, quantity numeric, unit_price
    numeric, wrapper text
)
language sql stable parallel safe as $$
    select t.id, t.reference, t.member_id, t.startup_id, t.round_id, t.instrument_code, t.status_code,
           t.committed, t.amount, t.currency, t.signed_on, t.quantity, t.unit_price, t.wrapper
    from canon.investment t where known_investment.known_at is null and t.deleted_at is null
    union all
    select t.id, t.reference, t.member_id, t.startup_id, t.round_id, t.instrument_code, t.status_code,
           t.committed, t.amount, t.currency, t.signed_on, t.quantity, t.unit_price, t.wrapper
    from report.known(null::canon.investment, known_investment.known_at) t where known_investment.known_at is not null
$$;
comment on function report.known_investment is 'The living rows of canon.investment: as they are, or as they were known at an instant.';

create or replace function report.known_cash_flow(known_at timestamptz)
returns table (
    id uuid, label text, investment_id uuid, kind_code text, flow_on date, amount numeric, currency char(3),
    quantity numeric
)
language sql stable parallel safe as $$
    select t.id, t.label, t.investment_id, t.kind_code, t.flow_on, t.amount, t.currency, t.quantity
    from canon.cash_flow t where known_cash_flow.known_at is null and t.deleted_at is null
    union all
    select t.id, t.label, t.investment_id, t.kind_code, t.flow_on, t.amount, t.currency, t.quantity
    from report.known(null::canon.cash_flow, known_cash_flow.known_at) t where known_cash_flow.known_at is not null
$$;
comment on function report.known_cash_flow is 'The living rows of canon.cash_flow: as they are, or as they were known at an instant.';

create or replace function report.known_valuation(known_at timestamptz)
returns table (
    id uuid, startup_id uuid, as_of date, method_code text, instrument_code text, price numeric, equity_value
    numeric, currency char(3), approved_on date
)
language sql stable parallel safe as $$
    select t.id, t.startup_id, t.as_of, t.method_code, t.instrument_code, t.price, t.equity_value, t.currency,
           t.approved_on
    from canon.valuation t where known_valuation.known_at is null and t.deleted_at is null
    union all
    select t.id, t.startup_id, t.as_of, t.method_code, t.instrument_code, t.price, t.equity_value, t.currency,
           t.approved_on
    from report.known(null::canon.valuation, known_valuation.known_at) t where known_valuation.known_at is not null
$$;
comment on function report.known_valuation is 'The living rows of canon.valuation: as they are, or as they were known at an instant.';

-- What the reporting roles may read, where they exist (`plait setup roles` makes them). Run after each installation of
-- this schema, since a view that is made anew has no rights. Nobody sees anything of `mirror` but report.mirror_health, and
-- through report.kept a report that is kept.

do $$
declare
    t record;
begin
    revoke all on all functions in schema report from public;
    if to_regrole('plait_analyst') is not null then
        grant usage on schema report, canon to plait_analyst;
        grant select on all tables in schema report to plait_analyst;
        revoke all on report.reader, report.member_contact from plait_analyst;
        grant execute on all functions in schema report to plait_analyst;
        revoke all on function report.keep from plait_analyst;
        -- Views run with the rights of whoever asks; so he needs the tables, less what identifies or reaches a person.
        for t in
            select c.relname, string_agg(quote_ident(a.attname), ', ' order by a.attnum) as columns
            from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
            where c.relnamespace = 'canon'::regnamespace and c.relkind in ('r', 'p')
              and (c.relname, a.attname) not in (
                  ('member', 'email'), ('member', 'phone'), ('member', 'postcode'), ('member', 'linkedin_url'), ('member', 'note'), ('member', 'newsletter'),
                  ('startup', 'contact_email'), ('startup', 'contact_phone'), ('project', 'followed_by'), ('project', 'answers'))
            group by c.relname
        loop
            execute format('grant select (%s) on canon.%I to plait_analyst', t.columns, t.relname);
        end loop;
    end if;
    if to_regrole('plait_delegate') is not null then
        grant select on report.member_contact, canon.member, canon.startup to plait_delegate;
    end if;
    if to_regrole('plait_investor') is not null then
        grant usage on schema report, canon to plait_investor;
        grant select on report.portfolio_by_investor, report.portfolio_by_startup, report.portfolio_line, report.movement,
            report.catalogue, report.reader to plait_investor;
        grant execute on function report.reader_member_id, report.known_investment, report.known_cash_flow, report.known_valuation,
            report.movement_at, report.movement_now, report.movement_then, report.line_figures, report.line_figures_now,
            report.line_figures_then, report.line_returns, report.portfolio_line_at, report.portfolio_by_investor_at,
            report.portfolio_by_startup_at, report.investor_sums, report.startup_sums, report.irr_of, report.years, report.array_concat, report.xirr, report.xirr_with_status,
            report.xirr_gap, report.xirr_root, report.xirr_is_only, report.xirr_is_alone, report.xirr_scan
            to plait_investor;
        -- Not report.known: the past of the journal is everybody's.
        grant select (id, first_name, last_name, deleted_at) on canon.member to plait_investor;
        grant select (id, name, sector_code, deleted_at) on canon.startup to plait_investor;
        grant select (id, name, startup_id, pre_money, amount_raised, currency, deleted_at) on canon.round to plait_investor;
        grant select (id, reference, member_id, startup_id, round_id, instrument_code, status_code, committed, amount, currency, signed_on,
            quantity, unit_price, wrapper, deleted_at) on canon.investment to plait_investor;
        grant select (id, label, investment_id, kind_code, flow_on, amount, currency, quantity, deleted_at) on canon.cash_flow to plait_investor;
        grant select (id, startup_id, as_of, method_code, instrument_code, price, equity_value, currency, approved_on, deleted_at)
            on canon.valuation to plait_investor;
        grant select on canon.cash_flow_kind, canon.instrument, canon.investment_status, canon.sector to plait_investor;
    end if;
end
$$;

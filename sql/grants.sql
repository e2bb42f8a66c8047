-- What the reporting roles may read, where they exist (`plait setup roles` makes them). Run after each installation of
-- this schema, since a view that is made anew has no rights, and whenever the mapping calls other columns personal.
-- Nobody sees anything of `mirror` but report.mirror_health, and through report.kept a report that is kept.

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
        -- Views run with the rights of whoever asks, who so needs the columns below them. Denied by default: readable are the
        -- columns that Plait brings and that reach nobody, unless the mapping calls them personal, and those of others that
        -- the mapping calls `personal = false`. Names and towns of members are personal, and what the reports are about.
        execute 'revoke all on all tables in schema canon from plait_analyst';
        for t in
            with brought (relname, columns) as (values
                ('cash_flow', 'id label investment_id kind_code flow_on amount currency created_at deleted_at quantity'),
                ('cash_flow_kind', 'code label_fr label_en ordinal retired_on counts_as ends_line'),
                ('instrument', 'code label_fr label_en ordinal retired_on valued_at'),
                ('investment', 'id reference member_id startup_id round_id instrument_code status_code committed amount currency signed_on quantity unit_price wrapper created_at deleted_at'),
                ('investment_status', 'code label_fr label_en ordinal retired_on'),
                ('legal_event', 'id label startup_id kind_code decided_on effective_on registered_on capital_before capital_after currency file_complete note created_at deleted_at'),
                ('legal_event_kind', 'code label_fr label_en ordinal retired_on'),
                ('member', 'id first_name last_name status_code joined_on city ticket_min ticket_max currency created_at deleted_at'),
                ('member_role', 'member_id role_code'),
                ('member_status', 'code label_fr label_en ordinal retired_on'),
                ('project', 'id name startup_id stage_code referent_id source_code sector_code region submitted_on amount_sought pre_money_asked currency summary pitch_seconds last_contact_at created_at deleted_at'),
                ('project_interest', 'project_id member_id'),
                ('project_source', 'code label_fr label_en ordinal retired_on'),
                ('role', 'code label_fr label_en ordinal retired_on'),
                ('round', 'id name startup_id kind_code opened_on closed_on pre_money amount_target amount_raised currency lead_investor created_at deleted_at'),
                ('round_kind', 'code label_fr label_en ordinal retired_on'),
                ('sector', 'code label_fr label_en ordinal retired_on'),
                ('stage', 'code label_fr label_en ordinal retired_on kind'),
                ('stage_transition', 'stage_transition_id project_id from_code to_code occurred_at side author'),
                ('startup', 'id name siren legal_form sector_code website city founded_on description share_capital currency jei headcount held_share rating tags total_invested created_at deleted_at'),
                ('valuation', 'id label startup_id as_of method_code price equity_value currency approved_on comment created_at deleted_at instrument_code'),
                ('valuation_method', 'code label_fr label_en ordinal retired_on')),
            shown (relname, attname) as (values
                ('member', 'first_name'), ('member', 'last_name'), ('member', 'city'))
            select c.relname, string_agg(quote_ident(a.attname), ', ' order by a.attnum) as columns
            from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
            left join brought b on b.relname = c.relname
            left join mirror.mapped_column m on m.table_name = c.relname and m.column_name = a.attname
            where c.relnamespace = 'canon'::regnamespace and c.relkind in ('r', 'p')
              and (exists (select from shown s where s.relname = c.relname and s.attname = a.attname)
                   or coalesce(not m.is_personal, a.attname = any (string_to_array(b.columns, ' '))))
            group by c.relname
        loop
            execute format('grant select (%s) on canon.%I to plait_analyst', t.columns, t.relname);
        end loop;
    end if;
    if to_regrole('plait_delegate') is not null then
        execute 'revoke all on all tables in schema canon from plait_delegate';
        grant select on report.member_contact to plait_delegate;
        grant select (email, phone, postcode, linkedin_url, newsletter) on canon.member to plait_delegate;
        grant select (contact_email, contact_phone) on canon.startup to plait_delegate;
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

-- Companies: rounds, values, and the legal file.

create or replace view report.round_list with (security_invoker) as
select r.id as round_id, r.name as round, r.startup_id, s.name as startup, r.kind_code, k.label_fr as kind_fr, k.label_en as kind_en,
       r.opened_on, r.closed_on, r.currency, r.pre_money, (r.pre_money + r.amount_raised)::numeric(18,2) as post_money, r.amount_target, r.amount_raised,
       (r.amount_raised / nullif(r.amount_target, 0))::numeric(18,6) as raised_share, r.lead_investor,
       coalesce(i.investor_count, 0)::integer as investor_count, coalesce(i.committed, 0)::numeric(18,2) as committed_by_network,
       coalesce(i.paid, 0)::numeric(18,2) as paid_by_network, (i.paid / nullif(r.amount_raised, 0))::numeric(18,6) as network_share
from canon.round r
left join canon.startup s on s.id = r.startup_id
left join canon.round_kind k on k.code = r.kind_code
left join (
    select n.round_id, n.currency, count(distinct n.member_id) as investor_count, sum(n.committed) as committed, sum(f.paid) as paid
    from canon.investment n
    left join lateral (
        select sum(-c.amount) as paid from canon.cash_flow c join canon.cash_flow_kind x on x.code = c.kind_code and x.counts_as = 'paid in'
        where c.investment_id = n.id and c.deleted_at is null and c.currency = n.currency
    ) f on true
    where n.deleted_at is null
    group by n.round_id, n.currency
) i on i.round_id = r.id and i.currency = r.currency
where r.deleted_at is null;
comment on view report.round_list is 'A row a funding round: its size, and what members committed and paid.';

create or replace view report.valuation_list with (security_invoker) as
select v.id as valuation_id, v.startup_id, s.name as startup, v.as_of, v.instrument_code, n.label_fr as instrument_fr, n.label_en as instrument_en,
       v.method_code, m.label_fr as method_fr, m.label_en as method_en, v.price, v.equity_value, v.currency, v.approved_on,
       v.approved_on is not null as is_approved,
       row_number() over latest = 1 as is_latest,
       (current_date - v.as_of)::integer as age_days, v.as_of < current_date - interval '12 months' as is_to_review,
       (v.price / nullif(lead(v.price) over latest, 0) - 1)::numeric(18,6) as price_change, v.comment
from canon.valuation v
left join canon.startup s on s.id = v.startup_id
left join canon.instrument n on n.code = coalesce(v.instrument_code, 'ao')
left join canon.valuation_method m on m.code = v.method_code
where v.deleted_at is null
window latest as (partition by v.startup_id, coalesce(v.instrument_code, 'ao'), v.approved_on is not null order by v.as_of desc nulls last, v.id);
comment on view report.valuation_list is 'A row a valuation: its method, price, age, whether it is the latest approved one, whether it is older than twelve months, and its change since the one before.';

create or replace view report.legal_follow_up with (security_invoker) as
select e.id as legal_event_id, e.label, e.startup_id, s.name as startup, s.siren, e.kind_code, k.label_fr as kind_fr, k.label_en as kind_en,
       e.decided_on, e.effective_on, e.registered_on, e.capital_before, e.capital_after, e.currency,
       coalesce(e.file_complete, false) as file_complete,
       (current_date - e.decided_on)::integer as days_since_decision, m.missing_fr, m.missing_en,
       cardinality(m.missing_en) > 0 as is_open, e.note
from canon.legal_event e
left join canon.startup s on s.id = e.startup_id
left join canon.legal_event_kind k on k.code = e.kind_code
cross join lateral (
    select coalesce(array_agg(x.fr order by x.no) filter (where x.is_missing), '{}') as missing_fr,
           coalesce(array_agg(x.en order by x.no) filter (where x.is_missing), '{}') as missing_en
    from (values
        (1, e.startup_id is null, 'société', 'company'),
        (2, e.kind_code is null, 'type', 'kind'),
        (3, e.decided_on is null, 'date de décision', 'date of decision'),
        (4, e.effective_on is null, 'date d''effet', 'effective date'),
        (5, e.registered_on is null, 'enregistrement', 'registration'),
        (6, e.kind_code in ('augmentation_numeraire', 'augmentation_nature', 'reduction') and (e.capital_before is null or e.capital_after is null),
            'capital avant et après', 'capital before and after'),
        (7, e.file_complete is not true, 'pièces du dossier', 'documents of the file')
    ) x (no, is_missing, fr, en)
) m
where e.deleted_at is null;
comment on view report.legal_follow_up is 'A row a legal event of a company: its dates, its capital, and what is still missing.';

-- What is missing, or cannot be: a row a finding, with what to do in both languages.

create or replace function report.siren_is_valid(siren text) returns boolean
language sql immutable parallel safe as $$
    select siren ~ '^[0-9]{9}$' and sum(case when n % 2 = 0 then d * 2 / 10 + d * 2 % 10 else d end) % 10 = 0
    from generate_series(1, 9) n, lateral (select substr(siren_is_valid.siren, n, 1)::integer as d) x
    where siren ~ '^[0-9]{9}$'
$$;
comment on function report.siren_is_valid is 'Whether nine digits have the key of a SIREN (Luhn).';

create or replace view report.data_quality with (security_invoker) as
with line as (
    select i.id, i.reference, i.member_id, i.startup_id, i.round_id, i.instrument_code, i.status_code, i.committed, i.amount, i.currency,
           i.signed_on, i.quantity, i.unit_price, f.paid, f.paid_count, f.quantity_gone, f.gone_count, f.gone_without_quantity_count
    from canon.investment i
    left join lateral (
        select sum(-c.amount) filter (where k.counts_as = 'paid in') as paid, count(*) filter (where k.counts_as = 'paid in') as paid_count,
               sum(c.quantity) filter (where k.ends_line) as quantity_gone, count(*) filter (where k.ends_line) as gone_count,
               count(*) filter (where c.kind_code = 'sale' and c.quantity is null) as gone_without_quantity_count
        from canon.cash_flow c left join canon.cash_flow_kind k on k.code = c.kind_code
        where c.investment_id = i.id and c.deleted_at is null and c.currency = i.currency
    ) f on true
    where i.deleted_at is null
),
funded as (
    select s.id, s.name, s.siren, v.as_of
    from canon.startup s
    left join lateral (
        select max(v.as_of) as as_of from canon.valuation v
        where v.startup_id = s.id and v.deleted_at is null and v.approved_on is not null
    ) v on true
    where s.deleted_at is null and exists (select from line l where l.startup_id = s.id and l.status_code in ('paid', 'held', 'partly_exited'))
),
finding as (
    select 'siren_missing' as code, 2 as severity, 'startup' as entity, s.id as record_id, s.name as record, null::text as detail from funded s where s.siren is null
    union all select 'siren_invalid', 3, 'startup', s.id, s.name, s.siren from canon.startup s where s.deleted_at is null and s.siren is not null and not report.siren_is_valid(s.siren)
    union all select 'siren_twice', 3, 'startup', s.id, s.name, s.siren from (
        select s.id, s.name, s.siren, count(*) over (partition by s.siren) as n from canon.startup s where s.deleted_at is null and s.siren is not null) s where s.n > 1
    union all select 'valuation_missing', 2, 'startup', s.id, s.name, null from funded s where s.as_of is null
    union all select 'valuation_stale', 2, 'startup', s.id, s.name, s.as_of::text from funded s where s.as_of < current_date - interval '12 months'
    union all select 'line_incomplete', 3, 'investment', l.id, l.reference,
        concat_ws(', ', case when l.member_id is null then 'member_id' end, case when l.startup_id is null then 'startup_id' end,
                  case when l.instrument_code is null then 'instrument_code' end, case when l.status_code is null then 'status_code' end)
        from line l where l.member_id is null or l.startup_id is null or l.instrument_code is null or l.status_code is null
    union all select 'line_price_times_quantity', 3, 'investment', l.id, l.reference, round(l.quantity * l.unit_price, 2)::text || ' / ' || coalesce(l.amount, l.committed)
        from line l where abs(l.quantity * l.unit_price - coalesce(l.amount, l.committed)) >= 0.01
    union all select 'line_unpaid', 2, 'investment', l.id, l.reference, l.status_code from line l
        where coalesce(l.paid_count, 0) = 0 and l.status_code in ('paid', 'held', 'partly_exited', 'exited', 'written_off')
    union all select 'line_paid_differs', 3, 'investment', l.id, l.reference, l.paid || ' / ' || l.amount from line l where l.paid_count > 0 and l.paid <> l.amount
    union all select 'line_sold_too_much', 3, 'investment', l.id, l.reference, l.quantity_gone || ' / ' || l.quantity from line l where l.quantity_gone > l.quantity
    union all select 'line_exit_without_movement', 2, 'investment', l.id, l.reference, l.status_code from line l where l.status_code in ('exited', 'partly_exited') and coalesce(l.gone_count, 0) = 0
    union all select 'sale_without_quantity', 2, 'investment', l.id, l.reference, null from line l where l.gone_without_quantity_count > 0 and l.status_code = 'partly_exited'
    union all select 'line_before_round', 2, 'investment', l.id, l.reference, l.signed_on || ' < ' || r.opened_on
        from line l join canon.round r on r.id = l.round_id where l.signed_on < r.opened_on
    union all select 'movement_incomplete', 3, 'cash_flow', f.id, f.label,
        concat_ws(', ', case when f.investment_id is null then 'investment_id' end, case when f.kind_code is null then 'kind_code' end,
                  case when f.flow_on is null then 'flow_on' end, case when f.amount is null then 'amount' end)
        from canon.cash_flow f where f.deleted_at is null and (f.investment_id is null or f.kind_code is null or f.flow_on is null or f.amount is null)
    union all select 'movement_sign', 3, 'cash_flow', f.id, f.label, f.amount::text
        from canon.cash_flow f join canon.cash_flow_kind k on k.code = f.kind_code
        where f.deleted_at is null and (k.counts_as in ('paid in', 'fee') and f.amount > 0 or k.counts_as = 'proceeds' and f.amount < 0)
    union all select 'movement_currency', 3, 'cash_flow', f.id, f.label, f.currency || ' / ' || i.currency
        from canon.cash_flow f join canon.investment i on i.id = f.investment_id where f.deleted_at is null and f.currency <> i.currency
    union all select 'movement_before_line', 2, 'cash_flow', f.id, f.label, f.flow_on || ' < ' || i.signed_on
        from canon.cash_flow f join canon.investment i on i.id = f.investment_id where f.deleted_at is null and f.flow_on < i.signed_on
    union all select 'movement_in_the_future', 1, 'cash_flow', f.id, f.label, f.flow_on::text from canon.cash_flow f where f.deleted_at is null and f.flow_on > current_date
    union all select 'valuation_without_method', 2, 'valuation', v.id, v.label, null from canon.valuation v where v.deleted_at is null and v.method_code is null
    union all select 'valuation_not_approved', 1, 'valuation', v.id, v.label, v.as_of::text from canon.valuation v where v.deleted_at is null and v.approved_on is null
    union all select 'valuation_after_approval', 3, 'valuation', v.id, v.label, v.as_of || ' > ' || v.approved_on from canon.valuation v where v.deleted_at is null and v.as_of > v.approved_on
    union all select 'valuation_twice', 3, 'valuation', v.id, v.label, v.as_of::text from (
        select v.*, count(*) over (partition by v.startup_id, coalesce(v.instrument_code, 'ao'), v.as_of) as n
        from canon.valuation v where v.deleted_at is null and v.approved_on is not null) v where v.n > 1
    union all select 'capital_not_increased', 3, 'legal_event', e.id, e.label, e.capital_before || ' -> ' || e.capital_after from canon.legal_event e
        where e.deleted_at is null and e.kind_code in ('augmentation_numeraire', 'augmentation_nature') and e.capital_after <= e.capital_before
    union all select 'capital_not_reduced', 3, 'legal_event', e.id, e.label, e.capital_before || ' -> ' || e.capital_after from canon.legal_event e
        where e.deleted_at is null and e.kind_code = 'reduction' and e.capital_after >= e.capital_before
    union all select 'project_without_stage', 2, 'project', p.id, p.name, null from canon.project p where p.deleted_at is null and p.stage_code is null
)
select f.code, case f.severity when 3 then 'error' when 2 then 'warning' else 'note' end as severity, f.entity, f.record_id, f.record, f.detail,
       w.fr as words_fr, w.en as words_en
from finding f
join (values
    ('siren_missing', 'Société du portefeuille sans SIREN : à compléter', 'Company of the portfolio without a SIREN: fill it in'),
    ('siren_invalid', 'SIREN dont la clé est fausse : à corriger', 'SIREN with a wrong key: correct it'),
    ('siren_twice', 'SIREN porté par deux sociétés : à fusionner ou à corriger', 'SIREN on two companies: join or correct them'),
    ('valuation_missing', 'Société du portefeuille sans valorisation approuvée : elle compte à son coût', 'Company of the portfolio without an approved valuation: it counts at cost'),
    ('valuation_stale', 'Dernière valorisation de plus de douze mois : à revoir', 'Latest valuation older than twelve months: review it'),
    ('line_incomplete', 'Ligne incomplète : à compléter', 'Line with something missing: fill it in'),
    ('line_price_times_quantity', 'Prix × quantité diffère du montant', 'Price × quantity is not the amount'),
    ('line_unpaid', 'Ligne payée d''après son statut, mais sans versement', 'Line paid by its status, but without a payment'),
    ('line_paid_differs', 'Total des versements différent du montant de la ligne', 'Payments do not add up to the line''s amount'),
    ('line_sold_too_much', 'Plus de titres cédés que détenus', 'More securities sold than were held'),
    ('line_exit_without_movement', 'Ligne sortie sans cession, remboursement ni liquidation', 'Line exited without a sale, repayment or liquidation'),
    ('sale_without_quantity', 'Cession partielle sans quantité : la part restante n''est pas connue', 'Partial sale without a quantity: what is left is not known'),
    ('line_before_round', 'Ligne signée avant l''ouverture de son tour', 'Line signed before its round opened'),
    ('movement_incomplete', 'Flux incomplet : il ne compte pas', 'Movement with something missing: it does not count'),
    ('movement_sign', 'Flux dont le signe contredit le type', 'Movement whose sign contradicts its kind'),
    ('movement_currency', 'Flux dans une autre devise que sa ligne : il ne compte pas', 'Movement in another currency than its line: it does not count'),
    ('movement_before_line', 'Flux antérieur à la signature de sa ligne', 'Movement before its line was signed'),
    ('movement_in_the_future', 'Flux daté dans le futur : il comptera ce jour-là', 'Movement dated in the future: it will count on that day'),
    ('valuation_without_method', 'Valorisation sans méthode', 'Valuation without a method'),
    ('valuation_not_approved', 'Valorisation non approuvée : elle ne compte pas', 'Valuation not approved: it does not count'),
    ('valuation_after_approval', 'Valorisation postérieure à son approbation', 'Valuation later than its approval'),
    ('valuation_twice', 'Deux valorisations approuvées pour un même jour et une même catégorie', 'Two approved valuations for one day and class'),
    ('capital_not_increased', 'Augmentation de capital qui n''augmente pas le capital', 'Capital increase that does not increase the capital'),
    ('capital_not_reduced', 'Réduction de capital qui ne réduit pas le capital', 'Capital reduction that does not reduce the capital'),
    ('project_without_stage', 'Projet sans étape', 'Project without a stage')
) w (code, fr, en) on w.code = f.code;
comment on view report.data_quality is 'A row a finding: what is missing or cannot be, in which record, and what to do.';

-- A network of `factor` times the size of one: 300 members, 300 projects, 50 startups, 900 lines and 10,000 movements each.
-- The same rows each time. psql --variable factor=100 --file benches/report_data.sql
\set ON_ERROR_STOP on
set synchronous_commit = off;

-- The same number for the same thing, from 0 to below 1.
create function pg_temp.chance(what text, number bigint) returns float8 language sql immutable parallel safe as $$
    select (hashtextextended(what, number) & 1048575) / 1048576.0
$$;
create function pg_temp.id(what text, number bigint) returns uuid language sql immutable parallel safe as $$
    select md5(what || number)::uuid
$$;
create function pg_temp.one_of(choices text[], what text, number bigint) returns text language sql immutable parallel safe as $$
    select choices[1 + floor(pg_temp.chance(what, number) * cardinality(choices))::integer]
$$;

insert into canon.member (id, first_name, last_name, email, status_code, joined_on, city, ticket_min, ticket_max)
select pg_temp.id('member', n), 'Prénom' || n % 97, 'Nom' || n, 'membre' || n || '@exemple.fr',
       pg_temp.one_of('{active,active,active,active,prospect,suspended,left}', 'status', n),
       date '2012-01-01' + (pg_temp.chance('joined', n) * 5000)::integer,
       pg_temp.one_of('{Rennes,Nantes,Brest,Lorient,Vannes}', 'city', n), 1000, 20000
from generate_series(1, 300 * :factor) n;
insert into canon.member_role (member_id, role_code) select pg_temp.id('member', n), 'investor' from generate_series(1, 300 * :factor) n;

insert into canon.startup (id, name, siren, sector_code, city, founded_on, share_capital)
select pg_temp.id('startup', n), 'Société ' || n, lpad((100000000 + n)::text, 9, '0'),
       pg_temp.one_of('{health,software,energy,food,industry,mobility,education,finance,environment,leisure}', 'sector', n),
       pg_temp.one_of('{Rennes,Nantes,Brest,Lorient,Vannes}', 'seat', n), date '2010-01-01' + (pg_temp.chance('founded', n) * 4000)::integer, 10000
from generate_series(1, 50 * :factor) n;

insert into canon.project (id, name, startup_id, stage_code, source_code, sector_code, region, submitted_on, amount_sought)
select pg_temp.id('project', n), 'Projet ' || n, case when n % 3 = 0 then pg_temp.id('startup', 1 + n % (50 * :factor)) end,
       pg_temp.one_of('{depot,recevabilite,preselection,pitch,instruction,comite,negociation,closing,suivi,refuse,refuse,refuse,sans_suite}', 'stage', n),
       pg_temp.one_of('{website,member,incubator,partner,event}', 'source', n),
       pg_temp.one_of('{health,software,energy,food,industry,mobility,education,finance,environment,leisure}', 'field', n),
       pg_temp.one_of('{Bretagne,Normandie,"Pays de la Loire"}', 'region', n),
       date '2016-01-01' + (pg_temp.chance('submitted', n) * 3600)::integer, 100000 + 1000 * (pg_temp.chance('sought', n) * 900)::integer
from generate_series(1, 300 * :factor) n;
insert into canon.stage_transition (project_id, from_code, to_code, occurred_at, side)
select p.id, s.from_code, s.to_code, p.submitted_on + s.after, 'directus'
from canon.project p,
     (values (null, 'depot', interval '0'), ('depot', 'recevabilite', interval '9 days'), ('recevabilite', 'preselection', interval '20 days'),
             ('preselection', 'pitch', interval '48 days'), ('pitch', 'instruction', interval '61 days')) s (from_code, to_code, after)
order by p.submitted_on + s.after;

insert into canon.round (id, name, startup_id, kind_code, opened_on, closed_on, pre_money, amount_raised)
select pg_temp.id('round', n), 'Tour ' || n, pg_temp.id('startup', 1 + n % (50 * :factor)), pg_temp.one_of('{seed,seed,bridge,a}', 'kind', n),
       date '2015-01-01' + (pg_temp.chance('opened', n) * 3000)::integer, date '2015-03-01' + (pg_temp.chance('opened', n) * 3000)::integer,
       1000000 + 10000 * (pg_temp.chance('pre', n) * 300)::integer, 300000
from generate_series(1, 100 * :factor) n;

insert into canon.investment (id, reference, member_id, startup_id, round_id, instrument_code, status_code, committed, amount, signed_on, quantity, unit_price, wrapper)
select pg_temp.id('line', n), 'INV-' || n, pg_temp.id('member', 1 + floor(pg_temp.chance('who', n) * 300 * :factor)::bigint),
       r.startup_id, r.id, pg_temp.one_of('{ao,ao,ao,adp,bsa_air,oca}', 'what', n),
       pg_temp.one_of('{held,held,held,held,held,held,held,partly_exited,exited,written_off}', 'state', n), q * 25, q * 25, r.opened_on, q, 25, 'CTO'
from generate_series(1, 900 * :factor) n
join lateral (select 40 * (1 + floor(pg_temp.chance('quantity', n) * 20)::integer) as q) x on true
join canon.round r on r.id = pg_temp.id('round', 1 + n % (100 * :factor));

-- What was paid, and then what comes back over the years: more than ten movements a line.
insert into canon.cash_flow (id, label, investment_id, kind_code, flow_on, amount, quantity)
select pg_temp.id('paid', n), 'Souscription', i.id, 'subscription', i.signed_on, -i.amount, i.quantity
from canon.investment i, lateral (select substr(i.reference, 5)::bigint as n) x;
insert into canon.cash_flow (id, label, investment_id, kind_code, flow_on, amount, quantity)
select pg_temp.id('back', n * 11 + k), 'Mouvement', i.id,
       case when k = 10 and i.status_code in ('exited', 'partly_exited') then 'sale' when k = 9 then 'fee' else 'dividend' end,
       i.signed_on + 200 * k,
       case when k = 10 and i.status_code = 'exited' then i.amount * 2 when k = 10 and i.status_code = 'partly_exited' then i.amount
            when k = 9 then -20 else round(i.amount * (0.002 + 0.02 * pg_temp.chance('share', n * 11 + k)::numeric), 2) end,
       case when k = 10 and i.status_code = 'exited' then i.quantity when k = 10 and i.status_code = 'partly_exited' then i.quantity / 2 end
from canon.investment i, lateral (select substr(i.reference, 5)::bigint as n) x, generate_series(1, 10) k
where k <= 9 or n % 9 < 2 or i.status_code in ('exited', 'partly_exited');

insert into canon.valuation (id, label, startup_id, as_of, method_code, price, equity_value, approved_on)
select pg_temp.id('value', n * 8 + k), 'Valorisation', pg_temp.id('startup', n), make_date(2017 + k, 12, 31),
       pg_temp.one_of('{milestones,recent_round,write_down}', 'method', n * 8 + k), p, p * 100000, make_date(2018 + k, 3, 1)
from generate_series(1, 50 * :factor) n, generate_series(0, 7) k, lateral (select round((10 + 60 * pg_temp.chance('price', n * 8 + k))::numeric, 4) as p) x;

insert into canon.legal_event (id, label, startup_id, kind_code, decided_on, effective_on, registered_on, capital_before, capital_after, file_complete)
select pg_temp.id('event', n), 'Événement', pg_temp.id('startup', 1 + n % (50 * :factor)),
       pg_temp.one_of('{augmentation_numeraire,modification_statuts,transfert_siege,changement_dirigeant}', 'event', n),
       date '2018-01-01' + (pg_temp.chance('decided', n) * 2900)::integer, null,
       case when n % 5 > 0 then date '2018-03-01' + (pg_temp.chance('decided', n) * 2900)::integer end, 10000, 12000, n % 4 > 0
from generate_series(1, 120 * :factor) n;
analyze;

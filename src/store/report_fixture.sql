-- What the tests of the reports work out by hand. Ids end in the number of the record. The rows came by a first copy in
-- January 2026; what was learnt since is in the journal.

create function pg_temp.id(no text) returns uuid language sql as $$ select ('00000000-0000-4000-8000-' || lpad(no, 12, '0'))::uuid $$;

insert into canon.member (id, first_name, last_name, email, phone, status_code) values
    (pg_temp.id('1'), 'Marie', 'Curie', 'marie@exemple.fr', '+33612345678', 'active'),
    (pg_temp.id('2'), 'Jean', 'HIDDEN', 'hidden@exemple.fr', '+33677770000', 'active');
insert into canon.startup (id, name, siren, sector_code) values
    (pg_temp.id('a'), 'Alpha', '732829320', 'health'), (pg_temp.id('b'), 'Beta', '732829321', 'energy'),
    (pg_temp.id('c'), 'Gamma', null, 'food'), (pg_temp.id('d'), 'Delta', null, 'food'), (pg_temp.id('e'), 'Epsilon', null, 'food'),
    (pg_temp.id('f'), 'Zeta HIDDEN', null, 'food');
insert into canon.round (id, name, startup_id, kind_code, pre_money, amount_raised) values
    (pg_temp.id('a1'), 'Seed', pg_temp.id('a'), 'seed', 500000, 100000), (pg_temp.id('a2'), 'A', pg_temp.id('a'), 'a', 900000, 300000),
    (pg_temp.id('f1'), 'HIDDEN', pg_temp.id('f'), 'seed', 777700, 7777);
insert into canon.valuation (id, label, startup_id, as_of, method_code, instrument_code, price, equity_value, approved_on) values
    (pg_temp.id('51'), 'v', pg_temp.id('a'), '2024-12-31', 'milestones', null, 12, 1200000, '2025-02-01'),
    (pg_temp.id('52'), 'v', pg_temp.id('a'), '2025-12-31', 'milestones', null, 15, 1500000, '2026-02-01'),
    (pg_temp.id('53'), 'not approved', pg_temp.id('a'), '2026-03-31', 'milestones', null, 99, 9900000, null),
    (pg_temp.id('54'), 'of the preference shares', pg_temp.id('a'), '2026-05-31', 'recent_round', 'adp', 20, 2000000, '2026-06-15'),
    (pg_temp.id('55'), 'lost', pg_temp.id('c'), '2023-12-31', 'write_off', null, 0, 0, '2024-01-15'),
    (pg_temp.id('56'), 'HIDDEN', pg_temp.id('f'), '2025-12-31', 'milestones', null, 7777, 77770000, '2026-01-15');
insert into canon.investment (id, reference, member_id, startup_id, round_id, instrument_code, status_code, committed, amount, currency, signed_on, quantity, unit_price) values
    (pg_temp.id('11'), 'L1', pg_temp.id('1'), pg_temp.id('a'), pg_temp.id('a1'), 'ao', 'partly_exited', 10000, 10000, 'EUR', '2020-01-01', 1000, 10),
    (pg_temp.id('12'), 'L2', pg_temp.id('1'), pg_temp.id('a'), pg_temp.id('a2'), 'adp', 'held', 2000, 2000, 'EUR', '2021-02-03', 200, 10),
    (pg_temp.id('13'), 'L3', pg_temp.id('1'), pg_temp.id('b'), null, 'bsa_air', 'held', 5000, 5000, 'EUR', '2023-03-01', null, null),
    (pg_temp.id('14'), 'L4', pg_temp.id('1'), pg_temp.id('c'), null, 'ao', 'written_off', 3000, 3000, 'EUR', '2021-05-05', 100, 30),
    (pg_temp.id('15'), 'L5', pg_temp.id('1'), pg_temp.id('d'), null, 'ao', 'exited', 5000, 5000, 'EUR', '2019-01-01', 50, 100),
    (pg_temp.id('16'), 'L6', pg_temp.id('1'), pg_temp.id('e'), null, 'ao', 'committed', 2500, null, 'EUR', '2026-06-01', 250, 10),
    (pg_temp.id('17'), 'L7', pg_temp.id('2'), pg_temp.id('a'), null, 'ao', 'held', 1500, 1500, 'EUR', '2026-01-15', 100, 15),
    (pg_temp.id('18'), 'L8', pg_temp.id('1'), pg_temp.id('b'), null, 'ao', 'held', 1000, 1000, 'CHF', '2022-01-01', 10, 100);
insert into canon.cash_flow (id, label, investment_id, kind_code, flow_on, amount, currency, quantity) values
    (pg_temp.id('21'), 'paid', pg_temp.id('11'), 'subscription', '2020-01-01', -10000, 'EUR', 1000),
    (pg_temp.id('22'), 'fee', pg_temp.id('11'), 'fee', '2020-01-01', -150, 'EUR', null),
    (pg_temp.id('23'), 'dividend', pg_temp.id('11'), 'dividend', '2022-06-30', 500, 'EUR', null),
    (pg_temp.id('24'), 'sold', pg_temp.id('11'), 'sale', '2024-12-31', 6000, 'EUR', 400),
    (pg_temp.id('25'), 'paid', pg_temp.id('12'), 'subscription', '2021-02-03', -2000, 'EUR', 200),
    (pg_temp.id('26'), 'paid', pg_temp.id('13'), 'subscription', '2023-03-01', -5000, 'EUR', null),
    (pg_temp.id('27'), 'paid', pg_temp.id('14'), 'subscription', '2021-05-05', -3000, 'EUR', 100),
    (pg_temp.id('28'), 'paid', pg_temp.id('15'), 'subscription', '2019-01-01', -5000, 'EUR', 50),
    (pg_temp.id('29'), 'sold', pg_temp.id('15'), 'sale', '2024-01-01', 20000, 'EUR', 50),
    (pg_temp.id('30'), 'HIDDEN', pg_temp.id('17'), 'subscription', '2026-01-15', -1500, 'EUR', 100),
    (pg_temp.id('31'), 'paid', pg_temp.id('18'), 'subscription', '2022-01-01', -1000, 'CHF', 10),
    -- In another currency than its line: not counted.
    (pg_temp.id('32'), 'HIDDEN', pg_temp.id('17'), 'dividend', '2026-02-01', 77.77, 'USD', null);
update canon.member set created_at = '2026-01-02';
update canon.investment set created_at = '2026-01-02';
update canon.cash_flow set created_at = '2026-01-02';
update canon.valuation set created_at = '2026-01-02';

insert into mirror.entity (entity_no, name) values (1, 'member'), (2, 'investment'), (3, 'cash_flow') on conflict do nothing;
insert into mirror.source_transaction (source_transaction_id, side, at, via, recorded_at) values
    (0, 'airtable', '2026-01-02 09:00+00', 'listing', '2026-01-02 09:00:01+00'),
    (1, 'airtable', '2026-04-01 09:00+00', 'client', '2026-04-01 09:00:01+00'),
    (2, 'airtable', '2026-04-10 09:00+00', 'client', '2026-04-10 09:00:01+00'),
    (3, 'directus', '2026-05-01 09:00+00', 'HIDDEN', '2026-05-01 09:00:01+00');
insert into mirror.journal (journal_id, source_transaction_id, entity_no, record_id, action, before, after) values
    -- L7 and its payment came in April; L4 was deleted then, and brought back in May; L9 was deleted for good.
    (1, 1, 2, pg_temp.id('17'), 'create', '{}', '{"reference":"L7"}'),
    (2, 1, 3, pg_temp.id('30'), 'create', '{}', '{"label":"HIDDEN"}'),
    (3, 1, 2, pg_temp.id('14'), 'delete', '{}', '{}'),
    (4, 2, 2, pg_temp.id('19'), 'delete', '{"reference":"L9","status_code":"held","committed":"900.00"}', '{}'),
    -- The sale was corrected, twice.
    (5, 3, 3, pg_temp.id('24'), 'update', '{"amount":"5000.00"}', '{"amount":"5500.00"}'),
    (6, 3, 3, pg_temp.id('24'), 'update', '{"amount":"5500.00"}', '{"amount":"6000.00"}'),
    (7, 3, 2, pg_temp.id('14'), 'restore', '{}', '{}');

-- Reports and tables as plait finds them, with the values that files break on.
create schema canon;
create schema report;

create table canon.member (
    id uuid primary key, first_name text, last_name text, email text, deleted_at timestamptz
);
comment on table canon.member is 'A person of the network.';
insert into canon.member values
    ('11111111-1111-4111-8111-111111111111', 'Zoé', 'Lefèvre', 'zoe@example.org', null),
    ('22222222-2222-4222-8222-222222222222', 'Jean', 'Martin', 'jean@example.org', null),
    ('33333333-3333-4333-8333-333333333333', 'Jean', 'MARTIN', 'jm@example.org', null),
    ('44444444-4444-4444-8444-444444444444', 'Ann', 'Gone', 'gone@example.org', '2026-01-01Z'),
    ('55555555-5555-4555-8555-555555555555', 'No', 'Rows', 'none@example.org', null);

create table canon.nasty (
    id integer, words text, amount numeric(18, 2), exact numeric(38, 10), loose numeric, whole bigint, small smallint,
    ratio double precision, day date, at timestamptz, clock timestamp, yes boolean, code uuid, tags text[],
    doc jsonb, raw json, fixed char(3), numbers integer[]
);
insert into canon.nasty values
    (1, '=cmd()', 1234567.89, 1234567890123456789012345678.0123456789, 1234.5, 9223372036854775807, -32768,
     0.1, '2026-02-28', '2026-07-01 22:30:05.25Z', '2026-07-01 08:00:00', true, '11111111-1111-4111-8111-111111111111',
     array['a,b', 'é"x', null], '{"k": [1, 2.50]}', E'{"k":\n 1}', 'EUR', array[1, 2]),
    (2, '+33612345678', -0.01, 0.0000000001, 0.0000000001, -5, 7, 1e300, '1899-12-31', '2026-01-01 00:30:00Z', null,
     false, null, array[]::text[], null, null, 'USD', null),
    (3, '-5', 0, -1, 100, 1000000000000000000, 0, -2.5e-7, '2026-03-29', '2026-10-25 00:30:00Z', null,
     null, null, null, '"=x"', '1', null, null),
    (4, '@x', null, null, null, null, null, null, null, null, null, null, null, array['=1+1'], null, null, null, null),
    (5, E'tab\tline\nbreak\r\n"quoted"; semi, comma \\ back', 1, 1, 1, 1, 1, 1, null, null, null, null, null, null, null, null, null, null),
    (6, E'\tstarts with a tab', null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null),
    (7, 'accents éàü, emoji 🚀, _x0041_, control ' || chr(11), null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null),
    (8, '', null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null),
    (9, '\.', null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null),
    (10, '-5 €', null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null),
    (11, '\N', null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null),
    (12, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null);

create table canon.long (id integer, words text);
insert into canon.long values (1, repeat('é', 32767)), (2, repeat('x', 32768));

create table canon.unfit (id integer, loose numeric, wide numeric(50, 2));
insert into canon.unfit values (1, 0.5, 1), (2, 0.00000000001, 2);

create table canon.holding (
    member_id uuid, company text, amount numeric(18, 2), held_on date, known_at timestamptz
);
insert into canon.holding values
    ('11111111-1111-4111-8111-111111111111', 'Alpha', 1000.00, '2026-01-10', '2026-01-10Z'),
    ('11111111-1111-4111-8111-111111111111', 'Bêta', 2500.50, '2026-02-10', '2026-04-01Z'),
    ('22222222-2222-4222-8222-222222222222', 'Alpha', 300.25, '2026-03-10', '2026-03-10Z');

create view report.holding as select member_id, company, amount, held_on from canon.holding;
comment on view report.holding is 'What each investor holds.';
comment on column report.holding.member_id is 'The investor.';
comment on column report.holding.amount is 'Paid in, in EUR.';
create function report.holding_at(as_of date, known_at timestamptz default null) returns setof report.holding
    language sql stable as $$
        select h.member_id, h.company, h.amount, h.held_on from canon.holding h
        where h.held_on <= $1 and h.known_at <= coalesce($2, now())
    $$;

create view report.company as
    select company, count(*) as holder_count, sum(amount) as total, 10 / (count(*) - 2) as fragile
    from canon.holding group by company;

create view report.letter as
    select member_id, 'Cher/Chère [' || company || ']' as greeting from canon.holding
    where member_id = '11111111-1111-4111-8111-111111111111';

create view canon.million as
    select g as id, g * 1.25::numeric(18, 2) as amount, 'row ' || g as words, date '2020-01-01' + g % 2000 as day
    from generate_series(1, 1000000) g;

create table report.catalogue (
    name text, label_fr text, label_en text, words_fr text, words_en text, is_dated boolean, ordinal integer
);
insert into report.catalogue values
    ('holding', 'Portefeuille', 'Holdings', 'Ce que détient chaque investisseur.', 'What each investor holds.', true, 1),
    ('letter', 'Lettres: a/b', 'Letters: a/b', 'Lettres.', 'Letters.', false, 2);

create function canon.write() returns boolean language sql as 'delete from canon.holding returning true';

-- The source of the memory figures, shaped like the harness's. psql variable n: number of investments.
set synchronous_commit = off;
create table members (
    id uuid primary key, first_name text, last_name text, email text not null,
    title text, location text, language varchar(8), status varchar(16) not null,
    role uuid, last_access timestamptz, created_at timestamptz not null, updated_at timestamptz not null);
create table startups (
    id uuid primary key, name text not null, slug text not null, country char(2), sector text,
    founded_on date, website text, description text, status varchar(16) not null,
    valuation numeric(16,2), created_at timestamptz not null, updated_at timestamptz not null);
create table projects (
    id uuid primary key, startup_id uuid not null, name text not null, stage varchar(16) not null,
    target numeric(16,2), currency char(3) not null, opens_on date, closes_on date,
    status varchar(16) not null, updated_at timestamptz not null);
create table investments (
    id uuid primary key, member_id uuid not null, project_id uuid not null, startup_id uuid not null,
    amount numeric(14,2) not null, currency char(3) not null, status varchar(16) not null,
    invested_on date not null, note text, created_at timestamptz not null, updated_at timestamptz not null);
create table bench_marker (id int primary key, token text not null, at timestamptz not null);

insert into members select md5('mem'||i)::uuid, 'First'||i%997, 'Lastname'||i%4999, 'member'||i||'@example.org',
    'Title '||i%50, 'City '||i%300, 'fr-FR', 'active', md5('role'||i%5)::uuid, now(), now(), now()
    from generate_series(1, 1000) i;
insert into startups select md5('stu'||i)::uuid, 'Startup '||i, 'startup-'||i, 'FR', 'sector-'||i%20,
    date '2015-01-01' + i, 'https://startup'||i||'.example.org', repeat('Lorem ipsum dolor ', 6)||i, 'live',
    i * 1000.25, now(), now() from generate_series(1, 500) i;
insert into projects select md5('prj'||i)::uuid, md5('stu'||(1 + i % 500))::uuid, 'Round '||i, 'seed', i * 100.5, 'EUR',
    date '2024-01-01' + i % 900, date '2024-03-01' + i % 900, 'open', now() from generate_series(1, 1000) i;
insert into investments select md5('inv'||i)::uuid, md5('mem'||(1 + i % 1000))::uuid, md5('prj'||(1 + i % 1000))::uuid,
    md5('stu'||(1 + i % 500))::uuid, (i % 50000) + 0.25, 'EUR', (array['pledged','signed','wired','closed'])[1 + i % 4],
    date '2024-01-01' + i % 900, 'note for investment '||i||' '||md5(i::text), now(), now()
    from generate_series(1, :n) i;
insert into bench_marker values (1, 'start', now());
create publication bench_pub for table members, startups, projects, investments, bench_marker;
vacuum analyze;
checkpoint;

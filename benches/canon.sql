-- The canonical tables of the benchmark: same columns in the same order, keys and indexes as on its source, so
-- that a hash over whole rows compares both. Run after `plait migrate`, in the canonical database.
create table canon.members (
    id uuid primary key, first_name text, last_name text, email text not null,
    title text, location text, language varchar(8), status varchar(16) not null,
    role uuid, last_access timestamptz, created_at timestamptz not null, updated_at timestamptz not null);
create table canon.startups (
    id uuid primary key, name text not null, slug text not null, country char(2), sector text,
    founded_on date, website text, description text, status varchar(16) not null,
    valuation numeric(16,2), created_at timestamptz not null, updated_at timestamptz not null);
create table canon.projects (
    id uuid primary key, startup_id uuid not null, name text not null, stage varchar(16) not null,
    target numeric(16,2), currency char(3) not null, opens_on date, closes_on date,
    status varchar(16) not null, updated_at timestamptz not null);
create table canon.investments (
    id uuid primary key, member_id uuid not null, project_id uuid not null, startup_id uuid not null,
    amount numeric(14,2) not null, currency char(3) not null, status varchar(16) not null,
    invested_on date not null, note text, created_at timestamptz not null, updated_at timestamptz not null);
-- The source's key is an integer: the id here is plait's own, by way of mirror.link.
create table canon.bench_marker (id uuid primary key, token text not null, at timestamptz not null);

create unique index members_email on canon.members (email);
create index projects_startup on canon.projects (startup_id);
create index investments_member on canon.investments (member_id);
create index investments_project on canon.investments (project_id);
alter table canon.projects
    add foreign key (startup_id) references canon.startups (id) deferrable initially deferred;
alter table canon.investments
    add foreign key (member_id) references canon.members (id) deferrable initially deferred,
    add foreign key (project_id) references canon.projects (id) deferrable initially deferred,
    add foreign key (startup_id) references canon.startups (id) deferrable initially deferred;

-- The harness looks for unqualified names.
do $$ begin execute format('alter database %I set search_path = canon, public', current_database()); end $$;

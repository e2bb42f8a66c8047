-- What people read. Installed by `plait migrate` and by each start, after the migrations, whenever one of these files has
-- changed. Every view runs with the rights of whoever asks, so that row-level security holds through all of them.

create schema if not exists report;
comment on schema report is 'Reports: portfolios, deal flow, legal follow-up, statistics, quality of the data. Names and columns are stable. report.catalogue lists them in words.';

-- Who reads as an investor, and which member that is. Kept by `plait setup reader`.
create table if not exists report.reader (
    role_name name constraint reader_pkey primary key,
    member_id uuid not null
);
comment on table report.reader is 'Login roles of investors, and the member that each of them is.';
comment on column report.reader.role_name is 'The login role.';
comment on column report.reader.member_id is 'The member, canon.member.';

-- Within a function that runs as its owner, current_user is the owner.
create or replace function report.caller() returns name
language sql stable parallel safe set search_path = pg_catalog, pg_temp as $$
    select coalesce(nullif(current_setting('role'), 'none'), session_user)::name
$$;
comment on function report.caller is 'The role that asks, also within functions that run as their owner.';

create or replace function report.reader_member_id() returns uuid
language sql stable parallel safe as $$
    select member_id from report.reader where role_name = current_user
$$;
comment on function report.reader_member_id is 'The member whose login this is; null for everybody else.';

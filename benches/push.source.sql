-- The source of the measurement of pushes. psql variable n: number of rows.
create table startup (id uuid primary key, name text, city text, capital numeric(14,2));
insert into startup select md5('stu'||i)::uuid, 'Startup '||i, 'City '||i % 300, i * 100.25 from generate_series(1, :n) i;
create publication bench_push for table startup;

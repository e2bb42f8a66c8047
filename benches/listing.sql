-- The canonical tables of the listing's measurement.
create table canon.bench_alpha (id uuid primary key, name text, amount numeric(14,2), note text);
create table canon.bench_beta (id uuid primary key, name text, amount numeric(14,2), note text);
create table canon.bench_gamma (id uuid primary key, name text, amount numeric(14,2), note text);

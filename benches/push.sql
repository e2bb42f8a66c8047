-- The canonical table of the measurement of pushes.
create table canon.bench_startup (id uuid primary key, name text, city text, capital numeric(14,2), deleted_at timestamptz);

-- What a line's figures are made of, without its rows.
create index cash_flow_line on canon.cash_flow (investment_id, flow_on) include (kind_code, amount, currency, quantity, deleted_at);
drop index canon.cash_flow_investment_id;
-- Who put money into a company twice: read in the order of the index, since there are about as many pairs as lines.
create index investment_member on canon.investment (member_id, startup_id) where deleted_at is null;
create statistics canon.investment_pairs (ndistinct) on member_id, startup_id from canon.investment;
drop index canon.investment_member_id;
-- Companies that were written off: few.
create index valuation_write_off on canon.valuation (startup_id) include (as_of, approved_on)
    where method_code = 'write_off' and approved_on is not null and deleted_at is null;
-- Reports share out whole lines among workers. Postgres weighs that only for a query that has no workers of its own within,
-- and would rather have some read this table, which is small.
alter table canon.investment set (parallel_workers = 0);

-- What the reports need to know of the domain beyond what the entities held: which securities a movement and a price
-- are about, how kinds of movements and of securities count, and when something became known.

alter table canon.cash_flow add column quantity numeric(20,6);
comment on column canon.cash_flow.quantity is 'Securities that this movement bought, sold or had paid back; positive, and empty for one of money alone.';

alter table canon.valuation
    add column instrument_code text constraint valuation_instrument_code_fkey references canon.instrument (code) deferrable initially deferred;
comment on column canon.valuation.instrument_code is 'The class of securities that `price` is of; empty: ordinary shares.';
comment on column canon.valuation.price is 'Price of one security of the class, in `currency`.';

alter table canon.instrument
    add column valued_at text not null default 'price' constraint instrument_valued_at_known check (valued_at in ('price', 'cost'));
comment on column canon.instrument.valued_at is 'price: worth its approved price, or cost where there is none; cost: worth what it cost until it is converted or paid back, never priced from a cap.';
update canon.instrument set valued_at = 'cost' where code in ('bsa', 'bsa_air', 'oc', 'oca', 'cca');

alter table canon.cash_flow_kind
    add column counts_as text not null default 'proceeds' constraint cash_flow_kind_counts_as_known check (counts_as in ('paid in', 'fee', 'proceeds'));
comment on column canon.cash_flow_kind.counts_as is 'paid in: part of what was invested; fee: shown apart, in no multiple; proceeds: what came back.';
alter table canon.cash_flow_kind add column ends_line boolean not null default false;
comment on column canon.cash_flow_kind.ends_line is 'Part or all of the line goes by it: a sale, a repayment, a liquidation.';
update canon.cash_flow_kind set counts_as = 'paid in' where code in ('subscription', 'loan');
update canon.cash_flow_kind set counts_as = 'fee' where code = 'fee';
update canon.cash_flow_kind set ends_line = true where code in ('sale', 'repayment', 'liquidation');

-- The latest approved price of a day is the first entry.
create index valuation_latest on canon.valuation (startup_id, as_of desc, approved_on desc, id)
    where approved_on is not null and deleted_at is null;
drop index canon.valuation_startup_id;
-- Sums over years read this alone.
create index cash_flow_kind_code on canon.cash_flow (kind_code, flow_on) include (investment_id, amount, currency) where deleted_at is null;
create index member_role_role_code on canon.member_role (role_code);
-- Rows come in the order of time: a few pages tell where a day begins.
create index source_transaction_recorded_at on mirror.source_transaction using brin (recorded_at);

create table mirror.report_installation (
    digest text constraint report_installation_pkey primary key,
    installed_at timestamptz not null default now()
);
comment on table mirror.report_installation is 'Which version of the schema report is installed: one row.';
comment on column mirror.report_installation.digest is 'SHA-256 of its files, base64.';
comment on column mirror.report_installation.installed_at is 'Since when.';

-- The domain: members, their companies, the deal flow, the money. Third normal form. Keys are UUIDs, which
-- Directus shares; money is numeric with a currency; civil dates are `date`, instants `timestamptz`;
-- enumerations are reference tables with a code and two labels. Columns are nullable wherever a person may
-- save a record half filled in. Foreign keys are checked at commit, so that a batch may come in any order.

create schema if not exists canon;
comment on schema canon is 'The canonical data: what both sides agree on, or what the rules decided. Read it; plait alone writes it.';

create table canon.member_status (
    code text constraint member_status_pkey primary key,
    label_fr text not null,
    label_en text not null,
    ordinal integer not null,
    retired_on date
);
comment on table canon.member_status is 'Where a member stands with the network. A code may be retired, never deleted.';
comment on column canon.member_status.code is 'What the data refers to; never changed.';
comment on column canon.member_status.label_fr is 'For people, in French.';
comment on column canon.member_status.label_en is 'For people, in English.';
comment on column canon.member_status.ordinal is 'The order in lists.';
comment on column canon.member_status.retired_on is 'No longer offered from this day on.';
insert into canon.member_status (code, label_fr, label_en, ordinal) values
    ('prospect', 'Prospect', 'Prospect', 10),
    ('active', 'Actif', 'Active', 20),
    ('suspended', 'Suspendu', 'Suspended', 30),
    ('left', 'Parti', 'Left', 40);

create table canon.role (
    code text constraint role_pkey primary key,
    label_fr text not null,
    label_en text not null,
    ordinal integer not null,
    retired_on date
);
comment on table canon.role is 'What a member does in the network. A code may be retired, never deleted.';
comment on column canon.role.code is 'What the data refers to; never changed.';
comment on column canon.role.label_fr is 'For people, in French.';
comment on column canon.role.label_en is 'For people, in English.';
comment on column canon.role.ordinal is 'The order in lists.';
comment on column canon.role.retired_on is 'No longer offered from this day on.';
insert into canon.role (code, label_fr, label_en, ordinal) values
    ('investor', 'Investisseur', 'Investor', 10),
    ('founder', 'Fondateur', 'Founder', 20),
    ('staff', 'Permanent', 'Staff', 30),
    ('volunteer', 'Bénévole', 'Volunteer', 40),
    ('expert', 'Expert', 'Expert', 50),
    ('delegate', 'Délégué', 'Delegate', 60);

create table canon.sector (
    code text constraint sector_pkey primary key,
    label_fr text not null,
    label_en text not null,
    ordinal integer not null,
    retired_on date
);
comment on table canon.sector is 'Line of business. A code may be retired, never deleted.';
comment on column canon.sector.code is 'What the data refers to; never changed.';
comment on column canon.sector.label_fr is 'For people, in French.';
comment on column canon.sector.label_en is 'For people, in English.';
comment on column canon.sector.ordinal is 'The order in lists.';
comment on column canon.sector.retired_on is 'No longer offered from this day on.';
insert into canon.sector (code, label_fr, label_en, ordinal) values
    ('health', 'Santé', 'Health', 10),
    ('software', 'Logiciel', 'Software', 20),
    ('energy', 'Énergie', 'Energy', 30),
    ('food', 'Agroalimentaire', 'Food', 40),
    ('industry', 'Industrie', 'Industry', 50),
    ('mobility', 'Mobilité', 'Mobility', 60),
    ('education', 'Éducation', 'Education', 70),
    ('finance', 'Finance', 'Finance', 80),
    ('environment', 'Environnement', 'Environment', 90),
    ('leisure', 'Loisirs', 'Leisure', 100);

create table canon.stage (
    code text constraint stage_pkey primary key,
    label_fr text not null,
    label_en text not null,
    ordinal integer not null,
    retired_on date,
    kind text not null constraint stage_kind_known check (kind in ('open', 'won', 'lost', 'parked'))
);
comment on table canon.stage is 'A step of the deal flow, or how it ended. A code may be retired, never deleted.';
comment on column canon.stage.code is 'What the data refers to; never changed.';
comment on column canon.stage.label_fr is 'For people, in French.';
comment on column canon.stage.label_en is 'For people, in English.';
comment on column canon.stage.ordinal is 'The order in lists.';
comment on column canon.stage.retired_on is 'No longer offered from this day on.';
comment on column canon.stage.kind is 'open: going on; won: funded; lost: ended without; parked: waits.';
insert into canon.stage (code, label_fr, label_en, ordinal, kind) values
    ('depot', 'Dépôt', 'Submitted', 10, 'open'),
    ('recevabilite', 'Recevabilité', 'Eligibility', 20, 'open'),
    ('preselection', 'Présélection', 'Preselection', 30, 'open'),
    ('pitch', 'Pitch', 'Pitch', 40, 'open'),
    ('instruction', 'Instruction', 'Due diligence', 50, 'open'),
    ('comite', 'Comité', 'Committee', 60, 'open'),
    ('negociation', 'Négociation', 'Negotiation', 70, 'open'),
    ('closing', 'Closing', 'Closing', 80, 'won'),
    ('suivi', 'Suivi', 'Follow-up', 90, 'won'),
    ('sortie', 'Sortie', 'Exit', 100, 'won'),
    ('refuse', 'Refusé', 'Refused', 110, 'lost'),
    ('retire', 'Retiré', 'Withdrawn', 120, 'lost'),
    ('en_attente', 'En attente', 'On hold', 130, 'parked'),
    ('sans_suite', 'Sans suite', 'Dropped', 140, 'lost');

create table canon.project_source (
    code text constraint project_source_pkey primary key,
    label_fr text not null,
    label_en text not null,
    ordinal integer not null,
    retired_on date
);
comment on table canon.project_source is 'How a project found the network. A code may be retired, never deleted.';
comment on column canon.project_source.code is 'What the data refers to; never changed.';
comment on column canon.project_source.label_fr is 'For people, in French.';
comment on column canon.project_source.label_en is 'For people, in English.';
comment on column canon.project_source.ordinal is 'The order in lists.';
comment on column canon.project_source.retired_on is 'No longer offered from this day on.';
insert into canon.project_source (code, label_fr, label_en, ordinal) values
    ('website', 'Site web', 'Website', 10),
    ('member', 'Membre', 'Member', 20),
    ('incubator', 'Incubateur', 'Incubator', 30),
    ('partner', 'Partenaire', 'Partner', 40),
    ('event', 'Événement', 'Event', 50);

create table canon.round_kind (
    code text constraint round_kind_pkey primary key,
    label_fr text not null,
    label_en text not null,
    ordinal integer not null,
    retired_on date
);
comment on table canon.round_kind is 'Kind of a funding round. A code may be retired, never deleted.';
comment on column canon.round_kind.code is 'What the data refers to; never changed.';
comment on column canon.round_kind.label_fr is 'For people, in French.';
comment on column canon.round_kind.label_en is 'For people, in English.';
comment on column canon.round_kind.ordinal is 'The order in lists.';
comment on column canon.round_kind.retired_on is 'No longer offered from this day on.';
insert into canon.round_kind (code, label_fr, label_en, ordinal) values
    ('love', 'Love money', 'Love money', 10),
    ('preseed', 'Pré-amorçage', 'Pre-seed', 20),
    ('seed', 'Amorçage', 'Seed', 30),
    ('bridge', 'Relais', 'Bridge', 40),
    ('a', 'Série A', 'Series A', 50),
    ('b', 'Série B', 'Series B', 60),
    ('secondary', 'Secondaire', 'Secondary', 70);

create table canon.instrument (
    code text constraint instrument_pkey primary key,
    label_fr text not null,
    label_en text not null,
    ordinal integer not null,
    retired_on date
);
comment on table canon.instrument is 'What was subscribed. A code may be retired, never deleted.';
comment on column canon.instrument.code is 'What the data refers to; never changed.';
comment on column canon.instrument.label_fr is 'For people, in French.';
comment on column canon.instrument.label_en is 'For people, in English.';
comment on column canon.instrument.ordinal is 'The order in lists.';
comment on column canon.instrument.retired_on is 'No longer offered from this day on.';
insert into canon.instrument (code, label_fr, label_en, ordinal) values
    ('ao', 'Actions ordinaires', 'Ordinary shares', 10),
    ('adp', 'Actions de préférence', 'Preference shares', 20),
    ('bsa', 'BSA', 'Warrants', 30),
    ('bsa_air', 'BSA-AIR', 'SAFE (BSA-AIR)', 40),
    ('oc', 'Obligations convertibles', 'Convertible bonds', 50),
    ('oca', 'Obligations convertibles en actions', 'Bonds convertible into shares', 60),
    ('parts', 'Parts sociales', 'Cooperative shares', 70),
    ('cca', 'Compte courant d''associé', 'Shareholder loan', 80);

create table canon.investment_status (
    code text constraint investment_status_pkey primary key,
    label_fr text not null,
    label_en text not null,
    ordinal integer not null,
    retired_on date
);
comment on table canon.investment_status is 'Where a line stands. A code may be retired, never deleted.';
comment on column canon.investment_status.code is 'What the data refers to; never changed.';
comment on column canon.investment_status.label_fr is 'For people, in French.';
comment on column canon.investment_status.label_en is 'For people, in English.';
comment on column canon.investment_status.ordinal is 'The order in lists.';
comment on column canon.investment_status.retired_on is 'No longer offered from this day on.';
insert into canon.investment_status (code, label_fr, label_en, ordinal) values
    ('committed', 'Engagé', 'Committed', 10),
    ('paid', 'Payé', 'Paid', 20),
    ('held', 'Détenu', 'Held', 30),
    ('partly_exited', 'Sorti en partie', 'Partly exited', 40),
    ('exited', 'Sorti', 'Exited', 50),
    ('written_off', 'Perte totale', 'Written off', 60);

create table canon.cash_flow_kind (
    code text constraint cash_flow_kind_pkey primary key,
    label_fr text not null,
    label_en text not null,
    ordinal integer not null,
    retired_on date
);
comment on table canon.cash_flow_kind is 'Kind of a movement of money. A code may be retired, never deleted.';
comment on column canon.cash_flow_kind.code is 'What the data refers to; never changed.';
comment on column canon.cash_flow_kind.label_fr is 'For people, in French.';
comment on column canon.cash_flow_kind.label_en is 'For people, in English.';
comment on column canon.cash_flow_kind.ordinal is 'The order in lists.';
comment on column canon.cash_flow_kind.retired_on is 'No longer offered from this day on.';
insert into canon.cash_flow_kind (code, label_fr, label_en, ordinal) values
    ('subscription', 'Souscription', 'Subscription', 10),
    ('fee', 'Frais', 'Fee', 20),
    ('loan', 'Prêt', 'Loan', 30),
    ('repayment', 'Remboursement', 'Repayment', 40),
    ('interest', 'Intérêts', 'Interest', 50),
    ('dividend', 'Dividende', 'Dividend', 60),
    ('sale', 'Cession', 'Sale', 70),
    ('liquidation', 'Liquidation', 'Liquidation', 80);

create table canon.valuation_method (
    code text constraint valuation_method_pkey primary key,
    label_fr text not null,
    label_en text not null,
    ordinal integer not null,
    retired_on date
);
comment on table canon.valuation_method is 'How a value was found. A code may be retired, never deleted.';
comment on column canon.valuation_method.code is 'What the data refers to; never changed.';
comment on column canon.valuation_method.label_fr is 'For people, in French.';
comment on column canon.valuation_method.label_en is 'For people, in English.';
comment on column canon.valuation_method.ordinal is 'The order in lists.';
comment on column canon.valuation_method.retired_on is 'No longer offered from this day on.';
insert into canon.valuation_method (code, label_fr, label_en, ordinal) values
    ('recent_round', 'Tour récent', 'Recent round', 10),
    ('milestones', 'Jalons', 'Milestones', 20),
    ('multiple', 'Multiple', 'Multiple', 30),
    ('dcf', 'Actualisation des flux', 'Discounted cash flow', 40),
    ('net_assets', 'Actif net', 'Net assets', 50),
    ('offer', 'Offre reçue', 'Offer received', 60),
    ('write_down', 'Dépréciation', 'Write-down', 70),
    ('write_off', 'Perte totale', 'Write-off', 80),
    ('cost', 'Coût', 'Cost', 90);

create table canon.legal_event_kind (
    code text constraint legal_event_kind_pkey primary key,
    label_fr text not null,
    label_en text not null,
    ordinal integer not null,
    retired_on date
);
comment on table canon.legal_event_kind is 'Kind of a legal event of a company. A code may be retired, never deleted.';
comment on column canon.legal_event_kind.code is 'What the data refers to; never changed.';
comment on column canon.legal_event_kind.label_fr is 'For people, in French.';
comment on column canon.legal_event_kind.label_en is 'For people, in English.';
comment on column canon.legal_event_kind.ordinal is 'The order in lists.';
comment on column canon.legal_event_kind.retired_on is 'No longer offered from this day on.';
insert into canon.legal_event_kind (code, label_fr, label_en, ordinal) values
    ('constitution', 'Constitution', 'Incorporation', 10),
    ('augmentation_numeraire', 'Augmentation de capital en numéraire', 'Capital increase in cash', 20),
    ('augmentation_nature', 'Augmentation de capital en nature', 'Capital increase in kind', 30),
    ('emission_bsa', 'Émission de BSA', 'Issue of warrants', 40),
    ('emission_oc', 'Émission d''OC', 'Issue of convertible bonds', 50),
    ('conversion', 'Conversion', 'Conversion', 60),
    ('reduction', 'Réduction de capital', 'Capital reduction', 70),
    ('cession', 'Cession', 'Transfer', 80),
    ('modification_statuts', 'Modification des statuts', 'Change of statutes', 90),
    ('transfert_siege', 'Transfert de siège', 'Change of seat', 100),
    ('changement_dirigeant', 'Changement de dirigeant', 'Change of director', 110),
    ('pacte', 'Pacte d''associés', 'Shareholders'' agreement', 120),
    ('procedure_collective', 'Procédure collective', 'Insolvency proceedings', 130),
    ('liquidation', 'Liquidation', 'Liquidation', 140);

create table canon.member (
    id uuid constraint member_pkey primary key,
    first_name text,
    last_name text,
    email text,
    phone text,
    status_code text constraint member_status_code_fkey references canon.member_status (code) deferrable initially deferred,
    joined_on date,
    city text,
    postcode text,
    ticket_min numeric(18,2),
    ticket_max numeric(18,2),
    currency char(3) not null default 'EUR',
    linkedin_url text,
    newsletter boolean,
    note text,
    created_at timestamptz not null default now(),
    deleted_at timestamptz,
    constraint member_phone_e164 check (phone ~ '^\+[1-9][0-9]{3,14}$')
);
comment on table canon.member is 'A person of the network: investor, founder, staff, volunteer.';
comment on column canon.member.id is 'The one identity; the primary key in Directus too.';
comment on column canon.member.first_name is 'Given name.';
comment on column canon.member.last_name is 'Family name.';
comment on column canon.member.email is 'Lower case, no spaces around it.';
comment on column canon.member.phone is 'E.164, for example +33612345678.';
comment on column canon.member.status_code is 'Where the member stands.';
comment on column canon.member.joined_on is 'Day of joining.';
comment on column canon.member.city is 'Town of residence.';
comment on column canon.member.postcode is 'Postcode, as text: it may begin with 0.';
comment on column canon.member.ticket_min is 'Smallest amount the member invests at a time, in `currency`.';
comment on column canon.member.ticket_max is 'Largest one, in `currency`.';
comment on column canon.member.currency is 'ISO 4217 code of the amounts in this row.';
comment on column canon.member.linkedin_url is 'Public profile.';
comment on column canon.member.newsletter is 'Wants the newsletter.';
comment on column canon.member.note is 'Free text.';
comment on column canon.member.created_at is 'When the row came into the canonical database.';
comment on column canon.member.deleted_at is 'When a side deleted the record; the row is kept until a person decides.';

create table canon.startup (
    id uuid constraint startup_pkey primary key,
    name text,
    siren text,
    legal_form text,
    sector_code text constraint startup_sector_code_fkey references canon.sector (code) deferrable initially deferred,
    website text,
    city text,
    founded_on date,
    description text,
    share_capital numeric(18,2),
    currency char(3) not null default 'EUR',
    jei boolean,
    headcount integer,
    held_share numeric(9,6),
    rating smallint,
    contact_email text,
    contact_phone text,
    tags text[],
    total_invested jsonb,
    created_at timestamptz not null default now(),
    deleted_at timestamptz,
    constraint startup_siren_digits check (siren ~ '^[0-9]{9}$')
);
comment on table canon.startup is 'A company that applied, or that members hold.';
comment on column canon.startup.id is 'The one identity; the primary key in Directus too.';
comment on column canon.startup.name is 'Name in use.';
comment on column canon.startup.siren is 'SIREN, nine digits with a valid key, as text.';
comment on column canon.startup.legal_form is 'SAS, SA, SARL, …';
comment on column canon.startup.sector_code is 'Line of business.';
comment on column canon.startup.website is 'Address of the site.';
comment on column canon.startup.city is 'Town of the seat.';
comment on column canon.startup.founded_on is 'Day of incorporation.';
comment on column canon.startup.description is 'What it does.';
comment on column canon.startup.share_capital is 'Share capital, in `currency`.';
comment on column canon.startup.currency is 'ISO 4217 code of the amounts in this row.';
comment on column canon.startup.jei is 'Has the status of jeune entreprise innovante.';
comment on column canon.startup.headcount is 'Employees.';
comment on column canon.startup.held_share is 'Share that members hold together: 0.05 is 5 %.';
comment on column canon.startup.rating is 'The staffs own rating, 1 to 5.';
comment on column canon.startup.contact_email is 'Lower case, no spaces around it.';
comment on column canon.startup.contact_phone is 'E.164.';
comment on column canon.startup.tags is 'Keywords, in the order given.';
comment on column canon.startup.total_invested is 'As Airtable computes it: a number, or {"error": …}.';
comment on column canon.startup.created_at is 'When the row came into the canonical database.';
comment on column canon.startup.deleted_at is 'When a side deleted the record; the row is kept until a person decides.';

create table canon.project (
    id uuid constraint project_pkey primary key,
    name text,
    startup_id uuid constraint project_startup_id_fkey references canon.startup (id) deferrable initially deferred,
    stage_code text constraint project_stage_code_fkey references canon.stage (code) deferrable initially deferred,
    referent_id uuid constraint project_referent_id_fkey references canon.member (id) deferrable initially deferred,
    source_code text constraint project_source_code_fkey references canon.project_source (code) deferrable initially deferred,
    sector_code text constraint project_sector_code_fkey references canon.sector (code) deferrable initially deferred,
    region text,
    submitted_on date,
    amount_sought numeric(18,2),
    pre_money_asked numeric(18,2),
    currency char(3) not null default 'EUR',
    summary text,
    pitch_seconds integer,
    last_contact_at timestamptz,
    followed_by text,
    answers jsonb,
    created_at timestamptz not null default now(),
    deleted_at timestamptz
);
comment on table canon.project is 'An application for funding and its way through the deal flow.';
comment on column canon.project.id is 'The one identity; the primary key in Directus too.';
comment on column canon.project.name is 'Name of the project.';
comment on column canon.project.startup_id is 'The company behind it, once there is one.';
comment on column canon.project.stage_code is 'Where it stands; its changes are in stage_transition.';
comment on column canon.project.referent_id is 'The member who looks after it.';
comment on column canon.project.source_code is 'How it found the network.';
comment on column canon.project.sector_code is 'Line of business.';
comment on column canon.project.region is 'Region of the project.';
comment on column canon.project.submitted_on is 'Day of the application.';
comment on column canon.project.amount_sought is 'Amount asked for, in `currency`.';
comment on column canon.project.pre_money_asked is 'Valuation before the money that the founders ask for, in `currency`.';
comment on column canon.project.currency is 'ISO 4217 code of the amounts in this row.';
comment on column canon.project.summary is 'What it is about.';
comment on column canon.project.pitch_seconds is 'Length of the pitch, in seconds.';
comment on column canon.project.last_contact_at is 'Last exchange with the founders.';
comment on column canon.project.followed_by is 'E-mail of the person on the staff who follows it.';
comment on column canon.project.answers is 'The application form as it was filled in.';
comment on column canon.project.created_at is 'When the row came into the canonical database.';
comment on column canon.project.deleted_at is 'When a side deleted the record; the row is kept until a person decides.';
create index project_startup_id on canon.project (startup_id);
create index project_referent_id on canon.project (referent_id);

create table canon.round (
    id uuid constraint round_pkey primary key,
    name text,
    startup_id uuid constraint round_startup_id_fkey references canon.startup (id) deferrable initially deferred,
    kind_code text constraint round_kind_code_fkey references canon.round_kind (code) deferrable initially deferred,
    opened_on date,
    closed_on date,
    pre_money numeric(18,2),
    amount_target numeric(18,2),
    amount_raised numeric(18,2),
    currency char(3) not null default 'EUR',
    lead_investor text,
    created_at timestamptz not null default now(),
    deleted_at timestamptz
);
comment on table canon.round is 'A funding round of a company.';
comment on column canon.round.id is 'The one identity; the primary key in Directus too.';
comment on column canon.round.name is 'Name of the round.';
comment on column canon.round.startup_id is 'The company.';
comment on column canon.round.kind_code is 'Kind of round.';
comment on column canon.round.opened_on is 'First day.';
comment on column canon.round.closed_on is 'Day of closing.';
comment on column canon.round.pre_money is 'Valuation before the money, in `currency`.';
comment on column canon.round.amount_target is 'Amount aimed at, in `currency`.';
comment on column canon.round.amount_raised is 'Amount raised by all investors, in `currency`.';
comment on column canon.round.currency is 'ISO 4217 code of the amounts in this row.';
comment on column canon.round.lead_investor is 'Who leads.';
comment on column canon.round.created_at is 'When the row came into the canonical database.';
comment on column canon.round.deleted_at is 'When a side deleted the record; the row is kept until a person decides.';
create index round_startup_id on canon.round (startup_id);

create table canon.investment (
    id uuid constraint investment_pkey primary key,
    reference text,
    member_id uuid constraint investment_member_id_fkey references canon.member (id) deferrable initially deferred,
    startup_id uuid constraint investment_startup_id_fkey references canon.startup (id) deferrable initially deferred,
    round_id uuid constraint investment_round_id_fkey references canon.round (id) deferrable initially deferred,
    instrument_code text constraint investment_instrument_code_fkey references canon.instrument (code) deferrable initially deferred,
    status_code text constraint investment_status_code_fkey references canon.investment_status (code) deferrable initially deferred,
    committed numeric(18,2),
    amount numeric(18,2),
    currency char(3) not null default 'EUR',
    signed_on date,
    quantity numeric(20,6),
    unit_price numeric(20,8),
    wrapper text,
    note text,
    created_at timestamptz not null default now(),
    deleted_at timestamptz
);
comment on table canon.investment is 'One line: what a member put into a company.';
comment on column canon.investment.id is 'The one identity; the primary key in Directus too.';
comment on column canon.investment.reference is 'The networks own number.';
comment on column canon.investment.member_id is 'The investor.';
comment on column canon.investment.startup_id is 'The company.';
comment on column canon.investment.round_id is 'The round, if any.';
comment on column canon.investment.instrument_code is 'What was subscribed.';
comment on column canon.investment.status_code is 'Where the line stands.';
comment on column canon.investment.committed is 'Amount promised, in `currency`.';
comment on column canon.investment.amount is 'Amount paid, in `currency`.';
comment on column canon.investment.currency is 'ISO 4217 code of the amounts in this row.';
comment on column canon.investment.signed_on is 'Day of the subscription form.';
comment on column canon.investment.quantity is 'Number of securities.';
comment on column canon.investment.unit_price is 'Price of one, in `currency`.';
comment on column canon.investment.wrapper is 'Tax wrapper: CTO, PEA, PEA-PME, …';
comment on column canon.investment.note is 'Free text.';
comment on column canon.investment.created_at is 'When the row came into the canonical database.';
comment on column canon.investment.deleted_at is 'When a side deleted the record; the row is kept until a person decides.';
create index investment_member_id on canon.investment (member_id);
create index investment_startup_id on canon.investment (startup_id);
create index investment_round_id on canon.investment (round_id);

create table canon.cash_flow (
    id uuid constraint cash_flow_pkey primary key,
    label text,
    investment_id uuid constraint cash_flow_investment_id_fkey references canon.investment (id) deferrable initially deferred,
    kind_code text constraint cash_flow_kind_code_fkey references canon.cash_flow_kind (code) deferrable initially deferred,
    flow_on date,
    amount numeric(18,2),
    currency char(3) not null default 'EUR',
    note text,
    created_at timestamptz not null default now(),
    deleted_at timestamptz
);
comment on table canon.cash_flow is 'A movement of money of a line, seen from the investor: paid out is negative.';
comment on column canon.cash_flow.id is 'The one identity; the primary key in Directus too.';
comment on column canon.cash_flow.label is 'What it is.';
comment on column canon.cash_flow.investment_id is 'The line.';
comment on column canon.cash_flow.kind_code is 'Kind of movement.';
comment on column canon.cash_flow.flow_on is 'Day of payment.';
comment on column canon.cash_flow.amount is 'Signed amount, in `currency`.';
comment on column canon.cash_flow.currency is 'ISO 4217 code of the amount.';
comment on column canon.cash_flow.note is 'Free text.';
comment on column canon.cash_flow.created_at is 'When the row came into the canonical database.';
comment on column canon.cash_flow.deleted_at is 'When a side deleted the record; the row is kept until a person decides.';
create index cash_flow_investment_id on canon.cash_flow (investment_id);

create table canon.valuation (
    id uuid constraint valuation_pkey primary key,
    label text,
    startup_id uuid constraint valuation_startup_id_fkey references canon.startup (id) deferrable initially deferred,
    as_of date,
    method_code text constraint valuation_method_code_fkey references canon.valuation_method (code) deferrable initially deferred,
    price numeric(20,8),
    equity_value numeric(18,2),
    currency char(3) not null default 'EUR',
    approved_on date,
    comment text,
    created_at timestamptz not null default now(),
    deleted_at timestamptz
);
comment on table canon.valuation is 'What a company was worth on a day, and by which method.';
comment on column canon.valuation.id is 'The one identity; the primary key in Directus too.';
comment on column canon.valuation.label is 'What it is.';
comment on column canon.valuation.startup_id is 'The company.';
comment on column canon.valuation.as_of is 'Day of the value.';
comment on column canon.valuation.method_code is 'How it was found.';
comment on column canon.valuation.price is 'Price of one ordinary share, in `currency`.';
comment on column canon.valuation.equity_value is 'Value of all shares, in `currency`.';
comment on column canon.valuation.currency is 'ISO 4217 code of the amounts in this row.';
comment on column canon.valuation.approved_on is 'Day of approval; empty: not approved.';
comment on column canon.valuation.comment is 'Reasons and evidence.';
comment on column canon.valuation.created_at is 'When the row came into the canonical database.';
comment on column canon.valuation.deleted_at is 'When a side deleted the record; the row is kept until a person decides.';
create index valuation_startup_id on canon.valuation (startup_id);

create table canon.legal_event (
    id uuid constraint legal_event_pkey primary key,
    label text,
    startup_id uuid constraint legal_event_startup_id_fkey references canon.startup (id) deferrable initially deferred,
    kind_code text constraint legal_event_kind_code_fkey references canon.legal_event_kind (code) deferrable initially deferred,
    decided_on date,
    effective_on date,
    registered_on date,
    capital_before numeric(18,2),
    capital_after numeric(18,2),
    currency char(3) not null default 'EUR',
    file_complete boolean,
    note text,
    created_at timestamptz not null default now(),
    deleted_at timestamptz
);
comment on table canon.legal_event is 'A decision or an event in the legal life of a company.';
comment on column canon.legal_event.id is 'The one identity; the primary key in Directus too.';
comment on column canon.legal_event.label is 'What it is.';
comment on column canon.legal_event.startup_id is 'The company.';
comment on column canon.legal_event.kind_code is 'Kind of event.';
comment on column canon.legal_event.decided_on is 'Day of the decision.';
comment on column canon.legal_event.effective_on is 'Day from which it holds.';
comment on column canon.legal_event.registered_on is 'Day of registration.';
comment on column canon.legal_event.capital_before is 'Share capital before, in `currency`.';
comment on column canon.legal_event.capital_after is 'Share capital after, in `currency`.';
comment on column canon.legal_event.currency is 'ISO 4217 code of the amounts in this row.';
comment on column canon.legal_event.file_complete is 'All documents are there.';
comment on column canon.legal_event.note is 'Free text.';
comment on column canon.legal_event.created_at is 'When the row came into the canonical database.';
comment on column canon.legal_event.deleted_at is 'When a side deleted the record; the row is kept until a person decides.';
create index legal_event_startup_id on canon.legal_event (startup_id);
create index member_email on canon.member (email);
create index startup_siren on canon.startup (siren);

create table canon.member_role (
    member_id uuid not null constraint member_role_member_id_fkey references canon.member (id) on delete cascade deferrable initially deferred,
    role_code text not null constraint member_role_role_code_fkey references canon.role (code) deferrable initially deferred,
    constraint member_role_pkey primary key (member_id, role_code)
);
comment on table canon.member_role is 'The roles of a member: a row each.';
comment on column canon.member_role.member_id is 'The member.';
comment on column canon.member_role.role_code is 'The role.';

create table canon.project_interest (
    project_id uuid not null constraint project_interest_project_id_fkey references canon.project (id) on delete cascade deferrable initially deferred,
    member_id uuid not null constraint project_interest_member_id_fkey references canon.member (id) on delete cascade deferrable initially deferred,
    constraint project_interest_pkey primary key (project_id, member_id)
);
comment on table canon.project_interest is 'Which members are interested in a project: a row each.';
comment on column canon.project_interest.project_id is 'The project.';
comment on column canon.project_interest.member_id is 'The member.';
create index project_interest_member_id on canon.project_interest (member_id);

create table canon.stage_transition (
    stage_transition_id bigint generated always as identity constraint stage_transition_pkey primary key,
    project_id uuid not null,
    from_code text constraint stage_transition_from_code_fkey references canon.stage (code),
    to_code text constraint stage_transition_to_code_fkey references canon.stage (code),
    occurred_at timestamptz not null,
    side text not null,
    author text
);
comment on table canon.stage_transition is 'Each change of a project''s stage, as it happened. Written once, never edited; no foreign key to the project, so that its history outlives it.';
comment on column canon.stage_transition.project_id is 'The project.';
comment on column canon.stage_transition.from_code is 'The stage before; empty: the first one.';
comment on column canon.stage_transition.to_code is 'The stage after; empty: it was cleared.';
comment on column canon.stage_transition.occurred_at is 'When, by the clock of the side where it happened.';
comment on column canon.stage_transition.side is 'Where: airtable or directus.';
comment on column canon.stage_transition.author is 'Who, as far as the side tells.';
comment on column canon.stage_transition.stage_transition_id is 'Grows with time.';
create index stage_transition_project_id on canon.stage_transition (project_id, stage_transition_id);

create function canon.refuse_edit() returns trigger language plpgsql as $$
begin
    raise exception 'rows of %.% are written once and never edited', tg_table_schema, tg_table_name
        using errcode = 'integrity_constraint_violation';
end
$$;
comment on function canon.refuse_edit() is 'Trigger for tables that only grow.';
create trigger stage_transition_only_grows before update or delete on canon.stage_transition
    for each row execute function canon.refuse_edit();

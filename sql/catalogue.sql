-- What there is, in words.

create or replace view report.catalogue as
select * from (values
    ('portfolio_by_investor', 'Portefeuille par investisseur', 'Portfolio by investor', 'Pour chaque investisseur : montants investis, revenus et valeur des lignes, multiples et taux de rendement.', 'For each investor: what was invested, what came back, what is held, multiples and rate of return.', true, 10),
    ('portfolio_by_startup', 'Portefeuille par société', 'Portfolio by company', 'Pour chaque société : toutes les lignes des membres, leur valeur et leur rendement.', 'For each company: all lines of members, what they are worth and their return.', true, 20),
    ('portfolio_line', 'Lignes du portefeuille', 'Portfolio lines', 'Chaque ligne : qui, quelle société, combien, ce qui est revenu, la valeur et sur quelle base.', 'Each line: who, which company, how much, what came back, its value and on which basis.', true, 30),
    ('movement', 'Flux', 'Movements', 'Chaque versement, frais, dividende, remboursement ou cession.', 'Each payment, fee, dividend, repayment or sale.', true, 40),
    ('network_total', 'Total du réseau', 'Network total', 'Toutes les lignes réunies.', 'All lines together.', true, 50),
    ('network_by_year', 'Réseau par année', 'Network by year', 'Adhésions, candidatures, montants investis et revenus de chaque année.', 'New members, applications, what was invested and what came back in each year.', false, 60),
    ('network_by_vintage', 'Réseau par millésime', 'Network by vintage', 'Ce que sont devenues les lignes commencées chaque année.', 'What became of the lines that began in each year.', false, 70),
    ('network_by_sector', 'Réseau par secteur', 'Network by sector', 'Sociétés, lignes et montants par secteur.', 'Companies, lines and amounts by sector.', false, 80),
    ('network_by_region', 'Réseau par région', 'Network by region', 'Candidatures et montants investis par région.', 'Applications and what was invested by region.', false, 90),
    ('concentration', 'Concentration', 'Concentration', 'Les plus grosses sociétés et les plus gros investisseurs, et leur part du total.', 'The largest companies and investors, and their share of the total.', false, 100),
    ('exit_list', 'Sorties et pertes', 'Exits and losses', 'Lignes cédées, remboursées ou perdues, et ce qui en est revenu.', 'Lines that were sold, repaid or lost, and what came back of them.', false, 110),
    ('deal_flow_board', 'Tableau du deal flow', 'Deal-flow board', 'Chaque projet : son étape, depuis quand, son référent, ce qu''il demande.', 'Each project: its stage, since when, its referent, what it asks for.', false, 120),
    ('stage_time', 'Durée des étapes', 'Time in stages', 'Combien de projets sont à chaque étape, et combien de temps ils y restent.', 'How many projects are in each stage, and how long they stay.', false, 130),
    ('stage_visit', 'Passages aux étapes', 'Stays in stages', 'Chaque passage d''un projet par une étape : du, au, jours.', 'Each stay of a project in a stage: from, to, days.', false, 140),
    ('deal_flow_funnel', 'Entonnoir', 'Funnel', 'Combien de projets ont atteint chaque étape.', 'How many projects came as far as each stage.', false, 150),
    ('deal_flow_conversion', 'Conversion', 'Conversion', 'Ce que sont devenus les projets, par année, origine, secteur et région.', 'What became of the projects, by year, source, sector and region.', false, 160),
    ('round_list', 'Tours de financement', 'Funding rounds', 'Chaque tour : sa taille, ce que les membres ont promis et payé.', 'Each round: its size, what members committed and paid.', false, 170),
    ('valuation_list', 'Valorisations', 'Valuations', 'Chaque valorisation : méthode, prix, âge, à revoir ou non.', 'Each valuation: method, price, age, whether to review it.', false, 180),
    ('legal_follow_up', 'Suivi juridique', 'Legal follow-up', 'Chaque événement juridique, et ce qui manque encore à son dossier.', 'Each legal event, and what its file still lacks.', false, 190),
    ('member_directory', 'Annuaire', 'Member directory', 'Chaque membre : statut, rôles, activité ; sans coordonnées.', 'Each member: status, roles, activity; without contact data.', false, 200),
    ('member_contact', 'Coordonnées des membres', 'Contact data of members', 'E-mail, téléphone, ville, lettre d''information. Pour le délégué.', 'E-mail, phone, town, newsletter. For the delegate.', false, 210),
    ('data_quality', 'Qualité des données', 'Quality of the data', 'Ce qui manque ou ne peut pas être, et que faire.', 'What is missing or cannot be, and what to do.', false, 220),
    ('mirror_health', 'Santé du miroir', 'Health of the mirror', 'Si les deux côtés sont lus, et ce qui attend une personne.', 'Whether both sides are read, and what waits for a person.', false, 230)
) c (name, label_fr, label_en, words_fr, words_en, is_dated, ordinal)
where to_regclass('report.' || c.name) is not null and has_table_privilege(to_regclass('report.' || c.name), 'select');
comment on view report.catalogue is 'A row a report that you may read: its name, what it is in words, and whether it can be asked for another day (report.NAME_at(date)).';
comment on column report.catalogue.name is 'The view in this schema.';
comment on column report.catalogue.label_fr is 'Its name for people, in French.';
comment on column report.catalogue.label_en is 'Its name for people, in English.';
comment on column report.catalogue.words_fr is 'What is in it, in French.';
comment on column report.catalogue.words_en is 'What is in it, in English.';
comment on column report.catalogue.is_dated is 'report.NAME_at(as_of date, known_at timestamptz) gives it as of a day, from what was known at an instant.';
comment on column report.catalogue.ordinal is 'The order in lists.';

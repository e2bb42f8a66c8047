//! The rows of the network, the same for both sides of a mirror.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{super::ids::Rng, tables::SECTORS};

/// Parents before those that link to them.
pub(super) const TABLES: [&str; 8] = [
    "Membres",
    "Startups",
    "Projets",
    "Tours",
    "Investissements",
    "Flux",
    "Valorisations",
    "Événements juridiques",
];

/// A row as it is made up.
#[derive(Clone, Debug)]
pub struct SeedRow {
    pub row: usize,
    pub uuid: Uuid,
    /// Whether Airtable's `UUID` field holds it.
    pub is_filled: bool,
    /// By field name, as over REST; no links, no UUID.
    pub cells: Map<String, Value>,
    pub links: BTreeMap<String, SeedLink>,
}

/// Rows of another table.
#[derive(Clone, Debug)]
pub struct SeedLink {
    pub table: &'static str,
    pub rows: Vec<usize>,
}

/// The UUID of a row of a table, whether or not Airtable holds it.
pub fn seed_uuid(table: &str, row: usize) -> Uuid {
    super::uuid_of(&format!("plait sandbox/{table}/{row}"))
}

const FIRST: [&str; 20] = [
    "Jeanne",
    "Élodie",
    "François",
    "Anne-Sophie",
    "Jean-Baptiste",
    "Zoé",
    "Hélène",
    "Loïc",
    "Agnès",
    "Noël",
    "Maëlle",
    "Yves",
    "Inès",
    "Thérèse",
    "Rémi",
    "Gaëtan",
    "Camille",
    "Benoît",
    "Solène",
    "Karim",
];
const LAST: [&str; 22] = [
    "MARTIN-DUPONT",
    "LE GOFF",
    "DE LA TOUR",
    "D'ORMESSON",
    "LEFÈVRE",
    "BERNARD",
    "PETIT",
    "ROUX",
    "MÜLLER",
    "GARCIA",
    "NGUYEN",
    "BENALI",
    "DU PLESSIS",
    "FAURE",
    "GÉRARD",
    "LÉVÊQUE",
    "MOREAU",
    "SIMON",
    "LAURENT",
    "MICHEL",
    "DA SILVA",
    "HÉBERT",
];
const CITIES: [(&str, &str); 6] = [
    ("Rennes", "35000"),
    ("Nantes", "44000"),
    ("Lyon", "69003"),
    ("Paris", "75011"),
    ("Saint-Étienne", "42000"),
    ("Besançon", "25000"),
];
const WORDS: [&str; 12] = [
    "Horizon", "Kérouan", "Aber", "Lumen", "Solis", "Mistral", "Genêt", "Écume", "Boréal", "Armor",
    "Vega", "Sillage",
];

/// Nine digits whose Luhn sum is a multiple of ten.
fn siren(rng: &mut Rng) -> String {
    let mut digits: Vec<usize> = (0..8).map(|_| rng.below(10)).collect();
    digits[0] = 3 + digits[0] % 7;
    let sum: usize = digits
        .iter()
        .enumerate()
        .map(|(at, digit)| if at % 2 == 1 { digit * 2 / 10 + digit * 2 % 10 } else { *digit })
        .sum();
    digits.push((10 - sum % 10) % 10);
    digits.iter().map(ToString::to_string).collect()
}

fn phone(rng: &mut Rng, row: usize) -> String {
    let pairs: Vec<String> = (0..4).map(|_| format!("{:02}", rng.below(100))).collect();
    match row % 6 {
        0 => format!("06 {}", pairs.join(" ")),
        1 => format!("+33 6 {}", pairs.join(" ")),
        2 => format!("0033 7 {}", pairs.join(" ")),
        3 => format!("06.{}", pairs.join(".")),
        4 => format!("02{}", pairs.concat()),
        _ => format!("+336{}", pairs.concat()),
    }
}

fn day(rng: &mut Rng, from_year: usize, years: usize) -> (usize, usize, usize) {
    (from_year + rng.below(years), 1 + rng.below(12), 1 + rng.below(28))
}

fn iso(rng: &mut Rng, from_year: usize, years: usize) -> String {
    let (year, month, day) = day(rng, from_year, years);
    format!("{year}-{month:02}-{day:02}")
}

/// The rows of one table of the network; none for a table it does not have.
pub fn seed_rows(table: &str) -> Vec<SeedRow> {
    let Some(position) = TABLES.iter().position(|known| *known == table) else { return Vec::new() };
    let count = [320, 50, 300, 100, 900, 900, 150, 120][position];
    let mut rng = Rng::new(super::SEED ^ (position as u64 + 1));
    (0..count)
        .map(|row| {
            let mut links = BTreeMap::new();
            let cells = match position {
                0 => member(&mut rng, row),
                1 => startup(&mut rng, row),
                2 => project(&mut rng, row, &mut links),
                3 => round(&mut rng, row, &mut links),
                4 => investment(&mut rng, row, &mut links),
                5 => flow(&mut rng, row, &mut links),
                6 => valuation(&mut rng, row, &mut links),
                _ => legal_event(&mut rng, row, &mut links),
            };
            let mut cells = cells.as_object().cloned().unwrap_or_default();
            cells.retain(|_, value| !value.is_null());
            SeedRow {
                row,
                uuid: seed_uuid(table, row),
                is_filled: position < 3 && row % 2 == 0,
                cells,
                links,
            }
        })
        .collect()
}

fn link(
    links: &mut BTreeMap<String, SeedLink>,
    field: &str,
    table: &'static str,
    rows: Vec<usize>,
) {
    links.insert(field.into(), SeedLink { table, rows });
}

fn member(rng: &mut Rng, row: usize) -> Value {
    let (first, last) = (FIRST[row % FIRST.len()], LAST[row * 7 % LAST.len()]);
    let (city, postcode) = *rng.pick(&CITIES);
    let mut email = format!("membre.{row}@exemple.fr");
    if row % 17 == 3 {
        email = format!(" Membre.{row}@Exemple.FR ");
    }
    let (year, month, date) = day(rng, 2012, 14);
    let joined =
        if row == 41 { "31-02-2021".into() } else { format!("{date:02}-{month:02}-{year}") };
    let number = if row == 57 { "voir notes".into() } else { phone(rng, row) };
    let status = ["Actif", "Actif", "Actif", "Prospect", "Suspendu", "Parti"][row % 6];
    json!({
        "Nom complet": format!("{first} {last}"), "E-mail": email, "Téléphone": number, "Statut": status,
        "Rôles": if row.is_multiple_of(5) { json!(["Investisseur", "Expert"]) } else { json!(["Investisseur"]) },
        "Date d'adhésion": joined, "Ville": if row % 23 == 5 { Value::Null } else { json!(city) },
        "Code postal": postcode, "Ticket min": 5000, "Ticket max": 10000 + 5000 * (row % 5),
        "LinkedIn": format!("https://www.linkedin.com/in/membre-{row}"), "Newsletter": !row.is_multiple_of(3),
        "Notes": if row == 57 { json!("Téléphone fixe : demander à l'accueil.") } else { Value::Null },
    })
}

fn startup(rng: &mut Rng, row: usize) -> Value {
    let mut number = siren(rng);
    if row % 4 == 1 {
        number = number
            .chars()
            .enumerate()
            .flat_map(|(at, c)| (at > 0 && at % 3 == 0).then_some(' ').into_iter().chain([c]))
            .collect();
    }
    json!({
        "Nom": format!("{} {}", WORDS[row % 12], SECTORS[row * 3 % 10]), "SIREN": number,
        "Forme juridique": "SAS", "Secteur": SECTORS[row % 10], "Site": format!("https://startup-{row}.example"),
        "Ville": rng.pick(&CITIES).0, "Date de création": iso(rng, 2014, 10), "Description": "Jeune entreprise du réseau.",
        "Capital social": 10_000 + 500 * row, "JEI": row.is_multiple_of(2), "Effectif": 2 + row % 30, "Part détenue": 0.0125,
        "Note": 1 + row % 5, "E-mail de contact": format!("contact@startup-{row}.example"),
        "Téléphone de contact": phone(rng, row), "Mots-clés": "b2b, amorçage",
    })
}

fn project(rng: &mut Rng, row: usize, links: &mut BTreeMap<String, SeedLink>) -> Value {
    let stages = [
        "Dépôt",
        "Recevabilité",
        "Présélection",
        "Pitch",
        "Instruction",
        "Comité",
        "Refusé",
        "Sans suite",
    ];
    if row < 50 {
        link(links, "Startup", "Startups", vec![row]);
    }
    link(links, "Référent", "Membres", vec![rng.below(320)]);
    link(links, "Intéressés", "Membres", vec![row % 320, (row + 11) % 320]);
    json!({
        "Nom du projet": format!("{} {}", WORDS[row * 5 % 12], 2024 + row / 100), "Étape": stages[row % 8],
        "Origine": (["Site web", "Membre", "Incubateur", "Partenaire", "Événement"][row % 5]), "Secteur": SECTORS[row % 10],
        "Région": [(["Bretagne", "Pays de la Loire", "Île-de-France"][row % 3])], "Date de dépôt": iso(rng, 2024 + row / 100, 1),
        "Montant recherché": 100_000 + 50_000 * (row % 8), "Pré-money demandée": 1_000_000 + 250_000 * (row % 9),
        "Résumé": "Dossier déposé par les fondateurs.", "Durée du pitch": 420,
        "Dernier échange": format!("{}T09:30:00.000Z", iso(rng, 2024 + row / 100, 1)),
        "Suivi par": { "id": super::OWNER_USER },
    })
}

fn round(rng: &mut Rng, row: usize, links: &mut BTreeMap<String, SeedLink>) -> Value {
    link(links, "Startup", "Startups", vec![row % 50]);
    let year = 2021 + row / 50;
    json!({
        "Nom": format!("Tour {} de {}", 1 + row / 50, WORDS[row % 12]), "Type": (["Amorçage", "Série A"][row / 50]),
        "Ouvert le": iso(rng, year, 1), "Clos le": iso(rng, year + 1, 1), "Pré-money": 1_500_000 + 10_000 * row,
        "Montant visé": 400_000, "Montant levé": 350_000 + 1000 * row, "Chef de file": "Réseau",
    })
}

fn investment(rng: &mut Rng, row: usize, links: &mut BTreeMap<String, SeedLink>) -> Value {
    let round = rng.below(100);
    link(links, "Membre", "Membres", vec![row * 13 % 320]);
    link(links, "Startup", "Startups", vec![round % 50]);
    link(links, "Tour", "Tours", vec![round]);
    let amount = 5000 + 1000 * rng.below(20);
    json!({
        "Référence": format!("INV-{:04}", row + 1), "Instrument": (["Actions ordinaires", "BSA-AIR", "Obligations convertibles"][row % 3]),
        "Statut": (["Détenu", "Payé", "Détenu"][row % 3]), "Engagé": amount, "Montant": amount,
        "Date de signature": iso(rng, 2021, 4), "Quantité": amount / 10, "Prix unitaire": 10.25,
        "Enveloppe": (["CTO", "PEA", "PEA-PME"][row % 3]),
    })
}

fn flow(rng: &mut Rng, row: usize, links: &mut BTreeMap<String, SeedLink>) -> Value {
    link(links, "Investissement", "Investissements", vec![row]);
    json!({
        "Libellé": format!("Souscription INV-{:04}", row + 1), "Type": "Souscription", "Date": iso(rng, 2021, 4),
        "Montant": -5000.5,
    })
}

fn valuation(rng: &mut Rng, row: usize, links: &mut BTreeMap<String, SeedLink>) -> Value {
    link(links, "Startup", "Startups", vec![row % 50]);
    let year = 2022 + row / 50;
    json!({
        "Libellé": format!("Valorisation {year}"), "Date": format!("{year}-12-31"),
        "Méthode": (["Tour récent", "Jalons", "Coût"][row % 3]), "Prix par action": 10.125,
        "Valeur des fonds propres": 2_000_000 + 10_000 * row, "Approuvée le": iso(rng, year + 1, 1),
    })
}

fn legal_event(rng: &mut Rng, row: usize, links: &mut BTreeMap<String, SeedLink>) -> Value {
    link(links, "Startup", "Startups", vec![row % 50]);
    json!({
        "Libellé": format!("Acte {}", row + 1), "Type": (["Constitution", "Augmentation de capital en numéraire", "Transfert de siège"][row % 3]),
        "Décidé le": iso(rng, 2019, 6), "Effet le": iso(rng, 2019, 6), "Capital avant": 10_000, "Capital après": 12_500,
        "Dossier complet": !row.is_multiple_of(4),
    })
}

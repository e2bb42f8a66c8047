//! Members, startups and the projects that are handed in.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use unicode_normalization::UnicodeNormalization;

use super::super::ids::Rng;
use super::rows::{SeedLink, day, iso, link, phone, siren};
use super::tables::SECTORS;
use super::words::{
    CITIES, CUSTOMERS, FIRST, LAST, MAIL_HOSTS, NOTES, PRODUCTS, PROJECT_HEADS, PROJECT_TAILS,
    STARTUPS, TAGS, TRACTION,
};

/// A name as an address has it: `Élodie LE GOFF` → `elodie.le-goff`.
fn slug(text: &str) -> String {
    let plain = text.nfd().filter(char::is_ascii).collect::<String>().to_lowercase();
    plain.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}

pub(super) fn member(rng: &mut Rng, row: usize) -> Value {
    let (first, last) = (FIRST[row % FIRST.len()], LAST[row * 7 % LAST.len()]);
    let (city, postcode) = *rng.pick(&CITIES);
    let address = slug(&format!("{first}.{last}"));
    let mut email = format!("{address}.{row}@{}", MAIL_HOSTS[row % MAIL_HOSTS.len()]);
    if row % 17 == 3 {
        email = format!(" {} ", email.to_uppercase());
    }
    let (year, month, date) = day(rng, 2012, 14);
    // What people type where they may type anything.
    let joined =
        if row == 41 { "31-02-2021".into() } else { format!("{date:02}-{month:02}-{year}") };
    let number = if row == 57 { "voir notes".into() } else { phone(rng, row) };
    let status = ["Actif", "Actif", "Actif", "Prospect", "Suspendu", "Parti"][row % 6];
    let mut roles = vec!["Investisseur"];
    for (role, every) in [("Expert", 5), ("Bénévole", 11), ("Délégué", 29), ("Permanent", 64)]
    {
        if row.is_multiple_of(every) {
            roles.push(role);
        }
    }
    let ticket_min = 1000 * [1, 2, 5, 5, 10][rng.below(5)];
    let notes = match row {
        57 => json!("Téléphone fixe : demander à l'accueil."),
        _ if row % 7 == 2 => json!(rng.pick(&NOTES)),
        _ => Value::Null,
    };
    json!({
        "Nom complet": format!("{first} {last}"), "E-mail": email, "Téléphone": number, "Statut": status,
        "Rôles": roles, "Date d'adhésion": joined, "Ville": if row % 23 == 5 { Value::Null } else { json!(city) },
        "Code postal": postcode, "Ticket min": ticket_min, "Ticket max": ticket_min * (2 + rng.below(9)),
        "LinkedIn": if row % 9 == 4 { Value::Null } else { json!(format!("https://www.linkedin.com/in/{address}")) },
        "Newsletter": !row.is_multiple_of(3), "Notes": notes,
    })
}

/// `un capteur autonome pour les armateurs`.
fn pitch(rng: &mut Rng) -> String {
    format!("{} pour {}", rng.pick(&PRODUCTS), rng.pick(&CUSTOMERS))
}

pub(super) fn startup(rng: &mut Rng, row: usize) -> Value {
    let mut number = siren(rng);
    if row % 4 == 1 {
        number = number
            .chars()
            .enumerate()
            .flat_map(|(at, c)| (at > 0 && at % 3 == 0).then_some(' ').into_iter().chain([c]))
            .collect();
    }
    let (name, host) = (STARTUPS[row], format!("{}.example", slug(STARTUPS[row])));
    let (year, month, date) = super::figures::founded(row);
    let first = TAGS[row % TAGS.len()];
    let tags = format!("{first}, {}", TAGS[(row * 3 + 5) % TAGS.len()]);
    json!({
        "Nom": name, "SIREN": number, "Forme juridique": (["SAS", "SAS", "SAS", "SASU", "SARL", "SCIC"][row % 6]),
        "Secteur": SECTORS[row * 3 % 10], "Site": format!("https://www.{host}"), "Ville": rng.pick(&CITIES).0,
        "Date de création": format!("{year}-{month:02}-{date:02}"),
        "Description": format!("{name} développe {}. {}", pitch(rng), rng.pick(&TRACTION)),
        "Capital social": super::figures::capital(row), "JEI": row.is_multiple_of(2), "Effectif": 2 + rng.below(38),
        "Part détenue": f64::from(u32::try_from(20 + rng.below(130)).unwrap_or(0)) / 1000.0, "Note": 1 + rng.below(5),
        "E-mail de contact": format!("contact@{host}"), "Téléphone de contact": phone(rng, row), "Mots-clés": tags,
    })
}

const STAGES: [&str; 14] = [
    "Dépôt",
    "Recevabilité",
    "Refusé",
    "Présélection",
    "Sans suite",
    "Pitch",
    "Refusé",
    "Instruction",
    "Comité",
    "Négociation",
    "Retiré",
    "Closing",
    "En attente",
    "Suivi",
];

pub(super) fn project(rng: &mut Rng, row: usize, links: &mut BTreeMap<String, SeedLink>) -> Value {
    let is_funded = row < 50;
    if is_funded {
        link(links, "Startup", "Startups", vec![row]);
    }
    link(links, "Référent", "Membres", vec![rng.below(320)]);
    let mut interested: Vec<usize> = (0..=rng.below(5)).map(|_| rng.below(320)).collect();
    interested.sort_unstable();
    interested.dedup();
    link(links, "Intéressés", "Membres", interested);
    // A hundred a year, three years.
    let year = 2024 + row / 100;
    let submitted = iso(rng, year, 1);
    let name = if is_funded {
        format!("{} : levée {year}", STARTUPS[row])
    } else {
        format!("{}{}", PROJECT_HEADS[row % 20], PROJECT_TAILS[row / 20])
    };
    let stage =
        if is_funded { ["Closing", "Suivi", "Sortie"][row % 3] } else { STAGES[rng.below(14)] };
    let sought = 50_000 * (1 + rng.below(16));
    json!({
        "Nom du projet": name, "Étape": stage,
        "Origine": (["Site web", "Membre", "Incubateur", "Partenaire", "Événement"][rng.below(5)]),
        "Secteur": SECTORS[rng.below(10)], "Région": [(["Bretagne", "Pays de la Loire", "Île-de-France"][row % 3])],
        "Date de dépôt": submitted, "Montant recherché": sought, "Pré-money demandée": sought * (3 + rng.below(5)),
        "Résumé": format!("Le projet propose {}. {}", pitch(rng), rng.pick(&TRACTION)),
        "Durée du pitch": 180 + 60 * rng.below(10),
        "Dernier échange": format!("{submitted}T{:02}:{:02}:00.000Z", 7 + rng.below(11), 5 * rng.below(12)),
        "Suivi par": { "id": ([super::OWNER_USER, "usrMarcLeGoff0001", "usrInesBenali0001"][row % 3]) },
    })
}

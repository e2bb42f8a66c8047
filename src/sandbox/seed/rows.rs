//! The rows of the network, the same for both sides of a mirror.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use uuid::Uuid;

use super::{super::ids::Rng, figures, people};

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

/// Nine digits whose Luhn sum is a multiple of ten.
pub(super) fn siren(rng: &mut Rng) -> String {
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

/// A number as people write it; all of them mean one of mainland France, whose mobile numbers leave some beginnings to
/// the overseas departments.
pub(super) fn phone(rng: &mut Rng, row: usize) -> String {
    let mut digits: Vec<usize> = (0..4).map(|_| rng.below(100)).collect();
    digits[0] = 10 + digits[0] % 28;
    let pairs: Vec<String> = digits.iter().map(|pair| format!("{pair:02}")).collect();
    let (head, rest) = (["6", "7", "6"][rng.below(3)], pairs.join(" "));
    match row % 10 {
        0 => format!("0{head} {rest}"),
        1 => format!("+33 {head} {rest}"),
        2 => format!("0033 {head} {rest}"),
        3 => format!("0{head}.{}", pairs.join(".")),
        4 => format!("02{}", pairs.concat()),
        5 => format!("+33{head}{}", pairs.concat()),
        6 => format!("0{head}-{}", pairs.join("-")),
        7 => format!("+33 (0){head} {rest}"),
        8 => format!("  0{head}{} ", pairs.concat()),
        _ => format!("(+33) {head} {rest}"),
    }
}

pub(super) fn day(rng: &mut Rng, from_year: usize, years: usize) -> (usize, usize, usize) {
    (from_year + rng.below(years), 1 + rng.below(12), 1 + rng.below(28))
}

pub(super) fn iso(rng: &mut Rng, from_year: usize, years: usize) -> String {
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
                0 => people::member(&mut rng, row),
                1 => people::startup(&mut rng, row),
                2 => people::project(&mut rng, row, &mut links),
                3 => figures::round(&mut rng, row, &mut links),
                4 => figures::investment(&mut rng, row, &mut links),
                5 => figures::flow(&mut rng, row, &mut links),
                6 => figures::valuation(&mut rng, row, &mut links),
                _ => figures::legal_event(&mut rng, row, &mut links),
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

pub(super) fn link(
    links: &mut BTreeMap<String, SeedLink>,
    field: &str,
    table: &'static str,
    rows: Vec<usize>,
) {
    links.insert(field.into(), SeedLink { table, rows });
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn texts(table: &str, field: &str) -> Vec<String> {
        let rows = seed_rows(table);
        rows.iter().filter_map(|row| Some(row.cells.get(field)?.as_str()?.to_owned())).collect()
    }

    #[test]
    fn seed_sirens_have_a_valid_key() {
        let sirens = texts("Startups", "SIREN");
        assert_eq!(sirens.len(), 50);
        for siren in &sirens {
            let digits: Vec<u32> = siren.chars().filter_map(|c| c.to_digit(10)).collect();
            let sum: u32 = digits
                .iter()
                .rev()
                .enumerate()
                .map(
                    |(at, digit)| {
                        if at % 2 == 1 { digit * 2 / 10 + digit * 2 % 10 } else { *digit }
                    },
                )
                .sum();
            assert_eq!((digits.len(), sum % 10), (9, 0), "{siren}");
        }
        assert_eq!(sirens.iter().collect::<BTreeSet<_>>().len(), 50);
    }

    #[test]
    fn seed_phones_are_french_numbers_in_many_forms() {
        let mut forms = BTreeSet::new();
        for (row, number) in texts("Membres", "Téléphone").iter().enumerate() {
            let read = phonenumber::parse(Some(phonenumber::country::FR), number);
            // One member has words where the number should be.
            assert_eq!(read.is_err(), row == 57, "{number}");
            if let Ok(read) = read {
                let shown = read.format().mode(phonenumber::Mode::E164).to_string();
                assert!(shown.starts_with("+33") && shown.len() == 12, "{number}: {shown}");
                let form: String =
                    number.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
                forms.insert(form);
            }
        }
        assert!(forms.len() >= 9, "{forms:?}");
    }

    #[test]
    fn seed_is_of_the_networks_size_and_says_many_things() {
        let size = |table: &str| seed_rows(table).len();
        assert_eq!(TABLES.map(size), [320, 50, 300, 100, 900, 900, 150, 120]);
        let distinct = |table: &str, field: &str| {
            texts(table, field).into_iter().collect::<BTreeSet<_>>().len()
        };
        assert_eq!(distinct("Membres", "E-mail"), 320);
        assert!(distinct("Membres", "Nom complet") > 280);
        assert_eq!(distinct("Startups", "Nom"), 50);
        assert_eq!(distinct("Projets", "Nom du projet"), 300);
        assert!(distinct("Projets", "Résumé") > 200);
        let years: BTreeSet<String> = texts("Projets", "Date de dépôt")
            .iter()
            .map(|day| day.split('-').next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(years.into_iter().collect::<Vec<_>>(), ["2024", "2025", "2026"]);
    }

    #[test]
    fn seed_money_adds_up() {
        let cents = |row: &SeedRow, field: &str| {
            row.cells.get(field).and_then(Value::as_f64).map(|euros| (euros * 100.0).round())
        };
        let investments = seed_rows("Investissements");
        for row in &investments {
            let amount = cents(row, "Engagé").unwrap();
            let product =
                cents(row, "Prix unitaire").unwrap() * row.cells["Quantité"].as_f64().unwrap();
            assert!((product - amount).abs() < 0.5, "{:?}", row.cells);
        }
        let flows = seed_rows("Flux");
        let mut amounts = BTreeSet::new();
        for flow in &flows {
            let of = &investments[flow.links["Investissement"].rows[0]];
            let amount = cents(flow, "Montant").unwrap();
            amounts.insert(format!("{amount}"));
            if flow.cells["Type"] == "Souscription" {
                assert_eq!(Some(-amount), cents(of, "Montant"), "{:?}", flow.cells);
                assert!(flow.cells["Date"].as_str() >= of.cells["Date de signature"].as_str());
            }
        }
        assert!(amounts.len() > 300, "{}", amounts.len());
        for event in seed_rows("Événements juridiques") {
            let kind = event.cells["Type"].as_str().unwrap_or_default();
            let (before, after) = (cents(&event, "Capital avant"), cents(&event, "Capital après"));
            assert!(
                kind != "Augmentation de capital en numéraire" || before < after,
                "{:?}",
                event.cells
            );
            assert!(event.cells["Effet le"].as_str() >= event.cells["Décidé le"].as_str());
        }
    }
}

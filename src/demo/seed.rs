//! Fills the demo's Directus with its part of the network: the records that both sides share, with the same ids
//! and the values that the sandbox's cells stand for, and what only Directus has, since founders and members
//! write there.

use chrono::NaiveDate;
use phonenumber::{Mode, country};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    Error,
    directus::Rest,
    model::{Collection, Field, Kind, Model, USERS},
};
use crate::sandbox::{SeedLink, SeedRow, seed_rows, seed_uuid};

/// Records in one request, which is one transaction there.
const BATCH_ROW_COUNT_MAX: usize = 100;
/// Members who only have an account in Directus; each founds a startup or hands in a project.
const FOUNDER_COUNT: usize = 20;
const FOUNDERS: [(&str, &str); 5] = [
    ("Aurélie", "KERVELLA"),
    ("Mathis", "DELAHAYE"),
    ("Nour", "HADDAD"),
    ("Gwenaël", "LE BRAS"),
    ("Océane", "PRUVOST"),
];
const VENTURES: [&str; 10] = [
    "Algues Vives",
    "Batimètre",
    "Citerne Claire",
    "Dune Mobilité",
    "Éclisse",
    "Ferme Verticale",
    "Glycine Santé",
    "Hublot",
    "Iode",
    "Jachère",
];

/// Writes the records into a Directus that has the model and nothing else. `rest`: an admin's.
///
/// # Errors
/// Directus refuses a part, as it does when they are there already.
pub async fn fill(model: &Model, rest: &Rest) -> Result<(), Error> {
    let mut roles = Vec::new();
    let mut interests = Vec::new();
    for collection in &model.collections {
        let mut records = Vec::new();
        for row in seed_rows(&collection.label).iter().filter(|row| row.is_filled) {
            records.push(shared_record(collection, row));
            junction_rows(model, collection, row, &mut roles, &mut interests);
        }
        records.extend(own_records(collection, &mut roles, &mut interests));
        let path = match collection.name.as_str() {
            USERS => String::from("/users"),
            name => format!("/items/{name}"),
        };
        write(rest, &path, records).await?;
    }
    write(rest, "/items/member_role", roles).await?;
    write(rest, "/items/project_interest", interests).await
}

async fn write(rest: &Rest, path: &str, records: Vec<Value>) -> Result<(), Error> {
    for batch in records.chunks(BATCH_ROW_COUNT_MAX) {
        rest.post(&format!("{path}?fields=id"), &json!(batch)).await?;
    }
    Ok(())
}

/// The record that a row of the sandbox stands for.
fn shared_record(collection: &Collection, row: &SeedRow) -> Value {
    let mut record = Map::new();
    record.insert("id".into(), json!(row.uuid));
    for field in &collection.fields {
        let value = match (&field.kind, row.links.get(&field.label)) {
            (Kind::Link(_), Some(link)) => shared_ids(link).next().map(|id| json!(id)),
            _ => row.cells.get(&field.label).and_then(|cell| value(field, cell)),
        };
        if let Some(value) = value {
            record.insert(field.name.clone(), value);
        }
    }
    Value::Object(record)
}

/// The ids behind a link that Directus has too.
fn shared_ids(link: &SeedLink) -> impl Iterator<Item = Uuid> {
    let known = seed_rows(link.table);
    let ids = link.rows.iter().filter_map(move |row| {
        known.get(*row).filter(|row| row.is_filled).map(|row| seed_uuid(link.table, row.row))
    });
    ids.collect::<Vec<_>>().into_iter()
}

fn junction_rows(
    model: &Model,
    collection: &Collection,
    row: &SeedRow,
    roles: &mut Vec<Value>,
    interests: &mut Vec<Value>,
) {
    for junction in model.junctions.iter().filter(|one| one.parent == collection.name) {
        if let Some(link) = row.links.get(&junction.label) {
            interests.extend(
                shared_ids(link).map(|member| json!({ "project": row.uuid, "member": member })),
            );
        }
        let Kind::Select(choices) = &junction.element.kind else { continue };
        let labels = row.cells.get(&junction.label).and_then(Value::as_array);
        for label in labels.into_iter().flatten().filter_map(Value::as_str) {
            if let Some(code) = code_of(choices, label) {
                roles.push(json!({ "member": row.uuid, "role": code }));
            }
        }
    }
}

/// A cell as Directus takes it; `None`: it is empty, or says nothing that fits.
fn value(field: &Field, cell: &Value) -> Option<Value> {
    match &field.kind {
        Kind::Decimal(..) => Some(json!(cell.as_number()?.to_string())),
        Kind::Integer
        | Kind::Rating
        | Kind::Duration
        | Kind::Boolean
        | Kind::Timestamp
        | Kind::Json => Some(cell.clone()),
        Kind::Link(_) => None,
        Kind::Text
        | Kind::LongText
        | Kind::Email
        | Kind::Phone
        | Kind::Url
        | Kind::Date
        | Kind::Select(_)
        | Kind::Csv => text_value(field, cell.get(0).unwrap_or(cell).as_str()?.trim()),
    }
}

fn text_value(field: &Field, text: &str) -> Option<Value> {
    Some(match (field.name.as_str(), &field.kind) {
        ("first_name", _) => json!(names(text).0),
        ("last_name", _) => json!(names(text).1),
        ("siren", _) => json!(text.replace(' ', "")),
        (_, Kind::Email) => json!(text.to_lowercase()),
        (_, Kind::Phone) => {
            let number = phonenumber::parse(Some(country::FR), text).ok()?;
            json!(number.format().mode(Mode::E164).to_string())
        }
        (_, Kind::Date) => {
            let by_day = NaiveDate::parse_from_str(text, "%d-%m-%Y");
            let date = by_day.or_else(|_| NaiveDate::parse_from_str(text, "%Y-%m-%d")).ok()?;
            json!(date.to_string())
        }
        (_, Kind::Select(choices)) if !choices.is_empty() => json!(code_of(choices, text)?),
        (_, Kind::Csv) => json!(text.split(',').map(str::trim).collect::<Vec<_>>()),
        _ => json!(text),
    })
}

fn code_of<'m>(choices: &'m [(String, String)], label: &str) -> Option<&'m str> {
    choices.iter().find(|(known, _)| known == label).map(|(_, code)| code.as_str())
}

/// ("Jeanne", "MARTIN DUPONT"): the family name is what is written in capitals.
fn names(full: &str) -> (String, String) {
    let is_family = |word: &&str| !word.chars().any(char::is_lowercase);
    let (last, first): (Vec<&str>, Vec<&str>) = full.split_whitespace().partition(is_family);
    (first.join(" "), last.join(" "))
}

/// What only Directus has.
fn own_records(
    collection: &Collection,
    roles: &mut Vec<Value>,
    interests: &mut Vec<Value>,
) -> Vec<Value> {
    let count = match collection.name.as_str() {
        USERS => FOUNDER_COUNT,
        "startup" => VENTURES.len(),
        "project" => FOUNDER_COUNT - VENTURES.len(),
        _ => 0,
    };
    (0..count)
        .map(|at| match collection.name.as_str() {
            USERS => {
                roles.push(json!({ "member": own_id(USERS, at), "role": "founder" }));
                founder(at)
            }
            "startup" => startup(at),
            _ => {
                let member = seed_uuid("Membres", at * 2);
                interests.push(json!({ "project": own_id("project", at), "member": member }));
                project(at)
            }
        })
        .collect()
}

fn founder(at: usize) -> Value {
    let (first_name, last_name) = FOUNDERS[at % FOUNDERS.len()];
    json!({
        "id": own_id(USERS, at), "first_name": first_name, "last_name": last_name,
        "email": format!("fondateur.{at}@exemple.fr"), "phone": format!("+336390100{at:02}"),
        "member_status": "prospect", "joined_on": format!("2026-03-{:02}", 1 + at),
        "city": "Quimper", "postcode": "29000", "newsletter": at.is_multiple_of(2),
    })
}

fn startup(at: usize) -> Value {
    json!({
        "id": own_id("startup", at), "name": VENTURES[at], "legal_form": "SAS",
        "sector": (["environment", "industry", "food", "mobility", "health"][at % 5]),
        "city": "Quimper", "founded_on": format!("2025-{:02}-15", 1 + at),
        "share_capital": "12000.00", "jei": true, "headcount": 2 + at,
        "contact_email": format!("fondateur.{at}@exemple.fr"), "tags": ["b2b", "atelier"],
    })
}

fn project(at: usize) -> Value {
    json!({
        "id": own_id("project", at), "name": format!("{} : premier dossier", VENTURES[at]),
        "startup": own_id("startup", at), "stage": "depot", "source": "website",
        "referent": own_id(USERS, at), "region": "Bretagne",
        "submitted_on": format!("2026-04-{:02}", 1 + at),
        "amount_sought": "250000.00", "pre_money_asked": "1800000.00",
        "summary": "Déposé par ses fondateurs sur le site.", "pitch_seconds": 300,
        "answers": { "équipe": 2 + at, "brevet": at.is_multiple_of(3), "clients": ["pilote"] },
    })
}

/// The same at every start: the demo can be described.
fn own_id(collection: &str, at: usize) -> Uuid {
    let digest = Sha256::digest(format!("plait demo/{collection}/{at}"));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(digest.get(..16).unwrap_or(&[0; 16]));
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Kind, names, value};
    use crate::demo::model::Field;

    #[test]
    fn seed_full_name_is_split_at_the_capitals() {
        for (full, first, last) in [
            ("Jeanne MARTIN-DUPONT", "Jeanne", "MARTIN-DUPONT"),
            ("Jean-Baptiste DE LA TOUR", "Jean-Baptiste", "DE LA TOUR"),
            ("Loïc D'ORMESSON", "Loïc", "D'ORMESSON"),
        ] {
            assert_eq!(names(full), (first.into(), last.into()));
        }
    }

    #[test]
    fn seed_cells_become_what_directus_takes() {
        let read = |name: &str, kind: Kind, cell| {
            value(&Field { name: name.into(), label: String::new(), kind }, &cell)
        };
        assert_eq!(
            read("phone", Kind::Phone, json!("06 12 34 56 78")),
            Some(json!("+33612345678"))
        );
        assert_eq!(read("phone", Kind::Phone, json!("voir notes")), None);
        assert_eq!(read("joined_on", Kind::Date, json!("09-04-2021")), Some(json!("2021-04-09")));
        assert_eq!(read("joined_on", Kind::Date, json!("31-02-2021")), None);
        assert_eq!(read("share", Kind::Decimal(9, 6), json!(0.0125)), Some(json!("0.0125")));
        assert_eq!(read("region", Kind::Text, json!(["Bretagne"])), Some(json!("Bretagne")));
        assert_eq!(read("tags", Kind::Csv, json!("a, b")), Some(json!(["a", "b"])));
        assert_eq!(read("siren", Kind::Text, json!("552 100 554")), Some(json!("552100554")));
    }
}

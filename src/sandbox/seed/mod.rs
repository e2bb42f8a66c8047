//! The bases that a fresh sandbox holds: a business-angel network at its real size, and a playground.

mod figures;
mod people;
mod rows;
mod tables;
mod words;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use uuid::Uuid;

use super::auth::{MIRROR_TOKEN, OWNER_TOKEN, READER_TOKEN, full_token};
use super::config::Config;
use super::edit::Edit;
use super::fault::Faults;
use super::ids::{Ids, Rng};
use super::limit::Limits;
use super::model::{Base, State, Stats, World};
use super::reply::Answer;
use super::transaction::Actor;

pub use self::rows::{SeedLink, SeedRow, seed_rows, seed_uuid};

pub(super) const SEED: u64 = 20_260_101;
/// Id of the base "Réseau".
pub const NETWORK_BASE: &str = "appPlaitReseau001";
/// Id of the base "Bac à sable".
pub const PLAYGROUND_BASE: &str = "appPlaitBac000002";
/// The person whose token is [`OWNER_TOKEN`].
pub const OWNER_USER: &str = "usrClaireDubois01";
/// The dedicated user whose token is [`MIRROR_TOKEN`].
pub const MIRROR_USER: &str = "usrPlaitMirror001";

/// A state with people and tokens and, when `is_seeded`, the two bases.
pub(super) fn state(seed: u64, config: Config, is_seeded: bool, now_ms: i64) -> State {
    let mut state = State {
        world: World::default(),
        ids: Ids::new(seed),
        noise: Rng::new(seed ^ 0xabcd),
        config,
        limits: Limits::default(),
        faults: Faults::default(),
        ping_faults: std::collections::VecDeque::new(),
        held_letters: Vec::new(),
        listings: BTreeMap::new(),
        stats: Stats::default(),
        snapshots: BTreeMap::new(),
        url: String::new(),
        version: 0,
    };
    state.add_user(OWNER_USER, "Claire Dubois", "claire.dubois@reseau.example");
    state.add_user("usrMarcLeGoff0001", "Marc Le Goff", "marc.legoff@reseau.example");
    state.add_user("usrInesBenali0001", "Inès Benali", "ines.benali@reseau.example");
    state.add_user(MIRROR_USER, "Plait", "plait@reseau.example");
    state.add_token(full_token(OWNER_TOKEN, OWNER_USER));
    state.add_token(full_token(MIRROR_TOKEN, MIRROR_USER));
    let mut reader = full_token(READER_TOKEN, "usrMarcLeGoff0001");
    reader.role = "read".into();
    reader.scopes.retain(|scope| scope == "data.records:read" || scope == "schema.bases:read");
    state.add_token(reader);
    if is_seeded {
        let made = plain_base(&mut state, &tables::network(), now_ms)
            .and_then(|()| plain_base(&mut state, &tables::playground(), now_ms))
            .and_then(|()| fill(&mut state, now_ms));
        if let Err(refusal) = made {
            tracing::error!(reason = refusal.text(), "could not seed the sandbox");
        }
        for base in state.world.bases.values_mut() {
            base.log.clear();
        }
    }
    state
}

/// Makes a base from `{id, name, tables}`; fields may name the linked table in `link`.
pub(super) fn plain_base(state: &mut State, spec: &Value, now_ms: i64) -> Answer<()> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let id = text(&spec["id"]);
    let base = Base { id: id.clone(), name: text(&spec["name"]), ..Base::default() };
    state.world.bases.insert(id.clone(), base);
    let tables = spec["tables"].as_array().cloned().unwrap_or_default();
    for table in &tables {
        let mut first = table.clone();
        first["fields"] =
            table["fields"].as_array().into_iter().flatten().take(1).cloned().collect();
        state.edit(
            &id,
            Actor::source("system"),
            &[Edit::CreateTable { spec: first }],
            false,
            now_ms,
        )?;
    }
    // Links first, for what is computed through them.
    for is_computed in [false, true] {
        for table in &tables {
            for field in table["fields"].as_array().into_iter().flatten().skip(1) {
                if (field["via"].is_string()) == is_computed {
                    let spec = resolved(state, &id, &text(&table["name"]), field);
                    let edit = Edit::CreateField { table: text(&table["name"]), spec };
                    state.edit(&id, Actor::source("system"), &[edit], false, now_ms)?;
                }
            }
        }
    }
    Ok(())
}

/// The field with ids in place of the names of tables and fields.
fn resolved(state: &State, base: &str, table: &str, field: &Value) -> Value {
    let mut spec = field.clone();
    let Some(base) = state.world.bases.get(base) else { return spec };
    if let Some(target) = field["link"].as_str().and_then(|name| base.table(name)) {
        spec["options"] = json!({ "linkedTableId": target.id });
    }
    if let Some(link) = field["via"].as_str().and_then(|name| base.table(table)?.field(name)) {
        spec["options"] = json!({ "isValid": true, "recordLinkFieldId": link.id });
        let target = base.table(link.option("linkedTableId"));
        if let Some(shown) = field["of"].as_str().and_then(|name| target?.field(name)) {
            spec["options"]["fieldIdInLinkedTable"] = json!(shown.id);
            spec["options"]["result"] = json!({ "type": shown.kind, "options": shown.options });
        }
    }
    spec
}

/// Puts the rows of every table in, links included, in one transaction a table.
fn fill(state: &mut State, now_ms: i64) -> Answer<()> {
    let mut ids: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for table in rows::TABLES {
        let edits: Vec<Edit> = seed_rows(table)
            .into_iter()
            .map(|row| {
                let mut fields = row.cells;
                if row.is_filled {
                    fields.insert("UUID".into(), json!(row.uuid.to_string()));
                }
                for (field, link) in row.links {
                    let linked =
                        link.rows.iter().filter_map(|at| ids.get(link.table)?.get(*at).cloned());
                    fields.insert(field, linked.collect::<Vec<_>>().into());
                }
                Edit::Create { table: table.to_owned(), fields }
            })
            .collect();
        let made = state.edit(NETWORK_BASE, Actor::person(OWNER_USER), &edits, false, now_ms)?;
        ids.insert(table, made);
    }
    fill_playground(state, now_ms)
}

/// A few records with a value of every type that a client can write, and one that is empty.
fn fill_playground(state: &mut State, now_ms: i64) -> Answer<()> {
    let record = |table: &str, fields: &Value| Edit::Create {
        table: table.to_owned(),
        fields: fields.as_object().cloned().unwrap_or_default(),
    };
    let others = ["Ancre", "Boussole", "Cabestan", "Drisse", "Écoute", "Foc"];
    let edits: Vec<Edit> = others
        .iter()
        .enumerate()
        .map(|(at, name)| record("Autres", &json!({ "Nom": name, "Nombre": 1000 + 125 * at })))
        .collect();
    let person = Actor::person(OWNER_USER);
    let links = state.edit(PLAYGROUND_BASE, person.clone(), &edits, false, now_ms)?;
    let edits: Vec<Edit> = (0..6)
        .map(|at| {
            if at == 5 {
                return record("Types", &json!({}));
            }
            let wish = json!({
                "singleLineText": format!("Ligne {}", at + 1), "multilineText": "Première ligne\nDeuxième ligne",
                "richText": "**gras** et _italique_", "email": format!("adresse{at}@exemple.fr"),
                "url": "https://www.exemple.fr/page?q=é", "phoneNumber": "06 12 34 56 78", "number": 1234.5 * f64::from(at),
                "currency": 99.95, "percent": 0.125, "duration": 3723, "rating": 1 + at % 5, "checkbox": at % 2 == 0,
                "date": format!("2025-0{}-15", 1 + at), "dateTime": format!("2025-0{}-15T08:30:00.000Z", 1 + at),
                "singleCollaborator": { "id": OWNER_USER },
                "multipleCollaborators": [{ "id": OWNER_USER }, { "id": "usrInesBenali0001" }],
                "barcode": { "text": format!("376000000000{at}"), "type": "ean13" },
                "singleSelect": (["A", "B", "C"][usize::try_from(at).unwrap_or(0) % 3]), "multipleSelects": ["A", "C"],
                "multipleRecordLinks": links.iter().skip(usize::try_from(at).unwrap_or(0)).take(2).collect::<Vec<_>>(),
            });
            record("Types", &wish)
        })
        .collect();
    state.edit(PLAYGROUND_BASE, person, &edits, false, now_ms)?;
    Ok(())
}

/// A UUID of version 5's form from a text.
fn uuid_of(text: &str) -> Uuid {
    use sha2::Digest;
    let hash = sha2::Sha256::digest(text.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_slice()[..16]);
    uuid::Builder::from_sha1_bytes(bytes).into_uuid()
}

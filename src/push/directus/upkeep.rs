//! Which mapped fields Directus, or the Postgres under it, fills by itself, as its schema says to whoever may read
//! `directus_fields`.

use reqwest::Method;
use serde_json::Value as Json;

use crate::{
    mapping::{DirectusField, Mapping},
    model::{EntityNo, FieldNo},
    remote::directus::{Client, Error},
};

/// Specials of a field by which Directus fills it when a record is changed, and when one is made.
const MOVING: [&str; 3] = ["date-updated", "user-updated", "role-updated"];
const FIXED: [&str; 3] = ["date-created", "user-created", "role-created"];

/// A field that is filled by Directus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Filled {
    pub(crate) entity: EntityNo,
    pub(crate) field: FieldNo,
    /// With each write, ours included.
    pub(crate) is_moving: bool,
}

/// Asks for the fields of all collections.
///
/// # Errors
/// As [`Error`] says.
pub(crate) async fn filled(client: &Client, mapping: &Mapping) -> Result<Vec<Filled>, Error> {
    let fields = client.ask(Method::GET, "/fields", &[], None).await?;
    Ok(read(&fields, mapping))
}

fn read(fields: &Json, mapping: &Mapping) -> Vec<Filled> {
    let mut filled = Vec::new();
    for (entity_no, entity) in (0..).map(EntityNo).zip(&mapping.entities) {
        let Some(table) = &entity.directus else { continue };
        for (field_no, field) in (0..).map(FieldNo).zip(&entity.fields) {
            let Some(DirectusField::Column { column, .. }) = &field.directus else { continue };
            let is_it = |it: &&Json| it["collection"] == *table.table && it["field"] == **column;
            let Some(found) = fields.as_array().into_iter().flatten().find(is_it) else { continue };
            let specials = found["meta"]["special"].as_array().into_iter().flatten();
            let has = |names: &[&str]| {
                specials.clone().filter_map(Json::as_str).any(|name| names.contains(&name))
            };
            let is_moving = has(&MOVING);
            let of_postgres = ["is_generated", "has_auto_increment"];
            if is_moving || has(&FIXED) || of_postgres.iter().any(|it| found["schema"][it] == true)
            {
                filled.push(Filled { entity: entity_no, field: field_no, is_moving });
            }
        }
    }
    filled
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        demo::{
            cache::postgres_bin,
            cluster::Cluster,
            source::{Secrets, Source},
        },
        mapping,
        remote::directus::setup::{Account, EMAIL},
    };

    const MAPPING: &str = r#"
version = 1
[entity.card]
table = "card"
directus = { table = "card" }
[entity.card.field]
name = { type = "text", directus = "name" }
updated = { type = "datetime", directus = "date_updated" }
creator = { type = "text", directus = "user_created" }
total = { type = "integer", directus = "total" }
number = { type = "integer", directus = "number" }
"#;

    #[test]
    fn upkeep_of_directus_is_told_by_specials_and_by_its_postgres() {
        let mapping = mapping::read(MAPPING, "mapping.toml").unwrap();
        let field = |name: &str, special: Json, schema: Json| json!({ "collection": "card", "field": name, "meta": { "special": special }, "schema": schema });
        let fields = json!([
            field("name", json!(null), json!({ "is_generated": false })),
            field("date_updated", json!(["date-updated"]), json!({})),
            field("user_created", json!(["user-created", "m2o"]), json!({})),
            { "collection": "card", "field": "total", "meta": null, "schema": { "is_generated": true } },
            { "collection": "card", "field": "number", "schema": { "has_auto_increment": true } },
            { "collection": "other", "field": "name", "meta": { "special": ["date-updated"] } },
        ]);
        let filled = read(&fields, &mapping);
        let told: Vec<(u16, bool)> = filled.iter().map(|it| (it.field.0, it.is_moving)).collect();
        assert_eq!(told, [(1, true), (2, false), (3, false), (4, false)]);
    }

    #[tokio::test]
    async fn upkeep_of_a_real_directus_is_told_to_plaits_own_account() {
        let cluster = Cluster::throw_away(&postgres_bin().unwrap(), &[]).await.unwrap();
        let source = Source::start(&cluster, "upkeep", &Secrets::new()).await.unwrap();
        let rest = source.admin_rest();
        for (name, kind, special) in [
            ("date_updated", "timestamp", "date-updated"),
            ("user_updated", "uuid", "user-updated"),
            ("date_created", "timestamp", "date-created"),
        ] {
            let field = json!({ "field": name, "type": kind, "meta": { "special": [special] }, "schema": {} });
            rest.post("/fields/startup", &field).await.unwrap();
        }
        let text = include_str!("../../../mapping.toml").replace(
            "[entity.startup.field]\n",
            "[entity.startup.field]\n\
             updated = { type = \"datetime\", directus = \"date_updated\", direction = \"from directus\" }\n\
             updater = { type = \"text\", directus = \"user_updated\", direction = \"from directus\" }\n\
             made = { type = \"datetime\", directus = \"date_created\", direction = \"from directus\" }\n",
        );
        let mapping = mapping::read(&text, "mapping.toml").unwrap();
        let admin = Client::new(&source.server.url(), &source.admin.token).unwrap();
        let account = Account::look(&admin, &mapping, EMAIL).await.unwrap();
        account.make(&admin, None).await.unwrap();
        let plait = Client::new(&source.server.url(), &source.push_token).unwrap();
        let startup = mapping.entities.iter().position(|entity| entity.name == "startup").unwrap();
        let startup = EntityNo(u16::try_from(startup).unwrap());
        let filled = filled(&plait, &mapping).await.unwrap();
        let told = |name: &str| {
            let at = mapping.entity(startup).fields.iter().position(|it| it.name == name).unwrap();
            let field = FieldNo(u16::try_from(at).unwrap());
            filled
                .iter()
                .find(|it| (it.entity, it.field) == (startup, field))
                .map(|it| it.is_moving)
        };
        assert_eq!(
            ["updated", "updater", "made", "name"].map(told),
            [Some(true), Some(true), Some(false), None]
        );
        source.server.remove().await.unwrap();
    }
}

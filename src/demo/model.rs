//! The demo's data model in Directus: the collections and fields that the mapping names, with fitting types,
//! French labels and choices, made through REST as a person would make them in the Studio.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Error, directus::Rest};

/// The mapping that comes with Plait; the demo's Directus has all that it names.
pub const MAPPING: &str = include_str!("../../mapping.toml");

/// The same mapping without its waits, and without the guard for mass changes: for the demo and for tests, where somebody
/// looks on, and programs make in seconds what people make in a day.
pub fn prompt_mapping() -> String {
    MAPPING.replacen("\nsettle_s = 20\n", "\nsettle_s = 0\nmass_changes = { count = 0 }\n", 1)
}
/// Directus's own table of people.
pub const USERS: &str = "directus_users";
/// Columns of [`USERS`] that Directus brings along and Plait may see.
pub const USER_COLUMNS: [&str; 7] =
    ["id", "email", "first_name", "last_name", "status", "role", "external_identifier"];

#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    pub collections: Vec<Collection>,
    pub junctions: Vec<Junction>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Collection {
    pub name: String,
    /// For people, in French, plural.
    pub label: String,
    /// Without the key `id`.
    pub fields: Vec<Field>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub name: String,
    /// For people, in French.
    pub label: String,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Up to 255 characters.
    Text,
    LongText,
    Email,
    Phone,
    Url,
    /// Digits in all, and behind the point.
    Decimal(u32, u32),
    Integer,
    Rating,
    Duration,
    Boolean,
    Date,
    /// An instant.
    Timestamp,
    /// (label, value) of each choice. None: free text with a few suggestions.
    Select(Vec<(String, String)>),
    Json,
    Csv,
    /// A record of this collection.
    Link(String),
}

/// A table with a row for each element of a set.
#[derive(Clone, Debug, PartialEq)]
pub struct Junction {
    pub name: String,
    /// The field under which the parent shows the set.
    pub shown_as: String,
    pub label: String,
    pub parent: String,
    pub parent_field: String,
    /// Named as its column; a link or a choice.
    pub element: Field,
}

// What is read of the mapping: names and types, nothing of what the mirror does with them.

#[derive(Deserialize)]
struct Document {
    codes: toml::Table,
    entity: toml::Table,
}

#[derive(Deserialize)]
struct EntityDocument {
    airtable: Option<AirtableTable>,
    directus: Option<DirectusTable>,
    field: toml::Table,
}

#[derive(Deserialize)]
struct AirtableTable {
    table: String,
}

#[derive(Deserialize)]
struct DirectusTable {
    table: String,
}

#[derive(Deserialize)]
struct FieldDocument {
    r#type: String,
    scale: Option<u32>,
    target: Option<String>,
    airtable: Option<AirtableField>,
    directus: Option<DirectusField>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum AirtableField {
    Name(String),
    Full { field: String, codes: Option<String> },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum DirectusField {
    Column(String),
    Junction { junction: String, parent: String, element: String },
}

/// The model that this mapping needs. Order is the document's.
///
/// # Errors
/// The document is not a mapping.
pub fn from_mapping(text: &str) -> Result<Model, Error> {
    read(text).map_err(|source| Error::Mapping { source })
}

fn read(text: &str) -> Result<Model, toml::de::Error> {
    let document: Document = toml::from_str(text)?;
    let mut entities = Vec::new();
    for (name, entity) in document.entity {
        entities.push((name, entity.try_into::<EntityDocument>()?));
    }
    let collection_of = |entity: &str| {
        entities
            .iter()
            .find(|(name, _)| name == entity)
            .and_then(|(_, entity)| entity.directus.as_ref())
            .map_or_else(|| entity.to_string(), |directus| directus.table.clone())
    };
    let choices = |codes: Option<&String>| -> Vec<(String, String)> {
        codes
            .and_then(|name| document.codes.get(name)?.as_table())
            .into_iter()
            .flatten()
            .filter_map(|(label, code)| Some((label.clone(), code.as_str()?.to_string())))
            .collect()
    };
    let mut model = Model { collections: Vec::new(), junctions: Vec::new() };
    for (name, entity) in &entities {
        let Some(directus) = &entity.directus else { continue };
        let label = entity.airtable.as_ref().map_or(name, |airtable| &airtable.table);
        let mut collection =
            Collection { name: directus.table.clone(), label: label.clone(), fields: Vec::new() };
        for (name, field) in &entity.field {
            let field: FieldDocument = field.clone().try_into()?;
            let (label, codes) = match &field.airtable {
                Some(AirtableField::Name(label)) => (label.clone(), None),
                Some(AirtableField::Full { field, codes }) => (field.clone(), codes.as_ref()),
                None => (label_of(name).to_string(), None),
            };
            let target = field.target.as_deref().map(collection_of);
            let kind = kind(&field, target, choices(codes));
            match field.directus {
                None => {}
                Some(DirectusField::Column(column)) => {
                    collection.fields.push(Field { name: column, label, kind });
                }
                Some(DirectusField::Junction { junction, parent, element }) => {
                    model.junctions.push(Junction {
                        // Not to be taken for Directus's own `role`, which is about rights.
                        shown_as: if name == "roles" { "network_roles" } else { name }.into(),
                        name: junction,
                        label: label.clone(),
                        parent: directus.table.clone(),
                        parent_field: parent,
                        element: Field { name: element, label, kind },
                    });
                }
            }
        }
        model.collections.push(collection);
    }
    Ok(model)
}

fn kind(field: &FieldDocument, target: Option<String>, choices: Vec<(String, String)>) -> Kind {
    if let Some(target) = target {
        return Kind::Link(target);
    }
    match field.r#type.as_str() {
        "long_text" => Kind::LongText,
        "email" | "collaborator" => Kind::Email,
        "phone" => Kind::Phone,
        "url" => Kind::Url,
        "currency" => Kind::Decimal(18, field.scale.unwrap_or(2)),
        "percent" => Kind::Decimal(9, field.scale.unwrap_or(6)),
        "decimal" => Kind::Decimal(20, field.scale.unwrap_or(6)),
        "integer" => Kind::Integer,
        "rating" => Kind::Rating,
        "duration" => Kind::Duration,
        "boolean" => Kind::Boolean,
        "date" => Kind::Date,
        "datetime" => Kind::Timestamp,
        "select" | "multi_select" => Kind::Select(choices),
        "json" => Kind::Json,
        "csv" => Kind::Csv,
        _ => Kind::Text,
    }
}

/// Labels of fields that Airtable does not have.
fn label_of(field: &str) -> &str {
    match field {
        "answers" => "Réponses au questionnaire",
        other => other,
    }
}

/// Makes the model in a freshly bootstrapped Directus. `rest`: an admin's.
///
/// # Errors
/// Directus refuses a part.
pub async fn apply(model: &Model, rest: &Rest) -> Result<(), Error> {
    let settings = json!({ "default_language": "fr-FR", "project_name": "Réseau (démo Plait)" });
    rest.patch("/settings", &settings).await?;
    for (sort, collection) in model.collections.iter().enumerate() {
        let fields = (1..).zip(&collection.fields).map(|(sort, field)| field_json(field, sort));
        if collection.name == USERS {
            for (field, json) in collection.fields.iter().zip(fields) {
                if !USER_COLUMNS.contains(&field.name.as_str()) {
                    rest.post("/fields/directus_users", &json).await?;
                }
            }
        } else {
            let key = json!({
                "field": "id", "type": "uuid", "schema": { "is_primary_key": true },
                "meta": { "special": ["uuid"], "interface": "input", "hidden": true, "readonly": true },
            });
            let fields: Vec<Value> = std::iter::once(key).chain(fields).collect();
            rest.post("/collections", &collection_json(collection, sort, &fields)).await?;
        }
    }
    for collection in &model.collections {
        for field in &collection.fields {
            if let Kind::Link(target) = &field.kind {
                let relation = relation_json(&collection.name, &field.name, target, "SET NULL");
                rest.post("/relations", &relation).await?;
            }
        }
    }
    for junction in &model.junctions {
        apply_junction(junction, rest).await?;
    }
    Ok(())
}

async fn apply_junction(junction: &Junction, rest: &Rest) -> Result<(), Error> {
    let key = json!({
        "field": "id", "type": "integer", "meta": { "hidden": true },
        "schema": { "is_primary_key": true, "has_auto_increment": true },
    });
    let parent = Field {
        name: junction.parent_field.clone(),
        label: junction.parent_field.clone(),
        kind: Kind::Link(junction.parent.clone()),
    };
    let body = json!({
        "collection": junction.name,
        "schema": {},
        "meta": { "hidden": true, "icon": "import_export", "accountability": "all" },
        "fields": [key, field_json(&parent, 1), field_json(&junction.element, 2)],
    });
    rest.post("/collections", &body).await?;
    let (special, interface, template) = match &junction.element.kind {
        Kind::Link(target) => {
            let template = template_of(target);
            let inner = template.replace("{{", &format!("{{{{{}.", junction.element.name));
            ("m2m", "list-m2m", inner)
        }
        _ => ("o2m", "list-o2m", format!("{{{{{}}}}}", junction.element.name)),
    };
    let alias = json!({
        "field": junction.shown_as,
        "type": "alias",
        "schema": null,
        "meta": {
            "special": [special],
            "interface": interface,
            "options": { "template": template },
            "display": "related-values",
            "display_options": { "template": template },
            "translations": translations(&junction.label),
        },
    });
    rest.post(&format!("/fields/{}", junction.parent), &alias).await?;
    let mut relation =
        relation_json(&junction.name, &junction.parent_field, &junction.parent, "CASCADE");
    relation["meta"] = json!({ "one_field": junction.shown_as, "one_deselect_action": "delete" });
    if let Kind::Link(target) = &junction.element.kind {
        relation["meta"]["junction_field"] = json!(junction.element.name);
        let mut other = relation_json(&junction.name, &junction.element.name, target, "CASCADE");
        other["meta"] = json!({ "junction_field": junction.parent_field });
        rest.post("/relations", &other).await?;
    }
    rest.post("/relations", &relation).await?;
    Ok(())
}

fn collection_json(collection: &Collection, sort: usize, fields: &[Value]) -> Value {
    json!({
        "collection": collection.name,
        "schema": {},
        "meta": {
            "icon": icon_of(&collection.name),
            "display_template": template_of(&collection.name),
            "accountability": "all",
            "sort": sort,
            "translations": [{ "language": "fr-FR", "translation": collection.label }],
        },
        "fields": fields,
    })
}

fn relation_json(collection: &str, field: &str, target: &str, on_delete: &str) -> Value {
    json!({
        "collection": collection, "field": field, "related_collection": target,
        "schema": { "on_delete": on_delete }, "meta": {},
    })
}

fn icon_of(collection: &str) -> &'static str {
    match collection {
        "startup" => "rocket_launch",
        "project" => "lightbulb",
        "round" => "donut_large",
        "investment" => "savings",
        "cash_flow" => "payments",
        "valuation" => "monitoring",
        "legal_event" => "gavel",
        _ => "table",
    }
}

/// How a record is shown where another links to it: never as a UUID.
fn template_of(collection: &str) -> String {
    String::from(match collection {
        USERS => "{{first_name}} {{last_name}}",
        "investment" => "{{reference}}",
        "cash_flow" | "valuation" | "legal_event" => "{{label}}",
        _ => "{{name}}",
    })
}

fn translations(label: &str) -> Value {
    json!([{ "language": "fr-FR", "translation": label }])
}

fn field_json(field: &Field, sort: usize) -> Value {
    let mut schema = Map::new();
    let mut meta = Map::new();
    let mut set = |key: &str, value: Value| drop(meta.insert(key.into(), value));
    set("sort", json!(sort));
    set("width", json!("half"));
    set("translations", translations(&field.label));
    let (kind, interface) = match &field.kind {
        Kind::Text | Kind::Email | Kind::Phone | Kind::Url => ("string", "input"),
        Kind::LongText => {
            set("width", json!("full"));
            ("text", "input-multiline")
        }
        Kind::Decimal(precision, scale) => {
            schema.insert("numeric_precision".into(), json!(precision));
            schema.insert("numeric_scale".into(), json!(scale));
            ("decimal", "input")
        }
        Kind::Integer | Kind::Duration => ("integer", "input"),
        Kind::Rating => {
            set("options", json!({ "minValue": 1, "maxValue": 5, "stepInterval": 1 }));
            set("display", json!("rating"));
            ("integer", "slider")
        }
        Kind::Boolean => {
            set("special", json!(["cast-boolean"]));
            ("boolean", "boolean")
        }
        Kind::Date => {
            set("display", json!("datetime"));
            ("date", "datetime")
        }
        Kind::Timestamp => {
            set("display", json!("datetime"));
            ("timestamp", "datetime")
        }
        Kind::Select(choices) => {
            let list: Vec<Value> = choices
                .iter()
                .map(|(label, value)| json!({ "text": label, "value": value }))
                .collect();
            let free = choices.is_empty();
            set("options", json!({ "choices": list, "allowOther": free, "allowNone": true }));
            set("display", json!("labels"));
            set("display_options", json!({ "choices": list, "showAsDot": false }));
            ("string", "select-dropdown")
        }
        Kind::Json => {
            set("special", json!(["cast-json"]));
            set("width", json!("full"));
            set("options", json!({ "language": "json" }));
            ("json", "input-code")
        }
        Kind::Csv => {
            set("special", json!(["cast-csv"]));
            ("csv", "tags")
        }
        Kind::Link(target) => {
            let template = template_of(target);
            set("special", json!(["m2o"]));
            set("options", json!({ "template": template }));
            set("display", json!("related-values"));
            set("display_options", json!({ "template": template }));
            ("uuid", "select-dropdown-m2o")
        }
    };
    set("interface", json!(interface));
    json!({ "field": field.name, "type": kind, "schema": schema, "meta": meta })
}

#[cfg(test)]
mod tests {
    use super::{Kind, MAPPING, USERS, from_mapping};

    #[test]
    fn model_from_the_mapping_has_its_collections_in_order() {
        let model = from_mapping(MAPPING).unwrap();
        let names: Vec<&str> = model.collections.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(
            names,
            [
                USERS,
                "startup",
                "project",
                "round",
                "investment",
                "cash_flow",
                "valuation",
                "legal_event"
            ]
        );
        let junctions: Vec<&str> = model.junctions.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(junctions, ["member_role", "project_interest"]);
    }

    #[test]
    fn model_field_kinds_follow_the_mapping() {
        let model = from_mapping(MAPPING).unwrap();
        let kind = |collection: &str, field: &str| {
            let collection = model.collections.iter().find(|one| one.name == collection).unwrap();
            collection.fields.iter().find(|one| one.name == field).unwrap().kind.clone()
        };
        assert_eq!(kind("startup", "held_share"), Kind::Decimal(9, 6));
        assert_eq!(kind("startup", "share_capital"), Kind::Decimal(18, 2));
        assert_eq!(kind("investment", "unit_price"), Kind::Decimal(20, 8));
        assert_eq!(kind("project", "referent"), Kind::Link(USERS.into()));
        assert_eq!(kind("investment", "wrapper"), Kind::Select(vec![]));
        let Kind::Select(stages) = kind("project", "stage") else { panic!("not a select") };
        assert_eq!(stages[0], (String::from("Dépôt"), String::from("depot")));
        assert_eq!(stages[13], (String::from("Sans suite"), String::from("sans_suite")));
    }

    #[test]
    fn model_of_computed_fields_is_nothing() {
        let model = from_mapping(MAPPING).unwrap();
        let startup = model.collections.iter().find(|one| one.name == "startup").unwrap();
        assert!(startup.fields.iter().all(|field| field.name != "total_invested"));
    }
}

//! Whose fault a refusal is, as far as Airtable's words tell. Pure. Which errors name what, the tests list.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Place,
    item::{Item, Sent, Stage},
    words,
};
use crate::{
    mapping::Entity,
    push::{Outcome, trouble::Trouble},
    remote::airtable::{Error, Table},
};

/// When a person has to see to the token or the table, it is tried again after this long.
const TROUBLE_PAUSE: Duration = Duration::from_mins(1);

/// What a refusal means.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// It is no record's fault: the same goes for all.
    All {
        outcome: Outcome,
        trouble: Option<Trouble>,
    },
    /// These are at fault, by their place in the batch; the others may be fine.
    Known(Vec<(usize, Blame)>),
    /// It is one of these, and they are not all.
    Among(Vec<usize>),
    Unclear,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// Airtable does not have the record.
    Gone,
    /// It does not take this cell (`fld…`).
    Cell { id: String, why: Why },
}

/// Why a cell is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    MissingOption,
    Value,
    Computed,
    FieldGone,
    Locked,
    LinkGone,
    LinkElsewhere,
}

/// What names mean: the mapping's, and Airtable's own of the day, if they are known.
pub(super) struct Schema<'a> {
    pub(super) entity: &'a Entity,
    pub(super) place: &'a Place,
    pub(super) table: Option<&'a Table>,
}

impl Schema<'_> {
    /// The id of a field that Airtable calls so, by id or by its name of the day.
    fn id_of(&self, name: &str) -> Option<String> {
        let ids = self.place.fields.iter().map(|(_, id)| id).chain(&self.place.uuid);
        if ids.into_iter().any(|id| id == name) {
            return Some(name.to_owned());
        }
        let field = self.table?.fields.iter().find(|field| field.name == name)?;
        Some(field.id.clone())
    }

    fn is_uuid(&self, id: &str) -> bool {
        self.place.uuid.as_deref() == Some(id)
    }
}

/// Whether the error names a field by a name that only the schema can explain.
pub(super) fn needs_names(error: &Error) -> bool {
    matches!(error, Error::Refused { kind, .. } if kind == "INVALID_VALUE_FOR_COLUMN")
}

/// Whether the kind of refusal is about a cell, and not about the record or the request.
pub(super) fn is_about_a_cell(error: &Error) -> bool {
    const CELL_KINDS: [&str; 5] = [
        "INVALID_VALUE_FOR_COLUMN",
        "INVALID_MULTIPLE_CHOICE_OPTIONS",
        "ROW_DOES_NOT_EXIST",
        "ROW_TABLE_DOES_NOT_MATCH_LINKED_TABLE",
        "UNKNOWN_FIELD_NAME",
    ];
    matches!(error, Error::Refused { kind, .. } if CELL_KINDS.contains(&kind.as_str()))
}

/// Whose fault `error` is, of the `items` that were in the request.
pub(super) fn judge(error: &Error, stage: Stage, items: &[Item], schema: &Schema<'_>) -> Verdict {
    let waiting = |after, trouble| Verdict::All { outcome: Outcome::Later { after }, trouble };
    let trouble = |trouble| waiting(Some(TROUBLE_PAUSE), Some(trouble));
    match error {
        Error::RateLimited { pause, .. } => waiting(Some(*pause), None),
        Error::QuotaSpent { .. } => waiting(error.retry_after(), Some(words::quota_spent())),
        Error::Shut { .. } => waiting(error.retry_after(), None),
        Error::Unauthorized { .. } => trouble(words::token_refused()),
        Error::Unreachable { source, .. } if source.is_connect() => {
            waiting(error.retry_after(), None)
        }
        Error::Unreachable { .. }
        | Error::TimedOut { .. }
        | Error::Server { .. }
        | Error::TooLarge { .. }
        | Error::Malformed { .. } => Verdict::All { outcome: Outcome::Unanswered, trouble: None },
        Error::IteratorLost { .. } => Verdict::Unclear,
        Error::NotFound { kind, .. } if kind == "MODEL_ID_NOT_FOUND" => match items {
            [one] if one.key.is_some() => Verdict::Known(vec![(0, Blame::Gone)]),
            _ => Verdict::Unclear,
        },
        Error::NotFound { .. } => trouble(words::table_forbidden(schema.entity, error.kind())),
        Error::Forbidden { message, .. } => {
            match locked_field(message).and_then(|id| schema.id_of(id)) {
                Some(id) if !schema.is_uuid(&id) => every(items, stage, &id, Why::Locked),
                Some(_) => trouble(words::id_field_locked(schema.entity)),
                None => trouble(words::table_forbidden(schema.entity, error.kind())),
            }
        }
        Error::Refused { message, .. } if message.contains("externally synced") => {
            trouble(words::table_synced(schema.entity))
        }
        Error::Refused { kind, message, .. } => {
            refused(kind, message, stage, items, schema).unwrap_or(Verdict::Unclear)
        }
    }
}

/// `None`: the words name nothing that is in the request.
fn refused(
    kind: &str,
    message: &str,
    stage: Stage,
    items: &[Item],
    schema: &Schema<'_>,
) -> Option<Verdict> {
    match kind {
        "UNKNOWN_FIELD_NAME" => {
            let id = schema.id_of(quoted(message)?)?;
            if schema.is_uuid(&id) {
                let trouble = Some(words::id_field_gone(schema.entity));
                let outcome = Outcome::Later { after: Some(TROUBLE_PAUSE) };
                return Some(Verdict::All { outcome, trouble });
            }
            Some(every(items, stage, &id, Why::FieldGone))
        }
        "INVALID_VALUE_FOR_COLUMN" => {
            let id = schema.id_of(named_field(message)?)?;
            if message.contains("is computed") {
                return Some(every(items, stage, &id, Why::Computed));
            }
            let suspects = having(items, |item| item.cell(stage, &id).is_some());
            among(items, suspects, |_| Some(Blame::Cell { id: id.clone(), why: Why::Value }))
        }
        "INVALID_MULTIPLE_CHOICE_OPTIONS" => missing_option(message, stage, items),
        "ROW_DOES_NOT_EXIST" => {
            let key = record_id(message)?;
            let gone = having(items, |item| item.key.as_deref() == Some(key));
            if !gone.is_empty() {
                return Some(Verdict::Known(
                    gone.into_iter().map(|at| (at, Blame::Gone)).collect(),
                ));
            }
            // Whatever links to it cannot be written, in whichever field.
            let guilty = items.iter().enumerate().filter_map(|(at, item)| {
                let cell = item.sent(stage).iter().find(|cell| cell.holds(key))?;
                Some((at, Blame::Cell { id: cell.id.clone(), why: Why::LinkGone }))
            });
            known(guilty.collect())
        }
        "ROW_TABLE_DOES_NOT_MATCH_LINKED_TABLE" => {
            let key = record_id(message)?;
            let holding = |item: &Item| -> Vec<String> {
                let cells = item.sent(stage).iter().filter(|cell| cell.holds(key));
                cells.map(|cell| cell.id.clone()).collect()
            };
            let suspects = having(items, |item| !holding(item).is_empty());
            among(items, suspects, |item| match holding(item).as_slice() {
                [id] => Some(Blame::Cell { id: id.clone(), why: Why::LinkElsewhere }),
                _ => None,
            })
        }
        _ => None,
    }
}

/// Who has a cell with the option that is missing. The words name the option and not the field: where just one
/// field has it, it is this one.
fn missing_option(message: &str, stage: Stage, items: &[Item]) -> Option<Verdict> {
    let is_named = |text: &str| {
        [format!("\"{text}\""), format!("\"\"{text}\"\"")]
            .iter()
            .any(|quoted| message.ends_with(&format!(" {quoted}")))
    };
    let has = |cell: &&Sent| cell.texts().into_iter().any(is_named);
    let suspects = having(items, |item| item.sent(stage).iter().any(|cell| has(&cell)));
    let fields: BTreeSet<&str> = items
        .iter()
        .flat_map(|item| item.sent(stage).iter().filter(has))
        .map(|cell| cell.id.as_str())
        .collect();
    let mut fields = fields.into_iter();
    if let (Some(id), None) = (fields.next(), fields.next()) {
        let blame = |at| (at, Blame::Cell { id: id.to_owned(), why: Why::MissingOption });
        return known(suspects.into_iter().map(blame).collect());
    }
    among(items, suspects, |_| None)
}

/// All who have a cell of this field are at fault: what is wrong is the field.
fn every(items: &[Item], stage: Stage, id: &str, why: Why) -> Verdict {
    let guilty = having(items, |item| item.cell(stage, id).is_some());
    let blame = |at| (at, Blame::Cell { id: id.to_owned(), why });
    known(guilty.into_iter().map(blame).collect()).unwrap_or(Verdict::Unclear)
}

fn known(guilty: Vec<(usize, Blame)>) -> Option<Verdict> {
    (!guilty.is_empty()).then_some(Verdict::Known(guilty))
}

/// One of the suspects did it; if there is just one, `blame` says for what.
fn among(
    items: &[Item],
    suspects: Vec<usize>,
    blame: impl Fn(&Item) -> Option<Blame>,
) -> Option<Verdict> {
    match suspects.as_slice() {
        [] => None,
        [one] if let Some(blame) = items.get(*one).and_then(blame) => known(vec![(*one, blame)]),
        some if some.len() < items.len() => Some(Verdict::Among(suspects)),
        _ => None,
    }
}

fn having(items: &[Item], which: impl Fn(&Item) -> bool) -> Vec<usize> {
    items.iter().enumerate().filter(|(_, item)| which(item)).map(|(at, _)| at).collect()
}

/// What is between the first and the last quotation mark.
fn quoted(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once('"')?;
    let (name, _) = rest.rsplit_once('"')?;
    Some(name.trim_matches('"'))
}

/// `Field "X" cannot accept …`; older servers: `Field X can not accept value V`, `Cannot parse value "V" for field X`.
fn named_field(message: &str) -> Option<&str> {
    if let Some((name, _)) =
        message.strip_prefix("Field \"").and_then(|rest| rest.split_once("\" cannot accept"))
    {
        return Some(name);
    }
    if let Some((name, _)) =
        message.strip_prefix("Field ").and_then(|rest| rest.split_once(" can not accept"))
    {
        return Some(name);
    }
    let (_, name) = message.rsplit_once(" for field ")?;
    Some(name)
}

/// `… write cell values in field NAME (fld…)`.
fn locked_field(message: &str) -> Option<&str> {
    if !message.contains("in field ") {
        return None;
    }
    let (_, id) = message.rsplit_once('(')?;
    id.strip_suffix(')')
}

/// `Record ID rec… does not exist …`, `Record ID rec… belongs to …`.
fn record_id(message: &str) -> Option<&str> {
    message.strip_prefix("Record ID ")?.split(' ').next()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};
    use uuid::Uuid;

    use super::*;
    use crate::{
        mapping::read,
        model::{FieldNo, RecordId},
    };

    const MAPPING: &str = r#"
        version = 1
        [entity.startup]
        table = "startup"
        airtable = { base = "reseau", table = "Startups", uuid = "UUID" }
        [entity.startup.field]
        name = { type = "text", airtable = "Nom" }
        sector = { type = "select", airtable = "Secteur" }
        stage = { type = "select", airtable = "Étape" }
        lead = { type = "link", target = "startup", airtable = "Mère" }
    "#;

    fn item(cells: &[(&str, Json)]) -> Item {
        let cells = cells.iter().map(|(id, value)| Sent {
            field: FieldNo(0),
            id: (*id).to_owned(),
            value: value.clone(),
        });
        Item {
            at: 0,
            record: RecordId(Uuid::nil()),
            operation: Uuid::nil(),
            key: Some("recOwn".into()),
            made: None,
            writes_id: false,
            cells: cells.collect(),
            new_options: Vec::new(),
        }
    }

    fn judged(error: &Error, items: &[Item]) -> Verdict {
        let mapping = read(MAPPING, "mapping.toml").unwrap();
        let place = Place {
            base: "app".into(),
            table: "tbl".into(),
            uuid: Some("fldId".into()),
            fields: ["fldName", "fldSector", "fldStage", "fldLead"]
                .iter()
                .enumerate()
                .map(|(no, id)| (FieldNo(u16::try_from(no).unwrap()), (*id).to_owned()))
                .collect(),
            labels: std::collections::BTreeMap::new(),
            presets: Vec::new(),
        };
        let table: Table =
            serde_json::from_value(json!({ "id": "tbl", "name": "Startups", "fields": [
            { "id": "fldName", "name": "Nom court", "type": "singleLineText" },
            { "id": "fldStage", "name": "Nom", "type": "singleSelect" },
        ] }))
            .unwrap();
        let schema = Schema { entity: &mapping.entities[0], place: &place, table: Some(&table) };
        judge(error, Stage::Update, items, &schema)
    }

    fn refusal(kind: &str, message: &str) -> Error {
        Error::Refused {
            call: "PATCH /x".into(),
            status: 422,
            kind: kind.into(),
            message: message.into(),
        }
    }

    fn guilty(at: usize, id: &str, why: Why) -> (usize, Blame) {
        (at, Blame::Cell { id: id.into(), why })
    }

    #[test]
    fn blame_field_is_found_by_its_name_of_the_day_and_not_by_the_mappings() {
        let items = [item(&[("fldName", json!(1))]), item(&[("fldStage", json!("x"))])];
        for message in [
            "Field \"Nom\" cannot accept the provided value",
            "Field Nom can not accept value x",
            "Cannot parse value \"x\" for field Nom",
        ] {
            let verdict = judged(&refusal("INVALID_VALUE_FOR_COLUMN", message), &items);
            assert_eq!(
                verdict,
                Verdict::Known(vec![guilty(1, "fldStage", Why::Value)]),
                "{message}"
            );
        }
        let unknown = "Field \"Autre\" cannot accept the provided value";
        assert_eq!(judged(&refusal("INVALID_VALUE_FOR_COLUMN", unknown), &items), Verdict::Unclear);
    }

    #[test]
    fn blame_value_narrows_down_and_a_fault_of_the_field_is_everybodys() {
        let one = || item(&[("fldName", json!("a"))]);
        let items = [one(), one(), item(&[("fldSector", json!("b"))])];
        let value = "Field \"Nom court\" cannot accept the provided value";
        assert_eq!(
            judged(&refusal("INVALID_VALUE_FOR_COLUMN", value), &items),
            Verdict::Among(vec![0, 1])
        );
        assert_eq!(
            judged(&refusal("INVALID_VALUE_FOR_COLUMN", value), &items[..2]),
            Verdict::Unclear
        );
        let both = |why| Verdict::Known(vec![guilty(0, "fldName", why), guilty(1, "fldName", why)]);
        let computed = "Field \"Nom court\" cannot accept a value because the field is computed";
        assert_eq!(
            judged(&refusal("INVALID_VALUE_FOR_COLUMN", computed), &items),
            both(Why::Computed)
        );
        let gone = "Unknown field name: \"fldName\"";
        assert_eq!(judged(&refusal("UNKNOWN_FIELD_NAME", gone), &items), both(Why::FieldGone));
        let locked = Error::Forbidden {
            call: "PATCH /x".into(),
            kind: "INVALID_PERMISSIONS".into(),
            message: "You are not permitted to write cell values in field Nom (court) (fldName)"
                .into(),
        };
        assert_eq!(judged(&locked, &items), both(Why::Locked));
    }

    #[test]
    fn blame_missing_option_is_found_by_its_text() {
        let items = [
            item(&[("fldSector", json!("Espace")), ("fldName", json!("A"))]),
            item(&[("fldSector", json!("Santé"))]),
            item(&[("fldSector", json!(["Mer", "Espace"]))]),
        ];
        for quotes in ["\"Espace\"", "\"\"Espace\"\""] {
            let message = format!("Insufficient permissions to create new select option {quotes}");
            let why = Why::MissingOption;
            assert_eq!(
                judged(&refusal("INVALID_MULTIPLE_CHOICE_OPTIONS", &message), &items),
                Verdict::Known(vec![guilty(0, "fldSector", why), guilty(2, "fldSector", why)])
            );
        }
        // In two fields: it cannot be told which one lacks it.
        let items = [
            item(&[("fldSector", json!("Espace")), ("fldStage", json!("Espace"))]),
            item(&[("fldSector", json!("Santé"))]),
        ];
        let message = "Insufficient permissions to create new select option \"Espace\"";
        let error = refusal("INVALID_MULTIPLE_CHOICE_OPTIONS", message);
        assert_eq!(judged(&error, &items), Verdict::Among(vec![0]));
        assert_eq!(judged(&error, &items[..1]), Verdict::Unclear);
    }

    #[test]
    fn blame_unknown_record_is_the_one_written_or_the_one_linked_to() {
        let error = |id: &str| {
            refusal("ROW_DOES_NOT_EXIST", &format!("Record ID {id} does not exist in this table"))
        };
        let items = [item(&[("fldLead", json!(["recA", "recB"]))])];
        assert_eq!(judged(&error("recOwn"), &items), Verdict::Known(vec![(0, Blame::Gone)]));
        assert_eq!(
            judged(&error("recB"), &items),
            Verdict::Known(vec![guilty(0, "fldLead", Why::LinkGone)])
        );
        assert_eq!(judged(&error("recC"), &items), Verdict::Unclear);
        let elsewhere = refusal(
            "ROW_TABLE_DOES_NOT_MATCH_LINKED_TABLE",
            "Record ID recA belongs to table tblA, but the field links to table tblB",
        );
        assert_eq!(
            judged(&elsewhere, &items),
            Verdict::Known(vec![guilty(0, "fldLead", Why::LinkElsewhere)])
        );
    }

    #[test]
    fn blame_side_that_is_shut_is_nobodys_and_is_told() {
        let items = [item(&[("fldName", json!("a"))])];
        let call = || String::from("PATCH /x");
        for (error, code) in [
            (Error::Unauthorized { call: call() }, "token_refused"),
            (
                Error::Forbidden {
                    call: call(),
                    kind: "INVALID_PERMISSIONS_OR_MODEL_NOT_FOUND".into(),
                    message: "Invalid permissions, or the requested model was not found.".into(),
                },
                "table_forbidden",
            ),
            (refusal("UNKNOWN_FIELD_NAME", "Unknown field name: \"fldId\""), "id_field_gone"),
            (Error::QuotaSpent { call: call() }, "quota_spent"),
        ] {
            let Verdict::All { outcome: Outcome::Later { after: Some(_) }, trouble: Some(trouble) } =
                judged(&error, &items)
            else {
                panic!("{error}")
            };
            assert_eq!(trouble.code, code);
        }
        for status in [500, 502, 503] {
            let error = Error::Server { call: call(), status, pause: None };
            let unanswered = Verdict::All { outcome: Outcome::Unanswered, trouble: None };
            assert_eq!(judged(&error, &items), unanswered);
        }
    }
}

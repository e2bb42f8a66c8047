//! One table: what a side holds against what is canonical, and why they differ. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{
    mapping::Entity,
    merge::{is_unread_json, is_written},
    model::{FieldNo, Side, Value},
    store::{ID_FIELD, carried_id, record::CanonRecord, standing::Standing},
};

/// A cell as a side holds it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Held {
    Value(Value),
    /// It does not fit, or links to what is not known: in words.
    Strange(String),
}

/// A record as a side holds it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SideRow {
    pub(crate) key: String,
    pub(crate) cells: BTreeMap<FieldNo, Held>,
    /// What it carries in its field for the canonical id, where it has one that was read.
    pub(crate) claimed_id: Option<Option<Uuid>>,
}

/// All that a side holds of an entity.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SideTable {
    pub(crate) rows: BTreeMap<Uuid, SideRow>,
    /// Keys of records that are nobody's.
    pub(crate) strangers: Vec<String>,
}

/// Why a cell, or a record, differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It is owed, and nothing keeps it from being written.
    Owed,
    /// It is one of many changes at once, which wait for a yes.
    Stopped,
    /// A write is on its way.
    UnderWay,
    /// A conflict waits for a person.
    Held,
    /// The side did not take it.
    Parked(String),
    /// Canonical did not take it.
    Refused(String),
    /// The record is to be deleted here.
    PendingDelete,
    /// Nothing is ever written to this side's field.
    OneWay,
    /// The plan of the first push was not accepted yet.
    Unapproved,
    /// It may be the same as another record.
    Questioned,
    /// The mapping has pointed the field elsewhere, and it was not read there yet.
    Unread,
    /// The side has it outside the rows that are mirrored.
    Outside,
    Unexplained,
}

impl Cause {
    /// For programs.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Owed => "owed",
            Self::Stopped => "stopped",
            Self::UnderWay => "under_way",
            Self::Held => "held",
            Self::Parked(_) => "parked",
            Self::Refused(_) => "refused",
            Self::PendingDelete => "pending_delete",
            Self::OneWay => "one_way",
            Self::Unapproved => "unapproved",
            Self::Questioned => "questioned",
            Self::Unread => "unread",
            Self::Outside => "outside",
            Self::Unexplained => "unexplained",
        }
    }

    /// For people.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Owed => "owed, and will be written".into(),
            Self::Stopped => {
                "was changed with many others at once, and waits for a yes: see `plait plan`".into()
            }
            Self::UnderWay => "a write is on its way".into(),
            Self::Held => "waits for a decision: see `plait conflicts`".into(),
            Self::Parked(reason) => format!("not taken by the side: {reason} (see `plait errors`)"),
            Self::Refused(reason) => format!("does not fit: {reason} (see `plait errors`)"),
            Self::PendingDelete => "was deleted on the other side, and waits for a yes here".into(),
            Self::OneWay => "nothing is written to this field here, as the mapping says".into(),
            Self::Unapproved => "the plan of the first push was not accepted yet".into(),
            Self::Outside => {
                "is there outside the rows that are mirrored, as the mapping says".into()
            }
            Self::Questioned => "may be the same as another record: a person has to say".into(),
            Self::Unread => "the mapping names another field here, which was not read yet".into(),
            Self::Unexplained => "UNEXPLAINED".into(),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Difference {
    /// `None`: the side has a record that canonical knows nothing of.
    pub(crate) record: Option<Uuid>,
    pub(crate) key: Option<String>,
    /// `None`: the whole record.
    pub(crate) field: Option<String>,
    pub(crate) canonical: Json,
    pub(crate) side: Json,
    pub(crate) cause: Cause,
}

/// What comparing a table on a side came to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Comparison {
    pub(crate) canonical_count: usize,
    pub(crate) side_count: usize,
    pub(crate) cell_count: usize,
    /// Hexadecimal sha256 over the rows in the order of their ids, of the fields that this side has.
    pub(crate) canonical_sha256: String,
    pub(crate) side_sha256: String,
    pub(crate) differences: Vec<Difference>,
}

/// Compares the fields `fields` of `side` with canonical.
pub(crate) fn compare(
    entity: &Entity,
    side: Side,
    fields: &[FieldNo],
    canon: &BTreeMap<Uuid, CanonRecord>,
    table: &SideTable,
    standing: &Standing,
) -> Comparison {
    let of = Of { entity, side, standing };
    let living = || canon.values().filter(|record| !record.is_deleted);
    let mut comparison = Comparison {
        canonical_count: living().count(),
        side_count: table.rows.len() + table.strangers.len(),
        cell_count: 0,
        canonical_sha256: digest(living().map(|record| {
            (record.id, fields.iter().map(|no| plain(&record.values[usize::from(no.0)])).collect())
        })),
        side_sha256: digest(
            table.rows.iter().map(|(id, row)| {
                (*id, fields.iter().map(|no| plain_of(row.cells.get(no))).collect())
            }),
        ),
        differences: Vec::new(),
    };
    for record in living() {
        let Some(row) = table.rows.get(&record.id) else {
            comparison.differences.push(Difference {
                record: Some(record.id),
                key: None,
                field: None,
                canonical: Json::Bool(true),
                side: Json::Bool(false),
                cause: of.lacking(record.id),
            });
            continue;
        };
        for no in fields {
            comparison.cell_count += 1;
            let value = &record.values[usize::from(no.0)];
            let held = row.cells.get(no);
            if matches!(held, Some(Held::Value(seen)) if seen == value) {
                continue;
            }
            let name = &entity.field(*no).name;
            comparison.differences.push(Difference {
                record: Some(record.id),
                key: Some(row.key.clone()),
                field: Some(name.clone()),
                canonical: value.to_json(),
                side: json_of(held),
                cause: of.differing(record.id, &row.key, *no, held),
            });
        }
        if let Some(claimed) = row.claimed_id {
            comparison.cell_count += 1;
            if claimed != Some(record.id) {
                comparison.differences.push(Difference {
                    record: Some(record.id),
                    key: Some(row.key.clone()),
                    field: Some(of.id_field().to_owned()),
                    canonical: Json::String(record.id.to_string()),
                    side: claimed.map_or(Json::Null, |id| Json::String(id.to_string())),
                    cause: of.nameless(record.id, claimed),
                });
            }
        }
    }
    let surplus = table.rows.iter().filter(|(id, _)| canon.get(id).is_none_or(|it| it.is_deleted));
    for (id, row) in surplus {
        comparison.differences.push(Difference {
            record: Some(*id),
            key: Some(row.key.clone()),
            field: None,
            canonical: Json::Bool(false),
            side: Json::Bool(true),
            cause: of.surplus(*id),
        });
    }
    for key in &table.strangers {
        comparison.differences.push(Difference {
            record: None,
            key: Some(key.clone()),
            field: None,
            canonical: Json::Bool(false),
            side: Json::Bool(true),
            cause: of.stranger(key),
        });
    }
    comparison
}

/// What is known of one entity on one side.
struct Of<'a> {
    entity: &'a Entity,
    side: Side,
    standing: &'a Standing,
}

impl Of<'_> {
    fn parked(&self, record: Uuid, field: &str) -> Option<Cause> {
        let reason = self.standing.parked.get(&(self.side, record, field.to_owned()))?;
        Some(Cause::Parked(reason.clone()))
    }

    fn is_in_flight(&self, record: Uuid) -> bool {
        self.standing.in_flight.contains(&(self.side, record))
    }

    /// What is owed is written, unless it was stopped with many others.
    fn owed(&self, record: Uuid) -> Cause {
        let is_stopped = self.standing.stopped.contains(&(self.side, record));
        if is_stopped { Cause::Stopped } else { Cause::Owed }
    }

    /// Why the side does not have a record.
    fn lacking(&self, record: Uuid) -> Cause {
        if let Some(parked) = self.parked(record, "*") {
            return parked;
        }
        if self.is_in_flight(record) {
            return Cause::UnderWay;
        }
        if !self.standing.absent.contains(&(self.side, record)) {
            return Cause::Unexplained;
        }
        if self.standing.outside.contains(&(self.side, record)) {
            return Cause::Outside;
        }
        if self.standing.questioned.contains(&record) {
            return Cause::Questioned;
        }
        if !self.standing.approved.contains("*") {
            return Cause::Unapproved;
        }
        self.owed(record)
    }

    /// Why a cell is not what is canonical.
    fn differing(&self, record: Uuid, key: &str, no: FieldNo, held: Option<&Held>) -> Cause {
        let field = self.entity.field(no);
        let refused = (self.side, key.to_owned(), field.name.clone());
        if let Some(reason) = self.standing.refused.get(&refused) {
            return Cause::Refused(reason.clone());
        }
        let shadow = self.standing.shadow.get(&(self.side, record, field.name.clone()));
        if shadow.is_some_and(is_unread_json) {
            return Cause::Unread;
        }
        let is_as_known = match (shadow, held) {
            (Some(shadow), Some(Held::Value(value))) => field.from_json(shadow) == *value,
            _ => false,
        };
        if !is_as_known {
            // It moved, and its log was not read that far.
            return if self.is_in_flight(record) { Cause::UnderWay } else { Cause::Unexplained };
        }
        if self.standing.held.contains(&(record, field.name.clone())) {
            return Cause::Held;
        }
        if let Some(parked) = self.parked(record, &field.name).or_else(|| self.parked(record, "*"))
        {
            return parked;
        }
        if !is_written(field, self.side) {
            return Cause::OneWay;
        }
        if !self.standing.approved.contains(&field.name) {
            return Cause::Unapproved;
        }
        if self.is_in_flight(record) { Cause::UnderWay } else { self.owed(record) }
    }

    /// How the side calls its field for the canonical id.
    fn id_field(&self) -> &str {
        let table = self.entity.airtable.as_ref();
        table.and_then(|table| table.uuid.as_deref()).unwrap_or(ID_FIELD)
    }

    /// Why a record does not carry its canonical id, but `claimed`.
    fn nameless(&self, record: Uuid, claimed: Option<Uuid>) -> Cause {
        let shadow = self.standing.shadow.get(&(self.side, record, ID_FIELD.to_owned()));
        let known = shadow.map(carried_id);
        if self.is_in_flight(record) {
            Cause::UnderWay
        } else if known != Some(claimed) {
            Cause::Unexplained
        } else if let Some(parked) = self.parked(record, "*") {
            parked
        } else if !self.standing.approved.contains("*") {
            Cause::Unapproved
        } else {
            self.owed(record)
        }
    }

    /// Why the side has a record that canonical does not, or not any more.
    fn surplus(&self, record: Uuid) -> Cause {
        if let Some(parked) = self.parked(record, "*") {
            return parked;
        }
        if self.is_in_flight(record) {
            return Cause::UnderWay;
        }
        if self.standing.pending_delete.contains(&(self.side, record)) {
            return Cause::PendingDelete;
        }
        Cause::Unexplained
    }

    fn stranger(&self, key: &str) -> Cause {
        let refused = self.standing.refused.iter().find(|((side, of, field), _)| {
            *side == self.side && of == key && (field.is_empty() || field == "*")
        });
        refused.map_or(Cause::Unexplained, |(_, reason)| Cause::Refused(reason.clone()))
    }
}

fn json_of(held: Option<&Held>) -> Json {
    match held {
        Some(Held::Value(value)) => value.to_json(),
        Some(Held::Strange(what)) => Json::String(format!("({what})")),
        None => Json::Null,
    }
}

/// For the digest: values that are equal are written alike, whatever zeros their side put behind the point.
fn plain(value: &Value) -> Json {
    match value {
        Value::Decimal(number) => Json::String(number.normalized().to_plain_string()),
        other => other.to_json(),
    }
}

fn plain_of(held: Option<&Held>) -> Json {
    match held {
        Some(Held::Value(value)) => plain(value),
        other => json_of(other),
    }
}

/// The sha256 of rows that come in the order of their ids.
fn digest(rows: impl Iterator<Item = (Uuid, Vec<Json>)>) -> String {
    let mut hash = Sha256::new();
    for (id, cells) in rows {
        hash.update(id.as_bytes());
        hash.update(Json::Array(cells).to_string().as_bytes());
        hash.update(b"\n");
    }
    let mut text = String::with_capacity(64);
    for byte in hash.finalize() {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// The records that have something unexplained.
pub(crate) fn unexplained(differences: &[Difference]) -> BTreeSet<Option<Uuid>> {
    let unexplained = differences.iter().filter(|it| it.cause == Cause::Unexplained);
    unexplained.map(|it| it.record).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping;

    const MAPPING: &str = r#"
version = 1
[entity.person]
table = "person"
airtable = { base = "main", table = "People", uuid = "UUID" }
directus = { table = "person" }
[entity.person.field]
name = { type = "text", airtable = "Name", directus = "name" }
size = { type = "decimal", scale = 2, airtable = "Size", directus = "size" }
"#;

    fn value(text: &str) -> Value {
        if text.is_empty() { Value::Null } else { Value::Text(text.into()) }
    }

    struct Case {
        entity: Entity,
        canon: BTreeMap<Uuid, CanonRecord>,
        table: SideTable,
        standing: Standing,
    }

    const ID: Uuid = Uuid::from_u128(7);

    fn case(canonical: &str, held: &str) -> Case {
        let mapping = mapping::read(MAPPING, "mapping.toml").unwrap();
        let values = vec![value(canonical), Value::Null];
        let canon = BTreeMap::from([(ID, CanonRecord { id: ID, is_deleted: false, values })]);
        let cells = BTreeMap::from([
            (FieldNo(0), Held::Value(value(held))),
            (FieldNo(1), Held::Value(Value::Null)),
        ]);
        let rows = BTreeMap::from([(
            ID,
            SideRow { key: "rec1".into(), cells, claimed_id: Some(Some(ID)) },
        )]);
        let table = SideTable { rows, strangers: Vec::new() };
        let entity = mapping.entities[0].clone();
        Case { entity, canon, table, standing: Standing::default() }
    }

    impl Case {
        fn compare(&self) -> Comparison {
            let fields = [FieldNo(0), FieldNo(1)];
            let Self { entity, canon, table, standing } = self;
            compare(entity, Side::Airtable, &fields, canon, table, standing)
        }

        fn cause(&self) -> Cause {
            let comparison = self.compare();
            let [one] = comparison.differences.as_slice() else {
                panic!("{:?}", comparison.differences)
            };
            one.cause.clone()
        }

        fn shadow(&mut self, value: &str) {
            let cell = (Side::Airtable, ID, String::from("name"));
            self.standing.shadow.insert(cell, Json::String(value.into()));
        }
    }

    #[test]
    fn verify_equal_tables_have_one_digest() {
        let equal = case("Ann", "Ann").compare();
        assert_eq!(equal.differences, []);
        assert_eq!(equal.canonical_sha256, equal.side_sha256);
        assert_eq!((equal.canonical_count, equal.side_count, equal.cell_count), (1, 1, 3));
        let other = case("Ann", "Bob").compare();
        assert_ne!(other.canonical_sha256, other.side_sha256);
        assert_eq!(other.canonical_sha256, equal.canonical_sha256);
    }

    #[test]
    fn verify_digest_does_not_depend_on_zeros_behind_the_point() {
        let mut equal = case("Ann", "Ann");
        let number =
            |digits: i64, scale| Value::Decimal(bigdecimal::BigDecimal::new(digits.into(), scale));
        equal.canon.get_mut(&ID).unwrap().values[1] = number(150_000, 2);
        let cells = &mut equal.table.rows.get_mut(&ID).unwrap().cells;
        cells.insert(FieldNo(1), Held::Value(number(1_500, 0)));
        let comparison = equal.compare();
        assert_eq!(comparison.differences, []);
        assert_eq!(comparison.canonical_sha256, comparison.side_sha256);
    }

    #[test]
    fn verify_cell_that_nothing_explains_is_unexplained() {
        assert_eq!(case("Ann", "Bob").cause(), Cause::Unexplained);
        let mut stale = case("Ann", "Bob");
        stale.shadow("Cid");
        assert_eq!(stale.cause(), Cause::Unexplained);
    }

    #[test]
    fn verify_cell_that_is_known_to_differ_has_its_cause() {
        let mut case = case("Ann", "Bob");
        case.shadow("Bob");
        assert_eq!(case.cause(), Cause::Unapproved);
        case.standing.approved.insert("name".into());
        assert_eq!(case.cause(), Cause::Owed);
        case.standing.stopped.insert((Side::Airtable, ID));
        assert_eq!(case.cause(), Cause::Stopped);
        case.standing.in_flight.insert((Side::Airtable, ID));
        assert_eq!(case.cause(), Cause::UnderWay);
        let cell = (Side::Airtable, ID, String::from("name"));
        case.standing.parked.insert(cell, "no such choice".into());
        assert_eq!(case.cause(), Cause::Parked("no such choice".into()));
        case.standing.held.insert((ID, "name".into()));
        assert_eq!(case.cause(), Cause::Held);
        let cell = (Side::Airtable, String::from("rec1"), String::from("name"));
        case.standing.refused.insert(cell, "too long".into());
        assert_eq!(case.cause(), Cause::Refused("too long".into()));
    }

    #[test]
    fn verify_record_that_does_not_carry_its_id_has_its_cause() {
        let mut case = case("Ann", "Ann");
        case.table.rows.get_mut(&ID).unwrap().claimed_id = Some(None);
        let difference = case.compare().differences.pop().unwrap();
        assert_eq!(
            (difference.field.as_deref(), difference.cause),
            (Some("UUID"), Cause::Unexplained)
        );
        case.standing.shadow.insert((Side::Airtable, ID, ID_FIELD.into()), Json::Null);
        assert_eq!(case.cause(), Cause::Unapproved);
        case.standing.approved.insert("*".into());
        assert_eq!(case.cause(), Cause::Owed);
        case.table.rows.get_mut(&ID).unwrap().claimed_id = Some(Some(Uuid::from_u128(8)));
        assert_eq!(case.cause(), Cause::Unexplained, "a person wrote another one since");
    }

    #[test]
    fn verify_record_that_a_side_lacks_or_has_alone_has_its_cause() {
        let mut lacking = case("Ann", "Ann");
        let row = lacking.table.rows.remove(&ID).unwrap();
        assert_eq!(lacking.cause(), Cause::Unexplained);
        lacking.standing.absent.insert((Side::Airtable, ID));
        assert_eq!(lacking.cause(), Cause::Unapproved);
        lacking.standing.approved.insert("*".into());
        assert_eq!(lacking.cause(), Cause::Owed);
        lacking.standing.questioned.insert(ID);
        assert_eq!(lacking.cause(), Cause::Questioned);

        let mut surplus = case("Ann", "Ann");
        surplus.canon.clear();
        assert_eq!(surplus.cause(), Cause::Unexplained);
        surplus.standing.pending_delete.insert((Side::Airtable, ID));
        assert_eq!(surplus.cause(), Cause::PendingDelete);

        let mut stranger = case("Ann", "Ann");
        stranger.table.rows = BTreeMap::from([(ID, row)]);
        stranger.table.strangers.push("rec2".into());
        assert_eq!(stranger.cause(), Cause::Unexplained);
    }
}

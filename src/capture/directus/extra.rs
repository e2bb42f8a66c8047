//! The columns of a junction row beside those that the mapping names (a role, a rank, since when), as JSON that
//! Directus takes back. They belong to no field: they are only kept, so that an element that leaves a set and returns
//! has them again. Pure.

use serde_json::{Map, Value as Json};

use super::{
    convert::Row,
    layout::{LayoutTable, Role},
    pgoutput::Raw,
};

/// A value that is longer is not kept, bytes.
const VALUE_BYTES_MAX: usize = 2 * 1024;
/// All values of a row together, bytes.
const ROW_BYTES_MAX: usize = 8 * 1024;

/// The columns of a table that are kept beside its element.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Extras {
    /// Place in the row, name, type.
    columns: Vec<(usize, String, Kind)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Boolean,
    Number,
    Json,
    /// `2024-05-01 10:00:00+02`
    Moment,
    /// As Postgres prints it.
    Text,
}

impl LayoutTable {
    /// Whether a row is an element of a set, or of two, and nothing else.
    pub(super) fn is_junction(&self) -> bool {
        self.roles.iter().all(|role| matches!(role, Role::Element { .. }))
    }

    /// Whether a column of a junction is kept beside its elements. `type_oid`: of `pg_type`.
    pub(super) fn keeps(&self, column: &str, type_oid: u32) -> bool {
        self.is_junction() && kind(type_oid).is_some() && !self.columns().contains(&column)
    }
}

/// How values of a type are kept, if they are. Oids of `pg_type`.
fn kind(type_oid: u32) -> Option<Kind> {
    Some(match type_oid {
        // bool
        16 => Kind::Boolean,
        // int2, int4
        21 | 23 => Kind::Number,
        // json, jsonb
        114 | 3802 => Kind::Json,
        // timestamp, timestamptz
        1114 | 1184 => Kind::Moment,
        // int8, float4, float8, numeric: a JSON number would round them. text, varchar, char, date, time, timetz, uuid
        20 | 700 | 701 | 1700 | 25 | 1043 | 1042 | 1082 | 1083 | 1266 | 2950 => Kind::Text,
        _ => return None,
    })
}

impl Extras {
    /// Of the columns of a table, given by name and type in the order of its rows.
    pub(super) fn new<'a>(
        table: &LayoutTable,
        columns: impl Iterator<Item = (&'a str, u32)>,
    ) -> Self {
        let kept = columns.enumerate().filter(|(_, (name, oid))| table.keeps(name, *oid));
        let columns =
            kept.filter_map(|(at, (name, oid))| Some((at, name.to_owned(), kind(oid)?))).collect();
        Self { columns }
    }

    /// The values of a row that are there; `None`: there are none.
    pub(super) fn of(&self, row: &impl Row) -> Option<Box<Json>> {
        if self.columns.is_empty() {
            return None;
        }
        let (mut values, mut byte_count) = (Map::new(), 0);
        for (at, name, kind) in &self.columns {
            let Raw::Text(text) = row.raw(*at) else { continue };
            byte_count += text.len();
            if text.len() > VALUE_BYTES_MAX || byte_count > ROW_BYTES_MAX {
                continue;
            }
            if let Some(value) = std::str::from_utf8(text).ok().and_then(|text| value(*kind, text))
            {
                values.insert(name.clone(), value);
            }
        }
        (!values.is_empty()).then(|| Box::new(Json::Object(values)))
    }
}

fn value(kind: Kind, text: &str) -> Option<Json> {
    match kind {
        Kind::Boolean => Some(Json::Bool(text == "t")),
        Kind::Number => text.parse::<i64>().ok().map(Json::from),
        Kind::Json => serde_json::from_str(text).ok(),
        Kind::Moment => Some(Json::String(moment(text))),
        Kind::Text => Some(Json::String(text.to_owned())),
    }
}

/// ISO 8601 of what Postgres prints: a `T` between date and time, minutes in the offset.
fn moment(text: &str) -> String {
    let mut iso = text.replacen(' ', "T", 1);
    let sign = iso.rfind(['+', '-']).filter(|at| *at > "0000-00-00".len());
    if sign.is_some_and(|at| iso.len() - at == "+00".len()) {
        iso.push_str(":00");
    }
    iso
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        capture::directus::{copy_text::CopyRow, layout::TableName},
        model::{EntityNo, FieldNo},
    };

    fn junction() -> LayoutTable {
        let role = Role::Element {
            entity: EntityNo(0),
            field: FieldNo(0),
            key: "id".into(),
            parent: "member_id".into(),
            element: "project_id".into(),
        };
        let name = TableName { schema: "public".into(), table: "member_project".into() };
        LayoutTable { name, roles: vec![role] }
    }

    #[test]
    fn extras_are_the_unmapped_columns_as_directus_takes_them() {
        let columns = [
            ("id", 23),
            ("member_id", 2950),
            ("sort", 23),
            ("project_id", 23),
            ("role", 1043),
            ("is_lead", 16),
            ("since", 1184),
            ("until", 1082),
            ("share", 1700),
            ("tags", 114),
            ("area", 600),
            ("note", 25),
        ];
        let extras = Extras::new(&junction(), columns.into_iter());
        let mut row = CopyRow::default();
        row.split(
            b"7\tu\t3\t5\tlead\tt\t2024-05-01 10:00:00.25+02\t2024-06-01\t0.250\t[\"a\"]\t(1,2)\t\\N",
        );
        let kept = json!({ "sort": 3, "role": "lead", "is_lead": true, "since": "2024-05-01T10:00:00.25+02:00",
            "until": "2024-06-01", "share": "0.250", "tags": ["a"] });
        assert_eq!(extras.of(&row).as_deref(), Some(&kept));
        let plain = Extras::new(&junction(), columns[..2].iter().copied());
        assert_eq!(plain, Extras::default());
        assert_eq!(moment("2024-05-01 10:00:00"), "2024-05-01T10:00:00");
    }

    #[test]
    fn extras_that_are_too_large_are_left_out() {
        let columns = [("id", 23), ("note", 25), ("role", 25)];
        let extras = Extras::new(&junction(), columns.into_iter());
        let mut row = CopyRow::default();
        row.split(format!("7\t{}\tlead", "x".repeat(VALUE_BYTES_MAX + 1)).as_bytes());
        assert_eq!(extras.of(&row).as_deref(), Some(&json!({ "role": "lead" })));
    }
}

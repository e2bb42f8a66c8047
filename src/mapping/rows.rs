//! Which rows of a side's table are mirrored: a filter by columns (Directus) or fields (Airtable) and their values.
//! Pure.

use serde_json::Value as Json;

/// The filters of an entity's tables.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rows {
    pub(crate) airtable: Option<RowFilter>,
    pub(crate) directus: Option<RowFilter>,
    /// Roles of Directus, by name or id, whose accounts are members though they may open the Studio.
    pub(crate) member_roles: Vec<String>,
}

/// A row is mirrored when every test holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RowFilter {
    pub(crate) tests: Vec<RowTest>,
}

/// What one cell of a row has to hold.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RowTest {
    /// The column in Directus; the field's name or id in Airtable.
    pub(crate) field: String,
    pub(crate) values: Vec<RowValue>,
    /// The row is mirrored when the cell holds none of `values`.
    pub(crate) is_not: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RowValue {
    /// An empty text stands for an empty cell.
    Text(String),
    Number(i64),
    Flag(bool),
}

impl RowTest {
    /// Judges a column as Postgres prints it; `None`: null.
    pub(crate) fn admits_postgres(&self, text: Option<&str>) -> bool {
        let text = text.unwrap_or_default();
        self.admits(|value| value.is_postgres(text))
    }

    /// Judges a cell as an API shows it: of Airtable in a payload or a listing, or of Directus. `None`: no cell, which is
    /// how Airtable says empty and unchecked.
    pub(crate) fn admits_json(&self, cell: Option<&Json>) -> bool {
        self.admits(|value| value.is_airtable(cell.unwrap_or(&Json::Null)))
    }

    fn admits(&self, is_held: impl Fn(&RowValue) -> bool) -> bool {
        self.values.iter().any(is_held) != self.is_not
    }

    /// What a new row gets where the mirror writes nothing else to this cell; `None`: nothing.
    pub(crate) fn preset(&self) -> Option<Json> {
        let first = self.values.first().filter(|_| !self.is_not)?;
        match first {
            RowValue::Text(text) if text.is_empty() => None,
            RowValue::Text(text) => Some(Json::from(text.as_str())),
            RowValue::Number(number) => Some(Json::from(*number)),
            RowValue::Flag(flag) => Some(Json::from(*flag)),
        }
    }

    /// For people: "`Statut` is “Actif” or empty".
    pub(crate) fn words(&self) -> String {
        let values: Vec<String> = self.values.iter().map(RowValue::words).collect();
        let (verb, between) = if self.is_not { ("is not", " nor ") } else { ("is", " or ") };
        format!("`{}` {verb} {}", self.field, values.join(between))
    }
}

impl RowFilter {
    /// For people.
    pub(crate) fn words(&self) -> String {
        let tests: Vec<String> = self.tests.iter().map(RowTest::words).collect();
        tests.join(", and ")
    }
}

impl RowValue {
    fn is_postgres(&self, text: &str) -> bool {
        match self {
            Self::Text(wanted) => wanted == text,
            Self::Flag(wanted) => {
                matches!((wanted, text), (true, "t" | "true") | (false, "f" | "false" | ""))
            }
            Self::Number(wanted) => is_number(*wanted, text),
        }
    }

    /// Of a list (several options, links) one element is enough.
    fn is_airtable(&self, cell: &Json) -> bool {
        match cell {
            Json::Array(elements) if !elements.is_empty() => {
                elements.iter().any(|element| self.is_airtable(element))
            }
            Json::Array(_) | Json::Null => match self {
                Self::Text(wanted) => wanted.is_empty(),
                Self::Flag(wanted) => !wanted,
                Self::Number(_) => false,
            },
            Json::Bool(flag) => *self == Self::Flag(*flag),
            Json::Number(number) => match self {
                Self::Number(wanted) => is_number(*wanted, &number.to_string()),
                Self::Text(wanted) => *wanted == number.to_string(),
                Self::Flag(_) => false,
            },
            Json::String(text) => *self == Self::Text(text.clone()),
            // A choice, a linked record or a person.
            Json::Object(parts) => ["name", "email", "id"].iter().any(|part| {
                parts
                    .get(*part)
                    .and_then(Json::as_str)
                    .is_some_and(|text| *self == Self::Text(text.to_owned()))
            }),
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Text(text) if text.is_empty() => String::from("empty"),
            Self::Text(text) => format!("“{text}”"),
            Self::Number(number) => number.to_string(),
            Self::Flag(flag) => flag.to_string(),
        }
    }
}

/// Whether the text of a number, which may have zeros behind the point, is this whole number.
fn is_number(wanted: i64, text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    whole.parse() == Ok(wanted) && fraction.bytes().all(|digit| digit == b'0')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{RowTest, RowValue};

    fn test(values: &[RowValue], is_not: bool) -> RowTest {
        RowTest { field: "Statut".into(), values: values.to_vec(), is_not }
    }

    #[test]
    fn rows_cells_of_both_sides_are_judged_by_what_they_hold() {
        let text = |text: &str| RowValue::Text(text.into());
        let active = test(&[text("Actif"), text("")], false);
        assert!(active.admits_postgres(Some("Actif")) && active.admits_postgres(None));
        assert!(!active.admits_postgres(Some("actif")));
        assert!(active.admits_json(None) && active.admits_json(Some(&json!([]))));
        assert!(active.admits_json(Some(&json!({ "id": "selA", "name": "Actif" }))));
        assert!(active.admits_json(Some(&json!(["Parti", "Actif"]))));
        assert!(!active.admits_json(Some(&json!("Parti"))));
        assert_eq!(active.words(), "`Statut` is “Actif” or empty");

        let other = test(&[text("Parti")], true);
        assert!(other.admits_json(None) && !other.admits_json(Some(&json!("Parti"))));
        assert_eq!((other.preset(), active.preset()), (None, Some(json!("Actif"))));

        let unchecked = test(&[RowValue::Flag(false)], false);
        assert!(unchecked.admits_json(None) && unchecked.admits_postgres(Some("f")));
        assert!(!unchecked.admits_json(Some(&json!(true))));
        let three = test(&[RowValue::Number(3)], false);
        assert!(three.admits_postgres(Some("3.00")) && three.admits_json(Some(&json!(3.0))));
        assert!(!three.admits_postgres(Some("3.01")) && !three.admits_postgres(None));
    }
}

//! The one normalised value type that both sides and the canonical columns are read into and written from.

use std::{borrow::Cow, cmp::Ordering};

use bigdecimal::BigDecimal;
use chrono::{DateTime, NaiveDate, NaiveTime, SecondsFormat};
use serde_json::json;
use uuid::Uuid;

pub(crate) const MICROS_PER_SECOND: i64 = 1_000_000;

/// A cell's value, normalised: two values that mean the same are equal. What is empty is `Null`, whatever
/// the side's way of saying so (an absent key, `null`, `""`, `[]`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    /// Exact, of any size. Equal by value, whatever the number of zeros behind the point.
    Decimal(BigDecimal),
    /// Unicode NFC, `\n` as line end, never empty, no NUL.
    Text(String),
    Date(NaiveDate),
    Time(NaiveTime),
    /// µs since 1970-01-01 00:00 UTC.
    Timestamp(i64),
    Uuid(Uuid),
    /// Objects compare without regard to the order of their keys.
    Json(serde_json::Value),
    /// Ordered, repeats allowed, never empty.
    List(Vec<String>),
    /// Without order and repeats: sorted, never empty. Codes, or ids as text.
    Set(Vec<String>),
}

impl Value {
    /// A set of these elements; `Null` if there are none.
    pub(crate) fn set(mut elements: Vec<String>) -> Self {
        elements.sort_unstable();
        elements.dedup();
        if elements.is_empty() { Self::Null } else { Self::Set(elements) }
    }

    pub(crate) fn is_null(&self) -> bool {
        *self == Self::Null
    }

    /// The elements of a set; none of `Null` or of anything else.
    pub(crate) fn elements(&self) -> &[String] {
        match self {
            Self::Set(elements) => elements,
            _ => &[],
        }
    }

    /// The text that Postgres reads as this value in a column of the fitting type; `None` is SQL NULL.
    pub(crate) fn to_sql(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Null => return None,
            Self::Bool(true) => "t".into(),
            Self::Bool(false) => "f".into(),
            Self::Int(number) => number.to_string().into(),
            Self::Decimal(number) => number.to_plain_string().into(),
            Self::Text(text) => text.into(),
            Self::Date(date) => unsigned(date.to_string()).into(),
            Self::Time(time) => time.to_string().into(),
            Self::Timestamp(micros) => timestamp_text(*micros).into(),
            Self::Uuid(id) => id.to_string().into(),
            Self::Json(json) => json.to_string().into(),
            Self::List(elements) | Self::Set(elements) => array_literal(elements).into(),
        })
    }

    /// The value as the journal, the shadows and the conflicts keep it. Decimals are strings: a JSON
    /// number would go through a float somewhere.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(flag) => json!(flag),
            Self::Int(number) => json!(number),
            Self::Json(json) => json.clone(),
            Self::List(elements) | Self::Set(elements) => json!(elements),
            other => json!(other.to_sql()),
        }
    }

    /// The greater of two values of one type, for the policies `max` and `min`; `None` if they have no order.
    pub(crate) fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Null, Self::Null) => Some(Ordering::Equal),
            (Self::Null, _) => Some(Ordering::Less),
            (_, Self::Null) => Some(Ordering::Greater),
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Int(a), Self::Int(b)) | (Self::Timestamp(a), Self::Timestamp(b)) => {
                Some(a.cmp(b))
            }
            (Self::Decimal(a), Self::Decimal(b)) => Some(a.cmp(b)),
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::Date(a), Self::Date(b)) => Some(a.cmp(b)),
            (Self::Time(a), Self::Time(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }
}

/// `2024-02-29 08:45:10.123+00`, as Postgres prints it in UTC.
fn timestamp_text(micros: i64) -> String {
    match DateTime::from_timestamp_micros(micros) {
        Some(at) => unsigned(at.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
        // Outside chrono's range, which is wider than Postgres's: only reachable from a hand-made value.
        None => String::from("infinity"),
    }
}

/// Years of five digits without the `+` that ISO 8601 puts before them: Postgres takes it for a time zone.
fn unsigned(text: String) -> String {
    match text.strip_prefix('+') {
        Some(rest) => rest.to_owned(),
        None => text,
    }
}

/// `{"a","b \"c\""}`: a Postgres text array.
fn array_literal(elements: &[String]) -> String {
    let mut literal = String::from("{");
    for (at, element) in elements.iter().enumerate() {
        if at > 0 {
            literal.push(',');
        }
        literal.push('"');
        for letter in element.chars() {
            if matches!(letter, '"' | '\\') {
                literal.push('\\');
            }
            literal.push(letter);
        }
        literal.push('"');
    }
    literal.push('}');
    literal
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;

    use super::Value;

    #[test]
    fn value_years_of_five_digits_are_written_as_postgres_reads_them() {
        let date = NaiveDate::from_ymd_opt(10_000, 1, 1).unwrap();
        assert_eq!(Value::Date(date).to_sql().as_deref(), Some("10000-01-01"));
        let at = Value::Timestamp(253_402_300_800_000_000);
        assert_eq!(at.to_sql().as_deref(), Some("10000-01-01T00:00:00Z"));
    }
}

//! Values out of our own database: written by us, so they are read without checks.

use serde_json::Value as Json;
use uuid::Uuid;

use super::{Field, FieldKind, list, moment, number, settle};
use crate::model::Value;

impl Field {
    /// A canonical column as Postgres prints it; sets and lists as an array of text. A text that does not fit
    /// the type stays a text: somebody changed the column behind our back, and comparing will show it.
    pub(crate) fn read_canonical(&self, text: Option<&str>) -> Value {
        let Some(text) = text else { return self.empty() };
        let array = || list::from_array_literal(text);
        let value = match &self.kind {
            FieldKind::Links { .. } | FieldKind::MultiSelect => array().map(Value::set),
            FieldKind::Csv => array().map(list_or_null),
            FieldKind::Json | FieldKind::Computed => {
                serde_json::from_str(text).ok().map(json_or_null)
            }
            _ => self.scalar(text),
        };
        value.unwrap_or_else(|| Value::Text(text.to_owned()))
    }

    /// The inverse of [`Value::to_json`] for this field's type.
    #[expect(clippy::wrong_self_convention, reason = "the other half of `Value::to_json`")]
    pub(crate) fn from_json(&self, json: &Json) -> Value {
        let texts = || {
            json.as_array()?
                .iter()
                .map(|element| element.as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>()
        };
        let value = match (&self.kind, json) {
            (_, Json::Null) => Some(Value::Null),
            (FieldKind::Json | FieldKind::Computed, json) => Some(Value::Json(json.clone())),
            (FieldKind::Links { .. } | FieldKind::MultiSelect, _) => texts().map(Value::set),
            (FieldKind::Csv, _) => texts().map(list_or_null),
            (_, Json::Bool(flag)) => Some(Value::Bool(*flag)),
            (_, Json::Number(number)) => number.as_i64().map(Value::Int),
            (_, Json::String(text)) => self.scalar(text),
            _ => None,
        };
        value.unwrap_or_else(|| Value::Json(json.clone()))
    }

    fn scalar(&self, text: &str) -> Option<Value> {
        match &self.kind {
            FieldKind::Boolean => match text {
                "t" | "true" => Some(Value::Bool(true)),
                "f" | "false" => Some(Value::Bool(false)),
                _ => None,
            },
            FieldKind::Date => moment::date(text).ok().map(Value::Date),
            FieldKind::Time => moment::time(text).ok().map(Value::Time),
            FieldKind::DateTime { .. } => moment::timestamp(text).ok().map(Value::Timestamp),
            FieldKind::Uuid | FieldKind::Link { .. } => Uuid::try_parse(text).ok().map(Value::Uuid),
            FieldKind::Decimal { .. } | FieldKind::Currency { .. } | FieldKind::Percent { .. } => {
                number::decimal(number::from_text(text).ok()?, None).ok().map(Value::Decimal)
            }
            kind if settle::is_numeric(kind) => text.parse().ok().map(Value::Int),
            _ if text.is_empty() => Some(Value::Null),
            _ => Some(Value::Text(text.to_owned())),
        }
    }
}

fn list_or_null(elements: Vec<String>) -> Value {
    if elements.is_empty() { Value::Null } else { Value::List(elements) }
}

fn json_or_null(json: Json) -> Value {
    if json.is_null() { Value::Null } else { Value::Json(json) }
}

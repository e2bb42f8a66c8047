//! What makes two values of a type the same: its normal form, whatever side the value came from.

use serde_json::Value as Json;

use super::{Codes, Field, FieldKind, Part, flaw::Flaw, json, list, moment, number, phone, text};
use crate::model::{RefusalKind, Value};

impl Field {
    /// Type and transformations, whatever side the value came from.
    pub(super) fn settle(&self, value: Value) -> Result<Value, Flaw> {
        match (&self.kind, value) {
            (_, Value::Null) => Ok(self.empty()),
            (FieldKind::Uuid, Value::Text(text)) => self.whole_text(&text, None),
            (FieldKind::Select, Value::Text(text)) => {
                let code = text::clean(&text)?;
                Ok(if code.is_empty() { Value::Null } else { Value::Text(code) })
            }
            (kind, Value::Text(text)) if kind.is_text() => self.text(&text),
            (kind, Value::Int(number)) if is_numeric(kind) => self.number(number::Raw::Int(number)),
            (kind, Value::Decimal(number)) if is_numeric(kind) => {
                self.number(number::Raw::Exact(number::within_numeric(number)?))
            }
            (FieldKind::Boolean, flag @ Value::Bool(_)) => Ok(flag),
            (FieldKind::Date, Value::Date(date)) => moment::in_calendar(date).map(Value::Date),
            (FieldKind::Time, Value::Time(time)) => Ok(Value::Time(moment::cut_time(time))),
            (FieldKind::DateTime { millis }, Value::Timestamp(micros)) => {
                let micros = if *millis { moment::to_millis(micros) } else { micros };
                moment::in_range(micros).map(Value::Timestamp)
            }
            (
                FieldKind::MultiSelect | FieldKind::Csv,
                Value::List(elements) | Value::Set(elements),
            ) => self.elements(elements, None),
            (FieldKind::Uuid | FieldKind::Link { .. }, id @ Value::Uuid(_)) => Ok(id),
            (FieldKind::Links { .. }, Value::List(ids) | Value::Set(ids)) => Ok(Value::set(ids)),
            (FieldKind::Json, Value::Json(json)) => Ok(match json::settle(&json)? {
                Json::Null => Value::Null,
                json => Value::Json(json),
            }),
            (FieldKind::Computed, Value::Json(json)) => Ok(match json::settle(&json)? {
                Json::Null => Value::Null,
                Json::String(text) if text.is_empty() => Value::Null,
                Json::Array(elements) if elements.is_empty() => Value::Null,
                json => Value::Json(json),
            }),
            _ => Err(self.misfit(&Json::Null)),
        }
    }

    pub(super) fn text(&self, text: &str) -> Result<Value, Flaw> {
        let mut text = match &self.kind {
            FieldKind::Email => text::email(text)?,
            FieldKind::Phone { region } => phone::e164(text, region)?,
            FieldKind::Url => text::clean(text.trim())?,
            FieldKind::Collaborator => text::collaborator(text)?,
            _ => text::clean(text)?,
        };
        if self.is_part_of_name() {
            text = text::collapse(&text);
        }
        text = text::transform(text, &self.transforms)?;
        // Airtable adds a line end to rich text, and does not tell which of its long texts are rich.
        if self.kind == FieldKind::LongText && self.airtable.is_some() {
            text.truncate(text.trim_end_matches('\n').len());
        }
        Ok(if text.is_empty() { Value::Null } else { Value::Text(text) })
    }

    fn is_part_of_name(&self) -> bool {
        matches!(self.form_on_airtable().part, Part::FirstOfFullName | Part::LastOfFullName)
    }

    pub(super) fn number(&self, raw: number::Raw) -> Result<Value, Flaw> {
        let (min, max) = match self.kind {
            FieldKind::BigInt => (i64::MIN, i64::MAX),
            FieldKind::Integer | FieldKind::Duration => (i32::MIN.into(), i32::MAX.into()),
            FieldKind::Rating => (1, i16::MAX.into()),
            FieldKind::Decimal { scale }
            | FieldKind::Currency { scale }
            | FieldKind::Percent { scale } => {
                return number::decimal(raw, scale).map(Value::Decimal);
            }
            _ => return Err(self.misfit(&Json::Null)),
        };
        number::integer(raw, min, max).map(Value::Int)
    }

    pub(super) fn boolean(&self, text: &str) -> Result<Value, Flaw> {
        match text.trim() {
            "" => Ok(self.empty()),
            "t" | "true" | "1" => Ok(Value::Bool(true)),
            "f" | "false" | "0" => Ok(Value::Bool(false)),
            _ => Err(Flaw::wrong_type(
                "is not yes or no: map it as `text`, or correct it at its source",
            )),
        }
    }

    /// Elements of a list or a set: cleaned, through the code table, without empty ones. A list keeps no
    /// commas within its elements, because Directus's `csv` cannot.
    pub(super) fn elements(
        &self,
        texts: Vec<String>,
        codes: Option<&Codes>,
    ) -> Result<Value, Flaw> {
        let mut elements = Vec::with_capacity(texts.len());
        for text in texts {
            let text = text::clean(&text)?;
            if self.kind == FieldKind::Csv {
                for element in list::split(&text) {
                    let element = text::transform(element.to_owned(), &self.transforms)?;
                    elements.extend(Some(element).filter(|element| !element.is_empty()));
                }
            } else if !text.is_empty() {
                elements.push(code(&text, codes)?);
            }
        }
        Ok(match self.kind {
            FieldKind::Csv if elements.is_empty() => Value::Null,
            FieldKind::Csv => Value::List(elements),
            _ => Value::set(elements),
        })
    }
}

/// The code of a label; without a code table the label is the code.
pub(super) fn code(label: &str, codes: Option<&Codes>) -> Result<String, Flaw> {
    match codes {
        None => Ok(label.to_owned()),
        Some(_) if label.is_empty() => Ok(String::new()),
        Some(codes) => codes.get(label).cloned().ok_or_else(|| {
            let label: String = label.chars().take(60).collect();
            let what = format!(
                "has the choice “{label}”, which its code table does not know: add it there"
            );
            Flaw::new(RefusalKind::UnknownChoice, what)
        }),
    }
}

pub(super) fn is_numeric(kind: &FieldKind) -> bool {
    matches!(
        kind,
        FieldKind::Integer
            | FieldKind::BigInt
            | FieldKind::Decimal { .. }
            | FieldKind::Currency { .. }
            | FieldKind::Percent { .. }
            | FieldKind::Rating
            | FieldKind::Duration
    )
}

//! Cells as the sides write them → normalised values.
//!
//! Every reading ends in a [`Cell`]: a value, the side's names of linked records, or a refusal with its
//! reason. Reading what [`Field::write_airtable`] or [`Field::write_directus`] wrote gives the value that was
//! written, and normalising a value twice changes nothing; the tests in `round_trip.rs` hold both.

use std::fmt;

use serde_json::Value as Json;
use uuid::Uuid;

use super::{
    Codes, DirectusField, Field, FieldKind, Part, flaw::Flaw, json, list, moment, name, number,
    settle, text,
};
use crate::model::{Cell, RawText, Refusal, SideKey, Value};

/// How Airtable writes a cell: as the record endpoints do, or as the webhook payloads do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CellFormat {
    Rest,
    V2,
}

/// How a side's cell is to be taken apart.
#[derive(Clone, Copy)]
pub(super) struct Form<'f> {
    pub(super) part: Part,
    pub(super) codes: Option<&'f Codes>,
}

impl Form<'_> {
    pub(super) const WHOLE: Self = Self { part: Part::Whole, codes: None };
}

impl Field {
    /// Reads a cell of Airtable; `None`: the record does not have the key, the cell is empty.
    pub(crate) fn read_airtable(&self, cell: Option<&Json>, format: CellFormat) -> Cell {
        let json = cell.unwrap_or(&Json::Null);
        self.cell(self.json_cell(json, self.form_on_airtable(), format), || RawText::of_json(json))
    }

    /// Reads a column's text from the log or from COPY, unescaped; `None` is SQL NULL.
    pub(crate) fn read_postgres(&self, text: Option<&[u8]>) -> Cell {
        let read = match text {
            None => Ok(self.empty_cell()),
            Some(bytes) => {
                text::utf8(bytes).and_then(|text| self.text_cell(text, self.form_on_directus()))
            }
        };
        self.cell(read, || text.map(RawText::of_bytes))
    }

    /// Reads what Directus's REST API says of a field.
    pub(crate) fn read_directus_json(&self, json: &Json) -> Cell {
        let form = self.form_on_directus();
        let read = match &self.directus {
            Some(DirectusField::Junction { element, .. }) => {
                self.json_cell(&unfold(json, element), form, CellFormat::Rest)
            }
            _ => self.json_cell(json, form, CellFormat::Rest),
        };
        self.cell(read, || RawText::of_json(json))
    }

    /// Reads the element column of a junction row: a code through the code table, or a link.
    pub(crate) fn read_element_postgres(&self, text: Option<&[u8]>) -> Cell {
        let is_link = matches!(self.kind, FieldKind::Link { .. } | FieldKind::Links { .. });
        let read = |bytes| {
            let text = text::clean(text::utf8(bytes)?)?;
            if is_link {
                return Ok(Cell::Link((!text.is_empty()).then(|| SideKey(text.into()))));
            }
            let code = settle::code(&text, self.form_on_directus().codes)?;
            Ok(Cell::Value(if code.is_empty() { Value::Null } else { Value::Text(code) }))
        };
        let cell = match text {
            None if is_link => Ok(Cell::Link(None)),
            None => Ok(Cell::Value(Value::Null)),
            Some(bytes) => read(bytes),
        };
        self.cell(cell, || text.map(RawText::of_bytes))
    }

    /// Reads what a person types: text as the type has it, a choice by its code or by either side's label, linked
    /// records by their names, with commas between them.
    pub(crate) fn read_typed(&self, text: &str) -> Cell {
        let parts = || list::split(text).map(str::to_owned).collect::<Vec<_>>();
        let read = match &self.kind {
            FieldKind::Links { .. } => {
                Ok(Cell::Links(parts().iter().map(|key| SideKey::from(key.as_str())).collect()))
            }
            FieldKind::MultiSelect => {
                let codes: Result<Vec<String>, Flaw> =
                    parts().iter().map(|label| self.typed_code(label)).collect();
                codes.and_then(|codes| self.elements(codes, None)).map(Cell::Value)
            }
            FieldKind::Csv => self.elements(parts(), None).map(Cell::Value),
            FieldKind::Select if !text.is_empty() => {
                self.typed_code(text).and_then(|code| self.whole_text(&code, None)).map(Cell::Value)
            }
            _ => self.text_cell(text, Form::WHOLE),
        };
        self.cell(read, || None)
    }

    fn typed_code(&self, label: &str) -> Result<String, Flaw> {
        let tables = [self.form_on_airtable().codes, self.form_on_directus().codes];
        let mut tables = tables.into_iter().flatten().peekable();
        if tables.peek().is_none() {
            return Ok(label.to_owned());
        }
        let mut refused = None;
        for codes in tables {
            if codes.values().any(|code| code == label) {
                return Ok(label.to_owned());
            }
            match settle::code(label, Some(codes)) {
                Ok(code) => return Ok(code),
                Err(flaw) => refused = Some(flaw),
            }
        }
        refused.map_or_else(|| Ok(label.to_owned()), Err)
    }

    /// The value in the form that its type and transformations give it.
    #[cfg(test)]
    pub(crate) fn normalise(&self, value: Value) -> Cell {
        self.cell(self.settle(value).map(Cell::Value), || None)
    }

    /// What was read; where it does not fit, with what the cell holds.
    fn cell(&self, read: Result<Cell, Flaw>, raw: impl FnOnce() -> Option<RawText>) -> Cell {
        read.unwrap_or_else(|flaw| Cell::Refused(Refusal { raw: raw(), ..flaw.of(&self.name) }))
    }

    pub(super) fn form_on_airtable(&self) -> Form<'_> {
        match &self.airtable {
            Some(field) => Form { part: field.part, codes: field.codes.as_ref() },
            None => Form::WHOLE,
        }
    }

    pub(super) fn form_on_directus(&self) -> Form<'_> {
        match &self.directus {
            Some(DirectusField::Column { part, codes, .. }) => {
                Form { part: *part, codes: codes.as_ref() }
            }
            Some(DirectusField::Junction { codes, .. }) => {
                Form { part: Part::Whole, codes: codes.as_ref() }
            }
            None => Form::WHOLE,
        }
    }

    fn empty_cell(&self) -> Cell {
        match self.kind {
            FieldKind::Link { .. } => Cell::Link(None),
            FieldKind::Links { .. } => Cell::Links(Vec::new()),
            _ => Cell::Value(self.empty()),
        }
    }

    /// What an empty cell means. Airtable cannot tell an unset checkbox from a cleared one, so where it has
    /// the field, empty is false everywhere.
    pub(super) fn empty(&self) -> Value {
        match self.kind {
            FieldKind::Boolean if self.airtable.is_some() => Value::Bool(false),
            _ => Value::Null,
        }
    }

    // ---- JSON ----------------------------------------------------------------------------------------

    fn json_cell(&self, json: &Json, form: Form<'_>, format: CellFormat) -> Result<Cell, Flaw> {
        match self.kind {
            FieldKind::Link { .. } => {
                let keys = keys(json)?;
                match keys.len() {
                    0 | 1 => Ok(Cell::Link(keys.into_iter().next())),
                    _ => Err(Flaw::wrong_type(
                        "links to several records where one is expected: leave one of them",
                    )),
                }
            }
            FieldKind::Links { .. } => keys(json).map(Cell::Links),
            _ => self.json_value(json, form, format).map(Cell::Value),
        }
    }

    fn json_value(&self, json: &Json, form: Form<'_>, format: CellFormat) -> Result<Value, Flaw> {
        match form.part {
            Part::Whole => self.whole_json(json, form.codes, format),
            Part::OneElement => match json {
                Json::Array(elements) => match list::one(elements)? {
                    Some(element) => self.whole_json(element, form.codes, format),
                    None => Ok(self.empty()),
                },
                one => self.whole_json(one, form.codes, format),
            },
            Part::FirstOfFullName | Part::LastOfFullName | Part::DateDmy | Part::Csv => {
                match text_of(json, format)? {
                    Some(text) => self.part_text(text, form),
                    None => Ok(self.empty()),
                }
            }
        }
    }

    fn whole_json(
        &self,
        json: &Json,
        codes: Option<&Codes>,
        format: CellFormat,
    ) -> Result<Value, Flaw> {
        match &self.kind {
            FieldKind::Computed => match json {
                Json::Object(_) | Json::Array(_) if *json != empty_array() => {
                    json::computed(json, format).map(Value::Json)
                }
                other => self.settle(Value::Json(other.clone())),
            },
            FieldKind::Json => self.settle(Value::Json(json.clone())),
            FieldKind::Boolean => match json {
                Json::Null => Ok(self.empty()),
                Json::Bool(flag) => Ok(Value::Bool(*flag)),
                Json::Number(number) => self.boolean(&number.to_string()),
                Json::String(text) => self.boolean(text),
                _ => Err(self.misfit(json)),
            },
            FieldKind::MultiSelect | FieldKind::Csv => self.elements_of(json, codes, format),
            FieldKind::Collaborator => match json {
                Json::Object(person) => {
                    let known = |key| {
                        person.get(key).and_then(Json::as_str).filter(|text| !text.is_empty())
                    };
                    let name =
                        known("email").or_else(|| known("id")).ok_or_else(|| self.misfit(json))?;
                    self.text(name)
                }
                other => self.text_json(other, codes, format),
            },
            FieldKind::Link { .. } | FieldKind::Links { .. } => Err(self.misfit(json)),
            kind if settle::is_numeric(kind) => match json {
                Json::Null => Ok(Value::Null),
                Json::Number(number) => self.number(number::from_json(number)?),
                Json::String(text) if text.trim().is_empty() => Ok(Value::Null),
                Json::String(text) => self.number(number::from_text(text)?),
                other => Err(self.misfit(other)),
            },
            _ => self.text_json(json, codes, format),
        }
    }

    fn text_json(
        &self,
        json: &Json,
        codes: Option<&Codes>,
        format: CellFormat,
    ) -> Result<Value, Flaw> {
        match text_of(json, format) {
            Ok(Some(text)) => self.whole_text(text, codes),
            Ok(None) => Ok(self.empty()),
            Err(_) => Err(self.misfit(json)),
        }
    }

    fn elements_of(
        &self,
        json: &Json,
        codes: Option<&Codes>,
        format: CellFormat,
    ) -> Result<Value, Flaw> {
        match json {
            Json::Null => Ok(Value::Null),
            Json::Array(elements) => {
                let texts = elements
                    .iter()
                    .map(|element| {
                        text_of(element, format).map(|text| text.unwrap_or_default().to_owned())
                    })
                    .collect::<Result<_, _>>()
                    .map_err(|_| self.misfit(json))?;
                self.elements(texts, codes)
            }
            Json::String(text) => self.elements(list::from_column(text), codes),
            other => Err(self.misfit(other)),
        }
    }

    // ---- text ----------------------------------------------------------------------------------------

    fn text_cell(&self, text: &str, form: Form<'_>) -> Result<Cell, Flaw> {
        match self.kind {
            FieldKind::Link { .. } if text.is_empty() => Ok(Cell::Link(None)),
            FieldKind::Link { .. } => {
                text::clean(text).map(|key| Cell::Link(Some(SideKey(key.into()))))
            }
            FieldKind::Links { .. } => {
                let keys = list::from_column(text).into_iter().map(|key| SideKey(key.into()));
                Ok(Cell::Links(keys.collect()))
            }
            _ if form.part == Part::Whole => self.whole_text(text, form.codes).map(Cell::Value),
            _ => self.part_text(text, form).map(Cell::Value),
        }
    }

    fn part_text(&self, text: &str, form: Form<'_>) -> Result<Value, Flaw> {
        match form.part {
            Part::Whole => self.whole_text(text, form.codes),
            Part::FirstOfFullName => self.text(&name::split(text).0),
            Part::LastOfFullName => self.text(&name::split(text).1),
            Part::DateDmy if text.trim().is_empty() => Ok(Value::Null),
            Part::DateDmy => moment::date_dmy(text).map(Value::Date),
            Part::OneElement => {
                // A JSON array, an array literal, or the one element itself.
                if let Ok(json @ Json::Array(_)) = serde_json::from_str(text) {
                    return self.json_value(&json, form, CellFormat::Rest);
                }
                match list::from_array_literal(text) {
                    Some(elements) => match list::one(&elements)? {
                        Some(element) => self.whole_text(element, form.codes),
                        None => Ok(self.empty()),
                    },
                    None => self.whole_text(text, form.codes),
                }
            }
            Part::Csv => self.elements(list::split(text).map(str::to_owned).collect(), form.codes),
        }
    }

    /// The whole text of a cell. Nearly all cells of a copy come through here.
    pub(super) fn whole_text(&self, text: &str, codes: Option<&Codes>) -> Result<Value, Flaw> {
        match &self.kind {
            _ if text.is_empty() => Ok(self.empty()),
            FieldKind::Text
            | FieldKind::LongText
            | FieldKind::Email
            | FieldKind::Phone { .. }
            | FieldKind::Url
            | FieldKind::Collaborator => self.text(text),
            FieldKind::Select => {
                let code = settle::code(&text::clean(text)?, codes)?;
                Ok(Value::Text(code))
            }
            FieldKind::Boolean => self.boolean(text),
            FieldKind::Date => moment::date(text).map(Value::Date),
            FieldKind::Time => moment::time(text).map(Value::Time),
            FieldKind::DateTime { .. } => self.settle(Value::Timestamp(moment::timestamp(text)?)),
            FieldKind::Uuid => match Uuid::try_parse(text.trim()) {
                Ok(id) => Ok(Value::Uuid(id)),
                Err(_) => Err(Flaw::wrong_type("is not a UUID")),
            },
            FieldKind::MultiSelect => self.elements(list::from_column(text), codes),
            FieldKind::Csv => self.elements(vec![text.to_owned()], codes),
            FieldKind::Json | FieldKind::Computed => {
                self.settle(Value::Json(json::from_text(text)?))
            }
            FieldKind::Link { .. } | FieldKind::Links { .. } => {
                Err(Flaw::wrong_type("is a link, which has no value of its own"))
            }
            _ => self.number(number::from_text(text)?),
        }
    }

    pub(super) fn misfit(&self, json: &Json) -> Flaw {
        let special = |key: &str| json.get(key).is_some();
        if special("error") {
            Flaw::wrong_type(
                "is an error of a formula: correct the formula, or map the field as `computed`",
            )
        } else if special("specialValue") {
            number::not_finite()
        } else {
            Flaw::wrong_type(format!(
                "is not of the type {}: check the type of the field on that side",
                self.kind
            ))
        }
    }
}

impl fmt::Display for FieldKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.name())
    }
}

fn empty_array() -> Json {
    Json::Array(Vec::new())
}

/// The text in a JSON cell; `None` if it is empty. The webhook writes a choice as an object with its name.
fn text_of(json: &Json, format: CellFormat) -> Result<Option<&str>, Flaw> {
    let text = match json {
        Json::Null => return Ok(None),
        Json::String(text) => Some(text.as_str()),
        Json::Object(choice) if format == CellFormat::V2 && choice.contains_key("id") => {
            choice.get("name").and_then(Json::as_str)
        }
        Json::Array(elements) if elements.is_empty() => return Ok(None),
        _ => None,
    };
    match text {
        Some(text) => Ok(Some(text).filter(|text| !text.is_empty())),
        None => Err(Flaw::wrong_type("is not a text: check the type of the field on that side")),
    }
}

/// The side's keys in a link cell: one or a list, bare or as objects with an `id`. Repeats are dropped.
fn keys(json: &Json) -> Result<Vec<SideKey>, Flaw> {
    let one = |json: &Json| {
        let key = match json {
            Json::Object(entries) => entries.get("id").unwrap_or(&Json::Null),
            other => other,
        };
        match key {
            Json::String(key) if !key.is_empty() && !key.contains('\0') => {
                Ok(SideKey(key.as_str().into()))
            }
            Json::Number(key) => Ok(SideKey(key.to_string().into())),
            _ => Err(Flaw::wrong_type(
                "is not a link to a record: check the type of the field on that side",
            )),
        }
    };
    let mut keys = Vec::new();
    match json {
        Json::Null => {}
        Json::String(key) if key.is_empty() => {}
        Json::Array(elements) => {
            for element in elements {
                let key = one(element)?;
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
        }
        other => keys.push(one(other)?),
    }
    Ok(keys)
}

/// Rows of a junction as Directus nests them → their elements.
fn unfold(json: &Json, element: &str) -> Json {
    match json {
        Json::Array(rows) => Json::Array(
            rows.iter()
                .map(|row| row.get(element).unwrap_or(row))
                .filter(|element| !element.is_null())
                .cloned()
                .collect(),
        ),
        other => other.clone(),
    }
}

//! Normalised values → cells as the sides take them.
//!
//! What is written is read back before it leaves: a value that would come back changed is refused here,
//! because the two sides would exchange it for ever.

use serde_json::{Value as Json, json};

use super::{
    CellFormat, Codes, DirectusField, Entity, Field, FieldKind, Part, cell::Form, flaw::Flaw,
    moment, name, number,
};
use crate::model::{Cell, FieldNo, Refusal, RefusalKind, SideKey, Value};

/// What differs between the two APIs.
#[derive(Clone, Copy, PartialEq)]
enum Api {
    Airtable,
    Directus,
}

impl Field {
    /// The cell for Airtable's record endpoints. Of a field that is a part of a cell it is this part only;
    /// [`join_airtable`] makes the cell. A link takes the side's keys: `Text` for one, `Set` or `List` for
    /// several.
    ///
    /// # Errors
    /// If the value would not come back as it is.
    pub(crate) fn write_airtable(&self, value: &Value) -> Result<Json, Refusal> {
        let form = self.form_on_airtable();
        let json = self.write(value, form, Api::Airtable).map_err(|flaw| flaw.of(&self.name))?;
        if matches!(form.part, Part::FirstOfFullName | Part::LastOfFullName) {
            return Ok(json);
        }
        self.check(value, &self.read_airtable(Some(&json), CellFormat::Rest))?;
        Ok(json)
    }

    /// The value for Directus's REST API. Links as in [`Self::write_airtable`], `Uuid` too.
    ///
    /// # Errors
    /// If the value would not come back as it is.
    pub(crate) fn write_directus(&self, value: &Value) -> Result<Json, Refusal> {
        let json = self
            .write(value, self.form_on_directus(), Api::Directus)
            .map_err(|flaw| flaw.of(&self.name))?;
        // Directus takes a text in a JSON field as JSON source, so it is written unlike it is read.
        if self.kind != FieldKind::Json {
            self.check(value, &self.read_directus_json(&json))?;
        }
        Ok(json)
    }

    fn check(&self, sent: &Value, back: &Cell) -> Result<(), Refusal> {
        let same = match back {
            Cell::Value(value) => value == sent,
            Cell::Link(None) => sent.is_null(),
            Cell::Link(Some(SideKey(key))) => match sent {
                Value::Uuid(id) => **key == *id.to_string(),
                sent => *sent == Value::Text(key.to_string()),
            },
            Cell::Links(keys) => {
                let keys = keys.iter().map(|SideKey(key)| key.to_string()).collect();
                Value::set(keys) == Value::set(elements(sent).to_vec())
            }
            Cell::Refused(refusal) => return Err(refusal.clone()),
        };
        if same {
            return Ok(());
        }
        let what = "would come back changed from that side, so it is not written: correct it there by hand";
        Err(Flaw::out_of_range(what).of(&self.name))
    }

    fn write(&self, value: &Value, form: Form<'_>, api: Api) -> Result<Json, Flaw> {
        if self.kind == FieldKind::Computed {
            return Err(Flaw::wrong_type("is computed by Airtable and is never written"));
        }
        match (form.part, value) {
            (_, Value::Null) => Ok(Json::Null),
            (Part::DateDmy, Value::Date(date)) => moment::date_dmy_text(*date).map(Json::String),
            (Part::OneElement, value) => Ok(json!([self.write_whole(value, form.codes, api)?])),
            (Part::Csv, Value::List(elements) | Value::Set(elements)) => {
                let labels = labels(elements, form.codes)?;
                Ok(Json::String(labels.join(if api == Api::Airtable { ", " } else { "," })))
            }
            (_, value) => self.write_whole(value, form.codes, api),
        }
    }

    fn write_whole(&self, value: &Value, codes: Option<&Codes>, api: Api) -> Result<Json, Flaw> {
        Ok(match value {
            Value::Null => Json::Null,
            Value::Bool(flag) => json!(flag),
            Value::Int(number) => match (api, &self.kind) {
                (Api::Airtable, _) => number::to_double_int(*number)?,
                // Above 2^53 Directus rounds a JSON number without a word.
                (Api::Directus, FieldKind::BigInt) => Json::String(number.to_string()),
                (Api::Directus, _) => json!(number),
            },
            Value::Decimal(number) => match api {
                Api::Airtable => number::to_double(number)?,
                Api::Directus => Json::String(number.to_plain_string()),
            },
            Value::Text(text) => match self.kind {
                FieldKind::Select => json!(label(text, codes)?),
                FieldKind::Link { .. } if api == Api::Airtable => json!([text]),
                FieldKind::Collaborator if api == Api::Airtable && text.contains('@') => {
                    json!({ "email": text })
                }
                FieldKind::Collaborator if api == Api::Airtable => json!({ "id": text }),
                _ => json!(text),
            },
            Value::Date(date) => Json::String(moment::date_text(*date)?),
            Value::Time(time) => Json::String(time.to_string()),
            Value::Timestamp(micros) => Json::String(moment::timestamp_text(*micros)?),
            Value::Uuid(_)
                if api == Api::Airtable && matches!(self.kind, FieldKind::Link { .. }) =>
            {
                let what = "links to a record that Airtable does not have yet";
                return Err(Flaw::new(RefusalKind::UnknownTarget, what));
            }
            Value::Uuid(id) => json!(id.to_string()),
            Value::Json(Json::String(text)) if api == Api::Directus => {
                Json::String(Json::from(text.as_str()).to_string())
            }
            Value::Json(json) => json.clone(),
            Value::List(elements) | Value::Set(elements) => json!(labels(elements, codes)?),
        })
    }
}

fn labels(elements: &[String], codes: Option<&Codes>) -> Result<Vec<String>, Flaw> {
    elements.iter().map(|code| label(code, codes).map(str::to_owned)).collect()
}

fn label<'v>(code: &'v str, codes: Option<&'v Codes>) -> Result<&'v str, Flaw> {
    let Some(codes) = codes else { return Ok(code) };
    codes.iter().find(|(_, known)| *known == code).map(|(label, _)| label.as_str()).ok_or_else(
        || {
            let what =
                format!("has the code `{code}`, which its code table does not know: add it there");
            Flaw::new(RefusalKind::UnknownChoice, what)
        },
    )
}

/// The one Airtable cell that several fields are parts of. `values` must have all of them; which they are,
/// [`Entity::fields_of_airtable`] tells. Of a single field it is the same as [`Field::write_airtable`].
///
/// # Errors
/// If the parts cannot be told apart again in the cell, or if one of them is missing.
pub(crate) fn join_airtable(
    entity: &Entity,
    values: &[(FieldNo, &Value)],
) -> Result<Json, Refusal> {
    if let [(no, value)] = values
        && entity.field(*no).form_on_airtable().part != Part::FirstOfFullName
        && entity.field(*no).form_on_airtable().part != Part::LastOfFullName
    {
        return entity.field(*no).write_airtable(value);
    }
    let mut cell_name = entity.name.as_str();
    let part = |part: Part| {
        values.iter().find(|(no, _)| entity.field(*no).form_on_airtable().part == part)
    };
    let (Some((given_no, given)), Some((_, family))) =
        (part(Part::FirstOfFullName), part(Part::LastOfFullName))
    else {
        return Err(
            Flaw::wrong_type("can only be written with both parts of the full name").of(cell_name)
        );
    };
    if let Some(field) = &entity.field(*given_no).airtable {
        cell_name = &field.field;
    }
    let text = |value: &Value| match value {
        Value::Text(text) => text.clone(),
        _ => String::new(),
    };
    if given.is_null() && family.is_null() {
        return Ok(Json::Null);
    }
    name::join(&text(given), &text(family)).map(Json::String).ok_or_else(|| {
        let what = "cannot hold a family name with a comma in it: take the comma out";
        Flaw::wrong_type(what).of(cell_name)
    })
}

impl Entity {
    /// All fields that are in the same Airtable cell as `no`, itself included.
    pub(crate) fn fields_of_airtable(&self, no: FieldNo) -> Vec<FieldNo> {
        let name = |field: &Field| field.airtable.as_ref().map(|airtable| airtable.field.clone());
        let cell = name(self.field(no));
        (0..)
            .map(FieldNo)
            .zip(&self.fields)
            .filter(|(_, field)| cell.is_some() && name(field) == cell)
            .map(|(no, _)| no)
            .collect()
    }
}

fn elements(value: &Value) -> &[String] {
    match value {
        Value::List(elements) | Value::Set(elements) => elements,
        _ => &[],
    }
}

impl DirectusField {
    /// The column of the entity's own table; `None` for a junction.
    pub(crate) fn column(&self) -> Option<&str> {
        match self {
            Self::Column { column, .. } => Some(column),
            Self::Junction { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::join_airtable;
    use crate::{
        mapping::{CellFormat, read},
        model::{Cell, FieldNo, Value},
    };

    #[test]
    fn write_full_name_is_joined_and_splits_into_the_same_two_parts() {
        let mapping = read(include_str!("../../mapping.toml"), "mapping.toml").unwrap();
        let member = &mapping.entities[0];
        let parts = member.fields_of_airtable(FieldNo(0));
        assert_eq!(parts, [FieldNo(0), FieldNo(1)]);
        for (given, family) in
            [("Jeanne", "Martin-Dupont"), ("Anne Marie", "de la Tour"), ("", "Solo")]
        {
            let value = |text: &str| {
                if text.is_empty() { Value::Null } else { Value::Text(text.into()) }
            };
            let (given, family) = (value(given), value(family));
            let cell = join_airtable(member, &[(parts[0], &given), (parts[1], &family)]).unwrap();
            for (part, wanted) in [(parts[0], given), (parts[1], family)] {
                let read = member.field(part).read_airtable(Some(&cell), CellFormat::Rest);
                assert_eq!(read, Cell::Value(wanted), "{cell}");
            }
        }
        let comma = Value::Text("Dupont, Jr".into());
        assert!(join_airtable(member, &[(parts[0], &Value::Null), (parts[1], &comma)]).is_err());
        assert_eq!(
            join_airtable(member, &[(parts[0], &Value::Null), (parts[1], &Value::Null)]).unwrap(),
            json!(null)
        );
    }
}

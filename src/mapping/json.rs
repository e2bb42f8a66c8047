//! JSON values: one form for comparing, and Airtable's computed cells in both of its formats.

use serde_json::{Map, Number, Value as Json};

use super::{CellFormat, flaw::Flaw};

/// Whole doubles up to here are printed as whole numbers by JavaScript.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// The form in which two JSON values that mean the same are equal: `1.0` is `1`, as JavaScript writes it.
/// Refused if it holds a NUL, which Postgres's `jsonb` does not take.
pub(super) fn settle(json: &Json) -> Result<Json, Flaw> {
    Ok(match json {
        Json::Number(number) => Json::Number(settle_number(number)),
        Json::String(text) => Json::String(without_nul(text)?),
        Json::Array(elements) => {
            Json::Array(elements.iter().map(settle).collect::<Result<_, _>>()?)
        }
        Json::Object(entries) => Json::Object(
            entries
                .iter()
                .map(|(key, value)| Ok((without_nul(key)?, settle(value)?)))
                .collect::<Result<Map<_, _>, Flaw>>()?,
        ),
        Json::Null | Json::Bool(_) => json.clone(),
    })
}

fn without_nul(text: &str) -> Result<String, Flaw> {
    if text.contains('\0') {
        Err(Flaw::unstorable("contains a NUL character, which Postgres cannot hold: delete it"))
    } else {
        Ok(text.to_owned())
    }
}

#[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
fn settle_number(number: &Number) -> Number {
    match number.as_f64() {
        Some(double) if number.is_f64() && double.fract() == 0.0 && double.abs() <= WHOLE_MAX => {
            (double as i64).into()
        }
        _ => number.clone(),
    }
}

/// Reads the text of a JSON column.
pub(super) fn from_text(text: &str) -> Result<Json, Flaw> {
    let json = serde_json::from_str(text).map_err(|error| {
        if error.to_string().starts_with("number out of range") {
            Flaw::out_of_range("holds a number beyond the range of JSON")
        } else {
            Flaw::wrong_type("is not valid JSON, or is nested deeper than 127 levels")
        }
    })?;
    settle(&json)
}

/// A computed cell in one form, whichever format it came in, without what changes at each reading: the
/// signed addresses of attachments, and what only the webhook tells of a person.
pub(super) fn computed(json: &Json, format: CellFormat) -> Result<Json, Flaw> {
    settle(&steady(json, format))
}

fn steady(json: &Json, format: CellFormat) -> Json {
    match json {
        Json::Array(elements) => {
            Json::Array(elements.iter().map(|element| steady(element, format)).collect())
        }
        Json::Object(entries) => {
            if format == CellFormat::V2 {
                if let Some(flat) = lookup(entries) {
                    return flat;
                }
                if let Some(rest) = rest_of_v2(entries) {
                    return rest;
                }
            }
            let is_attachment = has_id(entries, "att");
            let is_person = has_id(entries, "usr") || has_id(entries, "ugp");
            let passes = |key: &str| match key {
                "url" | "thumbnails" => !is_attachment,
                "permissionLevel" | "profilePicUrl" => !is_person,
                _ => true,
            };
            let kept = entries.iter().filter(|(key, _)| passes(key));
            Json::Object(kept.map(|(key, value)| (key.clone(), value.clone())).collect())
        }
        other => other.clone(),
    }
}

/// `{"linkedRecordIds": […], "valuesByLinkedRecordId": {…}}` → the flat array of the REST format.
fn lookup(entries: &Map<String, Json>) -> Option<Json> {
    let ids = entries.get("linkedRecordIds")?.as_array()?;
    let values = entries.get("valuesByLinkedRecordId")?.as_object()?;
    let mut flat = Vec::new();
    for value in ids.iter().filter_map(|id| values.get(id.as_str()?)) {
        match value {
            Json::Array(elements) => {
                flat.extend(elements.iter().map(|element| steady(element, CellFormat::V2)));
            }
            Json::Null => {}
            one => flat.push(steady(one, CellFormat::V2)),
        }
    }
    Some(Json::Array(flat))
}

/// A choice is its name, a link its id.
fn rest_of_v2(entries: &Map<String, Json>) -> Option<Json> {
    if has_id(entries, "sel") {
        entries.get("name").filter(|name| name.is_string()).cloned()
    } else if has_id(entries, "rec") {
        entries.get("id").cloned()
    } else {
        None
    }
}

fn has_id(entries: &Map<String, Json>, prefix: &str) -> bool {
    entries.get("id").and_then(Json::as_str).is_some_and(|id| id.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{computed, from_text, settle};
    use crate::mapping::CellFormat::{Rest, V2};

    #[test]
    fn json_numbers_have_the_form_that_javascript_gives_them() {
        assert_eq!(
            from_text(r#"{"b":1.0,"a":[1.50,-0.0]}"#).unwrap(),
            json!({ "a": [1.5, 0], "b": 1 })
        );
        assert!(from_text("1e400").is_err());
        assert!(from_text("{").is_err());
        assert!(settle(&json!({ "a\0": 1 })).is_err());
    }

    #[test]
    fn json_lookup_of_a_payload_is_the_array_of_the_listing() {
        let payload = json!({
            "linkedRecordIds": ["recB", "recA"],
            "valuesByLinkedRecordId": {
                "recA": [{ "id": "selX", "name": "Santé", "color": "blueLight2" }],
                "recB": [{ "id": "recZ", "name": "primary" }, 2],
            },
        });
        assert_eq!(computed(&payload, V2).unwrap(), json!(["recZ", 2, "Santé"]));
    }

    #[test]
    fn json_attachments_lose_what_changes_at_each_reading() {
        let cell = |url: &str| json!([{ "id": "attA", "url": url, "thumbnails": {}, "filename": "f.pdf" }]);
        assert_eq!(computed(&cell("https://a"), Rest), computed(&cell("https://b"), Rest));
    }
}

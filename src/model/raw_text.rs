//! What a side's cell holds where that is no value of its field.

use std::fmt;

use serde_json::Value as Json;

use super::Cell;

/// Longer texts are cut: Airtable's longest are a tenth of it.
const BYTES_MAX: usize = 1024 * 1024;

/// The content of a cell that does not fit, as people read it on its side. It is somebody's, so [`fmt::Debug`], which
/// logs and failures print, leaves it out.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RawText(Box<str>);

impl RawText {
    /// What Postgres cannot store of it is replaced.
    pub(crate) fn of_text(text: &str) -> Self {
        let end = text.floor_char_boundary(BYTES_MAX);
        let (kept, rest) = text.split_at(end);
        let cut = if rest.is_empty() { "" } else { "…" };
        Self(format!("{kept}{cut}").replace('\0', "\u{fffd}").into())
    }

    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        Self::of_text(&String::from_utf8_lossy(bytes))
    }

    /// `None`: the cell is empty.
    pub(crate) fn of_json(json: &Json) -> Option<Self> {
        let text = readable(json)?;
        Some(Self::of_text(&text))
    }

    /// Of a cell that could be read, and that the canonical database refuses. `None`: it is empty.
    pub(crate) fn of_cell(cell: &Cell) -> Option<Self> {
        match cell {
            Cell::Value(value) => Self::of_json(&value.to_json()),
            Cell::Link(key) => key.as_ref().map(|key| Self::of_text(&key.0)),
            Cell::Links(keys) if keys.is_empty() => None,
            Cell::Links(keys) => {
                let keys: Vec<&str> = keys.iter().map(|key| &*key.0).collect();
                Some(Self::of_text(&keys.join(", ")))
            }
            Cell::Refused(refusal) => refusal.raw.clone(),
        }
    }

    /// A JSON string.
    pub(crate) fn to_json(&self) -> Json {
        Json::String(self.0.as_ref().to_owned())
    }
}

impl fmt::Debug for RawText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawText({} bytes)", self.0.len())
    }
}

/// A text is itself, a choice or a person its name, a list its elements; anything else is its JSON.
fn readable(json: &Json) -> Option<String> {
    match json {
        Json::Null => None,
        Json::String(text) => Some(text.clone()),
        Json::Object(entries) => {
            let name = entries.get("name").and_then(Json::as_str);
            Some(name.map_or_else(|| json.to_string(), str::to_owned))
        }
        Json::Array(elements) => {
            let elements: Vec<String> = elements.iter().filter_map(readable).collect();
            Some(elements.join(", "))
        }
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn raw_is_what_people_read_and_can_be_stored() {
        let text = |json: Json| RawText::of_json(&json).map(|raw| raw.to_json());
        assert_eq!(text(json!("31/02/2024")), Some(json!("31/02/2024")));
        assert_eq!(text(json!({ "id": "selA", "name": "Énergie" })), Some(json!("Énergie")));
        assert_eq!(text(json!([{ "id": "selA", "name": "A" }, "B"])), Some(json!("A, B")));
        assert_eq!(text(json!(12.5)), Some(json!("12.5")));
        assert_eq!(text(json!({ "error": "#ERROR!" })), Some(json!("{\"error\":\"#ERROR!\"}")));
        assert_eq!(text(Json::Null), None);
        assert_eq!(RawText::of_bytes(b"a\0b\xff").to_json(), json!("a\u{fffd}b\u{fffd}"));
        let long = RawText::of_text(&"é".repeat(BYTES_MAX));
        assert_eq!(long.0.len(), BYTES_MAX + "…".len());
    }

    #[test]
    fn raw_is_not_printed_by_debug() {
        assert_eq!(format!("{:?}", RawText::of_text("06 secret")), "RawText(9 bytes)");
    }
}

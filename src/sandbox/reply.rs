//! Answers: the error bodies byte for byte, and JSON with the key order of the wire.

use serde_json::Value;

use super::ids::Rng;

/// An answer to a call: status, content type and body.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
}

/// A call that was refused: the reply that says so.
pub(super) type Answer<T> = Result<T, Box<Reply>>;

pub(super) const JSON: &str = "application/json; charset=utf-8";

impl Reply {
    pub(super) fn new(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, content_type, headers: Vec::new(), body: body.into() }
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// `{"error":{"type":…,"message":…}}`, the usual envelope.
pub(super) fn error(status: u16, kind: &str, message: &str) -> Box<Reply> {
    let body = format!(r#"{{"error":{{"type":{},"message":{}}}}}"#, quoted(kind), quoted(message));
    Box::new(Reply::new(status, JSON, body))
}

/// `{"error":{"type":…}}`, for the few kinds without a message.
pub(super) fn error_without_message(status: u16, kind: &str) -> Box<Reply> {
    Box::new(Reply::new(status, JSON, format!(r#"{{"error":{{"type":{}}}}}"#, quoted(kind))))
}

/// `{"error":"NOT_FOUND"}`: a route or an id that has no such shape.
pub(super) fn not_found() -> Box<Reply> {
    Box::new(Reply::new(404, JSON, r#"{"error":"NOT_FOUND"}"#))
}

pub(super) fn unauthenticated() -> Box<Reply> {
    error(401, "AUTHENTICATION_REQUIRED", "Authentication required")
}

pub(super) fn forbidden_or_unknown() -> Box<Reply> {
    error(
        403,
        "INVALID_PERMISSIONS_OR_MODEL_NOT_FOUND",
        "Invalid permissions, or the requested model was not found. Check that both your user and your token have \
         the required permissions, and that the model names and/or ids are correct.",
    )
}

pub(super) fn not_permitted() -> Box<Reply> {
    error(403, "INVALID_PERMISSIONS", "You are not permitted to perform this operation")
}

pub(super) fn invalid_request() -> Box<Reply> {
    error(
        422,
        "INVALID_REQUEST_UNKNOWN",
        "Invalid request: parameter validation failed. Check your request data.",
    )
}

pub(super) fn unknown_field(name: &str) -> Box<Reply> {
    error(422, "UNKNOWN_FIELD_NAME", &format!("Unknown field name: \"{name}\""))
}

pub(super) fn record_not_found() -> Box<Reply> {
    error(404, "MODEL_ID_NOT_FOUND", "Record not found")
}

pub(super) fn row_does_not_exist(id: &str) -> Box<Reply> {
    error(422, "ROW_DOES_NOT_EXIST", &format!("Record ID {id} does not exist in this table"))
}

pub(super) fn computed_field(name: &str) -> Box<Reply> {
    let text = format!("Field \"{name}\" cannot accept a value because the field is computed");
    error(422, "INVALID_VALUE_FOR_COLUMN", &text)
}

pub(super) fn value_refused(name: &str) -> Box<Reply> {
    let text = format!("Field \"{name}\" cannot accept the provided value");
    error(422, "INVALID_VALUE_FOR_COLUMN", &text)
}

/// Keys that come first in an object, in this order; all others are shuffled.
const LEADING_KEYS: [&str; 10] = [
    "id",
    "createdTime",
    "commentCount",
    "timestamp",
    "baseTransactionNumber",
    "bases",
    "tables",
    "records",
    "payloads",
    "webhooks",
];

/// A success: 200, keys of objects in an order that nobody can rely on.
pub(super) fn ok(value: &Value, rng: &mut Rng, is_shuffled: bool) -> Reply {
    let mut body = String::new();
    render(value, rng, is_shuffled, &mut body);
    Reply::new(200, JSON, body)
}

fn render(value: &Value, rng: &mut Rng, is_shuffled: bool, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                render(item, rng, is_shuffled, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            let mut pairs: Vec<(&String, &Value)> = map.iter().collect();
            if is_shuffled {
                rng.shuffle(&mut pairs);
            }
            pairs.sort_by_key(|(key, _)| {
                LEADING_KEYS.iter().position(|leading| leading == key).unwrap_or(LEADING_KEYS.len())
            });
            out.push('{');
            for (index, (key, item)) in pairs.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&quoted(key));
                out.push(':');
                render(item, rng, is_shuffled, out);
            }
            out.push('}');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

//! The page at `/`, where a person edits a grid, and the files of attachments.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::api::Call;
use super::model::State;
use super::reply::{Answer, Reply, error, not_found};
use super::server::Shared;

const PAGE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("page.js");
const STYLE: &str = include_str!("page.css");

pub(super) fn answer(call: &Call, languages: Option<&str>) -> Reply {
    // The first segment is not in the call: the page's files are told apart by their query.
    let is = |name: &str| call.query.iter().any(|(key, _)| key == name);
    if call.method != "GET" {
        return *not_found();
    }
    if is("script") {
        return Reply::new(200, "text/javascript; charset=utf-8", SCRIPT);
    }
    if is("style") {
        return Reply::new(200, "text/css; charset=utf-8", STYLE);
    }
    let is_english = languages.is_some_and(|languages| languages.to_lowercase().starts_with("en"));
    Reply::new(
        200,
        "text/html; charset=utf-8",
        PAGE.replace("LANG", if is_english { "en" } else { "fr" }),
    )
}

/// A table as the page needs it: fields with choices, records in order of creation.
pub(super) fn grid(state: &State, base: &str, table: &str, now_ms: i64) -> Answer<Value> {
    let look = state.look(base, now_ms)?;
    let table = look.base.table(table).ok_or_else(super::reply::forbidden_or_unknown)?;
    let mut records: Vec<_> = table.records.values().collect();
    records.sort_by_key(|record| record.number);
    let rows: Vec<Value> = records
        .into_iter()
        .map(|record| {
            let texts: serde_json::Map<String, Value> = table
                .fields
                .iter()
                .filter(|field| field.is_link())
                .filter_map(|field| Some((field.id.clone(), json!(look.text(field, record.cells.get(&field.id)?)))))
                .collect();
            json!({ "id": record.id, "fields": look.rest_fields(table, record, None, true), "texts": texts })
        })
        .collect();
    let fields: Vec<Value> = table
        .fields
        .iter()
        .map(|field| {
            let mut shown = field.to_meta();
            shown["editable"] = json!(field.is_writable());
            shown
        })
        .collect();
    Ok(json!({ "fields": fields, "records": rows, "version": state.version }))
}

/// The bytes of an attachment, until its URL expires.
pub(super) fn attachment(shared: &Shared, call: &Call) -> Reply {
    let state = shared.lock();
    let part = |index: usize| call.segments.get(index).map(String::as_str).unwrap_or_default();
    let expires_ms: i64 = part(4).parse().unwrap_or(0);
    if shared.clock.now_ms() >= expires_ms {
        return *error(
            state.config.expired_attachment_status,
            "ATTACHMENT_URL_EXPIRED",
            "This URL has expired",
        );
    }
    let bytes = state.world.files.get(part(5)).and_then(|file| STANDARD.decode(file).ok());
    Reply::new(
        200,
        "application/octet-stream",
        bytes.unwrap_or_else(|| b"made up by the sandbox".to_vec()),
    )
}

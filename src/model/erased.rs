//! What stands in the past for a value that was erased with a person's data.

use serde_json::Value as Json;

/// In the journal and wherever else values of the past are kept. It is never a value again.
pub(crate) const ERASED: &str = "[erased]";

/// Whether this is what stands for a value that was erased.
pub(crate) fn is_erased(json: &Json) -> bool {
    json.as_str() == Some(ERASED)
}

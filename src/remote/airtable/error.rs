//! Why a call to Airtable failed, and how its many error bodies are read.

use std::{borrow::Cow, time::Duration};

use reqwest::StatusCode;
use serde_json::Value;

use crate::postgres::without_quoted;

/// After a refusal for the rate, Airtable refuses everything for this long.
pub(crate) const PENALTY: Duration = Duration::from_secs(30);
/// Characters of an undecodable body that are kept for the message.
const RAW_LENGTH_MAX: usize = 200;

/// Why a call to Airtable failed. `call` is the method and the path: ids only.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("airtable asked for a pause of {} s ({call})", pause.as_secs())]
    RateLimited { call: String, pause: Duration },
    /// The workspace's calls for this month are used up.
    #[error(
        "the airtable workspace has used up its API calls of this month ({call}); raise the plan, or wait \
         for the first of next month"
    )]
    QuotaSpent { call: String },
    #[error(
        "airtable does not accept the token ({call}); make a new one at airtable.com/create/tokens"
    )]
    Unauthorized { call: String },
    #[error("airtable refuses the token this call: {} ({call})", discreet(kind, message))]
    Forbidden { call: String, kind: String, message: String },
    #[error("airtable does not know what was asked for: {kind} ({call})")]
    NotFound { call: String, kind: String },
    /// The listing has to begin again.
    #[error("airtable lost the place in the listing ({call})")]
    IteratorLost { call: String },
    #[error("airtable refused the request: {kind}: {} ({call})", discreet(kind, message))]
    Refused { call: String, status: u16, kind: String, message: String },
    #[error("airtable failed with status {status} ({call})")]
    Server { call: String, status: u16, pause: Option<Duration> },
    #[error("airtable did not answer within {} s ({call})", after.as_secs())]
    TimedOut { call: String, after: Duration },
    #[error("could not reach airtable ({call})")]
    Unreachable { call: String, source: reqwest::Error },
    /// An answer of more bytes than are held in memory.
    #[error("airtable's answer is longer than {limit_bytes} bytes ({call})")]
    TooLarge { call: String, limit_bytes: usize },
    /// Nothing was sent.
    #[error("this plait cannot prove that it is the one that writes ({call})")]
    Shut { call: String },
    /// A body that is cut off, not JSON, or not what the call gives.
    #[error("airtable's answer cannot be read: {problem} ({call})")]
    Malformed { call: String, problem: String },
}

impl Error {
    /// How long to wait before the same call is worth another try; `None`: waiting does not cure it.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { pause, .. } => Some(*pause),
            // Until the month is over, or a person has raised the plan.
            Self::QuotaSpent { .. } => Some(Duration::from_hours(1)),
            Self::Server { pause, .. } => Some(pause.unwrap_or(Duration::from_secs(1))),
            Self::TimedOut { .. }
            | Self::Unreachable { .. }
            | Self::Malformed { .. }
            | Self::Shut { .. }
            | Self::IteratorLost { .. } => Some(Duration::from_secs(1)),
            Self::Unauthorized { .. }
            | Self::Forbidden { .. }
            | Self::NotFound { .. }
            | Self::TooLarge { .. }
            | Self::Refused { .. } => None,
        }
    }

    /// The text with its causes, on one line: of a server that cannot be reached only they say why.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(source) = cause {
            text = format!("{text}: {source}");
            cause = source.source();
        }
        text
    }

    /// Whether a read may be sent again at once, after a short back-off.
    pub(super) fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::RateLimited { .. }
                | Self::Server { .. }
                | Self::TimedOut { .. }
                | Self::Unreachable { .. }
                | Self::Malformed { .. }
        )
    }

    /// Whether the server says that it did not apply the write.
    pub(super) fn is_unapplied(&self) -> bool {
        match self {
            Self::RateLimited { .. } => true,
            Self::Server { status, .. } => matches!(status, 502 | 503),
            Self::Unreachable { source, .. } => source.is_connect(),
            _ => false,
        }
    }

    /// The server's word for what is wrong (`UNKNOWN_FIELD_NAME`), if it gave one.
    pub(crate) fn kind(&self) -> Option<&str> {
        match self {
            Self::Forbidden { kind, .. }
            | Self::NotFound { kind, .. }
            | Self::Refused { kind, .. } => Some(kind),
            _ => None,
        }
    }

    /// Classifies an answer that is not 200.
    pub(super) fn from_answer(
        call: String,
        status: StatusCode,
        retry_after: Option<Duration>,
        body: &[u8],
    ) -> Self {
        let Said { kind, message } = Said::read(body);
        match status.as_u16() {
            401 => Self::Unauthorized { call },
            403 => Self::Forbidden { call, kind, message },
            404 => Self::NotFound { call, kind },
            429 if kind.contains("BILLING_LIMIT") => Self::QuotaSpent { call },
            429 => Self::RateLimited { call, pause: PENALTY.max(retry_after.unwrap_or_default()) },
            422 if kind == "LIST_RECORDS_ITERATOR_NOT_AVAILABLE"
                || kind == "INVALID_OFFSET_VALUE" =>
            {
                Self::IteratorLost { call }
            }
            status @ (408 | 500..=599) => Self::Server { call, status, pause: retry_after },
            status => Self::Refused { call, status, kind, message },
        }
    }
}

/// The message for logs and people. Airtable quotes in it the value that it refuses; of an unknown field it quotes the name.
fn discreet<'m>(kind: &str, message: &'m str) -> Cow<'m, str> {
    if kind == "UNKNOWN_FIELD_NAME" || !message.contains('"') {
        Cow::Borrowed(message)
    } else {
        Cow::Owned(without_quoted(message))
    }
}

/// What an error body says.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    kind: String,
    message: String,
}

impl Said {
    /// Reads any of the shapes in use: an object, a string, a list, OAuth's, else the raw text.
    fn read(body: &[u8]) -> Self {
        let said = serde_json::from_slice::<Value>(body).ok().and_then(|body| {
            if let Some(error) = body.get("errors").and_then(|errors| errors.get(0)) {
                return Self::of_object(error);
            }
            match body.get("error")? {
                Value::String(kind) => Some(Self {
                    kind: kind.clone(),
                    message: text(&body, "error_description")
                        .or_else(|| text(&body, "message"))
                        .unwrap_or_default(),
                }),
                error => Self::of_object(error),
            }
        });
        said.unwrap_or_else(|| Self {
            kind: String::from("UNREADABLE_ERROR"),
            message: String::from_utf8_lossy(body)
                .chars()
                .filter(|letter| !letter.is_control())
                .take(RAW_LENGTH_MAX)
                .collect(),
        })
    }

    fn of_object(error: &Value) -> Option<Self> {
        let kind = text(error, "type").or_else(|| text(error, "error"))?;
        Some(Self { kind, message: text(error, "message").unwrap_or_default() })
    }
}

fn text(object: &Value, key: &str) -> Option<String> {
    object.get(key)?.as_str().map(String::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(body: &str) -> (String, String) {
        let Said { kind, message } = Said::read(body.as_bytes());
        (kind, message)
    }

    #[test]
    fn error_bodies_of_every_shape_are_read() {
        let pair = |kind: &str, message: &str| (kind.to_owned(), message.to_owned());
        for (body, expected) in [
            (
                r#"{"error":{"type":"INVALID_PERMISSIONS","message":"You are not permitted"}}"#,
                pair("INVALID_PERMISSIONS", "You are not permitted"),
            ),
            (
                r#"{"error":{"type":"LIST_RECORDS_ITERATOR_NOT_AVAILABLE"}}"#,
                pair("LIST_RECORDS_ITERATOR_NOT_AVAILABLE", ""),
            ),
            (r#"{"error":"NOT_FOUND"}"#, pair("NOT_FOUND", "")),
            (
                r#"{"errors":[{"error":"RATE_LIMIT_REACHED","message":"Rate limit exceeded."}]}"#,
                pair("RATE_LIMIT_REACHED", "Rate limit exceeded."),
            ),
            (
                r#"{"error":"invalid_grant","error_description":"expired"}"#,
                pair("invalid_grant", "expired"),
            ),
            ("<html>\n502</html>", pair("UNREADABLE_ERROR", "<html>502</html>")),
            (r#"{"error":7}"#, pair("UNREADABLE_ERROR", r#"{"error":7}"#)),
            ("", pair("UNREADABLE_ERROR", "")),
        ] {
            assert_eq!(said(body), expected, "{body}");
        }
        assert_eq!(said(&"é".repeat(1000)).1.chars().count(), RAW_LENGTH_MAX);
    }

    #[test]
    fn error_text_quotes_no_value() {
        let said = |kind: &str, message: &str| {
            let body = serde_json::json!({ "error": { "type": kind, "message": message } });
            classified(422, &body.to_string()).to_string()
        };
        let option = "Insufficient permissions to create new select option \"\"s3cret\"\"";
        let text = said("INVALID_MULTIPLE_CHOICE_OPTIONS", option);
        assert!(text.contains("create new select option") && !text.contains("s3cret"), "{text}");
        let text = said("UNKNOWN_FIELD_NAME", "Unknown field name: \"Vile\"");
        assert!(text.contains("\"Vile\""), "{text}");
    }

    fn classified(status: u16, body: &str) -> Error {
        let status = StatusCode::from_u16(status).unwrap();
        Error::from_answer("GET /x".into(), status, None, body.as_bytes())
    }

    #[test]
    fn error_classes_say_whether_waiting_cures() {
        let billing = r#"{"errors":[{"error":"PUBLIC_API_BILLING_LIMIT_EXCEEDED","message":"…"}]}"#;
        assert!(matches!(classified(429, billing), Error::QuotaSpent { .. }));
        assert!(!classified(429, billing).is_passing());
        let rate = r#"{"error":{"type":"RATE_LIMIT_REACHED"}}"#;
        assert_eq!(classified(429, rate).retry_after(), Some(PENALTY));
        assert_eq!(classified(429, "").retry_after(), Some(PENALTY));
        let lost = r#"{"error":{"type":"INVALID_OFFSET_VALUE","message":"…"}}"#;
        assert!(matches!(classified(422, lost), Error::IteratorLost { .. }));
        assert!(matches!(classified(401, ""), Error::Unauthorized { .. }));
        assert_eq!(classified(403, "").retry_after(), None);
        assert_eq!(classified(404, r#"{"error":"NOT_FOUND"}"#).kind(), Some("NOT_FOUND"));
        assert!(classified(503, "").is_unapplied());
        assert!(!classified(500, "").is_unapplied());
        assert!(classified(500, "").is_passing());
        assert_eq!(classified(413, "").retry_after(), None);
    }
}

//! Why a call to Directus failed, and how its error bodies are read. What they say of values stays behind: the
//! messages quote them.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;

/// A name of a collection or field is no longer than this.
const NAME_LENGTH_MAX: usize = 64;
/// Where the server asks for a pause and does not say how long.
const PAUSE: Duration = Duration::from_secs(1);

/// Why a call to Directus failed. `call` is the method and the path: names and ids only.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The request never left.
    #[error("could not reach directus ({call})")]
    Unreachable { call: String, source: reqwest::Error },
    #[error("directus did not answer within {} s ({call})", after.as_secs())]
    TimedOut { call: String, after: Duration },
    /// The connection ended while the answer was awaited.
    #[error("directus ended the connection without an answer ({call})")]
    Cut { call: String, source: reqwest::Error },
    #[error("directus asked for a pause of {} s ({call})", pause.as_secs())]
    Busy { call: String, pause: Duration },
    #[error("directus does not accept the token ({call}); run `plait setup directus`")]
    Unauthorized { call: String },
    /// Directus's own refusal; there is at least one fault.
    #[error("directus refused the request: {} ({call})", codes(faults))]
    Rejected { call: String, status: u16, faults: Vec<Fault> },
    /// Somebody before Directus, or Directus in a state of its own: what became of the request is unknown.
    #[error("directus failed with status {status} ({call})")]
    Server { call: String, status: u16 },
    /// Nothing was sent.
    #[error("this plait cannot prove that it is the one that writes ({call})")]
    Shut { call: String },
    /// An answer that is not one of Directus.
    #[error("the answer is not one of directus: {problem} ({call})")]
    NotDirectus { call: String, problem: String },
    /// A body that is too long, cut off, or not what the call gives.
    #[error("directus's answer cannot be read: {problem} ({call})")]
    Malformed { call: String, problem: String },
}

/// One of the reasons that Directus gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fault {
    /// `RECORD_NOT_UNIQUE`
    pub(crate) code: String,
    /// Names that it blames; not always of the request.
    pub(crate) fields: Vec<String>,
    /// Of `FAILED_VALIDATION`: the rule (`required`, `nnull`, `email`).
    pub(crate) rule: Option<String>,
}

impl Error {
    /// The text with its causes, on one line.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(source) = cause {
            text = format!("{text}: {source}");
            cause = source.source();
        }
        text
    }

    /// The first fault of a refusal.
    pub(crate) fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Rejected { faults, .. } => faults.first(),
            _ => None,
        }
    }

    /// Whether Directus failed by itself. What it was sent may have been done.
    pub(crate) fn is_servers(&self) -> bool {
        matches!(self, Self::Rejected { status: 500.., .. })
    }

    /// Whether Directus refused for this reason.
    pub(crate) fn is(&self, code: &str) -> bool {
        self.fault().is_some_and(|fault| fault.code == code)
    }

    /// Classifies an answer that is neither 200 nor 204.
    pub(super) fn from_answer(
        call: String,
        status: StatusCode,
        pause: Option<Duration>,
        body: &[u8],
    ) -> Self {
        let faults = faults(body);
        let code = faults.first().map_or("", |fault| fault.code.as_str());
        match (status.as_u16(), code) {
            (429, _) | (503, "SERVICE_UNAVAILABLE") => {
                Self::Busy { call, pause: pause.unwrap_or(PAUSE) }
            }
            (401, _) | (_, "INVALID_TOKEN" | "TOKEN_EXPIRED") => Self::Unauthorized { call },
            // Often somebody's before Directus.
            (413, "") => {
                let fault = Fault { code: String::from("CONTENT_TOO_LARGE"), ..Fault::default() };
                Self::Rejected { call, status: 413, faults: vec![fault] }
            }
            (status @ 500.., "") => Self::Server { call, status },
            (status, "") => {
                let problem = format!("status {status}{}", looks(body));
                Self::NotDirectus { call, problem }
            }
            (status, _) => Self::Rejected { call, status, faults },
        }
    }
}

fn codes(faults: &[Fault]) -> String {
    let said = faults.iter().map(|fault| match fault.fields.as_slice() {
        [] => fault.code.clone(),
        fields => format!("{} of {}", fault.code, fields.join(", ")),
    });
    said.collect::<Vec<_>>().join("; ")
}

/// What a body is that is plainly no JSON.
pub(super) fn looks(body: &[u8]) -> &'static str {
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => " and nothing in it",
        Some(b'<') => {
            " and HTML: does api_url lead to Directus, and does no proxy ask for a log-in?"
        }
        Some(_) => "",
    }
}

fn faults(body: &[u8]) -> Vec<Fault> {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let errors = body.get("errors").and_then(Value::as_array);
    errors.into_iter().flatten().filter_map(fault).collect()
}

fn fault(error: &Value) -> Option<Fault> {
    let extensions = error.get("extensions")?;
    let code = word(extensions.get("code")?)?;
    let mut fields: Vec<String> = extensions.get("field").and_then(word).into_iter().collect();
    if fields.is_empty() && code == "FORBIDDEN" {
        fields = error.get("message").and_then(Value::as_str).map(named).unwrap_or_default();
    }
    Some(Fault { code, fields, rule: extensions.get("type").and_then(word) })
}

/// A text that can be a name, and hardly a value.
fn word(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    is_name(text).then(|| text.to_owned())
}

fn is_name(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=NAME_LENGTH_MAX).contains(&text.len()) && text.bytes().all(is_letter)
}

/// The fields in `… to access fields "a", "b" in collection "c" …`.
fn named(message: &str) -> Vec<String> {
    let Some((_, rest)) = message.split_once("access field") else { return Vec::new() };
    let list = rest.split(" in collection ").next().unwrap_or_default();
    let quoted = list.split('"').skip(1).step_by(2);
    quoted.filter(|name| is_name(name)).map(String::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classified(status: u16, body: &str) -> Error {
        let status = StatusCode::from_u16(status).unwrap();
        Error::from_answer("PATCH /items/x".into(), status, None, body.as_bytes())
    }

    #[test]
    fn error_of_directus_is_read_without_its_values() {
        let error = classified(
            400,
            r#"{"errors":[{"message":"Value \"s3cret\" for field \"code\" in collection \"w\" has to be unique.",
                "extensions":{"collection":"w","field":"code","value":"s3cret","code":"RECORD_NOT_UNIQUE"}}]}"#,
        );
        assert!(error.is("RECORD_NOT_UNIQUE"));
        assert_eq!(error.fault().unwrap().fields, ["code"]);
        assert!(!format!("{error:?} {error}").contains("s3cret"));
        let required = classified(
            400,
            r#"{"errors":[{"message":"Value is required","extensions":{"field":"a","path":[],"type":"required","code":"FAILED_VALIDATION"}},
                {"message":"…","extensions":{"field":"b","type":"nnull","code":"FAILED_VALIDATION"}}]}"#,
        );
        let Error::Rejected { faults, .. } = &required else { panic!("{required}") };
        assert_eq!(faults[1].rule.as_deref(), Some("nnull"));
        assert_eq!(
            required.to_string(),
            "directus refused the request: FAILED_VALIDATION of a; FAILED_VALIDATION of b (PATCH /items/x)"
        );
        let forbidden = classified(
            403,
            r#"{"errors":[{"message":"You don't have permission to access fields \"role\", \"token\" in collection \"directus_users\" or they do not exist. Queried in root.","extensions":{"code":"FORBIDDEN","reason":"…"}}]}"#,
        );
        assert_eq!(forbidden.fault().unwrap().fields, ["role", "token"]);
    }

    #[test]
    fn error_classes_say_what_became_of_the_request() {
        let code = |code: &str| {
            format!(r#"{{"errors":[{{"message":"m","extensions":{{"code":"{code}"}}}}]}}"#)
        };
        assert!(matches!(classified(429, ""), Error::Busy { .. }));
        assert!(matches!(classified(503, &code("SERVICE_UNAVAILABLE")), Error::Busy { .. }));
        assert!(matches!(classified(503, "<html>"), Error::Server { .. }));
        assert!(matches!(classified(502, ""), Error::Server { .. }));
        assert!(classified(500, &code("INTERNAL_SERVER_ERROR")).is("INTERNAL_SERVER_ERROR"));
        assert!(matches!(
            classified(401, &code("INVALID_CREDENTIALS")),
            Error::Unauthorized { .. }
        ));
        assert!(matches!(classified(403, &code("INVALID_TOKEN")), Error::Unauthorized { .. }));
        assert!(classified(413, "<html>").is("CONTENT_TOO_LARGE"));
        let html = classified(403, "<html>log in</html>");
        assert!(html.to_string().contains("proxy"), "{html}");
    }
}

//! What the doctor found.

/// One line of `plait check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) level: Level,
    /// What was looked at and what was found, one sentence.
    pub(crate) what: String,
    /// What to do about it, one sentence; `None` where all is well.
    pub(crate) remedy: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Ok,
    /// `run` works, but something should be seen to.
    Warning,
    /// `run` would not work.
    Error,
}

impl Finding {
    pub(crate) fn ok(what: impl Into<String>) -> Self {
        Self { level: Level::Ok, what: what.into(), remedy: None }
    }

    pub(crate) fn warning(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Warning, what: what.into(), remedy: Some(remedy.into()) }
    }

    pub(crate) fn error(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Error, what: what.into(), remedy: Some(remedy.into()) }
    }
}

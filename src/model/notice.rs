//! What a task tells a person: troubles that it found, and that there are none any more.
//!
//! One rule says how long an incident is open. Whoever can look at something again looks, and says all that is wrong
//! with it now ([`Notice::looked`]): what was open of that subject, and is not among it, is over. What happened once, and
//! what nobody looks at again, is over a day after it was last seen.

/// Something a person should know of, or see to. The line goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Incident {
    /// One word for machines: what kind of thing happened. Of a log, one incident of a code is open at a time.
    pub(crate) code: String,
    /// What happened, where, and what to do: for people, without values of fields.
    pub(crate) text: String,
}

impl Incident {
    pub(crate) fn new(code: &str, text: String) -> Self {
        Self { code: code.to_owned(), text }
    }
}

/// What somebody found who looked at something, or came upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    /// What it is about; `None`: it happened, and there is nothing to be looked at again.
    pub(crate) subject: Option<String>,
    /// Whether `found` is all that is wrong with the subject now.
    pub(crate) is_whole: bool,
    pub(crate) found: Vec<Incident>,
}

impl Notice {
    /// It happened once.
    pub(crate) fn happened(code: &str, text: String) -> Self {
        Self { subject: None, is_whole: false, found: vec![Incident::new(code, text)] }
    }

    /// This is wrong with `subject`, perhaps beside other things.
    pub(crate) fn found(subject: &str, code: &str, text: String) -> Self {
        let found = vec![Incident::new(code, text)];
        Self { subject: Some(subject.to_owned()), is_whole: false, found }
    }

    /// `subject` was looked at, and these are all its troubles.
    pub(crate) fn looked(subject: &str, found: Vec<Incident>) -> Self {
        Self { subject: Some(subject.to_owned()), is_whole: true, found }
    }

    /// `subject` was looked at, and nothing is wrong with it.
    pub(crate) fn well(subject: &str) -> Self {
        Self::looked(subject, Vec::new())
    }
}

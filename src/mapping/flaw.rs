//! What is wrong with a cell, before the field's name is put in front of it.

use std::borrow::Cow;

use crate::model::{Refusal, RefusalKind};

/// Why a value does not fit its field: the end of a sentence that begins with the field's name, without the
/// value, which may be nobody else's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    kind: RefusalKind,
    what: Cow<'static, str>,
}

impl Flaw {
    pub(super) fn new(kind: RefusalKind, what: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, what: what.into() }
    }

    pub(super) fn wrong_type(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(RefusalKind::WrongType, what)
    }

    pub(super) fn out_of_range(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(RefusalKind::OutOfRange, what)
    }

    pub(super) fn unstorable(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(RefusalKind::Unstorable, what)
    }

    pub(super) fn of(self, field: &str) -> Refusal {
        let reason = format!("`{field}` {}", self.what);
        Refusal { kind: self.kind, reason, raw: None }
    }
}

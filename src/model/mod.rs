//! The words that all rooms share: sides, places in their logs, values, and what was observed.

mod decision;
mod erased;
mod finding;
mod language;
mod likeness;
mod notice;
mod observation;
mod position;
mod raw_text;
mod rewound;
mod size;
mod spreadsheet;
mod value;
mod visible;

pub(crate) use decision::{Decision, Wish};
pub(crate) use erased::{ERASED, is_erased};
pub(crate) use finding::{Finding, Level};
pub(crate) use language::Language;
pub(crate) use likeness::{folded, nearest};
pub(crate) use notice::{Incident, Notice};
pub(crate) use observation::{
    Author, Cell, Change, Delivery, Element, Observation, Refusal, RefusalKind, Stamp,
};
pub(crate) use position::{Cursor, Lsn, Position};
pub(crate) use raw_text::RawText;
pub(crate) use rewound::{CANONICAL, Rewound};
pub(crate) use spreadsheet::{looks_like_formula, without_formula};
pub(crate) use value::{MICROS_PER_SECOND, Value};
pub(crate) use visible::{VisibleWriter, visible};

use std::fmt;

/// One of the systems whose data is braided. A further side is a variant here, a capture, a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Side {
    Airtable,
    /// Directus, or any Postgres without Directus on it.
    Directus,
}

impl Side {
    pub(crate) const ALL: [Self; 2] = [Self::Airtable, Self::Directus];

    /// The name in tables, logs and messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Airtable => "airtable",
            Self::Directus => "directus",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|side| side.name() == name)
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An entity of the mapping: its place in [`crate::mapping::Mapping::entities`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct EntityNo(pub(crate) u16);

/// A field of an entity: its place in [`crate::mapping::Entity::fields`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FieldNo(pub(crate) u16);

/// The canonical id of a record, which Directus shares wherever its key is a UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RecordId(pub(crate) uuid::Uuid);

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What one side calls a record: `rec…` in Airtable, the primary key's text in Postgres.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SideKey(pub(crate) Box<str>);

impl From<&str> for SideKey {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl SideKey {
    /// The canonical id that this key is, written as Postgres writes a `uuid`. Another spelling, such as 32 digits
    /// without hyphens, is a text of its own: it would not be found again by the id.
    pub(crate) fn as_id(&self) -> Option<uuid::Uuid> {
        let id = uuid::Uuid::try_parse(&self.0).ok()?;
        let mut buffer = uuid::Uuid::encode_buffer();
        (*id.hyphenated().encode_lower(&mut buffer) == *self.0).then_some(id)
    }
}

impl fmt::Display for SideKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

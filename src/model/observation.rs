//! What a side's log says of one record, ours or somebody's.

use uuid::Uuid;

use super::{Decision, EntityNo, FieldNo, Position, RawText, Side, SideKey, Value};

/// One record as a side's log shows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Observation {
    pub(crate) entity: EntityNo,
    pub(crate) key: SideKey,
    pub(crate) change: Change,
}

/// What the log says of the record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    /// It is there, and these of its cells were read. A cell that is not listed was not read: unchanged,
    /// or too large to be sent again.
    Present {
        cells: Vec<(FieldNo, Cell)>,
        /// What the record itself carries in its field for the canonical id (Airtable's `UUID`); `None`: not
        /// read, `Some(None)`: nothing, or what is no id.
        claimed_id: Option<Option<Uuid>>,
        /// When the side made the record, in µs since 1970 UTC, if the log tells. Decides which of two
        /// records that claim one id is the copy.
        made_at: Option<i64>,
    },
    /// The primary key was changed to this one; `Present` for the new key follows.
    Renamed { to: SideKey },
    /// It was deleted.
    Absent,
    /// It is there, and not among the rows that the mapping mirrors. `claimed_id` as for `Present`.
    Outside { claimed_id: Option<Option<Uuid>> },
    /// One element of a set that lives in a junction table came or went.
    Element(Element),
    /// The whole table was emptied. `key` is empty.
    Truncated,
}

/// A row of a junction table: one element of one record's set.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Element {
    pub(crate) field: FieldNo,
    /// The junction row's own key.
    pub(crate) row: SideKey,
    /// The element, or `None` when the row is gone or points nowhere. The observation's key is the parent's;
    /// it is empty for a deleted row of which the log gives only the row's own key.
    pub(crate) element: Option<Cell>,
    /// The row's columns that no field is mapped to, as a JSON object in the side's form. `None`: it has none, or is gone.
    pub(crate) columns: Option<Box<serde_json::Value>>,
}

/// The content of one cell, read and normalised by its field's type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Value(Value),
    /// A record of the field's target entity, by the name that this side gives it. `None`: empty.
    Link(Option<SideKey>),
    /// Several of them, in the side's order.
    Links(Vec<SideKey>),
    /// It does not fit the field: the other cells go ahead.
    Refused(Refusal),
}

/// Why a cell was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) kind: RefusalKind,
    /// What is wrong and what to do, for a person: one sentence, without the value.
    pub(crate) reason: String,
    /// What the cell holds; `None`: nothing, or it was not read from a side.
    pub(crate) raw: Option<RawText>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum RefusalKind {
    /// The value is not of the field's type.
    WrongType,
    /// Too large, too long, too precise, NaN, infinite.
    OutOfRange,
    /// A NUL byte or invalid UTF-8.
    Unstorable,
    /// A choice that the code table does not know.
    UnknownChoice,
    /// A link to a record that is not known (yet): tried again when it appears.
    UnknownTarget,
    /// The canonical database refused it: a constraint.
    Constraint,
    /// A row that a create of ours made when it was sent again, beside the one that the first try had made.
    SecondCopy,
}

impl RefusalKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::WrongType => "wrong type",
            Self::OutOfRange => "out of range",
            Self::Unstorable => "unstorable",
            Self::UnknownChoice => "unknown choice",
            Self::UnknownTarget => "unknown target",
            Self::Constraint => "constraint",
            Self::SecondCopy => "second copy",
        }
    }
}

/// Who made a change, as far as the side tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Author {
    /// The side's id of the user: `usr…`, or the UUID in `directus_users`. `None`: not told.
    pub(crate) id: Option<String>,
    /// A name or e-mail for people, if the log carries one.
    pub(crate) name: Option<String>,
    /// By what means: Airtable's `client`, `publicApi`, `automation`, …; Directus's user agent;
    /// `snapshot`, `listing`; `sql` for a transaction without an activity row.
    pub(crate) via: String,
}

/// When, which side, where in its log, by whom: one transaction of a side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) side: Side,
    /// Commit time, µs since 1970 UTC, by the side's clock.
    pub(crate) at: i64,
    /// Where the log goes on after it: what is stored and acknowledged once it is applied. `None` while a
    /// listing is under way: a restart begins the listing again.
    pub(crate) position: Option<Position>,
    pub(crate) author: Author,
    /// The operation id of our own write, if it is one.
    pub(crate) operation: Option<Uuid>,
}

/// What a capture hands to `apply`, in log order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Delivery {
    /// A whole transaction, or the last part of one whose first parts were handed over before.
    Transaction { stamp: Stamp, observations: Vec<Observation> },
    /// A part of a transaction too large to be held; its stamp comes with the last part. Nothing of
    /// it becomes visible before.
    Part { side: Side, observations: Vec<Observation> },
    /// The parts handed over since the last whole transaction are void: the connection broke, and what they
    /// were part of comes again from its beginning, or is gone.
    Abandoned { side: Side },
    /// What a person has decided, as one transaction of its own. `at`: µs since 1970 UTC.
    Decided { command: i64, at: i64, author: String, decisions: Vec<Decision> },
    /// Nothing to apply up to here.
    Progress { side: Side, position: Position },
    /// All that a recovery wanted to be read of this log, in this pass, was handed over before.
    WholeRead { side: Side, log: String, pass: i16 },
}

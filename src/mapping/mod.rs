//! The mapping document: what is what on both sides, and how it becomes one. In: the text of
//! `mapping.toml`, and cells as the sides write them. Out: a checked [`Mapping`], normalised values, and the
//! way back. No clock, no IO.

mod accounts;
mod cell;
mod flaw;
mod json;
mod key;
mod list;
mod mass;
mod moment;
mod name;
mod number;
mod option;
mod phone;
mod reader;
#[cfg(test)]
mod round_trip;
mod rows;
mod settle;
mod shown;
mod text;
mod trusted;
mod upkeep;
mod write;

use std::collections::BTreeMap;

pub(crate) use accounts::{ACCOUNTS, AccountGuard, Accounts, LOGIN, ROLE, Reach, RoleReach};
pub(crate) use cell::CellFormat;
pub(crate) use key::{KeyColumn, KeyGiver, KeyGivers};
pub(crate) use mass::MassGuard;
pub(crate) use option::{Compared, KnownOption, KnownOptions, Labels, compare_options};
pub(crate) use reader::read;
pub(crate) use rows::{RowFilter, RowTest, RowValue, Rows};
pub(crate) use shown::Shown;
pub(crate) use upkeep::Upkeep;
pub(crate) use write::join_airtable;

use crate::model::{EntityNo, FieldNo, Side};

/// The whole document, checked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mapping {
    pub(crate) entities: Vec<Entity>,
}

/// One entity: a canonical table and what stands for it on each side.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entity {
    /// As the document and all messages call it.
    pub(crate) name: String,
    /// Table of schema `canon`; its key is the column `id`, a UUID.
    pub(crate) table: String,
    pub(crate) airtable: Option<AirtableTable>,
    pub(crate) directus: Option<DirectusTable>,
    pub(crate) deletes: DeletePolicy,
    /// By what a record of one side is known to be one of the other, the strongest first.
    pub(crate) matches: Vec<NaturalKey>,
    /// Where passwords of new users come from.
    pub(crate) password: Option<Password>,
    pub(crate) caution: Caution,
    /// How many of its records may change at once before a person is asked.
    pub(crate) guard: MassGuard,
    /// Which rows of its tables are mirrored.
    pub(crate) rows: Rows,
    pub(crate) fields: Vec<Field>,
}

/// What the way out waits for before it writes what changed to the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caution {
    /// Seconds without a change of a new record before it is created on the other side.
    pub(crate) settle_s: u32,
    /// The same of a record that the other side has, before its edits go there.
    pub(crate) edit_settle_s: u32,
}

impl Default for Caution {
    fn default() -> Self {
        Self { settle_s: 20, edit_settle_s: 0 }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AirtableTable {
    /// Name of a base in `plait.toml` (`[airtable.base.NAME]`).
    pub(crate) base: String,
    /// Name or id (`tbl…`) of the table.
    pub(crate) table: String,
    /// Name or id of the field that carries the canonical id; `None`: it carries none.
    pub(crate) uuid: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DirectusTable {
    /// Schema in Postgres; `public` unless the document says otherwise.
    pub(crate) schema: String,
    pub(crate) table: String,
    /// Primary key column; `id` unless the document says otherwise. A UUID there is the canonical id.
    pub(crate) key: String,
}

/// Fields that, taken together, tell one record from all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NaturalKey {
    pub(crate) fields: Vec<FieldNo>,
    /// One field that is made to tell records apart, such as an e-mail: where it differs, they are not the same.
    /// Names, alone or with others, are weak: two people may share them.
    pub(crate) is_strong: bool,
}

/// A field of Airtable whose text becomes the password of a user when it is made in Directus. It is no field of the
/// mirror: nothing keeps it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Password {
    /// Name or id (`fld…`).
    pub(crate) airtable: String,
    /// Whether the cell is emptied once the user is there.
    pub(crate) clear: bool,
}

/// What a delete on one side does to the canonical row and, later, to the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeletePolicy {
    /// The canonical row gets `deleted_at`; the other side waits for a yes.
    Hold,
    /// The canonical row is deleted; a tombstone stays in `mirror`.
    Propagate,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field {
    /// As the document calls it: the column's name unless `column` says otherwise.
    pub(crate) name: String,
    pub(crate) store: Store,
    pub(crate) kind: FieldKind,
    /// Normalisations of the canonical value, in order, whatever side it comes from.
    pub(crate) transforms: Vec<Normalise>,
    pub(crate) airtable: Option<AirtableField>,
    pub(crate) directus: Option<DirectusField>,
    pub(crate) policy: Policy,
    pub(crate) direction: Direction,
    /// Table of schema `canon` that gets a row at each change of this field.
    pub(crate) transitions: Option<String>,
    /// What an erasure of the person whose record it is does to it.
    pub(crate) personal: Personal,
    /// What it holds after that, as a person would type it; `None`: nothing, or the pseudonym.
    pub(crate) erased: Option<String>,
    /// A new record is not created on the other side before this field has a value.
    pub(crate) is_required: bool,
    /// Sides that fill it by themselves. Their schemas say so, not the document: see [`Mapping::with_upkeep`].
    pub(crate) filled_by: Vec<Side>,
}

/// Whether a field identifies or reaches a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Personal {
    /// The mapping does not say: it is none, and who reads reports reads it only where Plait knows the column.
    Unsaid,
    /// The mapping says that it is none.
    No,
    /// It does: an erasure empties it, here, on both sides and in the past.
    Yes,
    /// The same, and it carries the pseudonym afterwards.
    Pseudonym,
}

impl Personal {
    pub(crate) fn is_personal(self) -> bool {
        matches!(self, Self::Yes | Self::Pseudonym)
    }
}

/// Where the canonical value lives.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Store {
    /// A column of the entity's table.
    Column(String),
    /// A table with a row for each element: (parent id, element).
    Junction { table: String, parent: String, element: String },
}

/// The type of a field: what its canonical values are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum FieldKind {
    Text,
    LongText,
    Integer,
    BigInt,
    /// Digits after the point; `None`: as many as there are. A value with more is refused, never rounded.
    Decimal {
        scale: Option<u32>,
    },
    /// Money. Like `Decimal`.
    Currency {
        scale: Option<u32>,
    },
    /// A fraction: 0.05 is 5 %. Like `Decimal`.
    Percent {
        scale: Option<u32>,
    },
    /// A whole number from 1.
    Rating,
    /// Whole seconds.
    Duration,
    Boolean,
    Date,
    Time,
    /// An instant. `millis`: cut to milliseconds, which is all that the APIs of both sides carry; otherwise µs.
    DateTime {
        millis: bool,
    },
    Select,
    MultiSelect,
    /// One record of `target`.
    Link {
        target: EntityNo,
    },
    /// A set of records of `target`.
    Links {
        target: EntityNo,
    },
    Email,
    /// `region`: where a number without country code is from, ISO 3166 (`FR`).
    Phone {
        region: String,
    },
    Url,
    /// A person of the side's staff: the e-mail, else the id.
    Collaborator,
    /// Formula, lookup, rollup, count …: read only, JSON as it comes; an error is a value.
    Computed,
    Json,
    /// An ordered list of texts.
    Csv,
    Uuid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Normalise {
    /// No white space at either end.
    Trim,
    Upper,
    Lower,
    /// Nine digits with a valid key; spaces and dots between them are dropped.
    Siren,
}

/// How a side's raw cell becomes the field's value, and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The whole cell.
    Whole,
    /// The given names in "Jeanne MARTIN DUPONT" (or "MARTIN DUPONT Jeanne").
    FirstOfFullName,
    /// The family name in it.
    LastOfFullName,
    /// A date as `DD-MM-YYYY` text (also `/` and `.`, and one-digit days).
    DateDmy,
    /// A list of one element ↔ a scalar.
    OneElement,
    /// Text with commas ↔ a list.
    Csv,
}

/// Label on a side → code in the canonical database. Both directions are unique.
pub(crate) type Codes = BTreeMap<String, String>;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AirtableField {
    /// Name or id (`fld…`).
    pub(crate) field: String,
    pub(crate) part: Part,
    pub(crate) codes: Option<Codes>,
    /// A push may add options to the select.
    pub(crate) new_options: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum DirectusField {
    Column {
        column: String,
        part: Part,
        codes: Option<Codes>,
    },
    /// A junction collection with its own key, a column for the parent and one for the element.
    Junction {
        table: String,
        key: String,
        parent: String,
        element: String,
        codes: Option<Codes>,
    },
}

/// Who has the last word when both sides changed a field since they last agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// Canonical keeps its value and the cell is held until a person decides.
    Ask,
    Prefer(Side),
    /// Only this side may write it.
    Owner(Side),
    /// Element by element.
    SetMerge,
    Max,
    Min,
    /// Never written by the mirror.
    Computed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Both,
    /// Only this side's changes count; nothing is ever pushed to it.
    From(Side),
}

impl FieldKind {
    /// Whether it holds text as people write it.
    pub(crate) fn is_text(&self) -> bool {
        matches!(
            self,
            Self::Text
                | Self::LongText
                | Self::Email
                | Self::Phone { .. }
                | Self::Url
                | Self::Collaborator
        )
    }

    /// The word for it in the document.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::LongText => "long_text",
            Self::Integer => "integer",
            Self::BigInt => "bigint",
            Self::Decimal { .. } => "decimal",
            Self::Currency { .. } => "currency",
            Self::Percent { .. } => "percent",
            Self::Rating => "rating",
            Self::Duration => "duration",
            Self::Boolean => "boolean",
            Self::Date => "date",
            Self::Time => "time",
            Self::DateTime { .. } => "datetime",
            Self::Select => "select",
            Self::MultiSelect => "multi_select",
            Self::Link { .. } => "link",
            Self::Links { .. } => "links",
            Self::Email => "email",
            Self::Phone { .. } => "phone",
            Self::Url => "url",
            Self::Collaborator => "collaborator",
            Self::Computed => "computed",
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Uuid => "uuid",
        }
    }
}

impl Mapping {
    pub(crate) fn entity(&self, no: EntityNo) -> &Entity {
        &self.entities[usize::from(no.0)]
    }

    pub(crate) fn entity_no(&self, name: &str) -> Option<EntityNo> {
        let at = self.entities.iter().position(|entity| entity.name == name)?;
        u16::try_from(at).ok().map(EntityNo)
    }
}

impl Entity {
    pub(crate) fn field(&self, no: FieldNo) -> &Field {
        &self.fields[usize::from(no.0)]
    }

    /// Whether `side` has a table for this entity.
    pub(crate) fn is_on(&self, side: Side) -> bool {
        match side {
            Side::Airtable => self.airtable.is_some(),
            Side::Directus => self.directus.is_some(),
        }
    }

    /// Whether both sides have it: only then can one hold something else than canonical.
    pub(crate) fn is_two_sided(&self) -> bool {
        Side::ALL.iter().all(|side| self.is_on(*side))
    }

    /// Whether its table in Directus is that of the accounts.
    pub(crate) fn is_of_accounts(&self) -> bool {
        self.directus.as_ref().is_some_and(|table| table.table == ACCOUNTS)
    }

    /// Whether `field` is the address to which an account's new password is sent.
    pub(crate) fn is_login(&self, field: &Field) -> bool {
        let column = field.directus.as_ref().and_then(DirectusField::column);
        self.is_of_accounts() && column == Some(LOGIN)
    }

    /// A natural key for people: `last_name+city`.
    pub(crate) fn name_of(&self, key: &NaturalKey) -> String {
        let names: Vec<&str> = key.fields.iter().map(|no| self.field(*no).name.as_str()).collect();
        names.join("+")
    }

    /// Whether records of one side are looked for among those of the other.
    pub(crate) fn is_matched(&self) -> bool {
        self.is_two_sided() && !self.matches.is_empty()
    }

    /// Whether a side can lack a record that canonical has. Where the one side's deletes delete the canonical
    /// row, it cannot.
    pub(crate) fn has_absences(&self) -> bool {
        self.is_two_sided() || self.deletes != DeletePolicy::Propagate
    }
}

impl Field {
    /// Whether an erasure changes it.
    pub(crate) fn is_erasable(&self) -> bool {
        self.personal.is_personal() || self.erased.is_some()
    }

    /// Whether its elements are rows of their own on `side`: those of a junction table in Directus.
    pub(crate) fn has_rows_on(&self, side: Side) -> bool {
        side == Side::Directus && matches!(self.directus, Some(DirectusField::Junction { .. }))
    }

    /// Whether `side` has this field.
    pub(crate) fn is_on(&self, side: Side) -> bool {
        match side {
            Side::Airtable => self.airtable.is_some(),
            Side::Directus => self.directus.is_some(),
        }
    }
}

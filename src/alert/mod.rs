//! The journal → what people want to be told of. In: rules of the settings, entries of the journal, and what the entries
//! alone do not tell ([`Facts`]). Out: rows of `mirror.alert`, and a line in the log each. What alerts is decided by
//! [`evaluate`], which is pure; [`follow`] reads, writes, and keeps the place. Nothing here holds the mirror up.

mod evaluate;
mod follow;
mod gather;
#[cfg(test)]
mod lab_tests;
#[cfg(test)]
mod tests;
mod valuation;
#[cfg(test)]
mod valuation_tests;
mod watch;
mod words;

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value as Json};
use uuid::Uuid;

pub(crate) use evaluate::evaluate;
pub(crate) use follow::{Follower, keep_following, past};
pub(crate) use gather::codes;
pub(crate) use valuation::Valuation;
pub(crate) use watch::{Watch, resolve};
pub(crate) use words::{author_words, rule_words, side_words};

use crate::store::history::Entry;

/// A record as it is now, by the mapping's names.
pub(crate) type Row = Map<String, Json>;

/// Labels of a reference table's codes: code → (French, English).
pub(crate) type Labels = BTreeMap<String, (String, String)>;

/// The reference tables that canonical columns refer to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Codes {
    /// Table → its labels.
    pub(crate) tables: BTreeMap<String, Labels>,
    /// (table, column) → reference table.
    pub(crate) columns: BTreeMap<(String, String), String>,
}

impl Codes {
    /// The labels of a canonical column's codes, if it has any.
    pub(crate) fn of(&self, table: &str, column: &str) -> Option<&Labels> {
        self.tables.get(self.table_of(table, column)?)
    }

    /// The reference table of a canonical column.
    pub(crate) fn table_of(&self, table: &str, column: &str) -> Option<&str> {
        self.columns.get(&(table.to_owned(), column.to_owned())).map(String::as_str)
    }
}

/// What an entry of the journal does not say itself, read from canonical.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) codes: Codes,
    /// Records as they are now; one that is gone is not here.
    pub(crate) rows: HashMap<(String, Uuid), Row>,
    /// All entries of the records that changed, the oldest first: they take a row back to where it was.
    pub(crate) entries: HashMap<Uuid, Vec<Entry>>,
    /// The living valuations of a company.
    pub(crate) valuations: HashMap<Uuid, Vec<Valuation>>,
    /// What linked records are called.
    pub(crate) names: HashMap<Uuid, String>,
    /// What authors are called, by side and the side's id.
    pub(crate) authors: HashMap<(String, String), String>,
    /// Since when what a whole reading finds counts, by side and entity.
    pub(crate) counts_from: HashMap<(String, String), DateTime<Utc>>,
}

/// One thing to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alert {
    pub(crate) rule: String,
    pub(crate) kind: &'static str,
    pub(crate) entity: String,
    pub(crate) record_id: Uuid,
    pub(crate) journal_id: i64,
    pub(crate) at: DateTime<Utc>,
    pub(crate) side: String,
    pub(crate) author: String,
    pub(crate) record_name: String,
    /// Field → value.
    pub(crate) before: Map<String, Json>,
    pub(crate) after: Map<String, Json>,
    pub(crate) text_fr: String,
    pub(crate) text_en: String,
}

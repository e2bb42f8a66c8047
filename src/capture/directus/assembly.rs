//! Messages of the log → observations of one transaction after the other. No IO, no clock. What has to be
//! done beside (tell a person, read a table again), it notes.
//!
//! Rows become observations as they come; who made them is known at the commit, because Directus writes its
//! activity row last.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use uuid::Uuid;

use crate::{
    mapping::{AccountGuard, Mapping},
    model::{Author, Lsn, Observation, Position, Side, Stamp},
};

use super::{
    access,
    convert::{KeyUnreadable, Plan, held_bytes},
    error::Error,
    extra::Extras,
    gates::{Gates, ROWS},
    layout::{Layout, TableName},
    pgoutput::{Message, Old, Raw, Relation, Tuple, decode},
    publication::{ACTIVITY, HINTS},
    settings::Covered,
};

/// The memory that a row takes is estimated from its own size up to this many bytes, else counted.
const EXACT_BYTES_MIN: usize = 64 * 1024;
/// Longer texts are no user agent that anybody needs to see.
const VIA_LENGTH_MAX: usize = 200;

/// Something to be done beside the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// Tell a person what happened.
    Happened { code: &'static str, text: String },
    /// Tell a person how a table is now: the next look at the catalogue finds it too, or that it is over.
    Found { code: &'static str, text: String },
    /// The values of this table that were read before can't be relied on: its rows are dropped until it was
    /// read again.
    Reread { table: usize },
    /// [`Assembly::covered`] is another now.
    CoverChanged,
    /// Directus changed collections, fields or relations.
    SchemaHint,
    /// Somebody changed roles, policies, or who has them.
    AccessHint,
}

/// A transaction that has committed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Finished {
    pub(super) stamp: Stamp,
    pub(super) observations: Vec<Observation>,
}

/// The state of one session of the stream.
pub(super) struct Assembly {
    mapping: Arc<Mapping>,
    layout: Layout,
    gates: Gates,
    /// Where Directus's own tables are.
    schema: String,
    relations: HashMap<u32, Known>,
    pub(super) covered: Covered,
    /// Tables whose rows are dropped.
    pub(super) held: HashSet<usize>,
    pub(super) notes: Vec<Note>,
    open: Option<Open>,
    observations: Vec<Observation>,
    /// An estimate of the memory that `observations` takes, bytes.
    pub(super) held_bytes: usize,
    pub(super) row_count: u64,
    /// A larger row is told, and values that are larger are refused.
    pub(super) row_bytes_max: usize,
}

/// The transaction that is being read.
#[derive(Debug)]
struct Open {
    at: i64,
    author: Option<Author>,
    operation: Option<Uuid>,
}

/// A relation of this session, by its meaning.
enum Known {
    Mapped { table: usize, plan: Plan, relation: Relation },
    Activity { user: usize, user_agent: usize, collection: Option<usize>, column_count: usize },
    Hint,
    Unmapped,
}

impl Assembly {
    pub(super) fn new(
        mapping: Arc<Mapping>,
        layout: Layout,
        gates: Gates,
        schema: String,
        covered: Covered,
    ) -> Self {
        Self {
            mapping,
            layout,
            gates,
            schema,
            relations: HashMap::new(),
            covered,
            held: HashSet::new(),
            notes: Vec::new(),
            open: None,
            observations: Vec::new(),
            held_bytes: 0,
            row_count: 0,
            row_bytes_max: usize::MAX,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// A transaction that committed at `at` (µs since 1970 UTC) begins.
    pub(super) fn begin(&mut self, at: i64) {
        self.observations.clear();
        self.held_bytes = 0;
        self.open = Some(Open { at, author: None, operation: None });
    }

    /// One message between begin and commit.
    ///
    /// # Errors
    /// `Decode` and `Protocol`: the log can't be read on.
    pub(super) fn message(&mut self, lsn: Lsn, message: &Bytes) -> Result<(), Error> {
        match decode(message).map_err(|source| Error::Decode { lsn, source })? {
            Message::Insert { relation, new } => self.row(lsn, relation, None, Some(&new), message),
            Message::Update { relation, old, new } => {
                self.row(lsn, relation, old.as_ref(), Some(&new), message)
            }
            Message::Delete { relation, old } => self.row(lsn, relation, Some(&old), None, message),
            Message::Relation(relation) => {
                self.relation(relation);
                Ok(())
            }
            Message::Truncate { relations, .. } => {
                for relation in relations {
                    match self.relations.get(&relation) {
                        Some(Known::Mapped { table, plan, relation })
                            if !self.held.contains(table) =>
                        {
                            plan.truncated(&mut self.observations);
                            let text = format!(
                                "Table {}.{} was emptied by TRUNCATE: all that was in it counts as deleted. If that was not meant, `plait undo` brings it back; `plait plan` shows which deletes wait before they go on to the other side.",
                                relation.schema, relation.name
                            );
                            self.notes.push(Note::Happened { code: "capture_truncated", text });
                        }
                        Some(Known::Hint) => self.notes.push(Note::SchemaHint),
                        _ => {}
                    }
                }
                Ok(())
            }
            // Begin, commit and logical messages come as events of their own. Origins and types tell nothing.
            _ => Ok(()),
        }
    }

    /// The rows so far, to be handed over as a part.
    pub(super) fn take_part(&mut self) -> Vec<Observation> {
        self.held_bytes = 0;
        let capacity = self.observations.len();
        std::mem::replace(&mut self.observations, Vec::with_capacity(capacity))
    }

    /// The transaction has committed; the log goes on at `end`.
    pub(super) fn commit(&mut self, end: Lsn, at: i64) -> Finished {
        let open = self.open.take();
        self.held_bytes = 0;
        let (at, author, operation) =
            open.map_or((at, None, None), |open| (open.at, open.author, open.operation));
        let author = author.unwrap_or_else(|| Author { via: "sql".into(), ..Author::default() });
        let position = Some(Position::Lsn(end));
        Finished {
            stamp: Stamp { side: Side::Directus, at, position, author, operation },
            observations: std::mem::take(&mut self.observations),
        }
    }

    fn row(
        &mut self,
        lsn: Lsn,
        relation: u32,
        old: Option<&Old>,
        new: Option<&Tuple>,
        message: &Bytes,
    ) -> Result<(), Error> {
        let misfit = |text: String| Error::Protocol { lsn, text };
        match self.relations.get(&relation) {
            None => Err(misfit(format!("relation {relation} was never described"))),
            Some(Known::Unmapped) => Ok(()),
            Some(Known::Hint) => {
                self.notes.push(Note::SchemaHint);
                Ok(())
            }
            Some(Known::Activity { user, user_agent, collection, column_count }) => {
                let Some(new) = new else { return Ok(()) };
                if new.len() != *column_count {
                    return Err(misfit(format!("{} columns instead of {column_count}", new.len())));
                }
                let is_of_access = collection.is_some_and(|collection| {
                    matches!(new.raw(collection), Raw::Text(name)
                        if access::TABLES.iter().any(|table| table.as_bytes() == name))
                });
                if is_of_access {
                    self.notes.push(Note::AccessHint);
                }
                if let Some(open) = &mut self.open {
                    open.note_author(new.raw(*user), new.raw(*user_agent), &self.gates.accounts);
                }
                Ok(())
            }
            Some(Known::Mapped { table, .. }) if self.held.contains(table) => Ok(()),
            Some(Known::Mapped { plan, relation, .. }) => {
                let expected = relation.columns.len();
                let tuples = [old.map(Old::tuple), new];
                if let Some(odd) = tuples.into_iter().flatten().find(|row| row.len() != expected) {
                    return Err(misfit(format!("{} columns instead of {expected}", odd.len())));
                }
                let before = self.observations.len();
                let read = match (old, new) {
                    (None, Some(new)) => plan.present(&self.mapping, new, &mut self.observations),
                    (_, Some(new)) => plan.updated(&self.mapping, old, new, &mut self.observations),
                    (Some(old), None) => plan.deleted(old, &mut self.observations),
                    (None, None) => Ok(()),
                };
                if let Err(KeyUnreadable) = read {
                    let text = format!(
                        "A change of {}.{} at {lsn} does not tell which row it is (key not in the replica identity, or too large): it was skipped. Make the mapping's key the table's primary key.",
                        relation.schema, relation.name
                    );
                    self.notes.push(Note::Happened { code: "capture_key_unreadable", text });
                }
                let made = self.observations.get(before..).unwrap_or_default();
                if message.len() > self.row_bytes_max {
                    let tuples = tuples.into_iter().flatten();
                    let key = made.first().map(|observation| observation.key.to_string());
                    let text = large_row(relation, tuples, key.as_deref(), self.row_bytes_max);
                    self.notes.push(Note::Happened { code: "capture_row_large", text });
                }
                // Most of a large row may be in columns that are not mapped, of which nothing is held.
                self.held_bytes += if message.len() > EXACT_BYTES_MIN {
                    made.iter().map(Observation::held_bytes).sum()
                } else {
                    held_bytes(made, message.len())
                };
                self.row_count += 1;
                Ok(())
            }
        }
    }

    /// The log describes a table: for the first time in this session, because it changed, or just again.
    fn relation(&mut self, relation: Relation) {
        let oid = relation.oid;
        let place = |name: &str| relation.columns.iter().position(|column| column.name == name);
        let is_system = relation.schema == self.schema;
        let mapped = self.layout.table(&relation.schema, &relation.name);
        let known = if let Some((table, layout)) =
            mapped.and_then(|table| Some((table, self.layout.tables.get(table)?)))
        {
            let columns = relation.columns.iter().map(|it| (it.name.as_str(), it.type_oid));
            let plan =
                Plan::new(layout, &self.gates, place).0.with_extras(&Extras::new(layout, columns));
            let plan = plan.with_value_bytes_max(self.row_bytes_max);
            if let Some(Known::Mapped { relation: before, .. }) = self.relations.get(&oid)
                && *before != relation
            {
                let column_count = relation.columns.len();
                tracing::info!(table = %layout.name, column_count, "the table was altered");
            }
            let types = relation.columns.iter().map(|column| {
                (column.name.clone(), signature(column.type_oid, column.type_modifier))
            });
            self.compare(table, &types.collect());
            Known::Mapped { table, plan, relation }
        } else if is_system && relation.name == ACTIVITY {
            match (place("user"), place("user_agent")) {
                (Some(user), Some(user_agent)) => {
                    let (collection, column_count) = (place("collection"), relation.columns.len());
                    Known::Activity { user, user_agent, collection, column_count }
                }
                _ => Known::Unmapped,
            }
        } else if is_system && HINTS.contains(&relation.name.as_str()) {
            Known::Hint
        } else {
            Known::Unmapped
        };
        self.relations.insert(oid, known);
    }

    /// Compares a table's columns with those that were read in full. A mapped column that is gone is reported
    /// and from then on not read; one that is new, back, or of another type makes the table be read again.
    pub(super) fn compare(&mut self, table: usize, types: &HashMap<String, String>) {
        let Some(layout) = self.layout.tables.get(table) else { return };
        if self.held.contains(&table) {
            return;
        }
        let name = layout.name.to_string();
        let rows = self.gates.signature(layout);
        let mut changed = false;
        let covered = self.covered.entry(name.clone()).or_default();
        // Which rows are mirrored is another matter now than when they were read.
        let mut reread = covered.get(ROWS) != rows.as_ref();
        for column in layout.columns() {
            match (covered.get(column), types.get(column)) {
                (None, None) => {}
                (Some(_), None) => {
                    covered.remove(column);
                    changed = true;
                    let text = format!(
                        "Column `{column}` of {name} was dropped or renamed: it is no longer read. Change mapping.toml, or bring it back."
                    );
                    self.notes.push(Note::Found { code: "capture_column_missing", text });
                }
                (None, Some(_)) => reread = true,
                (Some(before), Some(now)) if before == now => {}
                (Some(before), Some(now)) if is_widening(before, now) => {
                    covered.insert(column.to_owned(), now.clone());
                    changed = true;
                }
                (Some(_), Some(_)) => {
                    reread = true;
                    let text = format!(
                        "Column `{column}` of {name} has another type now: the table is read again. See whether the field's type in mapping.toml still fits."
                    );
                    self.notes.push(Note::Happened { code: "capture_column_retyped", text });
                }
            }
        }
        // Columns beside a junction's elements are kept from the first row on, those that are new too.
        for (column, now) in types {
            let oid = now.split('/').next().and_then(|oid| oid.parse().ok()).unwrap_or_default();
            if layout.keeps(column, oid) {
                reread |= !covered.contains_key(column);
                changed |= covered.get(column).is_some_and(|before| before != now);
                covered.entry(column.clone()).and_modify(|before| before.clone_from(now));
            }
        }
        if reread {
            self.hold(table);
        } else if changed {
            self.notes.push(Note::CoverChanged);
        }
    }

    /// Drops the rows of `table` until it was read again.
    pub(super) fn hold(&mut self, table: usize) {
        if let Some(layout) = self.layout.tables.get(table)
            && self.held.insert(table)
        {
            self.covered.remove(&layout.name.to_string());
            self.notes.push(Note::CoverChanged);
            self.notes.push(Note::Reread { table });
        }
    }

    /// The table is no longer there.
    pub(super) fn forget(&mut self, name: &TableName) {
        if self.covered.remove(&name.to_string()).is_some() {
            self.notes.push(Note::CoverChanged);
            let text =
                format!("Table {name} was dropped or renamed: nothing is read from it any more.");
            self.notes.push(Note::Found { code: "capture_table_missing", text });
        }
    }
}

impl Open {
    fn note_author(&mut self, user: Raw<'_>, user_agent: Raw<'_>, accounts: &AccountGuard) {
        let text = |raw: Raw<'_>| match raw {
            Raw::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
            Raw::Null | Raw::Unchanged => None,
        };
        let (id, agent) = (text(user), text(user_agent));
        if self.operation.is_none() {
            self.operation = agent.as_deref().and_then(operation_in);
        }
        // The first row that names a user: a filter flow's own row, which comes first, may name none.
        if self.author.as_ref().is_none_or(|author| author.id.is_none()) {
            let via = match agent {
                Some(agent) => agent.chars().take(VIA_LENGTH_MAX).collect(),
                None => String::from("directus"),
            };
            let name = id.as_deref().and_then(|id| accounts.name_of(id));
            self.author = Some(Author { id, name, via });
        }
    }
}

/// What is said of a row over the limit: which it is, what makes it so large, and what became of it.
fn large_row<'a>(
    relation: &Relation,
    tuples: impl Iterator<Item = &'a Tuple>,
    key: Option<&str>,
    row_bytes_max: usize,
) -> String {
    let mib = |bytes: usize| bytes.div_ceil(1024 * 1024);
    let length = |tuple: &Tuple, column: usize| match tuple.raw(column) {
        Raw::Text(text) => text.len(),
        Raw::Null | Raw::Unchanged => 0,
    };
    let tuples: Vec<&Tuple> = tuples.collect();
    let largest = relation
        .columns
        .iter()
        .enumerate()
        .map(|(at, column)| {
            (tuples.iter().map(|it| length(it, at)).max().unwrap_or_default(), column)
        })
        .max_by_key(|(bytes, _)| *bytes);
    let held = largest.map_or_else(String::new, |(bytes, column)| {
        format!("holds {} MiB in its column `{}`, ", mib(bytes), column.name)
    });
    let row = key.map_or_else(|| String::from("A row"), |key| format!("The row `{key}`"));
    format!(
        "{row} of {}.{} {held}more than the {} MiB of `message_mib_max`: its mapped values up to that size were read, larger ones are refused and listed by `plait errors`. Make the value smaller, or raise `message_mib_max` in [directus] of plait.toml.",
        relation.schema,
        relation.name,
        mib(row_bytes_max),
    )
}

/// The operation id in our own `User-Agent`: `plait/1.0 op=<uuid>`.
fn operation_in(agent: &str) -> Option<Uuid> {
    let rest = agent.strip_prefix("plait/")?;
    let (_, id) = rest.split_once("op=")?;
    Uuid::parse_str(id.get(..36)?).ok()
}

/// A column's type, for comparing: `type oid/type modifier`.
pub(super) fn signature(type_oid: u32, type_modifier: i32) -> String {
    format!("{type_oid}/{type_modifier}")
}

/// Whether every value of the one type is written the same way in the other. Oids of `pg_type`.
fn is_widening(before: &str, now: &str) -> bool {
    let read = |text: &str| -> Option<(u32, i32)> {
        let (oid, modifier) = text.split_once('/')?;
        Some((oid.parse().ok()?, modifier.parse().ok()?))
    };
    let (Some((from, old)), Some((to, new))) = (read(before), read(now)) else { return false };
    match (from, to) {
        // int2 → int4, int8; int4 → int8; varchar → text
        (21, 23 | 20) | (23, 20) | (1043, 25) => true,
        // varchar
        (1043, 1043) => new == -1 || (old != -1 && new >= old),
        // numeric: more digits before the point, as many behind it
        (1700, 1700) => new != -1 && old != -1 && (new & 0xffff) == (old & 0xffff) && new >= old,
        _ => false,
    }
}

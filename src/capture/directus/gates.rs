//! Which rows of a filtered table are mirrored, and which of them were a moment ago: a row that comes among them brings
//! all its cells, also those that its change did not touch.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sha2::{Digest as _, Sha256};

use super::{
    convert::Row,
    layout::{Layout, LayoutTable, Role},
    pgoutput::Raw,
};
use crate::{
    mapping::{AccountGuard, RowTest},
    model::{EntityNo, SideKey},
};

/// Among the columns that a full read of a table has covered: by what its rows were told from those left out.
pub(super) const ROWS: &str = "(rows)";

/// What is known of filtered tables. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub(super) struct Gates {
    pub(super) accounts: AccountGuard,
    inside: Arc<Mutex<HashMap<EntityNo, Inside>>>,
}

/// The rows of one table that are mirrored.
#[derive(Debug, Default)]
struct Inside {
    /// Hashes of their keys: a row taken for another by its hash is read once more than it has to be, no worse.
    keys: HashSet<u64>,
    /// Rows that came, and of which the log did not tell all cells.
    partial: Vec<SideKey>,
}

/// The filter of one table, where its columns are in a row.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    entity: EntityNo,
    tests: Vec<(usize, RowTest)>,
    /// Of the table of accounts; with the column of the role, where it is there.
    account: Option<Option<usize>>,
    gates: Gates,
}

impl Gates {
    pub(super) fn new(accounts: AccountGuard) -> Self {
        Self { accounts, inside: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<EntityNo, Inside>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entities whose tables are filtered.
    pub(super) fn entities(layout: &Layout) -> Vec<EntityNo> {
        let roles = layout.tables.iter().flat_map(|table| &table.roles);
        roles
            .filter_map(|role| match role {
                Role::Record { entity, rows, role, .. } => {
                    (!rows.is_empty() || role.is_some()).then_some(*entity)
                }
                Role::Element { .. } => None,
            })
            .collect()
    }

    /// By what the rows of a table are told from those that are left out; `None`: none are. Another one: the table has
    /// to be read again.
    pub(super) fn signature(&self, table: &LayoutTable) -> Option<String> {
        let mut rule = String::new();
        for role in &table.roles {
            let Role::Record { rows, role, .. } = role else { continue };
            for test in rows {
                rule.push_str(&format!("{test:?}\n"));
            }
            if role.is_some() {
                let accounts = self.accounts.get().unwrap_or_default();
                rule.push_str(&format!("{:?} {:?}\n", accounts.role_ids(), accounts.user_ids()));
            }
        }
        let digest = Sha256::digest(&rule);
        let hex = |byte: &u8| format!("{byte:02x}");
        (!rule.is_empty()).then(|| digest.iter().take(16).map(hex).collect())
    }

    /// Takes these rows of `entity` for those that are mirrored.
    pub(super) fn fill(&self, entity: EntityNo, keys: &[SideKey]) {
        let inside = Inside { keys: keys.iter().map(hash).collect(), partial: Vec::new() };
        self.lock().insert(entity, inside);
    }

    /// The rows that came and of which cells are missing.
    pub(super) fn take_partial(&self) -> Vec<(EntityNo, SideKey)> {
        let mut partial = Vec::new();
        for (entity, inside) in self.lock().iter_mut() {
            partial.extend(inside.partial.drain(..).map(|key| (*entity, key)));
        }
        partial
    }
}

impl Gate {
    /// `None`: the table is not filtered. `Err`: a column that the filter needs is not there.
    pub(super) fn new<'a>(
        role: &'a Role,
        gates: &Gates,
        mut find: impl FnMut(&'a str) -> Option<usize>,
    ) -> Result<Option<Self>, ()> {
        let Role::Record { entity, rows, role, .. } = role else { return Ok(None) };
        if rows.is_empty() && role.is_none() {
            return Ok(None);
        }
        let mut tests = Vec::with_capacity(rows.len());
        for test in rows {
            tests.push((find(&test.field).ok_or(())?, test.clone()));
        }
        let account = role.as_deref().map(find);
        Ok(Some(Self { entity: *entity, tests, account, gates: gates.clone() }))
    }

    /// Whether a row is mirrored. `is_whole`: all its cells are told.
    pub(super) fn admits(&self, key: &SideKey, row: &impl Row, is_whole: bool) -> bool {
        let mut all = self.gates.lock();
        let inside = all.entry(self.entity).or_default();
        let was_inside = inside.keys.contains(&hash(key));
        let mut verdicts = self.tests.iter().map(|(column, test)| match row.raw(*column) {
            Raw::Unchanged => was_inside,
            Raw::Null => test.admits_postgres(None),
            // What is no UTF-8 is none of the filter's values.
            Raw::Text(text) => {
                let text = String::from_utf8_lossy(text);
                test.admits_postgres(Some(&text))
            }
        });
        // The account first: its verdict is remembered, whatever the other tests say.
        let is_member = self.is_member(key, row, was_inside);
        let is_inside = is_member && verdicts.all(|holds| holds);
        if is_inside {
            inside.keys.insert(hash(key));
            if !was_inside && !is_whole {
                inside.partial.push(key.clone());
            }
        } else {
            inside.keys.remove(&hash(key));
        }
        is_inside
    }

    fn is_member(&self, key: &SideKey, row: &impl Row, was_inside: bool) -> bool {
        let accounts = &self.gates.accounts;
        match self.account.map(|role| role.map(|role| row.raw(role))) {
            None => true,
            Some(None | Some(Raw::Null)) => accounts.admits(&key.0, None),
            Some(Some(Raw::Unchanged)) => was_inside,
            Some(Some(Raw::Text(role))) => {
                accounts.admits(&key.0, Some(&String::from_utf8_lossy(role)))
            }
        }
    }

    /// Whether a row with this key was mirrored; it is none of this key any more.
    pub(super) fn forget(&self, key: &SideKey) -> bool {
        self.gates.lock().entry(self.entity).or_default().keys.remove(&hash(key))
    }
}

fn hash(key: &SideKey) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

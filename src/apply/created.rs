//! Rows of Directus that creates of ours have made under keys which only the log tells: integers that the database
//! counts, keys that people give. The log names the operation, in `directus_activity` and in the row's own transaction,
//! and `mirror.operation` the record; the answer to the request alone links nothing.
//!
//! A create goes out again only when the log was read past its first try (`push::drain`), so a second row of one
//! operation is all but impossible. Should one appear, it stands for no record: it is listed, and nothing is mirrored
//! from it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use uuid::Uuid;

use super::{Apply, Error, Item, fold::resolved, resolve::Keys};
use crate::{
    mapping::{DirectusField, Entity},
    merge::{Origin, SentCell},
    model::{Cell, Change, EntityNo, FieldNo, RecordId, RefusalKind, Side, SideKey},
    store::{Creation, RefusalRow, WHOLE_RECORD},
};

/// A row that a create made beside the one that an earlier try of it had made.
#[derive(Clone, Debug)]
pub(super) struct SecondCopy {
    entity: EntityNo,
    key: SideKey,
    /// The key of the first one.
    first: SideKey,
    transaction: i64,
}

impl SecondCopy {
    pub(super) fn refusal(&self) -> RefusalRow {
        RefusalRow {
            side: Side::Directus,
            entity: self.entity,
            key: self.key.clone(),
            record: None,
            raw: None,
            field: WHOLE_RECORD.to_owned(),
            kind: RefusalKind::SecondCopy,
            reason: format!(
                "is a second copy of `{}`, which Plait made when an answer of Directus was lost; nothing is mirrored \
                 from it: delete it in Directus",
                self.first
            ),
            waits_for: None,
            transaction: self.transaction,
        }
    }
}

/// A row that nobody knows yet, as a transaction shows it first.
struct Stranger<'a> {
    transaction: i64,
    origin: Origin,
    key: &'a SideKey,
    cells: &'a [(FieldNo, Cell)],
}

impl Apply {
    /// Links the rows among `items` that creates of ours have made to the records that they were made for.
    pub(super) async fn link_created(&self, keys: &mut Keys, items: &[Item]) -> Result<(), Error> {
        let mut strangers: BTreeMap<EntityNo, Vec<Stranger<'_>>> = BTreeMap::new();
        let mut seen = HashSet::new();
        for item in items {
            let (entity, key) = (item.observation.entity, &item.observation.key);
            let Change::Present { cells, .. } = &item.observation.change else { continue };
            if item.side == Side::Directus
                && keys.get(item.side, entity, key).is_none()
                && seen.insert((entity, key))
            {
                let (transaction, origin) = (item.transaction, item.origin);
                let stranger = Stranger { transaction, origin, key, cells };
                strangers.entry(entity).or_default().push(stranger);
            }
        }
        for (entity, rows) in strangers {
            self.pass_over_known_copies(keys, entity, &rows).await?;
            let rows: Vec<_> = rows
                .into_iter()
                .filter(|row| !keys.is_passed_over(Side::Directus, entity, row.key))
                .collect();
            self.link_by_operation(keys, entity, &rows).await?;
            self.link_what_a_scan_shows(keys, entity, &rows).await?;
        }
        Ok(())
    }

    /// A second copy that was listed stays one, whatever anybody makes of it.
    async fn pass_over_known_copies(
        &self,
        keys: &mut Keys,
        entity: EntityNo,
        rows: &[Stranger<'_>],
    ) -> Result<(), Error> {
        if self.writer.has_refusals(Side::Directus, entity) {
            let names: Vec<&str> = rows.iter().map(|row| &*row.key.0).collect();
            let copies = self.writer.second_copies(Side::Directus, entity, &names).await?;
            keys.passed_over.extend(copies.into_iter().map(|key| (entity, key)));
        }
        Ok(())
    }

    /// Rows in transactions of ours: each create has one operation, and made one row.
    async fn link_by_operation(
        &self,
        keys: &mut Keys,
        entity: EntityNo,
        rows: &[Stranger<'_>],
    ) -> Result<(), Error> {
        let operation = |row: &Stranger<'_>| match row.origin {
            Origin::Ours(operation) => operation,
            _ => None,
        };
        let ids: HashSet<Uuid> = rows.iter().filter_map(operation).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let ids: Vec<Uuid> = ids.into_iter().collect();
        let described = self.mapping.entity(entity);
        for Creation { operation: id, record, cells, mut key, .. } in
            self.writer.creations(Side::Directus, entity, &ids).await?
        {
            let mine = || rows.iter().filter(|row| operation(row) == Some(id));
            let is_as_sent =
                |keys: &Keys, row: &Stranger<'_>| is_as_sent(described, keys, row.cells, &cells);
            let transactions: BTreeSet<i64> = mine().map(|row| row.transaction).collect();
            for transaction in transactions {
                let here = || mine().filter(|row| row.transaction == transaction);
                let unlinked = |keys: &Keys, row: &&Stranger<'_>| {
                    keys.get(Side::Directus, entity, row.key).is_none()
                };
                let same = here().find(|row| unlinked(keys, row) && is_as_sent(keys, row));
                match (&key, same) {
                    // A hook may make rows of its own in the same transaction, before ours or after it.
                    (None, same) => {
                        let Some(row) = same.or_else(|| here().find(|row| unlinked(keys, row)))
                        else {
                            continue;
                        };
                        keys.link(Side::Directus, entity, row.key, record);
                        key = Some(row.key.clone());
                    }
                    (Some(first), Some(row)) => {
                        keys.passed_over.insert((entity, row.key.clone()));
                        keys.second_copies.push(SecondCopy {
                            entity,
                            key: row.key.clone(),
                            first: first.clone(),
                            transaction,
                        });
                    }
                    // What a flow has made with our name goes its own way.
                    (Some(_), None) => {}
                }
            }
        }
        Ok(())
    }

    /// A scan knows no operation. A row that has just what a create in flight sends has most likely come from it;
    /// the answer, if there was one, names it.
    async fn link_what_a_scan_shows(
        &self,
        keys: &mut Keys,
        entity: EntityNo,
        rows: &[Stranger<'_>],
    ) -> Result<(), Error> {
        if !rows.iter().any(|row| row.origin == Origin::Scan) {
            return Ok(());
        }
        let described = self.mapping.entity(entity);
        for creation in self.writer.open_creations(Side::Directus, entity).await? {
            let Creation { record, cells, answered, .. } = creation;
            let mut shown = rows.iter().filter(|row| {
                row.origin == Origin::Scan
                    && keys.get(Side::Directus, entity, row.key).is_none()
                    && match &answered {
                        Some(key) => key == row.key,
                        None => !cells.is_empty() && is_as_sent(described, keys, row.cells, &cells),
                    }
            });
            if let Some(row) = shown.next() {
                let key = row.key;
                keys.link(Side::Directus, entity, key, RecordId(record.0));
            }
        }
        Ok(())
    }
}

/// Whether a row holds all that was sent. Sets are rows of their own and come later.
fn is_as_sent(entity: &Entity, keys: &Keys, cells: &[(FieldNo, Cell)], sent: &[SentCell]) -> bool {
    let is_column = |sent: &&SentCell| {
        matches!(entity.field(sent.field).directus, Some(DirectusField::Column { .. }))
    };
    sent.iter().filter(is_column).all(|sent| {
        let held = cells.iter().find(|(no, _)| *no == sent.field);
        held.is_some_and(|(no, cell)| {
            let find = |target, key: &SideKey| keys.get(Side::Directus, target, key);
            resolved(entity.field(*no), cell, find).is_ok_and(|value| value == sent.value)
        })
    })
}

//! One bad record never stops the others: a chunk that the database refuses is taken apart until the cell at
//! fault is found, listed with the reason, and everything else is written.

use std::{collections::HashSet, future::Future, pin::Pin};

use tokio_postgres::error::SqlState;

use super::{Apply, Error, Item, mass::Hand, resolve};
use crate::{
    merge::Origin,
    model::{Cell, Change, EntityNo, FieldNo, Observation, RawText, RefusalKind, Side, SideKey},
    store::{self, RefusalRow, WHOLE_RECORD, Writes},
};

/// Where a chunk is cut in two: near its middle, and where possible not between two rows of a set that one
/// transaction writes, which is whole only with all of them.
fn cut(items: &[Item]) -> usize {
    let is_element = |item: &Item| matches!(item.observation.change, Change::Element(_));
    let is_whole = |at: &usize| {
        let (before, after) = (&items[at - 1], &items[*at]);
        before.transaction != after.transaction || !is_element(before) || !is_element(after)
    };
    let middle = items.len() / 2;
    (1..items.len()).filter(is_whole).min_by_key(|at| at.abs_diff(middle)).unwrap_or(middle)
}

impl Apply {
    /// Writes `items` inside the open transaction, and after each part of them what has waited for its records.
    pub(super) fn write_items<'a>(
        &'a mut self,
        items: &'a [Item],
    ) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>> {
        Box::pin(async move {
            if items.is_empty() {
                return Ok(());
            }
            let folded = self.fold(items).await?;
            let waiting = self.items_waiting_for(&folded.awaited).await?;
            if items.len() > 1 && meet(&waiting, items) {
                // A cell that waits for a record of this part, and that the part itself writes: in their order.
                return self.write_in_halves(items).await;
            }
            match self.writer.write_part(&folded.writes).await {
                Ok(()) => {
                    self.workload.moved();
                    self.write_items(&waiting).await
                }
                Err(error) if error.is_about_data() => {
                    if let [item] = items {
                        self.candidates.forget();
                        return self.write_what_fits(item, &error).await;
                    }
                    self.write_in_halves(items).await
                }
                Err(error) => Err(error.into()),
            }
        })
    }

    async fn write_in_halves(&mut self, items: &[Item]) -> Result<(), Error> {
        // It knows what was folded, and not written.
        self.candidates.forget();
        let (first, second) = items.split_at(cut(items));
        self.write_items(first).await?;
        self.write_items(second).await
    }

    /// The cells of one record that the database takes; the others are listed.
    async fn write_what_fits(&mut self, item: &Item, error: &store::Error) -> Result<(), Error> {
        let Change::Present { cells, claimed_id, made_at } = &item.observation.change else {
            return self.refuse(item, WHOLE_RECORD, error, None, None).await;
        };
        let with = |cells: Vec<(FieldNo, Cell)>| Item {
            observation: Observation {
                change: Change::Present { cells, claimed_id: *claimed_id, made_at: *made_at },
                ..item.observation.clone()
            },
            ..item.clone()
        };
        let good = cells.clone();
        // The one at fault is the one without which it works; then the rest may still hold another.
        let mut at = 0;
        while at < good.len() {
            let mut others = good.clone();
            let suspect = others.remove(at);
            match self.try_write(&with(others.clone())).await? {
                None => return self.refuse_cell(item, &suspect, error).await,
                Some(_) => at += 1,
            }
        }
        // More than one is at fault: cell by cell, onto what the record has.
        if let Some(fault) = self.try_write(&with(Vec::new())).await? {
            return self.refuse(item, WHOLE_RECORD, &fault, None, None).await;
        }
        for cell in good {
            if let Some(fault) = self.try_write(&with(vec![cell.clone()])).await? {
                self.refuse_cell(item, &cell, &fault).await?;
            }
        }
        Ok(())
    }

    /// Writes one item; the answer is the database's objection to its data, if it has one.
    async fn try_write(&mut self, item: &Item) -> Result<Option<store::Error>, Error> {
        let folded = self.fold(std::slice::from_ref(item)).await?;
        match self.writer.write_part(&folded.writes).await {
            Ok(()) => {
                let waiting = self.items_waiting_for(&folded.awaited).await?;
                self.write_items(&waiting).await?;
                Ok(None)
            }
            Err(error) if error.is_about_data() => Ok(Some(error)),
            Err(error) => Err(error.into()),
        }
    }

    async fn refuse_cell(
        &mut self,
        item: &Item,
        (no, cell): &(FieldNo, Cell),
        fault: &store::Error,
    ) -> Result<(), Error> {
        let field = self.mapping.entity(item.observation.entity).field(*no).name.clone();
        let waits_for = match cell {
            Cell::Link(Some(key)) => Some(vec![key.to_string()]),
            Cell::Links(keys) => Some(keys.iter().map(ToString::to_string).collect()),
            _ => None,
        };
        self.refuse(item, &field, fault, waits_for, RawText::of_cell(cell)).await
    }

    async fn refuse(
        &mut self,
        item: &Item,
        field: &str,
        fault: &store::Error,
        waits_for: Option<Vec<String>>,
        raw: Option<RawText>,
    ) -> Result<(), Error> {
        let (kind, reason) = words(fault, waits_for.is_some());
        let refusal = RefusalRow {
            side: item.side,
            entity: item.observation.entity,
            key: item.observation.key.clone(),
            record: None,
            field: field.to_owned(),
            kind,
            reason,
            raw,
            waits_for: waits_for.filter(|_| kind == RefusalKind::UnknownTarget),
            transaction: item.transaction,
        };
        Ok(self.writer.write_part(&Writes { refusals: vec![refusal], ..Writes::default() }).await?)
    }

    /// Cells that were refused because a record was missing which is here now, as items of the transactions
    /// that brought them.
    pub(super) async fn items_waiting_for(
        &self,
        arrived: &[(Side, EntityNo, SideKey)],
    ) -> Result<Vec<Item>, Error> {
        let mut items = Vec::new();
        for side in Side::ALL {
            let keys: Vec<&str> =
                arrived.iter().filter(|(at, ..)| *at == side).map(|(.., key)| &*key.0).collect();
            if keys.is_empty() {
                continue;
            }
            for link in self.writer.waiting_links(side, &keys).await? {
                let described = self.mapping.entity(link.entity);
                let Some(at) = described.fields.iter().position(|field| field.name == link.field)
                else {
                    continue;
                };
                // The same key may be one of another entity's records.
                let target = resolve::target(
                    described.field(FieldNo(u16::try_from(at).unwrap_or(u16::MAX))),
                );
                let is_it = |(of, entity, key): &(Side, EntityNo, SideKey)| {
                    *of == side
                        && Some(*entity) == target
                        && link.waits_for.iter().any(|it| **it == *key.0)
                };
                if !arrived.iter().any(is_it) {
                    continue;
                }
                let awaited = link.waits_for.iter().map(|key| SideKey::from(key.as_str()));
                let is_set =
                    matches!(described.fields[at].kind, crate::mapping::FieldKind::Links { .. });
                let cell = if is_set {
                    Cell::Links(awaited.collect())
                } else {
                    Cell::Link(awaited.into_iter().next())
                };
                let no = FieldNo(u16::try_from(at).unwrap_or(u16::MAX));
                items.push(Item {
                    transaction: link.transaction,
                    side,
                    origin: Origin::Somebody,
                    // Who brings a record does not make the links that waited for it.
                    hand: Hand::Free,
                    at: link.at,
                    observation: Observation {
                        entity: link.entity,
                        key: link.key,
                        change: Change::Present {
                            cells: vec![(no, cell)],
                            claimed_id: None,
                            made_at: None,
                        },
                    },
                });
            }
        }
        Ok(items)
    }
}

/// Whether two groups of items have a record in common.
fn meet(some: &[Item], others: &[Item]) -> bool {
    let of = |item: &Item| (item.side, item.observation.entity, item.observation.key.clone());
    let others: HashSet<_> =
        if some.is_empty() { HashSet::new() } else { others.iter().map(of).collect() };
    some.iter().any(|item| others.contains(&of(item)))
}

/// The database's objection for a person, without the value it is about.
pub(super) fn words(fault: &store::Error, is_link: bool) -> (RefusalKind, String) {
    let store::Error::Sql(error) = fault else {
        return (RefusalKind::Constraint, "the canonical database did not take it".into());
    };
    let constraint = error
        .as_db_error()
        .and_then(|error| error.constraint())
        .map_or_else(String::new, |name| format!(" ({name})"));
    match error.code() {
        Some(code) if *code == SqlState::FOREIGN_KEY_VIOLATION && is_link => (
            RefusalKind::UnknownTarget,
            "links to a record that has not arrived yet; it is taken as soon as that one does"
                .into(),
        ),
        Some(code) if *code == SqlState::FOREIGN_KEY_VIOLATION => (
            RefusalKind::Constraint,
            format!(
                "names something that the canonical database does not have{constraint}; add it there, or correct the value"
            ),
        ),
        Some(code) if *code == SqlState::UNIQUE_VIOLATION => (
            RefusalKind::Constraint,
            format!(
                "another record has the same value, which may occur once only{constraint}; correct one of the two"
            ),
        ),
        Some(code) if *code == SqlState::NOT_NULL_VIOLATION => (
            RefusalKind::Constraint,
            "the canonical column may not be empty; fill the field in".into(),
        ),
        Some(code) if *code == SqlState::CHECK_VIOLATION => (
            RefusalKind::Constraint,
            format!("breaks a rule of the canonical database{constraint}; correct the value"),
        ),
        Some(code) if *code == SqlState::STRING_DATA_RIGHT_TRUNCATION => {
            (RefusalKind::OutOfRange, "is too long for the canonical column; shorten it".into())
        }
        Some(code) if *code == SqlState::NUMERIC_VALUE_OUT_OF_RANGE => (
            RefusalKind::OutOfRange,
            "is too large for the canonical column; correct the value".into(),
        ),
        Some(code) => (
            RefusalKind::Constraint,
            format!(
                "the canonical database did not take it (SQLSTATE {}); correct the value",
                code.code()
            ),
        ),
        None => (RefusalKind::Constraint, "the canonical database did not take it".into()),
    }
}

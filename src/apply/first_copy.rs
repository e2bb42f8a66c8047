//! The first copy of a side into empty tables: rows go in by `COPY`, since there is nothing to merge with.
//! Everything else that comes with them goes the usual way.

use super::{Apply, Error, Item, fold::resolved};
use crate::{
    model::{Cell, Change, RecordId, RefusalKind, SideKey, Value},
    store::RefusalRow,
};

impl Apply {
    /// Copies those of `items` that can be copied; the answer is the rest, for the usual way.
    pub(super) async fn copy_first(&mut self, items: Vec<Item>) -> Result<Vec<Item>, Error> {
        let Some(first_copy) = self.large.as_mut().and_then(|large| large.first_copy.as_mut())
        else {
            return Ok(items);
        };
        let mapping = std::sync::Arc::clone(&self.mapping);
        let mut rest = Vec::new();
        let mut rows: Vec<(RecordId, Vec<Value>)> = Vec::new();
        let mut copied: Vec<Item> = Vec::new();
        let mut refusals = Vec::new();
        let mut entity = None;
        for item in items {
            let observation = &item.observation;
            let id = observation.key.as_id();
            let (Change::Present { cells, .. }, Some(id)) = (&observation.change, id) else {
                rest.push(item);
                continue;
            };
            // A link by another key than the canonical id has to be looked up, and may have to wait.
            if !cells.iter().all(|(_, cell)| links_by_id(cell)) {
                rest.push(item);
                continue;
            }
            // A chunk holds rows of one table; one that holds more sends the others the usual way.
            let is_first = *entity.get_or_insert(observation.entity) == observation.entity;
            if !is_first || !first_copy.is_open_for(observation.entity) {
                rest.push(item);
                continue;
            }
            let described = mapping.entity(observation.entity);
            let limits = &self.writer.shapes()[usize::from(observation.entity.0)].limits;
            let mut values = vec![Value::Null; described.fields.len()];
            for (no, cell) in cells {
                let field = described.field(*no);
                let direct = |_, key: &SideKey| key.as_id().map(RecordId);
                let limit = limits[usize::from(no.0)];
                let fitting = resolved(field, cell, direct).and_then(|value| {
                    limit.misfit(&value).map_or(Ok(value), |refusal| Err((refusal, None)))
                });
                match fitting {
                    Ok(value) => values[usize::from(no.0)] = value,
                    Err((refusal, waits_for)) => refusals.push(RefusalRow {
                        side: item.side,
                        entity: observation.entity,
                        key: observation.key.clone(),
                        record: None,
                        field: field.name.clone(),
                        kind: refusal.kind,
                        reason: refusal.reason,
                        raw: refusal.raw,
                        waits_for: waits_for.filter(|_| refusal.kind == RefusalKind::UnknownTarget),
                        transaction: item.transaction,
                    }),
                }
            }
            rows.push((RecordId(id), values));
            copied.push(item);
        }
        let Some(entity) = entity.filter(|_| !rows.is_empty()) else { return Ok(rest) };
        match first_copy.copy(&mut self.writer, entity, &rows).await {
            Ok(()) => first_copy.refuse_later(refusals),
            // A row does not fit: this chunk goes the careful way.
            Err(error) if error.is_about_data() => rest.splice(0..0, copied).for_each(drop),
            Err(error) => return Err(error.into()),
        }
        Ok(rest)
    }
}

/// Whether the keys that a cell links to, if any, are canonical ids.
fn links_by_id(cell: &Cell) -> bool {
    match cell {
        Cell::Link(Some(key)) => key.as_id().is_some(),
        Cell::Links(keys) => keys.iter().all(|key| key.as_id().is_some()),
        _ => true,
    }
}

//! Sets that live in junction collections: rows that come and go, written as plain rows of their own.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::{
    Done, Outcome, RECORD_COUNT_MAX, Work,
    blame::{Shut, later, no_right, shut, unclear},
    item::Item,
    words,
};
use crate::{
    mapping::DirectusField,
    model::{FieldNo, SideKey},
    remote::directus::{Action, Error, Row, text},
};

/// A junction collection.
struct Junction<'a> {
    field: FieldNo,
    table: &'a str,
    key: &'a str,
    parent: &'a str,
    element: &'a str,
}

/// A row that is to be there.
#[derive(Clone)]
struct Pair {
    at: usize,
    parent: String,
    element: Json,
    /// Other columns, as the row held them when the element left.
    columns: Option<Map<String, Json>>,
}

/// What became of the items whose sets could not be changed.
type Failed = HashMap<usize, Outcome>;

impl Work<'_> {
    /// Changes the sets of records that are there. What is there already, or gone already, stays: a change may be
    /// sent twice.
    pub(super) async fn change_sets(&self, items: &[Item]) -> Done {
        let mut failed = Failed::new();
        let Some(operation) = items.first().map(|item| item.operation) else { return Vec::new() };
        for (at, field) in self.entity.fields.iter().enumerate() {
            let (Some(DirectusField::Junction { table, key, parent, element, .. }), Ok(at)) =
                (&field.directus, u16::try_from(at))
            else {
                continue;
            };
            let junction = Junction { field: FieldNo(at), table, key, parent, element };
            if let Err(shut) = self.change(operation, &junction, items, &mut failed).await {
                let outcome = self.told(shut);
                for item in items.iter().filter(|item| !item.sets.is_empty()) {
                    failed.entry(item.at).or_insert_with(|| outcome.clone());
                }
                break;
            }
        }
        let outcome = |item: &Item| {
            let key = item.made.as_deref().map(SideKey::from);
            let outcome = failed.remove(&item.at).unwrap_or(Outcome::Taken { key });
            (item.at, outcome)
        };
        items.iter().map(outcome).collect()
    }

    /// # Errors
    /// It is no row's fault.
    async fn change(
        &self,
        operation: Uuid,
        junction: &Junction<'_>,
        items: &[Item],
        failed: &mut Failed,
    ) -> Result<(), Shut> {
        let (mut pairs, mut keys) = (Vec::new(), Vec::new());
        for item in items {
            for set in item.sets.iter().filter(|set| set.field == junction.field) {
                let pair = |(element, columns): &(Json, Option<Map<String, Json>>)| Pair {
                    at: item.at,
                    parent: item.key.clone(),
                    element: element.clone(),
                    columns: columns.clone(),
                };
                pairs.extend(set.add.iter().map(pair));
                keys.extend(set.remove.iter().map(|key| (item.at, key.clone())));
            }
        }
        let held = self.held(junction, &pairs).await?;
        pairs.retain(|pair| {
            let element = text(&pair.element).unwrap_or_default();
            !held.contains(&(pair.parent.clone(), element))
        });
        let mut queue: Vec<Vec<Pair>> = pairs.chunks(RECORD_COUNT_MAX).map(<[_]>::to_vec).collect();
        while let Some(pairs) = queue.pop() {
            if let Err(error) = self.add(operation, junction, &pairs).await {
                self.not_added(&error, junction, &pairs, &mut queue, failed).await?;
            }
        }
        for keys in keys.chunks(RECORD_COUNT_MAX) {
            self.remove(operation, junction, keys, failed).await?;
        }
        Ok(())
    }

    /// The pairs that there are of these parents.
    async fn held(
        &self,
        junction: &Junction<'_>,
        pairs: &[Pair],
    ) -> Result<HashSet<(String, String)>, Shut> {
        let mut parents: Vec<&str> = pairs.iter().map(|pair| pair.parent.as_str()).collect();
        parents.dedup();
        let mut held = HashSet::new();
        for parents in parents.chunks(RECORD_COUNT_MAX) {
            let Junction { table, key, parent, element, .. } = *junction;
            let filter = json!({ parent: { "_in": parents } });
            let rows = self.push.client.rows(table, key, &[parent, element], &filter).await;
            let rows = match rows {
                Ok(rows) => rows,
                Err(error) if error.is("FORBIDDEN") => return Err(no_right(table, Action::Read)),
                Err(error) => return Err(unclear(&error)),
            };
            let pair = |row: &Json| Some((text(&row[parent])?, text(&row[element])?));
            held.extend(rows.iter().filter_map(pair));
        }
        Ok(held)
    }

    async fn add(
        &self,
        operation: Uuid,
        junction: &Junction<'_>,
        pairs: &[Pair],
    ) -> Result<(), Error> {
        let rows = pairs.iter().map(|pair| {
            let mut row = Row::default();
            for (column, value) in pair.columns.iter().flatten() {
                row.set(column, value.clone());
            }
            row.set(junction.parent, json!(pair.parent));
            row.set(junction.element, pair.element.clone());
            row
        });
        let rows: Vec<Row> = rows.collect();
        self.push.client.create(operation, junction.table, junction.key, &rows).await.map(drop)
    }

    async fn not_added(
        &self,
        error: &Error,
        junction: &Junction<'_>,
        pairs: &[Pair],
        queue: &mut Vec<Vec<Pair>>,
        failed: &mut Failed,
    ) -> Result<(), Shut> {
        if let Some(shut) = shut(error) {
            return Err(shut);
        }
        let is_forbidden = error.is("FORBIDDEN");
        if (is_forbidden || pairs.len() == 1) && pairs.iter().any(|pair| pair.columns.is_some()) {
            // The element matters more than what its row held: a column may be gone, or not ours to write.
            if is_forbidden {
                self.tell(words::columns_forbidden(junction.table));
            }
            let bare = pairs.iter().map(|pair| Pair { columns: None, ..pair.clone() });
            queue.push(bare.collect());
            return Ok(());
        }
        if is_forbidden {
            return Err(no_right(junction.table, Action::Create));
        }
        if error.is("INTERNAL_SERVER_ERROR") {
            self.push.client.me().await.map_err(|error| unclear(&error))?;
        }
        if let [one] = pairs {
            let outcome = if error.is("INVALID_FOREIGN_KEY") {
                later()
            } else {
                let code = error.fault().map_or("no reason given", |fault| fault.code.as_str());
                let (code, reason) = words::set_refused(self.entity, junction.field, code);
                Outcome::Refused { field: Some(junction.field), code, reason }
            };
            failed.insert(one.at, outcome);
            return Ok(());
        }
        let (first, second) = pairs.split_at(pairs.len() / 2);
        queue.push(second.to_vec());
        queue.push(first.to_vec());
        Ok(())
    }

    async fn remove(
        &self,
        operation: Uuid,
        junction: &Junction<'_>,
        keys: &[(usize, String)],
        failed: &mut Failed,
    ) -> Result<(), Shut> {
        let client = &self.push.client;
        let all: Vec<&str> = keys.iter().map(|(_, key)| key.as_str()).collect();
        let mut refusal = match client.delete(operation, junction.table, &all).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if let Some(shut) = shut(&refusal) {
            return Err(shut);
        }
        if refusal.is("FORBIDDEN") {
            // One that is gone is refused as well.
            let there = client.existing(junction.table, junction.key, &all).await;
            let there = there.map_err(|_| no_right(junction.table, Action::Read))?;
            if there.is_empty() {
                return Ok(());
            }
            if there.len() == all.len() {
                return Err(no_right(junction.table, Action::Delete));
            }
            let there: Vec<&str> = there.iter().map(String::as_str).collect();
            refusal = match client.delete(operation, junction.table, &there).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is("FORBIDDEN") => {
                    return Err(no_right(junction.table, Action::Delete));
                }
                Err(error) => error,
            };
        }
        if let Some(shut) = shut(&refusal) {
            return Err(shut);
        }
        let code = refusal.fault().map_or("no reason given", |fault| fault.code.as_str());
        for (at, _) in keys {
            let (code, reason) = words::set_refused(self.entity, junction.field, code);
            let field = Some(junction.field);
            failed.insert(*at, Outcome::Refused { field, code, reason });
        }
        Ok(())
    }

    /// Tells a person, if one has to do something.
    fn told(&self, shut: Shut) -> Outcome {
        let Shut { outcome, trouble } = shut;
        if let Some(trouble) = trouble {
            self.tell(trouble);
        }
        outcome
    }
}

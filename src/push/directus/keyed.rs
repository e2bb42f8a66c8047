//! Records whose keys are not ours to give: what is not sent to Directus, and what becomes of a create at which Directus
//! fails by itself, or which it refuses without a reason.

use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};

use super::{
    DirectusPush, Done, Keys, Outcome, Work,
    blame::{Shut, refused},
    item::{self, Item, Stage},
    words,
};
use crate::{
    mapping::{Entity, KeyGiver},
    remote::directus::Error,
};

/// What collections say of noting their changes serves for this long.
const SILENT_AGE_MAX: Duration = Duration::from_mins(1);

impl DirectusPush {
    /// The outcome of a write that is not sent.
    pub(super) fn not_sent(&self, item: &Item, entity: &Entity) -> Option<Outcome> {
        let key = entity.directus.as_ref()?.key.as_str();
        let is_create = item.stage == Stage::Create;
        if is_create && item.giver.is_none() {
            return Some(Outcome::Unanswered);
        }
        let is_persons = matches!(item.giver, Some(KeyGiver::Person(_)));
        if item.cell(key).is_some() && !(is_create && is_persons) {
            let (code, reason) = words::key_is_fixed(entity, key, is_persons);
            return Some(Outcome::Refused { field: item::field_of(entity, key), code, reason });
        }
        if !item.has_other_key() {
            return None;
        }
        let said = match item.giver {
            Some(KeyGiver::Nobody) => words::key_unmapped(entity, key),
            Some(KeyGiver::Person(_)) if item.lacks(key) => words::key_empty(entity, key),
            _ if !self.are_authors_told() => words::key_unseen(entity),
            _ => return None,
        };
        Some(refused(said))
    }
}

impl Work<'_> {
    /// Leaves out creates whose rows the log would not show as ours, since the collection does not note its changes.
    pub(super) async fn only_seen(&self, items: Vec<Item>, done: &mut Done) -> Vec<Item> {
        let Some(keys) = &self.push.keys else { return items };
        if !items.iter().any(Item::has_other_key) || !self.is_silent(keys).await {
            return items;
        }
        let said = words::key_unnoted(self.entity);
        let (unseen, rest): (Vec<Item>, Vec<Item>) =
            items.into_iter().partition(Item::has_other_key);
        done.extend(unseen.into_iter().map(|item| (item.at, refused(said.clone()))));
        rest
    }

    async fn is_silent(&self, keys: &Keys) -> bool {
        let mut silent = keys.silent.lock().await;
        if silent.as_ref().is_none_or(|(at, _)| at.elapsed() > SILENT_AGE_MAX) {
            // Without the right to ask, it is taken for the default, which is to note them.
            let found = super::preflight::silent(&self.push.client).await.unwrap_or_default();
            *silent = Some((Instant::now(), found.into_iter().collect()));
        }
        silent.as_ref().is_some_and(|(_, names)| names.contains(&self.table.table))
    }

    /// What becomes of a create under a key that is not ours when Directus fails by itself: it may have made the record
    /// all the same, and only the log tells.
    pub(super) fn failed(&self, item: &Item, error: &Error) -> Outcome {
        let Some(keys) = &self.push.keys else { return Outcome::Unanswered };
        let mut failed = keys.failed.lock().unwrap_or_else(PoisonError::into_inner);
        // The second time: it was not made by the first try, and fails again for the same reason.
        if failed.remove(&item.operation) {
            return self.as_a_whole(error);
        }
        failed.insert(item.operation);
        Outcome::Unanswered
    }
    /// What becomes of a create that is refused without naming a field. A part of it that goes through is the record:
    /// what that leaves out is owed once the log shows its key, and found at fault then.
    pub(super) async fn make_in_part(&self, item: &Item, error: &Error) -> Result<Outcome, Shut> {
        let (first, second) = item.cells.split_at(item.cells.len() / 2);
        for half in [first, second] {
            let mut sent = half.to_vec();
            let has_key = half.iter().any(|cell| cell.column == self.table.key);
            sent.extend(item.cell(&self.table.key).filter(|_| !has_key).cloned());
            if sent.len() < item.cells.len()
                && self.attempt(item, Stage::Create, &sent).await?.is_none()
            {
                return Ok(Outcome::Taken { key: None });
            }
        }
        Ok(self.as_a_whole(error))
    }
}

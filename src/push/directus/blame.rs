//! A batch that was refused: whose fault it is, as far as Directus tells, and what becomes of the others.

use std::time::Duration;

use tracing::debug;

use super::{
    Done, Outcome, Work,
    item::{self, Item, Stage},
    words::{self, Said},
};
use crate::{
    push::trouble::Trouble,
    remote::directus::{Action, Error, Fault},
};

/// When a person has to see to something first, it is tried again after this long.
const TROUBLE_PAUSE: Duration = Duration::from_mins(1);
/// A server that is not there, and a parent that is not there yet.
const PAUSE: Duration = Duration::from_secs(2);

/// A refusal that is no record's fault.
pub(super) struct Shut {
    pub(super) outcome: Outcome,
    pub(super) trouble: Option<Trouble>,
}

/// What an error says about the whole of Directus; `None`: it is about the records.
pub(super) fn shut(error: &Error) -> Option<Shut> {
    let later =
        |after, trouble| Some(Shut { outcome: Outcome::Later { after: Some(after) }, trouble });
    match error {
        Error::Unreachable { .. } | Error::Shut { .. } => later(PAUSE, None),
        Error::Busy { pause, .. } => later(*pause, None),
        Error::Unauthorized { .. } => later(TROUBLE_PAUSE, Some(words::token_refused())),
        Error::NotDirectus { problem, .. } => {
            let trouble = Some(words::not_directus(problem));
            Some(Shut { outcome: Outcome::Unanswered, trouble })
        }
        Error::TimedOut { .. }
        | Error::Cut { .. }
        | Error::Server { .. }
        | Error::Malformed { .. } => Some(Shut { outcome: Outcome::Unanswered, trouble: None }),
        Error::Rejected { faults, .. } => {
            let is_elsewhere = faults.iter().any(|fault| fault.code == "ROUTE_NOT_FOUND");
            if !is_elsewhere {
                return None;
            }
            later(
                TROUBLE_PAUSE,
                Some(words::not_directus("it knows no such collection to write to")),
            )
        }
    }
}

pub(super) fn is_required(fault: &Fault) -> bool {
    matches!(fault.rule.as_deref(), Some("required" | "nnull" | "submitted"))
}

pub(super) fn refused(said: Said) -> Outcome {
    let (code, reason) = said;
    Outcome::Refused { field: None, code, reason }
}

impl Work<'_> {
    /// Outcomes for those whose fault is known, the others back to the queue. The answer: an outcome that all who are
    /// still to be sent share.
    pub(super) async fn sort_out(
        &self,
        error: &Error,
        items: Vec<Item>,
        queue: &mut Vec<Vec<Item>>,
        done: &mut Done,
    ) -> Option<Outcome> {
        debug!(item_count = items.len(), %error, "a batch was refused");
        let sorted = match shut(error) {
            Some(shut) => Err(shut),
            None => self.take_apart(error, &items, queue, done).await,
        };
        match sorted {
            Ok(()) => {
                self.push.trouble.set(None);
                None
            }
            Err(Shut { outcome, trouble }) => {
                if !matches!(error, Error::Busy { .. }) {
                    self.push.trouble.set(Some(error.chain()));
                }
                if let Some(trouble) = trouble {
                    self.tell(trouble);
                }
                done.extend(items.into_iter().map(|item| (item.at, outcome.clone())));
                Some(outcome)
            }
        }
    }

    /// # Errors
    /// It is no record's fault.
    async fn take_apart(
        &self,
        error: &Error,
        items: &[Item],
        queue: &mut Vec<Vec<Item>>,
        done: &mut Done,
    ) -> Result<(), Shut> {
        let (Some(fault), Some(stage)) = (error.fault(), items.first().map(|item| item.stage))
        else {
            return Ok(());
        };
        let has_other_key = items.iter().any(Item::has_other_key);
        if let ([one], true) = (items, has_other_key && error.is_servers()) {
            done.push((one.at, self.failed(one, error)));
            return Ok(());
        }
        let sorted = match fault.code.as_str() {
            "FORBIDDEN" => self.forbidden(items, queue, done).await?,
            // Of a user that is there already, the e-mail address is blamed first.
            // Under a key that is not ours, it is somebody else's record.
            "RECORD_NOT_UNIQUE" if stage == Stage::Create && !has_other_key => {
                self.created_before(items, queue).await?
            }
            _ if is_required(fault) => self.incomplete(error, items, queue, done),
            "INTERNAL_SERVER_ERROR" => {
                // While its database is away, all fare the same.
                let me = self.push.client.me().await;
                me.map_err(|error| unclear(&error))?;
                false
            }
            _ => false,
        };
        if sorted {
            return Ok(());
        }
        if let [one] = items {
            let outcome = self.search(one, error).await?;
            done.push((one.at, outcome));
        } else {
            let (first, second) = items.split_at(items.len() / 2);
            queue.push(second.to_vec());
            queue.push(first.to_vec());
        }
        Ok(())
    }

    /// Creates that went through before, without our knowing: they are updated.
    async fn created_before(
        &self,
        items: &[Item],
        queue: &mut Vec<Vec<Item>>,
    ) -> Result<bool, Shut> {
        let there = self.there(items).await.map_err(|error| unclear(&error))?;
        if there.is_empty() {
            return Ok(false);
        }
        let (mut old, new): (Vec<Item>, Vec<Item>) =
            items.iter().cloned().partition(|item| there.contains(&item.key));
        for item in &mut old {
            item.stage = Stage::Update;
        }
        queue.push(new);
        queue.push(old);
        Ok(true)
    }

    /// Items that lack a value that is needed.
    fn incomplete(
        &self,
        error: &Error,
        items: &[Item],
        queue: &mut Vec<Vec<Item>>,
        done: &mut Done,
    ) -> bool {
        let Error::Rejected { faults, .. } = error else { return false };
        let needed: Vec<(&Fault, &String)> = faults
            .iter()
            .filter(|fault| is_required(fault))
            .filter_map(|fault| Some((fault, fault.fields.first()?)))
            .collect();
        let (mut rest, mut is_any) = (Vec::new(), false);
        for item in items {
            match needed.iter().find(|(_, column)| item.lacks(column)) {
                Some((fault, column)) => {
                    is_any = true;
                    done.push((item.at, self.refused_field(column, fault)));
                }
                None => rest.push(item.clone()),
            }
        }
        if is_any {
            queue.push(rest);
        }
        is_any
    }

    pub(super) fn refused_field(&self, column: &str, fault: &Fault) -> Outcome {
        let (code, reason) = words::refusal(self.entity, column, fault);
        Outcome::Refused { field: item::field_of(self.entity, column), code, reason }
    }

    /// 403: a right that is missing, or a record.
    async fn forbidden(
        &self,
        items: &[Item],
        queue: &mut Vec<Vec<Item>>,
        done: &mut Done,
    ) -> Result<bool, Shut> {
        let Some(stage) = items.first().map(|item| item.stage) else { return Ok(true) };
        let action = stage.action();
        let collection = &self.table.table;
        let rights = self.push.client.rights().await.map_err(|error| unclear(&error))?;
        for needed in [action, Action::Read] {
            if !rights.has(collection, needed) {
                return Err(no_right(collection, needed));
            }
        }
        let gives_key = stage == Stage::Create && !items.iter().any(Item::has_other_key);
        if gives_key && !rights.has_field(collection, action, &self.table.key) {
            return Err(no_right(collection, action));
        }
        let mut rest = Vec::new();
        for item in items {
            let cell = item.cells.iter().find(|cell| {
                stage != Stage::Delete && !rights.has_field(collection, action, &cell.column)
            });
            match cell {
                Some(cell) => {
                    let (code, reason) = words::field_forbidden(self.entity, &cell.column, action);
                    let field = Some(cell.field);
                    done.push((item.at, Outcome::Refused { field, code, reason }));
                }
                None => rest.push(item.clone()),
            }
        }
        if rest.len() < items.len() {
            queue.push(rest);
            return Ok(true);
        }
        if stage != Stage::Create {
            let there = self.there(items).await.map_err(|error| unclear(&error))?;
            let (rest, gone): (Vec<Item>, Vec<Item>) =
                rest.into_iter().partition(|item| there.contains(&item.key));
            if !gone.is_empty() {
                done.extend(gone.into_iter().map(|item| (item.at, Outcome::Gone)));
                queue.push(rest);
                return Ok(true);
            }
        }
        if let [one] = items {
            done.push((one.at, refused(words::record_forbidden(self.entity, action))));
            return Ok(true);
        }
        Ok(false)
    }
}

pub(super) fn no_right(collection: &str, action: Action) -> Shut {
    let trouble = Some(words::collection_forbidden(collection, action));
    Shut { outcome: Outcome::Later { after: Some(TROUBLE_PAUSE) }, trouble }
}

/// A parent is not there yet.
pub(super) fn later() -> Outcome {
    Outcome::Later { after: Some(PAUSE) }
}

/// A question that was to explain a refusal failed as well: nothing of the batch was written.
pub(super) fn unclear(error: &Error) -> Shut {
    shut(error).unwrap_or(Shut { outcome: later(), trouble: None })
}

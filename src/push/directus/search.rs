//! A single record that Directus refuses. The field that Directus names is checked by sending the record without it:
//! for a value that is too long or too large, Directus names the first column of the statement, whichever is at fault.
//! Where it names none, or a wrong one, the cell at fault is found by halves.

use std::time::Duration;

use tokio::time::sleep;

use super::{
    Outcome, Work,
    blame::{Shut, is_required, later, refused, shut},
    item::{Item, Sent, Stage},
    words,
};
use crate::remote::directus::{Error, Fault, Row};

/// Before a record that made Directus fail is tried once more.
const SECOND_TRY_PAUSE: Duration = Duration::from_millis(300);

impl Work<'_> {
    /// What becomes of a single record that was refused with `error`.
    ///
    /// # Errors
    /// It is not the record's fault.
    pub(super) async fn search(&self, item: &Item, error: &Error) -> Result<Outcome, Shut> {
        if let Some(outcome) = self.named(item, error).await? {
            return Ok(outcome);
        }
        if item.has_other_key() {
            return self.make_in_part(item, error).await;
        }
        let mut again = None;
        if error.is("INTERNAL_SERVER_ERROR") {
            sleep(SECOND_TRY_PAUSE).await;
            match self.request(std::slice::from_ref(item)).await {
                Ok(_) => {
                    return Ok(self
                        .change_sets(std::slice::from_ref(item))
                        .await
                        .pop()
                        .map_or(Outcome::Taken { key: None }, |(_, outcome)| outcome));
                }
                Err(error) => again = Some(self.about_it(error)?),
            }
        }
        let error = again.as_ref().unwrap_or(error);
        if item.stage == Stage::Delete {
            return Ok(refused(words::still_linked(self.entity)));
        }
        if again.is_some()
            && let Some(outcome) = self.named(item, error).await?
        {
            return Ok(outcome);
        }
        let Some(mut suspects) = self.begin(item).await? else { return Ok(self.as_a_whole(error)) };
        while suspects.len() > 1 {
            let rest = suspects.split_off(suspects.len() / 2);
            if self.attempt(item, Stage::Update, &suspects).await?.is_none() {
                suspects = rest;
            }
        }
        let Some(last) = suspects.pop() else { return Ok(self.as_a_whole(error)) };
        match self.attempt(item, Stage::Update, std::slice::from_ref(&last)).await? {
            // Refused together only.
            None => Ok(self.as_a_whole(error)),
            Some(error) if error.is("INVALID_FOREIGN_KEY") => Ok(later()),
            Some(error) => Ok(self.refused_cell(&last, &error)),
        }
    }

    /// The cells among which the fault is, of a record that is there by now; `None`: it cannot be made at all.
    async fn begin(&self, item: &Item) -> Result<Option<Vec<Sent>>, Shut> {
        if item.stage == Stage::Update {
            return Ok(Some(item.cells.clone()));
        }
        let (first, second) = item.cells.split_at(item.cells.len() / 2);
        for (sent, suspects) in [(first, second), (second, first)] {
            if self.attempt(item, Stage::Create, sent).await?.is_none() {
                return Ok(Some(suspects.to_vec()));
            }
        }
        // Each half has a cell at fault, or one that the record cannot be made without: begin with the latter alone.
        let (mut needed, mut suspects) = (Vec::new(), item.cells.clone());
        loop {
            let Some(error) = self.attempt(item, Stage::Create, &needed).await? else {
                return Ok(Some(suspects));
            };
            let Error::Rejected { faults, .. } = &error else { return Ok(None) };
            let is_missing = |cell: &mut Sent| {
                faults
                    .iter()
                    .any(|fault| is_about_null(fault) && fault.fields.contains(&cell.column))
            };
            let missing: Vec<Sent> = suspects.extract_if(.., is_missing).collect();
            if missing.is_empty() {
                return Ok(None);
            }
            needed.extend(missing);
        }
    }

    /// Sends some of the item's cells; `Some`: why they were refused.
    pub(super) async fn attempt(
        &self,
        item: &Item,
        stage: Stage,
        cells: &[Sent],
    ) -> Result<Option<Error>, Shut> {
        // The log shows this request by itself; what it leaves out is not to be taken for the side's word.
        if cells.len() < item.cells.len()
            && !self.parts.note(self.no, vec![(item.operation, item.record)]).await
        {
            return Err(Shut { outcome: later(), trouble: None });
        }
        let (client, table) = (&self.push.client, self.table);
        let rows: [Row; 1] = [item.row_of(table, stage, cells)];
        let (collection, key) = (&table.table, &table.key);
        let sent = match stage {
            Stage::Create => client.create(item.operation, collection, key, &rows).await,
            _ => client.update(item.operation, collection, key, &rows).await,
        };
        match sent {
            Ok(_) => Ok(None),
            Err(error) => self.about_it(error).map(Some),
        }
    }

    /// The error, if it is about the record.
    fn about_it(&self, error: Error) -> Result<Error, Shut> {
        match shut(&error) {
            Some(shut) => Err(shut),
            None => Ok(error),
        }
    }

    /// The outcome where Directus names the field and is right, or where waiting cures it.
    async fn named(&self, item: &Item, error: &Error) -> Result<Option<Outcome>, Shut> {
        if error.is("INVALID_FOREIGN_KEY") {
            return Ok(Some(later()));
        }
        let Error::Rejected { faults, .. } = error else { return Ok(None) };
        let named: Vec<(&Sent, &Fault)> = faults
            .iter()
            .filter_map(|fault| {
                Some((fault.fields.iter().find_map(|column| item.cell(column))?, fault))
            })
            .collect();
        let Some((cell, fault)) = named.first() else {
            // A field that is needed, and that nothing is mapped to.
            let fault = faults.iter().find(|fault| !is_guess(fault));
            return Ok(
                fault.and_then(|fault| Some(self.refused_field(fault.fields.first()?, fault)))
            );
        };
        let others: Vec<Sent> = item
            .cells
            .iter()
            .filter(|cell| named.iter().all(|(it, _)| it.column != cell.column))
            .cloned()
            .collect();
        let is_right = others.is_empty()
            || match self.attempt(item, item.stage, &others).await? {
                None => true,
                // The record cannot be without it.
                Some(Error::Rejected { faults, .. }) => faults
                    .iter()
                    .any(|fault| is_about_null(fault) && fault.fields.contains(&cell.column)),
                Some(_) => false,
            };
        Ok(is_right.then(|| self.refused_field(&cell.column, fault)))
    }

    fn refused_cell(&self, cell: &Sent, error: &Error) -> Outcome {
        let fault = error.fault().cloned().unwrap_or_default();
        let (code, reason) = words::refusal(self.entity, &cell.column, &fault);
        Outcome::Refused { field: Some(cell.field), code, reason }
    }

    pub(super) fn as_a_whole(&self, error: &Error) -> Outcome {
        let code = error.fault().map_or("no reason given", |fault| fault.code.as_str());
        refused(words::record_refused(self.entity, code))
    }
}

/// Whether the column that Directus names is only the first one of the statement: Postgres does not tell which it is.
fn is_guess(fault: &Fault) -> bool {
    matches!(fault.code.as_str(), "VALUE_TOO_LONG" | "VALUE_OUT_OF_RANGE")
}

/// Whether the fault is that the field is empty, or left out.
fn is_about_null(fault: &Fault) -> bool {
    is_required(fault)
        || matches!(fault.code.as_str(), "NOT_NULL_VIOLATION" | "CONTAINS_NULL_VALUES")
}

//! A single record that Directus refuses: the field that it names, else the cell at fault is tried by halves.

use std::time::Duration;

use tokio::time::sleep;

use super::{
    Outcome, Work,
    blame::{Shut, later, refused, shut},
    item::{Item, Sent, Stage},
    words,
};
use crate::remote::directus::{Error, Row};

/// Before a record that made Directus fail is tried once more.
const SECOND_TRY_PAUSE: Duration = Duration::from_millis(300);

impl Work<'_> {
    /// What becomes of a single record that was refused with `error`.
    ///
    /// # Errors
    /// It is not the record's fault.
    pub(super) async fn search(&self, item: &Item, error: &Error) -> Result<Outcome, Shut> {
        if let Some(outcome) = self.named(item, error) {
            return Ok(outcome);
        }
        let mut again = None;
        if error.is("INTERNAL_SERVER_ERROR") {
            sleep(SECOND_TRY_PAUSE).await;
            match self.request(std::slice::from_ref(item)).await {
                Ok(()) => {
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
        if let Some(outcome) = self.named(item, error) {
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
            Some(error) => Ok(self.named(item, &error).unwrap_or_else(|| {
                let fault = error.fault().cloned().unwrap_or_default();
                let (code, reason) = words::refusal(self.entity, &last.column, &fault);
                Outcome::Refused { field: Some(last.field), code, reason }
            })),
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
        Ok(None)
    }

    /// Sends some of the item's cells; `Some`: why they were refused.
    async fn attempt(
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

    /// The outcome where Directus names the field, or waiting cures it.
    fn named(&self, item: &Item, error: &Error) -> Option<Outcome> {
        if error.is("INVALID_FOREIGN_KEY") {
            return Some(later());
        }
        let Error::Rejected { faults, .. } = error else { return None };
        let named = faults.iter().find_map(|fault| {
            let column = fault.fields.iter().find(|column| item.cell(column).is_some())?;
            Some(self.refused_field(column, fault))
        });
        // A field that is needed, and that nothing is mapped to.
        named.or_else(|| {
            let fault = faults.iter().find(|fault| fault.code != "VALUE_TOO_LONG")?;
            Some(self.refused_field(fault.fields.first()?, fault))
        })
    }

    fn as_a_whole(&self, error: &Error) -> Outcome {
        let code = error.fault().map_or("no reason given", |fault| fault.code.as_str());
        refused(words::record_refused(self.entity, code))
    }
}

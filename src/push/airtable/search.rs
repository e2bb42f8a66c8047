//! The cell at fault in a record that Airtable refuses without naming it: tried by halves.

use super::{
    Work,
    blame::{self, Blame, Verdict, Why},
    item::{self, Item, Sent, Stage},
    words,
};
use crate::{push::Outcome, remote::airtable::Error};

/// What came of a trial.
enum Trial {
    Taken,
    Refused(Error),
    /// Nothing was learnt: the record gets this outcome.
    Cut(Outcome),
}

impl Work<'_> {
    /// What becomes of a single record that was refused with `error`.
    pub(super) async fn search(&self, stage: Stage, item: Item, error: &Error) -> Outcome {
        match stage {
            Stage::Delete => return self.is_there(&item, error).await,
            Stage::Create if !blame::is_about_a_cell(error) => match self.same_id(&item).await {
                Ok(None) => {}
                Ok(Some(outcome)) => return outcome,
                Err(error) => return self.outcome_of(&error, stage, &item).await,
            },
            Stage::Create | Stage::Update | Stage::Options => {}
        }
        let mut suspects: Vec<Sent> = item.sent(stage).to_vec();
        let mut was_taken_in_part = false;
        while suspects.len() > 1 {
            let rest = suspects.split_off(suspects.len() / 2);
            match self.attempt(stage, &item, suspects.clone()).await {
                Trial::Taken => {
                    was_taken_in_part = true;
                    suspects = rest;
                }
                Trial::Refused(_) => {}
                Trial::Cut(outcome) => return outcome,
            }
        }
        let Some(last) = suspects.pop() else { return self.as_a_whole(error) };
        match self.attempt(stage, &item, vec![last.clone()]).await {
            Trial::Cut(outcome) => outcome,
            // Refused together only.
            Trial::Taken => self.as_a_whole(error),
            Trial::Refused(error) => {
                let alone = item.with(stage, vec![last.clone()]);
                let named = match self.judge(&error, stage, std::slice::from_ref(&alone)).await {
                    Verdict::Known(guilty) => guilty.into_iter().next().map(|(_, blame)| blame),
                    _ => None,
                };
                match named {
                    Some(Blame::Gone) => Outcome::Gone,
                    Some(Blame::Cell { id, why }) => self.refused(stage, &alone, &id, why),
                    // A create has its id in it as well: it may be the record.
                    None if stage == Stage::Create
                        && !was_taken_in_part
                        && !blame::is_about_a_cell(&error) =>
                    {
                        self.as_a_whole(&error)
                    }
                    None => {
                        let option = error.kind() == Some("INVALID_MULTIPLE_CHOICE_OPTIONS");
                        let why = if option { Why::MissingOption } else { Why::Value };
                        self.refused(stage, &alone, &last.id, why)
                    }
                }
            }
        }
    }

    /// Sends some of the item's cells.
    async fn attempt(&self, stage: Stage, item: &Item, cells: Vec<Sent>) -> Trial {
        if let Some(outcome) = self.push.held_up(&self.place.base) {
            return Trial::Cut(outcome);
        }
        if cells.len() < item.cells.len() + item.new_options.len()
            && let Err(outcome) = self.note_parts(item).await
        {
            return Trial::Cut(outcome);
        }
        let trial = [item.with(stage, cells)];
        match item::request(&self.push.client, &self.place, stage, &trial).await {
            Ok(_) => Trial::Taken,
            Err(error @ (Error::Refused { .. } | Error::NotFound { .. })) => Trial::Refused(error),
            Err(error) => Trial::Cut(self.outcome_of(&error, stage, item).await),
        }
    }

    /// Whether several records carry this one's id, so that an upsert does not know which one is meant.
    async fn same_id(&self, item: &Item) -> Result<Option<Outcome>, Error> {
        let Some(uuid) = &self.place.uuid else { return Ok(None) };
        let (base, table) = (&self.place.base, &self.place.table);
        let id = item.record.to_string();
        let found = self.push.client.find_records(base, table, uuid, &id).await?;
        let keys: Vec<&str> = found.iter().map(|record| record.id.as_str()).collect();
        if keys.len() < 2 {
            return Ok(None);
        }
        let (code, reason) = words::same_id(self.push.mapping.entity(self.entity), &keys);
        Ok(Some(Outcome::Refused { field: None, code, reason }))
    }

    /// A delete that was refused: because the record is gone already?
    async fn is_there(&self, item: &Item, error: &Error) -> Outcome {
        let (base, table) = (&self.place.base, &self.place.table);
        let Some(key) = &item.key else { return Outcome::Gone };
        match self.push.client.get_record(base, table, key).await {
            Ok(None) => Outcome::Gone,
            Ok(Some(_)) => self.as_a_whole(error),
            Err(error) => self.outcome_of(&error, Stage::Delete, item).await,
        }
    }

    fn as_a_whole(&self, error: &Error) -> Outcome {
        let kind = error.kind().unwrap_or("no reason given");
        let (code, reason) = words::record_refused(self.push.mapping.entity(self.entity), kind);
        Outcome::Refused { field: None, code, reason }
    }

    /// The outcome of an error that is no refusal.
    async fn outcome_of(&self, error: &Error, stage: Stage, item: &Item) -> Outcome {
        match self.judge(error, stage, std::slice::from_ref(item)).await {
            Verdict::All { outcome, trouble } => {
                if let Some(trouble) = trouble {
                    self.tell(trouble);
                }
                outcome
            }
            _ => self.as_a_whole(error),
        }
    }
}

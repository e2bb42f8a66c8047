//! What people have decided: each command is one transaction of its own, by the person who made it, and is marked as
//! done in it.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Apply, Error, resolve::Keys};
use crate::{
    merge::{Decided, decide},
    model::{Decision, Delivery, EntityNo, FieldNo, RecordId, Value},
    store::{CommandRow, TransactionRow, VerdictRow, Writes, YesRow},
};

impl Apply {
    /// Carries out these alone, where no plait runs that would: what people have decided, and what was read again.
    pub(crate) async fn carry_out(mut self, deliveries: Vec<Delivery>) -> Result<(), Error> {
        for delivery in deliveries {
            match delivery {
                Delivery::Decided { command, at, author, decisions } => {
                    self.settle().await?;
                    self.apply_decided(command, at, &author, &decisions).await?;
                }
                other => self.apply_batch(vec![other]).await?,
            }
        }
        self.settle().await?;
        Ok(())
    }

    /// Carries out a command, once. What cannot be done is said in its outcome; the rest of it is done.
    pub(super) async fn apply_decided(
        &mut self,
        command: i64,
        at: i64,
        author: &str,
        decisions: &[Decision],
    ) -> Result<(), Error> {
        if self.large.is_some() {
            // It becomes visible together with the large transaction under way.
            return self.write_decided(command, at, author, decisions).await;
        }
        self.writer.begin().await?;
        let outcome = async {
            self.write_decided(command, at, author, decisions).await?;
            Ok::<_, Error>(self.writer.commit().await?)
        }
        .await;
        match outcome {
            Ok(()) => {
                self.settling_at = Some(Instant::now());
                self.way_out.nudge_all();
            }
            Err(Error::Store(error)) if error.is_about_data() => {
                // A rule that is checked at the end: nothing of the command is done, and the line goes on.
                drop(self.writer.rollback().await);
                let outcome = Some(super::careful::words(&error, false).1);
                let commands = vec![CommandRow { id: command, outcome }];
                self.writer.begin().await?;
                self.writer.write_part(&Writes { commands, ..Writes::default() }).await?;
                self.writer.commit().await?;
            }
            Err(error) => {
                drop(self.writer.rollback().await);
                return Err(error);
            }
        }
        Ok(())
    }

    async fn write_decided(
        &mut self,
        command: i64,
        at: i64,
        author: &str,
        decisions: &[Decision],
    ) -> Result<(), Error> {
        if self.writer.is_done(command).await? {
            return Ok(());
        }
        self.candidates.forget();
        let stopped = self.writer.stopped().await?;
        let transaction = self.writer.new_transaction_id();
        let transactions = vec![TransactionRow::decided(transaction, at, author)];
        self.writer.write_part(&Writes { transactions, ..Writes::default() }).await?;
        let mut objections = Vec::new();
        for decision in decisions {
            match self.fold_decision(decision, transaction, at, author).await? {
                Err(objection) => objections.push(objection),
                Ok(writes) => match self.writer.write_part(&writes).await {
                    Ok(()) => {}
                    Err(error) if error.is_about_data() => {
                        objections.push(super::careful::words(&error, false).1);
                    }
                    Err(error) => return Err(error.into()),
                },
            }
        }
        let outcome = (!objections.is_empty()).then(|| objections.join("; "));
        let commands = vec![CommandRow { id: command, outcome }];
        self.writer.write_part(&Writes { commands, ..Writes::default() }).await?;
        self.forget_what_is_over(&stopped).await
    }

    /// What a decision asks to write, or in words why nothing is done.
    async fn fold_decision(
        &mut self,
        decision: &Decision,
        transaction: i64,
        at: i64,
        author: &str,
    ) -> Result<Result<Writes, String>, Error> {
        let mapping = Arc::clone(&self.mapping);
        let (name, id) = match decision {
            Decision::Set { entity, record, .. }
            | Decision::Restore { entity, record, .. }
            | Decision::Delete { entity, record }
            | Decision::ApproveDelete { entity, record, .. } => (entity, *record),
            Decision::ApproveChanges { stop, through } => {
                return self.let_through((*stop, *through), author).await;
            }
            // Who is whom: not a matter of one record's state.
            Decision::Join { .. } | Decision::Split { .. } => {
                return self.fold_identity(decision, (transaction, at), author).await;
            }
        };
        let Some(no) = mapping.entities.iter().position(|entity| entity.name == *name) else {
            return Ok(Err(format!("the mapping has no entity `{name}`")));
        };
        let (entity, record) = (EntityNo(u16::try_from(no).unwrap_or(u16::MAX)), RecordId(id));
        let described = mapping.entity(entity);
        let place = |objection| format!("{name} {id}: {objection}");
        let Some(mut state) = self.writer.states(entity, vec![id]).await?.remove(&record) else {
            return Ok(Err(place(String::from("could not be read"))));
        };
        let before = state.clone();
        let Decided { merged, settled, approved } = match decide(described, &mut state, decision) {
            Ok(decided) => decided,
            Err(objection) => return Ok(Err(place(objection.to_string()))),
        };
        let keys = Keys::default();
        let mut writes =
            self.sum_up_decided((entity, record), before, state, (transaction, at), merged, &keys);
        let field_name = |(no, value): (FieldNo, Value)| (described.field(no).name.clone(), value);
        if !settled.is_empty() {
            let conflicts = match decision {
                Decision::Set { settles, .. } => settles.clone(),
                _ => Vec::new(),
            };
            let cells = settled.into_iter().map(field_name).collect();
            let author = author.to_owned();
            writes.verdicts.push(VerdictRow { entity, record, author, cells, conflicts });
        }
        for side in approved {
            let author = author.to_owned();
            writes.yeses.push(YesRow { entity, record, side, author });
        }
        Ok(Ok(writes))
    }
}

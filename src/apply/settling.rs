//! New records that have become quiet: nobody has changed them for as long as their entity waits. Each is looked for
//! once more among the records that its side lacks, by what it holds now, and is then created on the other side.
//!
//! Only here, and not at each value: a value that somebody is still typing may agree with somebody else's. The wait is
//! a row of the outbox, so it survives a restart; what is decided is decided in one transaction with the end of the wait.

use std::collections::BTreeMap;

use tokio::time::Instant;
use tracing::{debug, info};

use super::{
    Apply, Error,
    joined::{Judge, Subject},
};
use crate::{
    identity::{Band, Newcomer, natural_keys},
    merge::RecordState,
    model::{EntityNo, RecordId, Side},
    store::{QuestionRow, QuietRow, TransactionRow, Writes},
};

/// Rows of the outbox that are let go in one transaction.
const ROW_COUNT_MAX: i64 = 1_000;
/// Who joins records, where no person does.
const AUTHOR: &str = "plait";

/// A record that is new on one side, and what it may be.
struct Found {
    record: RecordId,
    /// The side that has it.
    side: Side,
    newcomer: Newcomer,
}

impl Apply {
    /// Whether it is time to look which records have become quiet.
    pub(super) fn is_time_to_settle(&self) -> bool {
        self.large.is_none() && self.settling_at.is_some_and(|at| at <= Instant::now())
    }

    /// Notes that rows of the outbox wait for quiet, the next of them for `settle_s`.
    pub(super) fn note_settling(&mut self, writes: &Writes) {
        let rows = writes.entities.iter().flat_map(|entity| &entity.due);
        let Some(settle_s) = rows.filter_map(|row| row.settle_s).min() else { return };
        let at = Instant::now() + std::time::Duration::from_secs(u64::from(settle_s));
        self.settling_at = Some(self.settling_at.map_or(at, |known| known.min(at)));
    }

    /// Lets records go that have become quiet.
    ///
    /// # Errors
    /// When the canonical database fails; they wait on then.
    pub(super) async fn let_quiet_go(&mut self) -> Result<(), Error> {
        drop(self.settle().await?);
        let rows = self.writer.quiet_rows(ROW_COUNT_MAX).await?;
        if !rows.is_empty() {
            self.writer.begin().await?;
            let outcome = async {
                self.match_quiet(&rows).await?;
                let writes = Writes { quiet: rows.clone(), ..Writes::default() };
                self.writer.write_part(&writes).await?;
                Ok::<_, Error>(self.writer.commit().await?)
            }
            .await;
            if let Err(error) = outcome {
                self.candidates.forget();
                drop(self.writer.rollback().await);
                return Err(error);
            }
            debug!(row_count = rows.len(), "records have become quiet");
            self.way_out.nudge_all();
        }
        let quiet_in = self.writer.quiet_in().await?;
        self.settling_at = quiet_in.map(|after| Instant::now() + after);
        Ok(())
    }

    /// Joins those that are surely a record of the other side, and asks of those that may be.
    async fn match_quiet(&mut self, rows: &[QuietRow]) -> Result<(), Error> {
        let mut by_pair: BTreeMap<(EntityNo, Side), Vec<RecordId>> = BTreeMap::new();
        for row in rows {
            let home = Side::ALL.into_iter().find(|side| *side != row.side);
            if let Some(home) = home.filter(|home| self.may_match(*home, row.entity)) {
                by_pair.entry((row.entity, home)).or_default().push(row.record);
            }
        }
        let mut transaction = None;
        for ((entity, side), records) in by_pair {
            let found = self.quiet_newcomers(entity, side, &records).await?;
            if found.is_empty() {
                continue;
            }
            self.load_candidates((side, entity)).await?;
            let newcomers: Vec<Newcomer> = found.iter().map(|it| it.newcomer.clone()).collect();
            let bands = self.bands((side, entity), &newcomers).await?;
            let ids: Vec<_> = found.iter().map(|it| it.record.0).collect();
            let told_apart = self.writer.told_apart(entity, &ids).await?;
            let asked = self.writer.asked(entity, &ids).await?;
            for (it, band) in found.into_iter().zip(bands) {
                match band {
                    Band::Sure { record, by } if !told_apart.contains(&(it.record, record)) => {
                        self.join_quiet(entity, &it, record, by, &mut transaction).await?;
                    }
                    Band::Ask { mut candidates, reason } => {
                        // Answered already, or asked of the other one of the two.
                        candidates.retain(|record| {
                            let pair = (it.record, *record);
                            !told_apart.contains(&pair) && !asked.contains(&pair)
                        });
                        if !candidates.is_empty() {
                            self.ask_of_quiet(entity, it, candidates, reason).await?;
                        }
                    }
                    Band::Sure { .. } | Band::Different => {}
                }
            }
        }
        Ok(())
    }

    /// Those of `records` that `side` has and the other side never had.
    async fn quiet_newcomers(
        &mut self,
        entity: EntityNo,
        side: Side,
        records: &[RecordId],
    ) -> Result<Vec<Found>, Error> {
        let ids = records.iter().map(|record| record.0).collect();
        let mut states = self.writer.states(entity, ids).await?;
        let mut found = Vec::new();
        for record in records {
            let Some(state) = states.remove(record).filter(|state| is_new(state, side)) else {
                continue;
            };
            found.push(Found {
                record: *record,
                side,
                newcomer: Newcomer {
                    key: self.writer.key_on(side, entity, *record).await?,
                    keys: natural_keys(self.mapping.entity(entity), &state.canon),
                    carries_other_id: matches!(state.other_id, Some(Some(_))),
                },
            });
        }
        Ok(found)
    }

    /// Makes one of two records. The id that stays is the one that Directus uses.
    async fn join_quiet(
        &mut self,
        entity: EntityNo,
        found: &Found,
        candidate: RecordId,
        by: usize,
        transaction: &mut Option<(i64, i64)>,
    ) -> Result<(), Error> {
        let (record, target) = match found.side {
            Side::Airtable => (found.record, candidate),
            Side::Directus => (candidate, found.record),
        };
        let key = self.writer.key_on(Side::Airtable, entity, record).await?;
        let subject = Subject { entity, side: Side::Airtable, key, record };
        let source = if let Some(source) = *transaction {
            source
        } else {
            let id = self.writer.new_transaction_id();
            let at = chrono::Utc::now().timestamp_micros();
            let transactions = vec![TransactionRow::matched(id, at, AUTHOR)];
            self.writer.write_part(&Writes { transactions, ..Writes::default() }).await?;
            *transaction.insert((id, at))
        };
        let described = self.mapping.entity(entity);
        let by = described.matches.get(by).map_or_else(String::new, |by| described.name_of(by));
        let name = described.name.clone();
        let judge = Judge { author: AUTHOR, by: &by };
        match self.join(&subject, target, source, &judge).await? {
            Ok(writes) => match self.writer.write_part(&writes).await {
                Ok(()) => {
                    info!(entity = name, record = %target, by, "a record that was filled in is one of the other side");
                }
                Err(error) if error.is_about_data() => {
                    debug!(entity = name, record = %record, %error, "could not be joined");
                }
                Err(error) => return Err(error.into()),
            },
            Err(objection) => debug!(entity = name, record = %record, objection, "is not joined"),
        }
        // Both are other records now than the index has them for.
        self.candidates.forget();
        Ok(())
    }

    async fn ask_of_quiet(
        &mut self,
        entity: EntityNo,
        found: Found,
        candidates: Vec<RecordId>,
        reason: String,
    ) -> Result<(), Error> {
        let Found { record, side, newcomer } = found;
        let question = QuestionRow { entity, record, side, key: newcomer.key, candidates, reason };
        let writes = Writes { questions: vec![question], ..Writes::default() };
        Ok(self.writer.write_part(&writes).await?)
    }
}

/// Whether `side` alone has the record, and nothing of it is under way.
fn is_new(state: &RecordState, side: Side) -> bool {
    let is_nowhere_else =
        Side::ALL.into_iter().all(|other| other == side || state.absent.contains(&(other, false)));
    state.is_alive()
        && !state.is_absent_on(side)
        && is_nowhere_else
        && Side::ALL.into_iter().all(|side| state.in_flight(side).is_none())
}

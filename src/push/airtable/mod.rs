//! Bound writes → requests to Airtable. In: writes of any number of records, bound in `mirror.operation`. Out: what
//! became of each. Ten records a request, several requests under way, within the allowance of the base. A batch
//! that is refused is taken apart until the record and the cell at fault are known; all others are written.

mod blame;
pub(crate) mod form;
mod item;
#[cfg(test)]
mod parts_tests;
#[cfg(test)]
mod sandbox_tests;
mod search;
mod words;

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt as _;
use serde_json::Value as Json;
use tokio::{
    sync::{Mutex, mpsc},
    time::Instant,
};
use tracing::debug;

use self::{
    blame::{Blame, Schema, Verdict, Why},
    item::{Item, Reply, Stage},
};
use super::{
    Bound, Outcome, Parts, Pusher, SideTrouble,
    trouble::{Trouble, Troubles},
};
use crate::{
    mapping::{Labels, Mapping},
    model::{EntityNo, FieldNo, Notice, RecordId, Side},
    remote::airtable::{Client, Error, Table},
};

/// Records in one request.
const RECORD_COUNT_MAX: usize = 10;
/// Requests under way together: at five a second, enough for answers that take a second and a half.
const REQUEST_COUNT_MAX: usize = 8;
/// Records that are bound at a time: sixteen seconds' worth of the allowance. More would wait here with values that
/// grow old; less would leave more requests unused between one lot's last answer and the next lot.
const DRAIN_RECORD_COUNT_MAX: usize = 800;
/// Of the month's calls so much is left to reading, and to people who look.
const CAPTURE_RESERVE: f64 = 0.05;
/// When the month's calls are used up, pushes ask again after this long: a person may have raised the plan.
const BUDGET_PAUSE: Duration = Duration::from_hours(1);
/// Before a base was looked at for the first time.
const PLACE_PAUSE: Duration = Duration::from_secs(2);
/// A schema fetched to understand a refusal serves for this long.
const SCHEMA_AGE_MAX: Duration = Duration::from_mins(1);

/// Where the records of an entity are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// `app…`
    pub(crate) base: String,
    /// `tbl…`
    pub(crate) table: String,
    /// The field that carries the canonical id, `fld…`.
    pub(crate) uuid: Option<String>,
    /// Each mapped field that is there and fits; two may share one.
    pub(crate) fields: Vec<(FieldNo, String)>,
    /// Of selects, by field id, how their options are called there.
    pub(crate) labels: BTreeMap<String, Labels>,
    /// What a new record gets so that it is among the rows that are mirrored, where no cell says otherwise.
    pub(crate) presets: Vec<(String, Json)>,
}

/// Looks a place up as the capture knows it now; `None`: the base was not looked at yet.
pub(crate) type Places = Arc<dyn Fn(EntityNo) -> Option<Place> + Send + Sync>;

/// Writes to the bases of one token.
pub(crate) struct AirtablePush {
    client: Arc<Client>,
    mapping: Arc<Mapping>,
    places: Places,
    /// Calls that the plan allows in a month, all bases together; `None`: any number.
    monthly_calls: Option<u64>,
    troubles: Troubles,
    schemas: Mutex<HashMap<String, (Instant, Arc<Vec<Table>>)>>,
    trouble: SideTrouble,
}

impl AirtablePush {
    pub(crate) fn new(
        client: Arc<Client>,
        mapping: Arc<Mapping>,
        places: Places,
        monthly_calls: Option<u64>,
        notices: mpsc::Sender<(String, Notice)>,
    ) -> Self {
        let (troubles, trouble) = (Troubles::new(notices), SideTrouble::default());
        let schemas = Mutex::default();
        Self { client, mapping, places, monthly_calls, troubles, schemas, trouble }
    }

    /// As [`Pusher::send`], in the order given.
    ///
    /// What is refused for one of its cells may have been written without it: every cell that leaves is one that the
    /// record's operation names, with the value that it names.
    async fn send_all(&self, bounds: Vec<Bound>, parts: &dyn Parts) -> Vec<(RecordId, Outcome)> {
        let records: Vec<RecordId> = bounds.iter().map(|bound| bound.record).collect();
        let mut outcomes: Vec<Option<Outcome>> = vec![None; bounds.len()];
        let mut groups: Vec<((EntityNo, Stage), Place, Vec<Item>)> = Vec::new();
        let mut places: HashMap<EntityNo, Option<Place>> = HashMap::new();
        for (at, bound) in bounds.into_iter().enumerate() {
            let entity = bound.entity;
            let place = places.entry(entity).or_insert_with(|| (self.places)(entity));
            let Some(place) = place else {
                outcomes[at] = Some(Outcome::Later { after: Some(PLACE_PAUSE) });
                continue;
            };
            match item::prepare(at, bound, self.mapping.entity(entity), place) {
                Ok((stage, item)) => {
                    let group = (entity, stage);
                    match groups.iter_mut().find(|(of, ..)| *of == group) {
                        Some((.., items)) => items.push(item),
                        None => groups.push((group, place.clone(), vec![item])),
                    }
                }
                Err(outcome) => outcomes[at] = Some(outcome),
            }
        }
        let batches = groups.into_iter().flat_map(|((entity, stage), place, mut items)| {
            let mut batches = Vec::new();
            while !items.is_empty() {
                let rest = items.split_off(items.len().min(RECORD_COUNT_MAX));
                batches.push((entity, place.clone(), stage, items));
                items = rest;
            }
            batches
        });
        let sent = futures_util::stream::iter(batches)
            .map(|(entity, place, stage, items)| {
                let is_troubled = AtomicBool::new(false);
                let work = Work { push: self, parts, entity, place, is_troubled };
                async move { work.settle(stage, items).await }
            })
            .buffer_unordered(REQUEST_COUNT_MAX)
            .collect::<Vec<_>>();
        for (at, outcome) in sent.await.into_iter().flatten() {
            outcomes[at] = Some(outcome);
        }
        let outcomes = outcomes.into_iter().map(|outcome| outcome.unwrap_or(Outcome::Unanswered));
        records.into_iter().zip(outcomes).collect()
    }

    /// Why nothing is sent to this base now; `None`: nothing speaks against it.
    fn held_up(&self, base: &str) -> Option<Outcome> {
        if let Some(pause) = self.client.pause(base) {
            return Some(Outcome::Later { after: Some(pause) });
        }
        let limit = self.monthly_calls?;
        let used = self.client.calls_of_all_bases();
        #[expect(clippy::cast_precision_loss, reason = "a count of calls fits an f64")]
        let is_spent = used as f64 >= limit as f64 * (1.0 - CAPTURE_RESERVE);
        if !is_spent {
            return None;
        }
        let trouble = words::budget_spent(used, limit);
        self.trouble.set(Some(trouble.text.clone()));
        self.troubles.tell(&log_of(base), "", trouble);
        Some(Outcome::Later { after: Some(BUDGET_PAUSE) })
    }

    /// The base's tables, not older than a minute; `None` if they cannot be read now.
    async fn schema(&self, base: &str) -> Option<Arc<Vec<Table>>> {
        let mut schemas = self.schemas.lock().await;
        if let Some((fetched_at, tables)) = schemas.get(base)
            && fetched_at.elapsed() < SCHEMA_AGE_MAX
        {
            return Some(Arc::clone(tables));
        }
        match self.client.tables(base).await {
            Ok(tables) => {
                let tables = Arc::new(tables);
                schemas.insert(base.to_owned(), (Instant::now(), Arc::clone(&tables)));
                Some(tables)
            }
            Err(error) => {
                debug!(base, error = %error.chain(), "could not read the schema");
                None
            }
        }
    }
}

impl Pusher for AirtablePush {
    fn batch_record_count_max(&self) -> usize {
        RECORD_COUNT_MAX
    }

    fn drain_record_count_max(&self) -> usize {
        DRAIN_RECORD_COUNT_MAX
    }

    fn send<'a>(
        &'a self,
        bounds: Vec<Bound>,
        parts: &'a dyn Parts,
    ) -> Pin<Box<dyn Future<Output = Vec<(RecordId, Outcome)>> + Send + 'a>> {
        Box::pin(self.send_all(bounds, parts))
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.get()
    }
}

/// What follows from the answer to a request that went through: what is done, and what has options to be added yet.
fn after(
    stage: Stage,
    items: Vec<Item>,
    replies: Vec<Reply>,
) -> (Vec<(usize, Outcome)>, Vec<Item>) {
    let (mut done, mut more) = (Vec::new(), Vec::new());
    for (mut item, reply) in items.into_iter().zip(replies) {
        match reply {
            Reply::Gone => done.push((item.at, Outcome::Gone)),
            Reply::Unclear => done.push((item.at, Outcome::Unanswered)),
            Reply::Taken { made } => {
                if made.is_some() {
                    item.made = made;
                }
                if stage != Stage::Options && !item.new_options.is_empty() {
                    more.push(item);
                } else {
                    done.push((item.at, Outcome::Taken { key: item.made }));
                }
            }
        }
    }
    (done, more)
}

/// One entity's batch being taken apart.
struct Work<'a> {
    push: &'a AirtablePush,
    parts: &'a dyn Parts,
    entity: EntityNo,
    place: Place,
    /// Something was told that keeps records from being written.
    is_troubled: AtomicBool,
}

/// The name of a base's log.
fn log_of(base: &str) -> String {
    format!("{}:{base}", Side::Airtable)
}

impl Work<'_> {
    /// Sends a batch, taken apart as far as it has to be.
    async fn settle(&self, stage: Stage, items: Vec<Item>) -> Vec<(usize, Outcome)> {
        let mut done = Vec::new();
        let mut queue = vec![(stage, items)];
        while let Some((stage, items)) = queue.pop() {
            if items.is_empty() {
                continue;
            }
            if let Some(outcome) = self.push.held_up(&self.place.base) {
                done.extend(items.into_iter().map(|item| (item.at, outcome.clone())));
                continue;
            }
            match item::request(&self.push.client, &self.place, stage, &items).await {
                Ok(replies) => {
                    self.push.trouble.set(None);
                    let (taken, more) = after(stage, items, replies);
                    done.extend(taken);
                    queue.push((Stage::Options, more));
                }
                Err(error) => self.sort_out(error, stage, items, &mut queue, &mut done).await,
            }
        }
        if done.iter().any(|(_, outcome)| matches!(outcome, Outcome::Taken { .. })) {
            self.note_well();
        }
        done
    }

    fn tell(&self, trouble: Trouble) {
        self.is_troubled.store(true, Ordering::Relaxed);
        let entity = &self.push.mapping.entity(self.entity).name;
        self.push.troubles.tell(&log_of(&self.place.base), entity, trouble);
    }

    /// Some of the batch was taken: unless another part of it met a trouble, there is none any more.
    fn note_well(&self) {
        if !self.is_troubled.load(Ordering::Relaxed) {
            let entity = &self.push.mapping.entity(self.entity).name;
            self.push.troubles.well(&log_of(&self.place.base), entity);
        }
    }

    /// Notes that the item's write goes in several requests, before the first of them.
    async fn note_parts(&self, item: &Item) -> Result<(), Outcome> {
        let noted = self.parts.note(self.entity, vec![(item.operation, item.record)]).await;
        if noted { Ok(()) } else { Err(Outcome::Later { after: Some(PLACE_PAUSE) }) }
    }

    /// What follows from a refusal: outcomes for those whose fault is known, the others back to the queue.
    async fn sort_out(
        &self,
        error: Error,
        stage: Stage,
        mut items: Vec<Item>,
        queue: &mut Vec<(Stage, Vec<Item>)>,
        done: &mut Vec<(usize, Outcome)>,
    ) {
        debug!(stage = ?stage, item_count = items.len(), %error, "a batch was refused");
        match self.judge(&error, stage, &items).await {
            Verdict::All { outcome, trouble } => {
                // A pause for the rate is part of the ordinary.
                if !matches!(error, Error::RateLimited { .. }) {
                    self.push.trouble.set(Some(error.chain()));
                }
                if let Some(trouble) = trouble {
                    self.tell(trouble);
                }
                done.extend(items.into_iter().map(|item| (item.at, outcome.clone())));
            }
            Verdict::Known(guilty) => {
                self.push.trouble.set(None);
                let mut rest = Vec::new();
                for (at, mut item) in items.into_iter().enumerate() {
                    match guilty.iter().find(|(of, _)| *of == at) {
                        None => rest.push(item),
                        Some((_, Blame::Gone)) => done.push((item.at, Outcome::Gone)),
                        Some((_, Blame::Cell { id, why })) => {
                            if self.may_add_option(stage, &item, id, *why) {
                                item.hold_back(id);
                                if item.has_plain_part(stage) {
                                    match self.note_parts(&item).await {
                                        Ok(()) => rest.push(item),
                                        Err(outcome) => done.push((item.at, outcome)),
                                    }
                                } else {
                                    queue.push((Stage::Options, vec![item]));
                                }
                            } else {
                                done.push((item.at, self.refused(stage, &item, id, *why)));
                            }
                        }
                    }
                }
                queue.push((stage, rest));
            }
            Verdict::Among(suspects) => {
                let (guilty, innocent): (Vec<_>, Vec<_>) =
                    items.into_iter().enumerate().partition(|(at, _)| suspects.contains(at));
                let items =
                    |part: Vec<(usize, Item)>| part.into_iter().map(|(_, item)| item).collect();
                queue.push((stage, items(guilty)));
                queue.push((stage, items(innocent)));
            }
            Verdict::Unclear if items.len() > 1 => {
                let half = items.split_off(items.len() / 2);
                queue.push((stage, half));
                queue.push((stage, items));
            }
            Verdict::Unclear => {
                for item in items {
                    let at = item.at;
                    done.push((at, self.search(stage, item, &error).await));
                }
            }
        }
    }

    async fn judge(&self, error: &Error, stage: Stage, items: &[Item]) -> Verdict {
        let tables =
            if blame::needs_names(error) { self.push.schema(&self.place.base).await } else { None };
        let table = tables
            .as_ref()
            .and_then(|tables| tables.iter().find(|table| table.id == self.place.table));
        let entity = self.push.mapping.entity(self.entity);
        blame::judge(error, stage, items, &Schema { entity, place: &self.place, table })
    }

    /// Whether the cell is to be sent again, alone and with leave to add its options.
    fn may_add_option(&self, stage: Stage, item: &Item, id: &str, why: Why) -> bool {
        if why != Why::MissingOption || stage == Stage::Options {
            return false;
        }
        let Some(cell) = item.cell(stage, id) else { return false };
        let field = self.push.mapping.entity(self.entity).field(cell.field);
        let may = field.airtable.as_ref().is_some_and(|airtable| airtable.new_options);
        // With that leave, Airtable may take a comma for the end of an option.
        may && !cell.has_comma_in_list()
    }

    fn refused(&self, stage: Stage, item: &Item, id: &str, why: Why) -> Outcome {
        let Some(cell) = item.cell(stage, id) else { return Outcome::Unanswered };
        let entity = self.push.mapping.entity(self.entity);
        let (code, reason) = words::refusal(entity, cell, why, stage);
        Outcome::Refused { field: Some(cell.field), code, reason }
    }
}

//! One side's outbox, drained: what is due is looked up, bound, sent, and what the side said is noted. It takes no
//! hint of what changed, so that the first run after a crash is a run like any other.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tracing::{debug, info};
use uuid::Uuid;

use super::{
    Bound, Outcome, Pusher, Write,
    form::{self, Formed, Rows, Targets},
};
use crate::{
    mapping::Entity,
    merge::{Lack, Operation, OperationKind, Owed, RecordState, SentCell, is_due, lack, owed},
    model::{EntityNo, FieldNo, RecordId, Side, SideKey},
    pulse::Pulse,
    store::{self, Again, Books, Left, Parked, Standing},
};

/// A write that the side took comes back in its log; if it has not after this long, the record is looked at again.
const ECHO_PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at what became of a create that got no answer.
const REPEAT_PAUSE: Duration = Duration::from_secs(1);
/// What waits for a person is looked at again after this long, should nothing have said that it is free.
const RESTRAINED_PAUSE: Duration = Duration::from_hours(1);

/// Pushes to one side.
pub(crate) struct Drain {
    side: Side,
    books: Books,
    pusher: Arc<dyn Pusher>,
    pulse: Pulse,
}

/// What is to become of a due record.
enum Step {
    Send(Box<Task>),
    /// Nothing is owed.
    Done,
    Wait(Duration),
    /// Until the record has the values without which it is not created: which, in words.
    Incomplete(String),
}

/// A write, before it has its form.
struct Task {
    record: RecordId,
    operation: Operation,
    key: Option<SideKey>,
    writes_id: bool,
    /// It was bound before, and no answer came.
    is_bound: bool,
    state: RecordState,
}

/// A write in the side's form.
struct Ready {
    operation: Operation,
    bound: Bound,
    is_bound: bool,
    /// What a part of it waits for.
    waits_for: Option<String>,
}

/// What is to be noted of a batch of writes.
#[derive(Default)]
struct Notes {
    taken: Vec<(Uuid, RecordId, Option<SideKey>)>,
    unparked: Vec<(RecordId, FieldNo)>,
    given_up: Vec<(Uuid, RecordId)>,
    parked: Vec<Parked>,
    again: Vec<Again>,
    has_created: bool,
}

impl Drain {
    pub(crate) fn new(side: Side, books: Books, pusher: Arc<dyn Pusher>, pulse: Pulse) -> Self {
        Self { side, books, pusher, pulse }
    }

    pub(super) fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    pub(crate) fn side(&self) -> Side {
        self.side
    }

    /// How long until something is due; `None`: nothing is owed.
    pub(crate) async fn due_in(&self) -> Result<Option<Duration>, store::Error> {
        self.books.due_in(self.side).await
    }

    /// Sends what is due, as much as the side takes at a time. The answer is how many records were due.
    ///
    /// # Errors
    /// When the canonical database fails. What was sent is known as sent, or is sent again.
    pub(crate) async fn drain(&self) -> Result<usize, store::Error> {
        let due = self.books.take_due(self.side, self.pusher.drain_record_count_max()).await?;
        let due_count = due.values().map(Vec::len).sum();
        let mut deletes = Vec::new();
        let mut has_created = false;
        for (entity, records) in due {
            let tasks = self.tasks(entity, &records).await?;
            let (last, first): (Vec<Task>, Vec<Task>) =
                tasks.into_iter().partition(|task| task.operation.kind == OperationKind::Delete);
            has_created |= self.carry_out(entity, first).await?;
            deletes.push((entity, last));
        }
        // Children before their parents.
        for (entity, tasks) in deletes.into_iter().rev() {
            self.carry_out(entity, tasks).await?;
        }
        if has_created {
            self.books.wake_waiting(self.side).await?;
        }
        Ok(due_count)
    }

    /// What has to be written of these records; the schedule of the others is set.
    async fn tasks(&self, entity: EntityNo, records: &[Uuid]) -> Result<Vec<Task>, store::Error> {
        let mut standings = self.books.standings(self.side, entity, records).await?;
        let shown: Vec<(RecordId, &RecordState)> =
            standings.iter().map(|standing| (standing.record, &standing.state)).collect();
        let settled = self.books.settle_shown(self.side, entity, &shown).await?;
        let settled: HashSet<Uuid> = settled.into_iter().collect();
        let described = self.books.mapping().entity(entity);
        let (mut tasks, mut done, mut again) = (Vec::new(), Vec::new(), Vec::new());
        for standing in &mut standings {
            if settled.contains(&standing.record.0) {
                standing.state.operations.clear();
            }
        }
        for standing in standings {
            let record = standing.record;
            match self.decide(described, standing) {
                Step::Send(task) if !self.may_send(entity, &task).await => {
                    again.push(Again::after(record, REPEAT_PAUSE));
                }
                Step::Send(task) => tasks.push(*task),
                Step::Done => done.push(record.0),
                Step::Wait(after) => again.push(Again::after(record, after)),
                Step::Incomplete(words) => again.push(Again {
                    waits_for: Some(words),
                    is_incomplete: true,
                    ..Again::after(record, RESTRAINED_PAUSE)
                }),
            }
        }
        if !done.is_empty() {
            self.books.drop_due(self.side, entity, &done).await?;
        }
        self.books.set_due(self.side, entity, &again).await?;
        Ok(tasks)
    }

    /// Whether a write can go now. A create that got no answer waits where a second one would be a second record.
    async fn may_send(&self, entity: EntityNo, task: &Task) -> bool {
        if task.operation.kind != OperationKind::Create {
            return true;
        }
        match self.pusher.has_other_keys(entity) {
            None => false,
            Some(true) if task.is_bound => self.pusher.may_repeat(task.operation.id, entity).await,
            Some(_) => true,
        }
    }

    fn decide(&self, entity: &Entity, standing: Standing) -> Step {
        let Standing {
            record,
            state,
            restraints,
            key,
            is_acknowledged,
            under_way_for,
            owes_id,
            parked_for,
        } = standing;
        let key = key.or_else(|| {
            // A key that is not linked is the canonical id.
            let is_there = self.side == Side::Directus && !state.is_absent_on(self.side);
            is_there.then(|| SideKey::from(record.to_string().as_str()))
        });
        if let Some(flight) = state.in_flight(self.side) {
            if is_acknowledged {
                return Step::Wait(ECHO_PATIENCE);
            }
            if let Some(left) = under_way_for {
                return Step::Wait(left);
            }
            let (operation, writes_id) = (flight.clone(), owes_id);
            let is_bound = true;
            return Step::Send(Box::new(Task {
                record,
                operation,
                key,
                writes_id,
                is_bound,
                state,
            }));
        }
        let writes_id =
            owes_id && restraints.is_approved && !restraints.is_parked && state.is_alive();
        let (kind, cells) = match owed(entity, &state, self.side, &restraints) {
            Owed::Create(cells) => (OperationKind::Create, cells),
            Owed::Update(cells) => (OperationKind::Update, cells),
            Owed::Delete => (OperationKind::Delete, Vec::new()),
            Owed::Nothing if writes_id => (OperationKind::Update, Vec::new()),
            Owed::Nothing if owes_id || is_due(entity, &state, self.side) => {
                let is_new = state.is_alive() && state.is_absent_on(self.side);
                if let Some(lack) = lack(entity, &state).filter(|_| is_new) {
                    return Step::Incomplete(lacks(entity, &lack));
                }
                return Step::Wait(parked_for.unwrap_or(RESTRAINED_PAUSE).min(RESTRAINED_PAUSE));
            }
            Owed::Nothing => return Step::Done,
        };
        let side = self.side;
        let is_partial = goes_in_parts(entity, side, kind, &cells);
        let operation = Operation { is_partial, ..Operation::new(Uuid::nil(), side, kind, cells) };
        let is_bound = false;
        Step::Send(Box::new(Task { record, operation, key, writes_id, is_bound, state }))
    }

    /// Brings writes into their form, binds and sends them, and notes what became of them. The answer: whether the
    /// side has records that it did not have before.
    async fn carry_out(&self, entity: EntityNo, tasks: Vec<Task>) -> Result<bool, store::Error> {
        if tasks.is_empty() {
            return Ok(false);
        }
        let mut notes = Notes::default();
        let ready = self.form_all(entity, tasks, &mut notes).await?;
        let ready = self.bind_all(entity, ready).await?;
        self.note_sent_again(entity, &ready).await?;
        let bounds: Vec<Bound> = ready.iter().map(|ready| ready.bound.clone()).collect();
        let record_count = bounds.len();
        let outcomes = if bounds.is_empty() {
            Vec::new()
        } else {
            self.pusher.send(bounds, &self.books).await
        };
        if record_count > 0 {
            match self.pusher.trouble() {
                Some(reason) => self.pulse.failed(reason),
                None => self.pulse.well(),
            }
        }
        let outcomes: HashMap<RecordId, Outcome> = outcomes.into_iter().collect();
        for ready in ready {
            let outcome = outcomes.get(&ready.bound.record).cloned();
            notes.outcome(ready, outcome.unwrap_or(Outcome::Unanswered));
        }
        self.note(entity, &notes).await?;
        if record_count > 0 {
            let entity = &self.books.mapping().entity(entity).name;
            info!(side = %self.side, entity, record_count, taken_count = notes.taken.len(), parked_count = notes.parked.len(), "pushed a batch");
        }
        Ok(notes.has_created)
    }

    async fn form_all(
        &self,
        entity: EntityNo,
        tasks: Vec<Task>,
        notes: &mut Notes,
    ) -> Result<Vec<Ready>, store::Error> {
        let mapping = self.books.mapping();
        let described = mapping.entity(entity);
        let targets = self.targets(described, &tasks).await?;
        let has_other_keys = self.pusher.has_other_keys(entity) == Some(true);
        let mut ready = Vec::new();
        let mut left = self.left(described, entity, &tasks).await?;
        for mut task in tasks {
            let removed = self.removed(entity, &task).await?;
            let left = left.remove(&task.record.0).unwrap_or_default();
            let rows = Rows { removed, left };
            let cells = &task.operation.cells;
            let canon = &task.state.canon;
            let Formed { mut cells, refused, waiting } =
                form::form(mapping, entity, self.side, cells, &targets, &rows, canon);
            if task.operation.kind == OperationKind::Create && has_other_keys {
                // Rows of its sets name the record's key, which is not known yet: they are owed once it is.
                cells.retain(|(no, _)| !described.field(*no).has_rows_on(Side::Directus));
            }
            for (no, refusal) in refused {
                let value = canon[usize::from(no.0)].clone();
                let (code, reason) = (refusal.kind.name().to_owned(), refusal.reason);
                notes.parked.push(Parked {
                    record: task.record,
                    field: Some((no, value)),
                    code,
                    reason,
                });
            }
            let waits_for =
                (!waiting.is_empty()).then(|| waits_for(described, &waiting, self.side));
            let is_empty = cells.is_empty() && !task.writes_id;
            if task.operation.kind == OperationKind::Update && is_empty {
                if task.is_bound {
                    notes.given_up.push((task.operation.id, task.record));
                }
                if let Some(waits_for) = waits_for {
                    let (record, after) = (task.record, ECHO_PATIENCE);
                    let waits_for = Some(waits_for);
                    notes.again.push(Again { waits_for, ..Again::after(record, after) });
                }
                continue;
            }
            let is_formed = |sent: &SentCell| cells.iter().any(|(no, _)| *no == sent.field);
            task.operation.cells.retain(is_formed);
            let write = match task.operation.kind {
                OperationKind::Create => Write::Create(cells),
                OperationKind::Update => Write::Update(cells),
                OperationKind::Delete => Write::Delete,
            };
            let bound = Bound {
                operation: task.operation.id,
                entity,
                record: task.record,
                key: task.key,
                write,
                writes_id: task.writes_id,
            };
            let (operation, is_bound) = (task.operation, task.is_bound);
            ready.push(Ready { operation, bound, is_bound, waits_for });
        }
        Ok(ready)
    }

    /// Gives each write that is not bound yet its operation, one for each batch of a kind, and binds it. A record that
    /// got another write in flight meanwhile is left out.
    async fn bind_all(
        &self,
        entity: EntityNo,
        mut ready: Vec<Ready>,
    ) -> Result<Vec<Ready>, store::Error> {
        ready.sort_by_key(|ready| ready.operation.kind.name());
        let mut open: Option<(OperationKind, Uuid, usize)> = None;
        // The log names a row's operation, not its record: one create an operation.
        let is_alone = self.pusher.has_other_keys(entity) == Some(true);
        for ready in ready.iter_mut().filter(|ready| !ready.is_bound) {
            let kind = ready.operation.kind;
            let id = match &mut open {
                Some((of, id, count))
                    if *of == kind
                        && *count < self.pusher.batch_record_count_max()
                        && !(kind == OperationKind::Create && is_alone) =>
                {
                    *count += 1;
                    *id
                }
                _ => open.insert((kind, Uuid::now_v7(), 1)).1,
            };
            ready.operation.id = id;
            ready.bound.operation = id;
        }
        let new: Vec<(RecordId, Operation)> = ready
            .iter()
            .filter(|ready| !ready.is_bound)
            .map(|ready| (ready.bound.record, ready.operation.clone()))
            .collect();
        let bound: HashSet<RecordId> = self.books.bind(entity, &new).await?.into_iter().collect();
        ready.retain(|ready| ready.is_bound || bound.contains(&ready.bound.record));
        Ok(ready)
    }

    /// Of a write that is sent again, a request may have been taken, with cells that are not among these any more.
    async fn note_sent_again(&self, entity: EntityNo, ready: &[Ready]) -> Result<(), store::Error> {
        let again = ready.iter().filter(|ready| ready.is_bound && !ready.operation.is_partial);
        let again: Vec<_> = again.map(|ready| (ready.operation.id, ready.bound.record)).collect();
        if again.is_empty() { Ok(()) } else { self.books.note_parts(entity, &again).await }
    }

    async fn targets(&self, entity: &Entity, tasks: &[Task]) -> Result<Targets, store::Error> {
        let cells = tasks.iter().flat_map(|task| &task.operation.cells);
        let mut targets = Targets::new();
        for (target, ids) in form::linked(entity, cells) {
            let ids: Vec<Uuid> = ids.into_iter().collect();
            let mut found = self.books.targets(self.side, target, &ids).await?;
            if self.pusher.has_other_keys(target) == Some(true) {
                // There, but nobody knows under which key.
                for target in found.values_mut() {
                    target.is_there &= target.key.is_some();
                }
            }
            targets.insert(target, found);
        }
        Ok(targets)
    }

    /// What the rows of elements that return to a set held beside them, a record each.
    async fn left(
        &self,
        described: &Entity,
        entity: EntityNo,
        tasks: &[Task],
    ) -> Result<HashMap<Uuid, Left>, store::Error> {
        let has_set = |task: &&Task| {
            let mut cells = task.operation.cells.iter();
            cells.any(|cell| described.field(cell.field).has_rows_on(Side::Directus))
        };
        let records: Vec<Uuid> = match self.side {
            Side::Directus => tasks.iter().filter(has_set).map(|task| task.record.0).collect(),
            Side::Airtable => Vec::new(),
        };
        self.books.left(self.side, entity, &records).await
    }

    /// The rows of junction tables that a write takes away.
    async fn removed(
        &self,
        entity: EntityNo,
        task: &Task,
    ) -> Result<HashMap<FieldNo, Vec<String>>, store::Error> {
        let mut removed = HashMap::new();
        if self.side != Side::Directus {
            return Ok(removed);
        }
        for cell in &task.operation.cells {
            let field = self.books.mapping().entity(entity).field(cell.field);
            let out = form::taken_out(cell);
            if field.has_rows_on(Side::Directus) && !out.is_empty() {
                let keys = self
                    .books
                    .element_keys(self.side, entity, &field.name, task.record, &out)
                    .await?;
                removed.insert(cell.field, keys);
            }
        }
        Ok(removed)
    }

    async fn note(&self, entity: EntityNo, notes: &Notes) -> Result<(), store::Error> {
        self.books.hold().await?;
        self.books.note_taken(entity, &notes.taken).await?;
        self.books.give_up(entity, &notes.given_up).await?;
        if !notes.parked.is_empty() {
            self.books.park(self.side, entity, &notes.parked).await?;
        }
        if !notes.taken.is_empty() {
            let records: Vec<Uuid> = notes.taken.iter().map(|(_, record, _)| record.0).collect();
            self.books.unpark(self.side, entity, &notes.unparked, &records).await?;
        }
        self.books.set_due(self.side, entity, &notes.again).await
    }
}

impl Notes {
    fn outcome(&mut self, ready: Ready, outcome: Outcome) {
        let Ready { operation, bound, waits_for, .. } = ready;
        let record = bound.record;
        match outcome {
            Outcome::Taken { key } => {
                self.has_created |= operation.kind == OperationKind::Create;
                self.unparked.extend(operation.cells.iter().map(|cell| (record, cell.field)));
                self.taken.push((operation.id, record, key));
                self.again.push(Again { waits_for, ..Again::after(record, ECHO_PATIENCE) });
            }
            // The schedule has it already, later each time.
            Outcome::Unanswered => {}
            Outcome::Later { after } => {
                self.given_up.push((operation.id, record));
                self.again
                    .extend(after.map(|after| Again { waits_for, ..Again::after(record, after) }));
            }
            Outcome::Refused { field, code, reason } => {
                self.given_up.push((operation.id, record));
                let value = |no: FieldNo| {
                    operation
                        .cells
                        .iter()
                        .find(|cell| cell.field == no)
                        .map(|cell| cell.value.clone())
                };
                let field = field.and_then(|no| Some((no, value(no)?)));
                self.parked.push(Parked { record, field, code: code.to_owned(), reason });
                // The others of its cells are tried at once, this one when its time has come.
                self.again.push(Again { waits_for, ..Again::after(record, Duration::ZERO) });
            }
            Outcome::Gone => {
                debug!(%record, "the side does not have the record any more");
                self.given_up.push((operation.id, record));
                self.again.push(Again { waits_for, ..Again::after(record, ECHO_PATIENCE) });
            }
        }
    }
}

/// Whether a write takes several requests in any case: a set in a junction table of Directus is rows of their own, which
/// come and go one request after the other.
fn goes_in_parts(entity: &Entity, side: Side, kind: OperationKind, cells: &[SentCell]) -> bool {
    let change_count = |cell: &SentCell| {
        let is_set = entity.field(cell.field).has_rows_on(side);
        is_set.then(|| form::changed_count(cell))
    };
    let changes: Vec<usize> = cells.iter().filter_map(change_count).collect();
    let is_with_others = kind == OperationKind::Create || changes.len() < cells.len();
    !changes.is_empty() && (is_with_others || changes.iter().sum::<usize>() > 1)
}

/// In words, what a record lacks before it is created.
fn lacks(entity: &Entity, lack: &Lack) -> String {
    match lack {
        Lack::AnyValue => String::from("a first value: the row is still empty"),
        Lack::Required(fields) => {
            let names: Vec<&str> =
                fields.iter().map(|no| entity.field(*no).name.as_str()).collect();
            format!("{}: required before the record is created", names.join(", "))
        }
    }
}

/// In words, what a write waits for.
fn waits_for(entity: &Entity, fields: &[FieldNo], side: Side) -> String {
    let names: Vec<&str> = fields.iter().map(|no| entity.field(*no).name.as_str()).collect();
    format!("{}: links to records that {side} does not have yet", names.join(", "))
}

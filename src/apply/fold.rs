//! A chunk of items → what to write. Reads the states of the records that the items name, lets
//! [`crate::merge`] judge each observation in order, and sums up.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use serde_json::Value as Json;
use uuid::Uuid;

use super::{
    Apply, Error, Item,
    batch::Outcomes,
    created::SecondCopy,
    joined::{Step, Steps},
    mass::{Counted, Touch},
    reread::SetName,
    resolve::{Keys, target},
};
use crate::{
    mapping::{Entity, Field, Mapping, Store},
    merge::{
        Action, Changed, Lack, Merged, Operation, Origin, RecordState, Seen, SeenCell, is_due,
        lack, merge,
    },
    model::{
        Cell, Change, Element, EntityNo, FieldNo, Observation, RawText, RecordId, Refusal,
        RefusalKind, Side, SideKey, Value,
    },
    store::{
        ANSWERS_ITSELF, AbsenceRow, AcceptedRow, ConflictRow, ConflictStep, DoomRow, DueRow,
        ElementContent, ElementRow, EntityWrites, ID_FIELD, JournalRow, LinkRow, ParkRow,
        PassageRow, RefusalRow, SeenBy, SetChange, ShadowRow, TransitionRow, UnfitRow,
        WHOLE_RECORD, Writer, Writes,
    },
};

/// What a chunk comes to.
pub(super) struct Folded {
    pub(super) writes: Writes,
    /// Records that came into being, by the keys of their side, for which refused links wait.
    pub(super) awaited: Vec<(Side, EntityNo, SideKey)>,
    /// The records that it names, as they are then.
    pub(super) outcomes: Outcomes,
}

/// A record that the chunk names: its state now, and what is needed to tell how it differs from before.
struct Tracked {
    state: RecordState,
    existed: bool,
    was_deleted: bool,
    old_shadow: Vec<(Side, FieldNo, Value)>,
    old_absent: Vec<(Side, bool)>,
    old_outside: Vec<Side>,
    old_doomed: Vec<Side>,
    old_other_id: Option<Option<Uuid>>,
    /// Our writes that were not settled before.
    old_flights: Vec<Uuid>,
    /// Our writes that were answered before (`merge::answer`).
    old_answers: Vec<(Uuid, u16)>,
    answered_itself: bool,
    /// Sides that were owed something before.
    was_due: Vec<Side>,
    /// A flag a field.
    changed: Vec<bool>,
    /// What sets in junction tables held before.
    old_sets: Vec<(FieldNo, Value)>,
    /// The transaction that last touched it, and when.
    transaction: i64,
    at: i64,
    /// The transaction that last removed it.
    removed_by: Option<i64>,
    /// Cells of ours that a side does not keep as they are sent.
    altered: Vec<(Side, FieldNo)>,
    /// A person has decided on it: what was held back is due.
    is_decided: bool,
    /// What was done to it by hands that the guard for mass changes counts.
    touches: Vec<Touch>,
}

type Records = HashMap<(EntityNo, RecordId), Tracked>;
/// (side, entity, field) → row → (record, element).
type Elements = HashMap<(Side, EntityNo, FieldNo), HashMap<SideKey, (RecordId, String)>>;

struct Folding<'a> {
    mapping: Arc<Mapping>,
    writer: &'a mut Writer,
    keys: &'a Keys,
    records: Records,
    elements: Elements,
    writes: Writes,
    /// The refusals so far, by the record of the side: a later value may make them void.
    refused: BTreeMap<(Side, EntityNo, SideKey), Vec<RefusalRow>>,
    element_writes: BTreeMap<(EntityNo, Side, String, SideKey), Option<ElementContent>>,
    born: Vec<(Side, EntityNo, SideKey)>,
    own: OwnWrite<'a>,
    /// Sets that are judged when all of their rows were read.
    unread_sets: BTreeSet<SetName>,
}

/// What a transaction of ours shows, gathered to its end: a record and its sets in junction tables were one write, and
/// are judged as one.
#[derive(Default)]
struct OwnWrite<'a> {
    cells: BTreeMap<(EntityNo, RecordId), (&'a Item, Vec<SeenCell>)>,
    sets: BTreeMap<(EntityNo, RecordId, FieldNo), &'a Item>,
}

impl Apply {
    /// Folds `items`, in order. Writes nothing.
    pub(super) async fn fold(&mut self, items: &[Item]) -> Result<Folded, Error> {
        let keys = self.resolve(items).await?;
        let (mut elements, owners) = self.read_elements(items, &keys).await?;
        let mut records = self.read_records(items, &keys, owners).await?;
        self.read_sets_of_comers(items, &keys, &records, &mut elements).await?;
        self.read_past(items, &mut records).await?;
        let mut folding = Folding::new(Arc::clone(&self.mapping), &mut self.writer, &keys, records);
        folding.elements = elements;
        for (at, item) in items.iter().enumerate() {
            folding.item(item);
            if items.get(at + 1).is_none_or(|next| next.transaction != item.transaction) {
                folding.end_own_write();
            }
        }
        // A record that was linked just now is found by its key from now on, though it may have been there before.
        let mut born = std::mem::take(&mut folding.born);
        let linked = keys.links.iter().map(|(no, link)| (link.side, *no, link.key.clone()));
        born.extend(linked);
        born.sort_unstable();
        born.dedup();
        let unread_sets = std::mem::take(&mut folding.unread_sets);
        let (mut writes, outcomes, counted) = folding.sum_up();
        self.count_changes(counted, &mut writes).await?;
        writes.matches.clone_from(&keys.matches);
        writes.questions.clone_from(&keys.questions);
        writes.refusals.extend(keys.second_copies.iter().map(SecondCopy::refusal));
        self.candidates.note(&self.mapping, &outcomes);
        if let Some(large) = &mut self.large {
            large.sets.extend(unread_sets);
        }
        let awaited =
            if born.is_empty() || !self.writer.any_refusals() { Vec::new() } else { born };
        Ok(Folded { writes, awaited, outcomes })
    }

    /// What one cell of each of these records comes to, which `item` stands for.
    pub(super) async fn fold_cells(
        &mut self,
        item: &Item,
        field: FieldNo,
        cells: Vec<(RecordId, Value)>,
        keys: &Keys,
    ) -> Result<Writes, Error> {
        let entity = item.observation.entity;
        let owners = cells.iter().map(|(record, _)| (entity, *record)).collect();
        let mut records = self.read_records(&[], keys, owners).await?;
        self.read_past(std::slice::from_ref(item), &mut records).await?;
        let mut folding = Folding::new(Arc::clone(&self.mapping), &mut self.writer, keys, records);
        for (record, value) in cells {
            let state = folding.records.get(&(entity, record)).map(|tracked| &tracked.state);
            if state.is_some_and(|state| state.exists && !state.is_absent_on(item.side)) {
                folding.merge(item, record, Seen::Present(vec![(field, value)]));
            }
        }
        Ok(folding.sum_up().0)
    }

    /// In a recovery: what the journal knows of the records of those `items` that a side which went back shows.
    async fn read_past(&mut self, items: &[Item], records: &mut Records) -> Result<(), Error> {
        if items.iter().all(|item| item.origin != Origin::Restored) {
            return Ok(());
        }
        let mut wanted: BTreeMap<EntityNo, Vec<Uuid>> = BTreeMap::new();
        for (entity, record) in records.keys() {
            wanted.entry(*entity).or_default().push(record.0);
        }
        for (entity, ids) in wanted {
            for (record, past) in self.writer.pasts(entity, &ids).await? {
                if let Some(tracked) = records.get_mut(&(entity, record)) {
                    tracked.state.past = Some(Arc::new(past));
                }
            }
        }
        Ok(())
    }

    /// What has to be written where a person's decision made `after` of the state `before` of a record.
    pub(super) fn sum_up_decided(
        &mut self,
        key: (EntityNo, RecordId),
        before: RecordState,
        after: RecordState,
        source: (i64, i64),
        merged: Merged,
        keys: &Keys,
    ) -> Writes {
        let step = Step { before, after, merged, side: None };
        self.sum_up_steps(Steps::from([(key, step)]), source, keys)
    }

    /// The same of several records, which one decision is about.
    pub(super) fn sum_up_steps(&mut self, steps: Steps, source: (i64, i64), keys: &Keys) -> Writes {
        let mut folding =
            Folding::new(Arc::clone(&self.mapping), &mut self.writer, keys, Records::new());
        // In the same order every time.
        let steps: BTreeMap<_, _> = steps.into_iter().collect();
        for (key, step) in steps {
            let mut tracked = Tracked::new(self.mapping.entity(key.0), step.before);
            tracked.state = step.after;
            tracked.is_decided = true;
            folding.records.insert(key, tracked);
            if let Some(side) = step.side {
                folding.clash(key, side, source.0, &step.merged);
            }
            folding.follow(key, source, step.merged);
        }
        folding.sum_up().0
    }

    /// The states of all records that `items` are about.
    async fn read_records(
        &mut self,
        items: &[Item],
        keys: &Keys,
        owners: HashSet<(EntityNo, RecordId)>,
    ) -> Result<Records, Error> {
        let mut wanted: BTreeMap<EntityNo, HashSet<Uuid>> = BTreeMap::new();
        for (entity, record) in owners {
            wanted.entry(entity).or_default().insert(record.0);
        }
        for item in items {
            let entity = item.observation.entity;
            if let Some(record) = keys.get(item.side, entity, &item.observation.key) {
                wanted.entry(entity).or_default().insert(record.0);
            }
        }
        let mut records = Records::new();
        for (entity, mut ids) in wanted {
            let described = self.mapping.entity(entity);
            let mut held = Vec::new();
            if let Some(in_flight) = &self.in_flight {
                // What is being written is not to be read yet.
                ids.retain(|id| {
                    let key = (entity, RecordId(*id));
                    let Some(state) = in_flight.outcomes.get(&key) else { return true };
                    records.insert(key, Tracked::new(described, RecordState::clone(state)));
                    held.push(*id);
                    false
                });
            }
            // A push may have bound a write to these since they were read.
            for (record, operations) in self.writer.operations(entity, &held).await? {
                if let Some(tracked) = records.get_mut(&(entity, record)) {
                    tracked.take_operations(described, operations);
                }
            }
            let states = self.writer.states(entity, ids.into_iter().collect()).await?;
            records.extend(
                states
                    .into_iter()
                    .map(|(record, state)| ((entity, record), Tracked::new(described, state))),
            );
        }
        Ok(records)
    }

    /// The junction rows that matter to `items`, and the records that own the sets.
    async fn read_elements(
        &mut self,
        items: &[Item],
        keys: &Keys,
    ) -> Result<(Elements, HashSet<(EntityNo, RecordId)>), Error> {
        let mut rows: BTreeMap<(Side, EntityNo, FieldNo), Vec<&str>> = BTreeMap::new();
        let mut parents: HashMap<(Side, EntityNo, FieldNo), HashSet<Uuid>> = HashMap::new();
        for item in items {
            if let Change::Element(element) = &item.observation.change {
                let set = (item.side, item.observation.entity, element.field);
                rows.entry(set).or_default().push(&element.row.0);
                if let Some(record) =
                    keys.get(item.side, item.observation.entity, &item.observation.key)
                {
                    parents.entry(set).or_default().insert(record.0);
                }
            }
        }
        let mut elements = Elements::new();
        let mut owners = HashSet::new();
        let mapping = Arc::clone(&self.mapping);
        for (set, rows) in rows {
            let (side, entity, field) = set;
            let parents = parents.remove(&set).unwrap_or_default();
            owners.extend(parents.iter().map(|record| (entity, RecordId(*record))));
            let field = mapping.entity(entity).field(field);
            for found in self.writer.elements(side, entity, field, &rows, &parents).await? {
                let ElementRow { row, record, element } = found;
                owners.insert((entity, record));
                elements.entry(set).or_default().insert(row, (record, element));
            }
        }
        Ok((elements, owners))
    }

    /// Adds the junction rows, read before, of the records that come to be present on a side with `items`.
    async fn read_sets_of_comers(
        &mut self,
        items: &[Item],
        keys: &Keys,
        records: &Records,
        elements: &mut Elements,
    ) -> Result<(), Error> {
        let mapping = Arc::clone(&self.mapping);
        let mut comers: BTreeMap<(Side, EntityNo), HashSet<Uuid>> = BTreeMap::new();
        for item in items {
            let (side, entity) = (item.side, item.observation.entity);
            let Some(record) = keys.get(side, entity, &item.observation.key) else { continue };
            let may_come = match item.observation.change {
                Change::Present { .. } => {
                    records.get(&(entity, record)).is_some_and(|it| it.state.comes_to(side))
                }
                // It may come back with the same batch.
                Change::Absent | Change::Outside { .. } => true,
                Change::Element(_) | Change::Renamed { .. } | Change::Truncated => false,
            };
            if may_come {
                comers.entry((side, entity)).or_default().insert(record.0);
            }
        }
        for ((side, entity), parents) in comers {
            for field in junctions(mapping.entity(entity), side) {
                let described = mapping.entity(entity).field(field);
                let rows = elements.entry((side, entity, field)).or_default();
                for found in self.writer.elements(side, entity, described, &[], &parents).await? {
                    let ElementRow { row, record, element } = found;
                    rows.entry(row).or_insert((record, element));
                }
            }
        }
        Ok(())
    }
}

/// The sets of an entity whose elements are rows of their own on `side`.
fn junctions(entity: &Entity, side: Side) -> impl Iterator<Item = FieldNo> {
    let fields = (0..).map(FieldNo).zip(&entity.fields);
    fields.filter(move |(_, field)| field.has_rows_on(side)).map(|(no, _)| no)
}

impl Tracked {
    fn new(entity: &Entity, state: RecordState) -> Self {
        let in_flight = state.operations.iter().filter(|operation| !operation.is_settled);
        Self {
            old_doomed: state.doomed.clone(),
            old_other_id: state.other_id,
            old_flights: in_flight.map(|operation| operation.id).collect(),
            old_answers: answers(&state).collect(),
            answered_itself: state.answers_itself(),
            was_due: due_sides(entity, &state),
            existed: state.exists,
            was_deleted: state.is_deleted,
            old_shadow: state.shadow.clone(),
            old_absent: state.absent.clone(),
            old_outside: state.outside.clone(),
            changed: vec![false; state.canon.len()],
            old_sets: Vec::new(),
            state,
            transaction: 0,
            at: 0,
            removed_by: None,
            altered: Vec::new(),
            is_decided: false,
            touches: Vec::new(),
        }
    }

    /// Takes our writes as they are in the database; one that the batch before this one settles is settled.
    fn take_operations(&mut self, entity: &Entity, mut operations: Vec<Operation>) {
        for operation in &mut operations {
            let id = operation.id;
            let same = |known: &Operation| known.id == id && known.is_settled;
            operation.is_settled |= self.state.operations.iter().any(same);
            if let Some(known) = self.state.operations.iter().find(|known| known.id == id) {
                operation.answer_count = known.answer_count;
            }
        }
        self.state.operations = operations;
        let state = std::mem::replace(&mut self.state, RecordState::unknown(entity));
        *self = Self::new(entity, state);
    }
}

/// Our writes to a record that were answered, with their count.
fn answers(state: &RecordState) -> impl Iterator<Item = (Uuid, u16)> {
    let answered = state.operations.iter().filter(|operation| operation.answer_count > 0);
    answered.map(|operation| (operation.id, operation.answer_count))
}

/// The sides to which something of a record is owed, whatever restrains it.
fn due_sides(entity: &Entity, state: &RecordState) -> Vec<Side> {
    if !entity.is_two_sided() {
        return Vec::new();
    }
    Side::ALL.into_iter().filter(|side| is_due(entity, state, *side)).collect()
}

impl<'a> Folding<'a> {
    fn new(
        mapping: Arc<Mapping>,
        writer: &'a mut Writer,
        keys: &'a Keys,
        records: Records,
    ) -> Self {
        Self {
            mapping,
            writer,
            keys,
            records,
            elements: Elements::new(),
            writes: Writes::default(),
            refused: BTreeMap::new(),
            element_writes: BTreeMap::new(),
            born: Vec::new(),
            own: OwnWrite::default(),
            unread_sets: BTreeSet::new(),
        }
    }

    fn item(&mut self, item: &'a Item) {
        let observation = &item.observation;
        let is_own_write = matches!(item.origin, Origin::Ours(Some(_)));
        match &observation.change {
            Change::Present { cells, claimed_id, .. } => {
                let Some(record) = self.keys.get(item.side, observation.entity, &observation.key)
                else {
                    // A second copy of a record: `resolve` gives every other row its record.
                    return;
                };
                if let Some(carried) = claimed_id
                    && let Some(tracked) = self.records.get_mut(&(observation.entity, record))
                {
                    tracked.state.see_id(record, *carried);
                }
                let mut seen = self.seen_cells(item, cells);
                seen.extend(self.sets_of_comer(item, record));
                if is_own_write {
                    let key = (observation.entity, record);
                    self.own.cells.entry(key).or_insert_with(|| (item, Vec::new())).1.extend(seen);
                } else {
                    self.merge(item, record, Seen::Present(seen));
                }
            }
            Change::Absent => {
                self.end_own_write();
                self.no_longer_refused(item, None, None);
                if let Some(record) = self.keys.get(item.side, observation.entity, &observation.key)
                {
                    self.merge(item, record, Seen::Absent);
                }
            }
            Change::Outside { .. } => {
                self.end_own_write();
                self.no_longer_refused(item, None, None);
                if let Some(record) = self.keys.get(item.side, observation.entity, &observation.key)
                {
                    self.merge(item, record, Seen::Outside);
                }
            }
            Change::Element(element) => self.element(item, element),
            // Dealt with by `resolve`, and before.
            Change::Renamed { .. } | Change::Truncated => {}
        }
    }

    /// The cells that fit, links resolved; those that do not are listed.
    fn seen_cells(&mut self, item: &Item, cells: &[(FieldNo, Cell)]) -> Vec<SeenCell> {
        let entity = item.observation.entity;
        let mapping = Arc::clone(&self.mapping);
        let mut seen = Vec::with_capacity(cells.len());
        self.no_longer_refused(item, Some(WHOLE_RECORD), None);
        for (no, cell) in cells {
            let field = mapping.entity(entity).field(*no);
            let value = resolved(field, cell, |target, key| self.keys.get(item.side, target, key));
            let limit = self.writer.shapes()[usize::from(entity.0)].limits[usize::from(no.0)];
            let fitting = value.and_then(|value| match limit.misfit(&value) {
                None => Ok(value),
                Some(refusal) => Err((refusal, None)),
            });
            match fitting {
                Ok(value) => {
                    self.no_longer_refused(item, Some(&field.name), Some(&value));
                    seen.push((*no, value));
                }
                Err((refusal, waits_for)) => {
                    let refusal =
                        Refusal { raw: refusal.raw.or_else(|| RawText::of_cell(cell)), ..refusal };
                    let raw = refusal.raw.as_ref().map(RawText::to_json);
                    self.drop_pending(item, Some(&field.name), raw.as_ref());
                    let record = (item.side, entity, item.observation.key.clone());
                    self.refused.entry(record).or_default().push(RefusalRow {
                        side: item.side,
                        entity,
                        key: item.observation.key.clone(),
                        record: self.keys.get(item.side, entity, &item.observation.key),
                        field: field.name.clone(),
                        kind: refusal.kind,
                        reason: refusal.reason,
                        raw: refusal.raw,
                        waits_for,
                        transaction: item.transaction,
                    });
                }
            }
        }
        seen
    }

    /// A field, or with `None` all, of the record that `item` is about is not listed any more, if it was. `value`: what
    /// the cell holds now.
    fn no_longer_refused(&mut self, item: &Item, field: Option<&str>, value: Option<&Value>) {
        let Observation { entity, key, .. } = &item.observation;
        // Refusals are rare, and this is on the way of every cell.
        if !self.refused.is_empty() {
            let value = value.map(Value::to_json);
            self.drop_pending(item, field, value.as_ref());
        }
        if self.writer.has_refusals(item.side, *entity) {
            self.writes.accepted.push(AcceptedRow {
                side: item.side,
                entity: *entity,
                key: key.clone(),
                record: self.keys.get(item.side, *entity, key),
                field: field.map(str::to_owned),
                value: value.map(|value| value.to_json().to_string()),
                seen_by: seen_by(item.origin),
            });
        }
    }

    /// Drops the refusals of these very items that the cell of `item` makes void. `now`: what it holds now. What was
    /// refused and is gone again is kept: it is in no table yet.
    fn drop_pending(&mut self, item: &Item, field: Option<&str>, now: Option<&Json>) {
        let Observation { entity, key, .. } = &item.observation;
        let Some(rows) = self.refused.get_mut(&(item.side, *entity, key.clone())) else { return };
        let is_meant = |row: &mut RefusalRow| field.is_none_or(|field| field == row.field);
        for gone in rows.extract_if(.., is_meant) {
            self.writes.unfit.extend(UnfitRow::of(gone, now, seen_by(item.origin)));
        }
    }

    /// A transaction of ours is over: each record that it wrote is judged.
    fn end_own_write(&mut self) {
        let OwnWrite { mut cells, sets } = std::mem::take(&mut self.own);
        for ((entity, record, field), item) in sets {
            if let Some(seen) = self.set_of(item, record, field) {
                cells.entry((entity, record)).or_insert_with(|| (item, Vec::new())).1.push(seen);
            } else if let Some((_, cells)) = cells.get_mut(&(entity, record)) {
                // Its owner is made by this very transaction.
                cells.push((field, self.elements_of(item, record, field)));
            }
        }
        for ((_, record), (item, mut cells)) in cells {
            // The last value that the transaction gives a cell is the one it leaves.
            let mut known = HashSet::new();
            cells.reverse();
            cells.retain(|(field, _)| known.insert(*field));
            cells.reverse();
            self.merge(item, record, Seen::Present(cells));
        }
    }

    /// What the rows of a set now say.
    fn elements_of(&self, item: &Item, record: RecordId, field: FieldNo) -> Value {
        let set = (item.side, item.observation.entity, field);
        let rows = self.elements.get(&set).into_iter().flat_map(HashMap::values);
        let mine = rows.filter(|(owner, _)| *owner == record);
        Value::set(mine.map(|(_, element)| element.clone()).collect())
    }

    /// The same, unless the set's owner is gone: the rows follow it by a cascade. They must not bring it back.
    fn set_of(&self, item: &Item, record: RecordId, field: FieldNo) -> Option<SeenCell> {
        let tracked = self.records.get(&(item.observation.entity, record))?;
        let is_here = tracked.state.exists && !tracked.state.is_absent_on(item.side);
        is_here.then(|| (field, self.elements_of(item, record, field)))
    }

    /// The sets of a record that comes to be present, whose rows were read before it was.
    fn sets_of_comer(&self, item: &Item, record: RecordId) -> Vec<SeenCell> {
        let entity = item.observation.entity;
        let comes = |tracked: &Tracked| tracked.state.comes_to(item.side);
        if !self.records.get(&(entity, record)).is_some_and(comes) {
            return Vec::new();
        }
        let sets = junctions(self.mapping.entity(entity), item.side);
        let sets = sets.map(|field| (field, self.elements_of(item, record, field)));
        sets.filter(|(_, set)| *set != Value::set(Vec::new())).collect()
    }

    /// A junction row came, changed or went: the set of its owner is what the rows now say.
    fn element(&mut self, item: &'a Item, element: &Element) {
        let entity = item.observation.entity;
        let mapping = Arc::clone(&self.mapping);
        let field = mapping.entity(entity).field(element.field);
        let set = (item.side, entity, element.field);
        let parent = self.keys.get(item.side, entity, &item.observation.key);
        let content = element.element.as_ref().and_then(|cell| {
            let value =
                resolved(field, cell, |target, key| self.keys.get(item.side, target, key)).ok()?;
            Some((parent?, value.to_sql()?.into_owned()))
        });
        let rows = self.elements.entry(set).or_default();
        let old = match &content {
            Some(content) => rows.insert(element.row.clone(), content.clone()),
            None => rows.remove(&element.row),
        };
        let write = (entity, item.side, field.name.clone(), element.row.clone());
        let columns = element.columns.as_deref();
        let kept = content.clone().map(|(record, element)| {
            let columns = columns.map(ToString::to_string);
            ElementContent { record, element, columns }
        });
        self.element_writes.insert(write, kept);
        let owners: HashSet<RecordId> =
            old.iter().chain(content.iter()).map(|(record, _)| *record).collect();
        for record in owners {
            if matches!(item.origin, Origin::Restored | Origin::Reread { .. }) {
                self.unread_sets.insert((entity, record, element.field));
            } else if matches!(item.origin, Origin::Ours(Some(_))) {
                self.own.sets.insert((entity, record, element.field), item);
            } else if let Some(seen) = self.set_of(item, record, element.field) {
                self.merge(item, record, Seen::Present(vec![seen]));
            }
        }
    }

    fn merge(&mut self, item: &Item, record: RecordId, seen: Seen) {
        let entity = item.observation.entity;
        let mapping = Arc::clone(&self.mapping);
        let described = mapping.entity(entity);
        let Some(tracked) = self.records.get_mut(&(entity, record)) else { return };
        let was_outside = tracked.state.is_outside(item.side);
        let merged = merge(described, &mut tracked.state, item.side, item.origin, seen);
        let is_outside = tracked.state.is_outside(item.side);
        if was_outside != is_outside && (is_outside || !tracked.state.is_absent_on(item.side)) {
            self.writes.passages.push(PassageRow {
                entity,
                record,
                side: item.side,
                has_left: is_outside,
                transaction: item.transaction,
            });
        }
        tracked.altered.extend(merged.altered.iter().map(|field| (item.side, *field)));
        tracked.touches.extend(Touch::new(described, item, &merged));
        if merged.action == Some(Action::Create) {
            self.born.push((item.side, entity, item.observation.key.clone()));
        }
        self.clash((entity, record), item.side, item.transaction, &merged);
        self.follow((entity, record), (item.transaction, item.at), merged);
    }

    /// Notes the conflicts that `side`'s word has met.
    fn clash(
        &mut self,
        (entity, record): (EntityNo, RecordId),
        side: Side,
        transaction: i64,
        merged: &Merged,
    ) {
        for clash in &merged.clashes {
            let field = clash.field.map(|no| self.mapping.entity(entity).field(no).name.clone());
            self.writes.conflicts.push(ConflictStep::Met(ConflictRow {
                entity,
                record,
                field,
                side,
                base: clash.base.as_ref().map(Value::to_json),
                canonical: clash.canonical.to_json(),
                observed: clash.observed.to_json(),
                transaction,
                decision: clash.decision.name(),
            }));
        }
    }

    /// What a change of a record's state brings with it.
    fn follow(
        &mut self,
        (entity, record): (EntityNo, RecordId),
        (transaction, at): (i64, i64),
        merged: Merged,
    ) {
        let mapping = Arc::clone(&self.mapping);
        let described = mapping.entity(entity);
        let Some(tracked) = self.records.get_mut(&(entity, record)) else { return };
        tracked.transaction = transaction;
        tracked.at = at;
        if merged.action == Some(Action::Delete) && !tracked.state.exists {
            tracked.removed_by = Some(transaction);
        }
        for changed in &merged.changed {
            let at = usize::from(changed.field.0);
            if !tracked.changed[at] && matches!(described.fields[at].store, Store::Junction { .. })
            {
                tracked.old_sets.push((changed.field, changed.before.clone()));
            }
            tracked.changed[at] = true;
        }
        self.write_down((entity, record), transaction, merged);
    }

    /// Journal, transitions and conflicts that are over.
    fn write_down(
        &mut self,
        (entity, record): (EntityNo, RecordId),
        transaction: i64,
        merged: Merged,
    ) {
        let mapping = Arc::clone(&self.mapping);
        let described = mapping.entity(entity);
        let Some(tracked) = self.records.get(&(entity, record)) else { return };
        let canon = &tracked.state.canon;
        if let Some(action) = merged.action {
            let before = object(described, &merged.changed, |changed| &changed.before);
            let after =
                object(described, &merged.changed, |changed| &canon[usize::from(changed.field.0)]);
            self.writes.journal.push(JournalRow {
                id: self.writer.new_journal_id(),
                transaction,
                entity,
                record,
                action,
                before: if action == Action::Create { "{}".into() } else { before },
                after: if action == Action::Delete { "{}".into() } else { after },
            });
        }
        for changed in &merged.changed {
            if described.field(changed.field).transitions.is_some() && tracked.state.exists {
                self.writes.transitions.push(TransitionRow {
                    entity,
                    field: changed.field,
                    record,
                    before: changed.before.clone(),
                    after: canon[usize::from(changed.field.0)].clone(),
                    transaction,
                });
            }
        }
        for (side, field) in merged.agreed {
            let name = described.field(field).name.clone();
            self.writes.conflicts.push(ConflictStep::Over(entity, record, name, side));
        }
    }

    /// How each record differs from what was read.
    fn sum_up(mut self) -> (Writes, Outcomes, Vec<Counted>) {
        let mapping = Arc::clone(&self.mapping);
        let mut by_entity = ByEntity { mapping: &mapping, writes: BTreeMap::new() };
        let mut outcomes = Outcomes::with_capacity(self.records.len());
        let mut counted = Vec::new();
        for ((entity, record), mut tracked) in self.records {
            let described = mapping.entity(entity);
            self.writes.settled.extend(tracked.settled().map(|id| (id, entity, record)));
            let answered = tracked.answered().map(|(id, count)| (id, entity, record, count));
            self.writes.answered.extend(answered);
            let has_parked = self.writer.has_parked(entity);
            let writes = by_entity.of(entity);
            if described.is_two_sided() {
                // A record that was made before, and may be found by what it holds now.
                let may_match =
                    |side| described.is_matched() && self.writer.lacks_some(side, entity);
                tracked.sum_up_owed(described, record, has_parked, may_match, writes);
                let touches = std::mem::take(&mut tracked.touches);
                let due = due_sides(described, &tracked.state);
                let of = |touch: Touch| touch.counted(entity, record, due.iter().copied());
                counted.extend(touches.into_iter().filter_map(of));
            }
            let state = tracked.sum_up(described, record, writes);
            outcomes.insert((entity, record), state);
        }
        for ((entity, side, field, row), content) in self.element_writes {
            by_entity.of(entity).elements.push((side, field, row, content));
        }
        for (entity, link) in &self.keys.links {
            let link = LinkRow { side: link.side, key: link.key.clone(), record: link.record };
            by_entity.of(*entity).links.push(link);
        }
        for (entity, side, key) in &self.keys.links_gone {
            by_entity.of(*entity).links_gone.push((*side, key.clone()));
        }
        for writes in by_entity.writes.values_mut() {
            // In the order of the primary key's index, whose neighbours are then touched one after the other.
            writes.inserts.sort_unstable_by_key(|(record, _)| record.0);
            writes.updates.sort_unstable_by_key(|(record, _)| record.0);
            // Two who take the same rows do so in the same order.
            writes.due.sort_unstable();
            writes.not_due.sort_unstable();
        }
        self.writes.entities = by_entity.writes.into_values().collect();
        self.writes.refusals = self.refused.into_values().flatten().collect();
        (self.writes, outcomes, counted)
    }
}

/// Writes by entity, parents before children as in the mapping.
struct ByEntity<'a> {
    mapping: &'a Mapping,
    writes: BTreeMap<EntityNo, EntityWrites>,
}

impl ByEntity<'_> {
    fn of(&mut self, entity: EntityNo) -> &mut EntityWrites {
        let field_count = self.mapping.entity(entity).fields.len();
        self.writes.entry(entity).or_insert_with(|| EntityWrites::new(entity, field_count))
    }
}

impl Tracked {
    /// Our writes whose effect was seen now.
    fn settled(&self) -> impl Iterator<Item = Uuid> {
        let is_new = |operation: &&Operation| {
            operation.is_settled && self.old_flights.contains(&operation.id)
        };
        self.state.operations.iter().filter(is_new).map(|operation| operation.id)
    }

    /// Our writes whose count of answers is another now.
    fn answered(&self) -> impl Iterator<Item = (Uuid, u16)> {
        let over = self.old_answers.iter().map(|(id, _)| (*id, 0)).filter(|(id, _)| {
            answers(&self.state).all(|(known, _)| known != *id)
                && self.state.operations.iter().any(|operation| operation.id == *id)
        });
        answers(&self.state).filter(|answer| !self.old_answers.contains(answer)).chain(over)
    }

    /// Holds a record that answers itself, or lets it go.
    fn hold_what_answers_itself(&self, record: RecordId, due: &[Side], writes: &mut EntityWrites) {
        if !self.state.answers_itself() {
            if self.answered_itself {
                writes.unparked.push((record, WHOLE_RECORD.to_owned()));
            }
            return;
        }
        for side in due.iter().filter(|side| self.has_changed_for(**side)) {
            writes.parked.push(ParkRow {
                record,
                side: *side,
                field: WHOLE_RECORD.to_owned(),
                code: ANSWERS_ITSELF,
                reason: "held: each write of ours is answered by a change that a side makes by itself, which makes the next write. Take what a side fills by itself (a date of the last change, a formula over it) out of the mapping, or off the other side, then `plait errors retry`; an edit by a person lets the record go on as well",
                value: Value::Null,
            });
        }
    }

    /// Adds what has to be noted of what the sides are owed.
    fn sum_up_owed(
        &self,
        entity: &Entity,
        record: RecordId,
        has_parked: bool,
        may_match: impl Fn(Side) -> bool,
        writes: &mut EntityWrites,
    ) {
        let state = &self.state;
        for side in &state.doomed {
            if !self.old_doomed.contains(side) {
                let (side, transaction) = (*side, self.transaction);
                writes.doomed.push(DoomRow { record, side, transaction });
            }
        }
        for side in &self.old_doomed {
            if !state.doomed.contains(side) {
                writes.spared.push((record, *side));
            }
        }
        let name = |no: FieldNo| entity.field(no).name.clone();
        for (at, _) in
            self.changed.iter().enumerate().filter(|(_, changed)| has_parked && **changed)
        {
            writes.unparked.push((record, entity.fields[at].name.clone()));
        }
        for (side, no) in &self.altered {
            writes.parked.push(ParkRow {
                record,
                side: *side,
                field: name(*no),
                code: "altered",
                reason: "the side keeps another value than the one it is sent, and only the other side may write this field: mend what changes it there",
                value: state.canon[usize::from(no.0)].clone(),
            });
        }
        let is_due = due_sides(entity, state);
        self.hold_what_answers_itself(record, &is_due, writes);
        for side in Side::ALL {
            match (self.was_due.contains(&side), is_due.contains(&side)) {
                (_, true) if self.has_changed_for(side) => {
                    let settle_s = self.settle_s(entity, side, &may_match);
                    writes.due.push(DueRow {
                        record,
                        side,
                        settle_s,
                        is_owed: true,
                        counted: None,
                    });
                }
                // What was in flight has arrived. Nothing else can have been bound meanwhile.
                (true, false) if self.was_in_flight(side) => writes.not_due.push((record, side)),
                // A push may be binding a write at this moment, and must find it again: it looks, and drops the row.
                (true, false) => writes.due.push(DueRow {
                    record,
                    side,
                    settle_s: None,
                    is_owed: false,
                    counted: None,
                }),
                _ => {}
            }
        }
    }

    /// How long nobody may change the record before it goes to `side`; `None`: it goes at once, as far as time is
    /// concerned.
    fn settle_s(
        &self,
        entity: &Entity,
        side: Side,
        may_match: impl Fn(Side) -> bool,
    ) -> Option<u32> {
        let state = &self.state;
        // What a person has decided here waits for nothing, nor does a write that has no answer yet, nor a delete.
        if self.is_decided || state.in_flight(side).is_some() || !state.is_alive() {
            return None;
        }
        if !state.absent.contains(&(side, false)) {
            return Some(entity.caution.edit_settle_s).filter(|seconds| *seconds > 0);
        }
        if lack(entity, state) == Some(Lack::AnyValue) {
            // It is not created before it has a value, and waits from then on.
            return None;
        }
        let is_key = |no: &FieldNo| self.changed[usize::from(no.0)];
        let is_found_by_what_changed =
            || entity.matches.iter().flat_map(|key| &key.fields).any(is_key);
        // Even without a wait: who was new before is looked for again.
        let is_looked_for = || {
            let homes = Side::ALL.into_iter().filter(|home| *home != side);
            self.existed && is_found_by_what_changed() && homes.into_iter().any(may_match)
        };
        let settle_s = entity.caution.settle_s;
        (settle_s > 0 || is_looked_for()).then_some(settle_s)
    }

    /// Whether a write to `side` was on its way when the record was read.
    fn was_in_flight(&self, side: Side) -> bool {
        let is_old = |operation: &&Operation| self.old_flights.contains(&operation.id);
        self.state.operations.iter().filter(is_old).any(|operation| operation.side == side)
    }

    /// Whether what `side` is owed may be something else than before.
    fn has_changed_for(&self, side: Side) -> bool {
        let state = &self.state;
        let shadow_of = |rows: &[(Side, FieldNo, Value)]| -> Vec<(FieldNo, Value)> {
            let mine = rows.iter().filter(|(holder, ..)| *holder == side);
            let mut mine: Vec<_> = mine.map(|(_, no, value)| (*no, value.clone())).collect();
            mine.sort_unstable_by_key(|(no, _)| *no);
            mine
        };
        self.is_decided
            || self.changed.contains(&true)
            || self.was_deleted != state.is_deleted
            || self.existed != state.exists
            || self.old_absent != state.absent
            || self.old_outside != state.outside
            || self.old_doomed != state.doomed
            || side == Side::Airtable && self.old_other_id != state.other_id
            || self.settled().next().is_some()
            || shadow_of(&self.old_shadow) != shadow_of(&state.shadow)
    }

    /// Adds what has to be written for this record; the answer is its state then.
    fn sum_up(
        self,
        entity: &Entity,
        record: RecordId,
        writes: &mut EntityWrites,
    ) -> Arc<RecordState> {
        let state = Arc::new(self.state);
        for (field, old) in self.old_sets {
            let now = state.canon[usize::from(field.0)].elements();
            let old = old.elements();
            let minus =
                |a: &[String], b: &[String]| a.iter().filter(|e| !b.contains(e)).cloned().collect();
            // The rows of a deleted record go with it.
            if state.exists {
                let change =
                    SetChange { field, record, added: minus(now, old), removed: minus(old, now) };
                writes.sets.push(change);
            }
        }
        let name = |no: &FieldNo| entity.field(*no).name.clone();
        for (side, no, value) in &state.shadow {
            if !self.old_shadow.iter().any(|(s, n, v)| (s, n, v) == (side, no, value)) {
                writes.shadows.push(ShadowRow {
                    record,
                    side: *side,
                    field: name(no),
                    value: value.clone(),
                });
            }
        }
        let owed = state.other_id;
        if owed != self.old_other_id {
            let (side, field) = (Side::Airtable, ID_FIELD.to_owned());
            match owed {
                Some(carried) => {
                    let value = carried.map_or(Value::Null, Value::Uuid);
                    writes.shadows.push(ShadowRow { record, side, field, value });
                }
                None => writes.shadows_gone.push((record, side, field)),
            }
        }
        for (side, no, _) in &self.old_shadow {
            if !state.shadow.iter().any(|(s, n, _)| (s, n) == (side, no)) {
                writes.shadows_gone.push((record, *side, name(no)));
            }
        }
        for (side, was_deleted) in &state.absent {
            let is_outside = state.outside.contains(side);
            let is_new = !self.old_absent.contains(&(*side, *was_deleted))
                || self.old_outside.contains(side) != is_outside;
            if entity.has_absences() && is_new {
                let (transaction, was_deleted) = (self.transaction, *was_deleted);
                let side = *side;
                let row = AbsenceRow { record, side, transaction, was_deleted, is_outside };
                writes.absences.push(row);
            }
        }
        for (side, _) in &self.old_absent {
            if !state.absent.iter().any(|(absent, _)| absent == side) {
                writes.absences_gone.push((record, *side));
            }
        }
        if state.exists && state.is_deleted != self.was_deleted {
            writes.marks.push((record, state.is_deleted.then_some(self.at)));
        }
        writes.tombstones.extend(self.removed_by.map(|transaction| (record, transaction)));
        match (self.existed, state.exists) {
            (false, true) => writes.inserts.push((record, Arc::clone(&state))),
            (true, true) if self.changed.contains(&true) => {
                for (flag, changed) in writes.changed.iter_mut().zip(&self.changed) {
                    *flag |= *changed;
                }
                writes.updates.push((record, Arc::clone(&state)));
            }
            (true, false) => {
                writes.deletes.push(record);
            }
            _ => {}
        }
        state
    }
}

/// Who made the log say what a cell holds, as far as it matters for what the cell held before.
fn seen_by(origin: Origin) -> SeenBy {
    match origin {
        Origin::Ours(_) => SeenBy::Us,
        Origin::Scan | Origin::Restored | Origin::Reread { .. } => SeenBy::Scan,
        Origin::Somebody => SeenBy::Somebody,
    }
}

/// A cell's value with its links as canonical ids, or why it cannot be taken yet, and whom it waits for.
pub(super) fn resolved(
    field: &Field,
    cell: &Cell,
    record_of: impl Fn(EntityNo, &SideKey) -> Option<RecordId>,
) -> Result<Value, (Refusal, Option<Vec<String>>)> {
    let find = |key: &SideKey| target(field).and_then(|target| record_of(target, key));
    let unknown = |keys: &[SideKey]| {
        let refusal = Refusal {
            kind: RefusalKind::UnknownTarget,
            reason:
                "links to a record that has not arrived yet; it is taken as soon as that one does"
                    .into(),
            raw: RawText::of_cell(cell),
        };
        (refusal, Some(keys.iter().map(ToString::to_string).collect()))
    };
    match cell {
        Cell::Value(value) => Ok(value.clone()),
        Cell::Link(None) => Ok(Value::Null),
        Cell::Link(Some(key)) => match find(key) {
            Some(record) => Ok(Value::Uuid(record.0)),
            None => Err(unknown(std::slice::from_ref(key))),
        },
        Cell::Links(keys) => {
            let records: Option<Vec<String>> =
                keys.iter().map(|key| find(key).map(|record| record.to_string())).collect();
            records.map(Value::set).ok_or_else(|| unknown(keys))
        }
        Cell::Refused(refusal) => Err((refusal.clone(), None)),
    }
}

/// `{"field": value, …}` of the fields that changed.
fn object<'a>(
    entity: &Entity,
    changed: &'a [Changed],
    value: impl Fn(&'a Changed) -> &'a Value,
) -> String {
    let mut json = String::from("{");
    for (at, changed) in changed.iter().enumerate() {
        if at > 0 {
            json.push(',');
        }
        // Names of fields need no escaping: the mapping allows letters, digits and `_`.
        json.push('"');
        json.push_str(&entity.field(changed.field).name);
        json.push_str("\":");
        json.push_str(&value(changed).to_json().to_string());
    }
    json.push('}');
    json
}

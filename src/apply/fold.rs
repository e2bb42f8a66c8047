//! A chunk of items → what to write. Reads the states of the records that the items name, lets
//! [`crate::merge`] judge each observation in order, and sums up.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use uuid::Uuid;

use super::{
    Apply, Error, Item,
    batch::Outcomes,
    resolve::{Keys, target},
};
use crate::{
    mapping::{Entity, Field, Mapping, Store},
    merge::{Action, Changed, Merged, RecordState, Seen, SeenCell, merge},
    model::{
        Cell, Change, Element, EntityNo, FieldNo, Observation, RecordId, Refusal, RefusalKind,
        Side, SideKey, Value,
    },
    store::{
        AbsenceRow, ConflictRow, ElementRow, EntityWrites, JournalRow, LinkRow, RefusalRow,
        SetChange, ShadowRow, TransitionRow, WHOLE_RECORD, Writer, Writes,
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
    /// A flag a field.
    changed: Vec<bool>,
    /// What sets in junction tables held before.
    old_sets: Vec<(FieldNo, Value)>,
    /// The transaction that last touched it, and when.
    transaction: i64,
    at: i64,
    /// The transaction that last removed it.
    removed_by: Option<i64>,
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
    element_writes: BTreeMap<(EntityNo, Side, String, SideKey), Option<(RecordId, String)>>,
    born: Vec<(Side, EntityNo, SideKey)>,
}

impl Apply {
    /// Folds `items`, in order. Writes nothing.
    pub(super) async fn fold(&mut self, items: &[Item]) -> Result<Folded, Error> {
        let keys = self.resolve(items).await?;
        let (elements, owners) = self.read_elements(items, &keys).await?;
        let records = self.read_records(items, &keys, owners).await?;
        let mut folding = Folding {
            mapping: Arc::clone(&self.mapping),
            writer: &mut self.writer,
            keys: &keys,
            records,
            elements,
            writes: Writes::default(),
            element_writes: BTreeMap::new(),
            born: Vec::new(),
        };
        for item in items {
            folding.item(item);
        }
        let born = std::mem::take(&mut folding.born);
        let (writes, outcomes) = folding.sum_up();
        let awaited =
            if born.is_empty() || !self.writer.any_refusals() { Vec::new() } else { born };
        Ok(Folded { writes, awaited, outcomes })
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
            if let Some(in_flight) = &self.in_flight {
                // What is being written is not to be read yet.
                ids.retain(|id| {
                    let key = (entity, RecordId(*id));
                    let Some(state) = in_flight.outcomes.get(&key) else { return true };
                    records.insert(key, Tracked::new(RecordState::clone(state)));
                    false
                });
            }
            let states = self.writer.states(entity, ids.into_iter().collect()).await?;
            records.extend(
                states.into_iter().map(|(record, state)| ((entity, record), Tracked::new(state))),
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
}

impl Tracked {
    fn new(state: RecordState) -> Self {
        Self {
            existed: state.exists,
            was_deleted: state.is_deleted,
            old_shadow: state.shadow.clone(),
            old_absent: state.absent.clone(),
            changed: vec![false; state.canon.len()],
            old_sets: Vec::new(),
            state,
            transaction: 0,
            at: 0,
            removed_by: None,
        }
    }
}

impl Folding<'_> {
    fn item(&mut self, item: &Item) {
        let observation = &item.observation;
        match &observation.change {
            Change::Present { cells, .. } => {
                let Some(record) = self.keys.get(item.side, observation.entity, &observation.key)
                else {
                    // A row whose key is no key of ours can only be a Postgres row without a UUID, which
                    // `resolve` has linked; nothing else reaches here.
                    return;
                };
                let seen = self.seen_cells(item, cells);
                self.merge(item, record, Seen::Present(seen));
            }
            Change::Absent => {
                self.no_longer_refused(item, None);
                if let Some(record) = self.keys.get(item.side, observation.entity, &observation.key)
                {
                    self.merge(item, record, Seen::Absent);
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
        self.no_longer_refused(item, Some(WHOLE_RECORD));
        for (no, cell) in cells {
            let field = mapping.entity(entity).field(*no);
            match resolved(field, cell, |target, key| self.keys.get(item.side, target, key)) {
                Ok(value) => {
                    seen.push((*no, value));
                    self.no_longer_refused(item, Some(&field.name));
                }
                Err((refusal, waits_for)) => {
                    self.writes.refusals.push(RefusalRow {
                        side: item.side,
                        entity,
                        key: item.observation.key.clone(),
                        field: field.name.clone(),
                        kind: refusal.kind,
                        reason: refusal.reason,
                        waits_for,
                        transaction: item.transaction,
                    });
                }
            }
        }
        seen
    }

    /// A field, or with `None` all, of the record that `item` is about is not listed any more, if it was.
    fn no_longer_refused(&mut self, item: &Item, field: Option<&str>) {
        let Observation { entity, key, .. } = &item.observation;
        // Refusals are rare, and this is on the way of every cell.
        if !self.writes.refusals.is_empty() {
            self.writes.refusals.retain(|row| {
                (row.side, row.entity, &row.key) != (item.side, *entity, key)
                    || field.is_some_and(|field| field != row.field)
            });
        }
        if self.writer.has_refusals(item.side, *entity) {
            let field = field.map(str::to_owned);
            self.writes.accepted.push((item.side, *entity, key.clone(), field));
        }
    }

    /// A junction row came, changed or went: the set of its owner is what the rows now say.
    fn element(&mut self, item: &Item, element: &Element) {
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
        self.element_writes.insert(write, content.clone());
        let owners: HashSet<RecordId> =
            old.iter().chain(content.iter()).map(|(record, _)| *record).collect();
        for record in owners {
            // A set whose owner is gone: the rows follow it by a cascade. They must not bring it back.
            let has_owner = self.records.get(&(entity, record)).is_some_and(|tracked| {
                tracked.state.exists && !tracked.state.is_absent_on(item.side)
            });
            if !has_owner {
                continue;
            }
            let elements = self.elements.get(&set).into_iter().flat_map(HashMap::values);
            let elements = elements
                .filter(|(owner, _)| *owner == record)
                .map(|(_, element)| element.clone())
                .collect();
            let seen = Seen::Present(vec![(element.field, Value::set(elements))]);
            self.merge(item, record, seen);
        }
    }

    fn merge(&mut self, item: &Item, record: RecordId, seen: Seen) {
        let entity = item.observation.entity;
        let mapping = Arc::clone(&self.mapping);
        let described = mapping.entity(entity);
        let Some(tracked) = self.records.get_mut(&(entity, record)) else { return };
        let merged = merge(described, &mut tracked.state, item.side, seen);
        tracked.transaction = item.transaction;
        tracked.at = item.at;
        if merged.action == Some(Action::Delete) && !tracked.state.exists {
            tracked.removed_by = Some(item.transaction);
        }
        for changed in &merged.changed {
            let at = usize::from(changed.field.0);
            if !tracked.changed[at] && matches!(described.fields[at].store, Store::Junction { .. })
            {
                tracked.old_sets.push((changed.field, changed.before.clone()));
            }
            tracked.changed[at] = true;
        }
        if merged.action == Some(Action::Create) {
            self.born.push((item.side, entity, item.observation.key.clone()));
        }
        self.write_down(item, record, described, merged);
    }

    /// Journal, transitions and conflicts of one observation.
    fn write_down(&mut self, item: &Item, record: RecordId, described: &Entity, merged: Merged) {
        let entity = item.observation.entity;
        let Some(tracked) = self.records.get(&(entity, record)) else { return };
        let canon = &tracked.state.canon;
        if let Some(action) = merged.action {
            let before = object(described, &merged.changed, |changed| &changed.before);
            let after =
                object(described, &merged.changed, |changed| &canon[usize::from(changed.field.0)]);
            self.writes.journal.push(JournalRow {
                id: self.writer.new_journal_id(),
                transaction: item.transaction,
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
                    transaction: item.transaction,
                });
            }
        }
        for clash in merged.clashes {
            self.writes.conflicts.push(ConflictRow {
                entity,
                record,
                field: clash.field.map(|no| described.field(no).name.clone()),
                side: item.side,
                base: clash.base.as_ref().map(Value::to_json),
                canonical: clash.canonical.to_json(),
                observed: clash.observed.to_json(),
                transaction: item.transaction,
                decision: clash.decision.name(),
            });
        }
        for field in merged.agreed {
            let name = described.field(field).name.clone();
            self.writes.agreed.push((entity, record, name, item.side));
        }
    }

    /// How each record differs from what was read.
    fn sum_up(mut self) -> (Writes, Outcomes) {
        let mapping = Arc::clone(&self.mapping);
        let mut by_entity = ByEntity { mapping: &mapping, writes: BTreeMap::new() };
        let mut outcomes = Outcomes::with_capacity(self.records.len());
        for ((entity, record), tracked) in self.records {
            let state = tracked.sum_up(mapping.entity(entity), record, by_entity.of(entity));
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
        }
        self.writes.entities = by_entity.writes.into_values().collect();
        (self.writes, outcomes)
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
        for (side, no, _) in &self.old_shadow {
            if !state.shadow.iter().any(|(s, n, _)| (s, n) == (side, no)) {
                writes.shadows_gone.push((record, *side, name(no)));
            }
        }
        for (side, was_deleted) in &state.absent {
            if entity.has_absences() && !self.old_absent.contains(&(*side, *was_deleted)) {
                let (transaction, was_deleted) = (self.transaction, *was_deleted);
                writes.absences.push(AbsenceRow { record, side: *side, transaction, was_deleted });
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

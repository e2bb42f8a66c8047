//! What happens in a history: people, the hub that reads and pushes, and everything that goes wrong between.

use std::{
    collections::{BTreeMap, HashSet},
    io::Write as _,
};

use uuid::Uuid;

use super::{
    Broken, Dice, FIELD_COUNT, RECORD_COUNT,
    restore::Restores,
    side::{Answer, Entry, Row, Shown, What, World},
    tags,
};
use crate::{
    mapping::{DeletePolicy, Entity, FieldKind},
    merge::{
        Action, Merged, Operation, OperationKind, Origin, Owed, RecordState, Restraints, Seen,
        cell, decide, merge, mutant::Mutant, owed,
    },
    model::{Decision, FieldNo, Side, Value, Wish},
};

/// An edit, as the checker remembers it: by whom it was made in knowledge of what.
#[derive(Clone, Debug)]
pub(super) struct Ghost {
    pub(super) record: usize,
    pub(super) field: usize,
    pub(super) value: Value,
    pub(super) parents: Vec<usize>,
    pub(super) is_human: bool,
    /// Its entry in the log was never read: a listing came instead.
    pub(super) is_in_gap: bool,
}

/// A row of `mirror.conflict`.
#[derive(Clone, Debug)]
pub(super) struct Conflict {
    pub(super) record: usize,
    pub(super) field: Option<usize>,
    pub(super) side: Side,
    pub(super) values: Vec<Value>,
    pub(super) observed: Value,
    pub(super) is_open: bool,
    /// What a person has settled it with.
    pub(super) settled: Option<Value>,
}

/// A request that was bound.
#[derive(Clone, Debug)]
pub(super) struct Request {
    record: usize,
    pub(super) operation: Operation,
    cells: Vec<(usize, Shown)>,
    is_answered: bool,
    is_blocked: bool,
    /// Once on its way it is not checked any more: what the side holds may be this.
    is_sent: bool,
}

pub(super) struct History<'a> {
    pub(super) entity: &'a Entity,
    pub(super) dice: Dice,
    mutant: Option<Mutant>,
    is_told: bool,
    pub(super) worlds: [World; 2],
    pub(super) states: [RecordState; RECORD_COUNT],
    pub(super) canon_ghosts: [[usize; FIELD_COUNT]; RECORD_COUNT],
    pub(super) ghosts: Vec<Ghost>,
    pub(super) conflicts: Vec<Conflict>,
    pub(super) journal: Vec<(usize, Action, Vec<(usize, Value, Value)>)>,
    pub(super) requests: Vec<Request>,
    /// Copies of requests that have not arrived yet.
    pub(super) late: Vec<usize>,
    pub(super) approved: Vec<(usize, Side)>,
    pub(super) parked: Vec<(usize, Side, usize, Value)>,
    /// Whether requests are checked against what the side holds before they are sent.
    is_checking: bool,
    /// Whether requests may be taken apart.
    is_splitting: bool,
    /// Whether Directus has defaults, and hooks that empty cells.
    is_meddling: bool,
    /// The keys under which the hub knows the records of each side.
    pub(super) known_keys: [[usize; RECORD_COUNT]; 2],
    /// Cells that a side has changed by itself: who was last is nobody's to say.
    pub(super) meddled: HashSet<(usize, usize)>,
    pub(super) restores: Restores,
    block_count: usize,
    pub(super) write_count: usize,
    pub(super) cause_count: usize,
    fresh: i64,
    operation_count: u128,
}

pub(super) fn at(side: Side) -> usize {
    usize::from(side == Side::Directus)
}

pub(super) fn no(field: usize) -> FieldNo {
    FieldNo(u16::try_from(field).unwrap())
}

fn place(field: FieldNo) -> usize {
    usize::from(field.0)
}

impl<'a> History<'a> {
    pub(super) fn new(
        entity: &'a Entity,
        mut dice: Dice,
        mutant: Option<Mutant>,
        is_told: bool,
    ) -> Self {
        let is_checking = mutant == Some(Mutant::StaleCheck) || dice.chance(30);
        let is_upserting = dice.chance(25);
        let (is_splitting, is_meddling) = (dice.chance(50), dice.chance(30));
        let restores = Restores::new(dice.chance(35));
        let nothing = |record, field| Ghost {
            record,
            field,
            value: Value::Null,
            parents: Vec::new(),
            is_human: false,
            is_in_gap: false,
        };
        Self {
            entity,
            dice,
            mutant,
            is_told,
            worlds: [World::new(Side::Airtable, is_upserting), World::new(Side::Directus, false)],
            states: std::array::from_fn(|_| RecordState::unknown(entity)),
            canon_ghosts: [[0; FIELD_COUNT]; RECORD_COUNT],
            ghosts: vec![nothing(0, 0)],
            conflicts: Vec::new(),
            journal: Vec::new(),
            requests: Vec::new(),
            late: Vec::new(),
            approved: Vec::new(),
            parked: Vec::new(),
            is_checking,
            is_splitting,
            is_meddling,
            known_keys: [[0; RECORD_COUNT]; 2],
            meddled: HashSet::new(),
            restores,
            block_count: 0,
            write_count: 0,
            cause_count: 0,
            fresh: 100,
            operation_count: 0,
        }
    }

    pub(super) fn tell(&self, words: impl FnOnce() -> String) {
        if self.is_told {
            std::io::stderr().write_all(format!("{}\n", words()).as_bytes()).unwrap();
        }
    }

    /// Something happens.
    pub(super) fn step(&mut self) -> Result<(), Broken> {
        let side = self.dice.pick(&Side::ALL);
        if self.step_of_restores(side)? {
            return Ok(());
        }
        let record = self.dice.below(RECORD_COUNT);
        match self.dice.below(100) {
            0..30 => self.edit(side, record),
            30..36 => self.delete_or_restore(side, record),
            36..62 => self.read(side)?,
            62..74 => self.bind(side, record)?,
            74..90 => self.send(false),
            90..92 => self.scan(side)?,
            92..95 => self.arrive_late(),
            95..97 => self.approve(),
            97 => self.undo(record)?,
            _ => self.decide()?,
        }
        Ok(())
    }

    fn ghost(&mut self, record: usize, field: usize, value: &Value, parents: Vec<usize>) -> usize {
        let (value, is_human, is_in_gap) = (value.clone(), false, false);
        self.ghosts.push(Ghost { record, field, value, parents, is_human, is_in_gap });
        self.ghosts.len() - 1
    }

    fn fresh_value(&mut self, field: usize, shown: &Value) -> Value {
        if self.entity.fields[field].kind == FieldKind::MultiSelect {
            return tags(&mut self.dice, shown);
        }
        self.fresh += 1;
        // Not growing: policies compare.
        Value::Int((self.fresh * 7919) % 1_000_003)
    }

    /// A person changes one cell: to something new, or back to something that it held before.
    pub(super) fn edit(&mut self, side: Side, record: usize) {
        let Some(row) = self.worlds[at(side)].rows[record].clone() else {
            return self.create(side, record);
        };
        let field = self.dice.below(FIELD_COUNT);
        let shown = &row[field];
        let earlier: Vec<usize> = (0..self.ghosts.len())
            .filter(|at| {
                let ghost = &self.ghosts[*at];
                ghost.record == record && ghost.field == field && ghost.value != shown.value
            })
            .collect();
        let value = if !earlier.is_empty() && self.dice.chance(35) {
            let earlier = self.dice.pick(&earlier);
            self.ghosts[earlier].value.clone()
        } else {
            self.fresh_value(field, &shown.value)
        };
        let ghost = self.ghost(record, field, &value, vec![shown.ghost]);
        self.ghosts[ghost].is_human = true;
        self.cause_count += 1;
        self.tell(|| format!("{side} record {record}.{field}: {:?} -> {value:?}", shown.value));
        let cells = vec![(field, Shown { value, ghost })];
        self.worlds[at(side)].write(record, cells, None, None);
    }

    /// A person makes the record, where nobody else has done so.
    fn create(&mut self, side: Side, record: usize) {
        let is_new = self
            .worlds
            .iter()
            .all(|world| world.rows[record].is_none() && world.bin[record].is_none());
        // What both sides lack after they went back in time may still be known: another one is not it.
        if !is_new || self.journal.iter().any(|(known, ..)| *known == record) {
            return;
        }
        let row: Row = std::array::from_fn(|field| {
            if self.dice.chance(30) {
                let ghost = self.ghost(record, field, &Value::Null, Vec::new());
                return Shown { value: Value::Null, ghost };
            }
            let value = self.fresh_value(field, &Value::Null);
            let ghost = self.ghost(record, field, &value, Vec::new());
            self.ghosts[ghost].is_human = true;
            Shown { value, ghost }
        });
        self.cause_count += 1;
        self.tell(|| format!("{side} creates record {record}: {row:?}"));
        self.worlds[at(side)].create(record, row, None);
    }

    pub(super) fn delete_or_restore(&mut self, side: Side, record: usize) {
        let world = &mut self.worlds[at(side)];
        if world.rows[record].is_some() {
            world.delete(record, None);
            self.cause_count += 2;
            self.tell(|| format!("{side} deletes record {record}"));
        } else if let Some(row) = world.bin[record].take() {
            world.create(record, row, None);
            if self.restores.has_gone_back {
                // Somebody puts back what may be of the backup, whatever they knew of its cells.
                self.meddled.extend((0..FIELD_COUNT).map(|field| (record, field)));
            }
            self.cause_count += 2;
            self.tell(|| format!("{side} restores record {record}"));
        }
    }

    /// The hub reads the next entry of a log; sometimes it has to read it once more.
    pub(super) fn read(&mut self, side: Side) -> Result<(), Broken> {
        let Some(entry) = self.worlds[at(side)].log.pop_front() else { return Ok(()) };
        let origin = match (side, entry.operation) {
            (_, None) => Origin::Somebody,
            (Side::Directus, id) => Origin::Ours(id),
            (Side::Airtable, Some(_)) => Origin::Ours(None),
        };
        self.unblock(side, entry.record);
        self.take_in(side, origin, &entry)?;
        if self.dice.chance(10) {
            self.take_in(side, origin, &entry)?;
        }
        Ok(())
    }

    pub(super) fn take_in(
        &mut self,
        side: Side,
        origin: Origin,
        entry: &Entry,
    ) -> Result<(), Broken> {
        let record = entry.record;
        let seen = match &entry.what {
            What::Cells(cells) => Seen::Present(
                cells.iter().map(|(field, shown)| (no(*field), shown.value.clone())).collect(),
            ),
            What::Gone => Seen::Absent,
        };
        if matches!(entry.what, What::Cells(_)) {
            self.known_keys[at(side)][record] = entry.key;
        }
        let before = self.states[record].clone();
        let merged = merge(self.entity, &mut self.states[record], side, origin, seen);
        self.tell(|| {
            let (what, state) = (&entry.what, &self.states[record]);
            format!("  hub reads {side} {origin:?} {what:?}\n    {merged:?}\n    {state:?}")
        });
        self.check_own(&before, side, origin, entry, &merged)?;
        for clash in &merged.clashes {
            self.record_conflict(record, side, clash);
        }
        for (side, field) in &merged.agreed {
            for conflict in &mut self.conflicts {
                let is_it = conflict.field == Some(place(*field)) && conflict.side == *side;
                conflict.is_open &= !(is_it && conflict.record == record);
            }
        }
        for field in &merged.altered {
            let value = self.states[record].canon[place(*field)].clone();
            self.parked.push((record, side, place(*field), value));
        }
        let shown = match &entry.what {
            What::Cells(cells) => &cells[..],
            What::Gone => &[],
        };
        for field in 0..FIELD_COUNT {
            let (was, is) = (&before.canon[field], self.states[record].canon[field].clone());
            if *was == is {
                continue;
            }
            let old = self.canon_ghosts[record][field];
            let theirs = shown.iter().find(|(no, _)| *no == field).map(|(_, shown)| shown);
            self.canon_ghosts[record][field] = match theirs {
                Some(shown) if shown.value == is => shown.ghost,
                Some(shown) => self.ghost(record, field, &is, vec![old, shown.ghost]),
                None => old,
            };
        }
        self.write_journal(record, &merged);
        self.check_state(record)
    }

    /// I14: our own write coming back changes nothing. What the side fills in by itself is taken where canonical has
    /// nothing; a hook is heard once the echo of the write was read before.
    fn check_own(
        &mut self,
        before: &RecordState,
        side: Side,
        origin: Origin,
        entry: &Entry,
        merged: &Merged,
    ) -> Result<(), Broken> {
        if !matches!(origin, Origin::Ours(_)) {
            return Ok(());
        }
        let record = entry.record;
        self.meddled.extend(entry.by_itself.iter().map(|field| (record, *field)));
        let is_open = |operation: &&Operation| {
            Some(operation.id) == entry.operation && operation.side == side && !operation.is_settled
        };
        let is_first = before.operations.iter().any(|operation| is_open(&operation));
        let may_change = |changed: &crate::merge::Changed| {
            let field = place(changed.field);
            entry.by_itself.contains(&field) && changed.before.is_null()
        };
        // A late copy of a write, with what a hook does to it anew, is a flow's that goes on with our name.
        let is_flow = !is_first && !entry.by_itself.is_empty();
        let is_quiet = merged.changed.iter().all(may_change)
            && matches!(merged.action, None | Some(Action::Update))
            && merged.clashes.is_empty();
        if is_quiet || is_flow {
            return Ok(());
        }
        Err(format!(
            "I14 our own write was taken for somebody's: its echo on {side} did {merged:?}"
        ))
    }

    fn write_journal(&mut self, record: usize, merged: &Merged) {
        if let Some(action) = merged.action {
            let state = &self.states[record];
            let is_gone = action == Action::Delete;
            let cells = merged.changed.iter().map(|changed| {
                let at = place(changed.field);
                let after = if is_gone { Value::Null } else { state.canon[at].clone() };
                (at, changed.before.clone(), after)
            });
            self.journal.push((record, action, cells.collect()));
        }
    }

    /// As `conflict_put.sql` and `conflict_overwritten.sql` do.
    fn record_conflict(&mut self, record: usize, side: Side, clash: &crate::merge::ClashRecord) {
        let field = clash.field.map(place);
        let values: Vec<Value> = match (&clash.field, &clash.canonical, &clash.observed) {
            (Some(_), canonical, observed) => {
                clash.base.iter().chain([canonical, observed]).cloned().collect()
            }
            (None, canonical, observed) => vec![canonical.clone(), observed.clone()],
        };
        let is_held = clash.decision == cell::Decision::Held;
        let observed = clash.observed.clone();
        let is_same = |known: &&mut Conflict| {
            known.is_open && (known.record, known.field, known.side) == (record, field, side)
        };
        if is_held && let Some(known) = self.conflicts.iter_mut().find(is_same) {
            let overwritten = Conflict { is_open: false, ..known.clone() };
            (known.values, known.observed) = (values, observed);
            self.conflicts.push(overwritten);
            return;
        }
        let (is_open, settled) = (is_held, None);
        self.conflicts.push(Conflict { record, field, side, values, observed, is_open, settled });
    }

    fn held(&self, record: usize) -> Vec<FieldNo> {
        let open = self.conflicts.iter().filter(|known| known.is_open && known.record == record);
        open.filter_map(|known| known.field.map(no)).collect()
    }

    pub(super) fn is_held(&self, record: usize, field: usize) -> bool {
        self.held(record).contains(&no(field))
    }

    /// What is owed to a side is bound, if nothing is on its way there.
    pub(super) fn bind(&mut self, side: Side, record: usize) -> Result<(), Broken> {
        if self.restores.is_shut {
            return Ok(());
        }
        let state = &self.states[record];
        let is_approved = self.approved.contains(&(record, side))
            || self.entity.deletes == DeletePolicy::Propagate;
        let parked = self.parked.iter().filter(|(at, to, ..)| (*at, *to) == (record, side));
        let restraints = Restraints {
            held: self.held(record),
            parked: parked.map(|(_, _, field, value)| (no(*field), value.clone())).collect(),
            is_approved: true,
            delete: state.doomed.contains(&side).then_some(is_approved),
            ..Restraints::default()
        };
        let (kind, cells) = match owed(self.entity, state, side, &restraints) {
            Owed::Nothing => return Ok(()),
            Owed::Create(cells) => (OperationKind::Create, cells),
            Owed::Update(cells) => (OperationKind::Update, cells),
            Owed::Delete => (OperationKind::Delete, Vec::new()),
        };
        let world = &self.worlds[at(side)];
        let is_read = world.log.iter().all(|entry| entry.record != record);
        if kind == OperationKind::Create && is_read && world.rows[record].is_some() {
            return Err(format!("I6 record {record} is on {side}, and is to be made there again"));
        }
        if kind == OperationKind::Delete && !is_approved {
            return Err(String::from("I7 a delete without a yes"));
        }
        self.operation_count += 1;
        let id = Uuid::from_u128(self.operation_count);
        let shown = cells.iter().map(|cell| {
            let (field, value) = (place(cell.field), cell.value.clone());
            (field, Shown { value, ghost: self.canon_ghosts[record][field] })
        });
        let shown = shown.collect();
        let operation = Operation::new(id, side, kind, cells);
        self.tell(|| format!("  hub binds {operation:?} for record {record}"));
        self.states[record].operations.push(operation.clone());
        self.requests.push(Request {
            record,
            operation,
            cells: shown,
            is_answered: false,
            is_blocked: false,
            is_sent: false,
        });
        Ok(())
    }

    fn is_settled(&self, request: &Request) -> bool {
        let known = |operation: &&Operation| operation.id == request.operation.id;
        self.states[request.record].operations.iter().find(known).is_none_or(|it| it.is_settled)
    }

    /// A request that has no answer yet is sent, once more perhaps.
    pub(super) fn send(&mut self, is_calm: bool) {
        if self.restores.is_shut {
            return;
        }
        let open: Vec<usize> = (0..self.requests.len())
            .filter(|at| {
                let request = &self.requests[*at];
                !request.is_answered && !request.is_blocked && !self.is_settled(request)
            })
            .collect();
        if open.is_empty() {
            return;
        }
        let which = self.dice.pick(&open);
        if self.is_checking && !self.requests[which].is_sent && !self.is_as_expected(which) {
            self.block(which);
            return;
        }
        let is_first = !std::mem::replace(&mut self.requests[which].is_sent, true);
        if self.is_splitting && !is_calm && self.dice.chance(30) {
            return self.send_in_parts(which);
        }
        if !is_first {
            self.note_parts(which);
        }
        if is_calm || self.dice.chance(65) {
            let answer = self.perform(which);
            if is_calm || self.dice.chance(75) {
                self.answered(which, answer);
            } else {
                self.cause_count += 1;
            }
        } else {
            self.cause_count += 1;
            if self.dice.chance(50) {
                self.late.push(which);
            }
        }
    }

    /// The hub knows from now on that a request may leave out some of the operation's cells.
    fn note_parts(&mut self, which: usize) {
        let Request { record, operation, .. } = &self.requests[which];
        let known = self.states[*record].operations.iter_mut();
        known.filter(|it| it.id == operation.id).for_each(|it| it.is_partial = true);
    }

    /// The request goes in two: because one of its cells is refused, or has to go alone. The second part may never go.
    fn send_in_parts(&mut self, which: usize) {
        let Request { record, operation, cells, .. } = self.requests[which].clone();
        if operation.kind == OperationKind::Delete || cells.is_empty() {
            return;
        }
        self.note_parts(which);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for (field, shown) in cells {
            let elements = shown.value.elements();
            if self.dice.chance(50) {
                first.push((field, shown));
            } else {
                // Of a set in a junction table, some rows come before the others.
                let expected = operation.cells.iter().find(|cell| place(cell.field) == field);
                let held = expected.map_or(Value::Null, |cell| cell.expected.clone());
                let mut now = held.elements().to_vec();
                now.extend(elements.iter().take(1).cloned());
                if operation.side == Side::Directus && now.len() > 1 && self.dice.chance(50) {
                    let ghost =
                        self.ghost(record, field, &Value::set(now.clone()), vec![shown.ghost]);
                    first.push((field, Shown { value: Value::set(now), ghost }));
                }
                second.push((field, shown));
            }
        }
        let mut answer = Answer::Taken;
        if operation.kind == OperationKind::Create || !first.is_empty() {
            answer = self.perform_part(which, operation.kind, first);
        }
        if answer == Answer::Gone {
            return self.answered(which, answer);
        }
        match self.dice.below(4) {
            // Nothing more is heard of it for now.
            0 => self.cause_count += 1,
            // One cell is refused, and the others go.
            1 if !second.is_empty() => {
                let (field, shown) = second.swap_remove(self.dice.below(second.len()));
                if !second.is_empty() {
                    self.perform_part(which, OperationKind::Update, second);
                }
                self.parked.push((record, operation.side, field, shown.value));
                self.requests[which].is_answered = true;
                let known = self.states[record].operations.iter_mut();
                known.filter(|it| it.id == operation.id).for_each(|it| it.is_settled = true);
                self.cause_count += 1;
                self.tell(|| format!("  field {field} was refused, the rest is given up"));
            }
            _ => {
                let answer = if second.is_empty() {
                    Answer::Taken
                } else {
                    self.perform_part(which, OperationKind::Update, second)
                };
                self.answered(which, answer);
            }
        }
    }

    fn perform_part(
        &mut self,
        which: usize,
        kind: OperationKind,
        cells: Vec<(usize, Shown)>,
    ) -> Answer {
        let Request { record, operation, .. } = self.requests[which].clone();
        self.write_count += 1;
        let by_itself = self.meddling(record, &operation);
        self.tell(|| {
            let (side, rest) = (operation.side, &by_itself);
            format!("  {side} carries out {kind:?} {cells:?}, of itself {rest:?}")
        });
        let world = &mut self.worlds[at(operation.side)];
        world.perform(record, kind, cells, operation.id, by_itself)
    }

    /// What Directus does by itself with a write of ours: a default where it makes the record, a hook that empties.
    fn meddling(&mut self, record: usize, operation: &Operation) -> Option<(usize, Shown)> {
        if !self.is_meddling || operation.side == Side::Airtable || !self.dice.chance(25) {
            return None;
        }
        let field = self.dice.below(FIELD_COUNT);
        let row = self.worlds[at(operation.side)].rows[record].as_ref();
        // A hook that answers every write would answer for ever.
        let is_new = row.is_none();
        if operation.sent(no(field)).is_some() || !is_new && self.meddled.len() > 2 {
            return None;
        }
        let old = row.map(|row| row[field].ghost);
        let value = if is_new { self.fresh_value(field, &Value::Null) } else { Value::Null };
        let ghost = self.ghost(record, field, &value, old.into_iter().collect());
        self.meddled.insert((record, field));
        self.cause_count += 2;
        Some((field, Shown { value, ghost }))
    }

    fn perform(&mut self, which: usize) -> Answer {
        let Request { operation, cells, .. } = &self.requests[which];
        self.perform_part(which, operation.kind, cells.clone())
    }

    fn answered(&mut self, which: usize, answer: Answer) {
        self.requests[which].is_answered = true;
        let Request { record, operation, .. } = self.requests[which].clone();
        let state = &mut self.states[record];
        if answer == Answer::Gone {
            for known in &mut state.operations {
                known.is_settled |= known.id == operation.id;
            }
        } else if self.mutant == Some(Mutant::ShadowMovesOnAnswer) {
            state.set_present(operation.side);
            for cell in &operation.cells {
                state.set_shadow(operation.side, cell.field, cell.value.clone());
            }
        }
        state.confirm(operation.side);
        state.forget_if_gone();
        self.tell(|| format!("  answered {answer:?}"));
    }

    fn is_as_expected(&self, which: usize) -> bool {
        let Request { record, operation, .. } = &self.requests[which];
        let Some(row) = &self.worlds[at(operation.side)].rows[*record] else { return true };
        let holds = |cell: &crate::merge::SentCell| row[place(cell.field)].value == cell.expected;
        operation.kind != OperationKind::Update || operation.cells.iter().all(holds)
    }

    /// The side holds something else than expected: the request waits for its log, and is bound anew.
    fn block(&mut self, which: usize) {
        self.requests[which].is_blocked = true;
        self.block_count += 1;
        let Request { record, operation, .. } = &self.requests[which];
        let (record, side) = (*record, operation.side);
        self.tell(|| format!("  a request to {side} is blocked"));
        if self.worlds[at(side)].log.iter().all(|entry| entry.record != record) {
            self.unblock(side, record);
        }
    }

    /// The log has moved: what was blocked is bound anew. The wrong way is to send it as it was.
    fn unblock(&mut self, side: Side, record: usize) {
        for request in &mut self.requests {
            if request.is_blocked && request.record == record && request.operation.side == side {
                request.is_blocked = false;
                if self.mutant != Some(Mutant::StaleCheck) {
                    let id = request.operation.id;
                    request.is_answered = true;
                    self.states[record].operations.retain(|operation| operation.id != id);
                }
            }
        }
    }

    fn arrive_late(&mut self) {
        if let Some(which) = self.late.pop() {
            self.perform(which);
            self.cause_count += 1;
        }
    }

    /// A listing in place of the log.
    fn scan(&mut self, side: Side) -> Result<(), Broken> {
        self.cause_count += 3;
        let dropped = std::mem::take(&mut self.worlds[at(side)].log);
        self.tell(|| format!("  {side} is listed, {} entries are lost", dropped.len()));
        for entry in dropped {
            match entry.what {
                What::Cells(cells) if entry.operation.is_none() => {
                    for (_, shown) in cells {
                        self.ghosts[shown.ghost].is_in_gap = true;
                    }
                }
                // Deleted, made anew or set back by a late request of ours that nobody saw arrive: what it held is in
                // the journal alone.
                _ => {
                    let mine = self.ghosts.iter_mut().filter(|ghost| ghost.record == entry.record);
                    mine.for_each(|ghost| ghost.is_in_gap = true);
                }
            }
        }
        for record in 0..RECORD_COUNT {
            self.unblock(side, record);
            let world = &self.worlds[at(side)];
            let key = world.keys[record];
            let what = match &world.rows[record] {
                Some(row) => What::Cells(row.iter().cloned().enumerate().collect()),
                None => What::Gone,
            };
            let entry = |what| Entry { record, what, operation: None, key, by_itself: Vec::new() };
            // The listing does not have the old key of a record that was made anew.
            if self.known_keys[at(side)][record] != key {
                self.take_in(side, Origin::Scan, &entry(What::Gone))?;
            }
            self.take_in(side, Origin::Scan, &entry(what))?;
        }
        Ok(())
    }

    pub(super) fn approve(&mut self) {
        for record in 0..RECORD_COUNT {
            for side in self.states[record].doomed.clone() {
                self.approved.push((record, side));
            }
        }
    }

    /// A person settles a held conflict: with either value, or a third.
    fn decide(&mut self) -> Result<(), Broken> {
        let open: Vec<usize> =
            (0..self.conflicts.len()).filter(|at| self.conflicts[*at].is_open).collect();
        if open.is_empty() {
            return Ok(());
        }
        let which = self.dice.pick(&open);
        let conflict = self.conflicts[which].clone();
        let (record, Some(field)) = (conflict.record, conflict.field) else { return Ok(()) };
        if !self.states[record].is_alive() {
            self.conflicts[which].is_open = false;
            return Ok(());
        }
        let canon = self.states[record].canon[field].clone();
        let value = match self.dice.below(3) {
            0 => canon.clone(),
            1 => conflict.observed.clone(),
            _ => self.fresh_value(field, &canon),
        };
        let wish = Wish { expected: canon.to_json(), value: value.to_json() };
        let decision = Decision::Set {
            entity: self.entity.name.clone(),
            record: Uuid::nil(),
            cells: BTreeMap::from([(self.entity.fields[field].name.clone(), wish)]),
            settles: Vec::new(),
        };
        let decided =
            decide(self.entity, &mut self.states[record], &decision).map_err(|objection| {
                format!("I5 a decision that cannot be carried out: {objection}")
            })?;
        self.tell(|| format!("  a person settles record {record}.{field} with {value:?}"));
        if canon != value {
            let old = self.canon_ghosts[record][field];
            self.canon_ghosts[record][field] = self.ghost(record, field, &value, vec![old]);
        }
        for known in &mut self.conflicts {
            if known.is_open && (known.record, known.field) == (record, Some(field)) {
                known.is_open = false;
                known.settled = Some(value.clone());
            }
        }
        self.write_journal(record, &decided.merged);
        self.cause_count += 2;
        self.check_state(record)
    }

    /// A person takes a delete back.
    fn undo(&mut self, record: usize) -> Result<(), Broken> {
        let state = &self.states[record];
        if state.is_alive() {
            return Ok(());
        }
        let mut cells = BTreeMap::new();
        if !state.exists && !state.is_remembered() {
            let is_it = |(at, action, _): &&(usize, Action, Vec<_>)| {
                *at == record && *action == Action::Delete
            };
            let Some((_, _, last)) = self.journal.iter().rfind(is_it) else { return Ok(()) };
            for (field, before, _) in last {
                cells.insert(self.entity.fields[*field].name.clone(), before.to_json());
            }
        }
        let entity = self.entity.name.clone();
        let decision = Decision::Restore { entity, record: Uuid::nil(), cells };
        let before = state.canon.clone();
        let decided = decide(self.entity, &mut self.states[record], &decision)
            .map_err(|objection| format!("I7 a delete that cannot be undone: {objection}"))?;
        self.tell(|| format!("  a person takes the delete of record {record} back"));
        for (field, was) in before.iter().enumerate() {
            let is = self.states[record].canon[field].clone();
            if is != *was {
                let old = self.canon_ghosts[record][field];
                self.canon_ghosts[record][field] = self.ghost(record, field, &is, vec![old]);
            }
        }
        self.write_journal(record, &decided.merged);
        self.cause_count += 2;
        self.check_state(record)
    }

    /// Nobody edits any more: everything is read, pushed and decided.
    pub(super) fn rest(&mut self) -> Result<(), Broken> {
        self.tell(|| String::from("-- nobody edits any more"));
        self.open_the_way_out();
        while !self.late.is_empty() {
            self.arrive_late();
        }
        self.settle()?;
        self.check_others_went_ahead()?;
        loop {
            self.approve();
            self.settle()?;
            if !self.conflicts.iter().any(|conflict| conflict.is_open) {
                break;
            }
            self.decide()?;
        }
        self.check_rest()
    }

    /// Reads, pushes and sends until nothing moves.
    fn settle(&mut self) -> Result<(), Broken> {
        for _ in 0..60 {
            let writes_before = self.write_count;
            let blocks_before = self.block_count;
            let requests_before = self.requests.len();
            let mut has_read = false;
            for side in Side::ALL {
                while !self.worlds[at(side)].log.is_empty() {
                    has_read = true;
                    self.read(side)?;
                }
                for record in 0..RECORD_COUNT {
                    self.bind(side, record)?;
                }
            }
            for _ in 0..self.requests.len() {
                self.send(true);
            }
            if !has_read
                && self.write_count == writes_before
                && self.requests.len() == requests_before
                && self.block_count == blocks_before
            {
                return Ok(());
            }
        }
        let words = if self.block_count > 60 {
            "I5 a request waits for ever"
        } else {
            "I3 writes without end"
        };
        Err(String::from(words))
    }
}

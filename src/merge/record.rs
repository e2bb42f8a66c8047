//! One record: its cells on both sides, its coming and its return. Its going is in [`super::life`].

use super::{
    Changed, Operation, Origin, RecordState, answer,
    cell::{Base, Decision, Verdict, judge, may_write},
    life::{self, revive},
    operation::{Echo, echo, is_late_copy, is_our_record},
    owed::is_written,
};
use crate::{
    mapping::{Direction, DirectusField, Entity, Field, Policy},
    model::{FieldNo, Side, Value},
};

/// What a side's log says of a record, with links resolved.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Seen {
    Present(Vec<SeenCell>),
    Absent,
    /// It is there, outside the rows that the mapping mirrors.
    Outside,
}

pub(crate) type SeenCell = (FieldNo, Value);

/// What an observation did. Which of our writes it settled, the state says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Merged {
    pub(crate) action: Option<Action>,
    /// Canonical cells that changed.
    pub(crate) changed: Vec<Changed>,
    pub(crate) clashes: Vec<ClashRecord>,
    /// Held conflicts of these cells are over: somebody made the side agree with canonical, or canonical with it.
    pub(crate) agreed: Vec<(Side, FieldNo)>,
    /// The side keeps something else than what we sent, where its word does not count: sending it again would
    /// go on for ever.
    pub(crate) altered: Vec<FieldNo>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Create,
    Update,
    Delete,
    Restore,
}

impl Action {
    /// The name in `mirror.journal`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Restore => "restore",
        }
    }
}

/// A conflict, with all that is needed to undo its decision.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClashRecord {
    /// `None`: a delete met an edit of the record.
    pub(crate) field: Option<FieldNo>,
    pub(crate) base: Option<Value>,
    pub(crate) canonical: Value,
    pub(crate) observed: Value,
    pub(crate) decision: Decision,
}

/// Folds what `side`'s log says of a record into its state.
///
/// Seeing an unchanged value does nothing, so that a log may be read again, and a scan may heal what a log
/// missed. Our own write moves the shadow and nothing else. A delete that meets an edit which the deleting side
/// had not seen loses; both are kept on record.
///
/// That a write of ours hit another value than it expected needs no row of its own: the shadow moves with the log
/// alone, so that value was read before the write's echo, and is in the journal or in a conflict.
pub(crate) fn merge(
    entity: &Entity,
    state: &mut RecordState,
    side: Side,
    origin: Origin,
    seen: Seen,
) -> Merged {
    #[cfg(test)]
    let origin = super::mutant::origin(origin);
    // Where only one side has it, that side's word is all there is, whatever became of it.
    let origin = if origin == Origin::Restored && !entity.is_two_sided() && seen != Seen::Absent {
        Origin::Scan
    } else {
        origin
    };
    if origin == Origin::Restored && !state.exists && !state.is_remembered() && seen != Seen::Absent
    {
        state.recall(side);
    }
    let merged = match seen {
        Seen::Present(cells) if !state.exists && !state.is_remembered() => {
            create(entity, state, side, cells)
        }
        Seen::Present(cells) => {
            let mut present = Present::new(entity, state, side, origin);
            present.see(cells);
            present.merged
        }
        Seen::Absent if origin == Origin::Restored => life::lack(entity, state, side),
        Seen::Absent => {
            state.outside.retain(|outside| *outside != side);
            life::delete(entity, state, side, origin)
        }
        Seen::Outside => life::leave(entity, state, side, origin),
    };
    // What a scan shows is what came of the write in flight, and of whatever followed it.
    if origin.is_scan() {
        state.settle_in_flight(side);
    }
    if let Origin::Ours(Some(id)) = origin {
        let seen = |operation: &&mut Operation| operation.side == side && operation.id == id;
        state.operations.iter_mut().filter(seen).for_each(|operation| operation.is_settled = true);
    }
    state.confirm(side);
    answer::note(entity, state, side, origin, &merged);
    state.forget_if_gone();
    merged
}

fn create(entity: &Entity, state: &mut RecordState, side: Side, cells: Vec<SeenCell>) -> Merged {
    let other_id = state.other_id;
    *state = RecordState { exists: true, other_id, ..RecordState::unknown(entity) };
    for other in Side::ALL {
        if other != side && entity.is_on(other) {
            state.absent.push((other, false));
        }
    }
    let mut merged = Merged { action: Some(Action::Create), ..Merged::default() };
    for (field, value) in cells {
        if value.is_null() {
            continue;
        }
        // The last of several values for one field counts, as in the log.
        let before = std::mem::replace(&mut state.canon[usize::from(field.0)], value);
        if before.is_null() {
            merged.changed.push(Changed { field, before });
        }
    }
    merged
}

/// A record that is known and that a side shows.
struct Present<'a> {
    entity: &'a Entity,
    state: &'a mut RecordState,
    side: Side,
    origin: Origin,
    was_here: bool,
    /// It is here because of a write of ours: what we did not name is the side's own filling.
    is_ours: bool,
    is_late_copy: bool,
    merged: Merged,
}

impl<'a> Present<'a> {
    fn new(entity: &'a Entity, state: &'a mut RecordState, side: Side, origin: Origin) -> Self {
        let was_here = !state.is_absent_on(side);
        let is_ours = !was_here && is_our_record(state, side, origin);
        let merged = Merged::default();
        Self { entity, state, side, origin, was_here, is_ours, is_late_copy: false, merged }
    }

    fn see(&mut self, cells: Vec<SeenCell>) {
        self.is_late_copy = is_late_copy(self.state, self.side, self.origin, &cells);
        let was_alive = self.state.is_alive();
        let edits = if was_alive { Vec::new() } else { self.edits(&cells) };
        #[cfg(test)]
        let edits =
            if super::mutant::is(super::mutant::Mutant::DeletesWin) { Vec::new() } else { edits };
        // A side that went back in time shows what was deleted since: nobody has put it back.
        let is_restored = self.origin == Origin::Restored;
        let is_put_back = !self.was_here && !self.is_ours && !is_restored;
        let is_back = !was_alive && (!edits.is_empty() || is_put_back);
        self.state.set_present(self.side);
        if is_back {
            let is_edited = !edits.is_empty();
            revive(self.entity, self.state, &mut self.merged, is_edited.then_some(edits));
        }
        let is_echo = self.origin == Origin::Ours(None)
            && !self.is_late_copy
            && (self.is_ours
                || cells
                    .iter()
                    .any(|(field, observed)| self.is_effect_of_flight(*field, observed)));
        let listed: Vec<FieldNo> =
            if self.is_ours { cells.iter().map(|(field, _)| *field).collect() } else { Vec::new() };
        for (field, observed) in cells {
            if self.state.is_alive() {
                self.cell(field, observed);
            } else {
                self.state.set_shadow(self.side, field, observed);
            }
        }
        if self.is_ours {
            self.sets_without_rows(&listed);
            if !self.state.is_alive() {
                self.state.doomed.push(self.side);
            }
        }
        let is_doomed = self.state.doomed.contains(&self.side);
        if is_restored && !self.was_here && !self.state.is_alive() && !is_doomed {
            self.state.doomed.push(self.side);
        }
        if is_echo {
            self.state.settle_in_flight(self.side);
        }
        if self.merged.action.is_none() && !self.merged.changed.is_empty() {
            self.merged.action = Some(Action::Update);
        }
    }

    /// The cells that somebody has changed, with what they say now. Of a side that went back in time: what the cell never
    /// held before. An empty one may be of the time before anything was entered.
    fn edits(&self, cells: &[SeenCell]) -> Vec<SeenCell> {
        let is_restored = self.origin == Origin::Restored;
        let is_edit = |(field, observed): &&SeenCell| {
            (self.was_here || is_restored)
                && self.state.is_read(self.side, *field)
                && self.state.held_by(self.side, *field) != observed
                // A formula that moves with the clock, or with our own write, does not bring a record back.
                && !self.entity.field(*field).is_computed_by(self.side)
                && !(is_restored && (observed.is_null() || self.state.has_held(*field, observed)))
                && self.echo(*field, observed) == Echo::Foreign
        };
        cells.iter().filter(is_edit).cloned().collect()
    }

    /// Whether a cell, shown by our own account, is what the write in flight brought about.
    fn is_effect_of_flight(&self, field: FieldNo, observed: &Value) -> bool {
        let sent = self.state.in_flight(self.side).and_then(|operation| operation.sent(field));
        sent.is_some_and(|sent| {
            let is_altered = || matches!(self.echo(field, observed), Echo::Altered(_));
            sent == observed || is_altered()
        })
    }

    fn echo(&self, field: FieldNo, observed: &Value) -> Echo {
        match echo(self.state, self.side, self.origin, field, observed, self.was_here) {
            Echo::Altered(_) if self.is_late_copy => Echo::Foreign,
            echo => echo,
        }
    }

    fn cell(&mut self, field: FieldNo, observed: Value) {
        #[cfg(test)]
        if super::mutant::is_dropped(self.state, self.side, field, &observed) {
            return;
        }
        #[cfg(test)]
        if super::mutant::is(super::mutant::Mutant::NoBase) {
            if self.state.canon[usize::from(field.0)] != observed {
                self.take(field, observed.clone());
            }
            return self.state.set_shadow(self.side, field, observed);
        }
        if self.origin == Origin::Restored {
            return self.restored_cell(field, observed);
        }
        let described = self.entity.field(field);
        // An address is the account's once there is an account.
        let is_free = described.policy == Policy::Owner(Side::Directus)
            && self.entity.is_login(described)
            && self.state.is_absent_on(Side::Directus);
        let unowned = is_free.then(|| Field { policy: Policy::Ask, ..described.clone() });
        let described = unowned.as_ref().unwrap_or(described);
        let echo = self.echo(field, &observed);
        let canon = &self.state.canon[usize::from(field.0)];
        let was_owed = self.state.shadow_at(self.side, field);
        let base = match &echo {
            // An echo never says that a person has come round: a held conflict stays held.
            Echo::Ours | Echo::Unsent => {
                return self.state.set_shadow(self.side, field, observed);
            }
            // The difference is the side's edit of what we sent.
            Echo::Altered(sent) => Base::Known(sent),
            // A default is taken where there is nothing else.
            Echo::Foreign
                if self.is_ours && !(canon.is_null() && may_write(described, self.side)) =>
            {
                return self.state.set_shadow(self.side, field, observed);
            }
            Echo::Foreign if !self.was_here || !self.state.is_read(self.side, field) => {
                Base::Unknown
            }
            Echo::Foreign => match was_owed {
                Some(at) => Base::Known(&self.state.shadow[at].2),
                None => Base::Known(canon),
            },
        };
        match judge(described, self.side, canon, base, &observed) {
            Verdict::Keep => {
                if was_owed.is_some() && *canon == observed && echo == Echo::Foreign {
                    self.merged.agreed.push((self.side, field));
                }
            }
            Verdict::Take => self.take(field, observed.clone()),
            Verdict::Conflict(decision) => {
                let decision = self.asked(field, decision);
                self.merged.clashes.push(ClashRecord {
                    field: Some(field),
                    base: match base {
                        Base::Known(value) => Some(value.clone()),
                        Base::Unknown => None,
                    },
                    canonical: canon.clone(),
                    observed: observed.clone(),
                    decision: decision.clone(),
                });
                if decision == Decision::CanonicalKept && matches!(echo, Echo::Altered(_)) {
                    self.merged.altered.push(field);
                }
                let winner = match decision {
                    Decision::Held | Decision::CanonicalKept => None,
                    Decision::ObservedTaken => Some(observed.clone()),
                    Decision::Merged(value) => Some(value),
                };
                if let Some(value) = winner.filter(|value| value != canon) {
                    self.take(field, value);
                }
            }
        }
        self.state.set_shadow(self.side, field, observed);
    }

    /// A cell of a side that went back in time. A value that the journal knows was replaced since: canonical stays, and
    /// is owed to the side again. What it does not know, or what can't be written there, is a question, whatever the
    /// policy: nobody can tell who entered it and when.
    fn restored_cell(&mut self, field: FieldNo, observed: Value) {
        let described = self.entity.field(field);
        let canon = &self.state.canon[usize::from(field.0)];
        let held = self.was_here.then(|| self.state.held_by(self.side, field));
        if held == Some(&observed) {
            return;
        }
        if *canon == observed {
            if self.state.shadow_at(self.side, field).is_some() {
                self.merged.agreed.push((self.side, field));
            }
        } else if described.is_computed_by(self.side) {
            self.take(field, observed.clone());
        } else {
            let counts = may_write(described, self.side);
            let is_known = self.state.has_held(field, &observed);
            if !(is_known && (is_written(described, self.side) || !counts)) {
                self.merged.clashes.push(ClashRecord {
                    field: Some(field),
                    base: held.cloned(),
                    canonical: canon.clone(),
                    observed: observed.clone(),
                    decision: if counts { Decision::Held } else { Decision::CanonicalKept },
                });
            }
        }
        self.state.set_shadow(self.side, field, observed);
    }

    /// What the policy says of a conflict, unless canonical has gone back in time: then it is not told who moved first,
    /// and a person has to say.
    fn asked(&self, field: FieldNo, decision: Decision) -> Decision {
        let described = self.entity.field(field);
        let is_free = matches!(described.direction, Direction::Both)
            && may_write(described, self.side)
            && !described.is_computed();
        if matches!(self.origin, Origin::Reread { .. }) && is_free {
            Decision::Held
        } else {
            decision
        }
    }

    /// Makes `value` canonical.
    fn take(&mut self, field: FieldNo, value: Value) {
        let others = Side::ALL.into_iter().filter(|other| *other != self.side);
        let owed: Vec<Side> =
            others.filter(|other| self.state.shadow_at(*other, field).is_some()).collect();
        let changed = self.state.set_canon(self.entity, Some(self.side), field, value);
        if !self.merged.changed.iter().any(|known| known.field == field) {
            self.merged.changed.push(changed);
        }
        for other in owed {
            if self.state.shadow_at(other, field).is_none() {
                self.merged.agreed.push((other, field));
            }
        }
    }

    /// A set in a junction table is told by its rows: of one that we have filled and that shows none, all is owed.
    fn sets_without_rows(&mut self, listed: &[FieldNo]) {
        if self.side != Side::Directus {
            return;
        }
        for (at, field) in self.entity.fields.iter().enumerate() {
            let no = super::state::field_no(at);
            if matches!(field.directus, Some(DirectusField::Junction { .. }))
                && !listed.contains(&no)
            {
                self.state.set_shadow(self.side, no, Value::Null);
            }
        }
    }
}

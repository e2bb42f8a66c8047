//! Who is whom, by a person's word or by what a record holds by now: a side's record is another one than it was taken
//! for.

use std::{collections::HashMap, sync::Arc};

use uuid::Uuid;

use super::{Apply, Error, resolve::Keys};
use crate::{
    mapping::FieldKind,
    merge::{Action, Merged, Origin, RecordState, Seen, SeenCell, merge, relink, relink_on},
    model::{Decision, EntityNo, FieldNo, RecordId, Side, SideKey},
    store::{MoveRow, Writes},
};

/// A record before and after a decision, and what the decision did.
pub(super) struct Step {
    pub(super) before: RecordState,
    pub(super) after: RecordState,
    pub(super) merged: Merged,
    /// Whose word a conflict in it is about.
    pub(super) side: Option<Side>,
}

pub(super) type Steps = HashMap<(EntityNo, RecordId), Step>;

/// A side's record, and the canonical one that it is taken for.
pub(super) struct Subject {
    pub(super) entity: EntityNo,
    pub(super) side: Side,
    pub(super) key: SideKey,
    pub(super) record: RecordId,
}

/// Who says that two records are one.
pub(super) struct Judge<'a> {
    pub(super) author: &'a str,
    /// The natural key that agrees, or `person`.
    pub(super) by: &'a str,
}

impl Apply {
    /// What it takes to join or to split, or in words why it is not done.
    pub(super) async fn fold_identity(
        &mut self,
        decision: &Decision,
        source: (i64, i64),
        author: &str,
    ) -> Result<Result<Writes, String>, Error> {
        let (Decision::Join { entity: name, side, key, .. }
        | Decision::Split { entity: name, side, key }) = decision
        else {
            return Ok(Err(String::from("is not about who is whom")));
        };
        let Some(at) = self.mapping.entities.iter().position(|entity| entity.name == *name) else {
            return Ok(Err(format!("the mapping has no entity `{name}`")));
        };
        let entity = EntityNo(u16::try_from(at).unwrap_or(u16::MAX));
        let Some(side) = Side::from_name(side) else {
            return Ok(Err(format!("there is no side `{side}`")));
        };
        let key = SideKey::from(key.as_str());
        let Some(record) = self.record_of(side, entity, &key).await? else {
            return Ok(Err(format!("{side} has no {name} `{key}`, as far as it was read")));
        };
        let subject = Subject { entity, side, key, record };
        let folded = match decision {
            Decision::Join { record, .. } => {
                let judge = Judge { author, by: "person" };
                self.join(&subject, RecordId(*record), source, &judge).await?
            }
            _ => self.split(&subject, source, author).await?,
        };
        let place = |objection| format!("{name} {} of {side}: {objection}", subject.key);
        Ok(folded.map_err(place))
    }

    /// The canonical record that a side's key stands for now.
    async fn record_of(
        &self,
        side: Side,
        entity: EntityNo,
        key: &SideKey,
    ) -> Result<Option<RecordId>, Error> {
        let linked = self.writer.linked_records(side, entity, &[&*key.0]).await?;
        if let Some(record) = linked.get(key) {
            return Ok(Some(*record));
        }
        let Some(id) = key.as_id().filter(|_| side != Side::Airtable) else {
            return Ok(None);
        };
        // A key that is the canonical id, unless that record goes by another.
        let renamed = self.writer.linked_keys(side, entity, &[id]).await?;
        Ok(renamed.is_empty().then_some(RecordId(id)))
    }

    /// The side's record is `target`: what it holds is seen there as by a first look, and the record that was made
    /// for it is no more.
    pub(super) async fn join(
        &mut self,
        subject: &Subject,
        target: RecordId,
        source: (i64, i64),
        judge: &Judge<'_>,
    ) -> Result<Result<Writes, String>, Error> {
        let Subject { entity, side, record, .. } = *subject;
        if record == target {
            return Ok(Err(String::from("is that record already")));
        }
        let mapping = Arc::clone(&self.mapping);
        let described = mapping.entity(entity);
        let mut steps = self.steps(entity, &[record, target]).await?;
        let objection = match (steps.get(&(entity, record)), steps.get(&(entity, target))) {
            (Some(from), Some(to)) => join_objection(subject, &from.before, &to.before),
            _ => Some(String::from("could not be read")),
        };
        if let Some(objection) = objection {
            return Ok(Err(objection));
        }
        self.add_linking(&mut steps, entity, record).await?;
        for ((linking, id), step) in &mut steps {
            if *id != record {
                let ids = (record.0, target.0);
                step.merged = relink(mapping.entity(*linking), &mut step.after, entity, ids);
            }
        }
        let Some(from) = steps.get_mut(&(entity, record)) else { return Ok(Ok(Writes::default())) };
        let held = held_cells(described, &from.before, side);
        let carried = from.before.other_id.unwrap_or(Some(record.0));
        from.merged = Merged {
            action: Some(Action::Delete),
            changed: from.before.filled(),
            ..Merged::default()
        };
        from.after = RecordState::unknown(described);
        if let Some(to) = steps.get_mut(&(entity, target)) {
            if side == Side::Airtable {
                to.after.see_id(target, carried);
            }
            let mut merged =
                merge(described, &mut to.after, side, Origin::Scan, Seen::Present(held));
            let relinked = std::mem::take(&mut to.merged);
            merged.action = merged.action.or(relinked.action);
            merged.changed.extend(relinked.changed);
            (to.merged, to.side) = (merged, Some(side));
        }
        let mut keys = Keys::default();
        keys.links_gone.push((entity, side, subject.key.clone()));
        if subject.key.0.as_ref() != target.to_string() || side == Side::Airtable {
            keys.link(side, entity, &subject.key, target);
        }
        let mut writes = self.sum_up_steps(steps, source, &keys);
        let joined_by = Some(judge.by.to_owned());
        writes.moves.push(moved(subject, target, judge.author, joined_by));
        Ok(Ok(writes))
    }

    /// The side's record becomes one of its own, with what the side holds.
    async fn split(
        &mut self,
        subject: &Subject,
        source: (i64, i64),
        author: &str,
    ) -> Result<Result<Writes, String>, Error> {
        let Subject { entity, side, record, .. } = *subject;
        let mapping = Arc::clone(&self.mapping);
        let described = mapping.entity(entity);
        let own = subject.key.as_id().filter(|_| side != Side::Airtable);
        if own == Some(record.0) {
            return Ok(Err(String::from(
                "has the canonical id itself: split the other side's record instead",
            )));
        }
        let new = RecordId(own.unwrap_or_else(Uuid::now_v7));
        if !self.writer.known(entity, &[new.0]).await?.is_empty() {
            return Ok(Err(String::from("goes by the id of another record")));
        }
        let mut steps = self.steps(entity, &[record, new]).await?;
        let objection = steps.get(&(entity, record)).map_or_else(
            || Some(String::from("could not be read")),
            |step| split_objection(subject, described.is_two_sided(), &step.before),
        );
        if let Some(objection) = objection {
            return Ok(Err(objection));
        }
        self.add_linking(&mut steps, entity, record).await?;
        for ((linking, id), step) in &mut steps {
            if *id != record && *id != new {
                let ids = (record.0, new.0);
                let linking = mapping.entity(*linking);
                step.merged = relink_on(linking, &mut step.after, entity, side, ids);
                step.side = Some(side);
            }
        }
        let Some(from) = steps.get_mut(&(entity, record)) else { return Ok(Ok(Writes::default())) };
        let held = held_cells(described, &from.before, side);
        let carried = from.before.other_id.unwrap_or(Some(record.0));
        from.after.leave(side);
        if let Some(to) = steps.get_mut(&(entity, new)) {
            to.merged = merge(described, &mut to.after, side, Origin::Scan, Seen::Present(held));
            if side == Side::Airtable {
                to.after.see_id(new, carried);
            }
        }
        let mut keys = Keys::default();
        keys.links_gone.push((entity, side, subject.key.clone()));
        if own.is_none() {
            keys.link(side, entity, &subject.key, new);
        }
        let mut writes = self.sum_up_steps(steps, source, &keys);
        writes.moves.push(moved(subject, new, author, None));
        Ok(Ok(writes))
    }

    async fn steps(&mut self, entity: EntityNo, records: &[RecordId]) -> Result<Steps, Error> {
        let ids = records.iter().map(|record| record.0).collect();
        let states = self.writer.states(entity, ids).await?;
        let step = |(record, state): (RecordId, RecordState)| {
            let merged = Merged::default();
            ((entity, record), Step { before: state.clone(), after: state, merged, side: None })
        };
        Ok(states.into_iter().map(step).collect())
    }

    /// Adds the records that link to this one.
    async fn add_linking(
        &mut self,
        steps: &mut Steps,
        target: EntityNo,
        record: RecordId,
    ) -> Result<(), Error> {
        let mapping = Arc::clone(&self.mapping);
        for (at, described) in mapping.entities.iter().enumerate() {
            let linking = EntityNo(u16::try_from(at).unwrap_or(u16::MAX));
            for (at, field) in described.fields.iter().enumerate() {
                let (FieldKind::Link { target: to } | FieldKind::Links { target: to }) = field.kind
                else {
                    continue;
                };
                if to != target {
                    continue;
                }
                let field = FieldNo(u16::try_from(at).unwrap_or(u16::MAX));
                let found = self.writer.linking(linking, field, record).await?;
                let new: Vec<RecordId> =
                    found.into_iter().filter(|id| !steps.contains_key(&(linking, *id))).collect();
                if !new.is_empty() {
                    steps.extend(self.steps(linking, &new).await?);
                }
            }
        }
        Ok(())
    }
}

fn moved(subject: &Subject, to: RecordId, author: &str, joined_by: Option<String>) -> MoveRow {
    MoveRow {
        entity: subject.entity,
        side: subject.side,
        key: subject.key.clone(),
        from: subject.record,
        to,
        author: author.to_owned(),
        joined_by,
    }
}

/// What `side` holds of a record by its log.
fn held_cells(entity: &crate::mapping::Entity, state: &RecordState, side: Side) -> Vec<SeenCell> {
    let fields = (0..).map(FieldNo).zip(&entity.fields);
    let fields = fields.filter(|(no, field)| field.is_on(side) && state.is_read(side, *no));
    fields.map(|(no, _)| (no, state.held_by(side, no).clone())).collect()
}

fn join_objection(subject: &Subject, from: &RecordState, to: &RecordState) -> Option<String> {
    let side = subject.side;
    let other = Side::ALL.into_iter().find(|other| *other != side)?;
    if from.is_absent_on(side) || !from.is_alive() {
        Some(String::from("was deleted"))
    } else if !from.is_absent_on(other) {
        Some(format!("is on {other} too: split it there first, or delete one of the two by hand"))
    } else if !to.is_alive() {
        Some(String::from("the record that it is to be does not exist, or was deleted"))
    } else if !to.is_absent_on(side) {
        Some(format!("another record of {side} is that one already: split that first"))
    } else if Side::ALL.iter().any(|side| from.in_flight(*side).is_some())
        || to.in_flight(side).is_some()
    {
        Some(String::from("is being written just now: try again in a minute"))
    } else {
        None
    }
}

fn split_objection(subject: &Subject, is_two_sided: bool, from: &RecordState) -> Option<String> {
    let side = subject.side;
    let is_alone =
        !is_two_sided || Side::ALL.iter().any(|other| *other != side && from.is_absent_on(*other));
    if from.is_absent_on(side) || !from.is_alive() {
        Some(String::from("was deleted"))
    } else if is_alone {
        Some(String::from("is a record of its own already"))
    } else if from.in_flight(side).is_some() {
        Some(String::from("is being written just now: try again in a minute"))
    } else {
        None
    }
}

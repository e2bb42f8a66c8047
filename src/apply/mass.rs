//! The guard for mass changes. In: what a batch makes due on the other side, and by whose hand. Out: which of it waits a
//! moment, because its author is still being counted, and which is held until a person has seen it, because it is too much.
//!
//! A person at the keyboard is never counted, nor is Plait itself, nor what a recovery reads, nor a field that nobody has
//! accepted yet: the plan asks for that one. Authors are counted in memory and begin at nothing with each start; what was
//! stopped is in `mirror.mass_change`, and stays stopped.

#[cfg(test)]
mod tests;
mod window;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::warn;

use super::{Apply, Error, Item};
use crate::{
    mapping::{Entity, MassGuard},
    merge::{Action, Merged, Origin, is_written},
    model::{EntityNo, FieldNo, Observation, Position, RecordId, Side, Stamp},
    store::{
        Accepted, CountedDue, EntityWrites, LetRow, MassAuthor, ReadEnd, StopRow, Writes,
        mass::READ,
    },
};

use window::{Change, Held, Window};

/// What the program of a person who uses Directus in a browser calls itself.
const BROWSER: &str = "Mozilla/";
/// Airtable's words for changes that a person has made: in the grid, in a form.
const BY_HAND: [&str; 4] = ["client", "formSubmission", "formPageSubmission", "anonymousUser"];
/// For how long what a full read changed waits at most, should the read never end, in seconds.
const READ_WAIT_S: u32 = 3_600;
/// For how long a count of an entity's records holds.
const COUNT_HOLDS: Duration = Duration::from_mins(1);

/// By whose hand something was changed, as far as the guard has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hand {
    /// A person's, or Plait's own: it is not counted.
    Free,
    /// That of a full read, or of a transaction whose author is told at its end: it is judged then.
    Read,
    /// Somebody's who is not at the keyboard.
    Author(Arc<MassAuthor>),
}

impl Hand {
    /// The hand behind a transaction of a side.
    pub(super) fn of(stamp: &Stamp, origin: Origin) -> Self {
        match origin {
            Origin::Ours(_) | Origin::Restored | Origin::Reread { .. } => Self::Free,
            Origin::Scan => Self::Read,
            Origin::Somebody if is_by_hand(stamp) => Self::Free,
            Origin::Somebody => Self::Author(Arc::new(author(stamp))),
        }
    }
}

/// Whether a person at the keyboard made this transaction.
fn is_by_hand(stamp: &Stamp) -> bool {
    let author = &stamp.author;
    match stamp.side {
        Side::Airtable => BY_HAND.contains(&author.via.as_str()),
        Side::Directus => author.id.is_some() && author.via.starts_with(BROWSER),
    }
}

fn author(stamp: &Stamp) -> MassAuthor {
    let author = &stamp.author;
    let key = match (stamp.side, &author.id) {
        // A script may call itself something else each time.
        (Side::Directus, Some(id)) => id.clone(),
        (_, Some(id)) => format!("{}:{id}", author.via),
        (_, None) => author.via.clone(),
    };
    let (via, id, name) = (author.via.clone(), author.id.clone(), author.name.clone());
    MassAuthor { key, via, id, name }
}

/// Who made a full read, or a transaction that came in parts; `None`: nobody has to be asked.
fn author_at_end(stamp: &Stamp, origin: Origin) -> Option<MassAuthor> {
    match Hand::of(stamp, origin) {
        Hand::Free => None,
        Hand::Read => Some(reader(&stamp.author.via)),
        Hand::Author(author) => Some(MassAuthor::clone(&author)),
    }
}

fn reader(via: &str) -> MassAuthor {
    MassAuthor { key: READ.to_owned(), via: via.to_owned(), id: None, name: None }
}

fn is_trusted(guard: &MassGuard, author: &MassAuthor) -> bool {
    let names = [author.id.as_ref(), author.name.as_ref(), Some(&author.via)];
    names.into_iter().flatten().any(|name| guard.trusted.contains(name))
}

/// A change of a record that makes something due on another side.
#[derive(Clone, Debug)]
pub(super) struct Counted {
    pub(super) entity: EntityNo,
    pub(super) record: RecordId,
    touch: Touch,
    /// The sides to which something is due.
    to: Vec<Side>,
}

impl Counted {
    fn change(&self) -> Change {
        Change { record: self.record, at: self.touch.at, transaction: self.touch.transaction }
    }
}

/// A change of a record, by a hand that is counted.
#[derive(Clone, Debug)]
pub(super) struct Touch {
    side: Side,
    hand: Hand,
    /// It came into being, or back.
    is_new: bool,
    fields: Vec<FieldNo>,
    transaction: i64,
    at: i64,
}

impl Touch {
    /// What `item` did to a record; `None`: nothing that is counted.
    pub(super) fn new(entity: &Entity, item: &Item, merged: &Merged) -> Option<Self> {
        if item.hand == Hand::Free || !entity.guard.is_on() {
            return None;
        }
        let is_new = match merged.action? {
            Action::Create | Action::Restore => true,
            Action::Update => false,
            // Deletes have a guard of their own.
            Action::Delete => return None,
        };
        // What a side works out by itself was entered by nobody.
        let fields = merged.changed.iter().map(|changed| changed.field);
        let fields: Vec<FieldNo> =
            fields.filter(|no| !entity.field(*no).is_computed_by(item.side)).collect();
        let (side, hand) = (item.side, item.hand.clone());
        let (transaction, at) = (item.transaction, item.at);
        let is_anything = is_new || !fields.is_empty();
        is_anything.then_some(Self { side, hand, is_new, fields, transaction, at })
    }

    /// What of it is due on `due`, the sides to which something of the record is.
    pub(super) fn counted(
        self,
        entity: EntityNo,
        record: RecordId,
        due: impl Iterator<Item = Side>,
    ) -> Option<Counted> {
        let to: Vec<Side> = due.filter(|side| *side != self.side).collect();
        (!to.is_empty()).then_some(Counted { entity, record, touch: self, to })
    }
}

/// An author of whom changes are counted: of which entity, on which side, by the author's key.
type Key = (EntityNo, Side, String);

/// What the guard keeps in mind between batches.
#[derive(Debug, Default)]
pub(super) struct Guard {
    windows: HashMap<Key, Window>,
    /// What of each entity was accepted, as far as it was asked for.
    accepted: HashMap<EntityNo, Accepted>,
    record_counts: HashMap<EntityNo, (u64, Instant)>,
    /// Full reads that have changed something and have not ended, with their last transaction.
    reading: BTreeMap<(EntityNo, Side), i64>,
}

impl Guard {
    /// Full reads whose judgement was written are over.
    pub(super) fn note_ends(&mut self, ends: &[ReadEnd]) {
        for end in ends {
            let is_over = |last: &mut i64| *last <= end.through;
            if self.reading.get_mut(&(end.entity, end.side)).is_some_and(is_over) {
                self.reading.remove(&(end.entity, end.side));
            }
        }
    }
}

impl Apply {
    /// Judges what a batch has changed: sets in `writes` what waits, and what is held.
    pub(super) async fn count_changes(
        &mut self,
        counted: Vec<Counted>,
        writes: &mut Writes,
    ) -> Result<(), Error> {
        if counted.is_empty() {
            return Ok(());
        }
        let stopped = self.writer.stopped().await?;
        let mut by_author: BTreeMap<Key, (Arc<MassAuthor>, Vec<Counted>)> = BTreeMap::new();
        for it in counted {
            if !self.is_asked_about(&it).await? {
                continue;
            }
            match &it.touch.hand {
                Hand::Free => {}
                Hand::Read => {
                    let last = self.guard.reading.entry((it.entity, it.touch.side)).or_default();
                    *last = (*last).max(it.touch.transaction);
                    let transaction = it.touch.transaction;
                    let wait = CountedDue { transaction, wait_s: READ_WAIT_S, is_being_read: true };
                    set_wait(writes, &it, wait);
                }
                Hand::Author(author) => {
                    let author = Arc::clone(author);
                    let key = (it.entity, it.touch.side, author.key.clone());
                    by_author.entry(key).or_insert_with(|| (author, Vec::new())).1.push(it);
                }
            }
        }
        for (key, (author, changes)) in by_author {
            let guard = self.mapping.entity(key.0).guard.clone();
            if is_trusted(&guard, &author) {
                continue;
            }
            self.judge(key, &author, &changes, &stopped, writes).await?;
        }
        Ok(())
    }

    async fn judge(
        &mut self,
        key: Key,
        author: &MassAuthor,
        changes: &[Counted],
        stopped: &HashSet<Key>,
        writes: &mut Writes,
    ) -> Result<(), Error> {
        let (entity, side) = (key.0, key.1);
        let wait_s = self.mapping.entity(entity).guard.wait_s;
        for it in changes {
            let transaction = it.touch.transaction;
            set_wait(writes, it, CountedDue { transaction, wait_s, is_being_read: false });
        }
        let mut changes: Vec<Change> = changes.iter().map(Counted::change).collect();
        changes.sort_by_key(|change| change.transaction);
        let held = if stopped.contains(&key) {
            // They join it, whatever their number.
            Held::of(changes.iter())
        } else {
            let record_count = self.record_count_for(&key, &changes).await?;
            let guard = &self.mapping.entity(entity).guard;
            let window = self.guard.windows.entry(key.clone()).or_default();
            let held = window.take_in(&changes, |changed| guard.is_exceeded(changed, record_count));
            if let Some(held) = &held {
                let entity = &self.mapping.entity(entity).name;
                let record_count = held.records.len();
                warn!(entity, %side, record_count, "stopped a mass change until a person has seen it");
            }
            held
        };
        if let Some(Held { records, since, first_transaction, last_transaction }) = held {
            writes.stops.push(StopRow {
                entity,
                side,
                author: author.clone(),
                since,
                first_transaction,
                last_transaction,
                records,
            });
        }
        Ok(())
    }

    /// How many records the entity has, where the number matters for the author's changes.
    async fn record_count_for(&mut self, key: &Key, changes: &[Change]) -> Result<u64, Error> {
        let entity = key.0;
        let count = u64::from(self.mapping.entity(entity).guard.count);
        let window = self.guard.windows.entry(key.clone()).or_default();
        if window.record_count_with(changes) <= count {
            return Ok(0);
        }
        if let Some((record_count, at)) = self.guard.record_counts.get(&entity)
            && at.elapsed() < COUNT_HOLDS
        {
            return Ok(*record_count);
        }
        let record_count = self.writer.record_count(entity).await?;
        self.guard.record_counts.insert(entity, (record_count, Instant::now()));
        Ok(record_count)
    }

    /// Whether it is of something that a person has accepted; the plan asks for what nobody has.
    async fn is_asked_about(&mut self, it: &Counted) -> Result<bool, Error> {
        if let Some(accepted) = self.guard.accepted.get(&it.entity)
            && self.is_accepted(it, accepted)
        {
            return Ok(true);
        }
        // It may have been accepted since.
        let accepted = self.writer.accepted(it.entity).await?;
        let is_accepted = self.is_accepted(it, &accepted);
        self.guard.accepted.insert(it.entity, accepted);
        Ok(is_accepted)
    }

    fn is_accepted(&self, it: &Counted, accepted: &Accepted) -> bool {
        let entity = self.mapping.entity(it.entity);
        let Touch { side, hand, is_new, fields, .. } = &it.touch;
        if *is_new {
            return accepted.is_whole;
        }
        fields.iter().any(|no| {
            let is_expected =
                *hand == Hand::Read && self.rereads.is_expected(*side, it.entity, *no);
            let is_sent = it.to.iter().any(|to| is_written(entity.field(*no), *to));
            let is_accepted = accepted.fields.get(usize::from(no.0)).is_some_and(|yes| *yes);
            is_accepted && is_sent && !is_expected
        })
    }

    /// The listings of these logs, which have ended, as far as they have changed something.
    pub(super) fn ended_listings(&self, logs: &BTreeSet<String>) -> Vec<ReadEnd> {
        let is_of_them = |entity| self.log_of(entity).is_none_or(|log| logs.contains(log));
        if logs.is_empty() {
            return Vec::new();
        }
        let reading = self.guard.reading.iter();
        reading
            .filter(|((entity, side), _)| *side == Side::Airtable && is_of_them(*entity))
            .map(|((entity, side), through)| ReadEnd {
                entity: *entity,
                side: *side,
                author: self.unless_trusted(*entity, Some(reader("listing"))),
                through: *through,
            })
            .collect()
    }

    fn log_of(&self, entity: EntityNo) -> Option<&String> {
        let base = &self.mapping.entity(entity).airtable.as_ref()?.base;
        self.rereads_by_log.get(base)
    }

    /// Notes in `ended` what a delivery says of listings: one has ended where a position of its log follows its pages, which
    /// have none.
    pub(super) fn note_listing(
        &self,
        ended: &mut BTreeSet<String>,
        position: Option<&Position>,
        observations: &[Observation],
    ) {
        match position {
            Some(position @ Position::Cursor(_)) => {
                ended.insert(super::log_name(position));
            }
            Some(Position::Lsn(_)) => {}
            None => {
                let entities: BTreeSet<EntityNo> =
                    observations.iter().map(|it| it.entity).collect();
                for entity in entities {
                    match self.log_of(entity) {
                        Some(log) => drop(ended.remove(log)),
                        None => ended.clear(),
                    }
                }
            }
        }
    }

    /// The end of a transaction of a side that came in parts: `entities`, what it changed.
    pub(super) fn ended_parts(&self, stamp: &Stamp) -> Vec<ReadEnd> {
        let origin = self.way_out.origin(stamp);
        let reading = self.guard.reading.iter();
        reading
            .filter(|((_, side), _)| *side == stamp.side)
            .map(|((entity, side), through)| ReadEnd {
                entity: *entity,
                side: *side,
                author: self.unless_trusted(*entity, author_at_end(stamp, origin)),
                through: *through,
            })
            .collect()
    }

    fn unless_trusted(&self, entity: EntityNo, author: Option<MassAuthor>) -> Option<MassAuthor> {
        let guard = &self.mapping.entity(entity).guard;
        author.filter(|author| !is_trusted(guard, author))
    }

    /// Judges what full reads have left that a process before this one did not end.
    pub(super) async fn end_old_reads(&mut self) -> Result<(), Error> {
        let unended = self.writer.unended_reads().await?;
        if unended.is_empty() {
            return Ok(());
        }
        let end = |(entity, side)| {
            let author = self.unless_trusted(entity, Some(reader("listing")));
            ReadEnd { entity, side, author, through: i64::MAX }
        };
        let read_ends: Vec<ReadEnd> = unended.into_iter().map(end).collect();
        self.writer.begin().await?;
        let writes = Writes { read_ends, ..Writes::default() };
        self.writer.write_part(&writes).await?;
        self.writer.commit().await?;
        self.guard.note_ends(&writes.read_ends);
        self.way_out.nudge_all();
        Ok(())
    }

    /// What a yes to a stop asks to write, or in words why nothing is done.
    pub(super) async fn let_through(
        &self,
        (stop, through): (i64, i64),
        author: &str,
    ) -> Result<Result<Writes, String>, Error> {
        if !self.writer.is_stop_open(stop).await? {
            return Ok(Err(format!("no mass change {stop} waits for a yes any more")));
        }
        let let_through = vec![LetRow { stop, through, author: author.to_owned() }];
        Ok(Ok(Writes { let_through, ..Writes::default() }))
    }

    /// What a person has let through, or taken back, is counted anew.
    pub(super) async fn forget_what_is_over(&mut self, before: &HashSet<Key>) -> Result<(), Error> {
        if before.is_empty() {
            return Ok(());
        }
        let open = self.writer.stopped().await?;
        self.guard.windows.retain(|key, _| !before.contains(key) || open.contains(key));
        Ok(())
    }
}

/// Sets for how long the rows of the outbox that a change has made due wait.
fn set_wait(writes: &mut Writes, it: &Counted, wait: CountedDue) {
    let of = |entity: &&mut EntityWrites| entity.entity == it.entity;
    let Some(entity) = writes.entities.iter_mut().find(of) else { return };
    for to in &it.to {
        let at = entity.due.binary_search_by_key(&(it.record, *to), |row| (row.record, row.side));
        if let Some(row) = at.ok().and_then(|at| entity.due.get_mut(at)) {
            row.counted = row.counted.max(Some(wait));
        }
    }
}

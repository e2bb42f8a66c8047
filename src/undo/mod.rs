//! What takes changes back. In: the journal of the records that they touched, which of its entries are to be undone,
//! and what is canonical now. Out: decisions, and what is left alone because somebody has changed it since. Pure.
//!
//! A change is undone while nothing newer stands on it: from the newest change of a cell backwards, each one that is
//! to be undone gives way to what was before, until the first that is not. Sets are taken back element by element.

mod cells;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::{
    model::{Decision, Wish, is_erased},
    store::history::Entry,
};

use cells::{Cells, Event};

/// A record: its entity's name, and its id.
pub(crate) type Place = (String, Uuid);

/// What is to be undone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    /// Entries of the journal, with all that they did.
    pub(crate) whole: BTreeSet<i64>,
    /// Single cells of entries.
    pub(crate) cells: BTreeSet<(i64, String)>,
}

impl Selection {
    fn has_life(&self, entry: &Entry) -> bool {
        self.whole.contains(&entry.journal_id)
    }

    /// What a record was made or came back with goes with it, and not cell by cell.
    fn has_cell(&self, entry: &Entry, field: &str) -> bool {
        entry.action == "update" && self.whole.contains(&entry.journal_id)
            || self.cells.contains(&(entry.journal_id, field.to_owned()))
    }
}

/// Whether canonical has a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Alive,
    /// Marked as deleted; its values are there.
    Deleted,
    /// It has no row.
    Gone,
}

/// A record as it is now.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Now {
    pub(crate) life: Life,
    /// By field; empty ones may be left out.
    pub(crate) cells: BTreeMap<String, Json>,
}

/// What the mapping says of a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Its elements come and go one by one.
    pub(crate) is_set: bool,
    /// Its values are ids of records.
    pub(crate) is_link: bool,
    /// Why nobody but a side may write it.
    pub(crate) closed: Option<String>,
}

/// All that a plan depends on.
pub(crate) struct Question<'a> {
    /// The whole journal of the records concerned, the oldest entry first.
    pub(crate) entries: &'a [Entry],
    pub(crate) selection: &'a Selection,
    pub(crate) now: &'a BTreeMap<Place, Now>,
    pub(crate) rule: &'a dyn Fn(&str, &str) -> Rule,
    /// Records that are linked to by what was, and that canonical does not have.
    pub(crate) missing: &'a BTreeSet<Uuid>,
    /// Whether what others have changed since is taken back too.
    pub(crate) is_forced: bool,
}

/// Something that is left as it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kept {
    pub(crate) place: Place,
    /// `None`: the record as a whole.
    pub(crate) field: Option<String>,
    pub(crate) reason: Reason,
}

/// Why something is left as it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reason {
    /// Somebody has changed it since.
    ChangedSince { author: String, at: DateTime<Utc>, journal_id: i64 },
    /// It does not hold what the journal says that it does.
    Strayed,
    /// The record is deleted, and that is not to be undone.
    IsDeleted,
    /// Only a side may write it.
    Closed(String),
    /// It linked to a record that does not exist any more.
    TargetGone,
    /// What it held was erased with a person's data.
    Erased,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// In the order in which they have to be carried out.
    pub(crate) decisions: Vec<Decision>,
    pub(crate) kept: Vec<Kept>,
}

/// Plans how to take back what is selected.
pub(crate) fn plan(question: &Question<'_>) -> Plan {
    let mut by_place: BTreeMap<Place, Vec<&Entry>> = BTreeMap::new();
    for entry in question.entries {
        by_place.entry((entry.entity.clone(), entry.record_id)).or_default().push(entry);
    }
    let nothing = Now { life: Life::Gone, cells: BTreeMap::new() };
    let mut kept = Vec::new();
    let mut fates = Vec::new();
    for (place, entries) in &by_place {
        let now = question.now.get(place).unwrap_or(&nothing);
        let fate = fate(question, place, entries, now, &mut kept);
        fates.push((place, entries, now, fate));
    }
    let returning: BTreeSet<Uuid> = fates
        .iter()
        .filter(|(.., fate)| *fate == Fate::Returns)
        .map(|(place, ..)| place.1)
        .collect();
    let mut plan = Plan { decisions: Vec::new(), kept };
    let (mut sets, mut deletes, mut alive) = (Vec::new(), Vec::new(), Vec::new());
    for (place, entries, now, fate) in fates {
        let (entity, record) = place.clone();
        match fate {
            Fate::Goes => deletes.push(Decision::Delete { entity, record }),
            Fate::IsDead => {}
            Fate::StaysAlive | Fate::StaysDead | Fate::Returns => {
                alive.push((place, entries, now, fate));
            }
        }
    }
    for (place, entries, now, fate) in alive {
        let (entity, record) = place.clone();
        let history = Cells::of(entries, now);
        let mut wished: BTreeMap<String, Wish> = BTreeMap::new();
        for (field, events) in &history.events {
            let wish = cell(question, (place, field), events, history.value(field), &mut plan.kept);
            let Some(value) = wish else { continue };
            if fate == Fate::StaysDead {
                plan.kept.push(keep(place, Some(field), Reason::IsDeleted));
                continue;
            }
            let rule = (question.rule)(&place.0, field);
            if let Some(why) = rule.closed {
                plan.kept.push(keep(place, Some(field), Reason::Closed(why)));
                continue;
            }
            wished.insert(field.clone(), Wish { expected: history.value(field).clone(), value });
        }
        let mut restored = restored(&history, &wished, now);
        restored.retain(|field, value| {
            let is_erased = is_erased(value);
            if is_erased && fate == Fate::Returns {
                plan.kept.push(keep(place, Some(field), Reason::Erased));
            }
            !is_erased
        });
        for (field, value) in wished
            .iter_mut()
            .map(|(field, wish)| (field, &mut wish.value))
            .chain(restored.iter_mut())
        {
            let rule = (question.rule)(&place.0, field);
            if rule.is_link && !link_to(value, rule.is_set, question.missing, &returning) {
                plan.kept.push(keep(place, Some(field), Reason::TargetGone));
            }
        }
        wished.retain(|_, wish| wish.value != wish.expected);
        match fate {
            Fate::Returns => {
                plan.decisions.push(Decision::Restore { entity, record, cells: restored });
            }
            _ if !wished.is_empty() => {
                sets.push(Decision::Set { entity, record, cells: wished, settles: Vec::new() });
            }
            _ => {}
        }
    }
    plan.decisions.append(&mut sets);
    plan.decisions.append(&mut deletes);
    plan.kept.dedup();
    plan
}

/// What becomes of a record as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    StaysAlive,
    StaysDead,
    /// What is to be undone ends with it being deleted, as it is.
    IsDead,
    Returns,
    Goes,
}

/// Follows a record's creations, deletes and returns back as far as they are to be undone.
fn fate(
    question: &Question<'_>,
    place: &Place,
    entries: &[&Entry],
    now: &Now,
    kept: &mut Vec<Kept>,
) -> Fate {
    let is_alive = now.life == Life::Alive;
    let stays = if is_alive { Fate::StaysAlive } else { Fate::StaysDead };
    let turns: Vec<&Entry> =
        entries.iter().copied().filter(|entry| entry.action != "update").collect();
    let is_selected = |entry: &&Entry| question.selection.has_life(entry);
    let Some(first) = turns.iter().find(|entry| is_selected(entry)) else { return stays };
    let newest = turns.last().unwrap_or(first);
    if (newest.action != "delete") != is_alive {
        kept.push(keep(place, None, Reason::Strayed));
        return stays;
    }
    let undone = turns.iter().rev().take_while(|entry| is_selected(entry)).count();
    let stands = turns.iter().rev().nth(undone);
    let earliest = if stands.is_some_and(|it| it.journal_id > first.journal_id) {
        if !question.is_forced {
            kept.extend(stands.map(|entry| keep(place, None, since(entry))));
        }
        if question.is_forced { Some(*first) } else { turns.get(turns.len() - undone).copied() }
    } else {
        Some(*first)
    };
    let Some(earliest) = earliest else { return stays };
    match (is_alive, earliest.action == "delete") {
        (true, true) => Fate::StaysAlive,
        (false, true) => Fate::Returns,
        (false, false) => Fate::IsDead,
        (true, false) => {
            // What others have put into it since would go with it.
            let others = entries.iter().find(|entry| {
                entry.journal_id > earliest.journal_id
                    && !is_selected(entry)
                    && entry.action == "update"
            });
            match others {
                Some(entry) if !question.is_forced => {
                    kept.push(keep(place, None, since(entry)));
                    Fate::StaysAlive
                }
                _ => Fate::Goes,
            }
        }
    }
}

/// What a cell is to hold; `None`: nothing of it is to be undone, or nothing can be.
fn cell(
    question: &Question<'_>,
    (place, field): (&Place, &str),
    events: &[Event<'_>],
    now: &Json,
    kept: &mut Vec<Kept>,
) -> Option<Json> {
    let is_selected = |event: &Event<'_>| question.selection.has_cell(event.entry, field);
    if !events.iter().any(is_selected) {
        return None;
    }
    let rule = (question.rule)(&place.0, field);
    if !rule.is_set {
        let (value, reason) = cells::back(events, now, is_selected, question.is_forced);
        kept.extend(reason.map(|reason| keep(place, Some(field), reason)));
        if value.as_ref().is_some_and(is_erased) {
            kept.push(keep(place, Some(field), Reason::Erased));
            return None;
        }
        return value.filter(|value| value != now);
    }
    // Which elements came and went is not known any more.
    if events.iter().skip_while(|event| !is_selected(event)).any(Event::is_erased) {
        kept.push(keep(place, Some(field), Reason::Erased));
        return None;
    }
    let (value, reasons) = cells::set_back(events, now, is_selected, question.is_forced);
    kept.extend(reasons.into_iter().map(|reason| keep(place, Some(field), reason)));
    (value != *now).then_some(value)
}

/// What a record comes back with: of one without a row, all; else what differs from what it holds.
fn restored(
    history: &Cells<'_>,
    wished: &BTreeMap<String, Wish>,
    now: &Now,
) -> BTreeMap<String, Json> {
    let mut cells = match now.life {
        Life::Gone => history.last.clone(),
        Life::Alive | Life::Deleted => BTreeMap::new(),
    };
    for (field, wish) in wished {
        cells.insert(field.clone(), wish.value.clone());
    }
    cells
}

/// Drops links to records that there are not from `value`; whether there were none.
fn link_to(
    value: &mut Json,
    is_set: bool,
    missing: &BTreeSet<Uuid>,
    returning: &BTreeSet<Uuid>,
) -> bool {
    let is_missing = |json: &Json| {
        let id = json.as_str().and_then(|text| Uuid::try_parse(text).ok());
        id.is_some_and(|id| missing.contains(&id) && !returning.contains(&id))
    };
    if !is_set {
        let is_gone = is_missing(value);
        if is_gone {
            *value = Json::Null;
        }
        return !is_gone;
    }
    let Some(elements) = value.as_array_mut() else { return true };
    let count = elements.len();
    elements.retain(|element| !is_missing(element));
    let is_whole = elements.len() == count;
    if elements.is_empty() {
        *value = Json::Null;
    }
    is_whole
}

fn keep(place: &Place, field: Option<&str>, reason: Reason) -> Kept {
    Kept { place: place.clone(), field: field.map(str::to_owned), reason }
}

fn since(entry: &Entry) -> Reason {
    Reason::ChangedSince {
        author: entry.author.clone(),
        at: entry.at,
        journal_id: entry.journal_id,
    }
}

//! A record's cells through its journal, and one cell's way back.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use super::{Life, Now, Reason, since};
use crate::{model::is_erased, store::history::Entry};

const NULL: Json = Json::Null;

/// A change of one cell.
#[derive(Clone, Debug)]
pub(super) struct Event<'a> {
    pub(super) entry: &'a Entry,
    before: Json,
    after: Json,
}

impl Event<'_> {
    /// Whether what it held before or after is not known any more.
    pub(super) fn is_erased(&self) -> bool {
        is_erased(&self.before) || is_erased(&self.after)
    }
}

/// What happened to each cell. A delete changes none: the values are remembered, and come back as they were, or
/// changed by what brought the record back.
pub(super) struct Cells<'a> {
    pub(super) events: BTreeMap<String, Vec<Event<'a>>>,
    /// What it holds now; of a record without a row, what it held last.
    pub(super) last: BTreeMap<String, Json>,
}

impl<'a> Cells<'a> {
    pub(super) fn of(entries: &[&'a Entry], now: &Now) -> Self {
        let mut events: BTreeMap<String, Vec<Event<'a>>> = BTreeMap::new();
        // Filled while the record has no row.
        let mut remembered: Option<BTreeMap<String, Json>> = None;
        for entry in entries {
            if entry.action == "delete" {
                if !entry.before.is_empty() {
                    let cells = entry.before.iter();
                    remembered =
                        Some(cells.map(|(name, value)| (name.clone(), value.clone())).collect());
                }
                continue;
            }
            let held = remembered.take();
            let fields: BTreeSet<&String> = entry
                .before
                .keys()
                .chain(entry.after.keys())
                .chain(held.iter().flat_map(BTreeMap::keys))
                .collect();
            for field in fields {
                let before = match &held {
                    Some(held) => held.get(field),
                    None => entry.before.get(field),
                };
                let before = before.unwrap_or(&NULL).clone();
                let after = entry.after.get(field).unwrap_or(&NULL).clone();
                // Of what was erased it is not known any more whether it differed.
                if before != after || is_erased(&before) {
                    events.entry(field.clone()).or_default().push(Event { entry, before, after });
                }
            }
        }
        let last = match (now.life, remembered) {
            (Life::Gone, Some(remembered)) => remembered,
            _ => now.cells.clone(),
        };
        Self { events, last }
    }

    pub(super) fn value(&self, field: &str) -> &Json {
        self.last.get(field).unwrap_or(&NULL)
    }
}

/// Follows a cell back from what it holds `now`. The value, if any of it is undone; and why not all of it is.
pub(super) fn back<'e>(
    events: &[Event<'e>],
    now: &Json,
    is_selected: impl Fn(&Event<'e>) -> bool,
    is_forced: bool,
) -> (Option<Json>, Option<Reason>) {
    let Some(first) = events.iter().position(&is_selected) else { return (None, None) };
    if is_forced {
        return (Some(events[first].before.clone()), None);
    }
    if events.last().is_some_and(|event| event.after != *now) {
        return (None, Some(Reason::Strayed));
    }
    let undone = events.iter().rev().take_while(|event| is_selected(event)).count();
    let stands = events.len() - undone;
    let value = (undone > 0).then(|| events[stands].before.clone());
    let reason = (stands > first).then(|| since(events[stands - 1].entry));
    (value, reason)
}

/// The same for each element of a set.
pub(super) fn set_back<'e>(
    events: &[Event<'e>],
    now: &Json,
    is_selected: impl Fn(&Event<'e>) -> bool,
    is_forced: bool,
) -> (Json, Vec<Reason>) {
    let mut held = elements(now);
    let mut reasons = Vec::new();
    let all: BTreeSet<String> = events
        .iter()
        .flat_map(|event| [elements(&event.before), elements(&event.after)])
        .flatten()
        .collect();
    for element in all {
        let has = |json: &Json| Json::Bool(elements(json).contains(&element));
        let moves: Vec<Event<'e>> = events
            .iter()
            .map(|event| Event {
                entry: event.entry,
                before: has(&event.before),
                after: has(&event.after),
            })
            .filter(|event| event.before != event.after)
            .collect();
        let is_in = Json::Bool(held.contains(&element));
        let (value, reason) = back(&moves, &is_in, &is_selected, is_forced);
        reasons.extend(reason);
        match value {
            Some(Json::Bool(true)) => drop(held.insert(element)),
            Some(_) => drop(held.remove(&element)),
            None => {}
        }
    }
    reasons.dedup();
    let set = if held.is_empty() { NULL } else { held.into_iter().collect() };
    (set, reasons)
}

fn elements(json: &Json) -> BTreeSet<String> {
    let elements = json.as_array().into_iter().flatten();
    elements.filter_map(|element| element.as_str().map(str::to_owned)).collect()
}

//! What of an entry of the journal is to be told: pure. In: what is watched, the entry, and the facts beside it. Out:
//! alerts, at most one a rule.

use chrono::NaiveDate;
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use super::{
    Alert, Facts, Row, Valuation,
    valuation::{Fall, fall},
    watch::{Columns, Lens, Watch},
    words,
};
use crate::store::history::Entry;

/// A field that is another one after the entry than before it.
struct Change<'e> {
    field: &'e str,
    before: &'e Json,
    after: &'e Json,
}

/// What of a valuation decides by how much it is below another.
const VALUATION_COLUMNS: [&str; 8] = [
    "startup_id",
    "as_of",
    "price",
    "equity_value",
    "approved_on",
    "method_code",
    "instrument_code",
    "currency",
];

/// What amounts are in where nothing else is said.
const EURO: &str = "EUR";
/// What of a legal event is told beside its kind.
const EVENT_COLUMNS: [&str; 5] =
    ["startup_id", "label", "decided_on", "capital_before", "capital_after"];

/// The alerts that `entry` raises. `facts` have the entry's record, its company and what it links to.
pub(crate) fn evaluate(watches: &[Watch], entry: &Entry, facts: &Facts) -> Vec<Alert> {
    if !is_news(entry, facts) {
        return Vec::new();
    }
    let mine = watches.iter().filter(|watch| may_meet(watch, entry));
    mine.filter_map(|watch| look(watch, entry, facts)).collect()
}

/// Whether a rule can have to do with an entry at all, by the entry alone.
pub(super) fn may_meet(watch: &Watch, entry: &Entry) -> bool {
    if watch.entity != entry.entity || entry.action == "delete" {
        return false;
    }
    let changes = changes(entry);
    let has = |field: Option<&str>| changes.iter().any(|change| Some(change.field) == field);
    match &watch.lens {
        Lens::LegalEvent { columns, .. } => has(columns.field("kind_code")),
        Lens::ValuationDown { columns, .. } => {
            VALUATION_COLUMNS.iter().any(|column| has(columns.field(column)))
        }
        Lens::Field { field, .. } => entry.action != "create" && has(Some(field)),
    }
}

/// Of events that alerted with what was known then, what is known by now: people fill a row in cell by cell, the kind of an
/// event before its company. The alerts are those that the entry would raise, had it set the kind.
pub(crate) fn complete(watches: &[Watch], entry: &Entry, facts: &Facts) -> Vec<Alert> {
    let mine = watches.iter().filter(|watch| may_complete(watch, entry));
    let completed = mine.filter_map(|watch| {
        let Lens::LegalEvent { kinds, columns } = &watch.lens else { return None };
        let row = row_after(entry, facts);
        let code = row.get(columns.field("kind_code")?)?.as_str()?.to_owned();
        let is_watched = kinds.is_empty() || kinds.contains(&code);
        let told = is_watched.then(|| legal_event(watch, columns, &row, &code, facts))?;
        Some(alert(watch, entry, &row, told, facts))
    });
    completed.collect()
}

/// Whether an entry says more of a legal event that may have alerted.
pub(super) fn may_complete(watch: &Watch, entry: &Entry) -> bool {
    let Lens::LegalEvent { columns, .. } = &watch.lens else { return false };
    watch.entity == entry.entity
        && entry.action == "update"
        && !may_meet(watch, entry)
        && changes(entry).iter().any(|change| {
            EVENT_COLUMNS.iter().any(|column| columns.field(column) == Some(change.field))
        })
}

/// What the first reading of a side brings in is no news: it was there before. What a later one finds is.
pub(super) fn is_news(entry: &Entry, facts: &Facts) -> bool {
    if !matches!(entry.via.as_str(), "snapshot" | "listing") {
        return true;
    }
    let scope = (entry.side.clone(), entry.entity.clone());
    facts.counts_from.get(&scope).is_some_and(|from| *from <= entry.recorded_at)
}

fn changes(entry: &Entry) -> Vec<Change<'_>> {
    static NULL: Json = Json::Null;
    let fields = entry.after.keys();
    let gone = entry.before.keys().filter(|field| !entry.after.contains_key(*field));
    let changes = fields.chain(gone).map(|field| Change {
        field,
        before: entry.before.get(field).unwrap_or(&NULL),
        after: entry.after.get(field).unwrap_or(&NULL),
    });
    // What comes back with a record that was deleted is nothing new.
    let is_return = |change: &Change<'_>| entry.action == "restore" && change.before.is_null();
    changes.filter(|change| change.before != change.after && !is_return(change)).collect()
}

/// The record as the entry left it: later entries are taken back, the last one first.
pub(super) fn row_after(entry: &Entry, facts: &Facts) -> Row {
    let key = (entry.entity.clone(), entry.record_id);
    let mut row = facts.rows.get(&key).cloned().unwrap_or_default();
    let entries = facts.entries.get(&entry.record_id).map_or(&[][..], Vec::as_slice);
    let later =
        entries.iter().filter(|it| it.entity == entry.entity && it.journal_id > entry.journal_id);
    for later in later.rev() {
        for field in later.after.keys() {
            row.insert(field.clone(), Json::Null);
        }
        overlay(&mut row, &later.before);
    }
    overlay(&mut row, &entry.after);
    row
}

fn overlay(row: &mut Row, values: &Map<String, Json>) {
    for (field, value) in values {
        row.insert(field.clone(), value.clone());
    }
}

fn row_before(entry: &Entry, after: &Row) -> Row {
    let mut row = after.clone();
    for field in entry.after.keys() {
        row.insert(field.clone(), Json::Null);
    }
    overlay(&mut row, &entry.before);
    row
}

fn look(watch: &Watch, entry: &Entry, facts: &Facts) -> Option<Alert> {
    let row = row_after(entry, facts);
    let told = match &watch.lens {
        Lens::LegalEvent { kinds, columns } => {
            let kind = columns.field("kind_code")?;
            let changes = changes(entry);
            let change = changes.iter().find(|change| change.field == kind)?;
            let code = change.after.as_str()?;
            if !kinds.is_empty() && !kinds.iter().any(|it| it == code) {
                return None;
            }
            legal_event(watch, columns, &row, code, facts)
        }
        Lens::ValuationDown { by_percent, columns } => {
            let is = valuation(entry.record_id, columns, &row, facts);
            let found = fall_of(&is, facts)?;
            if !found.is_by(*by_percent) {
                return None;
            }
            // The same fall as before the entry: a correction that changes nothing of it.
            let was = (entry.action != "create")
                .then(|| valuation(entry.record_id, columns, &row_before(entry, &row), facts));
            if was.and_then(|was| fall_of(&was, facts)).as_ref() == Some(&found) {
                return None;
            }
            let texts = words::valuation(&company(watch, &row, facts)?, &found, facts);
            (found.json(&found.before), found.json(&found.after), texts)
        }
        Lens::Field { field, from, to, .. } => {
            let changes = changes(entry);
            let change = changes.iter().find(|change| change.field == field)?;
            if !is_wanted(change, from, to) {
                return None;
            }
            let name = subject(watch, entry.record_id, &row, facts);
            let texts = words::field(watch, field, &name, change.before, change.after, facts);
            let one = |value: &Json| Map::from_iter([(field.clone(), value.clone())]);
            (one(change.before), one(change.after), texts)
        }
    };
    Some(alert(watch, entry, &row, told, facts))
}

/// Before, after, and the two sentences.
type Told = (Map<String, Json>, Map<String, Json>, [String; 2]);

fn alert(watch: &Watch, entry: &Entry, row: &Row, told: Told, facts: &Facts) -> Alert {
    let (before, after, [text_fr, text_en]) = told;
    Alert {
        rule: watch.rule.name.clone(),
        kind: watch.rule.on.kind(),
        entity: entry.entity.clone(),
        record_id: entry.record_id,
        journal_id: entry.journal_id,
        at: entry.at,
        side: entry.side.clone(),
        author: author(entry, facts),
        record_name: subject(watch, entry.record_id, row, facts),
        before,
        after,
        text_fr,
        text_en,
    }
}

fn legal_event(watch: &Watch, columns: &Columns, row: &Row, code: &str, facts: &Facts) -> Told {
    let cell = |column: &str| {
        let value = columns.field(column).and_then(|field| row.get(field));
        value.filter(|value| !value.is_null()).cloned()
    };
    let event = words::LegalEvent {
        company: company(watch, row, facts),
        label: cell("label").and_then(|label| label.as_str().map(str::to_owned)),
        code: code.to_owned(),
        decided_on: date(cell("decided_on").as_ref()),
        capital: [cell("capital_before"), cell("capital_after")]
            .map(|value| words::decimal(value.as_ref())),
        currency: cell("currency")
            .and_then(|code| code.as_str().map(str::to_owned))
            .unwrap_or_else(|| EURO.into()),
    };
    let (mut before, mut after) = (Map::new(), Map::new());
    after.insert("kind_code".into(), code.into());
    if let Some(value) = cell("capital_before") {
        before.insert("share_capital".into(), value);
    }
    if let Some(value) = cell("capital_after") {
        after.insert("share_capital".into(), value);
    }
    if let Some(value) = cell("decided_on") {
        after.insert("decided_on".into(), value);
    }
    (before, after, words::legal_event(&event, facts))
}

/// Whether a change is one that a rule waits for. A value where there was none is, if the rule waits for just that one.
fn is_wanted(change: &Change<'_>, from: &[String], to: &[String]) -> bool {
    if change.before.is_null() && (to.is_empty() || !from.is_empty()) {
        return false;
    }
    let meets = |codes: &[String], value: &Json, other: &Json| {
        codes.is_empty() || codes.iter().any(|code| holds(value, code) && !holds(other, code))
    };
    meets(from, change.before, change.after) && meets(to, change.after, change.before)
}

/// Whether a value is this one, or a set has it.
fn holds(value: &Json, code: &str) -> bool {
    match value {
        Json::Null => code.is_empty(),
        Json::String(text) => text == code,
        Json::Array(elements) => elements.iter().any(|element| holds(element, code)),
        Json::Bool(flag) => code == if *flag { "true" } else { "false" },
        Json::Number(number) => code == number.to_string(),
        Json::Object(_) => false,
    }
}

fn fall_of(one: &Valuation, facts: &Facts) -> Option<Fall> {
    let all = facts.valuations.get(&one.startup_id?)?;
    fall(one, all)
}

/// The valuation that a row is; what is not mapped of it is as canonical has it.
fn valuation(id: Uuid, columns: &Columns, row: &Row, facts: &Facts) -> Valuation {
    let stored = facts.valuations.values().flatten().find(|it| it.id == id).cloned();
    let stored =
        stored.unwrap_or_else(|| Valuation { currency: EURO.into(), ..Valuation::default() });
    let cell = |column: &str| Some(row.get(columns.field(column)?).unwrap_or(&Json::Null));
    let text = |column: &str| Some(cell(column)?.as_str().map(str::to_owned));
    Valuation {
        id,
        startup_id: match cell("startup_id") {
            Some(value) => uuid(value),
            None => stored.startup_id,
        },
        as_of: cell("as_of").map_or(stored.as_of, |value| date(Some(value))),
        price: cell("price").map_or(stored.price, |value| words::decimal(Some(value))),
        equity_value: cell("equity_value")
            .map_or(stored.equity_value, |value| words::decimal(Some(value))),
        approved_on: cell("approved_on").map_or(stored.approved_on, |value| date(Some(value))),
        method_code: text("method_code").unwrap_or(stored.method_code),
        instrument_code: text("instrument_code").unwrap_or(stored.instrument_code),
        currency: text("currency").flatten().unwrap_or(stored.currency),
    }
}

fn uuid(value: &Json) -> Option<Uuid> {
    value.as_str().and_then(|text| Uuid::try_parse(text).ok())
}

fn date(value: Option<&Json>) -> Option<NaiveDate> {
    value?.as_str()?.parse().ok()
}

/// The company of a record that has one, by name; a company without a name is told by its id.
fn company(watch: &Watch, row: &Row, facts: &Facts) -> Option<String> {
    let id = uuid(row.get(watch.company.as_ref()?)?)?;
    Some(facts.names.get(&id).cloned().unwrap_or_else(|| id.to_string()))
}

/// `Voile (Voile Solaire)`: the record, and its company unless that is its name already.
fn subject(watch: &Watch, id: Uuid, row: &Row, facts: &Facts) -> String {
    let name = label(row).unwrap_or_else(|| id.to_string());
    match company(watch, row, facts) {
        Some(company) if company != name => format!("{name} ({company})"),
        _ => name,
    }
}

/// What a person calls a record: its name, title or label, its first and last name, its reference.
pub(super) fn label(row: &Row) -> Option<String> {
    let text = |field: &str| {
        let text = row.get(field)?.as_str()?.trim();
        (!text.is_empty()).then(|| words::short(text))
    };
    let person = || {
        let parts: Vec<String> = ["first_name", "last_name"].into_iter().filter_map(text).collect();
        (!parts.is_empty()).then(|| parts.join(" "))
    };
    ["name", "title", "label", "legal_name"]
        .into_iter()
        .find_map(text)
        .or_else(person)
        .or_else(|| ["reference", "email"].into_iter().find_map(text))
}

fn author(entry: &Entry, facts: &Facts) -> String {
    let known = facts.authors.get(&(entry.side.clone(), entry.author.clone()));
    known.unwrap_or(&entry.author).clone()
}

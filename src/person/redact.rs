//! The past of an erased person, without the values: by the cells that the mapping calls personal, and by texts that
//! name the person.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::{
    model::ERASED,
    store::{
        Error,
        person::{self, ErasedCell, Erasure, Kept, Past, Reached},
    },
};

/// What is redacted again until both sides have taken an erasure: until then, rows of these tables still are at work.
const AT_WORK: [Kept; 5] =
    [Kept::Conflicts, Kept::Refusals, Kept::Parked, Kept::Operations, Kept::Commands];

/// What is kept of the past is redacted, whole; the journal last. May be broken off and done again.
///
/// `pattern`: what names the person in texts. `transitions`: canonical tables that only grow and name authors.
///
/// # Errors
/// If the canonical database does not do it.
pub(crate) async fn past(
    pool: &PgPool,
    erasure: &Erasure,
    pattern: Option<&str>,
    transitions: &[&str],
) -> Result<(), Error> {
    let scope = Scope::of(pool, erasure).await?;
    person::forget_columns(pool, erasure.record_id).await?;
    for kept in AT_WORK {
        scope.redact(pool, kept).await?;
    }
    let mut columns = Vec::new();
    if let Some(pattern) = pattern {
        person::take_user_ids(pool, pattern, erasure.record_id).await?;
        columns = person::text_columns(pool).await?;
        for column in columns.iter().filter(|column| column.table != "journal") {
            person::rename(pool, column, pattern, &erasure.pseudonym).await?;
        }
        for table in transitions {
            person::rename_author(pool, table, pattern, &erasure.pseudonym).await?;
        }
    }
    scope.redact(pool, Kept::Journal).await?;
    if let Some(pattern) = pattern {
        for column in columns.iter().filter(|column| column.table == "journal") {
            person::rename(pool, column, pattern, &erasure.pseudonym).await?;
        }
    }
    person::note(pool, erasure.erasure_id, Reached::Redacted).await
}

/// Redacts what was under way until now. Whether the erasure is complete: both sides have taken it, and nothing of it
/// is left here.
///
/// # Errors
/// If the canonical database does not do it.
pub(crate) async fn finish(pool: &PgPool, erasure: &Erasure) -> Result<bool, Error> {
    // Looked at first: what is settled after this look is redacted at the next one.
    let is_taken = person::open(pool, erasure.erasure_id).await?.is_empty();
    let scope = Scope::of(pool, erasure).await?;
    person::forget_columns(pool, erasure.record_id).await?;
    let mut is_whole = true;
    for kept in AT_WORK {
        is_whole &= scope.redact(pool, kept).await?;
    }
    let is_complete = is_taken && is_whole && erasure.redacted_at.is_some();
    if is_complete {
        person::note(pool, erasure.erasure_id, Reached::Completed).await?;
    }
    Ok(is_complete)
}

/// How many rows of which tables would lose values.
///
/// # Errors
/// If the canonical database cannot be read.
pub(crate) async fn count(
    pool: &PgPool,
    erasure: &Erasure,
    cells: Vec<ErasedCell>,
) -> Result<Vec<(&'static str, i64)>, Error> {
    let scope = Scope::new(erasure, cells);
    let mut counts = Vec::new();
    for kept in AT_WORK.into_iter().chain([Kept::Journal]) {
        let mut count = 0;
        for row in person::past(pool, kept, erasure, &scope.records, true).await? {
            let is_redacted =
                |text: &Option<String>| scope.redacted(kept, &row, text.as_deref()) != *text;
            count += i64::from(row.values.iter().any(is_redacted));
        }
        counts.push((kept.table(), count));
    }
    Ok(counts)
}

/// What an erasure is about.
struct Scope<'e> {
    erasure: &'e Erasure,
    /// Fields of the person's own record.
    own: BTreeSet<String>,
    /// Cells of others that named the person.
    others: BTreeSet<ErasedCell>,
    records: Vec<Uuid>,
}

impl<'e> Scope<'e> {
    async fn of(pool: &PgPool, erasure: &'e Erasure) -> Result<Self, Error> {
        let cells = person::cells_of(pool, erasure.erasure_id).await?;
        Ok(Self::new(erasure, cells))
    }

    fn new(erasure: &'e Erasure, cells: Vec<ErasedCell>) -> Self {
        let is_own = |cell: &ErasedCell| {
            cell.record_id == erasure.record_id && cell.entity_no == erasure.entity_no
        };
        // The person's own comes first: of commands, it is the one that is told.
        let mut records = vec![erasure.record_id];
        let (own, others): (Vec<_>, Vec<_>) = cells.into_iter().partition(is_own);
        records.extend(others.iter().map(|cell| cell.record_id));
        records.dedup();
        let own = own.into_iter().map(|cell| cell.field).collect();
        Self { erasure, own, others: others.into_iter().collect(), records }
    }

    /// Whether all of it could be done: a row may have been changed meanwhile.
    async fn redact(&self, pool: &PgPool, kept: Kept) -> Result<bool, Error> {
        let mut is_whole = true;
        for row in person::past(pool, kept, self.erasure, &self.records, false).await? {
            let values: Vec<Option<String>> =
                row.values.iter().map(|text| self.redacted(kept, &row, text.as_deref())).collect();
            if values != row.values {
                is_whole &= person::redact(pool, kept, &row, &values).await?;
            }
        }
        Ok(is_whole)
    }

    /// A column's JSON without what was erased; as it is, if nothing of that is in it.
    fn redacted(&self, kept: Kept, row: &Past, text: Option<&str>) -> Option<String> {
        let text = text?;
        let Ok(mut json) = serde_json::from_str::<Json>(text) else { return Some(text.to_owned()) };
        let before = json.clone();
        match kept {
            Kept::Conflicts | Kept::Refusals | Kept::Parked => {
                let field = row.field.as_deref().unwrap_or_default();
                let is_old_mention =
                    self.is_others(row, field) && (row.is_later || kept != Kept::Conflicts);
                if self.is_own(row, field) || is_old_mention {
                    self.erase(&mut json);
                }
            }
            Kept::Operations => {
                for (field, cell) in json.as_object_mut().into_iter().flatten() {
                    self.erase_sent(
                        cell,
                        self.is_own(row, field),
                        self.is_others(row, field),
                        row.is_later,
                    );
                }
            }
            Kept::Journal => {
                for (field, value) in json.as_object_mut().into_iter().flatten() {
                    if self.is_own(row, field) {
                        self.erase(value);
                    }
                }
            }
            Kept::Commands => {
                for decision in json.as_array_mut().into_iter().flatten() {
                    self.erase_decision(decision, row.is_later);
                }
            }
        }
        if json == before { Some(text.to_owned()) } else { Some(json.to_string()) }
    }

    fn is_own(&self, row: &Past, field: &str) -> bool {
        row.record_id == self.erasure.record_id
            && row.entity_no == self.erasure.entity_no
            && self.own.contains(field)
    }

    fn is_others(&self, row: &Past, field: &str) -> bool {
        self.others.contains(&ErasedCell {
            entity_no: row.entity_no,
            record_id: row.record_id,
            field: field.to_owned(),
        })
    }

    /// `{"expected": …, "value": …}`. What an erasure itself has sent to a cell of another record names nobody.
    fn erase_sent(&self, cell: &mut Json, is_own: bool, is_others: bool, is_later: bool) {
        let Some(cell) = cell.as_object_mut() else { return };
        if is_own || is_others {
            cell.get_mut("expected").into_iter().for_each(|value| self.erase(value));
        }
        if is_own || is_others && !is_later {
            cell.get_mut("value").into_iter().for_each(|value| self.erase(value));
        }
    }

    fn erase_decision(&self, decision: &mut Json, is_later: bool) {
        let record = decision["record"].as_str().and_then(|text| Uuid::try_parse(text).ok());
        let is_own_record = record == Some(self.erasure.record_id)
            && decision["entity"].as_str() == Some(&self.erasure.entity);
        let is_set = decision["kind"] == "set";
        let Some(cells) = decision.get_mut("cells").and_then(Json::as_object_mut) else { return };
        for (field, cell) in cells {
            let is_own = is_own_record && self.own.contains(field);
            let is_others = !is_own_record
                && is_later
                && self
                    .others
                    .iter()
                    .any(|other| Some(other.record_id) == record && other.field == *field);
            if is_set {
                self.erase_sent(cell, is_own, is_others, is_later);
            } else if is_own {
                self.erase(cell);
            }
        }
    }

    /// Nothing, no and the pseudonym tell nobody anything.
    fn erase(&self, value: &mut Json) {
        let stays = match value {
            Json::Null | Json::Bool(false) => true,
            Json::String(text) => {
                text.to_lowercase() == self.erasure.pseudonym.to_lowercase() || text == ERASED
            }
            Json::Object(cells) => *cells == Map::new(),
            _ => false,
        };
        if !stays {
            *value = ERASED.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn erasure() -> Erasure {
        let at = chrono::DateTime::from_timestamp(0, 0).unwrap();
        Erasure {
            erasure_id: 1,
            entity: "member".into(),
            entity_no: 1,
            record_id: Uuid::from_u128(7),
            pseudonym: "Personne-effacée-00000a".into(),
            asked_by: "x".into(),
            asked_at: at,
            emptied_at: None,
            redacted_at: None,
            completed_at: None,
        }
    }

    fn cell(entity_no: i16, record: u128, field: &str) -> ErasedCell {
        ErasedCell { entity_no, record_id: Uuid::from_u128(record), field: field.into() }
    }

    fn row(entity_no: i16, record: u128, field: Option<&str>, is_later: bool) -> Past {
        Past {
            row: "(0,1)".into(),
            field: field.map(str::to_owned),
            record_id: Uuid::from_u128(record),
            entity_no,
            is_later,
            values: Vec::new(),
        }
    }

    #[test]
    fn person_past_loses_the_values_of_personal_cells_and_no_others() {
        let erasure = erasure();
        let cells = vec![cell(1, 7, "email"), cell(1, 7, "last_name"), cell(3, 9, "followed_by")];
        let scope = Scope::new(&erasure, cells);
        let of = |kept, row: &Past, json: Json| -> Json {
            serde_json::from_str(&scope.redacted(kept, row, Some(&json.to_string())).unwrap())
                .unwrap()
        };
        let (own, other) = (row(1, 7, None, false), row(3, 9, None, false));
        let entry = json!({ "email": "a@b.fr", "last_name": erasure.pseudonym, "status": "left" });
        let redacted = json!({ "email": ERASED, "last_name": erasure.pseudonym, "status": "left" });
        assert_eq!(of(Kept::Journal, &own, entry.clone()), redacted);
        assert_eq!(of(Kept::Journal, &own, redacted.clone()), redacted, "done again");
        assert_eq!(of(Kept::Journal, &row(1, 8, None, false), entry.clone()), entry);
        assert_eq!(of(Kept::Journal, &row(2, 7, None, false), entry.clone()), entry);

        let sent = json!({ "email": { "expected": "a@b.fr", "value": null } });
        let erased = json!({ "email": { "expected": ERASED, "value": null } });
        assert_eq!(of(Kept::Operations, &own, sent), erased);
        let named = json!({ "followed_by": { "expected": "a@b.fr", "value": "a@b.fr" } });
        let both = json!({ "followed_by": { "expected": ERASED, "value": ERASED } });
        assert_eq!(of(Kept::Operations, &other, named.clone()), both);
        let first = json!({ "followed_by": { "expected": ERASED, "value": "a@b.fr" } });
        assert_eq!(of(Kept::Operations, &row(3, 9, None, true), named), first);

        let conflict = row(1, 7, Some("email"), false);
        assert_eq!(of(Kept::Conflicts, &conflict, json!("a@b.fr")), json!(ERASED));
        assert_eq!(of(Kept::Conflicts, &conflict, json!(null)), json!(null));
        assert_eq!(scope.redacted(Kept::Conflicts, &conflict, None), None);
        let held = row(3, 9, Some("followed_by"), false);
        assert_eq!(of(Kept::Conflicts, &held, json!("z@b.fr")), json!("z@b.fr"));

        let body = json!([
            { "kind": "set", "entity": "member", "record": Uuid::from_u128(7), "cells": { "email": { "expected": "a@b.fr", "value": "c@b.fr" } }, "settles": [] },
            { "kind": "restore", "entity": "member", "record": Uuid::from_u128(7), "cells": { "email": "a@b.fr", "city": "Lyon" } },
            { "kind": "set", "entity": "member", "record": Uuid::from_u128(8), "cells": { "email": { "expected": "d@b.fr", "value": null } }, "settles": [] },
        ]);
        let body = of(Kept::Commands, &own, body);
        assert_eq!(body[0]["cells"]["email"], json!({ "expected": ERASED, "value": ERASED }));
        assert_eq!(body[1]["cells"], json!({ "email": ERASED, "city": "Lyon" }));
        assert_eq!(body[2]["cells"]["email"]["expected"], "d@b.fr");
    }
}

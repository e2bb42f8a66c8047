//! Computed cells: formula, rollup, lookup, count, times, people, numbers. Brought up to date within the
//! transaction that touched what they depend on.

use std::collections::{BTreeSet, VecDeque};

use serde_json::{Value, json};

use super::cell::{Look, instant};
use super::formula;
use super::model::{Base, Field, Record, Table, is_empty, link_ids};
use super::transaction::Transaction;

/// A record is recomputed at most this often in one transaction: a circle of lookups comes to rest.
const ROUND_MAX: usize = 6;

/// Recomputes everything that depends on the touched records.
pub(super) fn settle(tx: &mut Transaction<'_>) {
    let mut queue: VecDeque<(String, String, usize)> =
        tx.before.keys().map(|(table, record)| (table.clone(), record.clone(), 0)).collect();
    let mut is_queued: BTreeSet<String> =
        queue.iter().map(|(_, record, _)| record.clone()).collect();
    while let Some((table_id, record_id, round)) = queue.pop_front() {
        is_queued.remove(&record_id);
        let Some(table) = tx.base.table_index(&table_id) else { continue };
        if !tx.base.tables[table].records.contains_key(&record_id) {
            continue;
        }
        let is_changed = recompute(tx, table, &record_id);
        if !is_changed && round > 0 || round >= ROUND_MAX {
            continue;
        }
        for (other_table, other) in neighbours(tx.base, table, &record_id) {
            if is_queued.insert(other.clone()) {
                queue.push_back((other_table, other, round + 1));
            }
        }
    }
}

/// The records that look at this one through a link: the other ends of its links.
fn neighbours(base: &Base, table: usize, record_id: &str) -> Vec<(String, String)> {
    let table = &base.tables[table];
    let record = &table.records[record_id];
    let linked = table.fields.iter().filter(|field| field.is_link()).flat_map(|field| {
        let target = field.option("linkedTableId").to_owned();
        link_ids(record, &field.id).into_iter().map(move |id| (target.clone(), id))
    });
    linked.collect()
}

fn recompute(tx: &mut Transaction<'_>, table: usize, record_id: &str) -> bool {
    let definition = &tx.base.tables[table];
    if definition.fields.iter().all(Field::is_writable) {
        return false;
    }
    // Formulas may refer to other computed fields: those that come later see the fresh value.
    let mut record = definition.records[record_id].clone();
    let look = tx.look();
    for _ in 0..3 {
        let mut is_settled = true;
        for field in definition.fields.iter().filter(|field| !field.is_writable()) {
            let Some(value) = compute(&look, definition, field, &record) else { continue };
            let old = record.cells.get(&field.id).cloned().unwrap_or_default();
            if old != value {
                is_settled = false;
                if is_empty(&value) {
                    record.cells.remove(&field.id);
                } else {
                    record.cells.insert(field.id.clone(), value);
                }
            }
        }
        if is_settled {
            break;
        }
    }
    if definition.records[record_id].cells == record.cells {
        return false;
    }
    tx.touch(table, record_id);
    if let Some(kept) = tx.base.tables[table].records.get_mut(record_id) {
        kept.cells = record.cells;
    }
    true
}

/// The value of a computed cell; none for a type whose values only tests put in.
fn compute(look: &Look<'_>, table: &Table, field: &Field, record: &Record) -> Option<Value> {
    let value = match field.kind.as_str() {
        "autoNumber" => json!(record.number),
        "createdTime" => moment(field, (record.created_ms + 500).div_euclid(1000) * 1000),
        "createdBy" => json!(record.created_by),
        "lastModifiedBy" => json!(record.modified_by),
        "lastModifiedTime" => {
            let watched = super::model::strings(&field.options["referencedFieldIds"]);
            let changed_ms = if watched.is_empty() {
                Some(record.modified_ms)
            } else {
                watched.iter().filter_map(|id| record.field_modified_ms.get(id).copied()).max()
            };
            changed_ms.map_or(Value::Null, |ms| moment(field, ms.div_euclid(1000) * 1000))
        }
        "count" => json!(link_ids(record, field.option("recordLinkFieldId")).len()),
        "multipleLookupValues" => {
            let (pairs, has_error) = looked_up(look, table, field, record);
            if has_error { json!([{ "error": "#ERROR!" }]) } else { Value::Array(pairs) }
        }
        "rollup" => rollup(look, table, field, record),
        "formula" => formula::evaluate(look, table, record, field.option("formula")),
        _ => return None,
    };
    Some(value)
}

fn moment(field: &Field, ms: i64) -> Value {
    if field.options["result"]["type"] == "date" {
        let text = super::clock::iso_ms(ms);
        return text.split('T').next().map(Value::from).unwrap_or_default();
    }
    instant(ms)
}

/// Pairs of a linked record and its values, in link order; and whether one of them is an error.
fn looked_up(look: &Look<'_>, table: &Table, field: &Field, record: &Record) -> (Vec<Value>, bool) {
    let mut pairs = Vec::new();
    let mut has_error = false;
    let link = table.field(field.option("recordLinkFieldId"));
    let target = link.and_then(|link| look.base.table(link.option("linkedTableId")));
    let shown = target.and_then(|target| target.field(field.option("fieldIdInLinkedTable")));
    if let (Some(link), Some(target), Some(shown)) = (link, target, shown) {
        for id in link_ids(record, &link.id) {
            let Some(linked) = target.records.get(&id) else { continue };
            let value = linked.injected.get(&shown.id).or_else(|| linked.cells.get(&shown.id));
            let Some(value) = value else { continue };
            has_error |= value.get("error").is_some();
            let is_list = matches!(
                shown.kind.as_str(),
                "multipleSelects"
                    | "multipleRecordLinks"
                    | "multipleCollaborators"
                    | "multipleAttachments"
            );
            let values = match value {
                Value::Array(items) if is_list => Value::Array(items.clone()),
                // A lookup of a lookup shows what that one shows.
                nested if shown.kind == "multipleLookupValues" => look.rest(shown, nested),
                single => json!([single]),
            };
            pairs.push(json!([id, values]));
        }
    }
    (pairs, has_error)
}

fn rollup(look: &Look<'_>, table: &Table, field: &Field, record: &Record) -> Value {
    let (pairs, has_error) = looked_up(look, table, field, record);
    if has_error {
        return json!({ "error": "#ERROR!" });
    }
    let values: Vec<&Value> =
        pairs.iter().filter_map(|pair| pair[1].as_array()).flatten().collect();
    let numbers: Vec<f64> = values.iter().filter_map(|value| value.as_f64()).collect();
    let number = |n: f64| formula::to_json_number(n);
    match field.aggregate.as_deref().unwrap_or("SUM") {
        "COUNTA" => json!(values.len()),
        "MAX" => numbers.iter().copied().reduce(f64::max).map_or(Value::Null, number),
        "MIN" => numbers.iter().copied().reduce(f64::min).map_or(Value::Null, number),
        _ => number(numbers.iter().sum()),
    }
}

/// Recomputes every record, as after a change of fields.
pub(super) fn touch_all(tx: &mut Transaction<'_>, table: usize) {
    let ids: Vec<String> = tx.base.tables[table].records.keys().cloned().collect();
    for id in ids {
        tx.touch(table, &id);
    }
}

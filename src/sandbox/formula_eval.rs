//! The value of a formula for one record.

use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveDateTime, Utc};
use serde_json::Value;

use super::cell::Look;
use super::formula::{Ast, field_named};
use super::model::{Field, Record, Table, strings};

/// A value within a formula.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Val {
    Blank,
    Number(f64),
    Text(String),
    Bool(bool),
    /// Milliseconds since 1970.
    Date(i64),
    List(Vec<Val>),
    Error,
}

/// The record that a formula is evaluated for.
pub(super) struct Scope<'a> {
    pub(super) look: &'a Look<'a>,
    pub(super) table: &'a Table,
    pub(super) record: &'a Record,
}

const FUNCTIONS: [&str; 54] = [
    "ABS",
    "AND",
    "ARRAYJOIN",
    "AVERAGE",
    "BLANK",
    "CONCATENATE",
    "COUNTA",
    "CREATED_TIME",
    "DATEADD",
    "DATETIME_DIFF",
    "DATETIME_FORMAT",
    "DATETIME_PARSE",
    "DAY",
    "ERROR",
    "EXACT",
    "FALSE",
    "FIND",
    "IF",
    "INT",
    "ISERROR",
    "IS_AFTER",
    "IS_BEFORE",
    "IS_SAME",
    "LAST_MODIFIED_TIME",
    "LEFT",
    "LEN",
    "LOWER",
    "MAX",
    "MID",
    "MIN",
    "MOD",
    "MONTH",
    "NOT",
    "NOW",
    "OR",
    "POWER",
    "RECORD_ID",
    "REPT",
    "RIGHT",
    "ROUND",
    "SEARCH",
    "SQRT",
    "SUBSTITUTE",
    "SUM",
    "SWITCH",
    "T",
    "TODAY",
    "TRIM",
    "TRUE",
    "UPPER",
    "VALUE",
    "XOR",
    "YEAR",
    "CEILING",
];

pub(super) fn is_function(name: &str) -> bool {
    FUNCTIONS.contains(&name)
}

/// Excluded by a filter: 0, false, "", NaN, [] and errors.
pub(super) fn is_true(value: &Val) -> bool {
    match value {
        Val::Blank | Val::Error => false,
        Val::Number(n) => *n != 0.0 && !n.is_nan(),
        Val::Text(text) => !text.is_empty(),
        Val::Bool(set) => *set,
        Val::Date(_) => true,
        Val::List(items) => !items.is_empty(),
    }
}

fn truth(is: bool) -> Val {
    Val::Number(if is { 1.0 } else { 0.0 })
}

fn text(value: &Val) -> String {
    match value {
        Val::Blank | Val::Error => String::new(),
        Val::Number(n) => super::cell::plain_text(&super::formula::to_json_number(*n)),
        Val::Text(text) => text.clone(),
        Val::Bool(set) => if *set { "1" } else { "" }.into(),
        Val::Date(ms) => super::clock::iso_ms(*ms),
        Val::List(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
    }
}

fn number(value: &Val) -> Option<f64> {
    match value {
        Val::Blank => Some(0.0),
        Val::Number(n) => Some(*n),
        Val::Bool(set) => Some(if *set { 1.0 } else { 0.0 }),
        Val::List(items) if items.len() == 1 => number(&items[0]),
        _ => None,
    }
}

fn date(value: &Val) -> Option<i64> {
    match value {
        Val::Date(ms) => Some(*ms),
        Val::Text(text) => parse_date(text),
        Val::List(items) if items.len() == 1 => date(&items[0]),
        _ => None,
    }
}

fn parse_date(text: &str) -> Option<i64> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Some(at.timestamp_millis());
    }
    let naive = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f")
        .ok()
        .or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0))?;
    Some(naive.and_utc().timestamp_millis())
}

/// A cell as a value; links are the primary texts of the linked records.
fn cell(scope: &Scope<'_>, field: &Field) -> Val {
    let stored = scope.record.injected.get(&field.id).or_else(|| scope.record.cells.get(&field.id));
    let Some(stored) = stored else { return Val::Blank };
    match field.kind.as_str() {
        "multipleRecordLinks" => Val::List(
            strings(stored).iter().map(|id| Val::Text(scope.look.name_of(field, id))).collect(),
        ),
        "date" | "dateTime" | "createdTime" | "lastModifiedTime" => {
            stored.as_str().and_then(parse_date).map_or(Val::Blank, Val::Date)
        }
        "formula" | "rollup"
            if field.options["result"]["type"]
                .as_str()
                .is_some_and(|kind| kind.starts_with("date")) =>
        {
            stored.as_str().and_then(parse_date).map_or(Val::Error, Val::Date)
        }
        _ => from_json(&scope.look.rest(field, stored)),
    }
}

fn from_json(value: &Value) -> Val {
    match value {
        Value::Null => Val::Blank,
        Value::Bool(set) => Val::Bool(*set),
        Value::Number(n) => n.as_f64().map_or(Val::Error, Val::Number),
        Value::String(text) => Val::Text(text.clone()),
        Value::Array(items) => Val::List(items.iter().map(from_json).collect()),
        Value::Object(map) if map.contains_key("error") => Val::Error,
        Value::Object(map) if map.contains_key("specialValue") => Val::Number(f64::NAN),
        object @ Value::Object(_) => Val::Text(super::cell::plain_text(object)),
    }
}

/// The value of a formula.
pub(super) fn eval(scope: &Scope<'_>, ast: &Ast) -> Val {
    match ast {
        Ast::Number(n) => Val::Number(*n),
        Ast::Text(text) => Val::Text(text.clone()),
        Ast::Field(name) => {
            field_named(scope.table, name).map_or(Val::Error, |field| cell(scope, field))
        }
        Ast::Negative(inner) => number(&eval(scope, inner)).map_or(Val::Error, |n| Val::Number(-n)),
        Ast::Binary(sign, left, right) => binary(sign, &eval(scope, left), &eval(scope, right)),
        Ast::Call(name, arguments) => call(scope, name, arguments),
    }
}

fn is_same(left: &Val, right: &Val) -> bool {
    match (left, right) {
        (Val::Blank, other) | (other, Val::Blank) => !is_true(other),
        (Val::Date(_), _) | (_, Val::Date(_)) => date(left).is_some() && date(left) == date(right),
        _ => match (number(left), number(right)) {
            (Some(left), Some(right)) => (left - right).abs() == 0.0,
            _ => text(left) == text(right),
        },
    }
}

fn binary(sign: &str, left: &Val, right: &Val) -> Val {
    if *left == Val::Error || *right == Val::Error {
        return Val::Error;
    }
    match sign {
        "&" => return Val::Text(text(left) + &text(right)),
        "=" => return truth(is_same(left, right)),
        "!=" => return truth(!is_same(left, right)),
        _ => {}
    }
    let is_date = matches!(left, Val::Date(_)) || matches!(right, Val::Date(_));
    if let (true, Some(left), Some(right)) = (is_date, date(left), date(right)) {
        return compare(sign, left.cmp(&right));
    }
    let (Some(a), Some(b)) = (number(left), number(right)) else {
        let is_text = ["<", "<=", ">", ">="].contains(&sign);
        return if is_text { compare(sign, text(left).cmp(&text(right))) } else { Val::Error };
    };
    match sign {
        "+" => Val::Number(a + b),
        "-" => Val::Number(a - b),
        "*" => Val::Number(a * b),
        "/" => Val::Number(a / b),
        _ => a.partial_cmp(&b).map_or(Val::Number(0.0), |order| compare(sign, order)),
    }
}

fn compare(sign: &str, order: std::cmp::Ordering) -> Val {
    match sign {
        "<" => truth(order.is_lt()),
        "<=" => truth(order.is_le()),
        ">" => truth(order.is_gt()),
        ">=" => truth(order.is_ge()),
        _ => Val::Error,
    }
}

/// All numbers in the arguments, lists included.
fn numbers(values: &[Val]) -> Vec<f64> {
    values
        .iter()
        .flat_map(|value| match value {
            Val::List(items) => numbers(items),
            Val::Number(n) => vec![*n],
            _ => Vec::new(),
        })
        .collect()
}

fn call(scope: &Scope<'_>, name: &str, arguments: &[Ast]) -> Val {
    let lazy = |index: usize| arguments.get(index).map_or(Val::Blank, |ast| eval(scope, ast));
    match name {
        "TRUE" => return Val::Number(1.0),
        "FALSE" => return Val::Number(0.0),
        "BLANK" => return Val::Blank,
        "ERROR" => return Val::Error,
        "RECORD_ID" => return Val::Text(scope.record.id.clone()),
        "CREATED_TIME" => {
            return Val::Date((scope.record.created_ms + 500).div_euclid(1000) * 1000);
        }
        "NOW" => return Val::Date(scope.look.now_ms),
        "TODAY" => return Val::Date(scope.look.now_ms.div_euclid(86_400_000) * 86_400_000),
        "IF" => return if is_true(&lazy(0)) { lazy(1) } else { lazy(2) },
        "ISERROR" => return truth(lazy(0) == Val::Error),
        "LAST_MODIFIED_TIME" => return last_modified(scope, arguments),
        "SWITCH" => {
            let subject = lazy(0);
            let found = (1..arguments.len().saturating_sub(1))
                .step_by(2)
                .find(|at| is_same(&subject, &lazy(*at)));
            return match found {
                Some(at) => lazy(at + 1),
                None if arguments.len().is_multiple_of(2) => lazy(arguments.len() - 1),
                None => Val::Blank,
            };
        }
        _ => {}
    }
    let values: Vec<Val> = arguments.iter().map(|ast| eval(scope, ast)).collect();
    if values.contains(&Val::Error) && !["AND", "OR", "NOT", "XOR"].contains(&name) {
        return Val::Error;
    }
    match name {
        "AND" => truth(values.iter().all(is_true)),
        "OR" => truth(values.iter().any(is_true)),
        "NOT" => truth(!values.first().is_some_and(is_true)),
        "XOR" => truth(values.iter().filter(|value| is_true(value)).count() % 2 == 1),
        "SUM" => Val::Number(numbers(&values).iter().sum()),
        "MAX" => Val::Number(numbers(&values).into_iter().reduce(f64::max).unwrap_or(0.0)),
        "MIN" => Val::Number(numbers(&values).into_iter().reduce(f64::min).unwrap_or(0.0)),
        "AVERAGE" => {
            let all = numbers(&values);
            let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
            Val::Number(all.iter().sum::<f64>() / f64::from(count))
        }
        "COUNTA" => Val::Number(f64::from(
            u32::try_from(values.iter().filter(|v| is_true(v)).count()).unwrap_or(0),
        )),
        _ if name.contains("DATE")
            || name.starts_with("IS_")
            || ["YEAR", "MONTH", "DAY"].contains(&name) =>
        {
            with_dates(name, &values)
        }
        _ => with_text(name, &values),
    }
}

fn last_modified(scope: &Scope<'_>, arguments: &[Ast]) -> Val {
    let names = arguments.iter().filter_map(|ast| match ast {
        Ast::Field(name) => field_named(scope.table, name).map(|field| field.id.clone()),
        _ => None,
    });
    let watched: Vec<String> = names.collect();
    if watched.is_empty() {
        return Val::Date(scope.record.modified_ms);
    }
    let changed = watched.iter().filter_map(|id| scope.record.field_modified_ms.get(id)).max();
    changed.map_or(Val::Blank, |ms| Val::Date(*ms))
}

fn with_dates(name: &str, values: &[Val]) -> Val {
    let unit = |index: usize| values.get(index).map(text).unwrap_or_default().to_lowercase();
    let first = values.first().and_then(date);
    let second = values.get(1).and_then(date);
    let moment = first.and_then(DateTime::<Utc>::from_timestamp_millis);
    match name {
        "IS_AFTER" => truth(matches!((first, second), (Some(a), Some(b)) if a > b)),
        "IS_BEFORE" => truth(matches!((first, second), (Some(a), Some(b)) if a < b)),
        "IS_SAME" => {
            let step = if unit(2).starts_with("day") { 86_400_000 } else { 1 };
            truth(
                matches!((first, second), (Some(a), Some(b)) if a.div_euclid(step) == b.div_euclid(step)),
            )
        }
        "DATETIME_PARSE" => first.map_or(Val::Error, Val::Date),
        "DATETIME_FORMAT" => match moment {
            Some(at) => Val::Text(
                at.format(match unit(1).as_str() {
                    "yyyy" => "%Y",
                    "yyyy-mm" => "%Y-%m",
                    "dd/mm/yyyy" => "%d/%m/%Y",
                    _ => "%Y-%m-%d",
                })
                .to_string(),
            ),
            None => Val::Error,
        },
        "YEAR" => moment.map_or(Val::Error, |at| Val::Number(f64::from(at.year()))),
        "MONTH" => moment.map_or(Val::Error, |at| Val::Number(f64::from(at.month()))),
        "DAY" => moment.map_or(Val::Error, |at| Val::Number(f64::from(at.day()))),
        "DATETIME_DIFF" => match (first, second) {
            (Some(a), Some(b)) => Val::Number(whole((a - b) / unit_ms(&unit(2)))),
            _ => Val::Error,
        },
        "DATEADD" => {
            let (Some(at), Some(count)) = (moment, values.get(1).and_then(number)) else {
                return Val::Error;
            };
            let months = match unit(2).as_str() {
                "month" | "months" => 1.0,
                "year" | "years" => 12.0,
                _ => return Val::Date(at.timestamp_millis() + trunc(count) * unit_ms(&unit(2))),
            };
            let shift = Months::new(u32::try_from(trunc((count * months).abs())).unwrap_or(0));
            let moved = if count < 0.0 {
                at.checked_sub_months(shift)
            } else {
                at.checked_add_months(shift)
            };
            moved.map_or(Val::Error, |at| Val::Date(at.timestamp_millis()))
        }
        _ => Val::Error,
    }
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds stay far below 2^53")]
fn whole(n: i64) -> f64 {
    n as f64
}

#[expect(clippy::cast_possible_truncation, reason = "truncation is what is asked for")]
fn trunc(n: f64) -> i64 {
    n as i64
}

fn unit_ms(unit: &str) -> i64 {
    match unit {
        "milliseconds" | "ms" => 1,
        "minutes" | "minute" => 60_000,
        "hours" | "hour" => 3_600_000,
        "days" | "day" => 86_400_000,
        "weeks" | "week" => 7 * 86_400_000,
        _ => 1000,
    }
}

fn with_text(name: &str, values: &[Val]) -> Val {
    let part = |index: usize| values.get(index).map(text).unwrap_or_default();
    let amount = |index: usize| values.get(index).and_then(number);
    let count = |index: usize| usize::try_from(trunc(amount(index).unwrap_or(0.0))).unwrap_or(0);
    let math = |n: Option<f64>| n.map_or(Val::Error, Val::Number);
    match name {
        "LEN" => Val::Number(whole(i64::try_from(part(0).chars().count()).unwrap_or(0))),
        "LOWER" => Val::Text(part(0).to_lowercase()),
        "UPPER" => Val::Text(part(0).to_uppercase()),
        "TRIM" => Val::Text(part(0).trim().into()),
        "T" => match values.first() {
            Some(Val::Text(text)) => Val::Text(text.clone()),
            _ => Val::Blank,
        },
        "CONCATENATE" => Val::Text(values.iter().map(text).collect()),
        "ARRAYJOIN" => {
            let separator = if values.len() > 1 { part(1) } else { ", ".into() };
            match values.first() {
                Some(Val::List(items)) => {
                    Val::Text(items.iter().map(text).collect::<Vec<_>>().join(&separator))
                }
                _ => Val::Text(part(0)),
            }
        }
        "LEFT" => Val::Text(part(0).chars().take(count(1)).collect()),
        "RIGHT" => {
            let all: Vec<char> = part(0).chars().collect();
            Val::Text(all.iter().skip(all.len().saturating_sub(count(1))).collect())
        }
        "MID" => {
            Val::Text(part(0).chars().skip(count(1).saturating_sub(1)).take(count(2)).collect())
        }
        "REPT" => Val::Text(part(0).repeat(count(1).min(1000))),
        "SUBSTITUTE" => Val::Text(part(0).replace(&part(1), &part(2))),
        "EXACT" => truth(part(0) == part(1)),
        "FIND" | "SEARCH" => {
            let (needle, hay) = if name == "FIND" {
                (part(0), part(1))
            } else {
                (part(0).to_lowercase(), part(1).to_lowercase())
            };
            match hay.split_once(needle.as_str()) {
                Some((head, _)) => {
                    Val::Number(whole(i64::try_from(head.chars().count()).unwrap_or(0) + 1))
                }
                None if name == "FIND" => Val::Number(0.0),
                None => Val::Blank,
            }
        }
        "VALUE" => {
            let digits: String =
                part(0).chars().filter(|c| c.is_ascii_digit() || ".-".contains(*c)).collect();
            math(digits.parse().ok())
        }
        "ABS" => math(amount(0).map(f64::abs)),
        "INT" => math(amount(0).map(f64::floor)),
        "SQRT" => math(amount(0).map(f64::sqrt)),
        "CEILING" => math(amount(0).map(f64::ceil)),
        "ROUND" => {
            let scale = 10f64.powf(amount(1).unwrap_or(0.0));
            math(amount(0).map(|n| (n * scale).round() / scale))
        }
        "MOD" => math(amount(0).zip(amount(1)).map(|(a, b)| a.rem_euclid(b))),
        "POWER" => math(amount(0).zip(amount(1)).map(|(a, b)| a.powf(b))),
        _ => Val::Error,
    }
}

//! A record's values → the texts by which it is compared with others. What people write differently and mean alike
//! comes to the same text: accents, case, white space, legal forms of companies, particles of names.

use unicode_normalization::{UnicodeNormalization as _, char::is_combining_mark};

use super::Keys;
use crate::{
    mapping::{Entity, Field, FieldKind, NaturalKey, Normalise},
    model::Value,
};

/// Words that say what a company is, and not which.
const LEGAL_FORMS: [&str; 26] = [
    "sa", "sas", "sasu", "sarl", "eurl", "earl", "gie", "sci", "scic", "scop", "scp", "sca", "scs",
    "snc", "selarl", "selas", "se", "gmbh", "ag", "ltd", "limited", "llc", "inc", "bv", "srl",
    "plc",
];
/// Words before a family name that people leave out.
const PARTICLES: [&str; 12] =
    ["d", "de", "du", "des", "la", "le", "les", "l", "van", "von", "der", "den"];

/// Between the parts of a key: no normalised value contains it.
const BETWEEN: char = '\u{1f}';

/// The natural keys of a record that holds these values, a field each.
pub(crate) fn natural_keys(entity: &Entity, values: &[Value]) -> Keys {
    entity.matches.iter().map(|key| natural_key(entity, key, values)).collect()
}

fn natural_key(entity: &Entity, key: &NaturalKey, values: &[Value]) -> Option<Box<str>> {
    let mut text = String::new();
    for no in &key.fields {
        if !text.is_empty() {
            text.push(BETWEEN);
        }
        text.push_str(&normal(entity.field(*no), values.get(usize::from(no.0))?)?);
    }
    Some(text.into())
}

/// A value as it is compared; `None`: it is empty, or says nothing.
pub(super) fn normal(field: &Field, value: &Value) -> Option<String> {
    let text = match value {
        Value::Null => return None,
        Value::Decimal(number) => number.normalized().to_plain_string(),
        Value::Text(text) => text_of(field, text),
        other => other.to_sql()?.into_owned(),
    };
    (!text.is_empty()).then_some(text)
}

fn text_of(field: &Field, text: &str) -> String {
    match field.kind {
        FieldKind::Email => text.trim().to_lowercase(),
        FieldKind::Phone { .. } => {
            text.chars().filter(|letter| letter.is_ascii_digit() || *letter == '+').collect()
        }
        FieldKind::Url => {
            let text = text.trim().to_lowercase();
            let text = text.split_once("://").map_or(text.as_str(), |(_, rest)| rest);
            text.strip_prefix("www.").unwrap_or(text).trim_end_matches('/').to_owned()
        }
        _ if field.transforms.contains(&Normalise::Siren) => {
            text.chars().filter(char::is_ascii_digit).collect()
        }
        _ if field.name.ends_with("_name") => without_leading(&folded(text), &PARTICLES),
        _ if field.name == "name" => without_either_end(&folded(text), &LEGAL_FORMS),
        _ => folded(text),
    }
}

/// Small letters and digits in words, without accents. Points inside an abbreviation are no word's end: `S.A.S.` is
/// `sas`.
fn folded(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    let mut is_between = false;
    for letter in text.nfkd().filter(|letter| !is_combining_mark(*letter)) {
        if matches!(letter, '.' | '\u{ad}' | '\u{200b}') {
            continue;
        }
        if !letter.is_alphanumeric() {
            is_between = true;
            continue;
        }
        if is_between && !folded.is_empty() {
            folded.push(' ');
        }
        is_between = false;
        match letter {
            'œ' | 'Œ' => folded.push_str("oe"),
            'æ' | 'Æ' => folded.push_str("ae"),
            'ß' | 'ẞ' => folded.push_str("ss"),
            'ø' | 'Ø' => folded.push('o'),
            'ł' | 'Ł' => folded.push('l'),
            // A capital may come to several letters, marks among them.
            other => folded.extend(other.to_lowercase().filter(|it| !is_combining_mark(*it))),
        }
    }
    folded
}

/// Without `words` at the beginning, unless nothing would be left.
fn without_leading(text: &str, words: &[&str]) -> String {
    let all: Vec<&str> = text.split(' ').collect();
    let start = all.iter().take_while(|word| words.contains(word)).count();
    all.get(start..).filter(|rest| !rest.is_empty()).unwrap_or(&all).join(" ")
}

/// Without `words` at the beginning and the end, unless nothing would be left.
fn without_either_end(text: &str, words: &[&str]) -> String {
    let all: Vec<&str> = text.split(' ').collect();
    let start = all.iter().take_while(|word| words.contains(word)).count();
    let end = all.iter().rev().take_while(|word| words.contains(word)).count();
    let middle = start..all.len().saturating_sub(end);
    all.get(middle).filter(|rest| !rest.is_empty()).unwrap_or(&all).join(" ")
}

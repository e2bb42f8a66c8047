//! By what a person is found in texts: addresses, numbers and full names, and one pattern for all of them. Pure.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::name_fields;
use crate::mapping::{Entity, FieldKind};

/// The most spellings of a name that are looked for: given names by family names.
const NAME_PART_COUNT_MAX: usize = 6;
/// A shorter address of a page says nothing.
const URL_LETTER_COUNT_MIN: usize = 12;

/// What tells a person in a text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Identifier {
    /// A text as it is: an e-mail, the address of a page.
    Text(String),
    /// E.164.
    Phone(String),
    /// Given names and family name, in either order.
    Name(String, String),
    /// A name in one field, of several words.
    WholeName(String),
}

/// What a person's record held, `(field, value)` each, as identifiers. A name of one word alone is none: too many
/// texts have it.
pub(crate) fn identifiers(entity: &Entity, values: &[(String, Json)]) -> BTreeSet<Identifier> {
    let mut found = BTreeSet::new();
    let texts = |name: &str| -> BTreeSet<&str> {
        let of_it = values.iter().filter(|(field, _)| field == name);
        of_it.filter_map(|(_, value)| value.as_str()).filter(|text| !text.is_empty()).collect()
    };
    for field in &entity.fields {
        if !field.personal.is_personal() {
            continue;
        }
        for text in texts(&field.name) {
            match field.kind {
                FieldKind::Email => drop(found.insert(Identifier::Text(text.to_owned()))),
                FieldKind::Collaborator if text.contains('@') => {
                    found.insert(Identifier::Text(text.to_owned()));
                }
                FieldKind::Url if text.chars().count() >= URL_LETTER_COUNT_MIN => {
                    found.insert(Identifier::Text(text.to_owned()));
                }
                FieldKind::Phone { .. } => drop(found.insert(Identifier::Phone(text.to_owned()))),
                _ => {}
            }
        }
    }
    let name = |at: Option<usize>| at.map(|at| texts(&entity.fields[at].name)).unwrap_or_default();
    let (given, family) = name_fields(entity);
    if given.is_some() && family.is_some() {
        for given in name(given).into_iter().take(NAME_PART_COUNT_MAX) {
            for family in name(family).into_iter().take(NAME_PART_COUNT_MAX) {
                found.insert(Identifier::Name(given.to_owned(), family.to_owned()));
            }
        }
    } else {
        let whole = name(family).into_iter().filter(|text| text.trim().contains(' '));
        found.extend(whole.map(|text| Identifier::WholeName(text.to_owned())));
    }
    found
}

/// A regular expression of Postgres, to be used without regard to case, for any of these; `None`: there are none.
pub(crate) fn pattern(identifiers: &BTreeSet<Identifier>) -> Option<String> {
    if identifiers.is_empty() {
        return None;
    }
    let mut alternatives: Vec<String> = identifiers.iter().flat_map(alternatives).collect();
    // The longest first: the first that fits is taken.
    alternatives.sort_by_key(|alternative| std::cmp::Reverse(alternative.len()));
    // Not within a word. In JSON a line end is written as two characters, the second of them a letter.
    Some(format!(
        "(?:(?<![[:alnum:]])|(?<=\\\\[nrt]))(?:{})(?![[:alnum:]])",
        alternatives.join("|")
    ))
}

fn alternatives(identifier: &Identifier) -> Vec<String> {
    match identifier {
        Identifier::Text(text) | Identifier::WholeName(text) => vec![literal(text)],
        Identifier::Phone(number) => {
            let digits: Vec<String> = number
                .chars()
                .filter(char::is_ascii_digit)
                .map(|digit| digit.to_string())
                .collect();
            let mut ways = vec![format!("(?:\\+|00)?{}", digits.join(SEPARATOR))];
            // As it is dialled at home.
            if let ["3", "3", national @ ..] =
                digits.iter().map(String::as_str).collect::<Vec<_>>().as_slice()
            {
                ways.push(format!("0{SEPARATOR}{}", national.join(SEPARATOR)));
            }
            ways
        }
        Identifier::Name(given, family) => {
            let (given, family) = (literal(given), literal(family));
            vec![format!("{given}\\s+{family}"), format!("{family},?\\s+{given}")]
        }
    }
}

/// What people put between digits.
const SEPARATOR: &str = "[ ./-]?";

/// A text as a pattern: any white space for white space, both cases of letters beyond ASCII, whatever the locale.
fn literal(text: &str) -> String {
    let mut pattern = String::new();
    let words: Vec<String> = text.split_whitespace().map(word).collect();
    pattern.push_str(&words.join("\\s+"));
    pattern
}

fn word(word: &str) -> String {
    let mut pattern = String::new();
    for letter in word.chars() {
        match letter {
            letter if letter.is_ascii_alphanumeric() => pattern.push(letter),
            // As it stands in JSON, or plainly.
            '"' => pattern.push_str("\\\\?\""),
            letter if letter.is_ascii() => {
                pattern.push('\\');
                pattern.push(letter);
            }
            letter => {
                let both: Vec<char> = letter.to_lowercase().chain(letter.to_uppercase()).collect();
                if let [small, capital] = both.as_slice()
                    && small != capital
                {
                    pattern.push_str(&format!("[{small}{capital}]"));
                } else {
                    pattern.push(letter);
                }
            }
        }
    }
    pattern
}

/// For people: which one it is.
impl std::fmt::Display for Identifier {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) | Self::Phone(text) | Self::WholeName(text) => {
                formatter.write_str(text)
            }
            Self::Name(given, family) => write!(formatter, "{given} {family}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mapping::read;

    fn values(pairs: &[(&str, Json)]) -> Vec<(String, Json)> {
        pairs.iter().map(|(field, value)| ((*field).to_owned(), value.clone())).collect()
    }

    #[test]
    fn person_identifiers_are_addresses_numbers_and_full_names_of_all_times() {
        let mapping = read(include_str!("../../mapping.toml"), "mapping.toml").unwrap();
        let found = identifiers(
            &mapping.entities[0],
            &values(&[
                ("first_name", json!("Zoé")),
                ("last_name", json!("Kerbrat")),
                ("last_name", json!("Kerbrat-Morvan")),
                ("email", json!("zoe@kerbrat.fr")),
                ("phone", json!("+33612345678")),
                ("city", json!("Brest")),
                ("joined_on", json!("2020-01-01")),
                ("note", json!(null)),
            ]),
        );
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, ["zoe@kerbrat.fr", "+33612345678", "Zoé Kerbrat", "Zoé Kerbrat-Morvan"]);
        assert_eq!(pattern(&BTreeSet::new()), None);
    }

    #[test]
    fn person_pattern_escapes_and_knows_both_cases() {
        assert_eq!(literal("a.b+c@d.fr"), "a\\.b\\+c\\@d\\.fr");
        assert_eq!(literal("Zoé  Le Goff"), "Zo[éÉ]\\s+Le\\s+Goff");
        let phone = alternatives(&Identifier::Phone("+33612".into()));
        assert_eq!(phone.len(), 2);
        assert!(phone[1].starts_with("0[ ./-]?6"), "{phone:?}");
    }
}

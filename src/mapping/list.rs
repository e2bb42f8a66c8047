//! Lists in a single text: with commas, as a Postgres array, as a JSON array.

use super::flaw::Flaw;

/// `a, b ,,c` → `a`, `b`, `c`.
pub(super) fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|element| !element.is_empty())
}

/// The elements of a text that some list type of Postgres or of Directus holds: a JSON array, an array
/// literal, else a text with commas.
pub(super) fn from_column(text: &str) -> Vec<String> {
    let text = text.trim();
    let parsed = match text.as_bytes().first() {
        Some(b'[') => serde_json::from_str(text).ok(),
        Some(b'{') => from_array_literal(text),
        _ => None,
    };
    parsed.unwrap_or_else(|| split(text).map(str::to_owned).collect())
}

/// `{a,"b \"c\"",NULL}`: a one-dimensional array as Postgres prints it. Elements that are NULL are left out;
/// `None` if it is something else.
pub(super) fn from_array_literal(text: &str) -> Option<Vec<String>> {
    let mut letters = text.strip_prefix('{')?.strip_suffix('}')?.chars().peekable();
    let mut elements = Vec::new();
    while letters.peek().is_some() {
        let mut element = String::new();
        let quoted = letters.next_if_eq(&'"').is_some();
        loop {
            match letters.next() {
                None if quoted => return None,
                Some('"') if quoted => match letters.next() {
                    None | Some(',') => break,
                    Some(_) => return None,
                },
                None => break,
                Some(',') if !quoted => break,
                Some('{' | '}' | '"') if !quoted => return None,
                Some('\\') => element.push(letters.next()?),
                Some(letter) => element.push(letter),
            }
        }
        if quoted || !element.eq_ignore_ascii_case("null") {
            elements.push(element);
        }
    }
    Some(elements)
}

/// The one element of a list of one.
pub(super) fn one<T>(elements: &[T]) -> Result<Option<&T>, Flaw> {
    match elements {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => Err(Flaw::wrong_type("holds several values where one is expected: leave one of them")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{from_array_literal, from_column, split};
    use crate::model::Value;

    #[test]
    fn list_forms_are_told_apart() {
        assert_eq!(split(" a, b ,,c,").collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(from_column(r#"["a","b,c"]"#), ["a", "b,c"]);
        assert_eq!(from_column(r#"{a,"b,c",NULL,"NULL"}"#), ["a", "b,c", "NULL"]);
        assert_eq!(from_column("[a], b"), ["[a]", "b"]);
        assert_eq!(from_column("{}"), Vec::<String>::new());
        for odd in ["{a", "{{a},{b}}", r#"{"a}"#, r#"{"a"b}"#, r"{a\}"] {
            assert_eq!(from_array_literal(odd), None, "{odd}");
        }
    }

    proptest! {
        #[test]
        fn list_array_literal_survives(elements in proptest::collection::vec(".{1,8}", 1..5)) {
            let literal = Value::List(elements.clone()).to_sql().unwrap().into_owned();
            prop_assert_eq!(from_array_literal(&literal), Some(elements));
        }

        #[test]
        fn list_of_anything_never_panics(text in ".{0,40}") {
            from_column(&text);
        }
    }
}

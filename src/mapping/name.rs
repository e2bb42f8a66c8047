//! Full names: one cell on a side, two columns in the canonical table.
//!
//! How a cell is split, the first rule that applies:
//! 1. There is a comma: family name before the first one, given names after it (`Martin Dupont, Jeanne`).
//! 2. It ends with words in capitals: these are the family name (`Jeanne MARTIN DUPONT`).
//! 3. It begins with them: the same (`MARTIN DUPONT Jeanne`).
//! 4. The last word is the family name (`Anne Marie Martin`); a single word is one.
//!
//! Particles before the family name (`de`, `du`, `le`, `van` …) belong to it in the rules 2 to 4. A word is in
//! capitals if it has two capital letters or more and no small one: an initial does not count.
//!
//! How two columns are joined: `Jeanne Martin` wherever that splits into the same two again, otherwise with
//! the comma, `Martin Dupont, Jeanne`. So every pair survives, except a family name with a comma in it, which
//! is not joined at all. White space counts as one space.

use super::text::collapse;

const PARTICLES: [&str; 25] = [
    "de", "du", "des", "d'", "d’", "la", "le", "les", "van", "von", "der", "den", "ter", "ten",
    "zu", "di", "da", "del", "della", "dos", "das", "el", "al", "ben", "bin",
];

/// Given names and family name of a cell; an empty text where there is none.
pub(super) fn split(full: &str) -> (String, String) {
    if let Some((family, given)) = full.split_once(',') {
        return (collapse(given), collapse(family));
    }
    let words: Vec<&str> = full.split_whitespace().collect();
    let trailing = words.iter().rev().take_while(|word| is_capitals(word)).count();
    if (1..words.len()).contains(&trailing) {
        return cut(&words, with_particles(&words, words.len() - trailing));
    }
    let particles = words.iter().take_while(|word| is_particle(word) && !is_capitals(word)).count();
    let leading = words.iter().skip(particles).take_while(|word| is_capitals(word)).count();
    if leading > 0 && particles + leading < words.len() {
        let (family, given) = cut(&words, particles + leading);
        return (given, family);
    }
    cut(&words, with_particles(&words, words.len().saturating_sub(1)))
}

/// The cell that splits into these two; `None` if there is none.
pub(super) fn join(given: &str, family: &str) -> Option<String> {
    let plain = collapse(&format!("{given} {family}"));
    let comma = collapse(&format!("{family}, {given}"));
    [plain, comma].into_iter().find(|full| split(full) == (given.to_owned(), family.to_owned()))
}

fn cut(words: &[&str], at: usize) -> (String, String) {
    let (before, after) = words.split_at(at.min(words.len()));
    (before.join(" "), after.join(" "))
}

/// The place from which the family name runs, its particles included.
fn with_particles(words: &[&str], mut start: usize) -> usize {
    while start > 0 && words.get(start - 1).is_some_and(|word| is_particle(word)) {
        start -= 1;
    }
    start
}

fn is_particle(word: &str) -> bool {
    PARTICLES.contains(&word.to_lowercase().as_str())
}

fn is_capitals(word: &str) -> bool {
    // d'ARTAGNAN
    let word =
        ["d'", "d’", "l'", "l’"].iter().find_map(|start| word.strip_prefix(start)).unwrap_or(word);
    word.chars().filter(|letter| letter.is_uppercase()).count() > 1
        && !word.chars().any(char::is_lowercase)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{join, split};
    use crate::mapping::text::collapse;

    #[test]
    fn name_split_finds_the_family_name() {
        for (full, given, family) in [
            ("Jeanne MARTIN DUPONT", "Jeanne", "MARTIN DUPONT"),
            ("MARTIN DUPONT Jeanne", "Jeanne", "MARTIN DUPONT"),
            ("Anne  Marie\u{a0}Martin", "Anne Marie", "Martin"),
            ("Charles de Gaulle", "Charles", "de Gaulle"),
            ("Jean de LA FONTAINE", "Jean", "de LA FONTAINE"),
            ("de LA FONTAINE Jean", "Jean", "de LA FONTAINE"),
            ("Charles d'ARTAGNAN", "Charles", "d'ARTAGNAN"),
            ("Yann Le Goff", "Yann", "Le Goff"),
            ("Le Goff", "", "Le Goff"),
            ("J. MARTIN", "J.", "MARTIN"),
            ("JEANNE MARTIN", "JEANNE", "MARTIN"),
            ("Martin", "", "Martin"),
            ("Martin Dupont, Jeanne", "Jeanne", "Martin Dupont"),
            (", Jeanne", "Jeanne", ""),
            ("  ", "", ""),
            (",", "", ""),
        ] {
            assert_eq!(split(full), (given.to_owned(), family.to_owned()), "{full:?}");
        }
    }

    #[test]
    fn name_join_is_plain_where_it_can_be() {
        assert_eq!(join("Jeanne", "Martin").as_deref(), Some("Jeanne Martin"));
        assert_eq!(join("Jeanne", "MARTIN DUPONT").as_deref(), Some("Jeanne MARTIN DUPONT"));
        assert_eq!(join("Jeanne", "Martin Dupont").as_deref(), Some("Martin Dupont, Jeanne"));
        assert_eq!(join("JEANNE", "Martin").as_deref(), Some("Martin, JEANNE"));
        assert_eq!(join("Jeanne", "").as_deref(), Some(", Jeanne"));
        assert_eq!(join("", "Martin Dupont").as_deref(), Some("Martin Dupont,"));
        assert_eq!(join("", "").as_deref(), Some(""));
        assert_eq!(join("Jean", "Dupont, Jr"), None);
    }

    proptest! {
        #[test]
        fn name_pair_survives_being_joined(given in any::<String>(), family in "[^,]{0,30}") {
            let (given, family) = (collapse(&given), collapse(&family));
            let full = join(&given, &family);
            prop_assert_eq!(full.as_deref().map(split), Some((given, family)));
        }

        #[test]
        fn name_split_of_anything_is_settled(full in "[A-Zdela éÉ,.'-]{0,30}") {
            let (given, family) = split(&full);
            if let Some(again) = join(&given, &family) {
                prop_assert_eq!(split(&again), (given, family));
            }
        }
    }
}

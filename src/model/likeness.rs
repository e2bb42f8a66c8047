//! Names as people type them: what is written differently and meant alike, and the nearest of several.

use std::collections::BTreeSet;

use unicode_normalization::{UnicodeNormalization as _, char::is_combining_mark};

/// Names that are offered instead of one that there is not.
const OFFERED_MAX: usize = 3;
/// From here on a name is taken for a mistyped one.
const LIKE_MIN: f64 = 0.75;
/// What a name that is like only a part of another loses.
const OF_PART: f64 = 0.98;

/// Without accents, case and surplus white space.
pub(crate) fn folded(text: &str) -> String {
    let letters: String = text.nfd().filter(|letter| !is_combining_mark(*letter)).collect();
    letters.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The nearest of `known`, in words; nothing where nothing is known.
pub(crate) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> String {
    let wanted = folded(name);
    let known: BTreeSet<&str> = known.filter(|it| !it.trim().is_empty()).collect();
    let mut scored: Vec<(f64, &str)> =
        known.into_iter().map(|it| (likeness(&wanted, &folded(it)), it)).collect();
    // The best first; equal ones stay in the order of the alphabet.
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.truncate(OFFERED_MAX);
    let alike: Vec<String> = scored
        .iter()
        .filter(|(likeness, _)| *likeness >= LIKE_MIN)
        .map(|(_, it)| format!("`{it}`"))
        .collect();
    match alike.split_last() {
        Some((one, [])) => format!("; did you mean {one}?"),
        Some((last, others)) => format!("; did you mean {} or {last}?", others.join(", ")),
        None if scored.is_empty() => String::new(),
        None => {
            let all: Vec<String> = scored.iter().map(|(_, it)| format!("`{it}`")).collect();
            format!("; the nearest are {}", all.join(", "))
        }
    }
}

/// How alike two folded names are, from 0 to 1: as a whole, or each word typed to some word of the other.
fn likeness(wanted: &str, known: &str) -> f64 {
    let whole = strsim::jaro_winkler(wanted, known);
    let (mut sum, mut count) = (0.0, 0.0);
    for word in wanted.split(' ') {
        let best = known.split(' ').map(|it| strsim::jaro_winkler(word, it));
        sum += best.fold(0.0, f64::max);
        count += 1.0;
    }
    whole.max(sum / count * OF_PART)
}

#[cfg(test)]
mod tests {
    use super::{folded, nearest};

    #[test]
    fn likeness_offers_the_nearest_names_whatever_part_of_them_was_typed() {
        let known = ["Jeanne Martin", "Jean Martel", "Zoé Lefèvre", "Alpha Biotech SAS", ""];
        let near = |name: &str| nearest(name, known.into_iter());
        assert!(near("Jeane Martin").starts_with("; did you mean `Jeanne Martin`"));
        assert!(near("lefevre").starts_with("; did you mean `Zoé Lefèvre`"));
        assert!(near("LEFEBVRE Zoe").starts_with("; did you mean `Zoé Lefèvre`"));
        assert!(near("alfa biotech").starts_with("; did you mean `Alpha Biotech SAS`"));
        assert!(near("Martin").contains("`Jeanne Martin` or `Jean Martel`?"), "{}", near("Martin"));
        assert!(near("xq").starts_with("; the nearest are `"), "{}", near("xq"));
        assert_eq!(nearest("x", std::iter::empty()), "");
    }

    #[test]
    fn likeness_folds_what_is_written_differently() {
        assert_eq!(folded("  LEFÈVRE\u{a0} d'Ornano "), "lefevre d'ornano");
    }
}

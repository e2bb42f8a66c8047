//! One person's data: all of it in a folder, and its erasure. In: what canonical, the mapping and the past hold of a
//! record. Out: files; decisions that empty its personal cells on all sides; a past without its values. Left alone:
//! the record itself, its lines and movements, and the sides, which get the decisions as they get any other.
//!
//! The order is what makes an erasure safe to break off anywhere: first canonical is emptied, then the past is
//! redacted, the journal last, since it is where the values to look for are found again. What our writes under way
//! hold is redacted once they are settled ([`redact::finish`]): until then they are how a side's log is understood.

pub(crate) mod folder;
pub(crate) mod identifier;
pub(crate) mod redact;

pub(crate) use crate::mapping::Personal;
use crate::mapping::{Entity, Field, Part};

/// A pseudonym: made of a random number. One word, so that it is one cell and two columns in the same way.
pub(crate) fn pseudonym() -> String {
    format!("Personne-effacée-{:06x}", rand::random_range(0..0x0100_0000_u32))
}

/// The fields of an entity that an erasure changes.
pub(crate) fn erasable(entity: &Entity) -> impl Iterator<Item = (usize, &Field)> {
    entity.fields.iter().enumerate().filter(|(_, field)| field.is_erasable())
}

/// The fields whose values go from the past too.
pub(crate) fn personal(entity: &Entity) -> impl Iterator<Item = (usize, &Field)> {
    entity.fields.iter().enumerate().filter(|(_, field)| field.personal.is_personal())
}

/// Where a person's name is: the given names, if they are apart, and the family name or the whole.
pub(crate) fn name_fields(entity: &Entity) -> (Option<usize>, Option<usize>) {
    let at = |part: Part, name: &str| {
        let is_part = |field: &Field| field.airtable.as_ref().is_some_and(|it| it.part == part);
        let found = entity.fields.iter().position(is_part);
        found.or_else(|| entity.fields.iter().position(|field| field.name == name))
    };
    let given = at(Part::FirstOfFullName, "first_name");
    let family = at(Part::LastOfFullName, "last_name");
    let carrier = || entity.fields.iter().position(|it| it.personal == Personal::Pseudonym);
    match family {
        Some(family) => (given, Some(family)),
        None => (None, carrier()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn person_pseudonym_is_random_and_one_word() {
        let (one, other) = (pseudonym(), pseudonym());
        assert!(one.starts_with("Personne-effacée-") && !one.contains(' '), "{one}");
        assert_eq!(one.chars().count(), "Personne-effacée-".chars().count() + 6);
        assert_ne!(one, other);
    }
}

//! Who is whom: records of one side that are those of the other, told by what they hold. In: natural keys of
//! records that are new on a side, and of those that this side lacks. Out: sure, ask a person, or different. Pure;
//! an id that a record carries was looked at before (`apply::resolve`), and comes before all this.

mod band;
mod index;
mod normal;
#[cfg(test)]
mod tests;

pub(crate) use band::{Band, Newcomer, judge};
pub(crate) use index::Index;
pub(crate) use normal::natural_keys;

/// What a record's values come to for each natural key of its entity, in their order; `None`: one is empty.
pub(crate) type Keys = Vec<Option<Box<str>>>;

//! What a side lacks: the difference between canonical and what the side holds, less what has to wait.

use super::{RecordState, SentCell};
use crate::{
    mapping::Entity,
    model::{FieldNo, Side, Value},
};

/// What keeps a record's cells from being written to a side.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Restraints {
    /// Cells in a conflict that a person has to decide.
    pub(crate) held: Vec<FieldNo>,
    /// Cells that the side refused, with the value that it refused: another value is tried.
    pub(crate) parked: Vec<(FieldNo, Value)>,
    /// The side refused the record as a whole.
    pub(crate) is_parked: bool,
    /// Whether the plan for new and deleted records of this entity was accepted.
    pub(crate) is_approved: bool,
    /// Fields whose plan was not accepted yet.
    pub(crate) unapproved: Vec<FieldNo>,
    /// It may be the same as another record: a person has to say.
    pub(crate) is_questioned: bool,
    /// It was deleted on the other side, and a yes to deleting it here too is there (`true`) or not yet (`false`).
    pub(crate) delete: Option<bool>,
}

/// What is to be written to a side.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Owed {
    Nothing,
    /// The record, with these cells; empty ones are left out.
    Create(Vec<SentCell>),
    Update(Vec<SentCell>),
    Delete,
}

//! Record state + observation + policy → what follows. In: what canonical and the shadows hold, and what a
//! side's log says now. Out: the new state, what changed, what lost, what was refused. No clock, no IO: the
//! same log gives the same state whenever it is read. Which record an observation is about was decided
//! before (identity); links were resolved to canonical ids.

mod cell;
mod operation;
mod owed;
mod record;

pub(crate) use operation::{Operation, OperationKind, Origin, SentCell};
pub(crate) use owed::{Owed, Restraints};
pub(crate) use record::{Action, Changed, Merged, RecordState, Seen, SeenCell, merge};

#[cfg(test)]
mod tests;

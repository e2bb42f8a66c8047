//! Record state + observation + policy → what follows. In: what canonical and the shadows hold, our own writes,
//! and what a side's log says now. Out: the new state, what changed, what lost, what is owed to a side. No clock,
//! no IO: the same log gives the same state whenever it is read. Which record an observation is about was decided
//! before (identity); links were resolved to canonical ids.

mod answer;
mod cell;
mod decide;
mod life;
mod operation;
mod owed;
mod past;
mod record;
mod relink;
mod state;

pub(crate) use decide::{Decided, decide};
pub(crate) use operation::{Operation, OperationKind, Origin, SentCell};
pub(crate) use owed::{Lack, Owed, Restraints, lack, owed};
pub(crate) use owed::{is_due, is_written};
pub(crate) use past::Past;
pub(crate) use record::{Action, ClashRecord, Merged, Seen, SeenCell, merge};
pub(crate) use relink::{relink, relink_on};
pub(crate) use state::{Changed, RecordState, is_unread_json, unread};

#[cfg(test)]
mod histories;
#[cfg(test)]
mod mutant;
#[cfg(test)]
mod own_tests;
#[cfg(test)]
mod recovery_tests;
#[cfg(test)]
pub(crate) mod tests;

//! Plait braids Airtable and Directus into one canonical Postgres. The rooms, in reading order; each
//! imports from the floors below it only. ARCHITECTURE.md has the map and the reasons.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod cli; // 5: one file a subcommand

mod pipeline; // 4: the tasks and their channels
mod verify; // 4: both live sides against canonical, cell by cell

mod alert; // 3: the journal → what people want to be told of
mod apply; // 3: the loop: take a batch, read state, merge, write once, release
mod capture; // 3: a side's log → observations
mod export; // 3: reports and tables → CSV, JSON, Excel, Parquet; by schedule, too
mod person; // 3: one person's data: exported, and erased
mod push; // 3: outbox → a side's API
mod undo; // 3: what takes changes back, from the journal; pure

mod identity; // 2: who is whom: natural keys, candidates, three bands; pure
mod merge; // 2: record state + observation + policy → what follows; pure
mod remote; // 2: the vendors' wire
mod store; // 2: our own tables; the only SQL on our database

pub mod config; // 1: every setting with its unit, default and variable
mod document; // 1: TOML that people write, and what is wrong with it
mod mapping; // 1: the mapping document: read, check, convert a value both ways; pure
mod telemetry; // 1: tracing set-up

mod gate; // 0: whether this process may write to the sides
mod model; // 0: the words
mod postgres; // 0: what our connections to a Postgres share: TLS, and why they fail
mod pulse; // 0: how a task is doing, as it says itself
mod queue; // 0: from captures to apply, bounded

pub mod demo; // a real Directus, its Postgres and ours, for people and tests without them
pub mod sandbox; // a pretend Airtable; shares no type with `remote`

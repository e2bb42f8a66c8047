//! One binary over the real parts: Postgres, Directus, the sandbox. What they share is in `world`.
#![allow(clippy::unwrap_used)]

mod alerts;
mod bad_exports;
mod bad_input;
mod bad_pushes;
mod bad_rights;
mod bad_servers;
mod bad_tls;
mod bad_values;
mod born_empty;
mod bounds;
mod certificates;
mod compose;
mod demo;
mod demo_parts;
mod exports;
mod histories;
mod keys;
mod line;
mod mass;
mod mirror;
mod names;
mod newcomers;
mod office;
mod person;
mod pings;
mod plain;
mod recovery;
mod reports;
mod sandbox_clients;
mod sandbox_page;
mod sandbox_program;
mod standby;
mod two_way;
mod world;

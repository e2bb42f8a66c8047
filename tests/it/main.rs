//! One binary over the real parts: Postgres, Directus, the sandbox. What they share is in `world`.
#![allow(clippy::unwrap_used)]

mod compose;
mod demo_parts;
mod mirror;
mod sandbox_clients;
mod sandbox_page;
mod sandbox_program;
mod world;

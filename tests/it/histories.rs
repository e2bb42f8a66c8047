//! Random histories through the whole program, on a real Directus and the sandbox: [`crate::story`] has what happens in them.
//!
//! A run does 120 things; `PLAIT_STEPS` as many as one likes, `PLAIT_SEED` the same ones again, as far as timing lets them.

use std::{env, str::FromStr};

use crate::story::{Restarts, Story};

const STEP_COUNT: usize = 120;

/// A number from the environment.
pub(crate) fn number<N: FromStr>(name: &str) -> Option<N> {
    env::var(name).ok().and_then(|text| text.parse().ok())
}

/// The seed of a story, which is printed so that it can be told again.
pub(crate) fn seed() -> u64 {
    let seed = number("PLAIT_SEED").unwrap_or_else(rand::random);
    eprintln!("PLAIT_SEED={seed} does the same again");
    seed
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_through_the_whole_program_converge_and_lose_nothing() {
    let mut story = Story::begin(seed()).await;
    for step in 0..number("PLAIT_STEPS").unwrap_or(STEP_COUNT) {
        story.step(step, Restarts::Allowed).await;
    }
    story.come_to_rest().await;
    story.holds().await;
}

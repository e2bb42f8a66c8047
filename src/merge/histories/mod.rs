//! Random histories of two sides, their logs and a hub between them, against the invariants of
//! ARCHITECTURE.md, "What the histories hold", where a pure world can break them: I1 to I9 and I13 to I15.
//!
//! People edit, return to earlier values, delete, create, restore and take deletes back; the hub reads the logs late and
//! in any order, pushes with late binding, loses answers and sends again, takes requests apart, stops between any two
//! steps, reads an entry twice, lists a side instead of its log. A side fills in defaults and empties cells by itself, and goes
//! back to a backup, in which people work before the hub looks. Airtable's log is silent of writes that change nothing,
//! Directus's is not. `cargo test` runs 10,000 of them; `PLAIT_HISTORIES=1000000 cargo test --release --lib histories` as many as one likes, and
//! `PLAIT_SEED=n` just one, with what it did. A failure names its seed.

mod check;
mod hub;
mod restore;
mod side;

use super::mutant::{Mutant, activate};
use crate::{
    mapping::{DeletePolicy, Entity, Field, FieldKind, Policy},
    model::{Side, Value},
};

use hub::History;

const FIELD_COUNT: usize = 3;
const RECORD_COUNT: usize = 2;
/// What happens before everything comes to rest.
const STEP_COUNT_MAX: u64 = 48;

/// Splitmix: small, quick, and the same everywhere.
#[derive(Clone, Debug)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end as u64)).unwrap()
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// A value that names the invariant which was broken.
type Broken = String;

/// An entity with a cell under each kind of rule.
fn entity(dice: &mut Dice) -> Entity {
    use Policy::{Ask, Max, Min, Owner, Prefer};
    let (a, d) = (Side::Airtable, Side::Directus);
    let first = dice.pick(&[Ask, Ask, Prefer(a), Prefer(d)]);
    let second = dice.pick(&[Ask, Prefer(a), Prefer(d), Owner(a), Owner(d), Max, Min]);
    let deletes = dice.pick(&[DeletePolicy::Hold, DeletePolicy::Propagate]);
    let field = |name: &str, kind, policy| Field {
        kind,
        ..super::tests::field(name, FieldKind::Text, policy)
    };
    Entity {
        fields: vec![
            field("name", FieldKind::Integer, first),
            field("size", FieldKind::Integer, second),
            field("tags", FieldKind::MultiSelect, Policy::SetMerge),
        ],
        ..super::tests::entity(Ask, deletes)
    }
}

/// Runs one history; what it broke, if it did.
fn run(seed: u64, mutant: Option<Mutant>, is_told: bool) -> Result<(), Broken> {
    activate(mutant);
    let mut dice = Dice(seed);
    let entity = entity(&mut dice);
    let step_count = 4 + dice.next() % STEP_COUNT_MAX;
    let mut history = History::new(&entity, dice, mutant, is_told);
    let outcome = (0..step_count).try_for_each(|_| history.step()).and_then(|()| history.rest());
    activate(None);
    outcome
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn histories_keep_the_invariants() {
    if let Some(seed) = setting("PLAIT_SEED") {
        run(seed, None, true).unwrap_or_else(|broken| panic!("{broken}"));
        return;
    }
    for seed in 0..setting("PLAIT_HISTORIES").unwrap_or(10_000) {
        if let Err(broken) = run(seed, None, false) {
            panic!(
                "{broken}; again with PLAIT_SEED={seed} cargo test --lib histories_keep -- --nocapture"
            );
        }
    }
}

/// Some history breaks one of `invariants` under a rule that is known to be wrong.
fn is_killed(mutant: Mutant, invariants: &[&str]) {
    const WITHIN: u64 = 4_000;
    for seed in 0..WITHIN {
        if let Err(broken) = run(seed, Some(mutant), false)
            && invariants.iter().any(|name| broken.starts_with(&format!("{name} ")))
        {
            return;
        }
    }
    panic!("{mutant:?} lives through {WITHIN} histories");
}

#[test]
fn histories_kill_a_shadow_that_moves_on_the_answer() {
    is_killed(Mutant::ShadowMovesOnAnswer, &["I1", "I2"]);
}

#[test]
fn histories_kill_the_last_event_wins() {
    is_killed(Mutant::NoBase, &["I2"]);
}

#[test]
fn histories_kill_an_echo_by_value_that_is_dropped() {
    is_killed(Mutant::EchoByValueDropped, &["I1", "I2", "I5", "I13"]);
}

#[test]
fn histories_kill_an_echo_by_value_that_is_taken_as_ours() {
    is_killed(Mutant::EchoByValue, &["I13"]);
}

#[test]
fn histories_kill_a_write_that_is_never_confirmed() {
    is_killed(Mutant::NoConfirm, &["I1", "I5"]);
}

#[test]
fn histories_kill_a_check_against_an_old_value() {
    is_killed(Mutant::StaleCheck, &["I1", "I5"]);
}

#[test]
fn histories_kill_a_delete_of_ours_that_is_taken_for_somebody_s() {
    is_killed(Mutant::OwnDeleteForeign, &["I1", "I2", "I3", "I14"]);
}

#[test]
fn histories_kill_deletes_that_win_over_edits() {
    is_killed(Mutant::DeletesWin, &["I2"]);
}

#[test]
fn histories_kill_a_create_of_ours_that_is_taken_for_somebody_s() {
    is_killed(Mutant::OwnCreateForeign, &["I1", "I2", "I13", "I14"]);
}

#[test]
fn histories_kill_a_part_of_a_write_that_is_taken_for_the_whole() {
    is_killed(Mutant::PartIsWhole, &["I14"]);
}

#[test]
fn histories_kill_a_cell_that_was_not_sent_and_is_taken_for_emptied() {
    is_killed(Mutant::UnnamedIsEdit, &["I14"]);
}

#[test]
fn histories_kill_a_backup_that_is_taken_for_somebody_s_edits() {
    is_killed(Mutant::RestoredIsEdit, &["I7", "I15"]);
}

/// The elements of sets.
fn tags(dice: &mut Dice, of: &Value) -> Value {
    let mut elements = of.elements().to_vec();
    let element = dice.pick(&["a", "b", "c", "d"]).to_owned();
    match elements.iter().position(|known| *known == element) {
        Some(at) => drop(elements.remove(at)),
        None => elements.push(element),
    }
    Value::set(elements)
}

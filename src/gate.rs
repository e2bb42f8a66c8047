//! Whether this process may write to the sides. It is proven every second by whoever keeps the writer's place
//! ([`crate::store::Keeper`]); a proof lasts a few seconds. A process that was frozen, and woke up after another one had
//! taken its place, finds the gate shut before it sends anything.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// How long a proof lasts. Whoever takes the place of a process that may not have ended waits for it.
pub(crate) const PROOF_LASTS: Duration = Duration::from_secs(5);

/// Cheap to clone: the clones are one gate.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<Mutex<Proof>>);

#[derive(Clone, Copy, Debug)]
enum Proof {
    /// Nobody else writes, and nobody asks: commands and tests.
    Always,
    Never,
    /// By two clocks: the one does not count while the machine sleeps, the other may be set.
    At(Instant, SystemTime),
}

impl Gate {
    /// Shut until it is proven to be ours.
    pub(crate) fn shut() -> Self {
        Self(Arc::new(Mutex::new(Proof::Never)))
    }

    /// For those whose writing needs no proof.
    pub(crate) fn open() -> Self {
        Self(Arc::new(Mutex::new(Proof::Always)))
    }

    /// The place was ours at this time.
    pub(crate) fn prove(&self, at: (Instant, SystemTime)) {
        self.set(Proof::At(at.0, at.1));
    }

    /// The place is not ours any more.
    pub(crate) fn lose(&self) {
        self.set(Proof::Never);
    }

    pub(crate) fn is_open(&self) -> bool {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Proof::Always => true,
            Proof::Never => false,
            Proof::At(at, by_the_clock) => {
                // A clock that was set back says nothing; the other one still counts.
                let age = by_the_clock.elapsed().unwrap_or_default();
                at.elapsed().max(age) < PROOF_LASTS
            }
        }
    }

    fn set(&self, proof: Proof) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = proof;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gate_is_open_only_while_the_proof_is_young_by_both_clocks() {
        let gate = Gate::shut();
        assert!(!gate.is_open());
        let (now, clock) = (Instant::now(), SystemTime::now());
        gate.prove((now, clock));
        assert!(gate.is_open());
        gate.prove((now.checked_sub(PROOF_LASTS).unwrap(), clock));
        assert!(!gate.is_open(), "it was frozen");
        gate.prove((now, clock - PROOF_LASTS));
        assert!(!gate.is_open(), "the machine slept");
        gate.prove((now, clock + Duration::from_hours(1)));
        assert!(gate.is_open(), "the clock was set back");
        gate.lose();
        assert!(!gate.is_open());
        assert!(Gate::open().is_open());
    }
}

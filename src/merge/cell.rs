//! One cell: what a side's log says of it against what canonical holds.

use std::cmp::Ordering;

use crate::{
    mapping::{Direction, Field, Policy},
    model::{Side, Value},
};

/// What the side was last known to hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Base<'a> {
    Known(&'a Value),
    /// The record was matched just now: there is no common past.
    Unknown,
}

/// What follows for the canonical value. The side's shadow becomes the observed value in every case.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Canonical stays as it is, and nothing was lost.
    Keep,
    /// Only this side moved: canonical becomes the observed value.
    Take,
    /// Both moved, to different values.
    Conflict(Decision),
}

/// What the policy says of a conflict.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Decision {
    /// Canonical keeps its value until a person decides.
    Held,
    CanonicalKept,
    ObservedTaken,
    Merged(Value),
}

impl Decision {
    /// The name in `mirror.conflict`.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::CanonicalKept => "canonical kept",
            Self::ObservedTaken => "observed taken",
            Self::Merged(_) => "merged",
        }
    }
}

/// Judges `observed`, which `side` shows where canonical holds `canon`.
///
/// A value that equals the shadow is no news, whoever wrote it and however often it comes. Somebody who
/// deliberately returns to an earlier value is heard: what counts is that the side moved, never that a
/// value was seen before.
pub(crate) fn judge(
    field: &Field,
    side: Side,
    canon: &Value,
    base: Base<'_>,
    observed: &Value,
) -> Verdict {
    if base == Base::Known(observed) || canon == observed {
        return Verdict::Keep;
    }
    match base {
        // An edit where only the other side may write: refused, kept on record, and owed back.
        _ if !may_write(field, side) => Verdict::Conflict(Decision::CanonicalKept),
        Base::Known(base) if base == canon => Verdict::Take,
        // A computed value has no author who could lose anything.
        _ if field.policy == Policy::Computed => Verdict::Take,
        // Empty against filled is no conflict when two records meet for the first time.
        Base::Unknown if canon.is_null() => Verdict::Take,
        // Nothing is ever written to this side: what it holds is so.
        Base::Unknown if field.direction == Direction::From(side) => {
            Verdict::Conflict(Decision::ObservedTaken)
        }
        Base::Unknown if observed.is_null() => Verdict::Keep,
        Base::Known(base) => Verdict::Conflict(decide(field.policy, side, canon, base, observed)),
        Base::Unknown => {
            Verdict::Conflict(decide(field.policy, side, canon, &Value::Null, observed))
        }
    }
}

/// Whether what `side` says of a field counts.
pub(super) fn may_write(field: &Field, side: Side) -> bool {
    match (field.direction, field.policy) {
        (Direction::From(writer), _) | (_, Policy::Owner(writer)) => writer == side,
        _ => true,
    }
}

fn decide(policy: Policy, side: Side, canon: &Value, base: &Value, observed: &Value) -> Decision {
    let prefer = |observed_wins: bool| {
        if observed_wins { Decision::ObservedTaken } else { Decision::CanonicalKept }
    };
    match policy {
        Policy::Ask => Decision::Held,
        Policy::Prefer(side_preferred) | Policy::Owner(side_preferred) => {
            prefer(side_preferred == side)
        }
        Policy::SetMerge => Decision::Merged(merge_sets(canon, base, observed)),
        Policy::Max => prefer(observed.compare(canon) == Some(Ordering::Greater)),
        // An empty date is not the earliest one.
        Policy::Min => prefer(
            canon.is_null()
                || !observed.is_null() && observed.compare(canon) == Some(Ordering::Less),
        ),
        Policy::Computed => Decision::ObservedTaken,
    }
}

/// Element by element: `base ∪ added − removed`, by both.
fn merge_sets(canon: &Value, base: &Value, observed: &Value) -> Value {
    let (canon, base, observed) = (canon.elements(), base.elements(), observed.elements());
    let kept = |element: &&String| {
        if base.contains(element) {
            canon.contains(element) && observed.contains(element)
        } else {
            canon.contains(element) || observed.contains(element)
        }
    };
    Value::set(canon.iter().chain(observed).filter(kept).cloned().collect())
}

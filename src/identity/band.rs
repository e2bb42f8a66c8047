//! The three bands: sure, ask, different.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Index, Keys};
use crate::{
    mapping::Entity,
    model::{RecordId, SideKey},
};

/// A record that is new on a side.
#[derive(Clone, Debug)]
pub(crate) struct Newcomer {
    pub(crate) key: SideKey,
    pub(crate) keys: Keys,
    /// It carries an id that nobody has: it may be one of the candidates, but that is not for a program to say.
    pub(crate) carries_other_id: bool,
}

/// What a newcomer is taken for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Band {
    /// It is this record, by the natural key of this number.
    Sure {
        record: RecordId,
        by: usize,
    },
    /// It may be one of these: a person has to say. Why, in words, without values.
    Ask {
        candidates: Vec<RecordId>,
        reason: String,
    },
    Different,
}

/// A candidate that one key has brought up.
struct Found {
    by: usize,
    candidates: Vec<RecordId>,
    doubt: Option<String>,
}

/// Judges newcomers together, a band each, whatever their order: nobody is taken for two records, and no record
/// for two newcomers. Never guessed: only where a key has one record on either side, and nothing stronger speaks
/// against it, is it sure.
pub(crate) fn judge(entity: &Entity, newcomers: &[Newcomer], index: &Index) -> Vec<Band> {
    let mut counts: HashMap<(usize, &str), usize> = HashMap::new();
    for newcomer in newcomers {
        for (no, key) in newcomer.keys.iter().enumerate() {
            if let Some(key) = key {
                *counts.entry((no, key)).or_default() += 1;
            }
        }
    }
    let found: Vec<Option<Found>> =
        newcomers.iter().map(|newcomer| find(entity, newcomer, index, &counts)).collect();
    // Who lays claim to each record without a doubt, by which key.
    let mut claims: BTreeMap<RecordId, Vec<(usize, usize)>> = BTreeMap::new();
    for (at, found) in found.iter().enumerate() {
        if let Some(Found { by, candidates, doubt: None }) = found {
            for record in candidates {
                claims.entry(*record).or_default().push((*by, at));
            }
        }
    }
    found
        .into_iter()
        .enumerate()
        .map(|(at, found)| {
            let Some(Found { by, mut candidates, doubt }) = found else { return Band::Different };
            candidates.sort_unstable();
            let (Some(record), None) = (candidates.first().copied(), &doubt) else {
                let reason = doubt.unwrap_or_default();
                return Band::Ask { candidates, reason };
            };
            let rivals = claims.get(&record).map_or(&[][..], Vec::as_slice);
            let is_strong = entity.matches.get(by).is_some_and(|key| key.is_strong);
            // Of several that fit, only one that a stronger key names than all the others.
            let is_first = |rival: &(usize, usize)| rival.1 == at || is_strong && rival.0 > by;
            if rivals.iter().all(is_first) {
                Band::Sure { record, by }
            } else {
                let reason = String::from("several records of this side fit one of the other");
                Band::Ask { candidates, reason }
            }
        })
        .collect()
}

/// Whom the strongest key that agrees with anybody brings up, and what speaks against it.
fn find(
    entity: &Entity,
    newcomer: &Newcomer,
    index: &Index,
    counts: &HashMap<(usize, &str), usize>,
) -> Option<Found> {
    let name = |no: usize| {
        entity.matches.get(no).map_or_else(String::new, |key| format!("`{}`", entity.name_of(key)))
    };
    let is_strong = |no: usize| entity.matches.get(no).is_some_and(|key| key.is_strong);
    let strong_candidates = || -> BTreeSet<RecordId> {
        let strong = newcomer.keys.iter().enumerate().filter(|(no, _)| is_strong(*no));
        strong.flat_map(|(no, key)| of(index, no, key.as_deref())).collect()
    };
    for (by, key) in newcomer.keys.iter().enumerate() {
        let Some(key) = key.as_deref() else { continue };
        let mut candidates: Vec<RecordId> = index
            .candidates(by, key)
            .iter()
            .copied()
            // Somebody who shares a name with one that is found already, and is told apart by more than that.
            .filter(|record| {
                let is_taken = is_taken(index, *record, &newcomer.key);
                !is_taken
                    || is_strong(by)
                    || disagreement(entity, newcomer, index, *record).is_none()
            })
            .collect();
        if candidates.is_empty() {
            continue;
        }
        let peers = counts.get(&(by, key)).copied().unwrap_or(1);
        let by_all_strong = strong_candidates();
        let doubt = if candidates.len() > 1 {
            Some(format!("{} agrees with {} records", name(by), candidates.len()))
        } else if peers > 1 {
            Some(format!("{peers} records of this side have the same {}", name(by)))
        } else if by_all_strong.len() > 1 {
            candidates = by_all_strong.into_iter().collect();
            Some(String::from("keys that should name one record name several"))
        } else if is_taken(index, candidates[0], &newcomer.key) {
            Some(format!("{} agrees with a record that another of this side is", name(by)))
        } else if newcomer.carries_other_id {
            Some(format!("{} agrees, but the record carries another id", name(by)))
        } else {
            disagreement(entity, newcomer, index, candidates[0])
                .map(|other| format!("{} agrees, but {} differs", name(by), name(other)))
        };
        return Some(Found { by, candidates, doubt });
    }
    None
}

fn of<'a>(
    index: &'a Index,
    no: usize,
    key: Option<&str>,
) -> impl Iterator<Item = RecordId> + use<'a> {
    key.map_or(&[][..], |key| index.candidates(no, key)).iter().copied()
}

fn is_taken(index: &Index, record: RecordId, by: &SideKey) -> bool {
    index.taken_by(record).is_some_and(|taker| taker != by)
}

/// The strong key by which the two differ, if any.
fn disagreement(
    entity: &Entity,
    newcomer: &Newcomer,
    index: &Index,
    record: RecordId,
) -> Option<usize> {
    let candidate = index.get(record)?;
    let mut pairs = newcomer.keys.iter().zip(&candidate.keys).zip(&entity.matches);
    pairs.position(|((mine, other), key)| {
        key.is_strong && mine.is_some() && other.is_some() && mine != other
    })
}

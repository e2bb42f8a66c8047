//! What one author has changed of one entity lately, and when that is too much. Pure.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::model::RecordId;

/// How far back changes are counted, in µs of the side's clock.
pub(super) const WINDOW_US: i64 = 10 * 60 * 1_000_000;

/// The changes of the last ten minutes before the latest one, by the side's clock: what a script did while Plait was
/// away counts as it was done, and not as it is read.
#[derive(Debug)]
pub(super) struct Window {
    /// In the order in which they were read.
    changes: VecDeque<Change>,
    /// How many of the changes each record has, and the transaction of its last one.
    records: HashMap<RecordId, (usize, i64)>,
    latest: i64,
}

/// A change of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) record: RecordId,
    /// µs since 1970 UTC, by the side's clock.
    pub(super) at: i64,
    pub(super) transaction: i64,
}

/// Changes that are too many, and those that join them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// In the same order every time.
    pub(super) records: Vec<RecordId>,
    /// When the first of them was made.
    pub(super) since: i64,
    pub(super) first_transaction: i64,
    pub(super) last_transaction: i64,
}

impl Held {
    /// All of these; `None`: there are none.
    pub(super) fn of<'a>(changes: impl Iterator<Item = &'a Change> + Clone) -> Option<Self> {
        let records: BTreeSet<_> = changes.clone().map(|change| change.record.0).collect();
        let transactions = || changes.clone().map(|change| change.transaction);
        Some(Self {
            records: records.into_iter().map(RecordId).collect(),
            since: changes.clone().map(|change| change.at).min()?,
            first_transaction: transactions().min()?,
            last_transaction: transactions().max()?,
        })
    }
}

impl Default for Window {
    fn default() -> Self {
        Self { changes: VecDeque::new(), records: HashMap::new(), latest: i64::MIN }
    }
}

impl Window {
    /// Takes in what a batch has changed, in the order of its transactions. Where the records of ten minutes are too many,
    /// these are held, and all that follows in the batch: the same ones, however changes are put into batches.
    pub(super) fn take_in(
        &mut self,
        changes: &[Change],
        is_too_many: impl Fn(u64) -> bool,
    ) -> Option<Held> {
        for (at, change) in changes.iter().enumerate() {
            self.add(*change);
            if is_too_many(self.records.len() as u64) {
                return Held::of(self.changes.iter().chain(&changes[at..]));
            }
        }
        None
    }

    /// How many records it could have with `changes`, at most.
    pub(super) fn record_count_with(&self, changes: &[Change]) -> u64 {
        let new: BTreeSet<_> = changes.iter().map(|change| change.record.0).collect();
        let is_new = |record: &&uuid::Uuid| !self.records.contains_key(&RecordId(**record));
        (self.records.len() + new.iter().filter(is_new).count()) as u64
    }

    fn add(&mut self, change: Change) {
        let Change { record, at, transaction } = change;
        self.latest = self.latest.max(at);
        // What happened then, or before, is not counted any more.
        let end = self.latest.saturating_sub(WINDOW_US);
        while let Some(old) = self.changes.front().filter(|old| old.at <= end).copied() {
            self.changes.pop_front();
            if let Some((count, _)) = self.records.get_mut(&old.record) {
                *count -= 1;
                if *count == 0 {
                    self.records.remove(&old.record);
                }
            }
        }
        // A batch that is folded again shows what is known.
        let is_known = self.records.get(&record).is_some_and(|(_, last)| *last >= transaction);
        if is_known || at <= end {
            return;
        }
        self.changes.push_back(change);
        let (count, last) = self.records.entry(record).or_default();
        *count += 1;
        *last = transaction;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const MINUTE_US: i64 = 60 * 1_000_000;

    fn record(no: u8) -> RecordId {
        RecordId(Uuid::from_u128(u128::from(no)))
    }

    /// Changes of records, each so many minutes after the one before it, each a transaction.
    fn history(steps: &[(u8, u8)]) -> Vec<Change> {
        let mut at = 0;
        let change = |(no, (record_no, minutes)): (usize, &(u8, u8))| {
            at += i64::from(*minutes) * MINUTE_US;
            Change { record: record(*record_no), at, transaction: i64::try_from(no).unwrap() + 1 }
        };
        steps.iter().enumerate().map(change).collect()
    }

    /// What is held in the end, by the words of the rule: from the first change with which ten minutes have more than
    /// `count` records, those of these ten minutes and all that follows.
    fn held_by_the_rule(changes: &[Change], count: usize) -> Option<Vec<RecordId>> {
        (0..changes.len()).find_map(|end| {
            let is_late = |change: &&Change| change.at > changes[end].at - WINDOW_US;
            let lately: Vec<&Change> = changes[..=end].iter().filter(is_late).collect();
            let records: HashSet<_> = lately.iter().map(|change| change.record).collect();
            (records.len() > count)
                .then(|| Held::of(lately.into_iter().chain(&changes[end..])).unwrap().records)
        })
    }

    proptest! {
        #[test]
        fn window_holds_what_the_rule_says_however_changes_come_in_batches(
            steps in prop::collection::vec((0..12_u8, 0..4_u8), 0..60),
            cuts in prop::collection::vec(1..9_usize, 0..30),
            count in 1..8_u64,
        ) {
            let changes = history(&steps);
            let (mut window, mut held) = (Window::default(), Vec::<Change>::new());
            let (mut rest, mut stopped) = (&changes[..], None::<Held>);
            let mut cuts = cuts.into_iter();
            while !rest.is_empty() {
                let (batch, later) = rest.split_at(cuts.next().unwrap_or(60).min(rest.len()));
                rest = later;
                if stopped.is_some() {
                    held.extend(batch);
                } else {
                    let is_too_many = |records| records > count;
                    stopped = window.take_in(batch, is_too_many);
                    if stopped.is_none() {
                        // A batch may be folded more than once.
                        prop_assert_eq!(window.take_in(batch, is_too_many), None);
                    }
                }
            }
            let all = stopped.map(|stopped| {
                let mut records: BTreeSet<_> = stopped.records.iter().map(|it| it.0).collect();
                records.extend(held.iter().map(|change| change.record.0));
                records.into_iter().map(RecordId).collect::<Vec<_>>()
            });
            prop_assert_eq!(all, held_by_the_rule(&changes, usize::try_from(count).unwrap()));
        }
    }

    #[test]
    fn window_of_a_steady_script_never_has_more_than_ten_minutes() {
        // Three records a minute, another one each time.
        let steps: Vec<(u8, u8)> = (0..200).map(|no| (no, u8::from(no % 3 == 0))).collect();
        let changes = history(&steps);
        assert_eq!(Window::default().take_in(&changes, |records| records > 30), None);
        let held = Window::default().take_in(&changes, |records| records > 29).unwrap();
        assert_eq!((held.first_transaction, held.last_transaction), (1, 200));
        assert_eq!(held.since, MINUTE_US);
    }

    #[test]
    fn window_counts_a_record_once_and_a_late_word_of_long_ago_not_at_all() {
        let mut window = Window::default();
        let change = |no, at, transaction| Change { record: record(no), at, transaction };
        let often: Vec<Change> = (1..50).map(|no| change(1, no, no)).collect();
        assert_eq!(window.take_in(&often, |records| records > 1), None);
        let old = change(2, 50 - WINDOW_US, 60);
        assert_eq!(window.take_in(&[change(1, 50, 51), old], |records| records > 1), None);
        assert_eq!(window.record_count_with(&[change(1, 51, 52), change(3, 51, 52)]), 2);
    }
}

//! The records that a side lacks and never had, by their natural keys: among them a newcomer of that side is looked
//! for. Beside them those that were found so, since a second newcomer who fits one of these is not to be taken for
//! somebody new without a word.

use std::collections::HashMap;

use super::Keys;
use crate::model::{RecordId, SideKey};

/// The candidates of one side and entity.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// A map a natural key.
    by_key: Vec<HashMap<Box<str>, Vec<RecordId>>>,
    records: HashMap<RecordId, Candidate>,
}

#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) keys: Keys,
    /// The side's record that was taken for it.
    pub(super) taken_by: Option<SideKey>,
}

impl Index {
    pub(crate) fn new(key_count: usize) -> Self {
        Self { by_key: vec![HashMap::new(); key_count], records: HashMap::new() }
    }

    /// Puts a record in, or in again with what it holds now.
    pub(crate) fn put(&mut self, record: RecordId, keys: Keys, taken_by: Option<SideKey>) {
        self.remove(record);
        for (of_key, key) in self.by_key.iter_mut().zip(&keys) {
            if let Some(key) = key {
                of_key.entry(key.clone()).or_default().push(record);
            }
        }
        self.records.insert(record, Candidate { keys, taken_by });
    }

    pub(crate) fn remove(&mut self, record: RecordId) {
        let Some(candidate) = self.records.remove(&record) else { return };
        for (of_key, key) in self.by_key.iter_mut().zip(candidate.keys) {
            let Some(key) = key else { continue };
            if let Some(same) = of_key.get_mut(&key) {
                same.retain(|other| *other != record);
                if same.is_empty() {
                    of_key.remove(&key);
                }
            }
        }
    }

    /// Notes that a side's record is this one.
    pub(crate) fn take(&mut self, record: RecordId, by: SideKey) {
        if let Some(candidate) = self.records.get_mut(&record) {
            candidate.taken_by = Some(by);
        }
    }

    pub(crate) fn taken_by(&self, record: RecordId) -> Option<&SideKey> {
        self.records.get(&record)?.taken_by.as_ref()
    }

    /// Whether there is nobody to be found.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.values().all(|candidate| candidate.taken_by.is_some())
    }

    /// Whether anybody was found.
    pub(crate) fn has_found(&self) -> bool {
        self.records.values().any(|candidate| candidate.taken_by.is_some())
    }

    pub(super) fn candidates(&self, key_no: usize, key: &str) -> &[RecordId] {
        self.by_key.get(key_no).and_then(|of_key| of_key.get(key)).map_or(&[], Vec::as_slice)
    }

    pub(super) fn get(&self, record: RecordId) -> Option<&Candidate> {
        self.records.get(&record)
    }
}

//! A side as the histories have it: records that people edit, and an ordered log of it.

use std::collections::VecDeque;

use uuid::Uuid;

use super::{FIELD_COUNT, RECORD_COUNT};
use crate::{
    merge::OperationKind,
    model::{Side, Value},
};

/// What a cell shows, and which edit (only the checker sees that) it comes from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shown {
    pub(super) value: Value,
    pub(super) ghost: usize,
}

pub(super) type Row = [Shown; FIELD_COUNT];

#[derive(Clone, Debug)]
pub(super) enum What {
    Cells(Vec<(usize, Shown)>),
    Gone,
}

/// An entry of the log. `operation`: ours.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) record: usize,
    pub(super) what: What,
    pub(super) operation: Option<Uuid>,
    /// Under which of its keys the side shows the record.
    pub(super) key: usize,
    /// Cells that the side itself has changed in the transaction of our write: by a default, by a hook.
    pub(super) by_itself: Vec<usize>,
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Taken,
    Gone,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) side: Side,
    pub(super) rows: [Option<Row>; RECORD_COUNT],
    /// What a record held when it was deleted, for a person to bring it back.
    pub(super) bin: [Option<Row>; RECORD_COUNT],
    pub(super) log: VecDeque<Entry>,
    /// How often a record was made anew under another key: its old one is gone for good.
    pub(super) keys: [usize; RECORD_COUNT],
    /// The latest key that was given out: none is given twice, not even by a side that went back in time.
    last_keys: [usize; RECORD_COUNT],
    /// Whether an update goes by the id in a field, and makes what it does not find.
    pub(super) is_upserting: bool,
}

impl World {
    pub(super) fn new(side: Side, is_upserting: bool) -> Self {
        let (rows, bin) = (std::array::from_fn(|_| None), std::array::from_fn(|_| None));
        let (keys, last_keys) = ([0; RECORD_COUNT], [0; RECORD_COUNT]);
        Self { side, rows, bin, log: VecDeque::new(), keys, last_keys, is_upserting }
    }

    /// Writes cells; a log that is silent of writes that change nothing stays silent of them.
    pub(super) fn write(
        &mut self,
        record: usize,
        cells: Vec<(usize, Shown)>,
        operation: Option<Uuid>,
        by_itself: Option<(usize, Shown)>,
    ) {
        let Some(row) = &mut self.rows[record] else { return };
        let itself = by_itself.iter().map(|(field, _)| *field).collect();
        let mut changed = Vec::new();
        for (field, shown) in cells.into_iter().chain(by_itself) {
            if row[field].value != shown.value {
                changed.push((field, shown.clone()));
                row[field] = shown;
            }
        }
        let listed = match self.side {
            Side::Airtable => changed,
            // Every column, changed or not.
            Side::Directus => row.iter().cloned().enumerate().collect(),
        };
        if !listed.is_empty() {
            self.note(record, What::Cells(listed), operation, itself);
        }
    }

    pub(super) fn create(&mut self, record: usize, row: Row, operation: Option<Uuid>) {
        self.make(record, row, operation, Vec::new());
    }

    fn make(&mut self, record: usize, row: Row, operation: Option<Uuid>, by_itself: Vec<usize>) {
        let cells = row.iter().cloned().enumerate().collect();
        self.rows[record] = Some(row);
        self.note(record, What::Cells(cells), operation, by_itself);
    }

    fn note(&mut self, record: usize, what: What, operation: Option<Uuid>, by_itself: Vec<usize>) {
        let key = self.keys[record];
        self.log.push_back(Entry { record, what, operation, key, by_itself });
    }

    pub(super) fn delete(&mut self, record: usize, operation: Option<Uuid>) {
        if let Some(row) = self.rows[record].take() {
            self.bin[record] = Some(row);
            self.note(record, What::Gone, operation, Vec::new());
        }
    }

    /// Carries out a request of ours. `by_itself`: a cell that the side changes with it, unless the request names it.
    pub(super) fn perform(
        &mut self,
        record: usize,
        kind: OperationKind,
        cells: Vec<(usize, Shown)>,
        operation: Uuid,
        by_itself: Option<(usize, Shown)>,
    ) -> Answer {
        let is_here = self.rows[record].is_some();
        let by_itself = by_itself.filter(|(field, _)| cells.iter().all(|(no, _)| no != field));
        match kind {
            OperationKind::Delete if is_here => self.delete(record, Some(operation)),
            OperationKind::Delete => return Answer::Gone,
            // A create of what is there is an update of it.
            _ if is_here => self.write(record, cells, Some(operation), by_itself),
            OperationKind::Update if !self.is_upserting => return Answer::Gone,
            OperationKind::Create | OperationKind::Update => {
                let mut row: Row = std::array::from_fn(|_| Shown { value: Value::Null, ghost: 0 });
                let itself = by_itself.iter().map(|(field, _)| *field).collect();
                for (field, shown) in cells.into_iter().chain(by_itself) {
                    row[field] = shown;
                }
                self.last_keys[record] += usize::from(self.side == Side::Airtable);
                self.keys[record] = self.last_keys[record];
                self.make(record, row, Some(operation), itself);
            }
        }
        Answer::Taken
    }
}

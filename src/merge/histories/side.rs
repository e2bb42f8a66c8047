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
    /// Whether an update goes by the id in a field, and makes what it does not find.
    pub(super) is_upserting: bool,
}

impl World {
    pub(super) fn new(side: Side, is_upserting: bool) -> Self {
        let (rows, bin) = (std::array::from_fn(|_| None), std::array::from_fn(|_| None));
        Self { side, rows, bin, log: VecDeque::new(), is_upserting }
    }

    /// Writes cells; a log that is silent of writes that change nothing stays silent of them.
    pub(super) fn write(
        &mut self,
        record: usize,
        cells: Vec<(usize, Shown)>,
        operation: Option<Uuid>,
    ) {
        let Some(row) = &mut self.rows[record] else { return };
        let mut changed = Vec::new();
        for (field, shown) in cells {
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
            self.log.push_back(Entry { record, what: What::Cells(listed), operation });
        }
    }

    pub(super) fn create(&mut self, record: usize, row: Row, operation: Option<Uuid>) {
        let cells = row.iter().cloned().enumerate().collect();
        self.rows[record] = Some(row);
        self.log.push_back(Entry { record, what: What::Cells(cells), operation });
    }

    pub(super) fn delete(&mut self, record: usize, operation: Option<Uuid>) {
        if let Some(row) = self.rows[record].take() {
            self.bin[record] = Some(row);
            self.log.push_back(Entry { record, what: What::Gone, operation });
        }
    }

    /// Carries out a request of ours.
    pub(super) fn perform(
        &mut self,
        record: usize,
        kind: OperationKind,
        cells: Vec<(usize, Shown)>,
        operation: Uuid,
    ) -> Answer {
        let is_here = self.rows[record].is_some();
        match (kind, self.side) {
            (OperationKind::Delete, _) if is_here => self.delete(record, Some(operation)),
            (OperationKind::Delete, _) => return Answer::Gone,
            // Not unique: done already.
            (OperationKind::Create, Side::Directus) if is_here => {}
            (_, Side::Airtable) if is_here => self.write(record, cells, Some(operation)),
            (OperationKind::Update, Side::Directus) if is_here => {
                self.write(record, cells, Some(operation));
            }
            (OperationKind::Update, _) if !self.is_upserting => return Answer::Gone,
            (OperationKind::Create | OperationKind::Update, _) => {
                let mut row: Row = std::array::from_fn(|_| Shown { value: Value::Null, ghost: 0 });
                for (field, shown) in cells {
                    row[field] = shown;
                }
                self.create(record, row, Some(operation));
            }
        }
        Answer::Taken
    }
}

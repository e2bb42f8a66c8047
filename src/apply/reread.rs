//! What a recovery has read whole: which scans belong to one, and sets in junction tables, which are judged when all
//! of their rows were read.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::{Apply, Error, Item, mass::Hand, resolve::Keys};
use crate::{
    merge::Origin,
    model::{Change, EntityNo, FieldNo, Observation, RecordId, Rewound, Side, SideKey, Value},
    store::Writes,
};

/// Records whose sets are judged at a time.
const SET_COUNT_MAX: usize = 1_000;

/// A set that lives in a junction table.
pub(super) type SetName = (EntityNo, RecordId, FieldNo);

/// A pass over a log that is under way.
#[derive(Clone, Copy, Debug)]
struct Pass {
    rewound: Rewound,
    is_first: bool,
}

/// The full reads of recoveries that are under way; captures begin them, `apply` ends them.
#[derive(Debug, Default)]
pub(crate) struct Rereads {
    passes: Mutex<HashMap<(Side, EntityNo), Pass>>,
    /// Fields whose values a full read shows changed because the schema was.
    expected: Mutex<HashSet<(Side, EntityNo, FieldNo)>>,
    ended_count: watch::Sender<u64>,
}

impl Rereads {
    /// What is read whole of these from now on belongs to a recovery.
    pub(crate) fn begin(
        &self,
        side: Side,
        entities: impl IntoIterator<Item = EntityNo>,
        rewound: Rewound,
        is_first: bool,
    ) {
        let pass = Pass { rewound, is_first };
        self.passes().extend(entities.into_iter().map(|entity| ((side, entity), pass)));
    }

    /// What the next full read of `entities` shows of `fields` follows from a change of the schema, which was told:
    /// nobody is asked about it.
    pub(crate) fn expect(&self, side: Side, entities: &[EntityNo], fields: &[(EntityNo, FieldNo)]) {
        let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        expected.retain(|(of, entity, _)| *of != side || !entities.contains(entity));
        expected.extend(fields.iter().map(|(entity, field)| (side, *entity, *field)));
    }

    pub(super) fn is_expected(&self, side: Side, entity: EntityNo, field: FieldNo) -> bool {
        let expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        expected.contains(&(side, entity, field))
    }

    /// Told each time that a pass was applied.
    pub(crate) fn ended(&self) -> watch::Receiver<u64> {
        self.ended_count.subscribe()
    }

    fn end(&self, side: Side, is_mine: impl Fn(EntityNo) -> bool) {
        self.passes().retain(|(of, entity), _| *of != side || !is_mine(*entity));
        self.ended_count.send_modify(|count| *count += 1);
    }

    /// Of whom a scan of this entity is, as the merge has to know it.
    pub(super) fn origin(&self, side: Side, entity: EntityNo) -> Origin {
        match self.passes().get(&(side, entity)) {
            None => Origin::Scan,
            Some(Pass { rewound: Rewound::Side, .. }) => Origin::Restored,
            Some(Pass { rewound: Rewound::Canonical, is_first }) => {
                Origin::Reread { is_first_pass: *is_first }
            }
        }
    }

    fn passes(&self) -> MutexGuard<'_, HashMap<(Side, EntityNo), Pass>> {
        self.passes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Apply {
    /// A pass over a log was handed over, and is applied.
    pub(super) async fn end_reread(
        &mut self,
        side: Side,
        log: &str,
        pass: i16,
    ) -> Result<(), Error> {
        self.writer.note_reread(log, pass).await?;
        let mapping = std::sync::Arc::clone(&self.mapping);
        let bases = &self.rereads_by_log;
        self.rereads.end(side, |entity| match (side, &mapping.entity(entity).airtable) {
            (Side::Airtable, Some(table)) => bases.get(&table.base).is_some_and(|of| of == log),
            _ => true,
        });
        Ok(())
    }

    /// Judges sets whose rows were read in the open transaction.
    pub(super) async fn write_sets(
        &mut self,
        side: Side,
        source: (i64, i64),
        sets: BTreeSet<SetName>,
    ) -> Result<(), Error> {
        let mut by_field: BTreeMap<(EntityNo, FieldNo), Vec<RecordId>> = BTreeMap::new();
        for (entity, record, field) in sets {
            by_field.entry((entity, field)).or_default().push(record);
        }
        for ((entity, field), records) in by_field {
            for some in records.chunks(SET_COUNT_MAX) {
                let writes = self.fold_sets(side, source, (entity, field), some).await?;
                self.writer.write_part(&writes).await?;
            }
        }
        Ok(())
    }

    async fn fold_sets(
        &mut self,
        side: Side,
        (transaction, at): (i64, i64),
        (entity, field): (EntityNo, FieldNo),
        records: &[RecordId],
    ) -> Result<Writes, Error> {
        let mapping = std::sync::Arc::clone(&self.mapping);
        let ids: HashSet<_> = records.iter().map(|record| record.0).collect();
        let rows =
            self.writer.elements(side, entity, mapping.entity(entity).field(field), &[], &ids);
        let mut elements: HashMap<RecordId, Vec<String>> = HashMap::new();
        for row in rows.await? {
            elements.entry(row.record).or_default().push(row.element);
        }
        let origin = self.rereads.origin(side, entity);
        let change = Change::Present { cells: Vec::new(), claimed_id: None, made_at: None };
        let observation = Observation { entity, key: SideKey::from(""), change };
        let item = Item { transaction, side, origin, hand: Hand::Free, at, observation };
        let cells: Vec<(RecordId, Value)> = records
            .iter()
            .map(|record| (*record, Value::set(elements.remove(record).unwrap_or_default())))
            .collect();
        self.fold_cells(&item, field, cells, &Keys::default()).await
    }
}

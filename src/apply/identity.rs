//! Records that are new on a side, among those that this side lacks: one that is found there is that record from now
//! on. For ever, not only at a first run.
//!
//! The canonical id is the one that Directus uses. At a first run of both sides Airtable's records come after
//! Directus's (`pipeline` sees to it), so they find those. A record that was born in Airtable and is not in Directus
//! yet has an id of ours; if somebody makes it in Directus meanwhile, that row comes with a UUID of its own, and a
//! row of `mirror.link` says whose it is: the one case in which the two differ. Its Airtable row may carry the
//! canonical id already, and links on both sides may name either; to change an id that is in use would be to move
//! every one of them.

use std::collections::{BTreeMap, HashMap, HashSet};

use uuid::Uuid;

use super::{Apply, Error, Item, batch::Outcomes, fold::resolved, resolve::Keys};
use crate::{
    identity::{Band, Index, Newcomer, judge, natural_keys},
    mapping::Mapping,
    merge::Origin,
    model::{Change, EntityNo, Side, SideKey, Value},
    store::MatchRow,
};

pub(super) type Pair = (Side, EntityNo);

/// The records that each side lacks, by what they are told by; read when first asked for, and kept true since.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    by_pair: HashMap<Pair, Index>,
}

impl Candidates {
    /// Forgets all: what was noted last may not have come to be.
    pub(super) fn forget(&mut self) {
        self.by_pair.clear();
    }

    /// Takes in how records are after a fold.
    pub(super) fn note(&mut self, mapping: &Mapping, outcomes: &Outcomes) {
        if self.by_pair.is_empty() {
            return;
        }
        for ((entity, record), state) in outcomes {
            for side in Side::ALL {
                let Some(index) = self.by_pair.get_mut(&(side, *entity)) else { continue };
                let is_lacking = state.absent.contains(&(side, false)) && !state.is_outside(side);
                let taken_by = index.taken_by(*record).cloned();
                let is_found = taken_by.is_some() && !state.is_absent_on(side);
                if state.is_alive() && (is_lacking || is_found) {
                    let keys = natural_keys(mapping.entity(*entity), &state.canon);
                    index.put(*record, keys, taken_by.filter(|_| is_found));
                } else {
                    index.remove(*record);
                }
            }
        }
    }
}

/// A side's record that may be one of several.
pub(super) struct Doubt {
    pub(super) side: Side,
    pub(super) entity: EntityNo,
    pub(super) key: SideKey,
    pub(super) candidates: Vec<crate::model::RecordId>,
    pub(super) reason: String,
}

impl Apply {
    /// Whether records of this kind that are new on `side` may be found among those that it lacks.
    pub(super) fn may_match(&self, side: Side, entity: EntityNo) -> bool {
        self.mapping.entity(entity).is_matched() && self.writer.lacks_some(side, entity)
    }

    /// Links those of `items` that are new on their side and are surely a record that this side lacks. The answer:
    /// those of which a person has to say.
    pub(super) async fn match_newcomers(
        &mut self,
        keys: &mut Keys,
        items: &[Item],
        claims: &HashMap<(Side, EntityNo, Uuid), SideKey>,
    ) -> Result<Vec<Doubt>, Error> {
        let mut doubts = Vec::new();
        // Parents first: a link to one that is found here is part of what a child is told by.
        let mut by_pair: BTreeMap<(EntityNo, Side), Vec<&Item>> = BTreeMap::new();
        for item in items {
            let pair = (item.observation.entity, item.side);
            if self.may_match(pair.1, pair.0) {
                by_pair.entry(pair).or_default().push(item);
            }
        }
        for ((entity, side), items) in by_pair {
            // Whose key is changed in the same breath is nobody new.
            if items.iter().any(|item| matches!(item.observation.change, Change::Renamed { .. })) {
                continue;
            }
            let newcomers = self.newcomers((side, entity), keys, &items, claims).await?;
            if newcomers.is_empty() {
                continue;
            }
            self.load_candidates((side, entity)).await?;
            let bands = self.bands((side, entity), &newcomers).await?;
            for (newcomer, band) in newcomers.into_iter().zip(bands) {
                let key = newcomer.key;
                match band {
                    Band::Sure { record, by } => {
                        let described = self.mapping.entity(entity);
                        let by = described.matches.get(by);
                        let by = by.map_or_else(String::new, |by| described.name_of(by));
                        keys.link(side, entity, &key, record);
                        if let Some(index) = self.candidates.by_pair.get_mut(&(side, entity)) {
                            index.take(record, key.clone());
                        }
                        keys.matches.push(MatchRow { entity, record, side, key, by });
                    }
                    Band::Ask { candidates, reason } => {
                        doubts.push(Doubt { side, entity, key, candidates, reason });
                    }
                    Band::Different => {}
                }
            }
        }
        Ok(doubts)
    }

    /// Those of a pair's items whose records nobody knows.
    async fn newcomers(
        &self,
        (side, entity): Pair,
        keys: &Keys,
        items: &[&Item],
        claims: &HashMap<(Side, EntityNo, Uuid), SideKey>,
    ) -> Result<Vec<Newcomer>, Error> {
        // A first look at all that may be new, with the id that it comes with, if any.
        let mut seen: HashSet<&SideKey> = HashSet::new();
        let mut new: Vec<(&Item, Option<Uuid>)> = Vec::new();
        for item in items {
            let key = &item.observation.key;
            let Change::Present { claimed_id, .. } = &item.observation.change else { continue };
            if keys.is_passed_over(side, entity, key) {
                continue;
            }
            // What is there by our own doing, we know.
            if matches!(item.origin, Origin::Ours(_)) || !seen.insert(key) {
                continue;
            }
            match (keys.get(side, entity, key), claimed_id.flatten()) {
                // Its key is its id, which somebody may have.
                (Some(record), _) if key.as_id() == Some(record.0) => {
                    new.push((item, Some(record.0)));
                }
                (Some(_), _) => {}
                // A row that a person has duplicated is a new record, whatever it holds.
                (None, Some(id)) if claims.get(&(side, entity, id)) != Some(key) => {}
                (None, id) => new.push((item, id)),
            }
        }
        let ids: Vec<Uuid> = new.iter().filter_map(|(_, id)| *id).collect();
        let known = self.writer.known(entity, &ids).await?;
        new.retain(|(_, id)| id.is_none_or(|id| !known.contains(&id)));
        let described = self.mapping.entity(entity);
        Ok(new
            .into_iter()
            .map(|(item, id)| {
                let mut values = vec![Value::Null; described.fields.len()];
                if let Change::Present { cells, .. } = &item.observation.change {
                    for (no, cell) in cells {
                        let find = |target, key: &SideKey| keys.get(side, target, key);
                        if let Ok(value) = resolved(described.field(*no), cell, find) {
                            values[usize::from(no.0)] = value;
                        }
                    }
                }
                Newcomer {
                    key: item.observation.key.clone(),
                    keys: natural_keys(described, &values),
                    carries_other_id: side == Side::Airtable && id.is_some(),
                }
            })
            .collect())
    }

    pub(super) async fn load_candidates(&mut self, (side, entity): Pair) -> Result<(), Error> {
        if self.candidates.by_pair.contains_key(&(side, entity)) {
            return Ok(());
        }
        let described = self.mapping.entity(entity);
        let mut index = Index::new(described.matches.len());
        for row in self.writer.candidates(side, entity).await? {
            index.put(row.record, natural_keys(described, &row.values), row.taken_by);
        }
        self.candidates.by_pair.insert((side, entity), index);
        Ok(())
    }

    pub(super) async fn bands(
        &mut self,
        (side, entity): Pair,
        newcomers: &[Newcomer],
    ) -> Result<Vec<Band>, Error> {
        let Some(index) = self.candidates.by_pair.get(&(side, entity)) else {
            return Ok(vec![Band::Different; newcomers.len()]);
        };
        let mut bands = judge(self.mapping.entity(entity), newcomers, index);
        if index.is_empty() && (side == Side::Directus || !index.has_found()) {
            // The next newcomers need not be looked for; a record that this side lacks changes that.
            self.writer.note_complete(side, entity);
        }
        let found: Vec<Uuid> = bands
            .iter()
            .filter_map(|band| match band {
                Band::Sure { record, .. } => Some(record.0),
                _ => None,
            })
            .collect();
        let under_creation = self.writer.under_creation(side, entity, &found).await?;
        for band in &mut bands {
            if let Band::Sure { record, .. } = band
                && under_creation.contains(record)
            {
                let reason = "is being created on this side at the same time".into();
                *band = Band::Ask { candidates: vec![*record], reason };
            }
        }
        Ok(bands)
    }
}

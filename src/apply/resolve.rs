//! Whose record is this: a side's keys → canonical ids.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::{Apply, Error, Item, created::SecondCopy, identity::Doubt};
use crate::{
    mapping::{Field, FieldKind},
    merge::Origin,
    model::{Cell, Change, EntityNo, RecordId, Side, SideKey},
    store::{LinkRow, MatchRow, QuestionRow},
};

/// What the keys that a chunk of items names stand for.
#[derive(Debug, Default)]
pub(super) struct Keys {
    known: HashMap<(Side, EntityNo, SideKey), RecordId>,
    /// Pairs whose keys had to be looked up; elsewhere a UUID is the canonical id.
    looked_up: HashSet<(Side, EntityNo)>,
    /// Links to write, an entity each.
    pub(super) links: Vec<(EntityNo, LinkRow)>,
    pub(super) links_gone: Vec<(EntityNo, Side, SideKey)>,
    /// Rows that stand for no record: second copies, by (entity, key) of Directus.
    pub(super) passed_over: HashSet<(EntityNo, SideKey)>,
    /// Those of them that this chunk shows first, to be listed.
    pub(super) second_copies: Vec<SecondCopy>,
    /// Records that were found by what they hold, and those that may be others.
    pub(super) matches: Vec<MatchRow>,
    pub(super) questions: Vec<QuestionRow>,
}

impl Keys {
    pub(super) fn get(&self, side: Side, entity: EntityNo, key: &SideKey) -> Option<RecordId> {
        if !self.looked_up.contains(&(side, entity))
            && let Some(id) = key.as_id()
        {
            return Some(RecordId(id));
        }
        self.known.get(&(side, entity, key.clone())).copied()
    }

    pub(super) fn is_passed_over(&self, side: Side, entity: EntityNo, key: &SideKey) -> bool {
        side == Side::Directus
            && !self.passed_over.is_empty()
            && self.passed_over.contains(&(entity, key.clone()))
    }

    pub(super) fn link(&mut self, side: Side, entity: EntityNo, key: &SideKey, record: RecordId) {
        self.known.insert((side, entity, key.clone()), record);
        self.links.push((entity, LinkRow { side, key: key.clone(), record }));
    }
}

/// The entity that a field's links point to.
pub(super) fn target(field: &Field) -> Option<EntityNo> {
    match field.kind {
        FieldKind::Link { target } | FieldKind::Links { target } => Some(target),
        _ => None,
    }
}

type Wanted = HashMap<(Side, EntityNo), HashSet<SideKey>>;

impl Apply {
    /// Finds or makes the canonical id of each record that `items` name.
    ///
    /// A record with a UUID as key is that canonical record. One that carries a canonical id joins it, unless
    /// another living record of its side has that id: then a person has duplicated a row, and the copy is a
    /// new entity. A row that a create of ours has made is the record of that operation (`apply::created`). Of the
    /// others, those that are found among the records that their side lacks are these (`apply::identity`).
    /// Everything else is new.
    pub(super) async fn resolve(&mut self, items: &[Item]) -> Result<Keys, Error> {
        let mut keys = Keys::default();
        let wanted = self.wanted(items);
        for ((side, entity), names) in &wanted {
            keys.looked_up.insert((*side, *entity));
            let names: Vec<&str> = names.iter().map(|name| &*name.0).collect();
            for (key, record) in self.writer.linked_records(*side, *entity, &names).await? {
                keys.known.insert((*side, *entity, key), record);
            }
            self.take_unlinked_uuids(&mut keys, *side, *entity, &names).await?;
        }
        self.link_created(&mut keys, items).await?;
        let claims = self.free_claims(&keys, items).await?;
        self.join_outside(&mut keys, items, &claims).await?;
        let doubts = self.match_newcomers(&mut keys, items, &claims).await?;
        for item in items {
            let (side, entity, key) = (item.side, item.observation.entity, &item.observation.key);
            match &item.observation.change {
                Change::Present { .. } if keys.is_passed_over(side, entity, key) => {}
                Change::Present { claimed_id, .. } if keys.get(side, entity, key).is_none() => {
                    let claimed = claimed_id
                        .flatten()
                        .filter(|id| claims.get(&(side, entity, *id)) == Some(key));
                    if claimed.is_none() && item.origin == (Origin::Reread { is_first_pass: true })
                    {
                        // The other side may have it under the id that it had: that one is read first.
                        continue;
                    }
                    let claimed = claimed
                        // A key that is an id in another spelling was taken for that id before it had a link.
                        .or_else(|| Uuid::try_parse(&key.0).ok())
                        .unwrap_or_else(Uuid::now_v7);
                    keys.link(side, entity, key, RecordId(claimed));
                }
                Change::Renamed { to } => {
                    if let Some(record) = keys.get(side, entity, key) {
                        keys.looked_up.insert((side, entity));
                        keys.links_gone.push((entity, side, key.clone()));
                        keys.known.remove(&(side, entity, key.clone()));
                        keys.link(side, entity, to, record);
                    }
                }
                _ => {}
            }
        }
        for Doubt { side, entity, key, candidates, reason } in doubts {
            if let Some(record) = keys.get(side, entity, &key) {
                keys.questions.push(QuestionRow { entity, record, side, key, candidates, reason });
            }
        }
        Ok(keys)
    }

    /// Whether links have to be read before it is known which records `items` are about.
    pub(super) fn has_keys_to_look_up(&self, items: &[Item]) -> bool {
        !self.wanted(items).is_empty()
    }

    /// The keys of all pairs of side and entity whose keys cannot be told from their text: Airtable's, those
    /// that are no UUIDs, those of a table in which a key was changed, and those of which a new one may be found
    /// among the records that the side lacks.
    fn wanted(&self, items: &[Item]) -> Wanted {
        let mut pairs = HashSet::new();
        self.each_key(items, |side, entity, key| {
            let is_plain = key.as_id().is_some()
                && !self.writer.is_linked(side, entity)
                && !self.may_match(side, entity);
            if !is_plain {
                pairs.insert((side, entity));
            }
        });
        for item in items {
            if matches!(item.observation.change, Change::Renamed { .. }) {
                pairs.insert((item.side, item.observation.entity));
            }
        }
        let mut wanted = Wanted::new();
        if !pairs.is_empty() {
            self.each_key(items, |side, entity, key| {
                if pairs.contains(&(side, entity)) {
                    wanted.entry((side, entity)).or_default().insert(key.clone());
                }
            });
        }
        wanted
    }

    /// Calls `with` for each key that `items` name: the records' own, and those that they link to.
    fn each_key(&self, items: &[Item], mut with: impl FnMut(Side, EntityNo, &SideKey)) {
        for item in items {
            let observation = &item.observation;
            let described = self.mapping.entity(observation.entity);
            // A deleted junction row names no parent, a truncate no record.
            if !observation.key.0.is_empty() {
                with(item.side, observation.entity, &observation.key);
            }
            let mut with_cell = |field: &Field, cell: &Cell| match (target(field), cell) {
                (Some(target), Cell::Link(Some(key))) => with(item.side, target, key),
                (Some(target), Cell::Links(keys)) => {
                    for key in keys {
                        with(item.side, target, key);
                    }
                }
                _ => {}
            };
            match &observation.change {
                Change::Present { cells, .. } => {
                    for (no, cell) in cells {
                        with_cell(described.field(*no), cell);
                    }
                }
                Change::Element(element) => {
                    if let Some(cell) = &element.element {
                        with_cell(described.field(element.field), cell);
                    }
                }
                Change::Renamed { .. }
                | Change::Absent
                | Change::Outside { .. }
                | Change::Truncated => {}
            }
        }
    }

    /// In a pair with links, a UUID without one is still the canonical id, unless that record goes by another
    /// key now.
    async fn take_unlinked_uuids(
        &self,
        keys: &mut Keys,
        side: Side,
        entity: EntityNo,
        names: &[&str],
    ) -> Result<(), Error> {
        if side == Side::Airtable {
            return Ok(());
        }
        let free: Vec<Uuid> = names
            .iter()
            .filter(|name| !keys.known.contains_key(&(side, entity, SideKey::from(**name))))
            .filter_map(|name| SideKey::from(*name).as_id())
            .collect();
        if free.is_empty() {
            return Ok(());
        }
        let renamed = self.writer.linked_keys(side, entity, &free).await?;
        for id in free {
            if !renamed.contains_key(&RecordId(id)) {
                keys.known
                    .insert((side, entity, SideKey::from(id.to_string().as_str())), RecordId(id));
            }
        }
        Ok(())
    }

    /// Links records outside the rows that are mirrored to the canonical records whose ids they carry: those are not
    /// made a second time on that side. Others of them are nobody's.
    async fn join_outside(
        &self,
        keys: &mut Keys,
        items: &[Item],
        claims: &HashMap<(Side, EntityNo, Uuid), SideKey>,
    ) -> Result<(), Error> {
        let mut carried: HashMap<EntityNo, Vec<(Side, SideKey, Uuid)>> = HashMap::new();
        for item in items {
            let (side, entity, key) = (item.side, item.observation.entity, &item.observation.key);
            if let Change::Outside { claimed_id: Some(Some(id)) } = item.observation.change
                && keys.get(side, entity, key).is_none()
                && claims.get(&(side, entity, id)) == Some(key)
            {
                carried.entry(entity).or_default().push((side, key.clone(), id));
            }
        }
        for (entity, carried) in carried {
            let ids: Vec<Uuid> = carried.iter().map(|(.., id)| *id).collect();
            let known = self.writer.known(entity, &ids).await?;
            for (side, key, id) in carried {
                if known.contains(&id) {
                    keys.link(side, entity, &key, RecordId(id));
                }
            }
        }
        Ok(())
    }

    /// Who gets each id that new records claim: (side, entity, id) → key. Of several, the oldest.
    async fn free_claims(
        &self,
        keys: &Keys,
        items: &[Item],
    ) -> Result<HashMap<(Side, EntityNo, Uuid), SideKey>, Error> {
        let mut claims: HashMap<(Side, EntityNo, Uuid), (Option<i64>, SideKey)> = HashMap::new();
        for item in items {
            let observation = &item.observation;
            let (id, made_at) = match &observation.change {
                Change::Present { claimed_id: Some(Some(id)), made_at, .. } => (id, made_at),
                Change::Outside { claimed_id: Some(Some(id)) } => (id, &None),
                _ => continue,
            };
            if keys.get(item.side, observation.entity, &observation.key).is_some() {
                continue;
            }
            let mine = (*made_at, observation.key.clone());
            claims
                .entry((item.side, observation.entity, *id))
                .and_modify(|best| {
                    if made_at.is_some() && *made_at < best.0 {
                        *best = mine.clone();
                    }
                })
                .or_insert(mine);
        }
        let mut pairs: HashMap<(Side, EntityNo), Vec<Uuid>> = HashMap::new();
        for (side, entity, id) in claims.keys() {
            pairs.entry((*side, *entity)).or_default().push(*id);
        }
        for ((side, entity), ids) in pairs {
            let taken = self.writer.linked_keys(side, entity, &ids).await?;
            let gone = self.writer.absent(side, entity, &ids).await?;
            for record in taken.keys().filter(|record| !gone.contains(record)) {
                claims.remove(&(side, entity, record.0));
            }
        }
        Ok(claims.into_iter().map(|(claim, (_, key))| (claim, key)).collect())
    }
}

//! Both live sides against canonical, cell by cell. In: what each side holds now, through the conversions that the
//! captures use. Out: counts, digests and differences with their causes. Writes nothing. A table at a time is in
//! memory.

pub(crate) mod compare;
mod side;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use sqlx::PgPool;
use tokio::time::sleep;

use crate::{
    capture::{airtable, directus},
    mapping::Mapping,
    model::{Change, Element, EntityNo, FieldNo, Observation, Side, SideKey},
    remote,
    store::{TableShape, reading, standing, vitals},
};

use compare::{Comparison, compare, unexplained};
use side::{Keys, Reading};

/// How often an entity with something unexplained is read while the logs move.
const READ_COUNT_MAX: u32 = 4;
/// Between two readings: a side's log takes a moment to get here.
const SETTLE: Duration = Duration::from_secs(2);

/// What is compared.
pub(crate) struct Verify {
    pub(crate) pool: PgPool,
    pub(crate) mapping: Arc<Mapping>,
    pub(crate) shapes: Vec<TableShape>,
    pub(crate) airtable: Option<(Arc<remote::airtable::Client>, Vec<airtable::BaseSettings>)>,
    pub(crate) directus: Option<directus::SourceSettings>,
    /// The id of Plait's own account in Directus, where it is known.
    pub(crate) own_account: Option<String>,
}

/// What was found of an entity on a side.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) entity: EntityNo,
    pub(crate) side: Side,
    pub(crate) comparison: Comparison,
}

/// One side, ready to be read.
enum Look {
    Airtable(airtable::Look),
    Directus(directus::Look),
}

impl Verify {
    /// Compares one entity on all sides that have it; again, while something is unexplained and the logs move.
    ///
    /// # Errors
    /// When a side cannot be read, or the canonical database.
    pub(crate) async fn entity(&self, entity: EntityNo) -> anyhow::Result<Vec<Found>> {
        let mut found = Vec::new();
        for side in Side::ALL {
            if self.mapping.entity(entity).is_on(side)
                && let Some(comparison) = self.side(entity, side).await?
            {
                found.push(Found { entity, side, comparison });
            }
        }
        Ok(found)
    }

    async fn side(&self, entity: EntityNo, side: Side) -> anyhow::Result<Option<Comparison>> {
        let mut read_count = 0;
        loop {
            let before = standing::mark(&self.pool).await?;
            let Some(comparison) = self.compare_once(entity, side).await? else { return Ok(None) };
            read_count += 1;
            if unexplained(&comparison.differences).is_empty() || read_count == READ_COUNT_MAX {
                return Ok(Some(comparison));
            }
            // What moved on the side may be on its way here; where nobody reads the log, it never comes.
            let is_running = vitals::is_running(&self.pool).await?;
            if is_running {
                sleep(SETTLE).await;
            } else if standing::mark(&self.pool).await? == before {
                return Ok(Some(comparison));
            }
        }
    }

    async fn compare_once(
        &self,
        entity: EntityNo,
        side: Side,
    ) -> anyhow::Result<Option<Comparison>> {
        let described = self.mapping.entity(entity);
        let Some(look) = self.look(entity, side).await? else { return Ok(None) };
        let Some(fields) = look.fields(entity) else { return Ok(None) };
        let keys = Keys::read(&self.pool, &self.mapping, entity, side).await?;
        let mut reading = Reading::new(described, &keys);
        let context = || format!("could not read {} on {side}", described.name);
        match &look {
            Look::Airtable(look) => {
                look.read(entity, |it| reading.take(it)).await.with_context(context)?;
            }
            Look::Directus(look) => {
                look.read(entity, |it| reading.take(it)).await.with_context(context)?;
            }
        }
        let table = reading.end(&fields);
        let shape = &self.shapes[usize::from(entity.0)];
        // Read last: what came meanwhile is in it, and what a side did after it was read is not yet.
        let (canon, standing) = standing::read(&self.pool, &self.mapping, described, shape).await?;
        Ok(Some(compare(described, side, &fields, &canon, &table, &standing)))
    }

    /// What the merge has to see again for what is unexplained: those records as the side has them now, and those that
    /// it does not have any more.
    ///
    /// # Errors
    /// When the side cannot be read, or the canonical database.
    pub(crate) async fn seen_again(&self, found: &Found) -> anyhow::Result<Vec<Observation>> {
        let (entity, side) = (found.entity, found.side);
        let described = self.mapping.entity(entity);
        let keys = Keys::read(&self.pool, &self.mapping, entity, side).await?;
        let mut wanted: BTreeSet<SideKey> = BTreeSet::new();
        for difference in &found.comparison.differences {
            if difference.cause == compare::Cause::Unexplained {
                let known = || difference.record.and_then(|record| keys.key_of(record));
                let key = difference.key.as_deref().map(SideKey::from).or_else(known);
                wanted.extend(key);
            }
        }
        let Some(look) = self.look(entity, side).await?.filter(|_| !wanted.is_empty()) else {
            return Ok(Vec::new());
        };
        let mut gone_rows = BTreeSet::new();
        for (no, field) in (0..).zip(&described.fields) {
            let rows =
                reading::element_rows(&self.pool, side, &described.name, &field.name).await?;
            gone_rows.extend(rows.into_iter().map(|row| (FieldNo(no), row)));
        }
        let mut seen = Vec::new();
        let mut gone = wanted.clone();
        let take = |observation: Observation| {
            if let Change::Element(element) = &observation.change {
                gone_rows.remove(&(element.field, element.row.clone()));
            } else {
                gone.remove(&observation.key);
            }
            if wanted.contains(&observation.key) {
                seen.push(observation);
            }
        };
        match &look {
            Look::Airtable(look) => look.read(entity, take).await?,
            Look::Directus(look) => look.read(entity, take).await?,
        }
        seen.extend(gone_rows.into_iter().map(|(field, row)| Observation {
            entity,
            key: "".into(),
            change: Change::Element(Element { field, row, element: None, columns: None }),
        }));
        let absent = |key| Observation { entity, key, change: Change::Absent };
        seen.extend(gone.into_iter().map(absent));
        Ok(seen)
    }

    async fn look(&self, entity: EntityNo, side: Side) -> anyhow::Result<Option<Look>> {
        match side {
            Side::Directus => {
                let Some(source) = &self.directus else { return Ok(None) };
                let look = {
                    let (mapping, own) = (Arc::clone(&self.mapping), self.own_account.clone());
                    directus::Look::open(source, mapping, own).await?
                };
                Ok(Some(Look::Directus(look)))
            }
            Side::Airtable => {
                let (Some((client, bases)), Some(table)) =
                    (&self.airtable, &self.mapping.entity(entity).airtable)
                else {
                    return Ok(None);
                };
                let Some(base) = bases.iter().find(|base| base.name == table.base) else {
                    return Ok(None);
                };
                let log = format!("{}:{}", Side::Airtable, base.id);
                let positions = reading::positions(&self.pool).await?;
                let stored = positions.iter().find(|position| position.log == log);
                let stored = stored.and_then(|it| airtable::Identity::read(&it.identity));
                let look = airtable::Look::open(
                    Arc::clone(client),
                    (&base.name, &base.id),
                    Arc::clone(&self.mapping),
                    stored.as_ref(),
                )
                .await
                .with_context(|| format!("could not read the base {}", base.name))?;
                Ok(Some(Look::Airtable(look)))
            }
        }
    }
}

impl Look {
    fn fields(&self, entity: EntityNo) -> Option<Vec<FieldNo>> {
        let mut fields = match self {
            Self::Airtable(look) => look.fields(entity),
            Self::Directus(look) => look.fields(entity),
        }?;
        fields.sort_unstable();
        fields.dedup();
        Some(fields)
    }
}

/// How many differences there are of each cause.
pub(crate) fn by_cause(found: &[Found]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for difference in found.iter().flat_map(|found| &found.comparison.differences) {
        *counts.entry(difference.cause.code()).or_default() += 1;
    }
    counts
}

//! A side's log → observations. In: the WAL of the Postgres under Directus, the payloads of Airtable's
//! webhooks. Out: [`crate::model::Delivery`]s in log order through a bounded channel. What becomes of them,
//! [`crate::apply`] decides; how far it has got, a watch channel tells.

pub(crate) mod airtable;
pub(crate) mod directus;

use std::{future::Future, pin::Pin};

use crate::model::{EntityNo, FieldNo, Side, SideKey};

/// What the canonical database knows to exist on a side: asked by a full read (snapshot, listing), so that
/// it can report the records that are gone as absent.
pub(crate) trait KnownKeys: Send + Sync {
    /// The keys of all living records of `entity` on `side`.
    fn keys<'a>(
        &'a self,
        side: Side,
        entity: EntityNo,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<SideKey>, anyhow::Error>> + Send + 'a>>;

    /// The keys of all known rows of the junction table that holds `field` of `entity` on `side`. None, unless
    /// the implementor says otherwise: then elements that went while nobody listened stay.
    fn elements<'a>(
        &'a self,
        _side: Side,
        _entity: EntityNo,
        _field: FieldNo,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<SideKey>, anyhow::Error>> + Send + 'a>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

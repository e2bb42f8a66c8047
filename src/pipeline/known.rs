//! What full reads may ask of the canonical database.

use std::{future::Future, pin::Pin, sync::Arc};

use sqlx::PgPool;

use crate::{
    capture::KnownKeys,
    mapping::Mapping,
    model::{EntityNo, FieldNo, Side, SideKey},
    store::reading,
};

/// Answers from the canonical database.
pub(super) struct Known {
    pool: PgPool,
    mapping: Arc<Mapping>,
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<Vec<SideKey>, anyhow::Error>> + Send + 'a>>;

impl Known {
    pub(super) fn new(pool: PgPool, mapping: Arc<Mapping>) -> Self {
        Self { pool, mapping }
    }
}

impl KnownKeys for Known {
    fn keys(&self, side: Side, entity: EntityNo) -> Answer<'_> {
        let described = self.mapping.entity(entity);
        Box::pin(async move {
            Ok(reading::keys(&self.pool, side, &described.name, &described.table).await?)
        })
    }

    fn elements(&self, side: Side, entity: EntityNo, field: FieldNo) -> Answer<'_> {
        let described = self.mapping.entity(entity);
        let field = &described.field(field).name;
        Box::pin(async move {
            Ok(reading::element_rows(&self.pool, side, &described.name, field).await?)
        })
    }
}

//! Whether the values of an option that was renamed in Airtable may follow: what Directus's field takes, and what
//! people said yes to.

use std::{future::Future, pin::Pin, sync::Arc};

use sqlx::PgPool;

use crate::{
    capture::OtherChoices,
    mapping::{DirectusField, Mapping},
    merge::is_written,
    model::{EntityNo, FieldNo, Side},
    remote::directus::Client,
    store::option_yes,
};

/// Answers from the canonical database and Directus.
pub(super) struct Choices {
    pub(super) pool: PgPool,
    pub(super) mapping: Arc<Mapping>,
    /// `None`: Directus is not written to.
    pub(super) directus: Option<Arc<Client>>,
}

impl Choices {
    async fn takes(&self, entity: EntityNo, no: FieldNo, name: &str) -> anyhow::Result<bool> {
        let described = self.mapping.entity(entity);
        let field = described.field(no);
        if option_yes::is_accepted(&self.pool, &described.name, &field.name, name).await? {
            return Ok(true);
        }
        let (Some(client), Some(table), Some(place)) =
            (&self.directus, &described.directus, &field.directus)
        else {
            return Ok(true);
        };
        if !is_written(field, Side::Directus) {
            return Ok(true);
        }
        let DirectusField::Column { column, codes, .. } = place else {
            // What the rows of a junction may hold, nothing there says.
            return Ok(false);
        };
        let written = match codes {
            None => Some(name),
            Some(codes) => codes.iter().find(|(_, code)| *code == name).map(|(label, _)| &**label),
        };
        let choices = client.choices(&table.table, column).await?;
        Ok(written.is_some_and(|written| {
            choices.is_none_or(|choices| choices.iter().any(|choice| choice == written))
        }))
    }
}

impl OtherChoices for Choices {
    fn take<'a>(
        &'a self,
        entity: EntityNo,
        field: FieldNo,
        name: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<bool, anyhow::Error>> + Send + 'a>> {
        Box::pin(self.takes(entity, field, name))
    }
}

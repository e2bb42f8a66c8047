//! What pushes to Directus have to know of its keys, and the keys that no run begins with.

use std::{future::Future, pin::Pin, sync::Arc};

use anyhow::bail;
use tracing::{debug, warn};
use uuid::Uuid;

use crate::{capture::directus, mapping::Mapping, model::EntityNo, push::directus::Tries};

/// Ends a run before anything is copied where a key of the mapping does not tell rows apart. A source that does not
/// answer is no reason: its capture looks again when it does.
pub(super) async fn refuse_unfit(
    source: &directus::SourceSettings,
    mapping: &Mapping,
) -> anyhow::Result<()> {
    match directus::unfit_keys(source, mapping).await {
        Ok(unfit) if unfit.is_empty() => Ok(()),
        Ok(unfit) => bail!("{}", unfit.join("\n")),
        Err(error) => {
            debug!(error = error.chain(), "the keys of the source could not be looked at yet");
            Ok(())
        }
    }
}

/// The capture's look at tries without an answer, as a push asks for it.
pub(super) struct AskTries(pub(super) Arc<directus::Tries>);

impl Tries for AskTries {
    fn is_new(&self, operation: Uuid) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(self.0.is_new(operation))
    }

    fn is_over(
        &self,
        operation: Uuid,
        entity: EntityNo,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(async move {
            self.0.is_over(operation, entity).await.unwrap_or_else(|error| {
                warn!(
                    error = error.chain(),
                    "could not see what became of a create without an answer"
                );
                false
            })
        })
    }
}

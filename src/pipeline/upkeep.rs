//! What the sides fill by themselves, for `apply`: Airtable's fields as its captures have looked them up, Directus's as
//! its schema says.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::places::Base;
use crate::{
    apply::UpkeepNews,
    capture::airtable::Identity,
    mapping::{Mapping, Upkeep},
    model::{EntityNo, FieldNo, Side},
    push, remote,
};

/// Between two looks at Directus's schema, and after one that failed.
const LOOK_EVERY: Duration = Duration::from_hours(1);
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Fields that Directus fills.
pub(super) type OfDirectus = Vec<(EntityNo, FieldNo)>;

/// The news for `apply`. A base's identity is published before anything that rests on it is delivered.
pub(super) fn news(
    mapping: Arc<Mapping>,
    mut bases: Vec<Base>,
    mut directus: watch::Receiver<OfDirectus>,
) -> UpkeepNews {
    let mut is_first = true;
    Box::new(move || {
        let has_moved = bases.iter().any(|base| base.identity.has_changed().unwrap_or(false))
            || directus.has_changed().unwrap_or(false);
        if !std::mem::replace(&mut is_first, false) && !has_moved {
            return None;
        }
        let mut upkeep = Upkeep::new();
        for base in &mut bases {
            let identity = base.identity.borrow_and_update();
            let Some(identity) = identity.as_ref().and_then(Identity::read) else { continue };
            for table in identity.plan(&mapping, &base.name).tables {
                upkeep.extend(table.computed().map(|no| (table.entity, no, Side::Airtable)));
            }
        }
        let of_directus = directus.borrow_and_update();
        upkeep.extend(of_directus.iter().map(|(entity, no)| (*entity, *no, Side::Directus)));
        Some(upkeep)
    })
}

/// Looks at Directus's schema now and then, until `stop`.
pub(super) async fn keep_looking(
    client: Arc<remote::directus::Client>,
    mapping: Arc<Mapping>,
    told: watch::Sender<OfDirectus>,
    stop: CancellationToken,
) {
    loop {
        let pause = match push::directus::filled(&client, &mapping).await {
            Ok(filled) => {
                let fields: OfDirectus = filled.iter().map(|it| (it.entity, it.field)).collect();
                let is_news = told.send_if_modified(|known| {
                    let is_news = *known != fields;
                    known.clone_from(&fields);
                    is_news
                });
                if is_news {
                    info!(field_count = fields.len(), "directus fills fields by itself");
                }
                LOOK_EVERY
            }
            Err(error) => {
                debug!(error = %error.chain(), "could not look at directus's fields");
                LOOK_AGAIN
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(pause) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mapping::read;

    const MAPPING: &str = r#"
        version = 1
        [entity.startup]
        table = "startup"
        airtable = { base = "reseau", table = "Startups", uuid = "UUID" }
        directus = { table = "startup" }
        [entity.startup.field]
        name = { type = "text", airtable = "Nom", directus = "name" }
        label = { type = "text", airtable = "Libellé", direction = "from airtable" }
        updated = { type = "datetime", directus = "date_updated", direction = "from directus" }
    "#;

    #[test]
    fn upkeep_is_told_when_a_schema_was_looked_up_and_then_only_where_it_is_another() {
        let mapping = Arc::new(read(MAPPING, "mapping.toml").unwrap());
        let (published, identity) = watch::channel(None);
        let (told, directus) = watch::channel(OfDirectus::new());
        let base = Base { name: "reseau".into(), id: "appOne".into(), identity };
        let mut news = news(mapping, vec![base], directus);
        assert_eq!(news(), Some(Upkeep::new()));
        assert_eq!(news(), None);
        let field = |id: &str, kind: &str| json!({ "id": id, "kind": kind });
        published.send_replace(Some(json!({ "webhook": "achOne", "resolved": { "tables": {
            "startup": { "given": "Startups", "id": "tblOne", "fields": {
                "Nom": field("fldName", "singleLineText"),
                "Libellé": field("fldLabel", "formula"),
                "UUID": field("fldId", "singleLineText"),
            } }
        } } })));
        let label = (EntityNo(0), FieldNo(1), Side::Airtable);
        assert_eq!(news(), Some(Upkeep::from([label])));
        assert_eq!(news(), None);
        told.send_replace(vec![(EntityNo(0), FieldNo(2))]);
        let updated = (EntityNo(0), FieldNo(2), Side::Directus);
        assert_eq!(news(), Some(Upkeep::from([label, updated])));
    }
}

//! Where Airtable's records are written: as the captures have looked it up, so that a rename does no harm and what
//! was deleted or retyped there is left alone.

use std::sync::Arc;

use serde_json::Value as Json;
use tokio::sync::watch;

use crate::{
    capture::airtable::Identity,
    mapping::Mapping,
    model::EntityNo,
    push::airtable::{Place, Places},
};

/// A base that is captured.
#[derive(Clone)]
pub(super) struct Base {
    /// As the mapping calls it.
    pub(super) name: String,
    /// `app…`
    pub(super) id: String,
    /// What its capture publishes of itself: [`Identity`].
    pub(super) identity: watch::Receiver<Option<Json>>,
}

/// The look-up for pushes.
pub(super) fn places(mapping: Arc<Mapping>, bases: Vec<Base>) -> Places {
    Arc::new(move |entity| place(&mapping, &bases, entity))
}

fn place(mapping: &Mapping, bases: &[Base], entity: EntityNo) -> Option<Place> {
    let mapped = mapping.entity(entity).airtable.as_ref()?;
    let base = bases.iter().find(|base| base.name == mapped.base)?;
    let identity = Identity::read(base.identity.borrow().as_ref()?)?;
    let plan = identity.plan(mapping, &base.name);
    let table = plan.tables.into_iter().find(|table| table.entity == entity)?;
    Some(Place {
        base: base.id.clone(),
        table: table.table.clone(),
        uuid: table.uuid.clone(),
        fields: table.fields.clone(),
        presets: table.presets(),
        labels: table.into_labels(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::{mapping::read, model::FieldNo};

    const MAPPING: &str = r#"
        version = 1
        [entity.startup]
        table = "startup"
        airtable = { base = "reseau", table = "Startups", uuid = "UUID" }
        [entity.startup.field]
        name = { type = "text", airtable = "Nom" }
        city = { type = "text", airtable = "Ville" }
    "#;

    #[test]
    fn places_follow_what_the_capture_knows() {
        let mapping = Arc::new(read(MAPPING, "mapping.toml").unwrap());
        let (published, identity) = watch::channel(None);
        let base = Base { name: "reseau".into(), id: "appOne".into(), identity };
        let places = places(mapping, vec![base]);
        assert_eq!(places(EntityNo(0)), None);
        let mut known = json!({ "webhook": "achOne", "resolved": { "tables": { "startup": {
            "given": "Startups", "id": "tblOne", "fields": {
                "Nom": { "id": "fldOne", "kind": "singleLineText" },
                "Ville": { "id": "fldTwo", "kind": "singleLineText" },
                "UUID": { "id": "fldId", "kind": "singleLineText" } } } } } });
        published.send_replace(Some(known.clone()));
        let mut expected = Place {
            base: "appOne".into(),
            table: "tblOne".into(),
            uuid: Some("fldId".into()),
            fields: vec![(FieldNo(0), "fldOne".into()), (FieldNo(1), "fldTwo".into())],
            labels: BTreeMap::new(),
            presets: Vec::new(),
        };
        assert_eq!(places(EntityNo(0)), Some(expected.clone()));
        known["resolved"]["tables"]["startup"]["fields"]["Ville"]["suspended"] = true.into();
        published.send_replace(Some(known));
        expected.fields.pop();
        assert_eq!(places(EntityNo(0)), Some(expected));
    }
}

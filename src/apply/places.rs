//! Where the mapping's fields are in Airtable, by the ids that the capture has looked up: one that is under another id than
//! the one whose values were read has no common past with what is read there. Said before anything of it is folded.

use super::{Apply, Error};
use crate::{
    mapping::Mapping,
    model::{EntityNo, Side},
    store::{SideIds, WHOLE_RECORD},
};

impl Apply {
    /// Compares the ids where a capture has looked them up since the last time. Costs nothing otherwise.
    pub(super) async fn look_at_places(&mut self) -> Result<(), Error> {
        let mut ids = SideIds::new();
        let has_changed =
            |log: &super::Log| log.side == Side::Airtable && log.identity.borrow().has_changed();
        // In the midst of a large transaction the places are as they were at its beginning.
        if self.large.is_some() || !self.logs.iter().any(has_changed) {
            return Ok(());
        }
        for log in self.logs.iter_mut().filter(|log| log.side == Side::Airtable) {
            if let Some(identity) = &*log.identity.borrow_and_update() {
                ids.extend(ids_of(&self.mapping, identity));
            }
        }
        drop(self.settle().await?);
        Ok(self.writer.compare_ids(&ids).await?)
    }
}

/// The ids in the identity that the capture of a base publishes (`capture::airtable::Identity`).
fn ids_of(mapping: &Mapping, identity: &serde_json::Value) -> SideIds {
    let mut ids = SideIds::new();
    let tables = &identity["resolved"]["tables"];
    for (no, entity) in (0..).map(EntityNo).zip(&mapping.entities) {
        let table = &tables[&entity.name];
        // Looked up under another name of the table: not for this mapping.
        let is_this = entity.airtable.as_ref().is_some_and(|it| table["given"] == *it.table);
        let Some(id) = table["id"].as_str().filter(|_| is_this) else { continue };
        ids.insert((no, WHOLE_RECORD.to_owned()), id.to_owned());
        for field in &entity.fields {
            let Some(airtable) = &field.airtable else { continue };
            if let Some(id) = table["fields"][&airtable.field]["id"].as_str() {
                ids.insert((no, field.name.clone()), id.to_owned());
            }
        }
    }
    ids
}

//! The passwords of new members: from the Airtable record to the request that makes the user, read at that moment.
//! They are never stored, logged or put in a journal, and live in a [`Secret`] between the two requests.

use std::{collections::HashMap, future::Future, pin::Pin, sync::Arc, time::Duration};

use serde_json::{Map, Value as Json};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};
use tracing::debug;

use super::airtable::{Place, Places};
use crate::{
    config::Secret,
    mapping::{Mapping, Password},
    model::{EntityNo, RecordId, Side},
    remote::airtable::{Client, Error, RecordUpdate},
    store::Books,
};

/// Clearing a cell is tried so often; afterwards a person has to do it.
const CLEAR_TRY_COUNT_MAX: u32 = 4;
/// A field's id serves for this long: a rename does it no harm.
const FIELD_AGE_MAX: Duration = Duration::from_mins(1);
const CLEAR_PAUSE: Duration = Duration::from_secs(2);

/// Why there is no password now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Airtable does not answer, or was not looked at yet.
    Unreachable,
    /// Its table has no such field any more.
    FieldGone,
    /// The cell holds something that is no text.
    NoText,
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where passwords of new users come from.
pub(crate) trait Passwords: Send + Sync {
    /// The password for this record's user; `None`: it has none.
    fn read(
        &self,
        entity: EntityNo,
        record: RecordId,
    ) -> Answer<'_, Result<Option<Secret>, Missing>>;

    /// Empties the cell that it was in; `false`: that could not be done.
    fn clear(&self, entity: EntityNo, record: RecordId) -> Answer<'_, bool>;
}

/// Passwords in the fields of Airtable that the mapping names.
pub(crate) struct AirtablePasswords {
    client: Arc<Client>,
    mapping: Arc<Mapping>,
    places: Places,
    books: Books,
    /// By table: when it was looked up, and the id of the field.
    fields: Mutex<HashMap<String, (Instant, String)>>,
}

/// A record's cell.
struct Cell {
    place: Place,
    /// `fld…`
    field: String,
    /// `rec…`
    key: String,
}

impl AirtablePasswords {
    pub(crate) fn new(
        client: Arc<Client>,
        mapping: Arc<Mapping>,
        places: Places,
        books: Books,
    ) -> Self {
        Self { client, mapping, places, books, fields: Mutex::default() }
    }

    /// Where the password of this record is; `None`: it is not in Airtable.
    async fn cell(&self, entity: EntityNo, record: RecordId) -> Result<Option<Cell>, Missing> {
        let Some(Password { airtable: name, .. }) = &self.mapping.entity(entity).password else {
            return Ok(None);
        };
        let targets = self.books.targets(Side::Airtable, entity, &[record.0]).await;
        let mut targets = targets.map_err(|error| {
            debug!(%record, %error, "could not look up the record in airtable");
            Missing::Unreachable
        })?;
        let target = targets.remove(&record.0).filter(|target| target.is_there);
        let Some(key) = target.and_then(|target| target.key) else { return Ok(None) };
        let place = (self.places)(entity).ok_or(Missing::Unreachable)?;
        let field = self.field(&place, name).await?;
        Ok(Some(Cell { place, field, key: key.to_string() }))
    }

    /// The id of the field with this name or id, looked up once a minute.
    async fn field(&self, place: &Place, name: &str) -> Result<String, Missing> {
        let mut fields = self.fields.lock().await;
        if let Some((looked_up_at, id)) = fields.get(&place.table)
            && looked_up_at.elapsed() < FIELD_AGE_MAX
        {
            return Ok(id.clone());
        }
        let tables = self.client.tables(&place.base).await.map_err(unreachable)?;
        let table = tables.into_iter().find(|table| table.id == place.table);
        let found = table.and_then(|table| {
            table.fields.into_iter().find(|field| field.id == name || field.name == name)
        });
        let id = found.ok_or(Missing::FieldGone)?.id;
        fields.insert(place.table.clone(), (Instant::now(), id.clone()));
        Ok(id)
    }

    async fn fetch(&self, entity: EntityNo, record: RecordId) -> Result<Option<Secret>, Missing> {
        let Some(Cell { place, field, key }) = self.cell(entity, record).await? else {
            return Ok(None);
        };
        let found = self.client.get_record(&place.base, &place.table, &key).await;
        let Some(mut found) = found.map_err(unreachable)? else { return Ok(None) };
        match found.fields.remove(&field) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::String(text)) => {
                let text = text.trim();
                Ok((!text.is_empty()).then(|| Secret::new(text.to_owned())))
            }
            Some(_) => Err(Missing::NoText),
        }
    }

    async fn empty(&self, entity: EntityNo, record: RecordId) -> bool {
        for try_count in 1..=CLEAR_TRY_COUNT_MAX {
            match self.try_to_empty(entity, record).await {
                Ok(()) => return true,
                Err(problem) => debug!(%record, try_count, problem, "could not clear a password"),
            }
            if try_count < CLEAR_TRY_COUNT_MAX {
                sleep(CLEAR_PAUSE).await;
            }
        }
        false
    }

    async fn try_to_empty(&self, entity: EntityNo, record: RecordId) -> Result<(), String> {
        let cell = self.cell(entity, record).await.map_err(|missing| format!("{missing:?}"))?;
        let Some(Cell { place, field, key }) = cell else { return Ok(()) };
        let fields = Map::from_iter([(field, Json::Null)]);
        let update = RecordUpdate { id: Some(key), fields };
        let sent = self.client.update_records(&place.base, &place.table, &[update]).await;
        sent.map(drop).map_err(|error| error.chain())
    }
}

impl Passwords for AirtablePasswords {
    fn read(
        &self,
        entity: EntityNo,
        record: RecordId,
    ) -> Answer<'_, Result<Option<Secret>, Missing>> {
        Box::pin(self.fetch(entity, record))
    }

    fn clear(&self, entity: EntityNo, record: RecordId) -> Answer<'_, bool> {
        Box::pin(self.empty(entity, record))
    }
}

fn unreachable(error: Error) -> Missing {
    debug!(error = %error.chain(), "could not read a password");
    Missing::Unreachable
}

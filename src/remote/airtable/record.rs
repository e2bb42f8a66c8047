//! Records: lists, single ones, and writes of at most ten.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Call, Class, Client, Error, Kind, segment};

/// Records in one page of a list.
pub(crate) const PAGE_RECORD_COUNT_MAX: usize = 100;
/// Longer addresses are refused (16,000 characters); from here on the query goes into a body.
const URL_LENGTH_MAX: usize = 15_000;
/// `&fields%5B%5D=` before each field's id.
const FIELD_QUERY_LENGTH: usize = 14;

/// A record as the REST endpoints show it, its cells by field id; empty ones are absent.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Record {
    /// `rec…`
    pub(crate) id: String,
    #[serde(default, rename = "createdTime")]
    pub(crate) created_time: Option<String>,
    #[serde(default)]
    pub(crate) fields: Map<String, Value>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Page {
    pub(crate) records: Vec<Record>,
    /// Where the list goes on; `None`: nowhere.
    #[serde(default)]
    pub(crate) offset: Option<String>,
}

/// A record to be created.
#[cfg(test)]
#[derive(Clone, Debug, Serialize)]
pub(crate) struct NewRecord {
    pub(crate) fields: Map<String, Value>,
}

/// Cells to be set in a record; the others stay.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RecordUpdate {
    /// `None` in an upsert: found by the merge fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    pub(crate) fields: Map<String, Value>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Upserted {
    /// In the order of the request.
    pub(crate) records: Vec<Record>,
    #[cfg(test)]
    #[serde(default, rename = "createdRecords")]
    pub(crate) created: Vec<String>,
    #[cfg(test)]
    #[serde(default, rename = "updatedRecords")]
    pub(crate) updated: Vec<String>,
}

#[derive(Deserialize)]
struct Records {
    records: Vec<Record>,
}

#[derive(Deserialize)]
struct Deleted {
    records: Vec<DeletedRecord>,
}

#[derive(Deserialize)]
struct DeletedRecord {
    id: String,
    #[serde(default)]
    deleted: bool,
}

impl Client {
    /// One page of all records of a table, with these fields (ids; none: all), in the server's order. Fewer records
    /// where a whole page is too large to be held.
    ///
    /// # Errors
    /// [`Error::IteratorLost`]: begin again without an offset. [`Error::TooLarge`]: the first record alone is.
    pub(crate) async fn list_records(
        &self,
        base: &str,
        table: &str,
        fields: &[String],
        offset: Option<&str>,
    ) -> Result<Page, Error> {
        let offset_there = offset.map(|offset| ("offset", offset.to_owned()));
        self.list_page(base, table, fields, offset_there).await
    }

    /// Those of these records (`rec…`, at most [`PAGE_RECORD_COUNT_MAX`]) that the table has, with these fields.
    ///
    /// # Errors
    /// [`Error::Malformed`] from a server that does not heed what it was asked for.
    pub(crate) async fn records_by_id(
        &self,
        base: &str,
        table: &str,
        fields: &[String],
        ids: &[&str],
    ) -> Result<Vec<Record>, Error> {
        // An id is `rec` with letters and digits; what is none can't be there.
        let is_id = |id: &&&str| id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let terms: Vec<String> =
            ids.iter().filter(is_id).map(|id| format!("RECORD_ID()='{id}'")).collect();
        if terms.is_empty() {
            return Ok(Vec::new());
        }
        let filter = ("filterByFormula", format!("OR({})", terms.join(",")));
        let page = self.list_page(base, table, fields, Some(filter)).await?;
        if page.offset.is_some() || page.records.iter().any(|it| !ids.contains(&it.id.as_str())) {
            let call = format!("GET /v0/{base}/{table}");
            let problem = String::from("records came that were not asked for");
            return Err(Error::Malformed { call, problem });
        }
        Ok(page.records)
    }

    /// A page of a list, with one more parameter if there is one.
    async fn list_page(
        &self,
        base: &str,
        table: &str,
        fields: &[String],
        more: Option<(&'static str, String)>,
    ) -> Result<Page, Error> {
        let path = format!("/v0/{}/{}", segment(base), segment(table));
        // In a query most signs of a formula are written as three.
        let length = path.len()
            + fields.iter().map(|field| field.len() + FIELD_QUERY_LENGTH).sum::<usize>()
            + more.as_ref().map_or(0, |(_, value)| value.len() * 3);
        let offset = more.as_ref().filter(|(name, _)| *name == "offset").map(|(_, it)| it.clone());
        let offset = offset.as_deref();
        let mut record_count_max = PAGE_RECORD_COUNT_MAX;
        let (name, page): (_, Page) = loop {
            let call = if length < URL_LENGTH_MAX {
                let mut call = Call::get(path.clone(), Some(base), Kind::List);
                call.query.push(("pageSize", record_count_max.to_string()));
                call.query.push(("returnFieldsByFieldId", "true".into()));
                call.query.extend(fields.iter().map(|field| ("fields[]", field.clone())));
                call.query.extend(more.clone());
                call
            } else {
                let mut body = json!({
                    "pageSize": record_count_max,
                    "returnFieldsByFieldId": true,
                    "fields": fields,
                });
                if let Some((name, value)) = &more {
                    body[*name] = value.as_str().into();
                }
                let path = format!("{path}/listRecords");
                let mut call = Call::with_body(Method::POST, path, base, body);
                call.kind = Kind::List;
                call
            };
            let name = call.name();
            match self.call(call).await {
                Err(Error::TooLarge { .. }) if record_count_max > 1 => record_count_max /= 2,
                page => break (name, page?),
            }
        };
        if page.records.len() > PAGE_RECORD_COUNT_MAX {
            let problem = format!("{} records in a page", page.records.len());
            return Err(Error::Malformed { call: name, problem });
        }
        // A server that gives the same place again would be listed for ever.
        if offset.is_some() && page.offset.as_deref() == offset {
            return Err(Error::IteratorLost { call: name });
        }
        Ok(Page { offset: page.offset.filter(|offset| !offset.is_empty()), ..page })
    }

    /// The records of a table whose field `field` (id) holds exactly this text, at most a page of them.
    pub(crate) async fn find_records(
        &self,
        base: &str,
        table: &str,
        field: &str,
        text: &str,
    ) -> Result<Vec<Record>, Error> {
        let path = format!("/v0/{}/{}", segment(base), segment(table));
        let mut call = Call::get(path, Some(base), Kind::List);
        call.class = Class::Push;
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        call.query.push(("filterByFormula", format!("{{{field}}}=\"{quoted}\"")));
        call.query.push(("pageSize", PAGE_RECORD_COUNT_MAX.to_string()));
        call.query.push(("returnFieldsByFieldId", "true".into()));
        call.query.push(("fields[]", field.to_owned()));
        let page: Page = self.call(call).await?;
        Ok(page.records)
    }

    /// One record, with all its cells; `None` if the server says that there is none of this id.
    pub(crate) async fn get_record(
        &self,
        base: &str,
        table: &str,
        record: &str,
    ) -> Result<Option<Record>, Error> {
        let path = format!("/v0/{}/{}/{}", segment(base), segment(table), segment(record));
        let mut call = Call::get(path, Some(base), Kind::Record);
        call.query.push(("returnFieldsByFieldId", "true".into()));
        match self.call(call).await {
            Ok(record) => Ok(Some(record)),
            // Any other "not found" is about the base or the table.
            Err(Error::NotFound { kind, .. }) if kind == "MODEL_ID_NOT_FOUND" => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates at most ten records, all or none. What became of it after [`Error::TimedOut`] and the like
    /// is unknown: pushes upsert.
    #[cfg(test)]
    pub(crate) async fn create_records(
        &self,
        base: &str,
        table: &str,
        records: &[NewRecord],
    ) -> Result<Vec<Record>, Error> {
        let body = json!({ "records": records, "returnFieldsByFieldId": true });
        let answer: Records = self.write(Method::POST, base, table, body).await?;
        Ok(answer.records)
    }

    /// Sets cells of at most ten records, all or none.
    pub(crate) async fn update_records(
        &self,
        base: &str,
        table: &str,
        records: &[RecordUpdate],
    ) -> Result<Vec<Record>, Error> {
        let body = json!({ "records": records, "returnFieldsByFieldId": true });
        let answer: Records = self.write(Method::PATCH, base, table, body).await?;
        Ok(answer.records)
    }

    /// As [`Self::update_records`], and makes the options of selects that are not there yet. Airtable calls that
    /// `typecast`, and would bend every other cell of the request too: it must hold cells of such selects only.
    pub(crate) async fn update_with_new_options(
        &self,
        base: &str,
        table: &str,
        records: &[RecordUpdate],
    ) -> Result<Vec<Record>, Error> {
        let body = json!({ "records": records, "returnFieldsByFieldId": true, "typecast": true });
        let answer: Records = self.write(Method::PATCH, base, table, body).await?;
        Ok(answer.records)
    }

    /// Whether the token may write records there: asked with an update that can change nothing, of a record that
    /// cannot exist.
    ///
    /// # Errors
    /// [`Error::Forbidden`]: it may not.
    pub(crate) async fn try_writing(&self, base: &str, table: &str) -> Result<(), Error> {
        let nobody =
            RecordUpdate { id: Some(String::from("rec00000000000000")), fields: Map::new() };
        match self.update_records(base, table, &[nobody]).await {
            Ok(_) | Err(Error::Refused { .. } | Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Updates the records that have the same values in `merge_on` (1 to 3 field ids), creates the others.
    pub(crate) async fn upsert_records(
        &self,
        base: &str,
        table: &str,
        merge_on: &[String],
        records: &[RecordUpdate],
    ) -> Result<Upserted, Error> {
        let body = json!({
            "performUpsert": { "fieldsToMergeOn": merge_on },
            "records": records,
            "returnFieldsByFieldId": true,
        });
        self.write(Method::PATCH, base, table, body).await
    }

    /// Deletes at most ten records, all or none; gives the ids that the server says are gone.
    pub(crate) async fn delete_records(
        &self,
        base: &str,
        table: &str,
        records: &[String],
    ) -> Result<Vec<String>, Error> {
        let path = format!("/v0/{}/{}", segment(base), segment(table));
        let mut call = Call::get(path, Some(base), Kind::Write);
        call.method = Method::DELETE;
        call.class = Class::Push;
        call.query.extend(records.iter().map(|record| ("records[]", record.clone())));
        let answer: Deleted = self.call(call).await?;
        Ok(answer.records.into_iter().filter(|record| record.deleted).map(|r| r.id).collect())
    }

    async fn write<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        base: &str,
        table: &str,
        body: Value,
    ) -> Result<T, Error> {
        let path = format!("/v0/{}/{}", segment(base), segment(table));
        let mut call = Call::with_body(method, path, base, body);
        call.class = Class::Push;
        self.call(call).await
    }
}

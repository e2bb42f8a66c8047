//! Reading records: listings with their pages, single records, and what is in a view.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::cell::Look;
use super::clock::iso_seconds;
use super::formula;
use super::ids::is_id;
use super::model::{Listing, Record, State, Table, is_empty, strings};
use super::reply::{
    Answer, error, error_without_message, forbidden_or_unknown, invalid_request, record_not_found,
    unknown_field,
};
use super::text::{Reader, text_for};
use super::transaction::Transaction;

const PAGE_SIZE_MAX: usize = 100;

/// How records are to be shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape {
    pub(super) is_keyed_by_id: bool,
    /// Cells as text, for this reader.
    pub(super) reader: Option<Reader>,
    pub(super) has_comment_count: bool,
    pub(super) has_date_dependency: bool,
    pub(super) field_ids: Option<Vec<String>>,
}

/// What a listing asks for.
#[derive(Clone, Debug, Default)]
struct Question {
    shape: Shape,
    page_size: usize,
    record_max: Option<usize>,
    offset: Option<String>,
    view: Option<String>,
    sort: Vec<(String, bool)>,
    filter: Option<String>,
}

/// Query parameters, with `name[]`, `name[0]` and `name` alike.
fn all<'a>(query: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    query
        .iter()
        .filter(|(key, _)| {
            key == name
                || key
                    .strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with('[') && rest.ends_with(']'))
        })
        .map(|(_, value)| value.as_str())
        .collect()
}

fn one<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

pub(super) fn flag(text: Option<&str>) -> bool {
    matches!(text, Some("true" | "1"))
}

const LIST_KEYS: [&str; 11] = [
    "pageSize",
    "maxRecords",
    "offset",
    "view",
    "sort",
    "filterByFormula",
    "fields",
    "cellFormat",
    "returnFieldsByFieldId",
    "recordMetadata",
    "includeDateDependencyMetadata",
];

impl Question {
    fn from_query(query: &[(String, String)]) -> Answer<Self> {
        let number = |name: &str| {
            one(query, name)
                .map(|text| text.parse::<usize>().map_err(|_| invalid_request()))
                .transpose()
        };
        for (key, _) in query {
            let name = key.split('[').next().unwrap_or_default();
            if !LIST_KEYS.contains(&name)
                && !["timeZone", "userLocale", "api_key"].contains(&name)
                && !name.is_empty()
            {
                return Err(invalid_request());
            }
        }
        let mut sort = Vec::new();
        for index in 0.. {
            let Some(field) = one(query, &format!("sort[{index}][field]")) else { break };
            let direction = one(query, &format!("sort[{index}][direction]")).unwrap_or("asc");
            sort.push((field.to_owned(), direction_of(direction)?));
        }
        let mut question = Self {
            page_size: number("pageSize")?.unwrap_or(PAGE_SIZE_MAX),
            record_max: number("maxRecords")?,
            offset: one(query, "offset").map(str::to_owned),
            view: one(query, "view").map(str::to_owned),
            sort,
            filter: one(query, "filterByFormula").map(str::to_owned),
            shape: Shape::from_query(query)?,
        };
        let names = all(query, "fields");
        question.shape.field_ids =
            (!names.is_empty()).then(|| names.into_iter().map(str::to_owned).collect());
        Ok(question)
    }

    /// From the body of `POST …/listRecords`; `timeZone` and `userLocale` count in the query only.
    fn from_body(body: &Value, query: &[(String, String)]) -> Answer<Self> {
        let map = body.as_object().ok_or_else(invalid_request)?;
        // airtable.js leaves these three in the body; the last two count in the query only.
        let passed_over = ["method", "timeZone", "userLocale"];
        let is_known = |key: &str| LIST_KEYS.contains(&key) || passed_over.contains(&key);
        if map.keys().any(|key| !is_known(key)) {
            return Err(invalid_request());
        }
        let number = |name: &str| match &body[name] {
            Value::Null => Ok(None),
            Value::String(text) => text.parse().map(Some).map_err(|_| invalid_request()),
            value => value
                .as_u64()
                .and_then(|n| usize::try_from(n).ok())
                .map(Some)
                .ok_or_else(invalid_request),
        };
        let text = |name: &str| body[name].as_str().map(str::to_owned);
        let mut sort = Vec::new();
        for item in body["sort"].as_array().into_iter().flatten() {
            let field = item["field"].as_str().ok_or_else(invalid_request)?;
            sort.push((
                field.to_owned(),
                direction_of(item["direction"].as_str().unwrap_or("asc"))?,
            ));
        }
        let is_set =
            |name: &str| body[name] == true || body[name] == 1 || flag(body[name].as_str());
        let fields = match &body["fields"] {
            Value::Null => None,
            Value::String(name) => Some(vec![name.clone()]),
            list => Some(strings(list)),
        };
        Ok(Self {
            shape: Shape {
                is_keyed_by_id: is_set("returnFieldsByFieldId"),
                reader: reader_of(body["cellFormat"].as_str(), query)?,
                has_comment_count: strings(&body["recordMetadata"])
                    .iter()
                    .any(|name| name == "commentCount"),
                has_date_dependency: is_set("includeDateDependencyMetadata"),
                field_ids: fields.filter(|fields| !fields.is_empty()),
            },
            page_size: number("pageSize")?.unwrap_or(PAGE_SIZE_MAX),
            record_max: number("maxRecords")?,
            offset: text("offset"),
            view: text("view"),
            sort,
            filter: text("filterByFormula"),
        })
    }
}

fn direction_of(text: &str) -> Answer<bool> {
    match text {
        "asc" => Ok(false),
        "desc" => Ok(true),
        _ => Err(invalid_request()),
    }
}

/// For whom cells are asked for as text, which needs a time zone and a locale; none: as JSON.
fn reader_of(format: Option<&str>, query: &[(String, String)]) -> Answer<Option<Reader>> {
    match (format, one(query, "timeZone"), one(query, "userLocale")) {
        (None | Some("json"), ..) => Ok(None),
        (Some("string"), Some(zone), Some(locale)) => {
            Reader::new(zone, locale).map(Some).ok_or_else(invalid_request)
        }
        _ => Err(invalid_request()),
    }
}

impl Shape {
    pub(super) fn from_query(query: &[(String, String)]) -> Answer<Self> {
        Ok(Self {
            is_keyed_by_id: flag(one(query, "returnFieldsByFieldId")),
            reader: reader_of(one(query, "cellFormat"), query)?,
            has_comment_count: all(query, "recordMetadata").contains(&"commentCount"),
            has_date_dependency: flag(one(query, "includeDateDependencyMetadata")),
            field_ids: None,
        })
    }
}

/// A record as the record endpoints show it.
pub(super) fn show(look: &Look<'_>, table: &Table, record: &Record, shape: &Shape) -> Value {
    let wanted = shape.field_ids.as_deref();
    let mut fields = look.rest_fields(table, record, wanted, shape.is_keyed_by_id);
    let is_other = shape.reader.is_some() || shape.has_date_dependency;
    for field in table.fields.iter().filter(|_| is_other) {
        let key = if shape.is_keyed_by_id { &field.id } else { &field.name };
        let Some(shown) = fields.get_mut(key) else { continue };
        if let Some(reader) = &shape.reader {
            let stored = record.injected.get(&field.id).or_else(|| record.cells.get(&field.id));
            *shown = json!(text_for(look, field, stored.unwrap_or(&Value::Null), reader));
        } else if field.is_link() {
            *shown = strings(shown).into_iter().map(|id| json!({ "id": id })).collect();
        }
    }
    let mut shown =
        json!({ "id": record.id, "createdTime": iso_seconds(record.created_ms), "fields": fields });
    if shape.has_comment_count {
        shown["commentCount"] = json!(record.comments.len());
    }
    shown
}

impl State {
    pub(super) fn look(&self, base_id: &str, now_ms: i64) -> Answer<Look<'_>> {
        let base = self.world.bases.get(base_id).ok_or_else(forbidden_or_unknown)?;
        Ok(Look { base, users: &self.world.users, url: &self.url, now_ms })
    }

    pub(super) fn table_index(&self, base_id: &str, table: &str) -> Answer<usize> {
        let base = self.world.bases.get(base_id).ok_or_else(forbidden_or_unknown)?;
        base.table_index(table).ok_or_else(|| {
            if self.config.unknown_table_is_404 {
                error(
                    404,
                    "TABLE_NOT_FOUND",
                    &format!("Could not find table {table} in application {base_id}"),
                )
            } else {
                forbidden_or_unknown()
            }
        })
    }

    /// One page of a listing; `body` is that of the POST form.
    pub(super) fn list(
        &mut self,
        base_id: &str,
        table: &str,
        query: &[(String, String)],
        body: Option<&Value>,
        now_ms: i64,
    ) -> Answer<Value> {
        let mut question = match body {
            Some(body) => Question::from_body(body, query)?,
            None => Question::from_query(query)?,
        };
        let index = self.table_index(base_id, table)?;
        let look = self.look(base_id, now_ms)?;
        let table = &look.base.tables[index];
        if question.page_size > PAGE_SIZE_MAX && !self.config.page_size_over_max_is_refused {
            question.page_size = PAGE_SIZE_MAX;
        }
        if question.page_size == 0
            || question.page_size > PAGE_SIZE_MAX
            || question.record_max == Some(0)
        {
            return Err(invalid_request());
        }
        if let Some(names) = question.shape.field_ids.take() {
            let ids = names.iter().map(|name| {
                table.field(name).map(|field| field.id.clone()).ok_or_else(|| unknown_field(name))
            });
            question.shape.field_ids = Some(ids.collect::<Answer<_>>()?);
        }
        let filter = match question.filter.as_deref().filter(|text| !text.is_empty()) {
            None => None,
            Some(text) => Some(formula::read_filter(table, text).map_err(|why| {
                let text = format!("The formula for filtering records is invalid: {why}");
                error(422, "INVALID_FILTER_BY_FORMULA", &text)
            })?),
        };
        let is_by_id = question.sort.is_empty() && question.view.is_none();
        let offset = question.offset.as_deref().filter(|offset| !offset.is_empty());
        let (iterator, last, mut listing) = match offset {
            None => {
                let order = if is_by_id { None } else { Some(order_of(&look, table, &question)?) };
                (None, None, Listing { used_ms: now_ms, order, given: BTreeMap::new() })
            }
            Some(offset) => {
                let halves = offset
                    .split_once('/')
                    .filter(|(iterator, last)| is_id(iterator, "itr") && is_id(last, "rec"));
                let Some((iterator, last)) = halves else {
                    let text = format!("The value of offset {offset} is invalid");
                    return Err(error(422, "INVALID_OFFSET_VALUE", &text));
                };
                let known = self.listings.get(iterator).filter(|known| {
                    known.used_ms + self.config.listing_idle_ms > now_ms
                        && known.given.contains_key(last)
                });
                let Some(known) = known else {
                    return Err(error_without_message(422, "LIST_RECORDS_ITERATOR_NOT_AVAILABLE"));
                };
                (Some(iterator.to_owned()), Some(last.to_owned()), known.clone())
            }
        };
        let given_count =
            last.as_ref().and_then(|last| listing.given.get(last)).copied().unwrap_or(0);
        let room = question.record_max.map_or(question.page_size, |max| {
            question.page_size.min(max.saturating_sub(given_count))
        });
        // One more than the page holds tells whether there is another.
        let mut found: Vec<&Record> = match (&listing.order, &last) {
            (None, None) => pass(&look, table, table.records.values(), filter.as_ref(), room + 1),
            (None, Some(last)) => {
                let after = (std::ops::Bound::Excluded(last.clone()), std::ops::Bound::Unbounded);
                let rest = table.records.range::<String, _>(after).map(|(_, record)| record);
                pass(&look, table, rest, filter.as_ref(), room + 1)
            }
            (Some(order), last) => {
                let start = last
                    .as_ref()
                    .and_then(|last| order.iter().position(|id| id == last))
                    .map_or(0, |at| at + 1);
                let rest = order.iter().skip(start).filter_map(|id| table.records.get(id));
                pass(&look, table, rest, filter.as_ref(), room + 1)
            }
        };
        let has_more =
            found.len() > room || (self.config.full_last_page_has_offset && found.len() == room);
        found.truncate(room);
        let is_finished = question.record_max.is_some_and(|max| given_count + found.len() >= max);
        let records: Vec<Value> =
            found.iter().map(|record| show(&look, table, record, &question.shape)).collect();
        let last = found.last().map(|record| record.id.clone());
        let mut answer = json!({ "records": records });
        self.stats.record_read_count += records.len() as u64;
        if let (true, false, Some(last)) = (has_more, is_finished, last) {
            let iterator = iterator.unwrap_or_else(|| format!("itr{}", &self.noise_id()));
            listing.used_ms = now_ms;
            listing.given.insert(last.clone(), given_count + records.len());
            self.listings.insert(iterator.clone(), listing);
            answer["offset"] = json!(format!("{iterator}/{last}"));
        }
        let idle_ms = self.config.listing_idle_ms;
        self.listings.retain(|_, listing| listing.used_ms + idle_ms > now_ms);
        Ok(answer)
    }

    fn noise_id(&mut self) -> String {
        let mut ids = super::ids::Ids::new(self.noise.next());
        ids.make("")
    }

    pub(super) fn get(
        &mut self,
        base_id: &str,
        table: &str,
        record_id: &str,
        query: &[(String, String)],
        now_ms: i64,
    ) -> Answer<Value> {
        let allowed = [
            "cellFormat",
            "timeZone",
            "userLocale",
            "returnFieldsByFieldId",
            "includeDateDependencyMetadata",
            "",
        ];
        if query.iter().any(|(key, _)| !allowed.contains(&key.as_str())) {
            return Err(invalid_request());
        }
        let shape = Shape::from_query(query)?;
        let index = self.table_index(base_id, table)?;
        let look = self.look(base_id, now_ms)?;
        // Found elsewhere in the base, a record is given all the same, as on the wire.
        let table = if look.base.tables[index].records.contains_key(record_id) {
            &look.base.tables[index]
        } else {
            look.base
                .table_of(record_id)
                .map(|other| &look.base.tables[other])
                .ok_or_else(record_not_found)?
        };
        let shown = show(&look, table, &table.records[record_id], &shape);
        self.stats.record_read_count += 1;
        Ok(shown)
    }
}

fn pass<'a>(
    look: &Look<'_>,
    table: &Table,
    records: impl Iterator<Item = &'a Record>,
    filter: Option<&formula::Ast>,
    count_max: usize,
) -> Vec<&'a Record> {
    let passing = records
        .filter(|record| filter.is_none_or(|filter| formula::passes(look, table, record, filter)));
    passing.take(count_max).collect()
}

/// The order of a listing with a sort or a view.
fn order_of(look: &Look<'_>, table: &Table, question: &Question) -> Answer<Vec<String>> {
    let mut records: Vec<&Record> = table.records.values().collect();
    let mut sort = question.sort.clone();
    if let Some(name) = &question.view {
        let Some(view) = table.views.iter().find(|view| view.id == *name || view.name == *name)
        else {
            let elsewhere =
                look.base.tables.iter().flat_map(|table| &table.views).any(|view| view.id == *name);
            if elsewhere {
                return Err(error_without_message(422, "FAILED_STATE_CHECK"));
            }
            let kind = if is_id(name, "viw") { "VIEW_ID_NOT_FOUND" } else { "VIEW_NAME_NOT_FOUND" };
            return Err(error(422, kind, &format!("View {name} not found")));
        };
        records.retain(|record| view.filter.is_empty() || view.members.contains(&record.id));
        records.sort_by_key(|record| record.number);
        if sort.is_empty() {
            sort.clone_from(&view.sort);
        }
    }
    let mut keys = Vec::new();
    for (name, is_descending) in sort {
        keys.push((table.field(&name).ok_or_else(|| unknown_field(&name))?, is_descending));
    }
    let mut keyed: Vec<(Vec<Value>, &Record)> = records
        .into_iter()
        .map(|record| (keys.iter().map(|(field, _)| look.rest_of(field, record)).collect(), record))
        .collect();
    keyed.sort_by(|(left, _), (right, _)| {
        for (index, (_, is_descending)) in keys.iter().enumerate() {
            let order = compare(&left[index], &right[index]);
            if order != Ordering::Equal {
                return if *is_descending { order.reverse() } else { order };
            }
        }
        Ordering::Equal
    });
    Ok(keyed.into_iter().map(|(_, record)| record.id.clone()).collect())
}

/// Empty first, then numbers, then text without regard to case.
fn compare(left: &Value, right: &Value) -> Ordering {
    if let (Some(left), Some(right)) = (left.as_f64(), right.as_f64()) {
        left.total_cmp(&right)
    } else {
        let key = |value: &Value| (!is_empty(value), super::cell::plain_text(value).to_lowercase());
        key(left).cmp(&key(right))
    }
}

/// Brings the filtered views of a table up to date with the touched records: who entered, who left.
pub(super) fn update_views(
    tx: &mut Transaction<'_>,
    table_id: &str,
    touched: &BTreeMap<(String, String), Option<Record>>,
) -> BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> {
    let mut found = BTreeMap::new();
    let Some(index) = tx.base.table_index(table_id) else { return found };
    let look = tx.look();
    let table = &look.base.tables[index];
    let mut fresh = Vec::new();
    for (position, view) in table.views.iter().enumerate() {
        let Some(filter) = formula::read(&view.filter) else { continue };
        let (mut entered, mut left) = (BTreeSet::new(), BTreeSet::new());
        for (_, id) in touched.keys().filter(|(touched_table, _)| touched_table == table_id) {
            let is_in = table
                .records
                .get(id)
                .is_some_and(|record| formula::passes(&look, table, record, &filter));
            match (view.members.contains(id), is_in) {
                (false, true) => _ = entered.insert(id.clone()),
                (true, false) => _ = left.insert(id.clone()),
                _ => {}
            }
        }
        fresh.push((position, entered.clone(), left.clone()));
        found.insert(view.id.clone(), (entered, left));
    }
    for (position, entered, left) in fresh {
        let members = &mut tx.base.tables[index].views[position].members;
        members.extend(entered);
        members.retain(|id| !left.contains(id));
    }
    found
}

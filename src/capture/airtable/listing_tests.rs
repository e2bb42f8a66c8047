//! Listings that are empty or cut, against a server that counts what it is asked.

use std::{
    pin::Pin,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::get,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;
use crate::{
    capture::airtable::{
        schema::resolve,
        tests::{field, mapping},
    },
    mapping::FieldKind,
    queue::queue,
    remote::airtable::Table,
};

const BASE: &str = "app00000000000001";

/// A table with some records, which lists what it is told to list.
#[derive(Default)]
struct Airtable {
    records: Vec<String>,
    /// How many of them the next listings show; all of them when there are no more.
    cuts: Mutex<VecDeque<usize>>,
    knows_formulas: bool,
    /// Characters in a cell.
    cell_size: usize,
    list_count: AtomicUsize,
    filter_count: AtomicUsize,
    get_count: AtomicUsize,
}

fn row(id: &str, size: usize) -> Value {
    json!({ "id": id, "fields": { "fldName": "x".repeat(size.max(1)) } })
}

async fn list(
    State(airtable): State<Arc<Airtable>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    if let Some(filter) = query.get("filterByFormula") {
        airtable.filter_count.fetch_add(1, Ordering::Relaxed);
        if !airtable.knows_formulas {
            let error = json!({ "error": { "type": "INVALID_FILTER_BY_FORMULA", "message": "?" } });
            return (StatusCode::UNPROCESSABLE_ENTITY, Json(error)).into_response();
        }
        let is_asked = |id: &&String| filter.contains(&format!("RECORD_ID()='{id}'"));
        let rows: Vec<Value> =
            airtable.records.iter().filter(is_asked).map(|id| row(id, 1)).collect();
        return Json(json!({ "records": rows })).into_response();
    }
    airtable.list_count.fetch_add(1, Ordering::Relaxed);
    let offset = query.get("offset").and_then(|offset| offset.split_once('/'));
    let (from, end) = if let Some((from, end)) = offset {
        (from.parse().unwrap(), end.parse().unwrap())
    } else {
        let cut = airtable.cuts.lock().unwrap().pop_front();
        (0, cut.unwrap_or(airtable.records.len()))
    };
    let size: usize = query["pageSize"].parse().unwrap();
    let to = (from + size).min(end);
    let rows: Vec<Value> =
        airtable.records[from..to].iter().map(|id| row(id, airtable.cell_size)).collect();
    let mut page = json!({ "records": rows });
    if to < end {
        page["offset"] = format!("{to}/{end}").into();
    }
    Json(page).into_response()
}

async fn one(
    State(airtable): State<Arc<Airtable>>,
    axum::extract::Path((_, id)): axum::extract::Path<(String, String)>,
) -> Response {
    airtable.get_count.fetch_add(1, Ordering::Relaxed);
    if airtable.records.contains(&id) {
        return Json(row(&id, 1)).into_response();
    }
    let error = json!({ "error": { "type": "MODEL_ID_NOT_FOUND", "message": "?" } });
    (StatusCode::NOT_FOUND, Json(error)).into_response()
}

struct KnownIds(Vec<String>);

impl KnownKeys for KnownIds {
    fn keys<'a>(
        &'a self,
        _: Side,
        _: EntityNo,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<SideKey>, anyhow::Error>> + Send + 'a>> {
        Box::pin(async { Ok(self.0.iter().map(|id| SideKey::from(id.as_str())).collect()) })
    }
}

fn ids(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|no| format!("rec{no:014}")).collect()
}

/// Lists it while `known` are known: the keys that were seen, and those that are absent.
async fn listed(airtable: &Arc<Airtable>, known: Vec<String>) -> (usize, usize) {
    drop(rustls::crypto::ring::default_provider().install_default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new()
        .route("/v0/app00000000000001/{table}", get(list))
        .route("/v0/app00000000000001/{table}/{record}", get(one))
        .with_state(Arc::clone(airtable));
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let mapping = mapping(&[("card", "Cards", vec![field("name", "Name", FieldKind::Text)])]);
    let tables: Vec<Table> = serde_json::from_value(json!([{
        "id": "tblCards", "name": "Cards", "primaryFieldId": "fldName",
        "fields": [
            { "id": "fldName", "name": "Name", "type": "singleLineText" },
            { "id": "fldUuid", "name": "UUID", "type": "singleLineText" },
        ],
    }]))
    .unwrap();
    let resolution = resolve(&mapping, "reseau", &tables, None);
    let plan = Arc::new(Plan::new(&mapping, "reseau", &resolution.resolved));
    let client = Client::new(&url, "token").unwrap().with_body_bytes_max(100_000);
    let (deliveries, mut received) = queue(1_000_000);
    let listing = Listing {
        inside: std::sync::Mutex::default(),
        client: &Arc::new(client),
        base: BASE,
        mapping: &Arc::new(mapping),
        plan: &plan,
        deliveries: &deliveries,
        known: &KnownIds(known),
    };
    listing.run(&[0], |_| {}).await.unwrap();
    let (mut seen, mut absent) = (HashSet::new(), HashSet::new());
    while let Some((delivery, _)) = received.try_recv() {
        let Delivery::Transaction { observations, .. } = delivery else { panic!("{delivery:?}") };
        for Observation { key, change, .. } in observations {
            let into = if change == Change::Absent { &mut absent } else { &mut seen };
            into.insert(key);
        }
    }
    assert!(seen.is_disjoint(&absent));
    server.abort();
    (seen.len(), absent.len())
}

fn counts(airtable: &Airtable) -> (usize, usize, usize) {
    let count = |counter: &AtomicUsize| counter.swap(0, Ordering::Relaxed);
    (count(&airtable.list_count), count(&airtable.filter_count), count(&airtable.get_count))
}

#[tokio::test]
async fn listing_few_missing_records_cost_one_request_together() {
    let airtable =
        Arc::new(Airtable { records: ids(0, 350), knows_formulas: true, ..Airtable::default() });
    // Ten of the known ones are gone.
    assert_eq!(listed(&airtable, ids(0, 360)).await, (350, 10));
    assert_eq!(counts(&airtable), (4, 1, 0));
    // The listing leaves the last ones out, which the look finds.
    *airtable.cuts.lock().unwrap() = VecDeque::from([340]);
    assert_eq!(listed(&airtable, ids(0, 350)).await, (350, 0));
    assert_eq!(counts(&airtable), (4, 1, 0));
}

#[tokio::test]
async fn listing_empty_or_cut_is_listed_again_and_costs_no_request_a_record() {
    let airtable =
        Arc::new(Airtable { records: ids(0, 500), knows_formulas: true, ..Airtable::default() });
    for cut in [0, 120] {
        *airtable.cuts.lock().unwrap() = VecDeque::from([cut]);
        assert_eq!(listed(&airtable, ids(0, 500)).await, (500, 0));
        let (list_count, filter_count, get_count) = counts(&airtable);
        assert!(list_count <= 7, "{list_count}");
        assert_eq!((filter_count, get_count), (0, 0));
    }
    // Cut twice: the looks for their ids find them.
    *airtable.cuts.lock().unwrap() = VecDeque::from([0, 0]);
    assert_eq!(listed(&airtable, ids(0, 500)).await, (500, 0));
    assert_eq!(counts(&airtable), (2, 5, 0));
    // All of them are gone indeed.
    let emptied = Arc::new(Airtable { knows_formulas: true, ..Airtable::default() });
    assert_eq!(listed(&emptied, ids(0, 500)).await, (0, 500));
    assert_eq!(counts(&emptied), (2, 5, 0));
}

#[tokio::test]
async fn listing_server_without_formulas_is_believed_after_the_second_listing() {
    let airtable = Arc::new(Airtable { records: ids(0, 300), ..Airtable::default() });
    *airtable.cuts.lock().unwrap() = VecDeque::from([100]);
    assert_eq!(listed(&airtable, ids(0, 300)).await, (300, 0));
    assert_eq!(counts(&airtable), (4, 0, 0));
    assert_eq!(listed(&airtable, ids(0, 800)).await, (300, 500));
    assert_eq!(counts(&airtable), (6, 1, 0));
    // A few are looked for one by one.
    assert_eq!(listed(&airtable, ids(0, 320)).await, (300, 20));
    assert_eq!(counts(&airtable), (3, 1, 20));
}

#[tokio::test]
async fn listing_pages_too_large_to_be_held_are_asked_for_in_smaller_ones() {
    let airtable =
        Arc::new(Airtable { records: ids(0, 60), cell_size: 5_000, ..Airtable::default() });
    assert_eq!(listed(&airtable, ids(0, 60)).await, (60, 0));
}

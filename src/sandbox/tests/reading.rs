//! L of the checklist: listing and getting records.

use super::*;

fn sizes(pages: &[Value]) -> Vec<usize> {
    pages.iter().map(|page| page["records"].as_array().unwrap().len()).collect()
}

async fn pages(bench: &Bench, path: &str, query: &str) -> Vec<Value> {
    let mut found: Vec<Value> = Vec::new();
    let mut offset = String::new();
    loop {
        let page = bench.get(&format!("{path}?{query}&offset={offset}")).await.ok();
        let next = page.get("offset").cloned();
        found.push(page);
        match next {
            Some(next) => offset = text(&next),
            None => return found,
        }
    }
}

fn rows(bench: &Bench, count: usize) -> Vec<String> {
    let edits: Vec<Edit> = (0..count)
        .map(|n| create("Autres", json!({ "Nom": format!("r{n}"), "Nombre": n })))
        .collect();
    bench.edit(&edits)
}

/// The playground's other table without the rows of the seed.
async fn emptied() -> Bench {
    let bench = Bench::new().await;
    let known = bench.sandbox.records(PLAYGROUND_BASE, "Autres");
    let edits: Vec<Edit> = known
        .into_iter()
        .map(|(record, _)| Edit::Delete { table: "Autres".into(), record })
        .collect();
    bench.edit(&edits);
    bench
}

#[tokio::test]
async fn list_l1_l2_l3_pages_of_100_by_id_with_iterator_and_last_id() {
    let bench = Bench::new().await;
    let found = pages(&bench, MEMBRES, "").await;
    assert_eq!(sizes(&found), [100, 100, 100, 20]);
    let all: Vec<String> = found.iter().flat_map(ids).collect();
    assert!(all.is_sorted());
    assert_eq!(all.len(), 320);
    for page in &found[..3] {
        let (iterator, last) = page["offset"].as_str().unwrap().split_once('/').unwrap();
        assert!(super::super::ids::is_id(iterator, "itr"));
        assert_eq!(last, ids(page).last().unwrap());
    }
    assert!(found[3].get("offset").is_none());
    for size in ["101", "0", "-1", "many"] {
        bench
            .get(&format!("{MEMBRES}?pageSize={size}"))
            .await
            .refused(422, "INVALID_REQUEST_UNKNOWN");
    }
    bench.sandbox.configure(|config| config.page_size_over_max_is_refused = false);
    assert_eq!(ids(&bench.get(&format!("{MEMBRES}?pageSize=101")).await.ok()).len(), 100);
}

#[tokio::test]
async fn list_l4_l5_half_and_forgotten_offsets_are_refused() {
    let bench = Bench::new().await;
    let first = bench.get(MEMBRES).await.ok();
    let offset = text(&first["offset"]);
    let (iterator, last) = offset.split_once('/').unwrap();
    for half in [iterator, last] {
        let message = format!("The value of offset {half} is invalid");
        bench.get(&format!("{MEMBRES}?offset={half}")).await.refused_saying(
            422,
            "INVALID_OFFSET_VALUE",
            &message,
        );
    }
    bench.sandbox.advance(Duration::from_mins(4));
    let second = bench.get(&format!("{MEMBRES}?offset={offset}")).await.ok();
    bench.sandbox.advance(Duration::from_mins(5));
    let gone = bench.get(&format!("{MEMBRES}?offset={}", text(&second["offset"]))).await;
    assert_eq!(
        (gone.status, gone.text.as_str()),
        (422, r#"{"error":{"type":"LIST_RECORDS_ITERATOR_NOT_AVAILABLE"}}"#)
    );
}

#[tokio::test]
async fn list_l6_exactly_100_records_have_no_offset_or_an_empty_page() {
    let bench = emptied().await;
    rows(&bench, 100);
    assert_eq!(sizes(&pages(&bench, AUTRES, "").await), [100]);
    bench.sandbox.configure(|config| config.full_last_page_has_offset = true);
    assert_eq!(sizes(&pages(&bench, AUTRES, "").await), [100, 0]);
}

#[tokio::test]
async fn list_l7_max_records_cut_the_last_page() {
    let bench = emptied().await;
    rows(&bench, 60);
    assert_eq!(sizes(&pages(&bench, AUTRES, "pageSize=10&maxRecords=25").await), [10, 10, 5]);
    assert_eq!(
        sizes(&pages(&bench, AUTRES, "pageSize=10&maxRecords=25&view=Grid%20view").await),
        [10, 10, 5]
    );
    assert_eq!(sizes(&pages(&bench, AUTRES, "pageSize=10&maxRecords=20").await), [10, 10]);
}

#[tokio::test]
async fn list_l8_empty_cells_are_left_out_zero_and_ai_text_are_not() {
    let bench = Bench::new().await;
    let empty = json!({ "singleLineText": "", "number": 0, "checkbox": false, "multipleSelects": [], "multipleRecordLinks": [], "date": null });
    let fields = bench.fields(TYPES, &bench.record(TYPES, empty).await).await;
    for name in [
        "singleLineText",
        "checkbox",
        "multipleSelects",
        "multipleRecordLinks",
        "date",
        "rollupNone",
    ] {
        assert!(fields.get(name).is_none(), "{name}");
    }
    assert_eq!(fields["number"], 0);
    assert_eq!(fields["aiText"], json!({ "state": "empty", "value": null, "isStale": false }));
    let made = bench.post(AUTRES, json!({ "fields": {} })).await.ok();
    assert_eq!(made["fields"], json!({}));
}

#[tokio::test]
async fn list_l9_l10_fields_in_every_spelling_and_keys_by_id() {
    let bench = Bench::new().await;
    bench.record(AUTRES, json!({ "Nom": "x", "Nombre": 1 })).await;
    let id = bench.field("Autres", "Nombre").await;
    for query in [
        "fields[]=Nombre",
        "fields%5B%5D=Nombre",
        "fields=Nombre",
        "fields[0]=Nombre",
        &format!("fields[]={id}"),
    ] {
        let page = bench.get(&format!("{AUTRES}?filterByFormula=Nombre%3D1&{query}")).await.ok();
        for record in page["records"].as_array().unwrap() {
            assert_eq!(record["fields"], json!({ "Nombre": 1 }), "{query}");
        }
    }
    let two = bench.get(&format!("{AUTRES}?fields=Nombre&fields=Nom&maxRecords=1")).await.ok();
    assert!(two["records"][0]["fields"].as_object().unwrap().len() <= 2);
    for query in ["fields[]=Rien", "sort[0][field]=Rien", "fields[]=nombre"] {
        bench.get(&format!("{AUTRES}?{query}")).await.refused(422, "UNKNOWN_FIELD_NAME");
    }
    for value in ["true", "1"] {
        let page = bench
            .get(&format!("{AUTRES}?filterByFormula=Nombre%3D1&returnFieldsByFieldId={value}"))
            .await
            .ok();
        assert_eq!(page["records"][0]["fields"][&id], 1);
    }
}

#[tokio::test]
async fn list_l11_post_is_the_same_and_reads_the_place_from_the_query_only() {
    let bench = Bench::new().await;
    let get = bench.get(&format!("{MEMBRES}?pageSize=7&sort[0][field]=Ville&sort[0][direction]=desc&fields[]=Ville&filterByFormula=%7BStatut%7D%3D'Actif'")).await.ok();
    let body = json!({ "pageSize": 7, "sort": [{ "field": "Ville", "direction": "desc" }], "fields": ["Ville"], "filterByFormula": "{Statut}='Actif'" });
    let path = format!("{MEMBRES}/listRecords");
    let posted = bench.post(&path, body.clone()).await.ok();
    assert_eq!(posted["records"], get["records"]);
    let mut next = body;
    next["offset"] = posted["offset"].clone();
    let second = bench.post(&path, next).await.ok();
    assert!(ids(&second).iter().all(|id| !ids(&posted).contains(id)));
    let place = json!({ "cellFormat": "string", "timeZone": "Europe/Paris", "userLocale": "fr" });
    bench.post(&path, place.clone()).await.refused(422, "INVALID_REQUEST_UNKNOWN");
    bench.post(&format!("{path}?timeZone=Europe/Paris&userLocale=fr"), place).await.ok();
    bench.post(&path, json!({ "unknown": 1 })).await.refused(422, "INVALID_REQUEST_UNKNOWN");
}

#[tokio::test]
async fn list_l12_comment_count_on_demand() {
    let bench = Bench::new().await;
    let id = bench.record(AUTRES, json!({ "Nom": "commenté" })).await;
    bench.post(&format!("{AUTRES}/{id}/comments"), json!({ "text": "un" })).await.ok();
    let path = format!("{AUTRES}?filterByFormula=RECORD_ID()%3D'{id}'");
    let page = bench.get(&format!("{path}&recordMetadata[]=commentCount")).await.ok();
    assert_eq!(page["records"][0]["commentCount"], 1);
    assert!(bench.get(&path).await.ok()["records"][0].get("commentCount").is_none());
}

#[tokio::test]
async fn list_l13_formulas_filter_and_bad_ones_are_refused_in_airtables_words() {
    let bench = emptied().await;
    let made = rows(&bench, 12);
    bench.sandbox.advance(Duration::from_hours(1));
    bench
        .patch(&format!("{AUTRES}/{}", made[3]), json!({ "fields": { "Nom": "R3 changé" } }))
        .await
        .ok();
    let id = bench.field("Autres", "Nombre").await;
    let cases = [
        (format!("RECORD_ID()='{}'", made[5]), vec![5]),
        (format!("OR(RECORD_ID()='{}',RECORD_ID()='{}')", made[1], made[2]), vec![1, 2]),
        ("{nombre} = 4".into(), vec![4]),
        (format!("{{{id}}} >= 11"), vec![11]),
        ("AND(Nombre > 2, NOT(Nombre > 4))".into(), vec![3, 4]),
        ("Nombre = 0".into(), vec![0]),
        ("Nom = BLANK()".into(), vec![]),
        ("IS_AFTER(LAST_MODIFIED_TIME(), '2026-04-24T15:30:00.000Z')".into(), vec![3]),
        (format!("IS_AFTER(LAST_MODIFIED_TIME({{{id}}}), '2026-04-24T15:30:00.000Z')"), vec![]),
        ("FIND('chang', Nom)".into(), vec![3]),
        ("LEFT(Nom, 1) & Nombre = 'r7'".into(), vec![7]),
        ("0/0".into(), vec![]),
    ];
    for (formula, wanted) in cases {
        let page = bench
            .post(&format!("{AUTRES}/listRecords"), json!({ "filterByFormula": formula }))
            .await
            .ok();
        let mut wanted: Vec<String> =
            wanted.into_iter().map(|at: usize| made[at].clone()).collect();
        wanted.sort();
        assert_eq!(ids(&page), wanted, "{formula}");
    }
    let prefix = "The formula for filtering records is invalid: ";
    for (formula, why) in [
        ("AND(", "Invalid formula. Please check your formula text."),
        ("{a", "Invalid formula. Please check your formula text."),
        ("{FirstName} = {LastName}", "Unknown field names: firstname, lastname"),
    ] {
        let seen = bench
            .post(&format!("{AUTRES}/listRecords"), json!({ "filterByFormula": formula }))
            .await;
        seen.refused_saying(422, "INVALID_FILTER_BY_FORMULA", &format!("{prefix}{why}"));
    }
}

#[tokio::test]
async fn list_l14_text_needs_a_zone_and_a_locale_and_follows_them() {
    let bench = Bench::new().await;
    let wish = json!({ "singleLineText": "t", "checkbox": true, "multipleSelects": ["A", "B"], "date": "2024-02-01", "dateTime": "2024-01-31T23:30:00.000Z",
        "currency": 1234.5, "percent": 0.25, "duration": 3723, "multipleAttachments": [{ "url": "https://x.example/a.pdf" }] });
    let id = bench.record(TYPES, wish).await;
    let path = format!("{TYPES}/{id}?cellFormat=string");
    for missing in ["", "&timeZone=utc", "&userLocale=fr", "&timeZone=Nowhere&userLocale=fr"] {
        bench.get(&format!("{path}{missing}")).await.refused(422, "INVALID_REQUEST_UNKNOWN");
    }
    bench
        .get(&format!("{TYPES}/{id}?cellFormat=text"))
        .await
        .refused(422, "INVALID_REQUEST_UNKNOWN");
    let paris =
        bench.get(&format!("{path}&timeZone=Europe/Paris&userLocale=fr")).await.ok()["fields"]
            .clone();
    for (name, shown) in [
        ("checkbox", "checked"),
        ("multipleSelects", "A, B"),
        ("date", "2024-02-01"),
        ("dateTime", "2024-02-01 00:30"),
        ("currency", "€1234.50"),
        ("duration", "1:02:03"),
        ("multipleAttachments", "a.pdf (https://x.example/a.pdf)"),
    ] {
        assert_eq!(paris[name], shown, "{name}");
    }
    let york = bench.get(&format!("{path}&timeZone=America/New_York&userLocale=en-us")).await.ok()
        ["fields"]
        .clone();
    assert_eq!(york["dateTime"], "2024-01-31 18:30");
    // A field in the reader's own order of day and month.
    let options = json!({ "timeZone": "client", "dateFormat": { "name": "local" }, "timeFormat": { "name": "12hour" } });
    let spec = json!({ "name": "Local", "type": "dateTime", "options": options });
    bench.post(&format!("meta/bases/{PLAYGROUND_BASE}/tables/Types/fields"), spec).await.ok();
    bench
        .patch(
            &format!("{TYPES}/{id}"),
            json!({ "fields": { "Local": "2024-01-31T23:30:00.000Z" } }),
        )
        .await
        .ok();
    for (zone, locale, shown) in [
        ("Europe/Paris", "fr", "1/2/2024 12:30am"),
        ("America/New_York", "en-us", "1/31/2024 6:30pm"),
    ] {
        let seen = bench.get(&format!("{path}&timeZone={zone}&userLocale={locale}")).await.ok();
        assert_eq!(seen["fields"]["Local"], shown);
    }
}

#[tokio::test]
async fn list_l15_keys_come_in_another_order_each_time() {
    let bench = Bench::new().await;
    let id = ids(&bench.get(&format!("{MEMBRES}?maxRecords=1")).await.ok()).remove(0);
    let path = format!("{MEMBRES}/{id}");
    let mut orders = std::collections::BTreeSet::new();
    for _ in 0..5 {
        orders.insert(bench.get(&path).await.text);
    }
    assert!(orders.len() > 1);
    bench.sandbox.configure(|config| config.shuffle_keys = false);
    assert_eq!(bench.get(&path).await.text, bench.get(&path).await.text);
}

#[tokio::test]
async fn get_l16_without_fields_across_tables_and_unknown() {
    let bench = Bench::new().await;
    let id = bench.record(AUTRES, json!({ "Nom": "x" })).await;
    bench.get(&format!("{AUTRES}/{id}?fields[]=Nom")).await.refused(422, "INVALID_REQUEST_UNKNOWN");
    assert_eq!(bench.get(&format!("{TYPES}/{id}")).await.ok()["fields"]["Nom"], "x");
    bench.get(&format!("{AUTRES}/rec00000000000000")).await.refused_saying(
        404,
        "MODEL_ID_NOT_FOUND",
        "Record not found",
    );
    bench.get(&format!("{MEMBRES}/{id}")).await.refused(404, "MODEL_ID_NOT_FOUND");
}

#[tokio::test]
async fn list_l17_records_that_come_and_go_while_paging() {
    let bench = emptied().await;
    rows(&bench, 30);
    let first = bench.get(&format!("{AUTRES}?pageSize=10")).await.ok();
    let last = ids(&first).last().unwrap().clone();
    // The last record of the page goes, and so does one of the next page; two come.
    let doomed = bench.sandbox.records(PLAYGROUND_BASE, "Autres")[15].0.clone();
    let gone: Vec<Edit> = [last.clone(), doomed.clone()]
        .into_iter()
        .map(|record| Edit::Delete { table: "Autres".into(), record })
        .collect();
    bench.edit(&gone);
    let come = rows(&bench, 6);
    let mut seen = ids(&first);
    let mut offset = text(&first["offset"]);
    loop {
        let page = bench.get(&format!("{AUTRES}?pageSize=10&offset={offset}")).await.ok();
        seen.extend(ids(&page));
        match page["offset"].as_str() {
            Some(next) => offset = next.into(),
            None => break,
        }
    }
    assert!(!seen.contains(&doomed));
    for id in &come {
        assert_eq!(seen.contains(id), *id > last, "{id} against {last}");
    }
    assert!(seen.is_sorted());
}

#[tokio::test]
async fn list_views_and_sorts_order_restrict_and_are_refused_by_name_id_and_table() {
    let bench = emptied().await;
    let made = rows(&bench, 5);
    let view = Edit::CreateView {
        table: "Autres".into(),
        spec: json!({ "name": "Grands", "filter": "Nombre > 2" }),
    };
    let view = bench.edit(&[view]).remove(0);
    for name in ["Grands", &view] {
        assert_eq!(ids(&bench.get(&format!("{AUTRES}?view={name}")).await.ok()), made[3..]);
    }
    let sorted =
        bench.get(&format!("{AUTRES}?sort[0][field]=Nombre&sort[0][direction]=desc")).await.ok();
    assert_eq!(ids(&sorted), made.iter().rev().cloned().collect::<Vec<_>>());
    bench.get(&format!("{AUTRES}?view=Rien")).await.refused_saying(
        422,
        "VIEW_NAME_NOT_FOUND",
        "View Rien not found",
    );
    bench.get(&format!("{AUTRES}?view=viw00000000000000")).await.refused(422, "VIEW_ID_NOT_FOUND");
    let other = text(&bench.table(PLAYGROUND_BASE, "Types").await["views"][0]["id"]);
    let seen = bench.get(&format!("{AUTRES}?view={other}")).await;
    assert_eq!(
        (seen.status, seen.text.as_str()),
        (422, r#"{"error":{"type":"FAILED_STATE_CHECK"}}"#)
    );
}

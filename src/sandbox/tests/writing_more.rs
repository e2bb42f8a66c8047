//! W15 to W22 of the checklist: attachments, refusals of tables and fields, typecast, numbers, computed cells.

use super::*;

async fn url_of(bench: &Bench, id: &str) -> String {
    text(&bench.fields(TYPES, id).await["multipleAttachments"][0]["url"])
}

#[tokio::test]
async fn write_w15_attachments_are_fetched_later_under_urls_that_change_and_expire() {
    let bench = Bench::new().await;
    let hook = bench.hook(&["tableData"], json!({}), Value::Null).await;
    let original = "https://files.example/logo.png";
    let id = bench.record(TYPES, json!({ "multipleAttachments": [{ "url": original }] })).await;
    let fresh = bench.fields(TYPES, &id).await["multipleAttachments"][0].clone();
    assert_eq!(
        (&fresh["url"], &fresh["filename"], fresh.as_object().unwrap().len()),
        (&json!(original), &json!("logo.png"), 3)
    );
    bench.sandbox.advance(Duration::from_millis(500));
    let done = bench.fields(TYPES, &id).await["multipleAttachments"][0].clone();
    assert_eq!((&done["id"], &done["type"]), (&fresh["id"], &json!("image/png")));
    assert!(done["size"].is_u64() && done["thumbnails"]["small"]["width"] == 36);
    // The end of its processing is a change of its own.
    let payloads = bench.until(async || {
        let payloads = bench.payloads(&hook).await;
        (payloads.len() == 2).then_some(payloads)
    });
    assert_eq!(payloads.await[1]["actionMetadata"]["source"], "system");

    let url = text(&done["url"]);
    let expiry_ms: i64 =
        url.split('/').find_map(|part| part.parse().ok().filter(|ms| *ms > START_MS)).unwrap();
    assert_eq!(expiry_ms % 3_600_000, 0);
    assert_eq!(url_of(&bench, &id).await, url, "the same within the hour");
    bench.sandbox.advance(Duration::from_hours(1));
    assert_ne!(url_of(&bench, &id).await, url);
    let fetched = bench.client.get(&url).send().await.unwrap();
    assert_eq!(fetched.status(), 200, "without a token");
    bench.sandbox.advance(Duration::from_hours(2));
    assert_eq!(bench.client.get(&url).send().await.unwrap().status(), 410);
    bench.sandbox.configure(|config| config.expired_attachment_status = 403);
    assert_eq!(bench.client.get(&url).send().await.unwrap().status(), 403);
    // Kept by id beside a new one; another's id is not taken.
    let both = json!({ "fields": { "multipleAttachments": [{ "id": done["id"], "size": 1 }, { "url": "https://files.example/b.pdf" }] } });
    let both = bench.patch(&format!("{TYPES}/{id}"), both).await.ok();
    assert_eq!(both["fields"]["multipleAttachments"][0]["id"], done["id"]);
    assert_eq!(both["fields"]["multipleAttachments"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn write_w16_upload_appends_and_answers_with_that_field_only() {
    use base64::Engine;
    let bench = Bench::new().await;
    let id = bench.record(TYPES, json!({ "singleLineText": "t", "multipleAttachments": [{ "url": "https://x.example/a.txt" }] })).await;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let path = format!("{PLAYGROUND_BASE}/{id}/multipleAttachments/uploadAttachment");
    // Some clients break base64 into lines.
    let file = encode(b"hello world").replace('g', "g\n");
    let body = json!({ "contentType": "text/plain", "file": file, "filename": "test.txt" });
    let answer = bench.post(&path, body).await.ok();
    assert_eq!(answer["id"], id.as_str());
    let field = bench.field("Types", "multipleAttachments").await;
    let fields = answer["fields"].as_object().unwrap();
    assert_eq!(fields.keys().collect::<Vec<_>>(), [&field]);
    let files = fields[&field].as_array().unwrap();
    assert_eq!(
        (files.len(), &files[1]["size"], &files[1]["type"]),
        (2, &json!(11), &json!("text/plain"))
    );
    let bytes =
        bench.client.get(text(&files[1]["url"])).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(&bytes[..], b"hello world");
    let big = json!({ "contentType": "text/plain", "file": encode(&vec![0; 5 * 1024 * 1024 + 1]), "filename": "big" });
    assert_eq!(bench.post(&path, big.clone()).await.status, 413);
    bench.sandbox.configure(|config| config.upload_too_large_status = 422);
    assert_eq!(bench.post(&path, big).await.status, 422);
    let other = format!("{PLAYGROUND_BASE}/{id}/number/uploadAttachment");
    let body = json!({ "contentType": "text/plain", "file": "aGk=", "filename": "x" });
    bench.post(&other, body).await.refused(422, "INVALID_VALUE_FOR_COLUMN");
}

#[tokio::test]
async fn write_w17_w18_synced_tables_and_locked_fields_are_refused_to_the_api() {
    let bench = Bench::new().await;
    let id = bench.record(AUTRES, json!({ "Nom": "x" })).await;
    let flag = |field: Option<&str>, flag: &str, on: bool| Edit::Flag {
        table: "Autres".into(),
        field: field.map(str::to_owned),
        flag: flag.into(),
        on,
    };
    bench.edit(&[flag(None, "synced", true)]);
    let message =
        "Your record could not be created because the underlying table is externally synced.";
    bench.post(AUTRES, json!({ "fields": {} })).await.refused_saying(
        422,
        "INVALID_REQUEST_UNKNOWN",
        message,
    );
    bench
        .patch(&format!("{AUTRES}/{id}"), json!({ "fields": {} }))
        .await
        .refused(422, "INVALID_REQUEST_UNKNOWN");
    bench.delete(&format!("{AUTRES}/{id}")).await.refused(422, "INVALID_REQUEST_UNKNOWN");
    bench.sandbox.configure(|config| config.synced_status = 403);
    bench.post(AUTRES, json!({ "fields": {} })).await.refused_saying(
        403,
        "INVALID_PERMISSIONS",
        message,
    );
    // The sync itself writes.
    bench
        .sandbox
        .edit_as(PLAYGROUND_BASE, Actor::source("sync"), &[create("Autres", json!({ "Nom": "s" }))])
        .unwrap();
    bench.edit(&[flag(None, "synced", false), flag(Some("Nom"), "locked", true)]);
    let field = bench.field("Autres", "Nom").await;
    let message = format!("You are not permitted to write cell values in field Nom ({field})");
    let path = format!("{AUTRES}/{id}");
    bench.patch(&path, json!({ "fields": { "Nom": "y" } })).await.refused_saying(
        403,
        "INVALID_PERMISSIONS",
        &message,
    );
    bench.patch(&path, json!({ "fields": { "Nombre": 1 } })).await.ok();
}

#[tokio::test]
async fn write_w19_typecast_reads_numbers_dates_names_and_lists() {
    let bench = Bench::new().await;
    let known = bench.record(AUTRES, json!({ "Nom": "connu" })).await;
    let wish = json!({ "number": "3.5", "date": "2024-02-29T10:00:00Z", "dateTime": "2024-02-29T10:00", "checkbox": "checked",
        "multipleSelects": "A, B", "multipleRecordLinks": ["connu", "inconnu"], "singleLineText": 5 });
    let made =
        bench.post(TYPES, json!({ "fields": wish, "typecast": true })).await.ok()["fields"].clone();
    assert_eq!(made["number"], 3.5);
    assert_eq!(made["date"], "2024-02-29");
    assert_eq!(made["dateTime"], "2024-02-29T10:00:00.000Z");
    assert_eq!(made["checkbox"], true);
    assert_eq!(made["multipleSelects"], json!(["A", "B"]));
    assert_eq!(made["singleLineText"], "5");
    let links = made["multipleRecordLinks"].as_array().unwrap();
    assert_eq!(links[0], known.as_str());
    assert_eq!(bench.fields(AUTRES, links[1].as_str().unwrap()).await["Nom"], "inconnu");
    let bad = json!({ "fields": { "number": "trois" }, "typecast": true });
    bench.post(TYPES, bad).await.refused(422, "INVALID_VALUE_FOR_COLUMN");
    bench.sandbox.configure(|config| config.typecast_creates_links = false);
    let unknown = json!({ "fields": { "multipleRecordLinks": ["jamais vu"] }, "typecast": true });
    bench.post(TYPES, unknown).await.refused(422, "ROW_DOES_NOT_EXIST");
}

#[tokio::test]
async fn write_w20_numbers_keep_every_bit() {
    let bench = Bench::new().await;
    for number in [
        "0.29999999999999877",
        "0.1",
        "1e300",
        "5e-324",
        "-1234.5678901234567",
        "9007199254740993",
        "33.333333333333336",
    ] {
        let wanted: f64 = number.parse().unwrap();
        let body = format!(r#"{{"fields":{{"number":{number},"currency":{number}}}}}"#);
        let request = bench
            .request("POST", &format!("/v0/{TYPES}"), None)
            .header("content-type", "application/json")
            .body(body);
        let fields = bench.seen(request).await.ok()["fields"].clone();
        for name in ["number", "currency"] {
            assert_eq!(
                fields[name].as_f64().unwrap().to_bits(),
                wanted.to_bits(),
                "{name} {number}"
            );
        }
    }
}

#[tokio::test]
async fn write_w21_computed_cells_are_up_to_date_in_the_answer_and_can_hold_errors() {
    let bench = Bench::new().await;
    let (a, b) = (
        bench.record(AUTRES, json!({ "Nom": "a", "Nombre": 1.5 })).await,
        bench.record(AUTRES, json!({ "Nom": "b", "Nombre": 2 })).await,
    );
    let made = bench.post(TYPES, json!({ "fields": { "singleLineText": "t", "number": 7, "multipleRecordLinks": [b, a] } })).await.ok();
    let (id, fields) = (text(&made["id"]), &made["fields"]);
    assert_eq!(fields["formula"], "t-7");
    assert_eq!((&fields["count"], &fields["rollup"]), (&json!(2), &json!(3.5)));
    assert_eq!(fields["multipleLookupValues"], json!([2, 1.5]));
    assert_eq!(fields["createdTime"], "2026-04-24T15:07:43.000Z");
    assert_eq!(fields["createdBy"]["id"], OWNER_USER);
    bench.sandbox.advance(Duration::from_mins(1));
    let changed =
        bench.patch(&format!("{TYPES}/{id}"), json!({ "fields": { "number": 8 } })).await.ok();
    assert_eq!(changed["fields"]["formula"], "t-8");
    assert_eq!(changed["fields"]["lastModifiedTime"], "2026-04-24T15:08:42.000Z");
    // A change of the linked record shows at once.
    bench.patch(&format!("{AUTRES}/{a}"), json!({ "fields": { "Nombre": 10 } })).await.ok();
    assert_eq!(bench.fields(TYPES, &id).await["rollup"], 12);
    for value in [
        json!({ "error": "#ERROR!" }),
        json!({ "specialValue": "NaN" }),
        json!({ "specialValue": "Infinity" }),
        json!({ "specialValue": "-Infinity" }),
    ] {
        let inject = Edit::Inject {
            table: "Types".into(),
            record: id.clone(),
            field: "formula".into(),
            value: value.clone(),
        };
        bench.edit(&[inject]);
        assert_eq!(bench.fields(TYPES, &id).await["formula"], value);
    }
    // Divisions make them without help, and lookups pass errors on.
    let formula = |name: &str, formula: &str| Edit::CreateField {
        table: "Types".into(),
        spec: json!({ "name": name, "type": "formula", "options": { "formula": formula } }),
    };
    bench.edit(&[
        formula("nan", "0/0"),
        formula("infinity", "1/0"),
        formula("erreur", "DATETIME_FORMAT({date})"),
    ]);
    let fields = bench.fields(TYPES, &id).await;
    assert_eq!(fields["nan"], json!({ "specialValue": "NaN" }));
    assert_eq!(fields["infinity"], json!({ "specialValue": "Infinity" }));
    assert_eq!(fields["erreur"], json!({ "error": "#ERROR!" }));
}

#[tokio::test]
async fn write_w22_auto_numbers_are_never_given_again() {
    let bench = Bench::new().await;
    let number = async |id: &str| bench.fields(TYPES, id).await["autoNumber"].as_u64().unwrap();
    let first = bench.record(TYPES, json!({})).await;
    let was = number(&first).await;
    bench.delete(&format!("{TYPES}/{first}")).await.ok();
    let second = bench.record(TYPES, json!({})).await;
    assert_eq!(number(&second).await, was + 1);
}

#[tokio::test]
async fn write_dates_without_an_offset_are_in_the_fields_zone() {
    let bench = Bench::new().await;
    let options = json!({ "timeZone": "Europe/Paris", "dateFormat": { "name": "iso" }, "timeFormat": { "name": "24hour" } });
    bench.edit(&[Edit::CreateField {
        table: "Autres".into(),
        spec: json!({ "name": "Quand", "type": "dateTime", "options": options }),
    }]);
    for (written, read) in [
        ("2024-07-01T12:00:00", "2024-07-01T10:00:00.000Z"),
        ("2024-01-01T12:00:00", "2024-01-01T11:00:00.000Z"),
        ("2024-07-01T12:00:00+05:00", "2024-07-01T07:00:00.000Z"),
        ("2024-07-01T12:00:00.123Z", "2024-07-01T12:00:00.123Z"),
    ] {
        let id = bench.record(AUTRES, json!({ "Quand": written })).await;
        assert_eq!(bench.fields(AUTRES, &id).await["Quand"], read, "{written}");
    }
}

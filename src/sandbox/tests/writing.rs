//! W1 to W14 of the checklist: creating, updating, upserting and deleting records.

use super::*;

#[tokio::test]
async fn write_w1_one_record_is_bare_and_many_are_a_list_in_order() {
    let bench = Bench::new().await;
    let one = bench.post(AUTRES, json!({ "fields": { "Nom": "un" } })).await.ok();
    assert_eq!(one["fields"], json!({ "Nom": "un" }));
    assert!(one.get("records").is_none());
    let id = bench.field("Autres", "Nom").await;
    let many = json!({ "records": [{ "fields": { "Nom": "a" } }, { "fields": { id: "b", "Nombre": null } }] });
    let many = bench.post(AUTRES, many).await.ok();
    let names: Vec<&Value> =
        many["records"].as_array().unwrap().iter().map(|row| &row["fields"]).collect();
    assert_eq!(names, [&json!({ "Nom": "a" }), &json!({ "Nom": "b" })]);
}

#[tokio::test]
async fn write_w2_eleven_records_are_refused_whatever_is_done_to_them() {
    let bench = Bench::new().await;
    let eleven = |item: Value| json!({ "records": vec![item; 11] });
    bench.post(AUTRES, eleven(json!({ "fields": {} }))).await.refused_saying(
        422,
        "INVALID_RECORDS",
        "A maximum of 10 records can be created per request but you have provided 11.",
    );
    let message = "You must provide an array of up to 10 record objects, each with an \"id\" ID field and a \"fields\" object for cell values.";
    for method in ["PATCH", "PUT"] {
        let body = eleven(json!({ "id": "rec00000000000000", "fields": {} }));
        bench.send(method, AUTRES, body).await.refused_saying(422, "INVALID_RECORDS", message);
    }
    let query = ["records[]=rec00000000000000"; 11].join("&");
    bench.delete(&format!("{AUTRES}?{query}")).await.refused(422, "INVALID_RECORDS");
    bench.sandbox.configure(|config| config.record_count_max = 11);
    bench.post(AUTRES, eleven(json!({ "fields": {} }))).await.ok();
}

#[tokio::test]
async fn write_w3_one_bad_cell_in_ten_writes_nothing_and_leaves_no_trace() {
    let bench = Bench::new().await;
    let hook = bench.hook(&["tableData", "tableFields"], json!({}), Value::Null).await;
    let before = (
        bench.sandbox.records(PLAYGROUND_BASE, "Types").len(),
        bench.table(PLAYGROUND_BASE, "Types").await,
    );
    let mut records = vec![
        json!({ "fields": { "singleSelect": "Nouveau", "multipleRecordLinks": ["Neuf"] } });
        9
    ];
    records.push(json!({ "fields": { "number": {} } }));
    let body = json!({ "records": records, "typecast": true });
    bench.post(TYPES, body).await.refused(422, "INVALID_VALUE_FOR_COLUMN");
    // Neither records nor the choice and the linked record that typecast would have made.
    assert_eq!(before.0, bench.sandbox.records(PLAYGROUND_BASE, "Types").len());
    assert_eq!(before.1, bench.table(PLAYGROUND_BASE, "Types").await);
    let names: Vec<Value> = bench
        .sandbox
        .records(PLAYGROUND_BASE, "Autres")
        .into_iter()
        .map(|(_, fields)| fields["Nom"].clone())
        .collect();
    assert!(!names.contains(&json!("Neuf")));
    assert_eq!(bench.payloads(&hook).await, Vec::<Value>::new());
}

#[tokio::test]
async fn write_w4_patch_leaves_and_put_clears_what_is_not_named() {
    let bench = Bench::new().await;
    let id =
        bench.record(TYPES, json!({ "singleLineText": "t", "number": 2, "checkbox": true })).await;
    let path = format!("{TYPES}/{id}");
    bench.control("POST", "edit", json!({ "base": PLAYGROUND_BASE, "as": { "source": "system" }, "edits": [
        { "do": "inject", "table": "Types", "record": id, "field": "aiText", "value": { "state": "generated", "isStale": false, "value": "v" } }] })).await;
    let patched =
        bench.patch(&path, json!({ "fields": { "number": 3 } })).await.ok()["fields"].clone();
    assert_eq!((&patched["singleLineText"], &patched["number"]), (&json!("t"), &json!(3)));
    let put =
        bench.send("PUT", &path, json!({ "fields": { "number": 4 } })).await.ok()["fields"].clone();
    assert!(put.get("singleLineText").is_none() && put.get("checkbox").is_none());
    assert_eq!(put["autoNumber"], patched["autoNumber"]);
    assert_eq!(put["createdTime"], patched["createdTime"]);
    assert_eq!(put["aiText"]["value"], "v");
    let many = json!({ "records": [{ "id": id, "createdTime": "2020-01-01T00:00:00.000Z", "fields": { "checkbox": true } }] });
    let put = bench.send("PUT", TYPES, many).await.ok()["records"][0]["fields"].clone();
    assert_eq!((put.get("number"), &put["checkbox"]), (None, &json!(true)));
}

#[tokio::test]
async fn write_w5_null_empty_text_empty_list_and_false_clear() {
    let bench = Bench::new().await;
    let full = json!({ "singleLineText": "t", "number": 1, "checkbox": true, "multipleSelects": ["A"], "singleSelect": "B", "date": "2024-01-01" });
    for (name, empty) in [
        ("singleLineText", json!("")),
        ("singleLineText", Value::Null),
        ("number", Value::Null),
        ("checkbox", json!(false)),
        ("checkbox", Value::Null),
        ("multipleSelects", json!([])),
        ("singleSelect", Value::Null),
        ("date", Value::Null),
    ] {
        let id = bench.record(TYPES, full.clone()).await;
        let after =
            bench.patch(&format!("{TYPES}/{id}"), json!({ "fields": { name: empty } })).await.ok();
        assert!(after["fields"].get(name).is_none(), "{name} {empty}");
    }
    // The empty name is a choice nobody has, not an empty cell.
    bench
        .post(TYPES, json!({ "fields": { "singleSelect": "" } }))
        .await
        .refused(422, "INVALID_MULTIPLE_CHOICE_OPTIONS");
}

#[tokio::test]
async fn write_w6_computed_fields_take_nothing_not_even_null() {
    let bench = Bench::new().await;
    for name in [
        "formula",
        "rollup",
        "count",
        "multipleLookupValues",
        "autoNumber",
        "createdTime",
        "lastModifiedTime",
        "createdBy",
        "lastModifiedBy",
        "button",
        "aiText",
        "externalSyncSource",
        "manualSort",
    ] {
        let message =
            format!("Field \"{name}\" cannot accept a value because the field is computed");
        for value in [json!("x"), Value::Null] {
            let seen = bench.post(TYPES, json!({ "fields": { name: value } })).await;
            seen.refused_saying(422, "INVALID_VALUE_FOR_COLUMN", &message);
        }
    }
}

#[tokio::test]
async fn write_w7_values_that_do_not_fit_and_choices_that_are_not_there() {
    let bench = Bench::new().await;
    for (name, value) in [
        ("singleLineText", json!(1)),
        ("number", json!("1")),
        ("number", json!(true)),
        ("currency", json!([1])),
        ("rating", json!(9)),
        ("rating", json!(1.5)),
        ("checkbox", json!("true")),
        ("date", json!("31/01/2024")),
        ("date", json!("2024-02-30")),
        ("dateTime", json!("soon")),
        ("singleSelect", json!(["A"])),
        ("multipleSelects", json!("A")),
        ("multipleRecordLinks", json!("x")),
        ("multipleAttachments", json!([{ "filename": "x" }])),
        ("singleCollaborator", json!({ "id": "usr00000000000000" })),
        ("barcode", json!("123")),
    ] {
        let message = format!("Field \"{name}\" cannot accept the provided value");
        let seen = bench.post(TYPES, json!({ "fields": { name: value } })).await;
        seen.refused_saying(422, "INVALID_VALUE_FOR_COLUMN", &message);
    }
    bench.post(TYPES, json!({ "fields": { "Rien": 1 } })).await.refused_saying(
        422,
        "UNKNOWN_FIELD_NAME",
        "Unknown field name: \"Rien\"",
    );
    for value in ["D", "a"] {
        let message = format!("Insufficient permissions to create new select option \"{value}\"");
        let seen = bench.post(TYPES, json!({ "fields": { "singleSelect": value } })).await;
        seen.refused_saying(422, "INVALID_MULTIPLE_CHOICE_OPTIONS", &message);
    }
    let before = bench.table(PLAYGROUND_BASE, "Types").await;
    let made = json!({ "fields": { "singleSelect": "D", "multipleSelects": ["A", "E"] }, "typecast": true });
    let made = bench.post(TYPES, made).await.ok();
    assert_eq!(
        (&made["fields"]["singleSelect"], &made["fields"]["multipleSelects"]),
        (&json!("D"), &json!(["A", "E"]))
    );
    let choices = |table: &Value| {
        let fields = table["fields"].as_array().unwrap();
        let field = fields.iter().find(|field| field["name"] == "singleSelect").unwrap();
        field["options"]["choices"].as_array().unwrap().clone()
    };
    let (old, new) = (choices(&before), choices(&bench.table(PLAYGROUND_BASE, "Types").await));
    assert_eq!(new[..3], old[..]);
    assert_eq!(new[3]["name"], "D");
    assert!(super::super::ids::is_id(new[3]["id"].as_str().unwrap(), "sel"));
}

#[tokio::test]
async fn write_w8_links_to_unknown_and_foreign_records_are_refused() {
    let bench = Bench::new().await;
    let own = bench.record(TYPES, json!({})).await;
    let message = "Record ID rec00000000000000 does not exist in this table";
    let link = |id: &str| json!({ "fields": { "multipleRecordLinks": [id] } });
    bench.post(TYPES, link("rec00000000000000")).await.refused_saying(
        422,
        "ROW_DOES_NOT_EXIST",
        message,
    );
    let (types, others) =
        (bench.table(PLAYGROUND_BASE, "Types").await, bench.table(PLAYGROUND_BASE, "Autres").await);
    let message = format!(
        "Record ID {own} belongs to table {}, but the field links to table {}",
        text(&types["id"]),
        text(&others["id"])
    );
    bench.post(TYPES, link(&own)).await.refused_saying(
        422,
        "ROW_TABLE_DOES_NOT_MATCH_LINKED_TABLE",
        &message,
    );
}

#[tokio::test]
async fn write_w9_w10_links_change_both_ends_are_replaced_and_go_with_their_record() {
    let bench = Bench::new().await;
    let (a, b) = (
        bench.record(AUTRES, json!({ "Nom": "a" })).await,
        bench.record(AUTRES, json!({ "Nom": "b" })).await,
    );
    let first = bench.record(TYPES, json!({ "multipleRecordLinks": [b, a] })).await;
    let second = bench.record(TYPES, json!({ "multipleRecordLinks": [a, a] })).await;
    assert_eq!(bench.fields(TYPES, &first).await["multipleRecordLinks"], json!([b, a]));
    assert_eq!(bench.fields(TYPES, &second).await["multipleRecordLinks"], json!([a]));
    assert_eq!(bench.fields(AUTRES, &a).await["Types"], json!([first, second]));
    // Replaced, never merged; the other end follows.
    bench
        .patch(&format!("{TYPES}/{first}"), json!({ "fields": { "multipleRecordLinks": [b] } }))
        .await
        .ok();
    assert_eq!(bench.fields(AUTRES, &a).await["Types"], json!([second]));
    bench
        .patch(&format!("{AUTRES}/{a}"), json!({ "fields": { "Types": [second, first] } }))
        .await
        .ok();
    assert_eq!(bench.fields(TYPES, &first).await["multipleRecordLinks"], json!([b, a]));
    bench.delete(&format!("{AUTRES}/{a}")).await.ok();
    assert_eq!(bench.fields(TYPES, &first).await["multipleRecordLinks"], json!([b]));
    assert!(bench.fields(TYPES, &second).await.get("multipleRecordLinks").is_none());
    // A preference of the grid for one link is no rule of the API.
    let target = text(&bench.table(PLAYGROUND_BASE, "Autres").await["id"]);
    let spec = json!({ "name": "Un seul", "type": "multipleRecordLinks", "options": { "linkedTableId": target, "prefersSingleRecordLink": true } });
    bench.edit(&[Edit::CreateField { table: "Types".into(), spec }]);
    let c = bench.record(AUTRES, json!({})).await;
    let both = bench.record(TYPES, json!({ "Un seul": [b, c] })).await;
    assert_eq!(bench.fields(TYPES, &both).await["Un seul"], json!([b, c]));
}

#[tokio::test]
async fn write_w11_w12_unknown_records_in_updates_and_deletes() {
    let bench = Bench::new().await;
    let (known, unknown) = (bench.record(AUTRES, json!({ "Nom": "k" })).await, "rec00000000000000");
    let message = format!("Record ID {unknown} does not exist in this table");
    let both = json!({ "records": [{ "id": known, "fields": { "Nom": "n" } }, { "id": unknown, "fields": {} }] });
    for method in ["PATCH", "PUT"] {
        bench.send(method, AUTRES, both.clone()).await.refused_saying(
            422,
            "ROW_DOES_NOT_EXIST",
            &message,
        );
        let one = bench.send(method, &format!("{AUTRES}/{unknown}"), json!({ "fields": {} })).await;
        one.refused_saying(404, "MODEL_ID_NOT_FOUND", "Record not found");
    }
    let twice =
        json!({ "records": [{ "id": known, "fields": {} }, { "id": known, "fields": {} }] });
    assert_eq!(bench.patch(AUTRES, twice).await.status, 422);
    bench.delete(&format!("{AUTRES}/{unknown}")).await.refused(404, "MODEL_ID_NOT_FOUND");
    let pair = format!("{AUTRES}?records[]={known}&records[]={unknown}");
    bench.delete(&pair).await.refused(422, "ROW_DOES_NOT_EXIST");
    assert_eq!(bench.fields(AUTRES, &known).await["Nom"], "k");
    assert_eq!(
        bench.delete(&format!("{AUTRES}?records[]={known}&records[]={known}")).await.status,
        422
    );
    let other = bench.record(AUTRES, json!({})).await;
    let deleted =
        bench.delete(&format!("{AUTRES}?records%5B%5D={other}&records%5B%5D={known}")).await.ok();
    assert_eq!(
        deleted,
        json!({ "records": [{ "deleted": true, "id": other }, { "deleted": true, "id": known }] })
    );
    bench.sandbox.configure(|config| config.unknown_delete_is_refused = false);
    let last = bench.record(AUTRES, json!({})).await;
    let deleted =
        bench.delete(&format!("{AUTRES}?records[]={last}&records[]={unknown}")).await.ok();
    assert_eq!(deleted, json!({ "records": [{ "deleted": true, "id": last }] }));
}

#[tokio::test]
async fn write_w13_upsert_creates_updates_or_refuses() {
    let bench = Bench::new().await;
    let known = bench.record(AUTRES, json!({ "Nom": "clé", "Nombre": 1 })).await;
    let upsert = async |records: Value, fields: Value| {
        let body = json!({ "performUpsert": { "fieldsToMergeOn": fields }, "records": records });
        bench.patch(AUTRES, body).await
    };
    let done = upsert(
        json!([{ "fields": { "Nom": "neuf" } }, { "fields": { "Nom": "clé", "Nombre": 2 } }]),
        json!(["Nom"]),
    )
    .await
    .ok();
    assert_eq!(done["updatedRecords"], json!([known]));
    assert_eq!(done["createdRecords"], json!([done["records"][0]["id"]]));
    assert_eq!(done["records"][1]["fields"], json!({ "Nom": "clé", "Nombre": 2 }));
    let only = upsert(json!([{ "fields": { "Nom": "clé" } }]), json!(["Nom"])).await.ok();
    assert_eq!((&only["createdRecords"], &only["updatedRecords"]), (&json!([]), &json!([known])));
    // By id, the merge fields are passed over; unknown, the request fails.
    let by_id =
        upsert(json!([{ "id": known, "fields": { "Nom": "neuf" } }]), json!(["Nom"])).await.ok();
    assert_eq!(by_id["updatedRecords"], json!([known]));
    upsert(json!([{ "id": "rec00000000000000", "fields": {} }]), json!(["Nom"]))
        .await
        .refused(422, "ROW_DOES_NOT_EXIST");
    // Now two have the name "neuf".
    upsert(json!([{ "fields": { "Nom": "neuf" } }]), json!(["Nom"]))
        .await
        .refused(422, "INVALID_REQUEST_UNKNOWN");
    let nothing =
        upsert(json!([{ "fields": { "Nom": null, "Nombre": 5 } }]), json!(["Nom"])).await.ok();
    assert_eq!(nothing["createdRecords"].as_array().unwrap().len(), 1);
    // A second row with the same new key updates what the first made.
    let twice = upsert(json!([{ "fields": { "Nom": "d", "Nombre": 1 } }, { "fields": { "Nom": "d", "Nombre": 2 } }]), json!(["Nom"])).await.ok();
    assert_eq!(twice["records"][0]["id"], twice["records"][1]["id"]);
    for (records, fields) in [
        (json!([{ "fields": { "Nombre": 1 } }]), json!(["Nom"])),
        (json!([{ "fields": {} }]), json!([])),
        (
            json!([{ "fields": { "Nom": "x", "Nombre": 1 } }]),
            json!(["Nom", "Nombre", "Nom", "Nombre"]),
        ),
        (json!([{ "fields": { "Nom": "x" } }]), json!(["Types"])),
    ] {
        upsert(records, fields).await.refused(422, "INVALID_REQUEST_UNKNOWN");
    }
    let computed = json!({ "performUpsert": { "fieldsToMergeOn": ["autoNumber"] }, "records": [{ "fields": {} }] });
    bench.patch(TYPES, computed).await.refused(422, "INVALID_REQUEST_UNKNOWN");
    let put = json!({ "performUpsert": { "fieldsToMergeOn": ["Nom"] }, "records": [{ "fields": { "Nom": "d" } }] });
    assert_eq!(
        bench.send("PUT", AUTRES, put).await.ok()["records"][0]["fields"],
        json!({ "Nom": "d" })
    );
    // Without `performUpsert` the two lists are not there.
    let plain = json!({ "records": [{ "id": known, "fields": {} }] });
    assert!(bench.patch(AUTRES, plain).await.ok().get("createdRecords").is_none());
}

#[tokio::test]
async fn write_w14_created_time_is_rounded_to_seconds() {
    let bench = Bench::new().await;
    let late = bench.post(AUTRES, json!({ "fields": {} })).await.ok();
    assert_eq!(late["createdTime"], "2026-04-24T15:07:43.000Z");
    bench.sandbox.advance(Duration::from_millis(900));
    let early = bench.post(AUTRES, json!({ "fields": {} })).await.ok();
    assert_eq!(early["createdTime"], "2026-04-24T15:07:43.000Z");
}

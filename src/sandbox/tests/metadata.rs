//! M of the checklist: bases, schema, tables and fields, by API and by hand.

use super::*;

const TABLES: &str = "meta/bases/appPlaitBac000002/tables";

#[tokio::test]
async fn meta_m1_bases_in_pages_of_1000_names_may_repeat() {
    let bench = Bench::new().await;
    for n in 0..1001 {
        bench
            .control(
                "POST",
                "bases",
                json!({ "id": format!("appMany{n:010}"), "name": "Pareille" }),
            )
            .await;
    }
    let first = bench.get("meta/bases").await.ok();
    assert_eq!(first["bases"].as_array().unwrap().len(), 1000);
    let offset = text(&first["offset"]);
    let (iterator, last) = offset.split_once('/').unwrap();
    assert!(super::super::ids::is_id(iterator, "itr") && super::super::ids::is_id(last, "app"));
    let second = bench.get(&format!("meta/bases?offset={offset}")).await.ok();
    assert_eq!((second["bases"].as_array().unwrap().len(), second.get("offset")), (3, None));
    assert_eq!(first["bases"][0]["permissionLevel"], "create");
    bench.get("meta/bases?offset=itr1").await.refused(422, "INVALID_OFFSET_VALUE");
}

#[tokio::test]
async fn meta_m2_m8_the_schema_has_what_it_has_and_lacks_the_rest() {
    let bench = Bench::new().await;
    let first = bench.get(TABLES).await;
    let mut orders = std::collections::BTreeSet::from([first.text.clone()]);
    for _ in 0..3 {
        orders.insert(bench.get(TABLES).await.text);
    }
    assert!(orders.len() > 1, "keys come in another order");
    let schema = first.ok();
    let table = &schema["tables"]
        .as_array()
        .unwrap()
        .iter()
        .find(|table| table["name"] == "Types")
        .unwrap()
        .clone();
    assert!(table.get("description").is_none());
    assert_eq!(table["primaryFieldId"], table["fields"][0]["id"]);
    let view = table["views"][0].as_object().unwrap();
    assert_eq!(
        (&view["name"], &view["type"], view.get("visibleFieldIds")),
        (&json!("Grid view"), &json!("grid"), None)
    );
    for field in table["fields"].as_array().unwrap() {
        let keys = field.as_object().unwrap();
        assert!(
            keys.keys().all(|key| ["id", "name", "type", "options"].contains(&key.as_str())),
            "{field}"
        );
        let without = [
            "singleLineText",
            "email",
            "url",
            "phoneNumber",
            "autoNumber",
            "singleCollaborator",
            "barcode",
            "manualSort",
        ];
        if without.contains(&field["type"].as_str().unwrap()) {
            assert!(keys.get("options").is_none(), "{field}");
        }
    }
    let kind = |name: &str| {
        table["fields"]
            .as_array()
            .unwrap()
            .iter()
            .find(|field| field["name"] == name)
            .unwrap()
            .clone()
    };
    assert_eq!(
        kind("date")["options"],
        json!({ "dateFormat": { "name": "iso", "format": "YYYY-MM-DD" } })
    );
    assert_eq!(kind("multipleAttachments")["options"], json!({ "isReversed": false }));
    assert!(kind("rollup")["options"].get("aggregate").is_none());
    let visible = bench.get(&format!("{TABLES}?include[]=visibleFieldIds")).await.ok();
    assert!(visible["tables"][0]["views"][0]["visibleFieldIds"].is_array());
    // M8: a type that nobody knows.
    bench.edit(&[Edit::CreateField {
        table: "Autres".into(),
        spec: json!({ "name": "Étrange", "type": "fooType", "options": { "bar": [1] } }),
    }]);
    let others = bench.table(PLAYGROUND_BASE, "Autres").await;
    let strange = others["fields"]
        .as_array()
        .unwrap()
        .iter()
        .find(|field| field["name"] == "Étrange")
        .unwrap();
    assert_eq!(
        (&strange["type"], &strange["options"]),
        (&json!("fooType"), &json!({ "bar": [1] }))
    );
    let id = bench.record(AUTRES, json!({})).await;
    let value = json!({ "any": "thing" });
    bench.edit(&[Edit::Inject {
        table: "Autres".into(),
        record: id.clone(),
        field: "Étrange".into(),
        value: value.clone(),
    }]);
    assert_eq!(bench.fields(AUTRES, &id).await["Étrange"], value);
}

#[tokio::test]
async fn meta_m3_tables_and_fields_are_made_and_doubles_refused() {
    let bench = Bench::new().await;
    let fields = json!([{ "name": "Nom", "type": "singleLineText", "description": "d" }, { "name": "Fait", "type": "checkbox", "options": { "icon": "check", "color": "greenBright" } }]);
    let made = bench
        .post(TABLES, json!({ "name": "Neuve", "description": "x", "fields": fields }))
        .await
        .ok();
    assert_eq!((&made["name"], &made["description"]), (&json!("Neuve"), &json!("x")));
    assert_eq!(made["primaryFieldId"], made["fields"][0]["id"]);
    assert_eq!(made["views"].as_array().unwrap().len(), 1);
    let path = format!("{TABLES}/{}/fields", text(&made["id"]));
    let field = bench.post(&path, json!({ "name": "  Prix ", "type": "currency", "options": { "precision": 2, "symbol": "€" } })).await.ok();
    assert_eq!((&field["name"], &field["options"]["symbol"]), (&json!("Prix"), &json!("€")));
    for name in ["PRIX", "prix", " Nom ", ""] {
        let seen = bench.post(&path, json!({ "name": name, "type": "email" })).await;
        assert_eq!(
            (seen.status, seen.text.as_str()),
            (422, r#"{"error":{"type":"DUPLICATE_OR_EMPTY_FIELD_NAME"}}"#),
            "{name:?}"
        );
    }
    let double = json!({ "name": "neuve", "fields": [{ "name": "a", "type": "email" }] });
    bench.post(TABLES, double).await.refused(422, "DUPLICATE_TABLE_NAME");
    for (kind, options) in [
        ("number", json!({ "precision": 9 })),
        (
            "dateTime",
            json!({ "timeZone": "UTC", "dateFormat": { "name": "iso" }, "timeFormat": { "name": "24hour" } }),
        ),
        ("date", json!({ "dateFormat": { "name": "iso", "format": "D/M/YYYY" } })),
        ("rating", json!({ "icon": "star", "color": "yellowBright", "max": 11 })),
        ("singleSelect", json!({})),
        ("email", json!({ "precision": 1 })),
    ] {
        let seen =
            bench.post(&path, json!({ "name": "Mauvais", "type": kind, "options": options })).await;
        seen.refused(422, "INVALID_FIELD_TYPE_OPTIONS_FOR_CREATE");
    }
    for fields in [
        json!([]),
        json!([{ "name": "a", "type": "checkbox", "options": { "icon": "check", "color": "greenBright" } }]),
    ] {
        bench
            .post(TABLES, json!({ "name": "Autre", "fields": fields }))
            .await
            .refused(422, "INVALID_REQUEST_UNKNOWN");
    }
    // A base of its own.
    let wish = json!({ "name": "Base", "workspaceId": "wsp00000000000000", "tables": [{ "name": "T", "fields": [{ "name": "N", "type": "email" }] }] });
    let base = bench.post("meta/bases", wish).await.ok();
    assert!(
        super::super::ids::is_id(base["id"].as_str().unwrap(), "app") && base.get("name").is_none()
    );
    bench
        .post(&format!("{}/T", text(&base["id"])), json!({ "fields": { "N": "a@b.c" } }))
        .await
        .ok();
    let before = bench.get("meta/bases").await.ok()["bases"].as_array().unwrap().len();
    let bad = json!({ "name": "B", "workspaceId": "wsp00000000000000", "tables": [{ "name": "T", "fields": [] }] });
    bench.post("meta/bases", bad).await.refused(422, "INVALID_REQUEST_UNKNOWN");
    assert_eq!(bench.get("meta/bases").await.ok()["bases"].as_array().unwrap().len(), before);
}

#[tokio::test]
async fn meta_m4_computed_types_are_not_creatable_but_by_hand() {
    let bench = Bench::new().await;
    let path = format!("{TABLES}/Autres/fields");
    for kind in [
        "formula",
        "rollup",
        "multipleLookupValues",
        "count",
        "autoNumber",
        "createdTime",
        "lastModifiedTime",
        "createdBy",
        "lastModifiedBy",
        "button",
        "aiText",
    ] {
        let message = format!(
            "Invalid options for Autres.F: Creating {kind} fields is not supported at this time"
        );
        let seen = bench.post(&path, json!({ "name": "F", "type": kind })).await;
        seen.refused_saying(422, "UNSUPPORTED_FIELD_TYPE_FOR_CREATE", &message);
    }
    bench
        .post(&path, json!({ "name": "F", "type": "fooType" }))
        .await
        .refused(422, "INVALID_REQUEST_UNKNOWN");
    let made = bench.record(AUTRES, json!({ "Nom": "n", "Nombre": 2 })).await;
    bench.edit(&[Edit::CreateField { table: "Autres".into(), spec: json!({ "name": "Double", "type": "formula", "options": { "formula": "Nombre * 2" } }) }]);
    assert_eq!(bench.fields(AUTRES, &made).await["Double"], 4);
}

#[tokio::test]
async fn meta_m5_a_link_field_makes_its_other_end() {
    let bench = Bench::new().await;
    let (types, others) =
        (bench.table(PLAYGROUND_BASE, "Types").await, bench.table(PLAYGROUND_BASE, "Autres").await);
    let path = format!("{TABLES}/{}/fields", text(&others["id"]));
    let spec = json!({ "name": "Lien", "type": "multipleRecordLinks", "options": { "linkedTableId": types["id"] } });
    let made = bench.post(&path, spec.clone()).await.ok();
    let inverse = text(&made["options"]["inverseLinkFieldId"]);
    let types = bench.table(PLAYGROUND_BASE, "Types").await;
    let field = types["fields"]
        .as_array()
        .unwrap()
        .iter()
        .find(|field| field["id"] == inverse.as_str())
        .unwrap()
        .clone();
    assert_eq!(
        (&field["name"], &field["options"]["inverseLinkFieldId"]),
        (&json!("Autres"), &made["id"])
    );
    // The name is taken now.
    let mut again = spec;
    again["name"] = json!("Lien bis");
    bench.post(&path, again).await.ok();
    field_id(&bench.table(PLAYGROUND_BASE, "Types").await, "Autres 2");
    // To the own table: no other end.
    let own = json!({ "name": "Voisin", "type": "multipleRecordLinks", "options": { "linkedTableId": others["id"] } });
    assert!(bench.post(&path, own).await.ok()["options"].get("inverseLinkFieldId").is_none());
    let unknown = json!({ "name": "X", "type": "multipleRecordLinks", "options": { "linkedTableId": "tbl00000000000000" } });
    bench.post(&path, unknown).await.refused(422, "INVALID_REQUEST_UNKNOWN");
}

#[tokio::test]
async fn meta_m6_m7_fields_change_name_description_and_formula_and_nothing_else() {
    let bench = Bench::new().await;
    let types = bench.table(PLAYGROUND_BASE, "Types").await;
    let path =
        |name: &str| format!("{TABLES}/{}/fields/{}", text(&types["id"]), field_id(&types, name));
    let renamed = bench
        .patch(&path("number"), json!({ "name": "chiffre", "description": "Updated" }))
        .await
        .ok();
    assert_eq!(
        (&renamed["id"], &renamed["description"]),
        (&json!(field_id(&types, "number")), &json!("Updated"))
    );
    bench
        .post(TYPES, json!({ "fields": { "number": 1 } }))
        .await
        .refused(422, "UNKNOWN_FIELD_NAME");
    let made = bench.record(TYPES, json!({ "chiffre": 3, "singleLineText": "t" })).await;
    assert_eq!(bench.fields(TYPES, &made).await["chiffre"], 3);
    for body in [
        json!({ "type": "email" }),
        json!({ "options": { "precision": 1 } }),
        json!({}),
        json!({ "description": "x".repeat(20_001) }),
    ] {
        bench.patch(&path("number"), body).await.refused(422, "INVALID_REQUEST_UNKNOWN");
    }
    bench
        .patch(&path("singleSelect"), json!({ "options": { "choices": [] } }))
        .await
        .refused(422, "INVALID_REQUEST_UNKNOWN");
    bench
        .patch(&path("url"), json!({ "name": "EMAIL" }))
        .await
        .refused(422, "DUPLICATE_OR_EMPTY_FIELD_NAME");
    bench
        .patch(&path("formula"), json!({ "options": { "formula": "UPPER({singleLineText})" } }))
        .await
        .ok();
    assert_eq!(bench.fields(TYPES, &made).await["formula"], "T");
    let table = bench
        .patch(&format!("{TABLES}/Autres"), json!({ "name": "Divers", "description": "d" }))
        .await
        .ok();
    assert_eq!((&table["name"], table["fields"].is_array()), (&json!("Divers"), true));
    assert_eq!(bench.get(AUTRES).await.status, 403);
    bench.get("appPlaitBac000002/Divers").await.ok();
    bench.get(&format!("appPlaitBac000002/{}", text(&table["id"]))).await.ok();
}

#[tokio::test]
async fn meta_m9_by_hand_fields_and_tables_go_change_type_and_come_back() {
    let bench = Bench::new().await;
    let hook =
        bench.hook(&["tableData", "tableFields", "tableMetadata"], json!({}), Value::Null).await;
    let others = bench.table(PLAYGROUND_BASE, "Autres").await;
    let (table, number) = (text(&others["id"]), field_id(&others, "Nombre"));
    let id = bench.record(AUTRES, json!({ "Nom": "x", "Nombre": 3 })).await;
    let autres = || "Autres".to_owned();
    bench.edit(&[Edit::RetypeField {
        table: autres(),
        field: "Nombre".into(),
        kind: "singleLineText".into(),
        options: Value::Null,
    }]);
    assert_eq!(bench.fields(AUTRES, &id).await["Nombre"], "3");
    bench.edit(&[Edit::DeleteField { table: autres(), field: "Nombre".into() }]);
    bench
        .patch(&format!("{AUTRES}/{id}"), json!({ "fields": { number.clone(): 1 } }))
        .await
        .refused(422, "UNKNOWN_FIELD_NAME");
    bench.edit(&[Edit::Delete { table: autres(), record: id.clone() }]);
    bench.get(&format!("{AUTRES}/{id}")).await.refused(404, "MODEL_ID_NOT_FOUND");
    bench.edit(&[Edit::Restore { record: id.clone() }]);
    assert_eq!(bench.fields(AUTRES, &id).await["Nom"], "x");
    bench.edit(&[Edit::DeleteTable { table: autres() }]);
    bench.get(AUTRES).await.refused(403, "INVALID_PERMISSIONS_OR_MODEL_NOT_FOUND");
    bench.edit(&[Edit::RestoreTable { table: table.clone() }]);
    assert_eq!(bench.fields(AUTRES, &id).await["Nom"], "x");
    let payloads = bench.payloads(&hook).await;
    let changed = |at: usize| &payloads[at]["changedTablesById"][&table];
    assert_eq!(
        changed(1)["changedFieldsById"][&number]["current"],
        json!({ "type": "singleLineText" })
    );
    assert_eq!(changed(2)["destroyedFieldIds"], json!([number]));
    assert_eq!(changed(3)["destroyedRecordIds"], json!([id]));
    assert!(changed(4)["createdRecordsById"].get(&id).is_some());
    assert_eq!(payloads[5]["destroyedTableIds"], json!([table]));
    assert!(payloads[6]["createdTablesById"][&table]["recordsById"].get(&id).is_some());
}

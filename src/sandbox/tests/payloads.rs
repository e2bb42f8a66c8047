//! H8 to H21 and H31 to H33 of the checklist: what a change becomes in a webhook's list.

use super::*;

/// The ids of the playground that the tests name.
struct Ids {
    types: String,
    others: String,
    type_fields: Value,
    other_fields: Value,
}

impl Ids {
    async fn of(bench: &Bench) -> Self {
        let (types, others) = (
            bench.table(PLAYGROUND_BASE, "Types").await,
            bench.table(PLAYGROUND_BASE, "Autres").await,
        );
        let named = |table: &Value| -> Value {
            let fields = table["fields"].as_array().unwrap();
            fields
                .iter()
                .map(|field| (text(&field["name"]), field["id"].clone()))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        Self {
            types: text(&types["id"]),
            others: text(&others["id"]),
            type_fields: named(&types),
            other_fields: named(&others),
        }
    }

    fn t(&self, name: &str) -> &str {
        self.type_fields[name].as_str().unwrap()
    }

    fn o(&self, name: &str) -> &str {
        self.other_fields[name].as_str().unwrap()
    }
}

#[tokio::test]
async fn payload_h8_h9_each_write_is_one_in_order_and_there_before_the_answer() {
    let bench = Bench::new().await;
    let hook = bench.hook(&["tableData"], json!({}), Value::Null).await;
    let ids = Ids::of(&bench).await;
    let id = bench.record(AUTRES, json!({ "Nombre": 0 })).await;
    for n in 1..=20 {
        bench.patch(&format!("{AUTRES}/{id}"), json!({ "fields": { "Nombre": n } })).await.ok();
        assert_eq!(bench.payloads(&hook).await.len(), n + 1);
    }
    let payloads = bench.payloads(&hook).await;
    for (n, payload) in payloads.iter().enumerate().skip(1) {
        let change = &payload["changedTablesById"][&ids.others]["changedRecordsById"][&id];
        assert_eq!(change["current"]["cellValuesByFieldId"], json!({ ids.o("Nombre"): n }));
    }
    let ten = json!({ "records": vec![json!({ "fields": { "Nom": "dix" } }); 10] });
    bench.post(AUTRES, ten.clone()).await.ok();
    let last = bench.payloads(&hook).await.pop().unwrap();
    assert_eq!(
        last["changedTablesById"][&ids.others]["createdRecordsById"].as_object().unwrap().len(),
        10
    );
    // A write that changes nothing is no action.
    bench.patch(&format!("{AUTRES}/{id}"), json!({ "fields": { "Nombre": 20 } })).await.ok();
    assert_eq!(bench.payloads(&hook).await.len(), 22);
    bench.sandbox.configure(|config| config.payload_record_max = 4);
    bench.post(AUTRES, ten).await.ok();
    assert_eq!(bench.payloads(&hook).await.len(), 25);
}

#[tokio::test]
async fn payload_h10_h33_tells_who_did_it() {
    let bench = Bench::new().await;
    let hook = bench.hook(&["tableData"], json!({}), Value::Null).await;
    bench.record(AUTRES, json!({})).await;
    let with =
        |source: &str, metadata: Value| Actor { source: source.into(), user: None, metadata };
    for actor in [
        Actor::person("usrMarcLeGoff0001"),
        with("automation", json!({ "automationId": "wfl00000000000000" })),
        with("formSubmission", json!({ "viewId": "viw00000000000000" })),
        with("formPageSubmission", json!({ "pageId": "pag00000000000000" })),
        Actor::source("sync"),
        Actor::source("system"),
        Actor::source("anonymousUser"),
        Actor::source("somethingNew"),
    ] {
        bench.sandbox.edit_as(PLAYGROUND_BASE, actor, &[create("Autres", json!({}))]).unwrap();
    }
    let user = |id: &str, name: &str, email: &str| {
        json!({ "id": id, "name": name, "email": email, "permissionLevel": "create",
            "profilePicUrl": "https://static.airtable.com/images/userIcons/user_icon_7.png" })
    };
    let claire = user(OWNER_USER, "Claire Dubois", "claire.dubois@reseau.example");
    let marc = user("usrMarcLeGoff0001", "Marc Le Goff", "marc.legoff@reseau.example");
    let seen: Vec<Value> = bench
        .payloads(&hook)
        .await
        .iter()
        .map(|payload| payload["actionMetadata"].clone())
        .collect();
    let wanted = [
        json!({ "source": "publicApi", "sourceMetadata": { "user": claire } }),
        json!({ "source": "client", "sourceMetadata": { "user": marc } }),
        json!({ "source": "automation", "sourceMetadata": { "automationId": "wfl00000000000000" } }),
        json!({ "source": "formSubmission", "sourceMetadata": { "viewId": "viw00000000000000" } }),
        json!({ "source": "formPageSubmission", "sourceMetadata": { "pageId": "pag00000000000000" } }),
        json!({ "source": "sync" }),
        json!({ "source": "system" }),
        json!({ "source": "anonymousUser" }),
        json!({ "source": "somethingNew" }),
    ];
    assert_eq!(seen, wanted);
}

#[tokio::test]
async fn payload_h11_h12_cells_are_in_the_webhooks_own_format() {
    let bench = Bench::new().await;
    let hook = bench.hook(&["tableData"], json!({}), Value::Null).await;
    let ids = Ids::of(&bench).await;
    let a = bench.record(AUTRES, json!({ "Nom": "a", "Nombre": 1 })).await;
    let wish = json!({ "singleLineText": "t", "number": 0, "date": "2024-01-31", "dateTime": "2024-01-31T07:00:00Z", "checkbox": true, "singleSelect": "A",
        "multipleSelects": ["B", "A"], "multipleRecordLinks": [a], "singleCollaborator": { "id": OWNER_USER }, "barcode": { "text": "012" }, "email": "" });
    let id = bench.record(TYPES, wish).await;
    let made = bench.payloads(&hook).await.pop().unwrap();
    let cells =
        &made["changedTablesById"][&ids.types]["createdRecordsById"][&id]["cellValuesByFieldId"];
    let cell = |name: &str| &cells[ids.t(name)];
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    for (name, value) in [
        ("singleLineText", json!("t")),
        ("number", json!(0)),
        ("date", json!("2024-01-31")),
        ("dateTime", json!("2024-01-31T07:00:00.000Z")),
        ("checkbox", json!(true)),
        ("barcode", json!({ "text": "012" })),
        ("formula", json!("t-0")),
        ("count", json!(1)),
    ] {
        assert_eq!(*cell(name), value, "{name}");
    }
    assert_eq!(keys(cell("singleSelect")), ["color", "id", "name"]);
    let names: Vec<&Value> =
        cell("multipleSelects").as_array().unwrap().iter().map(|choice| &choice["name"]).collect();
    assert_eq!(names, ["B", "A"]);
    assert_eq!(*cell("multipleRecordLinks"), json!([{ "id": a, "name": "a" }]));
    assert_eq!(
        *cell("multipleLookupValues"),
        json!({ "linkedRecordIds": [a], "valuesByLinkedRecordId": { &a: [1] } })
    );
    assert_eq!(cell("singleCollaborator")["permissionLevel"], "create");
    assert!(cells.get(ids.t("email")).is_none() && cells.get(ids.t("currency")).is_none());
    // Cleared: present, and null.
    let clear = json!({ "fields": { "checkbox": false, "singleSelect": null, "multipleRecordLinks": [], "singleLineText": "" } });
    bench.patch(&format!("{TYPES}/{id}"), clear).await.ok();
    let changed = bench.payloads(&hook).await.pop().unwrap();
    let current = &changed["changedTablesById"][&ids.types]["changedRecordsById"][&id]["current"]["cellValuesByFieldId"];
    for name in [
        "checkbox",
        "singleSelect",
        "multipleRecordLinks",
        "singleLineText",
        "multipleLookupValues",
    ] {
        assert_eq!(current.get(ids.t(name)), Some(&Value::Null), "{name}");
    }
}

#[tokio::test]
async fn payload_h13_h14_previous_and_unchanged_on_demand_and_ids_of_what_is_gone() {
    let bench = Bench::new().await;
    let ids = Ids::of(&bench).await;
    let data = &["tableData"];
    let plain = bench.hook(data, json!({}), Value::Null).await;
    let previous = bench.hook(data, json!({}), json!({ "includePreviousCellValues": true })).await;
    let some =
        bench.hook(data, json!({}), json!({ "includeCellValuesInFieldIds": [ids.o("Nom")] })).await;
    let all = bench.hook(data, json!({}), json!({ "includeCellValuesInFieldIds": "all" })).await;
    let id = bench.record(AUTRES, json!({ "Nom": "n" })).await;
    bench.patch(&format!("{AUTRES}/{id}"), json!({ "fields": { "Nombre": 2 } })).await.ok();
    bench.delete(&format!("{AUTRES}/{id}")).await.ok();
    let current = json!({ "cellValuesByFieldId": { ids.o("Nombre"): 2 } });
    let name = json!({ "cellValuesByFieldId": { ids.o("Nom"): "n" } });
    for (hook, wanted) in [
        (&plain, json!({ "current": current })),
        (
            &previous,
            json!({ "current": current, "previous": { "cellValuesByFieldId": { ids.o("Nombre"): null } } }),
        ),
        (&some, json!({ "current": current, "unchanged": name })),
        (&all, json!({ "current": current, "unchanged": name })),
    ] {
        let payloads = bench.payloads(hook).await;
        let table = |at: usize| &payloads[at]["changedTablesById"][&ids.others];
        assert_eq!(*table(1), json!({ "changedRecordsById": { &id: wanted } }));
        assert_eq!(*table(2), json!({ "destroyedRecordIds": [id] }));
    }
}

#[tokio::test]
async fn payload_h15_h16_inverse_links_and_computed_cells_in_the_same_or_the_following_payload() {
    for (inverse, computed, count) in [
        ("same", "same", 1),
        ("following", "same", 2),
        ("same", "following", 2),
        ("following", "following", 3),
    ] {
        let bench = Bench::with(|config| {
            config.inverse_payload = inverse.into();
            config.computed_payload = computed.into();
        })
        .await;
        let ids = Ids::of(&bench).await;
        let (a, t) = (
            bench.record(AUTRES, json!({ "Nom": "a", "Nombre": 4 })).await,
            bench.record(TYPES, json!({})).await,
        );
        let hook = bench.hook(&["tableData"], json!({}), Value::Null).await;
        bench
            .patch(&format!("{TYPES}/{t}"), json!({ "fields": { "multipleRecordLinks": [a] } }))
            .await
            .ok();
        let payloads = bench.payloads(&hook).await;
        assert_eq!(payloads.len(), count, "{inverse} {computed}");
        let mut cells = serde_json::Map::new();
        for payload in &payloads {
            for key in ["timestamp", "baseTransactionNumber", "actionMetadata"] {
                assert_eq!(payload[key], payloads[0][key]);
            }
            for (table, record) in [(&ids.types, &t), (&ids.others, &a)] {
                let current = &payload["changedTablesById"][table]["changedRecordsById"][record]["current"]
                    ["cellValuesByFieldId"];
                cells.extend(current.as_object().cloned().unwrap_or_default());
            }
        }
        assert_eq!(cells[ids.t("multipleRecordLinks")][0]["id"], a.as_str());
        assert_eq!(cells[ids.o("Types")][0]["id"], t.as_str());
        assert_eq!((&cells[ids.t("rollup")], &cells[ids.t("count")]), (&json!(4), &json!(1)));
        // Computed cells that depend on another table's record, and links that a delete takes away.
        bench.patch(&format!("{AUTRES}/{a}"), json!({ "fields": { "Nombre": 5 } })).await.ok();
        let last = bench.payloads(&hook).await.pop().unwrap();
        assert_eq!(
            last["changedTablesById"][&ids.types]["changedRecordsById"][&t]["current"]["cellValuesByFieldId"]
                [ids.t("rollup")],
            5
        );
        bench.delete(&format!("{AUTRES}/{a}")).await.ok();
        let payloads = bench.payloads(&hook).await;
        let mut links = payloads.iter().filter_map(|payload| payload["changedTablesById"][&ids.types]["changedRecordsById"][&t]["current"]["cellValuesByFieldId"].get(ids.t("multipleRecordLinks")));
        assert_eq!(links.next_back(), Some(&Value::Null));
    }
}

#[tokio::test]
async fn payload_h17_big_actions_are_split_and_share_their_head() {
    let bench = Bench::new().await;
    let hook = bench.hook(&["tableData"], json!({}), Value::Null).await;
    let ids = Ids::of(&bench).await;
    let edits: Vec<Edit> = (0..120).map(|n| create("Autres", json!({ "Nombre": n }))).collect();
    let mut made = bench.edit(&edits);
    let payloads = bench.payloads(&hook).await;
    let sizes: Vec<usize> = payloads
        .iter()
        .map(|payload| {
            payload["changedTablesById"][&ids.others]["createdRecordsById"]
                .as_object()
                .unwrap()
                .len()
        })
        .collect();
    assert_eq!(sizes, [50, 50, 20]);
    for key in ["timestamp", "baseTransactionNumber", "actionMetadata", "payloadFormat"] {
        assert!(payloads.iter().all(|payload| payload[key] == payloads[0][key]), "{key}");
    }
    let mut seen: Vec<String> = payloads
        .iter()
        .flat_map(|payload| {
            payload["changedTablesById"][&ids.others]["createdRecordsById"]
                .as_object()
                .unwrap()
                .keys()
                .cloned()
        })
        .collect();
    seen.sort();
    made.sort();
    assert_eq!(seen, made);
}

#[tokio::test]
async fn payload_h18_filters_keep_the_rest_out() {
    let bench = Bench::new().await;
    let ids = Ids::of(&bench).await;
    let data: &[&str] = &["tableData"];
    let all: &[&str] = &["tableData", "tableFields", "tableMetadata"];
    // What each hook gets of: create here, create there, update Nom, update Nombre, delete, rename field, rename table, by a person.
    let mut hooks = Vec::new();
    for (types, filters, wanted) in [
        (all, json!({}), vec![0, 1, 2, 3, 4, 5, 6, 7]),
        (&["tableFields"], json!({}), vec![5]),
        (&["tableMetadata"], json!({}), vec![6]),
        (data, json!({ "recordChangeScope": ids.others }), vec![0, 2, 3, 4, 7]),
        (data, json!({ "changeTypes": ["add"] }), vec![0, 1, 7]),
        (data, json!({ "changeTypes": ["update", "remove"] }), vec![2, 3, 4]),
        (data, json!({ "fromSources": ["client"] }), vec![7]),
        (data, json!({ "watchDataInFieldIds": [ids.o("Nombre")] }), vec![3, 4, 7]),
        (&["tableFields"], json!({ "watchSchemasOfFieldIds": [ids.o("Nombre")] }), vec![]),
        (&["tableFields"], json!({ "watchSchemasOfFieldIds": [ids.o("Nom")] }), vec![5]),
    ] {
        hooks.push((bench.hook(types, filters.clone(), Value::Null).await, filters, wanted));
    }
    let state = bench.control("GET", "state", Value::Null).await;
    let bases = state["bases"].as_array().unwrap();
    let base = bases.iter().find(|base| base["id"] == PLAYGROUND_BASE).unwrap();
    let first = base["transaction"].as_u64().unwrap() + 1;
    let id = bench.record(AUTRES, json!({ "Nom": "x" })).await;
    bench.record(TYPES, json!({ "singleLineText": "t" })).await;
    bench.patch(&format!("{AUTRES}/{id}"), json!({ "fields": { "Nom": "y" } })).await.ok();
    bench.patch(&format!("{AUTRES}/{id}"), json!({ "fields": { "Nombre": 1 } })).await.ok();
    bench.delete(&format!("{AUTRES}/{id}")).await.ok();
    let tables = format!("meta/bases/{PLAYGROUND_BASE}/tables/{}", ids.others);
    bench
        .patch(&format!("{tables}/fields/{}", ids.o("Nom")), json!({ "name": "Titre" }))
        .await
        .ok();
    bench.patch(&tables, json!({ "name": "Divers" })).await.ok();
    bench.edit(&[create("Divers", json!({ "Nombre": 3 }))]);
    for (hook, filters, wanted) in hooks {
        let seen: Vec<u64> = bench
            .payloads(&hook)
            .await
            .iter()
            .map(|payload| payload["baseTransactionNumber"].as_u64().unwrap() - first)
            .collect();
        assert_eq!(seen, wanted, "{filters}");
    }
}

#[tokio::test]
async fn payload_h19_a_view_tells_who_enters_and_leaves() {
    let bench = Bench::new().await;
    let ids = Ids::of(&bench).await;
    let spec = json!({ "name": "Grands", "filter": "Nombre > 10" });
    let view = bench.edit(&[Edit::CreateView { table: "Autres".into(), spec }]).remove(0);
    let hook = bench.hook(&["tableData"], json!({ "recordChangeScope": view }), Value::Null).await;
    let id = bench.record(AUTRES, json!({ "Nom": "x", "Nombre": 1 })).await;
    for fields in [json!({ "Nombre": 11 }), json!({ "Nom": "y" }), json!({ "Nombre": 2 })] {
        bench.patch(&format!("{AUTRES}/{id}"), json!({ "fields": fields })).await.ok();
    }
    let payloads = bench.payloads(&hook).await;
    assert_eq!(payloads.len(), 3, "{payloads:?}");
    let seen = |at: usize| {
        let table = &payloads[at]["changedTablesById"][&ids.others];
        assert_eq!(table.as_object().unwrap().keys().collect::<Vec<_>>(), ["changedViewsById"]);
        &table["changedViewsById"][&view]
    };
    assert_eq!(
        seen(0)["createdRecordsById"][&id]["cellValuesByFieldId"],
        json!({ ids.o("Nom"): "x", ids.o("Nombre"): 11 })
    );
    assert_eq!(
        seen(1)["changedRecordsById"][&id]["current"]["cellValuesByFieldId"],
        json!({ ids.o("Nom"): "y" })
    );
    assert_eq!(*seen(2), json!({ "destroyedRecordIds": [id] }));
    bench.get(&format!("{AUTRES}/{id}")).await.ok();
}

#[tokio::test]
async fn payload_h21_schema_events_and_option_changes_that_say_nothing() {
    let bench = Bench::new().await;
    let ids = Ids::of(&bench).await;
    let kinds = &["tableFields", "tableMetadata"];
    let hook =
        bench.hook(kinds, json!({}), json!({ "includePreviousFieldDefinitions": true })).await;
    let plain = bench.hook(kinds, json!({}), Value::Null).await;
    let types = || "Types".to_owned();
    let new = bench
        .edit(&[Edit::CreateField {
            table: types(),
            spec: json!({ "name": "Neuf", "type": "email" }),
        }])
        .remove(0);
    bench.edit(&[Edit::RenameField {
        table: types(),
        field: "number".into(),
        name: "chiffre".into(),
    }]);
    bench.edit(&[Edit::RetypeField {
        table: types(),
        field: "rating".into(),
        kind: "singleLineText".into(),
        options: Value::Null,
    }]);
    bench.edit(&[Edit::DeleteField { table: types(), field: "Neuf".into() }]);
    bench.edit(&[Edit::RenameTable { table: "Autres".into(), name: "Divers".into() }]);
    bench.edit(&[Edit::RenameChoice {
        table: types(),
        field: "singleSelect".into(),
        choice: "A".into(),
        name: "Alpha".into(),
    }]);
    let payloads = bench.payloads(&hook).await;
    let table = |at: usize, id: &str| payloads[at]["changedTablesById"][id].clone();
    assert_eq!(
        table(0, &ids.types),
        json!({ "createdFieldsById": { &new: { "name": "Neuf", "type": "email" } } })
    );
    assert_eq!(
        table(1, &ids.types),
        json!({ "changedFieldsById": { ids.t("number"): { "current": { "name": "chiffre" }, "previous": { "name": "number" } } } })
    );
    assert_eq!(
        table(2, &ids.types),
        json!({ "changedFieldsById": { ids.t("rating"): { "current": { "type": "singleLineText" }, "previous": { "type": "rating" } } } })
    );
    assert_eq!(table(3, &ids.types), json!({ "destroyedFieldIds": [new] }));
    assert_eq!(
        table(4, &ids.others)["changedMetadata"],
        json!({ "current": { "name": "Divers", "description": null }, "previous": { "name": "Autres", "description": null } })
    );
    assert_eq!(
        table(5, &ids.types),
        json!({ "changedFieldsById": { ids.t("singleSelect"): { "current": {}, "previous": {} } } })
    );
    assert_eq!(
        bench.payloads(&plain).await[1]["changedTablesById"][&ids.types],
        json!({ "changedFieldsById": { ids.t("number"): { "current": { "name": "chiffre" } } } })
    );
    // A choice that typecast adds is such a change; or none of them leaves a trace.
    let fields = json!({ "fields": { "singleSelect": "Neuf" }, "typecast": true });
    bench.post(TYPES, fields).await.ok();
    assert_eq!(bench.payloads(&hook).await.len(), 7);
    bench.sandbox.configure(|config| config.option_payload = "none".into());
    bench.edit(&[Edit::RenameChoice {
        table: types(),
        field: "singleSelect".into(),
        choice: "B".into(),
        name: "Bêta".into(),
    }]);
    assert_eq!(bench.payloads(&hook).await.len(), 7);
    // Tables that come and go.
    let made = bench
        .edit(&[Edit::CreateTable {
            spec: json!({ "name": "Neuve", "fields": [{ "name": "N", "type": "email" }] }),
        }])
        .remove(0);
    bench.edit(&[Edit::DeleteTable { table: "Neuve".into() }]);
    let payloads = bench.payloads(&hook).await;
    assert_eq!(
        payloads[7]["createdTablesById"][&made]["metadata"],
        json!({ "name": "Neuve", "description": null })
    );
    assert_eq!(payloads[8]["destroyedTableIds"], json!([made]));
}

#[tokio::test]
async fn payload_h31_created_time_may_be_later_than_the_timestamp() {
    let bench = Bench::new().await;
    let hook = bench.hook(&["tableData"], json!({}), Value::Null).await;
    let ids = Ids::of(&bench).await;
    let id = bench.record(AUTRES, json!({})).await;
    let payload = bench.payloads(&hook).await.remove(0);
    assert_eq!(payload["timestamp"], "2026-04-24T15:07:42.507Z");
    let created = &payload["changedTablesById"][&ids.others]["createdRecordsById"][&id];
    assert_eq!(created["createdTime"], "2026-04-24T15:07:43.000Z");
}

#[tokio::test]
async fn payload_h32_unknown_keys_sources_and_codes_can_be_made() {
    let bench = Bench::new().await;
    let hook = bench.hook(&["tableData"], json!({}), Value::Null).await;
    let wish = |what: &str, more: Value| {
        let mut wish = json!({ "do": what, "base": PLAYGROUND_BASE, "webhook": hook });
        wish.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        wish
    };
    bench.control("POST", "webhooks", wish("payload", json!({ "payload": { "newKey": { "a": 1 }, "actionMetadata": { "source": "fromTheFuture" } } }))).await;
    bench.control("POST", "webhooks", wish("error", json!({ "code": "NEW_CODE" }))).await;
    bench.record(AUTRES, json!({})).await;
    let payloads = bench.payloads(&hook).await;
    assert_eq!(payloads.len(), 2, "after the error there is silence");
    assert_eq!(
        (&payloads[0]["newKey"], &payloads[0]["actionMetadata"]["source"]),
        (&json!({ "a": 1 }), &json!("fromTheFuture"))
    );
    assert_eq!((&payloads[1]["error"], &payloads[1]["code"]), (&json!(true), &json!("NEW_CODE")));
}

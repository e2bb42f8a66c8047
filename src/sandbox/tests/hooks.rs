//! H1 to H7, H20 and H26 to H30 of the checklist: webhooks, from their making to their end.

use super::*;

fn specification(filters: Value) -> Value {
    json!({ "specification": { "options": { "filters": filters } } })
}

#[tokio::test]
async fn hook_h1_h28_made_with_id_secret_and_expiry_and_the_secret_is_never_told_again() {
    use base64::Engine;
    let bench = Bench::new().await;
    let made = bench.make_hook(&["tableData"], json!({}), Value::Null).await;
    assert!(super::super::ids::is_id(made["id"].as_str().unwrap(), "ach"));
    let secret = text(&made["macSecretBase64"]);
    let bytes = base64::engine::general_purpose::STANDARD.decode(&secret).unwrap();
    assert_eq!((secret.len(), bytes.len()), (172, 128));
    assert_eq!(made["expirationTime"], "2026-05-01T15:07:42.507Z");
    let listed = bench.listed_hook(&text(&made["id"])).await;
    let wanted = json!({
        "id": made["id"], "specification": { "options": { "filters": { "dataTypes": ["tableData"] } } },
        "notificationUrl": null, "cursorForNextPayload": 1, "lastNotificationResult": null, "areNotificationsEnabled": true,
        "lastSuccessfulNotificationTime": null, "isHookEnabled": true, "expirationTime": "2026-05-01T15:07:42.507Z",
    });
    assert_eq!(listed, wanted);
    // Without an address it is there for polling.
    bench.record(AUTRES, json!({})).await;
    assert_eq!(bench.payloads(&text(&made["id"])).await.len(), 1);
}

#[tokio::test]
async fn hook_h2_no_more_than_ten_and_two_of_one_integration() {
    let mut bench = Bench::new().await;
    let wish = || specification(json!({ "dataTypes": ["tableFields"] }));
    let oauth = json!({ "oauth": "one" });
    bench
        .become_token("oauthToken", &["webhook:manage", "schema.bases:read"], "create", oauth)
        .await;
    for _ in 0..2 {
        bench.post(HOOKS, wish()).await.ok();
    }
    bench.post(HOOKS, wish()).await.refused(422, "TOO_MANY_WEBHOOKS_BY_OAUTH_INTEGRATION_IN_BASE");
    bench.token = OWNER_TOKEN.into();
    for _ in 0..8 {
        bench.post(HOOKS, wish()).await.ok();
    }
    bench.post(HOOKS, wish()).await.refused(422, "TOO_MANY_WEBHOOKS_IN_BASE");
    // An integration sees its own only.
    bench.token = "oauthToken".into();
    assert_eq!(bench.get(HOOKS).await.ok()["webhooks"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn hook_h3_specifications_that_say_too_little_or_name_what_is_not_there() {
    let bench = Bench::new().await;
    for filters in [
        json!({}),
        json!({ "dataTypes": [] }),
        json!({ "dataTypes": ["everything"] }),
        json!({ "dataTypes": ["tableData"], "recordChangeScope": "Autres" }),
        json!({ "dataTypes": ["tableData"], "recordChangeScope": "tbl00000000000000" }),
        json!({ "dataTypes": ["tableData"], "changeTypes": ["move"] }),
        json!({ "dataTypes": ["tableData"], "fromSources": ["me"] }),
        json!({ "dataTypes": ["tableData"], "unknown": 1 }),
    ] {
        bench.post(HOOKS, specification(filters)).await.refused(422, "INVALID_REQUEST_UNKNOWN");
    }
    for key in ["watchDataInFieldIds", "watchSchemasOfFieldIds"] {
        for field in ["fld00000000000000", "Nom"] {
            let filters = json!({ "dataTypes": ["tableData"], key: [field] });
            bench.post(HOOKS, specification(filters)).await.refused(422, "UNKNOWN_FIELD_NAME");
        }
    }
    let mut wish = specification(json!({ "dataTypes": ["tableData"] }));
    wish["notificationUrl"] = json!("ftp://x.example");
    bench.post(HOOKS, wish).await.refused(422, "INVALID_REQUEST_UNKNOWN");
}

#[tokio::test]
async fn hook_h4_each_kind_of_data_needs_its_scope_to_make_and_to_read() {
    let mut bench = Bench::new().await;
    let data = bench.hook(&["tableData"], json!({}), Value::Null).await;
    let hidden = "INVALID_PERMISSIONS_OR_MODEL_NOT_FOUND";
    for (at, (scope, fits, not)) in [
        ("data.records:read", vec!["tableData"], "tableFields"),
        ("schema.bases:read", vec!["tableFields", "tableMetadata"], "tableData"),
    ]
    .into_iter()
    .enumerate()
    {
        bench
            .become_token(
                &format!("patHook{at}"),
                &["webhook:manage", scope],
                "create",
                Value::Null,
            )
            .await;
        bench.post(HOOKS, specification(json!({ "dataTypes": fits }))).await.ok();
        bench.post(HOOKS, specification(json!({ "dataTypes": [not] }))).await.refused(403, hidden);
    }
    bench.get(&format!("{HOOKS}/{data}/payloads")).await.refused(403, hidden);
}

#[tokio::test]
async fn hook_h5_h6_numbers_cursors_and_pages() {
    let bench = Bench::new().await;
    let hook = bench.hook(&["tableData"], json!({}), Value::Null).await;
    let path = format!("{HOOKS}/{hook}/payloads");
    let empty = bench.get(&path).await.ok();
    assert_eq!(
        empty,
        json!({ "payloads": [], "cursor": 1, "mightHaveMore": false, "payloadFormat": "v0" })
    );
    for n in 0..120 {
        bench.record(AUTRES, json!({ "Nombre": n })).await;
    }
    let count = |page: &Value| page["payloads"].as_array().unwrap().len();
    let first = bench.get(&path).await.ok();
    assert_eq!(
        (count(&first), &first["cursor"], &first["mightHaveMore"]),
        (50, &json!(51), &json!(true))
    );
    assert_eq!(bench.get(&path).await.ok(), first, "reading is not acknowledging");
    assert!(
        first["payloads"]
            .as_array()
            .unwrap()
            .iter()
            .all(|payload| payload["payloadFormat"] == "v0")
    );
    for (cursor, limit, found, next, more) in [
        (51, 50, 50, 101, true),
        (101, 50, 20, 121, false),
        (121, 50, 0, 121, false),
        (120, 1, 1, 121, false),
        (1, 7, 7, 8, true),
        (500, 50, 0, 500, false),
    ] {
        let page = bench.get(&format!("{path}?cursor={cursor}&limit={limit}")).await.ok();
        assert_eq!(
            (count(&page), &page["cursor"], &page["mightHaveMore"]),
            (found, &json!(next), &json!(more)),
            "{cursor}"
        );
    }
    for query in ["cursor=0", "cursor=-1", "cursor=x", "limit=0", "limit=51"] {
        bench.get(&format!("{path}?{query}")).await.refused(422, "INVALID_REQUEST_UNKNOWN");
    }
    assert_eq!(bench.listed_hook(&hook).await["cursorForNextPayload"], 121);
}

#[tokio::test]
async fn hook_h7_payloads_vanish_after_a_week_and_an_old_cursor_starts_at_the_oldest() {
    let bench = Bench::new().await;
    let hook = bench.hook(&["tableData"], json!({}), Value::Null).await;
    let path = format!("{HOOKS}/{hook}/payloads");
    bench.record(AUTRES, json!({})).await;
    bench.sandbox.advance(DAY * 4);
    bench.record(AUTRES, json!({})).await;
    bench.get(&path).await.ok();
    bench.sandbox.advance(DAY * 3);
    let page = bench.get(&format!("{path}?cursor=1")).await.ok();
    assert_eq!((page["payloads"].as_array().unwrap().len(), &page["cursor"]), (1, &json!(3)));
    bench.sandbox.configure(|config| config.purged_cursor_is_refused = true);
    bench.get(&format!("{path}?cursor=1")).await.refused(422, "INVALID_REQUEST_UNKNOWN");
    bench.get(&format!("{path}?cursor=2")).await.ok();
}

#[tokio::test]
async fn hook_h20_a_deleted_field_in_its_filters_ends_it_with_one_error_payload() {
    for (code, looks_alive) in [("INVALID_FILTERS", true), ("INVALID_HOOK", false)] {
        let bench = Bench::with(|config| {
            config.dead_hook_code = code.into();
            config.dead_hook_looks_alive = looks_alive;
        })
        .await;
        let others = bench.table(PLAYGROUND_BASE, "Autres").await;
        let (table, number) = (text(&others["id"]), field_id(&others, "Nombre"));
        let hook = bench
            .hook(&["tableData"], json!({ "watchDataInFieldIds": [number] }), Value::Null)
            .await;
        let scoped =
            bench.hook(&["tableData"], json!({ "recordChangeScope": table }), Value::Null).await;
        bench.record(AUTRES, json!({ "Nombre": 1 })).await;
        bench.edit(&[Edit::DeleteField { table: "Autres".into(), field: "Nombre".into() }]);
        bench.record(AUTRES, json!({ "Nom": "nach" })).await;
        let payloads = bench.payloads(&hook).await;
        assert_eq!(payloads.len(), 2, "{payloads:?}");
        let last = &payloads[1];
        assert_eq!((&last["error"], &last["code"]), (&json!(true), &json!(code)));
        assert_eq!(last["changedTablesById"][&table]["destroyedFieldIds"], json!([number]));
        assert_eq!(last["actionMetadata"]["source"], "client");
        assert_eq!(bench.listed_hook(&hook).await["isHookEnabled"], looks_alive);
        // The other goes on, until its table goes.
        assert_eq!(bench.payloads(&scoped).await.last().unwrap().get("error"), None);
        bench.edit(&[Edit::DeleteTable { table: table.clone() }]);
        assert_eq!(bench.payloads(&scoped).await.last().unwrap()["code"], code);
    }
}

#[tokio::test]
async fn hook_h26_notifications_off_and_on_again() {
    let bench = Bench::new().await;
    let hook = bench.hook(&["tableData"], json!({}), Value::Null).await;
    let path = format!("{HOOKS}/{hook}/enableNotifications");
    for on in [false, true] {
        assert_eq!(bench.post(&path, json!({ "enable": on })).await.ok(), json!({}));
        assert_eq!(bench.listed_hook(&hook).await["areNotificationsEnabled"], on);
    }
    bench.post(&path, json!({})).await.refused(422, "INVALID_REQUEST_UNKNOWN");
}

#[tokio::test]
async fn hook_h27_lives_a_week_from_the_last_call_then_a_week_for_reading_then_is_gone() {
    let bench = Bench::new().await;
    let hook = bench.hook(&["tableData"], json!({}), Value::Null).await;
    let path = format!("{HOOKS}/{hook}");
    let expiry = async || text(&bench.listed_hook(&hook).await["expirationTime"]);
    bench.sandbox.advance(DAY);
    let refreshed = bench.send("POST", &format!("{path}/refresh"), json!({})).await.ok();
    assert_eq!(refreshed, json!({ "expirationTime": "2026-05-02T15:07:42.507Z" }));
    bench.sandbox.advance(DAY);
    bench.payloads(&hook).await;
    assert_eq!(expiry().await, "2026-05-03T15:07:42.507Z");
    bench.record(AUTRES, json!({})).await;
    bench.sandbox.advance(Duration::from_millis(7 * 86_400_000 - 1));
    assert_eq!(bench.listed_hook(&hook).await["isHookEnabled"], true);
    bench.sandbox.advance(Duration::from_millis(1));
    assert_eq!(bench.listed_hook(&hook).await["isHookEnabled"], false);
    // Expired: nothing new, what there is can be read, no way back.
    bench.sandbox.configure(|config| config.payload_kept_ms = 100 * 86_400_000);
    bench.record(AUTRES, json!({})).await;
    assert_eq!(bench.listed_hook(&hook).await["cursorForNextPayload"], 2);
    bench.get(&format!("{path}/payloads")).await.ok();
    assert_eq!(expiry().await, "2026-05-03T15:07:42.507Z", "reading prolongs it no more");
    bench
        .send("POST", &format!("{path}/refresh"), json!({}))
        .await
        .refused(422, "INVALID_REQUEST_UNKNOWN");
    bench.sandbox.advance(DAY * 7);
    assert_eq!(bench.listed_hook(&hook).await, Value::Null);
    bench.get(&format!("{path}/payloads")).await.refused(404, "MODEL_ID_NOT_FOUND");
}

#[tokio::test]
async fn hook_h27_expired_by_hand_is_as_expired_by_time() {
    let bench = Bench::new().await;
    let hook = bench.hook(&["tableData"], json!({}), Value::Null).await;
    bench.record(AUTRES, json!({})).await;
    bench.sandbox.disturb_webhooks(PLAYGROUND_BASE, Some(&hook), "expire", "").unwrap();
    bench.record(AUTRES, json!({})).await;
    assert_eq!(bench.payloads(&hook).await.len(), 1);
    assert_eq!(bench.listed_hook(&hook).await["isHookEnabled"], false);
    bench
        .send("POST", &format!("{HOOKS}/{hook}/refresh"), json!({}))
        .await
        .refused(422, "INVALID_REQUEST_UNKNOWN");
}

#[tokio::test]
async fn hook_h29_deleted_it_answers_no_more() {
    let bench = Bench::new().await;
    let hook = bench.hook(&["tableData"], json!({}), Value::Null).await;
    let path = format!("{HOOKS}/{hook}");
    assert_eq!(bench.delete(&path).await.ok(), json!({}));
    bench.get(&format!("{path}/payloads")).await.refused(404, "MODEL_ID_NOT_FOUND");
    bench.delete(&path).await.refused(404, "MODEL_ID_NOT_FOUND");
    bench.sandbox.configure(|config| config.gone_hook_status = 403);
    bench.delete(&path).await.refused(403, "INVALID_PERMISSIONS_OR_MODEL_NOT_FOUND");
}

#[tokio::test]
async fn hook_h30_all_hooks_of_a_base_share_its_transaction_numbers() {
    let bench = Bench::new().await;
    let all = bench.hook(&["tableData"], json!({}), Value::Null).await;
    let removals =
        bench.hook(&["tableData"], json!({ "changeTypes": ["remove"] }), Value::Null).await;
    let id = bench.record(AUTRES, json!({})).await;
    bench.patch(&format!("{AUTRES}/{id}"), json!({ "fields": { "Nom": "x" } })).await.ok();
    bench.delete(&format!("{AUTRES}/{id}")).await.ok();
    let numbers = async |hook: &str| -> Vec<u64> {
        let payloads = bench.payloads(hook).await;
        payloads.iter().map(|payload| payload["baseTransactionNumber"].as_u64().unwrap()).collect()
    };
    let seen = numbers(&all).await;
    assert_eq!(seen, [seen[0], seen[0] + 1, seen[0] + 2]);
    // Filters make gaps in the transactions, not in the payloads' own numbers.
    assert_eq!(numbers(&removals).await, [seen[2]]);
    assert_eq!(bench.listed_hook(&removals).await["cursorForNextPayload"], 2);
}

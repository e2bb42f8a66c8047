//! A and R of the checklist: transport, tokens, errors, rate limits.

use super::*;

const HIDDEN: &str = "INVALID_PERMISSIONS_OR_MODEL_NOT_FOUND";

#[tokio::test]
async fn transport_a1_no_or_wrong_token_is_401() {
    let bench = Bench::new().await;
    let wanted =
        r#"{"error":{"type":"AUTHENTICATION_REQUIRED","message":"Authentication required"}}"#;
    for header in [None, Some("Bearer patWrong.0"), Some("Basic dXNlcjpwdw=="), Some("nonsense")] {
        let url = format!("{}/v0/{AUTRES}", bench.sandbox.url());
        let mut request = bench.client.get(url);
        if let Some(header) = header {
            request = request.header("authorization", header);
        }
        let seen = bench.seen(request).await;
        assert_eq!((seen.status, seen.text.as_str()), (401, wanted), "{header:?}");
    }
    // The old key in the query is dead.
    let url = format!("{}/v0/{AUTRES}?api_key={OWNER_TOKEN}", bench.sandbox.url());
    assert_eq!(bench.seen(bench.client.get(url)).await.status, 401);
}

#[tokio::test]
async fn transport_a2_what_a_token_may_not_see_is_403() {
    let mut bench = Bench::new().await;
    for path in [
        "app00000000000000/Autres",
        "appPlaitBac000002/Nulle%20part",
        "meta/bases/app00000000000000/tables",
    ] {
        bench.get(path).await.refused(403, HIDDEN);
    }
    bench.sandbox.configure(|config| config.unknown_table_is_404 = true);
    bench.get("appPlaitBac000002/Nulle").await.refused_saying(
        404,
        "TABLE_NOT_FOUND",
        "Could not find table Nulle in application appPlaitBac000002",
    );
    let grant = json!({ "bases": [NETWORK_BASE] });
    bench.become_token("patOneBase", &["data.records:read"], "create", grant).await;
    bench.get(AUTRES).await.refused(403, HIDDEN);
    bench.get(MEMBRES).await.ok();
}

#[tokio::test]
async fn transport_a3_malformed_ids_and_unknown_routes_are_404_before_the_token() {
    let mut bench = Bench::new().await;
    bench.token = "patWrong.0".into();
    for (method, path) in [
        ("GET", "junk/Autres"),
        ("GET", "meta/bases/junk/tables"),
        ("GET", "meta/nothing"),
        ("GET", "appPlaitBac000002"),
        ("GET", "appPlaitBac000002/Autres/rec1"),
        ("PATCH", "bases/appPlaitBac000002/webhooks/ach00000000000000"),
        ("GET", "bases/appPlaitBac000002/webhooks/ach00000000000000"),
    ] {
        let seen = bench.send(method, path, json!({})).await;
        assert_eq!(
            (seen.status, seen.text.as_str()),
            (404, r#"{"error":"NOT_FOUND"}"#),
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn transport_a4_each_endpoint_needs_its_scope_and_role() {
    let mut bench = Bench::new().await;
    let row = bench.record(AUTRES, json!({})).await;
    let hook = bench.hook(&["tableFields"], json!({}), Value::Null).await;
    let hook = format!("{HOOKS}/{hook}");
    let tables = format!("meta/bases/{PLAYGROUND_BASE}/tables");
    let record = format!("{AUTRES}/{row}");
    let comments = format!("{record}/comments");
    let field = format!("{tables}/Autres/fields/{}", bench.field("Autres", "Nom").await);
    let wish =
        json!({ "specification": { "options": { "filters": { "dataTypes": ["tableFields"] } } } });
    // (method, path, body, scope, lowest role)
    let table = [
        ("GET", "meta/bases".to_string(), Value::Null, "schema.bases:read", "read"),
        ("GET", tables.clone(), Value::Null, "schema.bases:read", "read"),
        (
            "POST",
            "meta/bases".into(),
            json!({ "name": "B", "workspaceId": "wsp00000000000000", "tables": [{ "name": "T", "fields": [{ "name": "N", "type": "email" }] }] }),
            "schema.bases:write",
            "create",
        ),
        (
            "POST",
            tables.clone(),
            json!({ "name": "T", "fields": [{ "name": "N", "type": "email" }] }),
            "schema.bases:write",
            "create",
        ),
        (
            "PATCH",
            format!("{tables}/Autres"),
            json!({ "description": "d" }),
            "schema.bases:write",
            "create",
        ),
        (
            "POST",
            format!("{tables}/Autres/fields"),
            json!({ "name": "F", "type": "email" }),
            "schema.bases:write",
            "create",
        ),
        ("PATCH", field, json!({ "description": "d" }), "schema.bases:write", "create"),
        ("GET", AUTRES.into(), Value::Null, "data.records:read", "read"),
        ("POST", format!("{AUTRES}/listRecords"), json!({}), "data.records:read", "read"),
        ("GET", record.clone(), Value::Null, "data.records:read", "read"),
        ("POST", AUTRES.into(), json!({ "fields": {} }), "data.records:write", "edit"),
        ("PATCH", record.clone(), json!({ "fields": {} }), "data.records:write", "edit"),
        (
            "PUT",
            AUTRES.into(),
            json!({ "records": [{ "id": row, "fields": {} }] }),
            "data.records:write",
            "edit",
        ),
        ("GET", comments.clone(), Value::Null, "data.recordComments:read", "read"),
        ("POST", comments, json!({ "text": "t" }), "data.recordComments:write", "comment"),
        ("DELETE", record, Value::Null, "data.records:write", "edit"),
        ("GET", HOOKS.into(), Value::Null, "webhook:manage", "read"),
        ("POST", format!("{hook}/refresh"), Value::Null, "webhook:manage", "create"),
        (
            "POST",
            format!("{hook}/enableNotifications"),
            json!({ "enable": true }),
            "webhook:manage",
            "create",
        ),
        ("DELETE", hook, Value::Null, "webhook:manage", "create"),
        ("POST", HOOKS.into(), wish, "webhook:manage", "create"),
    ];
    let roles = ["none", "read", "comment", "edit", "create"];
    let all = [
        "schema.bases:read",
        "schema.bases:write",
        "data.records:read",
        "data.records:write",
        "data.recordComments:read",
        "data.recordComments:write",
        "webhook:manage",
    ];
    for (at, (method, path, body, scope, role)) in table.into_iter().enumerate() {
        let body = (!body.is_null()).then_some(body);
        let path = format!("/v0/{path}");
        let others: Vec<&str> = all.iter().filter(|known| **known != scope).copied().collect();
        bench.become_token(&format!("patNoScope{at}"), &others, "create", Value::Null).await;
        let seen = bench.seen(bench.request(method, &path, body.as_ref())).await;
        assert_eq!(
            (seen.status, seen.body["error"]["type"].as_str()),
            (403, Some(HIDDEN)),
            "{method} {path}"
        );
        let rank = roles.iter().position(|known| *known == role).unwrap();
        if path != "/v0/meta/bases" || method != "GET" {
            bench.become_token(&format!("patNoRole{at}"), &all, roles[rank - 1], Value::Null).await;
            let seen = bench.seen(bench.request(method, &path, body.as_ref())).await;
            assert_eq!(
                seen.text,
                r#"{"error":{"type":"INVALID_PERMISSIONS","message":"You are not permitted to perform this operation"}}"#,
                "{method} {path}"
            );
        }
        // A webhook of tableFields asks for the schema's scope too.
        let needed = ["schema.bases:read", scope];
        bench.become_token(&format!("patFits{at}"), &needed, role, Value::Null).await;
        let seen = bench.seen(bench.request(method, &path, body.as_ref())).await;
        assert_eq!(seen.status, 200, "{method} {path}: {}", seen.text);
    }
}

#[tokio::test]
async fn transport_a5_whoami_tells_scopes_to_oauth_and_the_address_to_its_scope() {
    let mut bench = Bench::new().await;
    let email = "claire.dubois@reseau.example";
    bench.become_token("patBare", &[], "none", Value::Null).await;
    assert_eq!(bench.get("meta/whoami").await.ok(), json!({ "id": OWNER_USER }));
    bench.become_token("patMail", &["user.email:read"], "read", Value::Null).await;
    assert_eq!(bench.get("meta/whoami").await.ok(), json!({ "id": OWNER_USER, "email": email }));
    let oauth = json!({ "oauth": "integration" });
    bench.become_token("oauth1", &["webhook:manage"], "read", oauth.clone()).await;
    assert_eq!(
        bench.get("meta/whoami").await.ok(),
        json!({ "id": OWNER_USER, "scopes": ["webhook:manage"] })
    );
    bench.become_token("oauth2", &["user.email:read"], "read", oauth).await;
    assert_eq!(bench.get("meta/whoami").await.ok()["email"], email);
}

#[tokio::test]
async fn transport_a6_a9_success_is_200_with_the_slash_and_the_empty_query_of_airtable_js() {
    let bench = Bench::new().await;
    // `ok` asserts status and content type; each of these makes, changes or deletes.
    let made = bench.post(&format!("{AUTRES}/?"), json!({ "fields": { "Nom": "x" } })).await.ok();
    let id = text(&made["id"]);
    bench.patch(&format!("{AUTRES}/{id}/?"), json!({ "fields": { "Nom": "y" } })).await.ok();
    assert_eq!(
        bench.delete(&format!("{AUTRES}/{id}?")).await.ok(),
        json!({ "id": id, "deleted": true })
    );
    let hook = bench.hook(&["tableData"], json!({}), Value::Null).await;
    bench.delete(&format!("{HOOKS}/{hook}")).await.ok();
}

#[tokio::test]
async fn transport_a7_a_body_that_is_no_json_or_says_too_much_is_refused() {
    let bench = Bench::new().await;
    let path = format!("/v0/{AUTRES}");
    let raw = |body: &'static str, kind: &'static str| {
        bench.request("POST", &path, None).header("content-type", kind).body(body)
    };
    let message = "Could not parse request body";
    for (body, kind) in [("{", "application/json"), (r#"{"fields":{}}"#, "text/plain")] {
        bench.seen(raw(body, kind)).await.refused_saying(422, "INVALID_REQUEST_BODY", message);
    }
    bench.sandbox.configure(|config| config.bad_json_status = 400);
    bench.seen(raw("{", "application/json")).await.refused(400, "INVALID_REQUEST_BODY");
    for body in
        [json!({ "fields": {}, "extra": 1 }), json!({ "fields": {}, "typecast": "yes" }), json!([])]
    {
        bench.post(AUTRES, body).await.refused_saying(
            422,
            "INVALID_REQUEST_UNKNOWN",
            "Invalid request: parameter validation failed. Check your request data.",
        );
    }
    bench.post(AUTRES, json!({})).await.refused_saying(
        422,
        "INVALID_REQUEST_MISSING_FIELDS",
        "Could not find field \"fields\" in the request body",
    );
}

#[tokio::test]
async fn transport_a8_errors_come_as_object_as_text_and_without_message() {
    let bench = Bench::new().await;
    assert!(bench.get("junk/x").await.body["error"].is_string());
    assert!(bench.get("app00000000000000/x").await.body["error"]["message"].is_string());
    bench.sandbox.inject(super::super::Fault::next(super::super::FaultKind::RateLimit));
    assert!(bench.get(AUTRES).await.body["errors"][0]["error"].is_string());
}

#[tokio::test]
async fn transport_a10_long_urls_and_big_bodies_are_refused() {
    let bench = Bench::with(|config| config.body_byte_max = 1000).await;
    let padded = |length: usize| {
        let path = format!("{AUTRES}?filterByFormula=");
        let room = length - format!("/v0/{path}").len();
        format!("{path}{}", "1".repeat(room))
    };
    bench.get(&padded(15_999)).await.ok();
    assert_eq!(bench.get(&padded(16_000)).await.status, 414);
    bench.sandbox.configure(|config| config.long_url_status = 413);
    assert_eq!(bench.get(&padded(16_000)).await.status, 413);
    let big = json!({ "fields": { "Nom": "x".repeat(1000) } });
    assert_eq!(bench.post(AUTRES, big).await.status, 413);
}

#[tokio::test]
async fn rate_limit_r1_r2_r7_the_sixth_call_to_a_base_ends_all_calls_for_30_seconds() {
    let mut bench = Bench::with(|config| config.limits = true).await;
    // Any endpoint and any token count for the base.
    for path in [AUTRES, HOOKS, TYPES, "meta/bases/appPlaitBac000002/tables"] {
        bench.get(path).await.ok();
    }
    bench.token = READER_TOKEN.into();
    bench.get(AUTRES).await.ok();
    let refused = bench.get(AUTRES).await;
    assert_eq!((refused.status, refused.retry_after.as_deref()), (429, None));
    assert_eq!(
        refused.text,
        r#"{"errors":[{"error":"RATE_LIMIT_REACHED","message":"Rate limit exceeded. Please try again later"}]}"#
    );
    bench.token = OWNER_TOKEN.into();
    bench.get(MEMBRES).await.ok();
    bench.sandbox.advance(Duration::from_millis(29_999));
    assert_eq!(bench.get(HOOKS).await.status, 429);
    bench.sandbox.advance(Duration::from_millis(1));
    bench.get(AUTRES).await.ok();
}

#[tokio::test]
async fn rate_limit_r3_r4_r5_a_user_over_all_bases_and_the_other_forms_of_the_refusal() {
    let bench = Bench::with(|config| config.limits = true).await;
    for _ in 0..50 {
        bench.get("meta/whoami").await.ok();
    }
    assert_eq!(bench.get("meta/whoami").await.status, 429);
    bench.sandbox.configure(|config| {
        config.rate_limit_body = "singular".into();
        config.retry_after_seconds = Some(30);
    });
    let refused = bench.get(AUTRES).await;
    assert_eq!(refused.retry_after.as_deref(), Some("30"));
    refused.refused_saying(
        429,
        "RATE_LIMIT_REACHED",
        "Rate limit exceeded. Please try again later",
    );
}

#[tokio::test]
async fn rate_limit_r6_the_months_quota_ends_data_calls_and_spares_metadata() {
    let bench = Bench::with(|config| config.monthly_quota = Some(2)).await;
    bench.get(AUTRES).await.ok();
    bench.get(HOOKS).await.ok();
    bench.get(AUTRES).await.refused(429, "PUBLIC_API_BILLING_LIMIT_EXCEEDED");
    bench.get("meta/bases").await.ok();
    bench.sandbox.configure(|config| config.quota_spares_meta = false);
    bench.get("meta/bases").await.refused(429, "PUBLIC_API_BILLING_LIMIT_EXCEEDED");
}

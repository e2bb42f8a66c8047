//! T of the checklist, and comments: time, the log of what is true, snapshots, the same seed again.

use super::*;

#[tokio::test]
async fn world_t1_time_moves_on_demand() {
    let bench = Bench::new().await;
    let moved = bench.control("POST", "clock", json!({ "advance_ms": 86_400_000 })).await;
    assert_eq!(moved["now_ms"], START_MS + 86_400_000);
    let made = bench.post(AUTRES, json!({ "fields": {} })).await.ok();
    assert_eq!(made["createdTime"], "2026-04-25T15:07:43.000Z");
}

#[tokio::test]
async fn world_t2_the_same_seed_gives_the_same_bases_and_another_other_ids() {
    let schema = async |seed: u64| {
        let clock = Arc::new(Clock::manual(START_MS));
        let mut options = Options { seed, clock, ..Options::default() };
        options.config.limits = false;
        options.config.shuffle_keys = false;
        let sandbox = Sandbox::start(options).await.unwrap();
        let all: Vec<_> = sandbox.records(NETWORK_BASE, "Investissements");
        sandbox.stop().await.unwrap();
        all
    };
    let (one, again, other) = (schema(1).await, schema(1).await, schema(2).await);
    assert_eq!(one, again);
    assert_ne!(one[0].0, other[0].0);
}

#[tokio::test]
async fn world_t3_the_log_has_every_transaction_with_the_values_before() {
    let bench = Bench::new().await;
    let id = bench.record(AUTRES, json!({ "Nombre": 1 })).await;
    bench.patch(&format!("{AUTRES}/{id}"), json!({ "fields": { "Nombre": 2 } })).await.ok();
    bench.delete(&format!("{AUTRES}/{id}")).await.ok();
    let log = bench.control("GET", &format!("log?base={PLAYGROUND_BASE}"), Value::Null).await;
    let log = log.as_array().unwrap();
    assert_eq!(log.len(), 3);
    let others = bench.table(PLAYGROUND_BASE, "Autres").await;
    let (table, number) = (text(&others["id"]), field_id(&others, "Nombre"));
    let change = &log[1]["changedTablesById"][&table]["changedRecordsById"][&id];
    assert_eq!(
        (
            &change["previous"]["cellValuesByFieldId"][&number],
            &change["current"]["cellValuesByFieldId"][&number]
        ),
        (&json!(1), &json!(2))
    );
    let after = log[1]["baseTransactionNumber"].as_u64().unwrap();
    let rest = bench
        .control("GET", &format!("log?base={PLAYGROUND_BASE}&after={after}"), Value::Null)
        .await;
    assert_eq!(rest.as_array().unwrap().len(), 1);
    assert_eq!(rest[0]["changedTablesById"][&table]["destroyedRecordIds"], json!([id]));
}

#[tokio::test]
async fn world_t4_snapshots_bring_bases_and_webhooks_back() {
    let bench = Bench::new().await;
    let hook = bench.hook(&["tableData"], json!({}), Value::Null).await;
    let id = bench.record(AUTRES, json!({ "Nom": "avant" })).await;
    bench.control("POST", "snapshots", json!({ "do": "take", "name": "un" })).await;
    let whole = bench.control("GET", "snapshot", Value::Null).await;
    bench.delete(&format!("{AUTRES}/{id}")).await.ok();
    for restore in ["named", "whole"] {
        assert_eq!(bench.get(&format!("{AUTRES}/{id}")).await.status, 404);
        if restore == "named" {
            bench.control("POST", "snapshots", json!({ "do": "restore", "name": "un" })).await;
        } else {
            bench.control("PUT", "snapshot", whole.clone()).await;
        }
        assert_eq!(bench.fields(AUTRES, &id).await, json!({ "Nom": "avant" }));
        assert_eq!(bench.payloads(&hook).await.len(), 1);
        bench.delete(&format!("{AUTRES}/{id}")).await.ok();
    }
}

#[tokio::test]
async fn world_t4_the_state_file_keeps_everything_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let options =
        || Options { state_file: Some(folder.path().join("state.json")), ..Options::default() };
    let sandbox = Sandbox::start(options()).await.unwrap();
    let person = Actor::person(OWNER_USER);
    let id = sandbox
        .edit_as(PLAYGROUND_BASE, person, &[create("Autres", json!({ "Nom": "gardé" }))])
        .unwrap()
        .remove(0);
    sandbox.stop().await.unwrap();
    let sandbox = Sandbox::start(options()).await.unwrap();
    let kept = sandbox.records(PLAYGROUND_BASE, "Autres");
    assert!(kept.contains(&(id, json!({ "Nom": "gardé" }))));
    sandbox.stop().await.unwrap();
}

#[tokio::test]
async fn comments_have_pages_authors_mentions_and_parents_and_make_no_payload() {
    let mut bench = Bench::new().await;
    let id = bench.record(AUTRES, json!({})).await;
    let hook = bench.hook(&["tableData"], json!({}), Value::Null).await;
    let path = format!("{AUTRES}/{id}/comments");
    assert_eq!(bench.get(&path).await.ok(), json!({ "comments": [], "offset": null }));
    let first = bench.post(&path, json!({ "text": "Bonjour @[usrMarcLeGoff0001]" })).await.ok();
    assert_eq!(first["createdTime"], "2026-04-24T15:07:42.507Z");
    assert_eq!(
        first["mentioned"]["usrMarcLeGoff0001"],
        json!({ "type": "user", "id": "usrMarcLeGoff0001", "displayName": "Marc Le Goff", "email": "marc.legoff@reseau.example" })
    );
    let second =
        bench.post(&path, json!({ "text": "oui", "parentCommentId": first["id"] })).await.ok();
    assert_eq!((&second["parentCommentId"], second.get("mentioned")), (&first["id"], None));
    let page = bench.get(&format!("{path}?pageSize=1")).await.ok();
    assert_eq!(page["comments"][0]["id"], second["id"]);
    assert_eq!(page["comments"][0]["createdTime"], "2026-04-24T15:07:43.000Z");
    let last = bench.get(&format!("{path}?pageSize=1&offset={}", text(&page["offset"]))).await.ok();
    assert_eq!((&last["comments"][0]["id"], &last["offset"]), (&first["id"], &Value::Null));
    let one = format!("{path}/{}", text(&first["id"]));
    let changed = bench.patch(&one, json!({ "text": "corrigé" })).await.ok();
    assert_eq!(
        (&changed["text"], &changed["lastUpdatedTime"]),
        (&json!("corrigé"), &json!("2026-04-24T15:07:42.507Z"))
    );
    let stranger = json!({ "user": "usrMarcLeGoff0001" });
    bench.become_token("patMarc", &["data.recordComments:write"], "create", stranger).await;
    bench.patch(&one, json!({ "text": "à moi" })).await.refused(403, "INVALID_PERMISSIONS");
    bench.token = OWNER_TOKEN.into();
    assert_eq!(bench.delete(&one).await.ok(), json!({ "id": first["id"], "deleted": true }));
    assert_eq!(bench.payloads(&hook).await, Vec::<Value>::new());
}

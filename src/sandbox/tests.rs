//! The sandbox over HTTP, as a client sees it.

use serde_json::{Value, json};

use super::{NETWORK_BASE, OWNER_TOKEN, Options, PLAYGROUND_BASE, Sandbox};

async fn call(sandbox: &Sandbox, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let url = format!("{}{path}", sandbox.url());
    let mut request = reqwest::Client::new()
        .request(method.parse().unwrap(), url)
        .header("authorization", format!("Bearer {OWNER_TOKEN}"));
    if let Some(body) = body {
        request = request.header("content-type", "application/json").body(body.to_string());
    }
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
}

#[tokio::test]
async fn sandbox_seeded_base_is_listed_in_pages() {
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    let (status, first) = call(&sandbox, "GET", &format!("/v0/{NETWORK_BASE}/Membres"), None).await;
    assert_eq!((status, first["records"].as_array().unwrap().len()), (200, 100), "{first}");
    let offset = first["offset"].as_str().unwrap();
    let (_, second) =
        call(&sandbox, "GET", &format!("/v0/{NETWORK_BASE}/Membres?offset={offset}"), None).await;
    assert!(second["records"][0]["id"].as_str() > first["records"][99]["id"].as_str());
    sandbox.stop().await.unwrap();
}

#[tokio::test]
async fn sandbox_h8_payload_is_there_when_the_write_is_answered() {
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    let hooks = format!("/v0/bases/{PLAYGROUND_BASE}/webhooks");
    let wish =
        json!({ "specification": { "options": { "filters": { "dataTypes": ["tableData"] } } } });
    let (status, hook) = call(&sandbox, "POST", &hooks, Some(wish)).await;
    assert_eq!(status, 200, "{hook}");
    assert_eq!(hook["macSecretBase64"].as_str().unwrap().len(), 172);
    let body = json!({ "fields": { "Nom": "Un", "Nombre": 0.1 } });
    let (status, record) =
        call(&sandbox, "POST", &format!("/v0/{PLAYGROUND_BASE}/Autres"), Some(body)).await;
    assert_eq!(status, 200, "{record}");
    let (_, page) =
        call(&sandbox, "GET", &format!("{hooks}/{}/payloads", hook["id"].as_str().unwrap()), None)
            .await;
    assert_eq!(page["cursor"], 2, "{page}");
    assert_eq!(page["payloads"][0]["actionMetadata"]["source"], "publicApi");
    sandbox.stop().await.unwrap();
}

//! The clients that people use against Airtable, unmodified, against `plait sandbox`. What each part asserts is
//! in its script under `tests/clients`; here is that every part ran and held, and what the sandbox saw of it.

use std::{path::Path, process::Stdio, time::Duration};

use plait::demo::cache;
use plait::sandbox::{NETWORK_BASE, OWNER_TOKEN, PLAYGROUND_BASE, READER_TOKEN};
use tokio::process::Command;

use crate::sandbox_program::Program;

/// Far more than a run takes; a client that waits for an answer for ever is the fault this would show.
const LIMIT: Duration = Duration::from_mins(3);

fn script(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

/// Runs a script against the sandbox and returns the names of the parts that held.
async fn drive(program: &Program, mut command: Command) -> Vec<String> {
    let output = command
        .args([&program.url, OWNER_TOKEN, READER_TOKEN, NETWORK_BASE, PLAYGROUND_BASE])
        .env_remove("HTTP_PROXY")
        .env_remove("http_proxy")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output =
        tokio::time::timeout(LIMIT, output).await.expect("the client ends in time").unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let trace = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{trace}");
    told.lines().filter_map(|line| line.strip_prefix("ok ")).map(str::to_string).collect()
}

/// Requests of each of these kinds arrived, and no call to no endpoint but those that the scripts make on purpose.
async fn assert_arrived(program: &Program, kinds: &[&str], unknown_max: u64) {
    let stats = program.look("stats").await;
    for kind in kinds {
        assert!(stats["by_kind"][kind].as_u64() > Some(0), "no request of kind {kind}: {stats}");
    }
    for status in ["200", "401", "403", "404", "422", "429"] {
        assert!(stats["by_status"][status].as_u64() > Some(0), "no answer {status}: {stats}");
    }
    let unknown = stats["by_kind"]["unknown"].as_u64().unwrap_or(0);
    assert!(unknown <= unknown_max, "{unknown} calls to no endpoint: {stats}");
}

#[tokio::test]
async fn sandbox_is_an_airtable_to_pyairtable() {
    let program = Program::start().await;
    let mut python = Command::new(cache::clients().unwrap().join("venv/bin/python"));
    python.arg("-B").arg(script("pyairtable_drive.py"));
    let parts = drive(&program, python).await;
    assert_eq!(parts.len(), 19, "{parts:?}");
    let kinds = [
        "whoami",
        "bases",
        "create_base",
        "schema",
        "create_table",
        "update_table",
        "create_field",
        "update_field",
        "list",
        "get",
        "create",
        "update",
        "delete",
        "upload",
        "comments",
        "create_comment",
        "update_comment",
        "delete_comment",
        "create_webhook",
        "webhooks",
        "payloads",
        "refresh_webhook",
        "enable_webhook",
        "delete_webhook",
    ];
    assert_arrived(&program, &kinds, 2).await;
    assert!(program.look("stats").await["ping_count"].as_u64() > Some(0));
    program.stop().await;
}

#[tokio::test]
async fn sandbox_is_an_airtable_to_airtable_js() {
    let program = Program::start().await;
    let mut node = Command::new(cache::node().unwrap());
    node.env("NODE_PATH", cache::clients().unwrap().join("node_modules"));
    node.arg(script("airtable_js_drive.js"));
    let parts = drive(&program, node).await;
    assert_eq!(parts.len(), 11, "{parts:?}");
    let kinds = [
        "schema",
        "list",
        "get",
        "create",
        "update",
        "delete",
        "create_webhook",
        "payloads",
        "refresh_webhook",
        "delete_webhook",
    ];
    assert_arrived(&program, &kinds, 0).await;
    program.stop().await;
}

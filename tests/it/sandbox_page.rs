//! The page on which a person edits a grid, in a real Chromium. `fantoccini` speaks to Debian's chromedriver over
//! plain HTTP: small, without TLS, and maintained, where the alternative would be its protocol by hand.

use std::{panic::AssertUnwindSafe, path::PathBuf, process::Stdio, time::Duration};

use fantoccini::{Client, ClientBuilder, Locator, elements::Element, key::Key};
use futures_util::FutureExt;
use hyper_util::client::legacy::connect::HttpConnector;
use nix::sys::signal::{Signal, kill};
use plait::sandbox::{NETWORK_BASE, OWNER_TOKEN};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::{
    sandbox_program::{Program, http},
    world::eventually,
};

const SOON: Duration = Duration::from_secs(30);

/// A chromedriver on a port of its own, and the folder of the browser it starts.
struct Driver {
    url: String,
    profile: PathBuf,
    _folder: tempfile::TempDir,
    _child: Child,
}

impl Driver {
    async fn start() -> Self {
        let mut child = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("chromedriver is there (scripts/install test)");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = loop {
            let line = lines.next_line().await.unwrap().expect("chromedriver tells its port");
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                break port.trim_end_matches('.').to_string();
            }
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let folder = tempfile::tempdir().unwrap();
        let profile = folder.path().join("profile");
        Self { url: format!("http://127.0.0.1:{port}"), profile, _folder: folder, _child: child }
    }

    async fn open(&self, language: &str) -> Client {
        let profile = format!("--user-data-dir={}", self.profile.display());
        let language = format!("--accept-lang={language}");
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1400,900",
            &language,
            &profile,
        ];
        let wishes = json!({ "goog:chromeOptions": { "args": arguments } });
        let wishes = wishes.as_object().unwrap().clone();
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(wishes).connect(&self.url).await.unwrap()
    }
}

impl Drop for Driver {
    /// Ends what is left of the browser: the processes that name our folder, and no other.
    fn drop(&mut self) {
        let mark = format!("--user-data-dir={}", self.profile.display());
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&line).split(['\0', ' ']).any(|part| part == mark) {
                let outcome = kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
                // One that ended meanwhile is what is wanted.
                if outcome.is_err() {
                    eprintln!("browser process {pid} had ended");
                }
            }
        }
    }
}

/// The page in a browser, beside the API.
struct Page {
    browser: Client,
    program: Program,
}

impl Page {
    async fn api(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let url = format!("{}/v0/{path}", self.program.url);
        let mut request = http().request(method.parse().unwrap(), url).bearer_auth(OWNER_TOKEN);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{method} {path}");
        answer.json().await.unwrap()
    }

    async fn member(&self, id: &str) -> Value {
        let record = self.api("GET", &format!("{NETWORK_BASE}/Membres/{id}"), None).await;
        record["fields"].clone()
    }

    async fn element(&self, css: &str) -> Element {
        eventually(SOON, async || self.browser.find(Locator::Css(css)).await).await
    }

    /// Brings a cell to the middle, from under the first column that stays, and clicks it.
    async fn click_cell(&self, record: &str, field: &str) {
        let css = format!("tr[data-id='{record}'] td[data-field='{field}']");
        eventually(SOON, async || {
            let cell = self.browser.find(Locator::Css(&css)).await?;
            let to_the_middle =
                "arguments[0].scrollIntoView({ block: 'center', inline: 'center' })";
            self.browser.execute(to_the_middle, vec![serde_json::to_value(&cell).unwrap()]).await?;
            cell.click().await
        })
        .await;
    }

    /// Waits until the cell shows this text.
    async fn shows(&self, record: &str, field: &str, text: &str) {
        let css = format!("tr[data-id='{record}'] td[data-field='{field}']");
        eventually(SOON, async || {
            // Between two looks the page may have drawn its rows anew.
            let cell =
                self.browser.find(Locator::Css(&css)).await.map_err(|error| error.to_string())?;
            let seen = cell.text().await.map_err(|error| error.to_string())?;
            if seen == text { Ok(()) } else { Err(seen) }
        })
        .await;
    }

    /// Waits until the page says this in its line of news.
    async fn says(&self, text: &str) {
        eventually(SOON, async || {
            let seen = self.element("#status").await.text().await.unwrap();
            if seen == text { Ok(()) } else { Err(seen) }
        })
        .await;
    }

    /// Clicks a cell and types into what opens there, as a person does.
    async fn type_into(&self, record: &str, field: &str, text: &str) {
        self.click_cell(record, field).await;
        let input = self.element("td input").await;
        input.send_keys(text).await.unwrap();
        input.send_keys(&String::from(char::from(Key::Enter))).await.unwrap();
    }
}

/// Runs `body` on the page in a browser; whatever it comes to, the browser is closed.
async fn on_the_page(body: impl AsyncFnOnce(&Page)) {
    let (program, driver) = (Program::start().await, Driver::start().await);
    let page = Page { browser: driver.open("fr").await, program };
    let outcome = AssertUnwindSafe(async {
        page.browser.goto(&page.program.url).await.unwrap();
        body(&page).await;
    })
    .catch_unwind()
    .await;
    let closed = page.browser.clone().close().await;
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
    closed.unwrap();
    page.program.stop().await;
}

#[tokio::test]
async fn sandbox_page_edit_of_a_person_reaches_api_and_webhook() {
    on_the_page(async |page| {
        let hooks = format!("bases/{NETWORK_BASE}/webhooks");
        let wish = json!({ "specification": { "options": { "filters": { "dataTypes": ["tableData"], "fromSources": ["client"] } } } });
        let hook = page.api("POST", &hooks, Some(wish)).await["id"].as_str().unwrap().to_string();

        // The page opens on the members of the network, in the browser's language.
        assert_eq!(page.element("h1").await.text().await.unwrap(), "Bac à sable Airtable");
        let id = page.element("tbody tr").await.attr("data-id").await.unwrap().unwrap();
        let before = page.member(&id).await;

        page.type_into(&id, "Ville", "Concarneau").await;
        page.says("Enregistré").await;
        page.shows(&id, "Ville", "Concarneau").await;
        page.type_into(&id, "Ticket min", "7500,5").await;
        page.shows(&id, "Ticket min", "7500.5").await;

        // A choice from the list, and a box that is ticked at a click.
        page.click_cell(&id, "Statut").await;
        page.element("td select").await.select_by_label("Parti").await.unwrap();
        page.element("h1").await.click().await.unwrap();
        page.shows(&id, "Statut", "Parti").await;
        page.click_cell(&id, "Newsletter").await;
        let was_ticked = before["Newsletter"] == true;
        page.shows(&id, "Newsletter", if was_ticked { "" } else { "✓" }).await;

        if let Some(file) = std::env::var_os("PLAIT_TEST_SCREENSHOT") {
            std::fs::write(file, page.browser.screenshot().await.unwrap()).unwrap();
        }

        let after = page.member(&id).await;
        assert_eq!((&after["Ville"], &after["Statut"]), (&json!("Concarneau"), &json!("Parti")));
        assert_eq!(after["Ticket min"], 7500.5);
        assert_eq!(after["Newsletter"] == true, !was_ticked);
        assert_eq!(after["Nom complet"], before["Nom complet"]);

        let seen = page.api("GET", &format!("{hooks}/{hook}/payloads"), None).await;
        let payloads = seen["payloads"].as_array().unwrap();
        assert_eq!(payloads.len(), 4, "{seen}");
        for payload in payloads {
            assert_eq!(payload["actionMetadata"]["source"], "client");
            // The first of the people that the page offers.
            assert_eq!(payload["actionMetadata"]["sourceMetadata"]["user"]["id"], "usrClaireDubois01");
        }
        let tables = payloads[0]["changedTablesById"].as_object().unwrap();
        let table = tables.values().next().unwrap();
        let cells = &table["changedRecordsById"][&id]["current"]["cellValuesByFieldId"];
        assert_eq!(cells.as_object().unwrap().values().collect::<Vec<_>>(), [&json!("Concarneau")]);
    })
    .await;
}

#[tokio::test]
async fn sandbox_page_shows_what_others_do_adds_deletes_and_tells_refusals() {
    on_the_page(async |page| {
        let id = page.element("tbody tr").await.attr("data-id").await.unwrap().unwrap();
        // Written through the API by somebody else, seen without a reload.
        let wish = json!({ "fields": { "Ville": "Quimperlé" } });
        page.api("PATCH", &format!("{NETWORK_BASE}/Membres/{id}"), Some(wish)).await;
        page.shows(&id, "Ville", "Quimperlé").await;

        // Escape leaves the cell as it was.
        page.click_cell(&id, "Ville").await;
        let input = page.element("td input").await;
        input.send_keys("xyz").await.unwrap();
        input.send_keys(&String::from(char::from(Key::Escape))).await.unwrap();
        page.shows(&id, "Ville", "Quimperlé").await;

        // What does not fit is refused with Airtable's words, and the cell goes back.
        page.type_into(&id, "Ticket min", "beaucoup").await;
        page.says("Field \"Ticket min\" cannot accept the provided value").await;
        let kept = page.member(&id).await["Ticket min"].to_string();
        page.shows(&id, "Ticket min", &kept).await;

        let count = async || page.browser.find_all(Locator::Css("tbody tr")).await.unwrap().len();
        assert_eq!(count().await, 320);
        page.element("#add").await.click().await.unwrap();
        eventually(SOON, async || match count().await {
            321 => Ok(()),
            other => Err(other),
        })
        .await;
        let new = page.element("tbody tr:last-child").await.attr("data-id").await.unwrap().unwrap();
        page.type_into(&new, "Nom complet", "Maëlle D'ORMESSON").await;
        page.shows(&new, "Nom complet", "Maëlle D'ORMESSON").await;
        assert_eq!(page.member(&new).await["Nom complet"], "Maëlle D'ORMESSON");

        page.element(&format!("tr[data-id='{new}'] button")).await.click().await.unwrap();
        assert_eq!(page.browser.get_alert_text().await.unwrap(), "Supprimer cette ligne ?");
        page.browser.accept_alert().await.unwrap();
        eventually(SOON, async || match count().await {
            320 => Ok(()),
            other => Err(other),
        })
        .await;
        let gone = format!("{}/v0/{NETWORK_BASE}/Membres/{new}", page.program.url);
        let answer = http().get(gone).bearer_auth(OWNER_TOKEN).send().await.unwrap();
        assert_eq!(answer.status(), 404);

        page.element("#language").await.click().await.unwrap();
        assert_eq!(page.element("h1").await.text().await.unwrap(), "Airtable sandbox");
    })
    .await;
}

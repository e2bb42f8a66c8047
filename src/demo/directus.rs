//! A Directus server on a Postgres database, and a small client for its REST interface.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::time::sleep;

use super::{
    Error, cache, free_port,
    keeper::{FolderGuard, Keeper, LOOK_EVERY, Server, ServerUser, log_tail},
    secret,
};
use crate::remote::directus::IDLE_MAX;

const START_LIMIT: Duration = Duration::from_mins(3);
const STOP_LIMIT: Duration = Duration::from_secs(30);
const REQUEST_LIMIT: Duration = Duration::from_secs(90);
const START_TRIES: u32 = 5;
const GRACE_SECONDS: u32 = 10;

/// The database that a Directus keeps everything in.
#[derive(Clone, Debug)]
pub struct Database {
    pub port: u16,
    pub database: String,
    pub user: String,
    pub password: String,
}

/// Who may do everything.
#[derive(Clone, Debug)]
pub struct Admin {
    /// With a public top-level domain: Directus takes no other.
    pub email: String,
    pub password: String,
    /// Static.
    pub token: String,
}

/// A Directus server on 127.0.0.1. It never outlives this process.
#[derive(Debug)]
pub struct DirectusServer {
    database: Database,
    port: u16,
    /// Signs its sessions; a new one for each object.
    secret: String,
    settings: Vec<(String, String)>,
    user: ServerUser,
    server: Option<Keeper>,
    /// Working directory: uploads, log, lock.
    folder: FolderGuard,
}

impl DirectusServer {
    /// Prepares one on this database. `settings`: more variables of its environment.
    ///
    /// # Errors
    /// Its working directory cannot be made, or there is no port.
    pub fn new(database: Database, settings: &[(&str, &str)]) -> Result<Self, Error> {
        let user = ServerUser::find()?;
        let folder = FolderGuard::make()?;
        for name in ["uploads", "extensions"] {
            user.make_folder(&folder.folder().join(name), 0o700)?;
        }
        Ok(Self {
            database,
            port: free_port()?,
            secret: secret(),
            settings: settings
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            user,
            server: None,
            folder,
        })
    }

    /// Makes Directus's own tables in an empty database, and its first user.
    ///
    /// # Errors
    /// Directus or Node are not there, or it fails.
    pub async fn bootstrap(&mut self, admin: &Admin) -> Result<(), Error> {
        let mut environment = self.environment();
        for (name, value) in [
            ("ADMIN_EMAIL", &admin.email),
            ("ADMIN_PASSWORD", &admin.password),
            ("ADMIN_TOKEN", &admin.token),
        ] {
            environment.push((name.into(), value.clone()));
        }
        let mut process = self.spawn("bootstrap", environment)?;
        let since = Instant::now();
        while !process.has_ended() {
            if since.elapsed() > START_LIMIT {
                return Err(self.not_ready());
            }
            sleep(LOOK_EVERY).await;
        }
        if process.has_succeeded() {
            return Ok(());
        }
        Err(Error::Failed {
            program: String::from("directus bootstrap"),
            tail: log_tail(&self.log()),
        })
    }

    /// Starts the server and waits until it answers; on the same port each time, unless somebody took it.
    ///
    /// # Errors
    /// Directus or Node are not there, or it does not answer within three minutes.
    pub async fn start(&mut self) -> Result<(), Error> {
        let rest = self.rest("");
        let mut tries = 0;
        loop {
            fs::write(self.log(), "").map_err(Error::files(self.log()))?;
            let mut server = self.spawn("start", self.environment())?;
            let since = Instant::now();
            while since.elapsed() < START_LIMIT && !server.has_ended() {
                if rest.pings(self.port).await {
                    self.server = Some(server);
                    return Ok(());
                }
                sleep(LOOK_EVERY * 5).await;
            }
            tries += 1;
            if tries == START_TRIES || !log_tail(&self.log()).contains("EADDRINUSE") {
                return Err(self.not_ready());
            }
            self.port = free_port()?;
        }
    }

    fn not_ready(&self) -> Error {
        Error::NotReady { program: "Directus", limit: START_LIMIT, tail: log_tail(&self.log()) }
    }

    fn spawn(&self, command: &str, environment: Vec<(String, String)>) -> Result<Keeper, Error> {
        let (node, program) = (cache::node()?, cache::directus()?);
        self.user.check_can_enter(node.parent().unwrap_or(&node))?;
        Keeper::start(&Server {
            user: &self.user,
            program: node.as_os_str(),
            arguments: vec![program.into(), command.into()],
            environment,
            folder: self.folder.folder(),
            log: &self.log(),
            end_signal: Signal::SIGTERM,
            grace_seconds: GRACE_SECONDS,
        })
    }

    /// All of it: Directus would also take settings from ours.
    fn environment(&self) -> Vec<(String, String)> {
        let port = self.port.to_string();
        let database_port = self.database.port.to_string();
        let url = self.url();
        let home = self.folder.folder().to_string_lossy();
        let mut environment: Vec<(String, String)> = [
            ("DB_CLIENT", "pg"),
            ("DB_HOST", "127.0.0.1"),
            ("DB_PORT", &database_port),
            ("DB_DATABASE", &self.database.database),
            ("DB_USER", &self.database.user),
            ("DB_PASSWORD", &self.database.password),
            ("SECRET", &self.secret),
            ("KEY", "6d1b4dd8-2c1b-4d64-9d1c-1f3a5c7e9b20"),
            ("HOST", "127.0.0.1"),
            ("PORT", &port),
            ("PUBLIC_URL", &url),
            ("HOME", &home),
            ("TZ", "UTC"),
            ("LOG_LEVEL", "warn"),
            ("LOG_STYLE", "raw"),
            ("TELEMETRY", "false"),
            // A laptop that also builds is always under pressure.
            ("PRESSURE_LIMITER_ENABLED", "false"),
        ]
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect();
        environment.extend(self.settings.iter().cloned());
        environment
    }

    /// Stops the server and waits for its end.
    ///
    /// # Errors
    /// It has not ended within half a minute.
    pub async fn stop(&mut self) -> Result<(), Error> {
        match self.server.take() {
            Some(server) => server.end("Directus", Signal::SIGTERM, STOP_LIMIT).await,
            None => Ok(()),
        }
    }

    /// Stops the server, removes its working directory, and waits for both.
    ///
    /// # Errors
    /// Either takes longer than half a minute.
    pub async fn remove(mut self) -> Result<(), Error> {
        self.stop().await?;
        self.folder.remove(STOP_LIMIT).await
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Its working directory.
    pub fn folder(&self) -> &Path {
        self.folder.folder()
    }

    /// Where the server writes its log.
    pub fn log(&self) -> PathBuf {
        self.folder.folder().join("log")
    }

    /// The server's process id; `None` while it is stopped.
    pub fn pid(&self) -> Option<i32> {
        self.server.as_ref().map(|server| server.pid().as_raw())
    }

    /// A client for whoever has this token. It belongs to the current runtime.
    pub fn rest(&self, token: &str) -> Rest {
        Rest::new(&self.url(), token)
    }
}

/// A client of Directus's REST interface, for fixtures: it has no retries and trusts the server.
#[derive(Clone, Debug)]
pub struct Rest {
    http: reqwest::Client,
    url: String,
    token: String,
}

impl Rest {
    pub fn new(url: &str, token: &str) -> Self {
        // The client insists on a provider, even for plain HTTP. Err: somebody was faster, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        // Only TLS can fail to be set up here; `default` panics then, as `reqwest::Client::new` would.
        let http = reqwest::Client::builder().pool_idle_timeout(IDLE_MAX).build();
        Self { http: http.unwrap_or_default(), url: url.into(), token: token.into() }
    }

    /// The same, as the browser of a person calls itself: what Directus notes beside each change.
    ///
    /// # Errors
    /// The client cannot be made.
    pub fn in_a_browser(&self) -> Result<Self, reqwest::Error> {
        let agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
        let http =
            reqwest::Client::builder().pool_idle_timeout(IDLE_MAX).user_agent(agent).build()?;
        Ok(Self { http, ..self.clone() })
    }

    async fn pings(&self, port: u16) -> bool {
        let url = format!("http://127.0.0.1:{port}/server/ping");
        let answer = self.http.get(url).timeout(Duration::from_secs(2)).send().await;
        answer.is_ok_and(|answer| answer.status() == StatusCode::OK)
    }

    /// # Errors
    /// Directus is not there or says no.
    pub async fn get(&self, path: &str) -> Result<Value, Error> {
        self.call(Method::GET, path, None).await
    }

    /// # Errors
    /// Directus is not there or says no.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Error> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// # Errors
    /// Directus is not there or says no.
    pub async fn patch(&self, path: &str, body: &Value) -> Result<Value, Error> {
        self.call(Method::PATCH, path, Some(body)).await
    }

    /// # Errors
    /// Directus is not there or says no.
    pub async fn delete(&self, path: &str) -> Result<Value, Error> {
        self.call(Method::DELETE, path, None).await
    }

    /// The answer's `data`; `null` where there is none.
    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Error> {
        let mut request = self
            .http
            .request(method.clone(), format!("{}{path}", self.url))
            .bearer_auth(&self.token)
            .timeout(REQUEST_LIMIT);
        if let Some(body) = body {
            request = request.json(body);
        }
        let unreachable =
            |source| Error::Unreachable { method: method.to_string(), path: path.into(), source };
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(unreachable)?;
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status.is_success() {
            return Ok(body.get("data").cloned().unwrap_or_default());
        }
        let messages: Vec<&str> = body["errors"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|error| error["message"].as_str().unwrap_or("no reason"))
            .collect();
        let message = messages.join("; ");
        Err(Error::Refused {
            method: method.to_string(),
            path: path.into(),
            status: status.as_u16(),
            message,
        })
    }
}

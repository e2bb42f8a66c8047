//! Settings and mapping of a command, as the rooms want them.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use sqlx::PgPool;
use tracing::warn;

use crate::{
    apply::Limits,
    capture::{airtable::BaseSettings, directus},
    config::{self, Database, LogFormat, Settings, missing_bases},
    document::{Problem, Problems, read_file},
    mapping::{self, Mapping},
    pipeline::{AirtablePlan, Plan},
    remote,
    store::{Canonical, reading},
    telemetry,
};

/// Reads the settings.
pub(super) fn read(path: &Path) -> anyhow::Result<Settings> {
    Settings::read(path)
        .map_err(|problems| anyhow::anyhow!("the settings cannot be used\n{problems}"))
}

/// Reads the mapping that the settings name, and compares the two.
pub(super) fn read_mapping(settings: &Settings) -> Result<Mapping, Problems> {
    let file = settings.mapping.display().to_string();
    let mapping = mapping::read(&read_file(&settings.mapping)?, &file)?;
    let mut problems: Vec<Problem> = missing_bases(settings, &mapping)
        .into_iter()
        .map(|what| Problem { file: file.clone(), line: 0, what })
        .collect();
    if settings.directus.is_none()
        && mapping.entities.iter().any(|entity| entity.directus.is_some())
    {
        let what =
            "the mapping names Directus tables, and plait.toml has no section [directus]".into();
        problems.push(Problem { file, line: 0, what });
    }
    if problems.is_empty() { Ok(mapping) } else { Err(Problems(problems)) }
}

/// Starts logging as the settings say; what weakens security there comes first, a line each.
pub(super) fn start_logging(settings: &Settings) {
    let format = match settings.log.format {
        LogFormat::Auto => telemetry::Format::Auto,
        LogFormat::Human => telemetry::Format::Human,
        LogFormat::Json => telemetry::Format::Json,
    };
    telemetry::start(format, &settings.log.level);
    for warning in &settings.warnings {
        warn!("{warning}");
    }
}

/// Connections to the canonical database, for reading.
pub(super) async fn pool(settings: &Settings) -> anyhow::Result<PgPool> {
    let config = canonical(&settings.canonical);
    let place = format!(
        "{}:{}/{}",
        settings.canonical.host, settings.canonical.port, settings.canonical.database
    );
    reading::pool(&config, password(&settings.canonical).as_deref())
        .await
        .with_context(|| format!("could not open the canonical database at {place}; check [canonical] in plait.toml, and that Postgres runs there"))
}

pub(super) fn canonical(database: &Database) -> Canonical {
    let mut config = tokio_postgres::Config::new();
    config
        .host(&database.host)
        .port(database.port)
        .user(&database.user)
        .dbname(&database.database)
        .application_name("plait")
        .ssl_mode(database.tls.ssl_mode());
    if let Some(password) = &database.password {
        config.password(password.reveal());
    }
    Canonical { config, tls: database.tls, ca: database.ca_file.clone() }
}

fn password(database: &Database) -> Option<String> {
    database.password.as_ref().map(|password| password.reveal().to_owned())
}

/// The source as the capture wants it.
pub(super) fn source(settings: &config::Directus) -> directus::SourceSettings {
    let database = &settings.database;
    directus::SourceSettings {
        host: database.host.clone(),
        port: database.port,
        user: database.user.clone(),
        password: password(database).unwrap_or_default(),
        database: database.database.clone(),
        tls: database.tls,
        ca: database.ca_file.clone(),
        slot: settings.slot.clone(),
        publication: settings.publication.clone(),
        activity: match settings.activity {
            None => directus::ActivityMode::Auto,
            Some(true) => directus::ActivityMode::On,
            Some(false) => directus::ActivityMode::Off,
        },
        schema: settings.schema.clone(),
        status_interval: Duration::from_secs(settings.status_interval_s),
        heartbeat_interval: Duration::from_secs(settings.heartbeat_interval_s),
        transaction_bytes_max: settings.transaction_bytes_max,
        message_bytes_max: settings.message_bytes_max,
        reader_count: settings.reader_count,
        ..directus::SourceSettings::default()
    }
}

/// The client that writes to Directus; `None`: it is not written to.
pub(super) fn directus_api(
    settings: &config::Directus,
) -> anyhow::Result<Option<remote::directus::Client>> {
    let Some(api) = &settings.api else { return Ok(None) };
    let Some(token) = &api.token else {
        let file = api.token_file.as_ref().map(|file| file.display().to_string());
        anyhow::bail!(
            "there is no token for Directus yet ({}): run `plait setup directus`",
            file.unwrap_or_default()
        );
    };
    let client = remote::directus::Client::new(&api.url, token.reveal())
        .context("could not set up the client for Directus")?;
    Ok(Some(client))
}

/// Airtable as the capture wants it; `None` without a token. `is_guest`: beside a plait that runs.
pub(super) fn airtable(
    settings: &config::Airtable,
    is_guest: bool,
) -> anyhow::Result<Option<AirtablePlan>> {
    let Some(token) = &settings.token else { return Ok(None) };
    let client = remote::airtable::Client::new(&settings.api_url, token.reveal())
        .context("could not set up the client for Airtable")?
        .with_timeout(Duration::from_secs(settings.request_timeout_s));
    let client = if is_guest { client.for_guest() } else { client };
    let bases = settings.bases.iter().map(|base| BaseSettings {
        notification_url: base.notification_url.clone(),
        // Only who is told of pings, and receives them, has to know them from forged ones.
        ping_secret_file: (settings.ping_listen.is_some() && base.notification_url.is_some())
            .then(|| settings.ping_secret_folder.join(format!("ping-secret-{}", base.id))),
        poll_min: Duration::from_millis(settings.poll_interval_min_ms),
        poll_max: Duration::from_millis(settings.poll_interval_max_ms),
        monthly_calls: settings.monthly_call_count_max,
        ..BaseSettings::new(&base.name, &base.id)
    });
    Ok(Some(AirtablePlan {
        client: Arc::new(client),
        bases: bases.collect(),
        ping_listen: settings.ping_listen,
    }))
}

/// Everything that a run needs.
pub(super) fn plan(settings: &Settings) -> anyhow::Result<Plan> {
    let mapping = read_mapping(settings)
        .map_err(|problems| anyhow::anyhow!("the mapping cannot be used\n{problems}"))?;
    Ok(Plan {
        canonical: canonical(&settings.canonical),
        canonical_password: password(&settings.canonical),
        mapping,
        directus: settings.directus.as_ref().map(source),
        directus_api: settings
            .directus
            .as_ref()
            .map(directus_api)
            .transpose()?
            .flatten()
            .map(Arc::new),
        airtable: settings
            .airtable
            .as_ref()
            .map(|section| airtable(section, false))
            .transpose()?
            .flatten(),
        limits: Limits { batch_row_count_max: settings.apply.batch_row_count_max },
        queue_row_count_max: settings.apply.queue_row_count_max,
        exports: settings.exports.clone(),
        alerts: settings.alerts.clone(),
    })
}

//! Connections to the canonical database, and its migrations.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::{Client, Config, NoTls, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::{debug, info};

use super::Error;

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Values are read and written as text; these settings decide what the text is. Names are always qualified, so
/// that a search path which somebody set for the database changes nothing.
const SESSION: &str = "set datestyle = 'ISO'; set intervalstyle = 'iso_8601'; set timezone = 'UTC'; \
    set extra_float_digits = 3; set bytea_output = 'hex'; set client_encoding = 'UTF8'; \
    set plan_cache_mode = force_generic_plan; set jit = off; set search_path = public";

/// Opens a connection with the settings of the apply path; its driver ends with the client.
pub(crate) async fn connect(config: &Config) -> Result<Client, Error> {
    let unreachable = |source| Error::Unreachable { place: place(config), source };
    let client = if config.get_ssl_mode() == SslMode::Disable {
        let (client, connection) = config.connect(NoTls).await.map_err(unreachable)?;
        tokio::spawn(drive(connection));
        client
    } else {
        let (client, connection) = config.connect(tls()?).await.map_err(unreachable)?;
        tokio::spawn(drive(connection));
        client
    };
    client.batch_execute(SESSION).await?;
    Ok(client)
}

async fn drive(connection: impl Future<Output = Result<(), tokio_postgres::Error>>) {
    if let Err(error) = connection.await {
        debug!(%error, "connection to the canonical database ended");
    }
}

fn tls() -> Result<MakeRustlsConnect, Error> {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Tls { reason: error.to_string() })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// Host, port and database of a configuration, for messages; never its password.
pub(crate) fn place(config: &Config) -> String {
    let host = config.get_hosts().first().map_or_else(String::new, |host| match host {
        tokio_postgres::config::Host::Tcp(name) => name.clone(),
        tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
    });
    let port = config.get_ports().first().copied().unwrap_or(5432);
    format!("{host}:{port}/{}", config.get_dbname().unwrap_or("?"))
}

/// Brings the schemas `canon` and `mirror` up to date; forwards only. Two programs that start together
/// take turns.
pub(crate) async fn migrate(config: &Config) -> Result<(), Error> {
    let mut client = connect(config).await?;
    client.batch_execute("select pg_advisory_lock(hashtext('plait migrations'))").await?;
    let report = embedded::migrations::runner()
        .set_migration_table_name("plait_migration")
        .run_async(&mut client)
        .await?;
    for migration in report.applied_migrations() {
        info!(%migration, "migrated the canonical database");
    }
    Ok(())
}

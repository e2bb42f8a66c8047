//! Ordinary connections to the source, for the catalogue, publications, slots and the copy.

use tokio::time::timeout;
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{error::Error, settings::SourceSettings};
use crate::postgres::{self, TlsMode};

/// Settings that decide how values become text: the same on every session, so that copy and stream agree.
pub(super) const VALUE_OPTIONS: &str = "-c datestyle=ISO -c intervalstyle=iso_8601 -c extra_float_digits=3 \
     -c bytea_output=hex -c timezone=UTC -c client_encoding=UTF8 -c statement_timeout=0 \
     -c idle_in_transaction_session_timeout=0";

/// A database without an encoding holds any bytes, and the server refuses a whole table for one that is not in the
/// client's: there we take them as they are, and a value that is not UTF-8 is refused alone.
pub(super) const TAKE_BYTES: &str = "select set_config('client_encoding', 'SQL_ASCII', false) \
     where current_setting('server_encoding') = 'SQL_ASCII'";

/// Connects; the connection ends with the client.
///
/// # Errors
/// `Unreachable`, `Timeout` or `Certificates`.
pub(super) async fn connect(source: &SourceSettings) -> Result<Client, Error> {
    let mut config = Config::new();
    config
        .host(&source.host)
        .port(source.port)
        .user(&source.user)
        .password(&source.password)
        .dbname(&source.database)
        .application_name(&source.application)
        .options(VALUE_OPTIONS)
        .keepalives_idle(std::time::Duration::from_mins(1))
        .ssl_mode(source.tls.ssl_mode());
    let place = || source.place();
    let unreachable = |error: tokio_postgres::Error| match error.code() {
        Some(_) => Error::Sql {
            doing: format!("log in at Directus's Postgres {}", place()),
            source: error,
        },
        None => Error::Unreachable {
            place: place(),
            source: Box::new(CauseText(postgres::reason(&error))),
        },
    };
    let connecting = async {
        let client = if source.tls == TlsMode::Disable || source.host.starts_with('/') {
            let (client, connection) = config.connect(NoTls).await.map_err(unreachable)?;
            tokio::spawn(drive(connection));
            client
        } else {
            let tls = postgres::client_config(source.tls, source.ca.as_deref())
                .map_err(|error| Error::Certificates { place: place(), text: error.to_string() })?;
            let tls = MakeRustlsConnect::new(tls);
            let (client, connection) = config.connect(tls).await.map_err(unreachable)?;
            tokio::spawn(drive(connection));
            client
        };
        client.batch_execute(TAKE_BYTES).await.map_err(unreachable)?;
        Ok(client)
    };
    match timeout(source.connect_timeout, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(Error::Timeout { place: place(), timeout: source.connect_timeout }),
    }
}

/// Why nothing came of it, causes included.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct CauseText(String);

async fn drive(connection: impl Future<Output = Result<(), tokio_postgres::Error>>) {
    if let Err(error) = connection.await {
        tracing::debug!(%error, "connection to the source ended");
    }
}

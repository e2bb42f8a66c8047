//! The replication connection, behind a trait of our own: another client library is a day's work.

use std::time::Duration;

use bytes::Bytes;
use pgwire_replication::{
    PgWireError, ReplicationClient, ReplicationConfig, ReplicationEvent, SslMode, TlsConfig,
};
use tokio::time::timeout;

use crate::{model::Lsn, postgres::TlsMode};

use super::{
    connect::{TAKE_BYTES, VALUE_OPTIONS},
    error::{Error, sqlstate_in},
    pgoutput::POSTGRES_EPOCH_MICROS,
    settings::SourceSettings,
    width::Width,
};

/// What comes over the connection once it streams. Times are µs since 1970 UTC.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Begin {
        final_lsn: Lsn,
        at: i64,
    },
    Commit {
        end_lsn: Lsn,
        at: i64,
    },
    /// Any other message of the plugin, which begins at `lsn`.
    Data {
        lsn: Lsn,
        message: Bytes,
    },
    /// `pg_logical_emit_message`.
    Logical {
        prefix: String,
        content: Bytes,
    },
    /// Everything that committed before `end` was sent.
    Keepalive {
        end: Lsn,
    },
}

/// A server, as it says itself on the replication connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) system_identifier: String,
    pub(super) timeline: u32,
    /// The end of its log.
    pub(super) end: Lsn,
}

/// A row as text.
pub(super) type TextRow = Vec<Option<String>>;

/// A replication connection that streams once it is told to. Logs in, answers the server's keepalives and
/// keeps telling it the acknowledged place, whatever its user does meanwhile.
pub(super) trait Transport: Send + Sized {
    /// Connects and logs in, nothing more. `start` and `acknowledged` are for [`Self::start`].
    fn connect(
        source: &SourceSettings,
        publications: &[String],
        start: Lsn,
        acknowledged: Lsn,
    ) -> impl Future<Output = Result<Self, Error>> + Send;

    /// A command before the stream starts; `doing` names it in errors.
    fn query(
        &mut self,
        doing: &str,
        sql: &str,
    ) -> impl Future<Output = Result<Vec<TextRow>, Error>> + Send;

    /// Starts the stream and waits until the server has agreed: from then on the slot is ours.
    fn start(&mut self) -> impl Future<Output = Result<(), Error>> + Send;

    /// The next event; `None` when the server ended the stream in good order. May be dropped while waiting.
    fn receive(&mut self) -> impl Future<Output = Result<Option<Event>, Error>> + Send;

    /// Tells the server, soon, that it may forget what is before `lsn`. Moves forwards only.
    fn acknowledge(&self, lsn: Lsn);
}

/// [`Transport`] over the crate `pgwire-replication`.
pub(super) struct PgWire {
    client: ReplicationClient,
    place: String,
    width: Width,
}

impl PgWire {
    /// As [`Transport::connect`], for rows of this width.
    pub(super) async fn connect_for(
        source: &SourceSettings,
        publications: &[String],
        start: Lsn,
        acknowledged: Lsn,
        width: Width,
    ) -> Result<Self, Error> {
        let mode = if source.host.starts_with('/') { TlsMode::Disable } else { source.tls };
        let tls = TlsConfig {
            mode: match mode {
                TlsMode::Disable => SslMode::Disable,
                TlsMode::Prefer => SslMode::Prefer,
                TlsMode::Require => SslMode::Require,
                TlsMode::VerifyCa => SslMode::VerifyCa,
                TlsMode::VerifyFull => SslMode::VerifyFull,
            },
            ca_pem_path: source.ca.clone(),
            // Given by name as well, because the library takes an address for a mistake otherwise.
            sni_hostname: Some(source.host.clone()),
            ..TlsConfig::default()
        };
        let lock_timeout = source.lock_timeout.as_millis();
        let config = ReplicationConfig::new(
            &source.host,
            &source.user,
            &source.password,
            &source.database,
            &source.slot,
            publications.to_vec(),
        )
        .with_port(source.port)
        .with_tls(tls)
        .with_start_lsn(pgwire_replication::Lsn::from_u64(start.0))
        .with_ack_lsn(pgwire_replication::Lsn::from_u64(acknowledged.0))
        .with_status_interval(source.status_interval)
        .with_wakeup_interval(source.status_interval)
        .with_buffer_size(width.message_count_max())
        .with_max_message_size(width.message_bytes_max())
        .with_application_name(&source.application)
        .with_options(format!("{VALUE_OPTIONS} -c lock_timeout={lock_timeout}"));
        let client = ReplicationClient::connect_gated(config)
            .await
            .map_err(|error| failed("open the replication connection", error))?;
        let mut transport = Self { client, place: source.place(), width };
        // The library connects in the background: the first question waits for that.
        let asking = transport.query("open the replication connection", TAKE_BYTES);
        match timeout(source.connect_timeout, asking).await {
            Ok(answered) => {
                answered?;
                Ok(transport)
            }
            Err(_) => {
                Err(Error::Timeout { place: source.place(), timeout: source.connect_timeout })
            }
        }
    }

    pub(super) fn width(&self) -> Width {
        self.width
    }
}

impl Transport for PgWire {
    async fn connect(
        source: &SourceSettings,
        publications: &[String],
        start: Lsn,
        acknowledged: Lsn,
    ) -> Result<Self, Error> {
        Self::connect_for(source, publications, start, acknowledged, Width::default()).await
    }

    async fn query(&mut self, doing: &str, sql: &str) -> Result<Vec<TextRow>, Error> {
        let rows = self.client.simple_query(sql).await.map_err(|error| match error {
            PgWireError::Io(source) => {
                Error::Unreachable { place: self.place.clone(), source: Box::new(source) }
            }
            other => failed(doing, other),
        })?;
        let text = |value: Bytes| String::from_utf8_lossy(&value).into_owned();
        Ok(rows
            .into_iter()
            .map(|row| row.into_iter().map(|cell| cell.map(text)).collect())
            .collect())
    }

    async fn start(&mut self) -> Result<(), Error> {
        let doing = "start the stream";
        self.client.start().await.map_err(|error| failed(doing, error))?;
        // A slot that is still held by a session that is ending answers at once, a frozen server never.
        match timeout(Duration::from_mins(1), self.client.wait_started()).await {
            Ok(started) => started.map_err(|error| failed(doing, error)),
            Err(_) => {
                Err(Error::Timeout { place: self.place.clone(), timeout: Duration::from_mins(1) })
            }
        }
    }

    async fn receive(&mut self) -> Result<Option<Event>, Error> {
        let event = self.client.recv().await.map_err(|error| match error {
            PgWireError::MessageTooLarge { payload_bytes, .. } => {
                Error::RowTooLarge { size: payload_bytes, limit: self.width.message_bytes_max() }
            }
            other => failed("read the stream", other),
        })?;
        let place = |lsn: pgwire_replication::Lsn| Lsn(lsn.as_u64());
        let time = |micros: i64| micros.saturating_add(POSTGRES_EPOCH_MICROS);
        Ok(Some(match event {
            None | Some(ReplicationEvent::StoppedAt { .. }) => return Ok(None),
            Some(ReplicationEvent::Begin { final_lsn, commit_time_micros, .. }) => {
                Event::Begin { final_lsn: place(final_lsn), at: time(commit_time_micros) }
            }
            Some(ReplicationEvent::Commit { end_lsn, commit_time_micros, .. }) => {
                Event::Commit { end_lsn: place(end_lsn), at: time(commit_time_micros) }
            }
            Some(ReplicationEvent::XLogData { wal_start, data, .. }) => {
                Event::Data { lsn: place(wal_start), message: data }
            }
            Some(ReplicationEvent::Message { prefix, content, .. }) => {
                Event::Logical { prefix, content }
            }
            Some(ReplicationEvent::KeepAlive { wal_end, .. }) => {
                Event::Keepalive { end: place(wal_end) }
            }
        }))
    }

    fn acknowledge(&self, lsn: Lsn) {
        self.client.update_applied_lsn(pgwire_replication::Lsn::from_u64(lsn.0));
    }
}

/// The server's own description: system identifier, timeline, end of log.
///
/// # Errors
/// As [`Transport::query`], or an answer that can't be read.
pub(super) async fn identify(transport: &mut impl Transport) -> Result<Identity, Error> {
    let doing = "identify the server";
    let rows = transport.query(doing, "IDENTIFY_SYSTEM").await?;
    let row = rows.into_iter().next().unwrap_or_default();
    let mut cells = row.into_iter().map(Option::unwrap_or_default);
    let system_identifier = cells.next().unwrap_or_default();
    let timeline = cells.next().and_then(|text| text.parse().ok());
    let end = cells.next().and_then(|text| text.parse().ok());
    match (timeline, end) {
        (Some(timeline), Some(end)) => Ok(Identity { system_identifier, timeline, end }),
        _ => Err(Error::Connection { text: "the answer to IDENTIFY_SYSTEM can't be read".into() }),
    }
}

fn failed(doing: &str, error: PgWireError) -> Error {
    match error {
        PgWireError::Server(text) => match sqlstate_in(&text) {
            Some(state) => Error::Server { doing: doing.into(), state: state.into(), text },
            None => Error::Connection { text },
        },
        // A way to log in that the library does not know, or a wrong answer of the server: for a person.
        PgWireError::Auth(text) => {
            Error::Server { doing: doing.into(), state: "28000".into(), text }
        }
        PgWireError::Tls(text) => {
            Error::Unreachable { place: String::from("the server"), source: text.into() }
        }
        other => Error::Connection { text: other.to_string() },
    }
}

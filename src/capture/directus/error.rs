//! Why the capture could not go on, what to do about it, and whether waiting cures it.

use std::time::Duration;

use crate::model::Lsn;

use super::pgoutput::DecodeError;

/// What went wrong. Texts say what could not be done; [`Error::remedy`] says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("could not reach Directus's Postgres at {place}")]
    Unreachable { place: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("Directus's Postgres at {place} did not answer within {} s", timeout.as_secs())]
    Timeout { place: String, timeout: Duration },
    #[error("could not read the TLS certificates for {place}: {text}")]
    Certificates { place: String, text: String },
    #[error("could not {doing}")]
    Sql { doing: String, source: tokio_postgres::Error },
    /// An error of the server on the replication connection.
    #[error("could not {doing}: {text}")]
    Server { doing: String, state: String, text: String },
    #[error("the replication connection broke: {text}")]
    Connection { text: String },
    #[error("nothing came over the replication connection for {} s", silence.as_secs())]
    Silent { silence: Duration },
    #[error("a heartbeat written {} s ago did not come back through the stream", age.as_secs())]
    HeartbeatLost { age: Duration },
    /// The connection is made anew for larger rows.
    #[error("a row of {size} bytes is over the limit of {limit} bytes for one message")]
    RowTooLarge { size: usize, limit: usize },
    /// The connection is made anew for smaller rows, of which more are held.
    #[error("no large row has come for a while")]
    RowsSmall,
    #[error("could not decode the message at {lsn}: {source}")]
    Decode { lsn: Lsn, source: DecodeError },
    #[error("the message at {lsn} does not fit the relation it names: {text}")]
    Protocol { lsn: Lsn, text: String },
    #[error("`{name}` cannot be the name of a {what}")]
    BadName { what: &'static str, name: String },
    #[error("this is Postgres {version}: 15 to 18 are supported")]
    Version { version: String },
    #[error("wal_level is `{level}`, logical replication needs `logical`")]
    WalLevel { level: String },
    #[error("role `{user}` may not use replication")]
    NotReplication { user: String },
    #[error("all {max} replication slots are in use")]
    NoFreeSlot { max: i64 },
    #[error("slot `{slot}` belongs to plugin `{plugin}` in database `{database}`")]
    ForeignSlot { slot: String, plugin: String, database: String },
    #[error("slot `{slot}` is in use by process {pid} of `{application}`{}", belongs(owner.as_deref()))]
    SlotInUse { slot: String, pid: i32, application: String, is_ours: bool, owner: Option<String> },
    #[error("slot `{slot}` belongs to {owner}")]
    SlotOwned { slot: String, owner: String },
    #[error("the latest entry of directus_activity is older than the one seen before")]
    Rewound,
    #[error("could not ask the canonical database how it stands to this source")]
    Lineage { source: anyhow::Error },
    #[error("slot `{slot}` could not be created because transactions are open: {blockers}")]
    CreationBlocked { slot: String, blockers: String },
    #[error(
        "the copy has been rebuilt {count} times within an hour, the last time because {reason}"
    )]
    TooManyRebuilds { count: usize, reason: String },
    #[error("role `{user}` may not create or change publication `{publication}`")]
    PublicationRights { publication: String, user: String, sql: String },
    #[error("table {table} cannot be published: {text}")]
    Unpublishable { table: String, text: String, remedy: String },
    #[error("column `{column}` of {table} is the key in the mapping but does not exist")]
    KeyMissing { table: String, column: String },
    #[error("{} {table}: the mapping's key `{column}` {found}", if *is_junction { "junction" } else { "collection" })]
    KeyUnfit { table: String, column: String, is_junction: bool, found: String, remedy: String },
    #[error(
        "column `{column}` of {table} tells which rows are mirrored (`rows` in the mapping) but does not exist"
    )]
    FilterMissing { table: String, column: String },
    #[error(
        "role `{user}` may not read the roles and policies of Directus, by which administrators are told from members"
    )]
    AccessUnreadable { user: String, tables: String },
    #[error("could not ask which records are known")]
    KnownKeys { source: anyhow::Error },
    #[error("a task of the capture ended by itself: {text}")]
    Task { text: String },
    /// The loop that takes the deliveries is gone, or we were asked to stop: not a failure.
    #[error("the deliveries are no longer taken")]
    Stopped,
}

impl Error {
    /// The server's error code, if the server gave one.
    pub(crate) fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Sql { source, .. } => source.code().map(tokio_postgres::error::SqlState::code),
            Self::Server { state, .. } => Some(state),
            _ => None,
        }
    }

    /// Whether it may be cured by waiting and connecting again.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            // A refused certificate or a wrong password is reported as unreachable by the libraries, with the
            // cause inside; a server that is not up yet as well. Only the cause tells.
            Self::Unreachable { source, .. } => {
                let text = source.to_string();
                !(text.contains("certificate") || text.contains("authentication"))
            }
            Self::Timeout { .. }
            | Self::Connection { .. }
            | Self::Silent { .. }
            | Self::HeartbeatLost { .. }
            | Self::CreationBlocked { .. }
            | Self::KnownKeys { .. }
            | Self::Lineage { .. }
            | Self::Rewound
            | Self::Task { .. } => true,
            // One of ours that is dead and does not know it yet.
            Self::SlotInUse { is_ours, .. } => *is_ours,
            Self::Sql { source, .. } if source.code().is_none() => true,
            Self::Sql { .. } | Self::Server { .. } => {
                self.sqlstate().is_some_and(is_transient_state)
            }
            _ => false,
        }
    }

    /// Whether the slot can no longer be read and has to be made anew.
    pub(super) fn is_slot_lost(&self) -> bool {
        match self {
            Self::Server { state, text, .. } => {
                state == "55000" || (state == "42704" && text.contains("slot"))
                // A row that the server itself can't put into a message: only a copy, which reads the mapped columns
                // alone, gets past it.
                || state == "54000" || text.contains("invalid memory alloc request size")
                // The changes between dropping and making a publication can't be decoded any more.
                || (state == "42704" && text.contains("publication"))
            }
            _ => false,
        }
    }

    /// What to do, one or two sentences; `None` where waiting is all there is.
    pub(crate) fn remedy(&self) -> Option<String> {
        Some(match self {
            Self::Unreachable { source, .. } if source.to_string().contains("not valid for name") => {
                "Give as host a name that is in the server's certificate (also for verify-ca: the replication connection asks for it), or lower the TLS mode to `require`.".into()
            }
            Self::Unreachable { source, .. } if source.to_string().contains("certificate") => {
                "Name the file with the certificate of the authority that signed the server's, or lower the TLS mode to `require`.".into()
            }
            Self::Unreachable { place, .. } | Self::Timeout { place, .. } => format!(
                "Check that Postgres runs at {place} and lets this host in (listen_addresses, pg_hba.conf, firewall), and host, port, user and password in [directus] of plait.toml."
            ),
            Self::Certificates { .. } => {
                "Give a readable PEM file with the certificate of the authority that signed the server's.".into()
            }
            Self::RowTooLarge { .. } => "Make the row smaller.".into(),
            Self::Decode { .. } | Self::Protocol { .. } => {
                "This is a fault in Plait or a damaged log: report it with the place in the log.".into()
            }
            Self::BadName { what, .. } => {
                format!("Use lower-case letters, digits and `_` for the name of the {what}, at most 63.")
            }
            Self::Version { .. } => "Upgrade Postgres to 15 or later.".into(),
            Self::WalLevel { .. } => {
                "Run `alter system set wal_level = 'logical'` as superuser and restart Postgres.".into()
            }
            Self::NotReplication { user } => format!("Run `alter role \"{user}\" replication` as superuser."),
            Self::NoFreeSlot { .. } => {
                "Drop slots that nobody reads (select slot_name, active from pg_replication_slots), or raise max_replication_slots and restart Postgres.".into()
            }
            Self::ForeignSlot { .. } => "Give this source another slot name in plait.toml.".into(),
            Self::SlotInUse { .. } | Self::SlotOwned { .. } => {
                "Give this installation a `slot` and a `publication` of its own in [directus] of plait.toml. Or, if the other one is stopped for good, take its slot over with `plait run --take-slot`: it cannot go on then.".into()
            }
            Self::CreationBlocked { .. } => {
                "Wait for these transactions or end them; the creation is tried again by itself.".into()
            }
            Self::TooManyRebuilds { .. } => {
                "See why the slot gets lost (max_slot_wal_keep_size too small? somebody drops or advances it?), then start Plait again.".into()
            }
            Self::PublicationRights { sql, .. } => {
                format!("Run as the owner of the tables: {sql}")
            }
            Self::Unpublishable { remedy, .. } | Self::KeyUnfit { remedy, .. } => remedy.clone(),
            Self::FilterMissing { table, .. } => format!(
                "Mend `rows` in mapping.toml, or create the field in Directus: nothing of {table} is read before."
            ),
            Self::AccessUnreadable { user, tables } => {
                format!("Run as the owner of the tables: grant select on {tables} to \"{user}\";")
            }
            Self::KeyMissing { table, .. } => format!("Name the primary key of {table} in mapping.toml."),
            Self::Sql { .. } | Self::Server { .. } => match self.sqlstate() {
                Some("28P01" | "28000" | "3D000") => {
                    "Check user, password and database in [directus] of plait.toml, and pg_hba.conf of that server.".into()
                }
                Some("42501") => "Run `grant select on TABLE to ROLE` as the owner of the mapped tables; `plait check` has the statements.".into(),
                Some("53400" | "53300") => "Raise max_wal_senders, max_replication_slots or max_connections.".into(),
                _ => return None,
            },
            _ => return None,
        })
    }

    /// The text with its cause, on one line.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(source) = cause {
            text.push_str(": ");
            text.push_str(&source.to_string());
            cause = source.source();
        }
        text
    }

    /// Makes a function for `map_err` that names what was tried.
    pub(super) fn sql(doing: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Sql { doing, source }
    }
}

fn belongs(owner: Option<&str>) -> String {
    owner.map(|owner| format!("; it belongs to {owner}")).unwrap_or_default()
}

/// Connection lost, server starting or stopping, too many connections, slot still held, lock timeout.
fn is_transient_state(state: &str) -> bool {
    state.starts_with("08")
        || matches!(
            state,
            "57P01"
                | "57P02"
                | "57P03"
                | "57014"
                | "53300"
                | "55006"
                | "55P03"
                | "40001"
                | "40P01"
                | "25P03"
        )
}

/// The five characters behind `SQLSTATE` in a text of the replication library, which has no other place for it.
pub(super) fn sqlstate_in(text: &str) -> Option<&str> {
    let (_, rest) = text.rsplit_once("SQLSTATE ")?;
    rest.get(..5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlstate_is_found_at_the_end_of_a_text() {
        let text = "replication slot \"p\" is active for PID 7 (SQLSTATE 55006)";
        assert_eq!(sqlstate_in(text), Some("55006"));
        assert_eq!(sqlstate_in("no code"), None);
        assert_eq!(sqlstate_in("(SQLSTATE 55"), None);
    }

    #[test]
    fn admin_shutdown_is_transient_and_a_wrong_password_is_not() {
        let server = |state: &str| Error::Server {
            doing: "stream".into(),
            state: state.into(),
            text: "slot".into(),
        };
        for state in ["57P01", "08006", "53300", "55006", "57P03"] {
            assert!(server(state).is_transient(), "{state}");
        }
        for state in ["28P01", "42501", "55000", "42704"] {
            assert!(!server(state).is_transient(), "{state}");
        }
        assert!(server("55000").is_slot_lost());
    }
}

//! Connections to the canonical database, and its migrations.

use std::{path::PathBuf, time::Duration};

use tokio::time::timeout;
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::{debug, info};

use super::{Error, reports, rights};
use crate::{
    mapping::Mapping,
    postgres::{self, TlsMode},
};

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Values are read and written as text; these settings decide what the text is. Names are always qualified, so
/// that a search path which somebody set for the database changes nothing.
const SESSION: &str = "set datestyle = 'ISO'; set intervalstyle = 'iso_8601'; set timezone = 'UTC'; \
    set extra_float_digits = 3; set bytea_output = 'hex'; set client_encoding = 'UTF8'; \
    set plan_cache_mode = force_generic_plan; set jit = off; set search_path = public; set client_min_messages = warning; \
    set tcp_keepalives_idle = 5; set tcp_keepalives_interval = 2; set tcp_keepalives_count = 3; set tcp_user_timeout = 10000";

/// The same from our end of a connection: a peer that is gone without a word is noticed within so long.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_COUNT: u32 = 3;
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// How long connecting may take, log-in included: some servers take a connection and never answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How to reach the canonical database. It has no `Debug`: the password is in it.
#[derive(Clone)]
pub(crate) struct Canonical {
    pub(crate) config: Config,
    pub(crate) tls: TlsMode,
    /// PEM file of the authorities to trust; `None`: those that browsers trust.
    pub(crate) ca: Option<PathBuf>,
}

/// Opens a connection with the settings of the apply path; its driver ends with the client.
///
/// # Errors
/// Transient where waiting may cure it: nobody answers. Not so where only a person can: the server refuses us,
/// or we refuse its certificate.
pub(crate) async fn connect(canonical: &Canonical) -> Result<Client, Error> {
    match timeout(CONNECT_TIMEOUT, open(canonical)).await {
        Ok(opened) => opened,
        Err(_) => Err(Error::Read(sqlx::Error::Io(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            format!(
                "no answer from {} within {} s; does Postgres listen on that port?",
                place(&canonical.config),
                CONNECT_TIMEOUT.as_secs()
            ),
        )))),
    }
}

async fn open(canonical: &Canonical) -> Result<Client, Error> {
    let Canonical { config, tls: mode, ca } = canonical;
    let mut config = config.clone();
    config
        .keepalives(true)
        .keepalives_idle(KEEPALIVE_IDLE)
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .keepalives_retries(KEEPALIVE_COUNT)
        .tcp_user_timeout(SEND_TIMEOUT);
    let config = &config;
    let client = if *mode == TlsMode::Disable {
        let connected = config.connect(NoTls).await;
        let (client, connection) = connected.map_err(|error| refused(config, error))?;
        tokio::spawn(drive(connection));
        client
    } else {
        let tls = postgres::client_config(*mode, ca.as_deref()).map_err(|error| Error::Tls {
            reason: format!("{error}; name a readable PEM file by `ca_file` in [canonical]"),
        })?;
        let connected = config.connect(MakeRustlsConnect::new(tls)).await;
        let (client, connection) = connected.map_err(|error| refused(config, error))?;
        tokio::spawn(drive(connection));
        client
    };
    client.batch_execute(SESSION).await?;
    Ok(client)
}

/// What a failed connection means.
fn refused(config: &Config, error: tokio_postgres::Error) -> Error {
    let place = place(config);
    let reason = postgres::reason(&error);
    if reason.contains("not valid for name") {
        return Error::Tls {
            reason: format!(
                "{reason}; give as host in [canonical] a name that is in the server's certificate, or take `tls = \"verify-ca\"`"
            ),
        };
    }
    if reason.contains("certificate") {
        return Error::Tls {
            reason: format!(
                "{reason}; name by `ca_file` in [canonical] the authority that signed the certificate of {place}"
            ),
        };
    }
    if reason.contains("does not support TLS") {
        return Error::Tls {
            reason: format!(
                "{place} does not offer it; set `ssl = on` there; docs/settings.md, \"Who is trusted\", says what else can be done"
            ),
        };
    }
    if reason.contains("password missing") {
        return Error::Shape(format!(
            "the canonical database at {place} asks for a password; say where it is by `password_env` or `password_file` in [canonical]"
        ));
    }
    // A server that starts, stops or is full lets us in later; one that does not know us never does.
    let is_passing =
        |code: &str| ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class));
    match error.code() {
        Some(code) if !is_passing(code.code()) => Error::Shape(format!(
            "could not log in at the canonical database {place}: {}; check user, password and database in [canonical], and pg_hba.conf of that server",
            error.as_db_error().map_or(reason, |said| said.message().to_owned()),
        )),
        Some(_) => Error::Unreachable { place, source: error },
        None if postgres::is_foreign(&error) => {
            Error::Unreachable { place: format!("{place} (is that a Postgres?)"), source: error }
        }
        None => Error::Unreachable { place, source: error },
    }
}

async fn drive(connection: impl Future<Output = Result<(), tokio_postgres::Error>>) {
    if let Err(error) = connection.await {
        debug!(%error, "connection to the canonical database ended");
    }
}

/// Host, port and database of a configuration, for messages; never its password.
pub(crate) fn place(config: &Config) -> String {
    let host = config.get_hosts().first().map_or_else(String::new, |host| match host {
        tokio_postgres::config::Host::Tcp(name) => name.clone(),
        tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
    });
    let port = config.get_ports().first().copied().unwrap_or(5432);
    // Without one, Postgres takes the database that is called like the user.
    let database = config.get_dbname().or_else(|| config.get_user()).unwrap_or_default();
    format!("{host}:{port}/{database}")
}

/// The statements that let this role make our schemas, and in `public` the list of migrations; `None`: it may, or
/// they are there already.
pub(crate) async fn missing_grants(client: &Client) -> Result<Option<String>, Error> {
    let row = client
        .query_one(
            "select to_regnamespace('canon') is not null and to_regclass('public.plait_migration') is not null,
                    has_database_privilege(current_database(), 'create'),
                    (select has_schema_privilege(oid, 'create') from pg_namespace where nspname = 'public'),
                    quote_ident(current_database()), quote_ident(current_user)",
            &[],
        )
        .await?;
    let (are_there, may_make_schemas, may_use_public): (bool, bool, Option<bool>) =
        (row.get(0), row.get(1), row.get(2));
    let (database, user): (&str, &str) = (row.get(3), row.get(4));
    let mut grants = Vec::new();
    if !may_make_schemas {
        grants.push(format!("grant create on database {database} to {user}"));
    }
    if may_use_public == Some(false) {
        grants.push(format!("grant create on schema public to {user}"));
    }
    Ok((!are_there && !grants.is_empty()).then(|| grants.join("; ")))
}

/// A turn among programs that change the schemas at the same time: the lock of a table, which only its owner may take.
/// It lasts until this is dropped.
struct Turn {
    _client: Client,
}

impl Turn {
    async fn take(canonical: &Canonical) -> Result<Self, Error> {
        // Not `if not exists`: that asks for the right to make one all the same.
        const MAKE: &str = "
            do $$ begin if to_regnamespace('mirror') is null then create schema mirror; end if; end $$;
            create table if not exists mirror.turn ();
            comment on table mirror.turn is 'Locked by whoever changes the schemas; without rows.'";
        let client = connect(canonical).await?;
        let is_there = "select to_regclass('mirror.turn') is not null";
        let mut try_count = 1;
        while !client.query_one(is_there, &[]).await?.get::<_, bool>(0) {
            match client.batch_execute(MAKE).await {
                // Somebody else makes it at the same time.
                Err(error) if try_count < MAKE_TRY_COUNT_MAX => {
                    debug!(%error, "could not make the table of turns");
                    try_count += 1;
                    tokio::time::sleep(MAKE_PAUSE).await;
                }
                made => made?,
            }
        }
        client.batch_execute("begin; lock table mirror.turn in share row exclusive mode").await?;
        Ok(Self { _client: client })
    }
}

const MAKE_TRY_COUNT_MAX: u32 = 20;
const MAKE_PAUSE: Duration = Duration::from_millis(50);

/// Brings the schema `report` up to date; after [`migrate`].
///
/// # Errors
/// When the database does not take it, or a reader's transaction is in the way for long.
pub(crate) async fn install_reports(canonical: &Canonical) -> Result<(), Error> {
    let _turn = Turn::take(canonical).await?;
    let mut client = connect(canonical).await?;
    client.batch_execute("set lock_timeout = '10s'").await?;
    reports::install(&mut client).await
}

/// Lets the rights of who reads reports follow the mapping; after [`install_reports`].
///
/// # Errors
/// When the database does not take it: the rights are as they were then.
pub(crate) async fn follow_mapping(canonical: &Canonical, mapping: &Mapping) -> Result<(), Error> {
    let _turn = Turn::take(canonical).await?;
    let mut client = connect(canonical).await?;
    client.batch_execute("set lock_timeout = '10s'").await?;
    rights::follow(&mut client, mapping).await
}

/// Whether the schemas are as far as the writer's place, which decides who may change them.
pub(crate) async fn has_place(canonical: &Canonical) -> Result<bool, Error> {
    let client = connect(canonical).await?;
    let is_there = "select to_regclass('mirror.writer_beat') is not null";
    Ok(client.query_one(is_there, &[]).await?.get(0))
}

/// Brings the schemas `canon` and `mirror` up to date; forwards only. Two programs that start together
/// take turns.
pub(crate) async fn migrate(canonical: &Canonical) -> Result<(), Error> {
    let mut client = connect(canonical).await?;
    if let Some(grants) = missing_grants(&client).await? {
        let user: String = client.query_one("select current_user::text", &[]).await?.get(0);
        return Err(Error::Shape(format!(
            "user {user} may not create what plait needs in {}; run `{grants}` as the owner of that database",
            place(&canonical.config)
        )));
    }
    let _turn = Turn::take(canonical).await?;
    let report = embedded::migrations::runner()
        .set_migration_table_name("plait_migration")
        .run_async(&mut client)
        .await?;
    for migration in report.applied_migrations() {
        info!(%migration, "migrated the canonical database");
    }
    Ok(())
}

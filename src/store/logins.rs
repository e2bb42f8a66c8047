//! Logins that read reports: made, listed and taken away. A login is Plait's own when its comment says so, or when
//! `report.reader` has it; no other role is ever changed.

use postgres_protocol::password::scram_sha_256;
use tokio_postgres::{Client, error::SqlState};
use uuid::Uuid;

use super::{Error, readers::Group};

/// The comment on each login of ours.
pub(crate) const MARK: &str = "plait reader";
/// A query of a reader ends after this long. A reader may say otherwise for a session of theirs.
const STATEMENT_TIMEOUT: &str = "60s";
const IDLE_TIMEOUT: &str = "10min";
/// Sessions of one login at a time.
const CONNECTION_COUNT_MAX: u32 = 5;

/// A login, and what it reads.
#[derive(Debug)]
pub(crate) struct Login {
    pub(crate) name: String,
    /// The groups that it is in: one, unless somebody else gave it more.
    pub(crate) groups: Vec<String>,
    /// Of an investor.
    pub(crate) member: Option<Uuid>,
    pub(crate) member_name: Option<String>,
    /// The member has left, was deleted, or is not known any more.
    pub(crate) has_departed: bool,
}

/// What became of a login that was to go.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Removed {
    Gone,
    /// Something else depends on the role: it may not log in any more and reads nothing. In words, on what.
    Shut(String),
}

/// Whether a role of this name is there, and Plait's own; `None`: there is none.
///
/// # Errors
/// When the database fails.
pub(crate) async fn is_own(client: &Client, name: &str) -> Result<Option<bool>, Error> {
    let row = client
        .query_opt(
            "select coalesce(shobj_description(r.oid, 'pg_authid') = $2, false)
                    or exists (select from report.reader l where l.role_name = r.rolname)
             from pg_roles r where r.rolname = $1::text::name",
            &[&name, &MARK],
        )
        .await?;
    Ok(row.map(|row| row.get(0)))
}

/// Makes a login, or gives one of ours another password and group: it reads as that group from then on, and as no other.
/// The password never goes over the wire, nor into the server's log.
///
/// # Errors
/// A role of this name is somebody else's, or the database refuses.
pub(crate) async fn make(
    client: &mut Client,
    name: &str,
    group: Group,
    password: &str,
    member: Option<Uuid>,
) -> Result<(), Error> {
    let known = is_own(client, name).await?;
    if known == Some(false) {
        return Err(Error::ForeignRole { name: name.to_owned() });
    }
    let transaction = client.transaction().await?;
    let others: Vec<&str> =
        Group::ALL.into_iter().filter(|other| *other != group).map(Group::role).collect();
    let texts = transaction
        .query_one(
            "select case when $6 then format('alter role %I login connection limit %s', $1::text, $5::text)
                         else format('create role %I login nosuperuser nocreatedb nocreaterole noreplication connection limit %s', $1::text, $5::text) end,
                    format('alter role %I password %L', $1::text, $2::text),
                    format('comment on role %I is %L', $1::text, $7::text),
                    format('revoke %s from %I', array_to_string($4::text[], ', '), $1::text),
                    format('grant %I to %I', $3::text, $1::text),
                    format('alter role %I set statement_timeout = %L', $1::text, $8::text),
                    format('alter role %I set idle_in_transaction_session_timeout = %L', $1::text, $9::text)",
            &[
                &name,
                &scram_sha_256(password.as_bytes()),
                &group.role(),
                &others,
                &CONNECTION_COUNT_MAX.to_string(),
                &known.is_some(),
                &MARK,
                &STATEMENT_TIMEOUT,
                &IDLE_TIMEOUT,
            ],
        )
        .await?;
    // A role that is not in a group has nothing to be taken: a warning, and none that anybody needs.
    transaction.batch_execute("set local client_min_messages = error").await?;
    for at in 0..texts.len() {
        transaction.batch_execute(texts.get(at)).await?;
    }
    transaction
        .execute("delete from report.reader where role_name = $1::text::name", &[&name])
        .await?;
    if let Some(member) = member {
        let note = "insert into report.reader (role_name, member_id) values ($1::text::name, $2)";
        transaction.execute(note, &[&name, &member]).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// All logins of ours, by name.
///
/// # Errors
/// When the database fails.
pub(crate) async fn list(client: &Client) -> Result<Vec<Login>, Error> {
    let rows = client
        .query(
            "select r.rolname::text,
                    array(select g.rolname::text from pg_auth_members m join pg_roles g on g.oid = m.roleid
                          where m.member = r.oid and g.rolname = any($2) order by 1),
                    l.member_id, concat_ws(' ', p.first_name, p.last_name),
                    l.member_id is not null
                        and (p.id is null or p.deleted_at is not null or coalesce(p.status_code = 'left', false))
             from pg_roles r
             left join report.reader l on l.role_name = r.rolname
             left join canon.member p on p.id = l.member_id
             where shobj_description(r.oid, 'pg_authid') = $1 or l.role_name is not null
             order by 1",
            &[&MARK, &Group::ALL.map(Group::role).as_slice()],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| Login {
            name: row.get(0),
            groups: row.get(1),
            member: row.get(2),
            member_name: row.get::<_, Option<String>>(3).filter(|name| !name.is_empty()),
            has_departed: row.get(4),
        })
        .collect())
}

/// Takes a login away, with the sessions that it has.
///
/// # Errors
/// The role is somebody else's, or the database refuses.
pub(crate) async fn remove(client: &mut Client, name: &str) -> Result<Removed, Error> {
    match is_own(client, name).await? {
        Some(true) => {}
        Some(false) => return Err(Error::ForeignRole { name: name.to_owned() }),
        None => {
            forget(client, name).await?;
            return Ok(Removed::Gone);
        }
    }
    let texts = client
        .query_one(
            "select format('alter role %I nologin', $1::text),
                    format('revoke %s from %I', array_to_string($2::text[], ', '), $1::text),
                    format('drop role %I', $1::text), format('grant %I to current_user', $1::text)",
            &[&name, &Group::ALL.map(Group::role).as_slice()],
        )
        .await?;
    let transaction = client.transaction().await?;
    transaction.batch_execute("set local client_min_messages = error").await?;
    for at in 0..2 {
        transaction.batch_execute(texts.get(at)).await?;
    }
    transaction.commit().await?;
    forget(client, name).await?;
    // Who is in a role may end its sessions. Where it may not be had, they read nothing any more all the same.
    if client.batch_execute(texts.get(3)).await.is_ok() {
        let end =
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = $1::text::name";
        if let Err(error) = client.execute(end, &[&name]).await {
            tracing::debug!(%error, "could not end the sessions of a login");
        }
    }
    match client.batch_execute(texts.get(2)).await {
        Ok(()) => Ok(Removed::Gone),
        Err(error) if error.code() == Some(&SqlState::DEPENDENT_OBJECTS_STILL_EXIST) => {
            let detail = error.as_db_error().and_then(|error| error.detail()).unwrap_or_default();
            Ok(Removed::Shut(detail.lines().collect::<Vec<_>>().join("; ")))
        }
        Err(error) => Err(error.into()),
    }
}

async fn forget(client: &Client, name: &str) -> Result<(), Error> {
    let sql = "delete from report.reader where role_name = $1::text::name";
    client.execute(sql, &[&name]).await?;
    Ok(())
}

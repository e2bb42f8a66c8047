//! The role that looks at the condition of an export, made where it is not there yet.

use tokio_postgres::{Client, error::SqlState};

use super::{Error, reports::CONDITION};

/// Whether the role and its schema are there, and this user may hand a function to the role.
const IS_READY: &str = "
    select to_regrole('plait_condition') is not null and to_regnamespace('plait_condition') is not null
        and coalesce((select pg_has_role(current_user, r.oid, case when current_setting('server_version_num')::integer < 160000
                                                                  then 'member' else 'set' end)
                          and has_schema_privilege(r.oid, n.oid, 'create')
                          and has_schema_privilege(current_user, n.oid, 'create')
                      from pg_roles r, pg_namespace n where r.rolname = 'plait_condition' and n.nspname = 'plait_condition'), false)";

/// Whether a condition can be looked at.
///
/// # Errors
/// When the database fails.
pub(crate) async fn is_ready(client: &Client) -> Result<bool, Error> {
    Ok(client.query_one(IS_READY, &[]).await?.get(0))
}

/// Sees to it that a condition can be looked at; not within a transaction.
///
/// # Errors
/// [`Error::NoConditionRole`]: this user may not make the role.
pub(crate) async fn ensure(client: &Client) -> Result<(), Error> {
    if is_ready(client).await? {
        return Ok(());
    }
    match client.batch_execute(CONDITION).await {
        Ok(()) => Ok(()),
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            let user = client.query_one("select current_user::text", &[]).await?.get(0);
            Err(Error::NoConditionRole { user })
        }
        Err(error) => Err(error.into()),
    }
}

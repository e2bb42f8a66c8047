//! What the roles and policies of Directus allow, read from its tables: by that accounts are told from members. In: the
//! source. Out: [`Accounts`].

use tokio_postgres::{Client, Row, error::SqlState};

use super::{
    error::Error,
    layout::{Layout, Role, TableName, quote},
    settings::SourceSettings,
};
use crate::{
    mapping::{Accounts, Mapping, ROLE, Reach, RoleReach},
    remote::directus::setup::NAME as OWN_NAME,
};

/// Tables of Directus whose changes may change who is a member.
pub(super) const TABLES: [&str; 3] = ["directus_roles", "directus_policies", "directus_access"];

/// Columns of an account with the name of who has it.
const NAMES: [&str; 2] = ["first_name", "last_name"];

/// What accounts are judged by besides what the source says.
#[derive(Clone, Debug, Default)]
pub(super) struct Named {
    /// By name or id: roles whose accounts are members though they may open the Studio.
    pub(super) member_roles: Vec<String>,
    /// The id of Plait's own account, where it is known.
    pub(super) own: Option<String>,
}

impl Named {
    pub(super) fn new(mapping: &Mapping, own: Option<String>) -> Self {
        let accounts = mapping.entities.iter().find(|entity| entity.is_of_accounts());
        let member_roles = accounts.map_or_else(Vec::new, |it| it.rows.member_roles.clone());
        Self { member_roles, own }
    }
}

/// The table of accounts, if it is mapped.
pub(super) fn accounts_table(layout: &Layout) -> Option<(&TableName, &str)> {
    layout.tables.iter().find_map(|table| {
        table.roles.iter().find_map(|role| match role {
            Role::Record { key, role: Some(_), .. } => Some((&table.name, key.as_str())),
            _ => None,
        })
    })
}

/// Reads which accounts are left out. A Postgres without Directus's tables of roles leaves out nobody but Plait's own.
///
/// # Errors
/// `AccessUnreadable`: the role may not read them, so that administrators could not be told from members.
pub(super) async fn read(
    client: &Client,
    source: &SourceSettings,
    layout: &Layout,
    judged_by: &Named,
) -> Result<Accounts, Error> {
    let Some((table, key)) = accounts_table(layout) else { return Ok(Accounts::default()) };
    let name = |name: &str| TableName { schema: table.schema.clone(), table: name.into() }.quoted();
    let quoted = table.quoted();
    let columns = client
        .query(
            "select c.relname::text, a.attname::text, has_column_privilege(c.oid, a.attnum, 'select') from pg_attribute a
             join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
             where n.nspname = $1 and c.relname = any($2) and a.attnum > 0 and not a.attisdropped",
            &[&table.schema, &[&TABLES[..], &[table.table.as_str()]].concat()],
        )
        .await
        .map_err(Error::sql("look for Directus's roles"))?;
    let has = |table: &str, column: &str| {
        columns.iter().any(|row| {
            row.get::<_, &str>(0) == table && (column.is_empty() || row.get::<_, &str>(1) == column)
        })
    };
    let own = judged_by.own.as_deref();
    if !has("directus_roles", "") || !has(&table.table, ROLE) {
        let nobody = Accounts::default();
        return Ok(match own {
            Some(own) => nobody.with_own(own),
            None => nobody,
        });
    }
    let failed = |error: tokio_postgres::Error| {
        if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
            return Error::AccessUnreadable {
                user: source.user.clone(),
                tables: TABLES.map(name).join(", "),
            };
        }
        Error::Sql { doing: "read Directus's roles and policies".into(), source: error }
    };
    let (roles, access) = (name("directus_roles"), name("directus_access"));
    let policies = name("directus_policies");
    let has_policies = has("directus_policies", "") && has("directus_access", "");
    let role_sql = if has_policies {
        let parents = if has("directus_roles", "parent") {
            format!(
                "union select up.role, r.parent from up join {roles} r on r.id = up.of where r.parent is not null"
            )
        } else {
            String::new()
        };
        format!(
            "with recursive up (role, of) as (select id, id from {roles} {parents})
             select r.id::text, r.name::text, coalesce(bool_or(p.admin_access), false),
                    coalesce(bool_or(p.app_access), false), coalesce(bool_or(p.name = '{OWN_NAME}'), false)
             from {roles} r join up on up.role = r.id
             left join {access} a on a.role = up.of left join {policies} p on p.id = a.policy
             group by r.id, r.name"
        )
    } else {
        // Before Directus 11, the roles themselves say it.
        format!(
            "select id::text, name::text, coalesce(admin_access, false), coalesce(app_access, false), false
             from {roles}"
        )
    };
    let rows = client.query(&role_sql, &[]).await.map_err(failed)?;
    let roles: Vec<RoleReach> = rows
        .iter()
        .map(|row| {
            let role: String = row.get(1);
            RoleReach {
                id: row.get(0),
                is_own: role == OWN_NAME && row.get(4),
                name: role,
                reach: Reach { is_admin: row.get(2), is_app: row.get(3) },
            }
        })
        .collect();
    let mut users = Vec::new();
    if has_policies {
        let sql = format!(
            "select a.\"user\"::text, bool_or(p.admin_access), bool_or(p.app_access)
             from {access} a join {policies} p on p.id = a.policy where a.\"user\" is not null group by 1"
        );
        for row in client.query(&sql, &[]).await.map_err(failed)? {
            let reach = Reach { is_admin: row.get(1), is_app: row.get(2) };
            users.push((row.get::<_, String>(0), reach));
        }
    }
    let accounts = Accounts::new(&roles, &users, &judged_by.member_roles);
    let may_read = |column: &str| {
        let is_it =
            |row: &&Row| row.get::<_, &str>(0) == table.table && row.get::<_, &str>(1) == column;
        columns.iter().find(is_it).is_some_and(|row| row.get(2))
    };
    let name_columns: Vec<&str> = NAMES.into_iter().filter(|column| may_read(column)).collect();
    let name_sql =
        if name_columns.is_empty() { String::from("null") } else { name_columns.join(", ") };
    let sql = format!(
        "select {key}::text, nullif(concat_ws(' ', {name_sql}), ''), coalesce(role::text = any($1), false)
         from {quoted} where role::text = any($1) or {key}::text = any($2)",
        key = quote(key),
    );
    let rows = client.query(&sql, &[&accounts.role_ids(), &accounts.user_ids()]).await;
    let rows = rows.map_err(failed)?;
    let of_roles = rows.iter().filter(|row| row.get(2));
    let ids: Vec<String> = of_roles.map(|row| row.get(0)).collect();
    let called: Vec<(String, String)> = rows
        .iter()
        .filter_map(|row| Some((row.get(0), row.get::<_, Option<String>>(1)?)))
        .collect();
    // Whose role is left out already needs no rule: the rule stays the same when its id becomes known.
    let accounts = match own.filter(|own| !ids.iter().any(|id| id == own)) {
        Some(own) => accounts.with_own(own),
        None => accounts,
    };
    Ok(accounts.with_members(ids).with_names(called))
}

//! The roles that read reports: `plait_analyst`, `plait_delegate` and `plait_investor`; beside them the one that looks at
//! conditions ([`super::condition`]). Logins in them are in
//! [`super::logins`].

use tokio_postgres::Client;

use super::{
    Error, condition,
    reports::{CONDITION, GRANTS, ROLES},
};

/// What a login may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Analyst,
    Delegate,
    Investor,
}

impl Group {
    pub(crate) const ALL: [Self; 3] = [Self::Analyst, Self::Delegate, Self::Investor];

    pub(crate) fn role(self) -> &'static str {
        match self {
            Self::Analyst => "plait_analyst",
            Self::Delegate => "plait_delegate",
            Self::Investor => "plait_investor",
        }
    }
}

/// How things stand with the reporting roles.
#[derive(Debug)]
pub(crate) struct Roles {
    /// Of the three, and the one that looks at conditions.
    pub(crate) missing: Vec<&'static str>,
    pub(crate) has_policies: bool,
    /// Whether this user may make roles.
    pub(crate) may_make: bool,
    /// Roles that read canonical tables now and would see no rows of those with rules.
    pub(crate) shut_out: Vec<String>,
    /// The statement that keeps readers from making temporary tables; `None`: they cannot.
    pub(crate) temp: Option<String>,
    pub(crate) user: String,
}

/// Looks, and changes nothing.
pub(crate) async fn look(client: &Client) -> Result<Roles, Error> {
    let mut missing = Vec::new();
    for group in Group::ALL {
        let there: bool =
            client.query_one("select to_regrole($1) is not null", &[&group.role()]).await?.get(0);
        if !there {
            missing.push(group.role());
        }
    }
    if !condition::is_ready(client).await? {
        missing.push("plait_condition");
    }
    let row = client
        .query_one(
            "select (select count(*) from pg_policy p join pg_class c on c.oid = p.polrelid
                     where c.relnamespace = 'canon'::regnamespace and p.polname = 'own') >= 6,
                    (select rolcreaterole or rolsuper from pg_roles where rolname = current_user), current_user::text",
            &[],
        )
        .await?;
    let shut_out = client
        .query(
            "select distinct r.rolname::text
             from pg_class c
             cross join lateral aclexplode(c.relacl) a
             join pg_roles r on r.oid = a.grantee
             where c.relnamespace = 'canon'::regnamespace and a.privilege_type = 'SELECT'
               and c.relname in ('member', 'startup', 'round', 'investment', 'cash_flow', 'valuation')
               and a.grantee <> c.relowner and not r.rolsuper and not r.rolbypassrls
               and not exists (select from pg_roles g where g.rolname in ('plait_analyst', 'plait_investor')
                               and pg_has_role(r.oid, g.oid, 'member'))
             order by 1",
            &[],
        )
        .await?;
    let temp = client
        .query_one(
            "select case when has_database_privilege('public', current_database(), 'temp')
                         then format('revoke temporary on database %I from public', current_database()) end",
            &[],
        )
        .await?;
    Ok(Roles {
        missing,
        temp: temp.get(0),
        has_policies: row.get(0),
        may_make: row.get(1),
        shut_out: shut_out.iter().map(|row| row.get(0)).collect(),
        user: row.get(2),
    })
}

/// For somebody who may, by `psql`.
pub(crate) fn script() -> String {
    format!("begin;\n{ROLES}\n{CONDITION}\n{GRANTS}\ncommit;\n")
}

/// Makes the roles, and the rules of which rows an investor sees; again and again to the same effect.
pub(crate) async fn make_roles(client: &mut Client) -> Result<(), Error> {
    let transaction = client.transaction().await?;
    transaction.batch_execute("set local client_min_messages = warning").await?;
    for text in [ROLES, CONDITION, GRANTS] {
        transaction.batch_execute(text).await?;
    }
    transaction.commit().await?;
    Ok(())
}

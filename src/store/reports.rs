//! The schema `report`: views and functions of `sql/`, installed after the migrations whenever one of those files has
//! changed. Nothing of the mirror depends on them, and so nothing of it stops where they cannot be installed.

use sha2::{Digest as _, Sha256};
use tokio_postgres::{Client, error::SqlState};
use tracing::info;

use super::Error;

/// In the order of their dependencies; the last one is the rights of the roles that there are.
const FILES: [(&str, &str); 13] = [
    ("schema", include_str!("../../sql/schema.sql")),
    ("xirr", include_str!("../../sql/xirr.sql")),
    ("knowledge", include_str!("../../sql/knowledge.sql")),
    ("portfolio", include_str!("../../sql/portfolio.sql")),
    ("directory", include_str!("../../sql/directory.sql")),
    ("deal_flow", include_str!("../../sql/deal_flow.sql")),
    ("companies", include_str!("../../sql/companies.sql")),
    ("statistics", include_str!("../../sql/statistics.sql")),
    ("quality", include_str!("../../sql/quality.sql")),
    ("health", include_str!("../../sql/health.sql")),
    ("catalogue", include_str!("../../sql/catalogue.sql")),
    ("columns", include_str!("../../sql/columns.sql")),
    ("grants", GRANTS),
];

/// Makes the reporting roles and the rules of which rows an investor sees; [`GRANTS`] comes after it.
pub(crate) const ROLES: &str = include_str!("../../sql/roles.sql");
/// Makes the role that looks at conditions; again and again to the same effect.
pub(crate) const CONDITION: &str = include_str!("../../sql/condition.sql");
pub(crate) const GRANTS: &str = include_str!("../../sql/grants.sql");

/// What others have made that hangs on a view or a function of the schema, as `schema.name`.
const OUTSIDERS: &str = "
    select distinct format('%I.%I', n.nspname, c.relname)
    from pg_depend d
    join pg_rewrite w on w.oid = d.objid and d.classid = 'pg_rewrite'::regclass
    join pg_class c on c.oid = w.ev_class
    join pg_namespace n on n.oid = c.relnamespace and n.nspname <> 'report'
    left join pg_class used on d.refclassid = 'pg_class'::regclass and used.oid = d.refobjid
    left join pg_proc called on d.refclassid = 'pg_proc'::regclass and called.oid = d.refobjid
    where coalesce(used.relnamespace, called.pronamespace) = to_regnamespace('report')
    order by 1";

/// Everything in the schema but `report.reader`, which holds data.
const CLEAR: &str = "
    do $$
    declare
        it record;
    begin
        for it in select format('drop view report.%I cascade', relname) as statement, relname as name
                  from pg_class where relnamespace = 'report'::regnamespace and relkind = 'v' loop
            if to_regclass(format('report.%I', it.name)) is not null then
                execute it.statement;
            end if;
        end loop;
        for it in select format('drop routine %s cascade', oid::regprocedure) as statement, oid
                  from pg_proc where pronamespace = 'report'::regnamespace and proname <> 'reader_member_id'
                  order by prokind = 'a' desc loop
            if exists (select from pg_proc where oid = it.oid) then
                execute it.statement;
            end if;
        end loop;
        drop type if exists report.irr cascade;
    end
    $$";

/// Installs what has changed since the last time.
///
/// # Errors
/// When the database does not take it: all is as it was then.
pub(super) async fn install(client: &mut Client) -> Result<(), Error> {
    let mut digest = Sha256::new();
    for (_, text) in FILES {
        digest.update(text);
    }
    let digest = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD_NO_PAD,
        digest.finalize(),
    );
    let known = "select digest = $1 from mirror.report_installation";
    if client.query_opt(known, &[&digest]).await?.is_some_and(|row| row.get(0)) {
        return Ok(());
    }
    match run(client, None, &digest).await {
        // A view or function cannot be replaced by one with other columns: it has to be made anew.
        Err(Error::Report { source, .. })
            if [
                Some(&SqlState::INVALID_TABLE_DEFINITION),
                Some(&SqlState::INVALID_FUNCTION_DEFINITION),
            ]
            .contains(&source.code()) =>
        {
            let others = client.query(OUTSIDERS, &[]).await?;
            if !others.is_empty() {
                let names: Vec<String> = others.iter().map(|row| row.get(0)).collect();
                return Err(Error::Shape(format!(
                    "the reports are those of an older plait: views of others hang on them ({}); drop these, start \
                     plait, and make them again",
                    names.join(", ")
                )));
            }
            run(client, Some(CLEAR), &digest).await?;
        }
        done => done?,
    }
    info!("installed the reports, schema `report`");
    Ok(())
}

async fn run(client: &mut Client, first: Option<&str>, digest: &str) -> Result<(), Error> {
    let transaction = client.transaction().await?;
    // Comments on what is not there yet, and the like.
    transaction.batch_execute("set local client_min_messages = warning").await?;
    if let Some(first) = first {
        transaction.batch_execute(first).await?;
    }
    for (name, text) in FILES {
        transaction.batch_execute(text).await.map_err(|source| Error::Report { name, source })?;
    }
    // What was kept is of the views before.
    transaction.execute("delete from mirror.kept_report", &[]).await?;
    transaction.execute("delete from mirror.report_installation", &[]).await?;
    let note = "insert into mirror.report_installation (digest) values ($1)";
    transaction.execute(note, &[&digest]).await?;
    transaction.commit().await?;
    Ok(())
}

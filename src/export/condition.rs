//! The condition of `--where`: a text of somebody's, looked at where it can do nothing. A row is handed to a function
//! whose owner reads nothing at all; it is made within the export's transaction, which never commits.

use super::{Error, Session, query::Query};

/// The functions that a text of SQL calls and that may have effects, and the relations that it reads, as Postgres has
/// read it; only then is it known that `f(x)` is one, or that `~~~` is.
const FOUND: &str = r"
    with body as (select prosqlbody::text as tree from pg_proc where oid = to_regprocedure($1)),
    called as (
        select distinct m[1]::oid as oid
        from body, regexp_matches(tree, ':(?:funcid|opfuncid|aggfnoid|winfnoid) (\d+)', 'g') m),
    read as (select distinct m[1]::oid as oid from body, regexp_matches(tree, ':rtekind 0 :relid (\d+)', 'g') m)
    select (select string_agg(format('%s()', p.oid::regproc), ', ' order by p.oid)
            from called join pg_proc p using (oid) where p.provolatile = 'v'),
           (select string_agg(read.oid::regclass::text, ', ' order by read.oid) from read)";

impl Query {
    /// Narrows the query to the rows for which its condition holds, which is one condition and nothing else.
    ///
    /// # Errors
    /// Postgres does not understand the condition, or it is more than a look at the columns of its row.
    pub(super) async fn restrict(&mut self, session: &Session) -> Result<(), Error> {
        let Some(condition) = self.condition().map(str::to_owned) else { return Ok(()) };
        let refused = |message: String| Error::Condition { message, hint: String::new() };
        if condition.trim().is_empty() {
            return Err(refused("it is empty".into()));
        }
        // Within one pair of brackets here and two below: only what is balanced is a condition within both. On lines of
        // its own, since a comment in it ends there. To prepare it runs none of it.
        let alone = format!("select 1 from {} where (\n{condition}\n)", self.as_rows());
        if let Err(error) = session.client.prepare(&alone).await {
            return Err(self.blame(&error));
        }
        let backend: i32 = session.client.query_one("select pg_backend_pid()", &[]).await?.get(0);
        let row = self.source.relation("");
        let of_row = |name: &str| format!("plait_condition.{name}_{backend}({row})");
        let (looked, holds) = (of_row("looked"), of_row("holds"));
        let body = format!("select ((\n{condition}\n)) from (select ($1).*) r");
        let text: String =
            session.client.query_one("select quote_literal($1)", &[&body]).await?.get(0);
        let options = "returns boolean language sql stable parallel restricted security definer";
        let make = [
            // As a tree, for the look at what is in it.
            format!("create function {looked} {options} return ({body})"),
            // As a text, which Postgres runs faster, and reads as the role that owns it.
            format!("create function {holds} {options} as {text}"),
        ];
        for statement in make {
            if let Err(error) = session.client.execute(&statement, &[]).await {
                return Err(self.blame(&error));
            }
        }
        let found = session.client.query_one(FOUND, &[&looked]).await?;
        if let Some(functions) = found.get::<_, Option<String>>(0) {
            return Err(refused(format!(
                "{functions} may have effects, or wait, and a condition only looks, in a read-only transaction"
            )));
        }
        if let Some(relations) = found.get::<_, Option<String>>(1) {
            return Err(refused(format!(
                "it reads {relations}, and a condition looks at the columns of {} alone",
                self.name()
            )));
        }
        session
            .client
            .batch_execute(&format!(
                "drop function {looked};
                 alter function {holds} owner to plait_condition;
                 set transaction read only;
                 set local statement_timeout = {}",
                session.condition_time_max.as_millis()
            ))
            .await?;
        self.filter(&format!("plait_condition.holds_{backend}(row(r.*)::{row})"));
        Ok(())
    }
}

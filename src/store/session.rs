//! A connection with the statements prepared on it, and how a batch goes over it: statements are sent in order
//! without waiting for each other's answers, and the answers are awaited together. A batch costs a round trip,
//! not one a statement.

use std::{
    borrow::Cow,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
};

use bytes::Bytes;
use futures_util::{
    SinkExt as _,
    future::{BoxFuture, ready, try_join_all},
    poll,
};
use tokio_postgres::{Client, Row, Statement, types::ToSql};
use tracing::debug;

use super::{Error, statements::Statements};

pub(crate) type Param = Box<dyn ToSql + Sync + Send>;

/// A statement of a batch, with what it is fed with.
pub(crate) struct Call {
    pub(super) sql: Cow<'static, str>,
    pub(super) feed: Feed,
}

pub(super) enum Feed {
    Params(Vec<Param>),
    /// For a `copy … from stdin`.
    Rows(Bytes),
}

/// Cheap to clone: the clones share the connection.
#[derive(Clone)]
pub(super) struct Session {
    client: Arc<Client>,
    statements: Arc<Mutex<Statements>>,
}

impl Session {
    pub(super) fn new(client: Client) -> Self {
        Self { client: Arc::new(client), statements: Arc::default() }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    async fn prepared(&self, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        let known = self.known().get(sql);
        if let Some(statement) = known {
            return Ok(statement);
        }
        let statement = self.client.prepare(sql).await?;
        // What has to leave is closed on the server when the last clone is dropped: outside the lock.
        let evicted = self.known().insert(sql, statement.clone());
        drop(evicted);
        Ok(statement)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Statements> {
        // A panic cannot leave the map half-written, so a poisoned lock is safe to reuse.
        self.statements.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn query(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        let statement = self.prepared(sql).await?;
        Ok(self.client.query(&statement, params).await?)
    }

    /// As [`Self::query`], outside a transaction: where somebody holds a lock, it is asked again.
    pub(super) async fn query_patiently(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        loop {
            match self.query(sql, params).await {
                Err(error) if error.is_lock_wait() => debug!("waits for a lock"),
                answer => return answer,
            }
        }
    }

    /// As [`Self::query_all`], likewise.
    pub(super) async fn query_all_patiently(
        &self,
        queries: &[(String, Vec<Param>)],
    ) -> Result<Vec<Vec<Row>>, Error> {
        loop {
            match self.query_all(queries).await {
                Err(error) if error.is_lock_wait() => debug!("waits for a lock"),
                answer => return answer,
            }
        }
    }

    /// Several queries at once; the answers in their order.
    pub(super) async fn query_all(
        &self,
        queries: &[(String, Vec<Param>)],
    ) -> Result<Vec<Vec<Row>>, Error> {
        let statements = try_join_all(queries.iter().map(|(sql, _)| self.prepared(sql))).await?;
        let answers = statements.iter().zip(queries).map(|(statement, (_, params))| async move {
            self.client.query(statement, &borrowed(params)).await
        });
        Ok(try_join_all(answers).await?)
    }

    /// Sends `begin`, `calls` and `end` in this order, then waits for all answers; at a copy, for those before it
    /// first. The first failure is the result; `end` is then left out if it was not sent yet, and undoing is the
    /// caller's.
    pub(super) async fn send(
        &self,
        begin: &str,
        calls: &[Call],
        end: &'static str,
    ) -> Result<(), Error> {
        // Before `begin`: a statement prepared inside could not be after a failure. They are held here, since a
        // batch may have more of them than `Statements` keeps.
        let statements = try_join_all(calls.iter().map(|call| self.prepared(&call.sql))).await?;
        let mut sent = Sent::default();
        sent.add(Box::pin(self.client.batch_execute(begin))).await;
        for (Call { feed, .. }, statement) in calls.iter().zip(statements) {
            match feed {
                Feed::Params(params) => {
                    sent.add(Box::pin(async move {
                        self.client.execute(&statement, &borrowed(params)).await.map(drop)
                    }))
                    .await;
                }
                Feed::Rows(rows) => {
                    // After a failure the server would refuse to begin the copy, and the driver counts its answers
                    // wrongly then.
                    std::mem::take(&mut sent).done().await?;
                    self.copy(&statement, rows.clone()).await?;
                }
            }
        }
        if !sent.has_failed {
            sent.add(Box::pin(self.client.batch_execute(end))).await;
        }
        sent.done().await
    }

    async fn copy(&self, statement: &Statement, rows: Bytes) -> Result<(), tokio_postgres::Error> {
        let mut sink = pin!(self.client.copy_in(statement).await?);
        sink.send(rows).await?;
        sink.finish().await.map(drop)
    }
}

/// Calls that are on their way.
#[derive(Default)]
struct Sent<'a> {
    /// In the order of the calls: the first that failed says why, the later ones only that something did.
    answers: Vec<BoxFuture<'a, Result<(), tokio_postgres::Error>>>,
    has_failed: bool,
}

impl<'a> Sent<'a> {
    /// The first poll sends; nobody waits yet. On a quick server the answer is here at once.
    async fn add(&mut self, mut answer: BoxFuture<'a, Result<(), tokio_postgres::Error>>) {
        if let Poll::Ready(done) = poll!(&mut answer) {
            self.has_failed |= done.is_err();
            answer = Box::pin(ready(done));
        }
        self.answers.push(answer);
    }

    async fn done(self) -> Result<(), Error> {
        let mut outcome = Ok(());
        for answer in self.answers {
            let done = answer.await;
            outcome = outcome.and(done);
        }
        Ok(outcome?)
    }
}

fn borrowed(params: &[Param]) -> Vec<&(dyn ToSql + Sync)> {
    params.iter().map(|param| &**param as &(dyn ToSql + Sync)).collect()
}

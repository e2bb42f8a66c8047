//! A query's rows, from Postgres to whatever takes them. Rows are in flight, never collected: the taker works on a
//! thread of its own, and what is on its way to it is bounded.

use bytes::Bytes;
use futures_util::StreamExt as _;
use indicatif::ProgressBar;
use tokio::{sync::mpsc, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::{Error, Session, column::Form, query::Query};

/// Rows that are handed over together, at most.
const CHUNK_ROW_COUNT_MAX: usize = 1024;
/// Such chunks between the connection and the taker.
const CHUNK_COUNT_MAX: usize = 4;

/// Takes rows as Postgres sent them, a line each. May block.
pub(super) trait Sink: Send + 'static {
    fn take(&mut self, line: &[u8]) -> Result<(), Error>;
}

/// Where progress is shown, and what ends it early.
#[derive(Clone, Copy)]
pub(crate) struct Watch<'w> {
    pub(crate) bar: &'w ProgressBar,
    pub(crate) stop: &'w CancellationToken,
}

/// Sends all rows of `query` through `sink`, which comes back, with how many lines it took.
///
/// # Errors
/// What the database or the sink say; stopped.
pub(super) async fn copy<S: Sink>(
    session: &Session,
    query: &Query,
    form: Form,
    sink: S,
    watch: Watch<'_>,
) -> Result<(S, u64), Error> {
    // Postgres sends each row as a message of its own. What JSON escapes anyhow is taken for quote and delimiter, so
    // that its rows come as they are.
    let options = match form {
        Form::Json => "format csv, quote e'\\x01', delimiter e'\\x02'",
        Form::Csv(_) | Form::Cell | Form::Typed => "format text",
    };
    let statement = format!("copy ({}) to stdout ({options})", query.sql(form));
    let copied = session.client.copy_out(&statement).await.map_err(|error| query.blame(&error))?;
    let (sender, receiver) = mpsc::channel(CHUNK_COUNT_MAX);
    let taking = spawn_blocking(move || take(sink, receiver));

    let mut chunks = std::pin::pin!(copied.ready_chunks(CHUNK_ROW_COUNT_MAX));
    let mut count = 0;
    let mut failure = None;
    'copying: loop {
        let chunk = tokio::select! {
            () = watch.stop.cancelled() => {
                failure = Some(Error::Stopped);
                break;
            }
            chunk = chunks.next() => chunk,
        };
        let Some(chunk) = chunk else { break };
        let mut rows = Vec::with_capacity(chunk.len());
        for row in chunk {
            match row {
                Ok(row) => rows.push(row),
                Err(error) => {
                    failure = Some(query.blame(&error));
                    break 'copying;
                }
            }
        }
        count += rows.len() as u64;
        watch.bar.inc(rows.len() as u64);
        if sender.send(rows).await.is_err() {
            break; // the taker has failed, and says why
        }
    }
    drop(sender);
    let taken = taking.await.map_err(|error| Error::BrokenOff(error.to_string()))?;
    match (failure, taken) {
        // What the taker says of a disk comes before what the connection says of its end.
        (_, Err(error)) | (Some(error), Ok(_)) => Err(error),
        (None, Ok(sink)) => Ok((sink, count)),
    }
}

fn take<S: Sink>(mut sink: S, mut chunks: mpsc::Receiver<Vec<Bytes>>) -> Result<S, Error> {
    while let Some(rows) = chunks.blocking_recv() {
        for row in rows {
            sink.take(&row)?;
        }
    }
    Ok(sink)
}

//! A query's rows, from Postgres to whatever takes them. Rows are in flight, never collected: the taker works on a
//! thread of its own, and what is on its way to it is bounded.

use futures_util::StreamExt as _;
use indicatif::ProgressBar;
use tokio::{sync::mpsc, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::{Error, Session, column::Form, query::Query};

/// Rows that are looked at together, at most.
const LOOK_ROW_COUNT_MAX: usize = 256;
/// Bytes that are handed over together: a thread is woken for each.
const CHUNK_BYTES: usize = 128 * 1024;
/// Such chunks between the connection and the taker.
const CHUNK_COUNT_MAX: usize = 4;

/// Rows, one behind the other.
#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

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

    let mut looks = std::pin::pin!(copied.ready_chunks(LOOK_ROW_COUNT_MAX));
    let mut stopped = std::pin::pin!(watch.stop.cancelled());
    let mut chunk = Chunk::default();
    let mut count = 0;
    let mut failure = None;
    'copying: loop {
        let rows = tokio::select! {
            () = stopped.as_mut() => {
                failure = Some(Error::Stopped);
                break;
            }
            rows = looks.next() => rows,
        };
        let is_last = rows.is_none();
        let rows = rows.unwrap_or_default();
        count += rows.len() as u64;
        watch.bar.inc(rows.len() as u64);
        for row in rows {
            match row {
                Ok(row) => chunk.put(&row),
                Err(error) => {
                    failure = Some(query.blame(&error));
                    break 'copying;
                }
            }
        }
        if chunk.bytes.len() >= CHUNK_BYTES || is_last {
            let full = std::mem::take(&mut chunk);
            // If that fails, the taker has, and says why.
            if sender.send(full).await.is_err() || is_last {
                break;
            }
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

impl Chunk {
    fn put(&mut self, row: &[u8]) {
        if self.bytes.is_empty() {
            self.bytes.reserve(CHUNK_BYTES + CHUNK_BYTES / 4);
        }
        self.bytes.extend_from_slice(row);
        self.ends.push(self.bytes.len());
    }
}

fn take<S: Sink>(mut sink: S, mut chunks: mpsc::Receiver<Chunk>) -> Result<S, Error> {
    while let Some(Chunk { bytes, ends }) = chunks.blocking_recv() {
        let mut start = 0;
        for end in ends {
            sink.take(bytes.get(start..end).unwrap_or_default())?;
            start = end;
        }
    }
    Ok(sink)
}

//! Connections to the receiver of pings, whose address is open to the internet. In: a listening socket. Out: streams
//! that live for [`LIFETIME`] at most, headers and body included, and of which there are [`CONNECTION_COUNT_MAX`] at
//! most: one more ends the oldest. So whoever opens connections and says nothing takes no place from a ping, which is
//! answered within a round trip or two.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{Sleep, sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tracing::debug;

/// From the connection to the end of its last answer. Airtable itself waits for 25 s.
const LIFETIME: Duration = Duration::from_secs(10);
/// More than Airtable opens, and far fewer than a process may have files.
const CONNECTION_COUNT_MAX: usize = 128;
/// After a connection could not be taken, as when the process has no more files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listener whose connections are limited.
pub(crate) struct GuardedListener {
    listener: TcpListener,
    stop: CancellationToken,
    lifetime: Duration,
    /// Each ends its connection; the oldest first. Those of connections that are over leave when there are too many.
    ends: VecDeque<CancellationToken>,
    open_count: Arc<AtomicUsize>,
}

impl GuardedListener {
    /// All connections end with `stop`.
    pub(crate) fn new(listener: TcpListener, stop: CancellationToken) -> Self {
        let (ends, open_count) = (VecDeque::new(), Arc::default());
        Self { listener, stop, lifetime: LIFETIME, ends, open_count }
    }

    fn admit(&mut self, stream: TcpStream) -> Connection {
        self.ends.retain(|end| !end.is_cancelled());
        while self.ends.len() >= CONNECTION_COUNT_MAX
            && let Some(oldest) = self.ends.pop_front()
        {
            oldest.cancel();
        }
        let end = self.stop.child_token();
        self.ends.push_back(end.clone());
        self.open_count.fetch_add(1, Ordering::Relaxed);
        Connection {
            stream,
            over: Box::pin(sleep(self.lifetime)),
            ended: Box::pin(end.clone().cancelled_owned()),
            end,
            open_count: Arc::clone(&self.open_count),
        }
    }
}

impl Listener for GuardedListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => return (self.admit(stream), address),
                Err(error) => {
                    debug!(%error, "could not take a connection");
                    // The oldest may hold the files that are missing.
                    if let Some(oldest) = self.ends.pop_front() {
                        oldest.cancel();
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection with an end.
pub(crate) struct Connection {
    stream: TcpStream,
    over: Pin<Box<Sleep>>,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    end: CancellationToken,
    open_count: Arc<AtomicUsize>,
}

impl Connection {
    /// Fails once the connection has to end, and has the task woken then.
    fn poll_end(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let is_over = self.over.as_mut().poll(context).is_ready();
        if is_over || self.ended.as_mut().poll(context).is_ready() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.end.cancel();
        self.open_count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_end(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_end(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_end(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Bytes, routing::post};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    struct Served {
        address: SocketAddr,
        open_count: Arc<AtomicUsize>,
        stop: CancellationToken,
        task: tokio::task::JoinHandle<io::Result<()>>,
    }

    async fn serve(lifetime: Duration) -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stop = CancellationToken::new();
        let mut guarded = GuardedListener::new(listener, stop.clone());
        guarded.lifetime = lifetime;
        let (address, open_count) =
            (guarded.local_addr().unwrap(), Arc::clone(&guarded.open_count));
        let router = Router::new().route("/", post(async |body: Bytes| body));
        let task = tokio::spawn(
            axum::serve(guarded, router)
                .with_graceful_shutdown(stop.clone().cancelled_owned())
                .into_future(),
        );
        Served { address, open_count, stop, task }
    }

    impl Served {
        async fn connect(&self, say: &str) -> TcpStream {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(say.as_bytes()).await.unwrap();
            stream
        }

        async fn until_open(&self, count: usize) {
            let open = async {
                while self.open_count.load(Ordering::Relaxed) != count {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(Duration::from_mins(1), open).await.unwrap();
        }
    }

    /// What the server says until it closes the connection.
    async fn rest(mut stream: TcpStream) -> String {
        let mut said = Vec::new();
        // A reset tells the same as an end.
        drop(stream.read_to_end(&mut said).await);
        String::from_utf8(said).unwrap()
    }

    const WHOLE: &str =
        "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi";

    #[tokio::test]
    async fn guard_half_open_connections_give_way_to_the_next_and_a_whole_request_is_answered() {
        let served = serve(Duration::from_hours(1)).await;
        let mut silent = Vec::new();
        for no in 0..1_000 {
            // Nothing at all, half of the headers, half of the body.
            let say = ["", "POST / HTTP/1.1\r\nhost: x\r\n", WHOLE.strip_suffix('i').unwrap()];
            silent.push(served.connect(say[no % 3]).await);
        }
        assert!(rest(served.connect(WHOLE).await).await.ends_with("hi"));
        assert!(served.open_count.load(Ordering::Relaxed) <= CONNECTION_COUNT_MAX + 1);
        // Those that gave way are closed; the last ones are not.
        assert_eq!(rest(silent.remove(0)).await, "");
        served.until_open(CONNECTION_COUNT_MAX - 1).await;
        // A stop waits for none of them.
        served.stop.cancel();
        tokio::time::timeout(Duration::from_mins(1), served.task).await.unwrap().unwrap().unwrap();
    }

    #[tokio::test]
    async fn guard_connection_ends_after_its_time_whatever_it_has_sent() {
        let served = serve(Duration::from_millis(100)).await;
        let silent = served.connect("").await;
        let headers = served.connect("POST / HTTP/1.1\r\nhost: x\r\n").await;
        let body = served.connect(WHOLE.strip_suffix('i').unwrap()).await;
        for stream in [silent, headers, body] {
            assert!(!rest(stream).await.contains("200 OK"));
        }
        served.until_open(0).await;
    }
}

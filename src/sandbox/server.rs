//! The HTTP server: connections that can be cut, requests that can go wrong, and who answers what.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::http::{Request, Response};
use axum::serve::{IncomingStream, Listener};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::api::{Call, answer, route};
use super::clock::Clock;
use super::fault::{self, Fault, FaultKind};
use super::model::State;
use super::reply::Reply;
use super::{control, page};

/// What every task of one sandbox shares.
pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) clock: Arc<Clock>,
    /// Wakes the sender of pings.
    pub(super) nudge: Notify,
    /// Wakes the writer of the state file.
    pub(super) changed: Notify,
    pub(super) stop: CancellationToken,
}

impl Shared {
    pub(super) fn new(state: State, clock: Arc<Clock>, stop: CancellationToken) -> Self {
        Self { state: Mutex::new(state), clock, nudge: Notify::new(), changed: Notify::new(), stop }
    }

    /// The state; what a panicking test left behind is still the state.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const ALIVE: u8 = 0;
const DROPPED: u8 = 1;
const RESET: u8 = 2;

/// A listener whose connections a handler can cut.
pub(super) struct Ear(pub(super) TcpListener);

/// A connection; once cut, no byte leaves it any more.
pub(super) struct Line {
    stream: TcpStream,
    fate: Arc<AtomicU8>,
}

/// What a handler knows of its connection.
#[derive(Clone)]
pub(super) struct Peer {
    fate: Arc<AtomicU8>,
}

impl Listener for Ear {
    type Io = Line;
    type Addr = (SocketAddr, Arc<AtomicU8>);

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.0.accept().await {
                Ok((stream, address)) => {
                    let fate = Arc::new(AtomicU8::new(ALIVE));
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "could not switch off Nagle's algorithm");
                    }
                    return (Line { stream, fate: Arc::clone(&fate) }, (address, fate));
                }
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok((self.0.local_addr()?, Arc::new(AtomicU8::new(ALIVE))))
    }
}

impl Connected<IncomingStream<'_, Ear>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Ear>) -> Self {
        Self { fate: Arc::clone(&stream.remote_addr().1) }
    }
}

impl Line {
    fn check(&self) -> io::Result<()> {
        match self.fate.load(Ordering::SeqCst) {
            ALIVE => Ok(()),
            RESET => {
                self.stream.set_zero_linger()?;
                Err(io::ErrorKind::ConnectionReset.into())
            }
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Serves until the sandbox's stop.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) -> io::Result<()> {
    let stop = shared.stop.clone();
    let router = axum::Router::new().fallback(
        |ConnectInfo(peer): ConnectInfo<Peer>, request: Request<Body>| async move {
            handle(shared, peer, request).await
        },
    );
    let service = router.into_make_service_with_connect_info::<Peer>();
    axum::serve(Ear(listener), service)
        .with_graceful_shutdown(async move { stop.cancelled().await })
        .await
}

/// `%41` and, in a query, `+`.
pub(super) fn decode(text: &str, is_query: bool) -> String {
    let mut bytes = Vec::new();
    let raw = text.as_bytes();
    let mut at = 0;
    while at < raw.len() {
        let hex = (raw[at] == b'%').then(|| raw.get(at + 1..at + 3)).flatten();
        let decoded =
            hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        if let Some(byte) = decoded {
            bytes.push(byte);
            at += 3;
        } else {
            bytes.push(if is_query && raw[at] == b'+' { b' ' } else { raw[at] });
            at += 1;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(super) fn query_of(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(key, true), decode(value, true))
        })
        .collect()
}

async fn handle(shared: Arc<Shared>, peer: Peer, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let header = |name: &str| {
        head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let body = axum::body::to_bytes(body, 64 * 1024 * 1024).await.unwrap_or_default();
    let path = head.uri.path();
    let query = head.uri.query().unwrap_or_default();
    let mut segments: Vec<String> =
        path.split('/').skip(1).map(|part| decode(part, false)).collect();
    if segments.last().is_some_and(String::is_empty) {
        segments.pop();
    }
    let first = segments.first().map(String::as_str).unwrap_or_default().to_owned();
    let call = Call {
        method: head.method.as_str().to_owned(),
        segments: segments.iter().skip(1).cloned().collect(),
        query: query_of(query),
        url_char_count: head.uri.to_string().chars().count(),
        authorization: header("authorization"),
        is_json: header("content-type").is_some_and(|kind| kind.starts_with("application/json")),
        body: body.to_vec(),
    };
    match first.as_str() {
        "v0" if call.method == "OPTIONS" => response(Reply::new(200, "text/plain", "")),
        "v0" => {
            airtable(
                &shared,
                &peer,
                &call,
                &format!("{}?{}", decode(path, false), decode(query, true)),
            )
            .await
        }
        "sandbox" => response(control::answer(&shared, &call)),
        "v5.airtableusercontent.com" => response(page::attachment(&shared, &call)),
        _ => response(page::answer(&call, header("accept-language").as_deref())),
    }
}

async fn airtable(shared: &Arc<Shared>, peer: &Peer, call: &Call, path: &str) -> Response<Body> {
    let kind = route(call).map_or("unknown", |(kind, _)| kind.name());
    let (reply, fault) = {
        let mut state = shared.lock();
        state.stats.request_count += 1;
        *state.stats.by_kind.entry(kind.to_owned()).or_default() += 1;
        let number = state.stats.request_count;
        let fault = state.faults.take(number, &call.method, path, kind);
        if fault.as_ref().is_some_and(|fault| fault.kind == FaultKind::ForgetListings) {
            state.listings.clear();
        }
        let is_applied = fault.as_ref().is_none_or(|fault| {
            fault.applied
                || matches!(
                    fault.kind,
                    FaultKind::Slow | FaultKind::Truncate | FaultKind::ForgetListings
                )
        });
        let version = state.version;
        let now_ms = shared.clock.now_ms();
        let honest = is_applied.then(|| answer(&mut state, call, now_ms));
        let own = fault.as_ref().and_then(|fault| fault::reply(fault, &state));
        let reply = own.or(honest).unwrap_or_else(|| Reply::new(500, super::reply::JSON, "{}"));
        *state.stats.by_status.entry(reply.status).or_default() += 1;
        if reply.status == 429 {
            state.stats.refused_by_rate_count += 1;
        }
        if state.version != version {
            shared.nudge.notify_one();
            shared.changed.notify_one();
        }
        (reply, fault)
    };
    match fault {
        Some(fault) => go_wrong(shared, peer, reply, &fault).await,
        None => response(reply),
    }
}

/// Answers as the fault says, where that is more than a reply of its own.
async fn go_wrong(shared: &Shared, peer: &Peer, reply: Reply, fault: &Fault) -> Response<Body> {
    let wait = |default_ms: u64| Duration::from_millis(fault.delay_ms.unwrap_or(default_ms));
    let pause = async |time: Duration| {
        tokio::select! {
            () = shared.stop.cancelled() => {}
            () = tokio::time::sleep(time) => {}
        }
    };
    match fault.kind {
        FaultKind::Slow => pause(wait(2000)).await,
        FaultKind::Timeout => {
            pause(wait(60_000)).await;
            peer.fate.store(DROPPED, Ordering::SeqCst);
        }
        FaultKind::Reset => peer.fate.store(RESET, Ordering::SeqCst),
        FaultKind::Drop => peer.fate.store(DROPPED, Ordering::SeqCst),
        FaultKind::Truncate => {
            let half = Bytes::from(
                reply.body.iter().take(reply.body.len() / 2).copied().collect::<Vec<_>>(),
            );
            let whole = reply.body.len();
            // The pause lets the half go out: without it the cut comes before the first byte.
            let parts = futures_util::stream::once(async { Ok(half) }).chain(
                futures_util::stream::once(async {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    Err(io::Error::from(io::ErrorKind::ConnectionAborted))
                }),
            );
            let mut cut = response(Reply { body: Vec::new(), ..reply });
            *cut.body_mut() = Body::from_stream(parts);
            cut.headers_mut().insert("content-length", whole.into());
            return cut;
        }
        _ => {}
    }
    response(reply)
}

fn response(reply: Reply) -> Response<Body> {
    let mut builder = Response::builder()
        .status(reply.status)
        .header("content-type", reply.content_type)
        .header("access-control-allow-origin", "*")
        .header("access-control-allow-methods", "DELETE,GET,OPTIONS,PATCH,POST,PUT")
        .header("access-control-allow-headers", "authorization,content-type,user-agent,x-airtable-user-agent,x-api-version,x-airtable-application-id");
    for (name, value) in reply.headers {
        builder = builder.header(name, value);
    }
    builder.body(Body::from(reply.body)).unwrap_or_default()
}

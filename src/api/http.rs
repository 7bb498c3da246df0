//! The HTTP listener: HTTP/1.1, over TLS if there is a certificate. Connections, heads, bodies and times are bounded here (`A22`), so that
//! handlers only answer.
//!
//! A handler gets the head of a request and reads the body when it has decided to; what it leaves is read and thrown away, so that the peer
//! gets to read the answer.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, EXPECT, HOST, HeaderValue, RETRY_AFTER, SERVER, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use crate::auth::lockout::network;

/// An answer, whole.
pub type Answer = Response<Bytes>;

/// Answers the requests below one path. The future is dropped after [`ANSWER_DEADLINE`].
pub type Handler = Arc<
    dyn for<'a> Fn(Head, &'a mut Body) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>> + Send + Sync,
>;

/// A request without its body.
#[derive(Debug)]
pub struct Head {
    /// Method, target and headers, as they came.
    pub parts: Parts,
    /// Who asks.
    pub peer: SocketAddr,
}

/// Where to listen, and how much.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Address and port; port 0 is the system's choice.
    pub listen: SocketAddr,
    /// Certificate chain and key, PEM files; `None`: without TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Value of Server.
    pub server_header: Option<String>,
    /// Bounds.
    pub limits: Limits,
}

/// Bounds of the listener.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at a time; further ones wait until one ends.
    pub connections: usize,
    /// Connections from one address (an IPv6 /64) at a time; further ones are closed.
    pub per_address: usize,
    /// A head must be complete within; also how long a connection may be idle.
    pub header_deadline: Duration,
    /// A body must be complete within.
    pub body_deadline: Duration,
}

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The address.
    #[error("cannot listen on {address} for HTTP")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A file of the certificate.
    #[error("{} is no PEM file of {what}", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// The cause.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// Certificate and key do not go together, or cannot be used.
    #[error("the certificate cannot be used")]
    Certificate(#[from] rustls::Error),
}

/// Which handler answers below which path.
#[derive(Clone, Default)]
pub struct Router(Vec<(String, Handler)>);

impl Router {
    /// Adds a handler for everything at and below `root` (`/a/b`, no slash at the end).
    pub fn below(mut self, root: &str, handler: Handler) -> Router {
        self.0.push((root.to_owned(), handler));
        self
    }

    fn find(&self, path: &str) -> Option<&Handler> {
        let is_below =
            |root: &str| path.strip_prefix(root).is_some_and(|r| r.is_empty() || r.starts_with('/'));
        self.0.iter().find(|(root, _)| is_below(root)).map(|(_, handler)| handler)
    }
}

/// A bound listener.
pub struct Http {
    listener: TcpListener,
    local: SocketAddr,
    tls: Option<TlsAcceptor>,
    server_header: Option<HeaderValue>,
    limits: Limits,
}

impl Http {
    /// Reads the certificate and binds.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn bind(settings: &Settings) -> Result<Http, Fault> {
        let address = settings.listen;
        let tls = match &settings.tls {
            None => None,
            Some((certificate, key)) => Some(acceptor(certificate, key)?),
        };
        let failed = |source| Fault::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        let server_header = settings.server_header.as_ref().and_then(|text| HeaderValue::from_str(text).ok());
        Ok(Http { listener, local, tls, server_header, limits: settings.limits })
    }

    /// Where it listens.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// `https` or `http`
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Answers until `stop`; then nothing new is taken, what is in hand is answered, and idle connections are closed.
    pub async fn serve(self, router: Router, mut stop: watch::Receiver<bool>) {
        let shared = Arc::new(Shared {
            router,
            tls: self.tls,
            server_header: self.server_header,
            limits: self.limits,
            per_address: Mutex::default(),
        });
        // Owned here and ended with this future, so no task outlives the server.
        let mut connections: JoinSet<()> = JoinSet::new();
        let has_room = |connections: &JoinSet<()>| connections.len() < self.limits.connections;
        loop {
            while let Some(ended) = connections.try_join_next() {
                tell(ended);
            }
            // Every branch may be dropped: a connection not taken stays in the backlog, an ended one in the set.
            tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                Some(ended) = connections.join_next(), if !has_room(&connections) => tell(ended),
                accepted = self.listener.accept(), if has_room(&connections) => match accepted {
                    Ok((stream, peer)) => {
                        if let Some(lease) = Lease::take(&shared, peer.ip()) {
                            connections.spawn(lease.connection(stream, peer, stop.clone()));
                        }
                    }
                    Err(error) => {
                        debug!(%error, "cannot accept an HTTP connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        let ended = async {
            while let Some(ended) = connections.join_next().await {
                tell(ended);
            }
        };
        let _ = timeout(DRAIN, ended).await;
        connections.shutdown().await;
    }
}

/// The body of a request, read on demand and within a deadline.
#[derive(Debug)]
pub struct Body {
    incoming: Incoming,
    deadline: Duration,
    is_whole: bool,
}

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// More than was asked for: 413.
    TooLarge,
    /// Not complete within its deadline: 408.
    Late,
    /// The connection broke, or the encoding of the body is wrong: 400.
    Broken,
}

impl Body {
    /// All of it, if that is at most `most` bytes.
    ///
    /// # Errors
    /// [`Unread`].
    pub async fn read(&mut self, most: usize) -> Result<Bytes, Unread> {
        if self.incoming.size_hint().lower() > u64::try_from(most).unwrap_or(u64::MAX) {
            return Err(Unread::TooLarge);
        }
        let mut all = BytesMut::new();
        let deadline = self.deadline;
        let whole = async {
            while let Some(frame) = self.incoming.frame().await {
                let frame = frame.map_err(|_| Unread::Broken)?;
                let data = frame.data_ref().map_or(&[][..], |data| data);
                if data.len() > most.saturating_sub(all.len()) {
                    return Err(Unread::TooLarge);
                }
                all.extend_from_slice(data);
            }
            Ok(())
        };
        timeout(deadline, whole).await.map_err(|_| Unread::Late)??;
        self.is_whole = true;
        Ok(all.freeze())
    }

    /// Reads what nobody asked for, up to a bound, and keeps nothing of it. `false`: there is more, and the connection has to end.
    async fn discard(&mut self) -> bool {
        if self.is_whole || self.incoming.is_end_stream() {
            return true;
        }
        if self.incoming.size_hint().lower() > u64::try_from(MAX_DISCARDED).unwrap_or(0) {
            return false;
        }
        let deadline = self.deadline;
        let rest = async {
            let mut left = MAX_DISCARDED;
            while let Some(frame) = self.incoming.frame().await {
                let Ok(frame) = frame else { return false };
                match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                    Some(now) => left = now,
                    None => return false,
                }
            }
            true
        };
        timeout(deadline, rest).await.unwrap_or(false)
    }
}

struct Shared {
    router: Router,
    tls: Option<TlsAcceptor>,
    server_header: Option<HeaderValue>,
    limits: Limits,
    per_address: Mutex<HashMap<IpAddr, usize>>,
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> Answer {
        let (parts, incoming) = request.into_parts();
        let mut body = Body { incoming, deadline: self.limits.body_deadline, is_whole: false };
        let waits = parts.headers.contains_key(EXPECT);
        // RFC 9112 6.1: a length beside it may have told somebody between us another end of the body, and is not shown to us.
        let is_chunked = parts.headers.contains_key(TRANSFER_ENCODING);
        let handler = if has_one_host(&parts) { self.router.find(parts.uri.path()) } else { None };
        let mut answer = match handler {
            None if has_one_host(&parts) => status(StatusCode::NOT_FOUND),
            None => status(StatusCode::BAD_REQUEST),
            Some(handler) => match timeout(ANSWER_DEADLINE, handler(Head { parts, peer }, &mut body)).await {
                Ok(answer) => answer,
                Err(_) => unavailable(),
            },
        };
        // Who waits for 100 Continue would be told to send what nobody wants.
        let is_read =
            if waits { body.is_whole || body.incoming.is_end_stream() } else { body.discard().await };
        if !is_read || is_chunked {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(text) = &self.server_header {
            answer.headers_mut().insert(SERVER, text.clone());
        }
        answer
    }
}

/// A place among the connections of one address.
struct Lease {
    shared: Arc<Shared>,
    network: IpAddr,
}

impl Lease {
    fn take(shared: &Arc<Shared>, ip: IpAddr) -> Option<Lease> {
        let network = network(ip);
        let mut table = shared.per_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = table.entry(network).or_default();
        if *count >= shared.limits.per_address {
            return None;
        }
        *count += 1;
        Some(Lease { shared: shared.clone(), network })
    }

    async fn connection(self, stream: TcpStream, peer: SocketAddr, stop: watch::Receiver<bool>) {
        let _ = stream.set_nodelay(true);
        // Who does not read an answer is let go.
        #[cfg(target_os = "linux")]
        let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(WRITE_DEADLINE));
        match &self.shared.tls {
            None => self.converse(stream, peer, stop).await,
            Some(tls) => match timeout(HANDSHAKE_DEADLINE, tls.accept(stream)).await {
                Ok(Ok(stream)) => self.converse(stream, peer, stop).await,
                Ok(Err(error)) => debug!(%error, "no TLS with an HTTP client"),
                Err(_) => debug!("an HTTP client did not end its TLS handshake"),
            },
        }
    }

    async fn converse<S>(&self, stream: S, peer: SocketAddr, mut stop: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shared = self.shared.clone();
        let service = service_fn(move |request| {
            let shared = shared.clone();
            async move { Ok::<_, Infallible>(shared.answer(request, peer).await.map(Full::new)) }
        });
        let mut connection = std::pin::pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(self.shared.limits.header_deadline)
                .max_headers(MAX_HEADERS)
                .max_header_size(MAX_HEAD)
                .max_buf_size(MAX_BUFFER)
                .serve_connection(TokioIo::new(stream), service)
        );
        // `stopped` may be dropped; the connection is polled on.
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stopped(&mut stop) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!(%error, "an HTTP connection ended early");
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut table = self.shared.per_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = table.get_mut(&self.network) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                table.remove(&self.network);
            }
        }
    }
}

/// An answer of a status alone.
pub fn status(status: StatusCode) -> Answer {
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = status;
    answer
}

/// 503, soon to be tried again: our own store or queue could not take it.
pub fn unavailable() -> Answer {
    let mut answer = status(StatusCode::SERVICE_UNAVAILABLE);
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
    answer
}

/// RFC 9112 3.2: a request of HTTP/1.1 has one Host.
fn has_one_host(parts: &Parts) -> bool {
    match parts.headers.get_all(HOST).iter().count() {
        0 => parts.version < Version::HTTP_11,
        count => count == 1,
    }
}

fn tell(ended: Result<(), tokio::task::JoinError>) {
    if ended.is_err_and(|error| error.is_panic()) {
        warn!("an HTTP connection panicked; the others go on");
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error says that the server is gone.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, Fault> {
    let wrong = |path: &Path, what| {
        let path = path.to_owned();
        move |source| Fault::Pem { path, what, source }
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(wrong(certificate, "certificates"))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(wrong(key, "a private key"))?;
    let mut config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// All of a request's headers; URIs with selectors are long.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// What one connection may hold of bytes not yet used.
const MAX_BUFFER: usize = 64 * 1024;
/// A body that nobody wants is read up to here, so that its sender gets to read why.
const MAX_DISCARDED: usize = 512 * 1024;
/// A handler waits for the store, whose own deadline is shorter.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(20);
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
#[cfg(target_os = "linux")]
const WRITE_DEADLINE: Duration = Duration::from_secs(30);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What is in hand at the end is answered within.
const DRAIN: Duration = Duration::from_secs(4);

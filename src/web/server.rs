//! The server: accepts connections within limits, and answers each request by who asks.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Extension, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::access::{Access, Denied, Lock};
use super::home::{About, Home};
use super::sessions::{LASTS, Role};
use super::tls::Tls;
use super::{PageError, PageOptions, assets, headers, metrics, stream};

/// Connections at once; further ones wait to be accepted.
const CONNECTIONS: usize = 128;
/// Streams at once.
const STREAMS: usize = 32;
/// A request's head takes no longer than this, nor does a connection stay idle for longer.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// A connection takes no more requests after this, and has so long for the last one.
const CONNECTION_LASTS: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));
const BODY_WITHIN: Duration = Duration::from_secs(10);
const TLS_WITHIN: Duration = Duration::from_secs(10);
const HEADER_BYTES: usize = 16 * 1024;
const HEADERS: usize = 64;
const BODY_BYTES: usize = 4096;
/// Largest frame from a browser; an agent takes commands of up to 256 KiB.
const FRAME_BYTES: usize = 1 << 20;

/// What the handlers share.
struct Shared {
    home: Arc<dyn Home>,
    access: Access,
    options: PageOptions,
    streams: Arc<Semaphore>,
    /// Cookies know no ports: two pages on one computer must not log each other out.
    cookie: String,
}

/// A page that is served, on a thread of its own, until it is dropped.
pub struct Page {
    /// Where it is.
    pub url: String,
    /// The code that sets the first password, while there is none.
    pub code: Option<String>,
    stop: Option<oneshot::Sender<()>>,
}

impl Drop for Page {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

/// Begins to serve `home`.
///
/// # Errors
/// An address that is taken; files of passwords or certificates that cannot be used.
pub fn bind(home: Arc<dyn Home>, options: PageOptions) -> Result<Page, PageError> {
    let access = Access::new(&options)?;
    let tls = options.tls.as_ref().map(|(cert, key)| Tls::open(cert, key)).transpose()?;
    let listen = |source| PageError::Listen { listen: options.listen, source };
    let listener = std::net::TcpListener::bind(options.listen).map_err(listen)?;
    listener.set_nonblocking(true).map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(listen)?;
    let url = format!("{}://{}/", if tls.is_some() { "https" } else { "http" }, to_be_typed(address));
    let code = access.code();
    let cookie = format!("auscult_{}", address.port());
    let streams = Arc::new(Semaphore::new(STREAMS));
    let shared = Arc::new(Shared { home, access, options, streams, cookie });
    let (stop, stopped) = oneshot::channel();
    let serve = move || {
        runtime.block_on(async {
            tokio::select! {
                ended = serve(listener, tls, shared) => if let Err(error) = ended {
                    tracing::error!(%error, "the page has ended");
                },
                _ = stopped => {}
            }
        });
        // A hash that is being computed is not waited for.
        runtime.shutdown_background();
    };
    let thread = std::thread::Builder::new().name("page".into());
    thread.spawn(serve).map_err(|source| PageError::Listen { listen: address, source })?;
    Ok(Page { url, code, stop: Some(stop) })
}

/// Whether the page could be served: its files are read and its address is tried, nothing is kept. `false`: somebody, such as
/// the agent that runs, listens there already.
///
/// # Errors
/// As of [`bind`].
pub fn check(options: &PageOptions) -> Result<bool, PageError> {
    Access::try_files(options)?;
    options.tls.as_ref().map(|(cert, key)| Tls::open(cert, key)).transpose()?;
    match std::net::TcpListener::bind(options.listen) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Ok(false),
        Err(source) => Err(PageError::Listen { listen: options.listen, source }),
    }
}

/// The address that a browser elsewhere would take; where all addresses of this computer are listened on, the one that it
/// has in its network.
fn to_be_typed(address: SocketAddr) -> SocketAddr {
    if !address.ip().is_unspecified() {
        return address;
    }
    // Nothing is sent: the system only says which way it would go.
    let own = || {
        let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((std::net::Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    };
    own().map_or(address, |own| SocketAddr::new(own.ip(), address.port()))
}

async fn serve(listener: std::net::TcpListener, mut tls: Option<Tls>, shared: Arc<Shared>) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let app = router(shared);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return Ok(()) };
        while connections.try_join_next().is_some() {}
        let (socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            // Too many open files, or a connection that is gone already.
            Err(error) => {
                tracing::debug!(%error, "accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let _ = socket.set_nodelay(true);
        let app = app.clone().layer(Extension(Peer(peer)));
        let acceptor = tls.as_mut().map(Tls::acceptor);
        connections.spawn(async move {
            let _place = place;
            match acceptor {
                None => answer(socket, app).await,
                Some(acceptor) => {
                    if let Ok(Ok(socket)) = timeout(TLS_WITHIN, acceptor.accept(socket)).await {
                        answer(socket, app).await;
                    }
                }
            }
        });
    }
}

/// Answers the requests of one connection, for a limited time; a stream goes on by itself.
async fn answer(socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, app: Router) {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(HEADER_BYTES).max_headers(HEADERS);
    let connection = http.serve_connection(TokioIo::new(socket), TowerToHyperService::new(app)).with_upgrades();
    tokio::pin!(connection);
    if timeout(CONNECTION_LASTS.0, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(CONNECTION_LASTS.1, connection).await;
    }
}

#[derive(Debug, Clone, Copy)]
struct Peer(SocketAddr);

impl Peer {
    fn address(self) -> IpAddr {
        self.0.ip().to_canonical()
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/assets/{*path}", get(asset))
        .route("/session", get(session))
        .route("/login", post(log_in))
        .route("/logout", post(log_out))
        .route("/password", post(set_password))
        .route("/metrics", get(read_metrics))
        .route("/stream", get(open_stream))
        .fallback(|| async { StatusCode::NOT_FOUND })
        .layer(middleware::from_fn_with_state(shared.clone(), guard))
        .with_state(shared)
}

/// Keeps other sites out before anything is looked at, and makes every answer strict.
async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD) || request.uri().path() == "/stream";
    let host = headers::host(request.headers()).unwrap_or_default();
    let mut response = if changes && !headers::is_same_origin(request.headers()) {
        (StatusCode::FORBIDDEN, "this request comes from another page").into_response()
    } else if matches!(shared.access.lock(), Lock::Open) && !headers::is_loopback_host(host, &shared.options.hosts) {
        let advice = "without a password the page answers to localhost only: set web.password_file, or add this name to web.hosts";
        (StatusCode::FORBIDDEN, advice).into_response()
    } else {
        next.run(request).await
    };
    headers::harden(response.headers_mut());
    response
}

async fn index(State(shared): State<Arc<Shared>>, request: HeaderMap) -> Response {
    assets::serve("index.html", &request, shared.options.assets_from.as_deref())
}

async fn asset(State(shared): State<Arc<Shared>>, Path(path): Path<String>, request: HeaderMap) -> Response {
    assets::serve(&path, &request, shared.options.assets_from.as_deref())
}

/// What a page has to know first.
#[derive(Serialize)]
struct SessionInfo {
    role: Option<Role>,
    #[serde(flatten)]
    about: About,
    /// A password is needed.
    password: bool,
    /// There is none yet, and the set-up code is needed.
    setup: bool,
}

async fn session(State(shared): State<Arc<Shared>>, request: HeaderMap) -> Response {
    let lock = shared.access.lock();
    let info = SessionInfo {
        role: shared.role(&request),
        about: shared.home.about(),
        password: matches!(lock, Lock::Passwords { .. }),
        setup: matches!(lock, Lock::SetUp),
    };
    match serde_json::to_string(&info) {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[derive(Deserialize)]
struct LogIn {
    password: String,
}

async fn log_in(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    request: HeaderMap,
    body: Body,
) -> Response {
    let LogIn { password } = match read(body).await {
        Ok(body) => body,
        Err(refused) => return refused,
    };
    if matches!(shared.access.lock(), Lock::Open) {
        return StatusCode::NO_CONTENT.into_response();
    }
    let opened = shared.access.log_in(peer.address(), password, shared.token(&request)).await;
    shared.opened(opened, peer)
}

#[derive(Deserialize)]
struct SetPassword {
    code: String,
    password: String,
}

async fn set_password(State(shared): State<Arc<Shared>>, Extension(peer): Extension<Peer>, body: Body) -> Response {
    let SetPassword { code, password } = match read(body).await {
        Ok(body) => body,
        Err(refused) => return refused,
    };
    let opened = shared.access.set_first(peer.address(), &code, password).await;
    shared.opened(opened, peer)
}

async fn log_out(State(shared): State<Arc<Shared>>, request: HeaderMap) -> Response {
    if let Some(token) = shared.token(&request) {
        shared.access.log_out(token);
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    shared.set_cookie(response.headers_mut(), "", 0);
    response
}

async fn read_metrics(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    request: HeaderMap,
) -> Response {
    let mut may = shared.role(&request).is_some();
    if !may && let Some(password) = headers::basic_password(&request) {
        match shared.access.check(peer.address(), password).await {
            Ok(_) => may = true,
            Err(denied) => return refuse(denied, peer),
        }
    }
    if !may {
        let ask = [(header::WWW_AUTHENTICATE, "Basic realm=\"auscult\"")];
        return (StatusCode::UNAUTHORIZED, ask, "the page's password is needed").into_response();
    }
    match metrics::text(&shared.home.hub().snapshot()) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::MEDIA_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn open_stream(State(shared): State<Arc<Shared>>, request: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    if shared.role(&request).is_none() {
        return (StatusCode::UNAUTHORIZED, "log in first").into_response();
    }
    let Ok(place) = shared.streams.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many pages are open").into_response();
    };
    let token = shared.token(&request).map(str::to_owned);
    let upgrade = upgrade
        .max_message_size(FRAME_BYTES)
        .max_frame_size(FRAME_BYTES)
        .read_buffer_size(16 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(4 << 20);
    upgrade.on_upgrade(move |socket| async move {
        let _place = place;
        stream::run(shared.home.as_ref(), &shared.access, socket, token.as_deref()).await;
    })
}

impl Shared {
    fn token<'a>(&self, request: &'a HeaderMap) -> Option<&'a str> {
        headers::cookie(request, &self.cookie)
    }

    fn role(&self, request: &HeaderMap) -> Option<Role> {
        self.access.role(self.token(request))
    }

    fn opened(&self, opened: Result<String, Denied>, peer: Peer) -> Response {
        match opened {
            Ok(token) => {
                let mut response = StatusCode::NO_CONTENT.into_response();
                self.set_cookie(response.headers_mut(), &token, LASTS.as_secs());
                response
            }
            Err(denied) => refuse(denied, peer),
        }
    }

    fn set_cookie(&self, headers: &mut HeaderMap, token: &str, seconds: u64) {
        let secure = if self.options.tls.is_some() { "; Secure" } else { "" };
        let cookie = format!("{}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}", self.cookie);
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            headers.insert(header::SET_COOKIE, cookie);
        }
    }
}

fn refuse(denied: Denied, peer: Peer) -> Response {
    match denied {
        Denied::Wrong => {
            tracing::warn!(from = %peer.address(), "a wrong password or code was given to the page");
            (StatusCode::UNAUTHORIZED, "wrong password or code").into_response()
        }
        Denied::Wait(wait) => {
            let seconds = wait.as_secs() + 1;
            let retry = [(header::RETRY_AFTER, seconds.to_string())];
            (StatusCode::TOO_MANY_REQUESTS, retry, format!("too many attempts: wait {seconds} s")).into_response()
        }
        Denied::Unfit(why) => (StatusCode::BAD_REQUEST, why).into_response(),
    }
}

/// A small JSON body, that comes in time.
async fn read<T: serde::de::DeserializeOwned>(body: Body) -> Result<T, Response> {
    let bytes: Bytes = match timeout(BODY_WITHIN, axum::body::to_bytes(body, BODY_BYTES)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(_)) => return Err((StatusCode::PAYLOAD_TOO_LARGE, "expected a few bytes of JSON").into_response()),
        Err(_) => return Err(StatusCode::REQUEST_TIMEOUT.into_response()),
    };
    // Its error would repeat what was sent, perhaps a password.
    serde_json::from_slice(&bytes).map_err(|_| (StatusCode::BAD_REQUEST, "expected JSON").into_response())
}

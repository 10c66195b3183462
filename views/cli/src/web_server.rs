//! The server behind `pagetrace view`: it listens on the loopback address alone, and answers only who has its token and comes from its
//! own page.
//!
//! ```text
//! GET /TOKEN/      the page
//! GET /TOKEN/data  its data; 202 and how far the reading is, until they are there
//! GET /TOKEN/page?process=P&page=N&time_ns=T  one page in detail
//! ```
//! Another user of this machine does not know the token. A page of another site that the same browser shows is refused by `Host`, which names
//! that site where its name was made to lead here, by `Origin` and by `Sec-Fetch-Site`.

use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, anyhow, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::pictures::{PageAsked, WEB_PAGE};

const TOKEN_BYTES: usize = 16;

/// A server that is bound and does not answer yet.
pub struct WebServer {
    listener: TcpListener,
    address: String,
    door: Arc<Door>,
    shown: Shown,
}

/// What the server shows, as far as it is known.
#[derive(Clone, Default)]
pub struct Shown(Arc<Mutex<Content>>);

#[derive(Default)]
enum Content {
    #[default]
    Opened,
    Reading(Progress),
    Ready(Bytes, Arc<Detail>),
    Failed(anyhow::Error),
}

/// How far the reading is, and what is known before it is done.
#[derive(Clone, Default, serde::Serialize)]
pub struct Progress {
    /// Events that have been followed.
    pub done: u64,
    /// All of them.
    pub events: u64,
    /// Time since the start and RSS in bytes of the largest process.
    #[serde(serialize_with = "as_list")]
    pub preview: Arc<Vec<(u64, u64)>>,
}

fn as_list<S: serde::Serializer>(points: &Arc<Vec<(u64, u64)>>, serializer: S) -> Result<S::Ok, S::Error> {
    serde::Serialize::serialize(&**points, serializer)
}

type Detail = dyn Fn(&PageAsked) -> anyhow::Result<Vec<u8>> + Send + Sync;

/// Who is let in.
struct Door {
    token: String,
    /// What a browser may call this server.
    hosts: [String; 2],
    policy: HeaderValue,
}

impl WebServer {
    /// Takes a port of the loopback address, with 0 any that is free.
    ///
    /// # Errors
    /// Where it cannot be had.
    pub fn bind(port: u16) -> anyhow::Result<WebServer> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .with_context(|| format!("cannot listen on port {port} of this machine: choose another --port"))?;
        let port = listener.local_addr().context("cannot learn the port")?.port();
        let token = token()?;
        let address = format!("http://127.0.0.1:{port}/{token}/");
        let hosts = [format!("127.0.0.1:{port}"), format!("localhost:{port}")];
        let door = Arc::new(Door { token, hosts, policy: policy()? });
        Ok(WebServer { listener, address, door, shown: Shown::default() })
    }

    /// Where the page is.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What it shows, to be filled.
    pub fn shown(&self) -> Shown {
        self.shown.clone()
    }

    /// Answers until the process ends.
    ///
    /// # Errors
    /// Where it cannot listen, and what the analysis failed with.
    pub fn serve(self) -> anyhow::Result<()> {
        let WebServer { listener, door, shown, .. } = self;
        let at = |name: &str| format!("/{}/{name}", door.token);
        let routes = Router::new()
            .route(&at(""), get(async || ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], WEB_PAGE)))
            .route(&at("data"), get(data))
            .route(&at("page"), get(page))
            .with_state(shown.clone());
        let routes = routes.layer(middleware::from_fn_with_state(door, guarded));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        runtime.context("cannot start the server")?.block_on(async {
            listener.set_nonblocking(true).context("cannot start the server")?;
            let listener = tokio::net::TcpListener::from_std(listener).context("cannot start the server")?;
            let serving = tokio::spawn(async { axum::serve(listener, routes).await });
            while !serving.is_finished() {
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                if let Content::Failed(error) = &mut *shown.lock() {
                    return Err(std::mem::replace(error, anyhow!("told already")));
                }
            }
            serving.await.context("the server ended")?.context("the server ended")
        })
    }
}

impl Shown {
    /// How far the reading is.
    pub fn progress(&self, progress: Progress) {
        *self.lock() = Content::Reading(progress);
    }

    /// The data of the page, and what tells of single pages.
    pub fn ready(&self, data: Vec<u8>, detail: impl Fn(&PageAsked) -> anyhow::Result<Vec<u8>> + Send + Sync + 'static) {
        *self.lock() = Content::Ready(data.into(), Arc::new(detail));
    }

    /// Nothing can be shown.
    pub fn failed(&self, error: anyhow::Error) {
        *self.lock() = Content::Failed(error);
    }

    fn detail(&self) -> Option<Arc<Detail>> {
        match &*self.lock() {
            Content::Ready(_, detail) => Some(Arc::clone(detail)),
            _ => None,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn data(State(shown): State<Shown>) -> Response {
    let reading = |progress| (StatusCode::ACCEPTED, axum::Json(progress)).into_response();
    match &*shown.lock() {
        Content::Opened => reading(Progress::default()),
        Content::Reading(progress) => reading(progress.clone()),
        Content::Ready(data, _) => ([(header::CONTENT_TYPE, "application/octet-stream")], data.clone()).into_response(),
        Content::Failed(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")).into_response(),
    }
}

#[derive(serde::Deserialize)]
struct PageQuery {
    process: usize,
    page: u64,
    time_ns: u64,
}

async fn page(State(shown): State<Shown>, Query(query): Query<PageQuery>) -> Response {
    let Some(detail) = shown.detail() else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    let asked = PageAsked { process: query.process, pages: vec![query.page], time_ns: query.time_ns };
    let found = tokio::task::spawn_blocking(move || detail(&asked)).await;
    match found {
        Ok(Ok(json)) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Lets in who may, and says with every answer what the browser may do with it.
async fn guarded(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let mut response = match door.lets_in(request.method(), request.headers()) {
        true => next.run(request).await,
        false => StatusCode::FORBIDDEN.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, door.policy.clone());
    for (name, value) in ANSWERED {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

const ANSWERED: [(&str, &str); 5] = [
    ("cache-control", "no-store"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
];

impl Door {
    fn lets_in(&self, method: &Method, headers: &HeaderMap) -> bool {
        let of = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let host_is_ours = of("host").is_some_and(|host| self.hosts.iter().any(|ours| ours == host));
        let is_ours = |origin: &str| {
            origin.strip_prefix("http://").is_some_and(|host| self.hosts.iter().any(|ours| ours == host))
        };
        let origin_is_ours = of("origin").is_none_or(is_ours);
        // A browser says `none` of an address that the user has typed or opened.
        let site_is_ours = of("sec-fetch-site").is_none_or(|site| matches!(site, "same-origin" | "none"));
        method == Method::GET && host_is_ours && origin_is_ours && site_is_ours
    }
}

/// The page's own policy, and that nobody may frame it, which a page cannot say of itself.
fn policy() -> anyhow::Result<HeaderValue> {
    const START: &str = "http-equiv=\"Content-Security-Policy\" content=\"";
    let policy = WEB_PAGE.split_once(START).and_then(|(_, rest)| rest.split_once('"'));
    let (policy, _) = policy.context("the embedded page has no policy: run `cargo xtask web`")?;
    HeaderValue::try_from(format!("{policy}; frame-ancestors 'none'")).context("the embedded page's policy")
}

fn token() -> anyhow::Result<String> {
    let mut bytes = [0; TOKEN_BYTES];
    File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut bytes)).context("cannot make a token")?;
    ensure!(bytes != [0; TOKEN_BYTES], "/dev/urandom gives nothing but zeros");
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_page_is_let_in() {
        let hosts = ["127.0.0.1:80".to_owned(), "localhost:80".to_owned()];
        let door = Door { token: String::new(), hosts, policy: policy().expect("the page has one") };
        let check = |headers: &[(&'static str, &'static str)], expected: bool| {
            let headers: HeaderMap = headers
                .iter()
                .map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect();
            assert_eq!(door.lets_in(&Method::GET, &headers), expected, "{headers:?}");
            assert!(!door.lets_in(&Method::POST, &headers));
        };
        check(&[], false);
        check(&[("host", "127.0.0.1:80")], true);
        check(&[("host", "localhost:80"), ("origin", "http://localhost:80")], true);
        check(&[("host", "localhost:80"), ("sec-fetch-site", "none")], true);
        check(&[("host", "evil.example:80")], false);
        check(&[("host", "127.0.0.1:81")], false);
        check(&[("host", "127.0.0.1:80"), ("origin", "http://evil.example")], false);
        check(&[("host", "127.0.0.1:80"), ("origin", "null")], false);
        check(&[("host", "127.0.0.1:80"), ("sec-fetch-site", "cross-site")], false);
    }

    #[test]
    fn tokens_differ() {
        let tokens = [token(), token()].map(|token| token.expect("there is randomness"));
        assert_eq!(tokens[0].len(), 2 * TOKEN_BYTES);
        assert_ne!(tokens[0], tokens[1]);
    }
}

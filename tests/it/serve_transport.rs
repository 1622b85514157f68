//! Real connections to the protected API: certificates that are judged per request, connections that end after
//! an anonymous answer, floods.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use poolwright::serve::{ClientCertificates, Http2, Listener, StopTimes, Tls, run};
use rustls::client::ResolvesClientCert;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SignatureScheme, StreamOwned};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::serve_auth_support::{Api, Ask, Ca, HPA, Shown, values};
use crate::serve_support::EM;

/// The protected API on a TLS socket.
struct Server {
    api: Api,
    address: SocketAddr,
    roots: Arc<RootCertStore>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Server {
    fn start() -> Self {
        let api = Api::new();
        let router = api.router.clone();
        let tls = Tls::self_signed(&["localhost".into()], ClientCertificates::Unjudged).unwrap();
        Self::listen(api, router, Some(tls))
    }

    fn listen(api: Api, router: Router, tls: Option<Tls>) -> Self {
        let mut roots = RootCertStore::empty();
        if let Some(pem) = tls.as_ref().and_then(Tls::certificate_pem) {
            roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
        }
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let times = StopTimes { drain: Duration::ZERO, grace: Duration::from_secs(60) };
        let shutdown = async move {
            let _ = stopped.await;
        };
        let listeners = vec![Listener { socket, router, tls, http2: Http2::default() }];
        let task = tokio::spawn(run(listeners, api.daemon.state.readiness().clone(), shutdown, times));
        Self { api, address, roots: Arc::new(roots), stop, task }
    }

    fn config(&self, shown: Option<&Shown>, alpn: &[&[u8]]) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(self.roots.clone());
        let mut config = match shown {
            None => builder.with_no_client_auth(),
            Some(shown) => builder.with_client_auth_cert(shown.chain.clone(), shown.key.clone_key()).unwrap(),
        };
        config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        config
    }

    fn http2(&self, shown: Option<&Shown>) -> reqwest::Client {
        reqwest::Client::builder()
            .tls_backend_preconfigured(self.config(shown, &[b"h2"]))
            .resolve("localhost", self.address)
            .no_proxy()
            .build()
            .unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    /// A connection of a client of our own; the first write or read shakes hands.
    fn raw(&self, config: ClientConfig) -> StreamOwned<ClientConnection, TcpStream> {
        let name = ServerName::try_from("localhost").unwrap();
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), socket)
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

async fn code(client: &reqwest::Client, url: String) -> u16 {
    client.get(url).header("x-remote-user", HPA).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_front_proxy_is_believed_until_its_certificate_expires_on_the_open_connection() {
    let server = Server::start();
    let client = server.http2(Some(&server.api.front.client("front-proxy-client", "")));
    let answer = client.get(server.url(&values())).header("x-remote-user", HPA).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_2));
    assert_eq!(answer.json::<serde_json::Value>().await.unwrap()["kind"], "ExternalMetricValueList");
    server.api.clock().set(1_796_083_201.0);
    assert_eq!(code(&client, server.url(EM)).await, 401);
    server.end().await;
}

#[tokio::test]
async fn a_strange_certificate_reaches_health_and_nothing_else() {
    let server = Server::start();
    let client = server.http2(Some(&Ca::new("mesh").client("sidecar", "")));
    assert_eq!(code(&client, server.url("/healthz")).await, 200);
    assert_eq!(code(&client, server.url(EM)).await, 401);
    assert_eq!(code(&server.http2(None), server.url(EM)).await, 403);
    server.end().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_its_request() {
    let server = Server::start();
    server.api.reviews.hold(true);
    let client = server.http2(Some(&server.api.front.client("front-proxy-client", "")));
    let url = server.url(&values());
    let asking = tokio::spawn(async move { client.get(url).header("x-remote-user", HPA).send().await.map(|_| ()) });
    while server.api.reviews.asked() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let state = server.api.daemon.state.clone().with_access_report(server.api.access.report());
    let router = poolwright::serve::web_router(state);
    let in_flight = async |wanted: &str| {
        let page = Ask::get("/metrics").send(&router).await.body;
        page.contains(&format!("poolwright_api_requests_in_flight {wanted}"))
    };
    assert!(in_flight("1.0").await);
    asking.abort();
    let begin = Instant::now();
    while !in_flight("0.0").await {
        assert!(begin.elapsed() < Duration::from_secs(60), "the request is still worked on");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    server.end().await;
}

/// Shows a certificate and signs with another key.
#[derive(Debug)]
struct Thief(Arc<CertifiedKey>);

impl ResolvesClientCert for Thief {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_certificate_without_its_key_ends_the_handshake() {
    let server = Server::start();
    let (stolen, other) = (server.api.front.client("front-proxy-client", ""), Ca::new("x").client("y", ""));
    let key = ring::sign::any_supported_type(&other.key).unwrap();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let thief = Thief(Arc::new(CertifiedKey::new(stolen.chain.clone(), key.clone())));
        let config = builder
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(server.roots.clone())
            .with_client_cert_resolver(Arc::new(thief));
        let mut stream = server.raw(config);
        let attempt = blocking(move || {
            stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
            stream.read_to_end(&mut Vec::new())
        });
        // Nothing was answered, and an alert says why.
        let error = attempt.await.unwrap_err().to_string();
        assert!(error.contains("alert"), "{error}");
    }
    server.end().await;
}

/// Frame types of HTTP/2.
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PING: u8 = 6;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `GET /healthz`, in HPACK literals without an index.
fn get_health() -> Vec<u8> {
    let literal = |name: u8, value: &str| [&[name, u8::try_from(value.len()).unwrap()], value.as_bytes()].concat();
    // Indexed `:method: GET` and `:scheme: https`; then `:path` and `:authority`.
    [vec![0x82, 0x87], literal(0x04, "/healthz"), literal(0x01, "localhost")].concat()
}

fn opening() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(SETTINGS, 0, 0, &[]), &frame(SETTINGS, ACK, 0, &[])]
        .concat()
}

type Frame = (u8, u8, Vec<u8>);

/// Read frames until the connection ends, answering pings as a client must.
fn read_to_end(stream: &mut StreamOwned<ClientConnection, TcpStream>) -> Vec<Frame> {
    let mut frames = Vec::new();
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).is_err() {
            return frames;
        }
        let mut payload = vec![0; usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])];
        if stream.read_exact(&mut payload).is_err() {
            return frames;
        }
        if (head[3], head[4] & ACK) == (PING, 0) && stream.write_all(&frame(PING, ACK, 0, &payload)).is_err() {
            return frames;
        }
        frames.push((head[3], head[4], payload));
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test]
async fn an_anonymous_http2_connection_ends_after_the_answer_and_a_known_one_does_not() {
    let server = Server::start();
    let mut stream = server.raw(server.config(None, &[b"h2"]));
    let frames = blocking(move || {
        // A path that is judged: health closes for everybody.
        let block = [&[0x82, 0x87, 0x04, u8::try_from(EM.len()).unwrap()][..], EM.as_bytes(), &[0x01, 9], b"localhost"]
            .concat();
        stream.write_all(&[opening(), frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)].concat()).unwrap();
        read_to_end(&mut stream)
    })
    .await;
    assert!(frames.iter().any(|(kind, ..)| *kind == HEADERS), "it was answered");
    let leave: Vec<_> = frames.iter().filter(|(kind, ..)| *kind == GOAWAY).collect();
    assert!(!leave.is_empty() && leave.iter().all(|(_, _, payload)| payload[4..8] == [0; 4]), "{leave:?}");

    let known = server.api.front.client("front-proxy-client", "");
    let mut stream = server.raw(server.config(Some(&known), &[b"h2"]));
    let answered = blocking(move || {
        let user = [&[0x40, 13][..], b"x-remote-user", &[1], b"u"].concat();
        let block = [
            vec![0x82, 0x87, 0x04, u8::try_from(EM.len()).unwrap()],
            EM.as_bytes().to_vec(),
            [&[0x01, 9][..], b"localhost"].concat(),
            user,
        ]
        .concat();
        stream.write_all(&opening()).unwrap();
        let mut answered = 0;
        for number in [1, 3, 5] {
            stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, number, &block)).unwrap();
            loop {
                let mut head = [0; 9];
                stream.read_exact(&mut head).unwrap();
                let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
                let mut payload = vec![0; length];
                stream.read_exact(&mut payload).unwrap();
                assert_ne!(head[3], GOAWAY);
                // The last frame of an answer ends its stream.
                if head[3] <= HEADERS && head[4] & END_STREAM != 0 {
                    answered += 1;
                    break;
                }
            }
        }
        answered
    })
    .await;
    assert_eq!(answered, 3);
    server.end().await;
}

#[tokio::test]
async fn floods_end_their_own_connection_only() {
    let server = Server::start();
    let known = server.http2(Some(&server.api.front.client("front-proxy-client", "")));
    assert_eq!(code(&known, server.url(EM)).await, 200);

    // Streams that are opened and reset at once, without end.
    let mut rapid = server.raw(server.config(None, &[b"h2"]));
    let frames = blocking(move || {
        let mut flood = opening();
        for stream in (1..20_001).step_by(2) {
            flood.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &get_health()));
            flood.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        }
        // The server may hang up in the middle.
        let _ = rapid.write_all(&flood);
        read_to_end(&mut rapid)
    })
    .await;
    assert!(frames.len() < 1000, "{} frames were worth an answer", frames.len());

    // Headers that never end.
    let mut endless = server.raw(server.config(None, &[b"h2"]));
    blocking(move || {
        let _ = endless.write_all(&[opening(), frame(HEADERS, END_STREAM, 1, &get_health())].concat());
        let header = [&[0x00, 1][..], b"a", &[127, 129, 1], &[b'x'; 256]].concat();
        let part = frame(CONTINUATION, 0, 1, &header.repeat(60));
        // 256 MiB if nobody stops it.
        let refused = (0..16_384).any(|_| endless.write_all(&part).is_err());
        assert!(refused, "the server hangs up");
    })
    .await;
    assert_eq!(code(&known, server.url(EM)).await, 200);
    server.end().await;
}

#[tokio::test]
async fn silent_and_slow_clients_are_let_go_and_others_are_served() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    let api = Api::new();
    let router = api.router.clone();
    let server = Server::listen(api, router, None);
    let mut idle = vec![];
    for number in 0..300 {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        // Some say nothing, some begin a request and do not go on, some are idle after an answer.
        if number % 3 == 1 {
            socket.write_all(b"GET /healthz HTTP/1.1\r\nhost: ").await.unwrap();
        } else if number % 3 == 2 {
            socket.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
            assert_eq!(socket.read_u8().await.unwrap(), b'H');
        }
        idle.push(socket);
    }
    let health = format!("http://{}/healthz", server.address);
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
    assert_eq!(client.get(&health).send().await.unwrap().status().as_u16(), 200);
    tokio::time::pause();
    for _ in 0..120 {
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    tokio::time::resume();
    for socket in &mut idle {
        // Answers and complaints may come first; then the end.
        let _ = socket.read_to_end(&mut Vec::new()).await;
    }
    assert_eq!(client.get(&health).send().await.unwrap().status().as_u16(), 200);
    server.end().await;
}

/// A record with a ClientHello of version 3.`minor`: one suite, one group, one signature scheme.
fn client_hello(minor: u8) -> Vec<u8> {
    let extensions = [0, 10, 0, 4, 0, 2, 0, 0x1d, 0, 11, 0, 2, 1, 0, 0, 13, 0, 4, 0, 2, 4, 3];
    let body = [&[3, minor][..], &[7; 32], &[0, 0, 2, 0xc0, 0x2b, 1, 0, 0, 22], &extensions].concat();
    let hello = [&[1, 0, 0, u8::try_from(body.len()).unwrap()][..], &body].concat();
    [&[22, 3, 1, 0, u8::try_from(hello.len()).unwrap()][..], &hello].concat()
}

#[tokio::test]
async fn old_tls_is_refused() {
    let server = Server::start();
    // One ClientHello with the versions that no current library would ask for, and with TLS 1.2.
    for (minor, first_bytes) in [(1, &[21, 3, 3, 0, 2, 2, 70][..]), (2, &[21, 3, 3, 0, 2, 2, 70]), (3, &[22, 3, 3])] {
        let (address, hello) = (server.address, client_hello(minor));
        let answer = blocking(move || {
            let mut socket = TcpStream::connect(address).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            socket.write_all(&hello).unwrap();
            let mut answer = [0; 7];
            socket.read_exact(&mut answer).unwrap();
            answer
        })
        .await;
        // The fatal alert "protocol version", or the handshake goes on.
        assert!(answer.starts_with(first_bytes), "3.{minor}: {answer:?}");
    }
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = builder.with_protocol_versions(&[version]).unwrap().with_root_certificates(server.roots.clone());
        let mut stream = server.raw(config.with_no_client_auth());
        let answer = blocking(move || {
            stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            answer
        })
        .await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    server.end().await;
}

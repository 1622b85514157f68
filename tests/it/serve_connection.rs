//! How connections end: clients that do not leave, clients that do not read, more of them than there are files.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo};
use poolwright::serve::{Http2, Listener, Readiness, StopTimes, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::serve_auth_support::Api;

/// Time that anything may take on a busy machine; nothing waits for it when it works.
const PATIENCE: Duration = Duration::from_secs(60);

/// More than all buffers between two sockets hold.
const LARGE: usize = 64 << 20;

/// Serve without TLS until the test ends.
fn start(router: Router) -> SocketAddr {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let listeners = vec![Listener { socket, router, tls: None, http2: Http2::default() }];
    let times = StopTimes { drain: Duration::ZERO, grace: Duration::ZERO };
    tokio::spawn(run(listeners, Readiness::default(), std::future::pending(), times));
    address
}

/// Let a second of virtual time pass, with all the work that it brings.
async fn second() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    tokio::time::advance(Duration::from_secs(1)).await;
}

/// `GET /healthz` on this stream of HTTP/2, in HPACK literals without an index.
fn get_health(stream: u32) -> Vec<u8> {
    let block = [&[0x82, 0x86, 0x04, 8][..], b"/healthz", &[0x01, 9], b"localhost"].concat();
    // HEADERS with END_STREAM and END_HEADERS.
    let head = [0, 0, u8::try_from(block.len()).unwrap(), 1, 5];
    [&head[..], &stream.to_be_bytes(), &block].concat()
}

/// The mitigation for floods of anonymous requests must not depend on the client's good will.
#[tokio::test]
async fn an_anonymous_client_that_ignores_the_goodbye_and_asks_on_is_cut_off() {
    let address = start(Api::new().router);
    let (mut reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    writer.write_all(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..]].concat()).await.unwrap();
    let read = tokio::spawn(async move {
        let mut answers = Vec::new();
        let _ = reader.read_to_end(&mut answers).await;
        answers
    });
    tokio::time::pause();
    let mut stream = 1;
    // No ping is answered, so the server cannot know that its goodbye has come.
    while !read.is_finished() {
        assert!(stream < 120, "it is still served after a minute");
        if writer.write_all(&get_health(stream)).await.is_err() {
            break;
        }
        stream += 2;
        second().await;
    }
    tokio::time::resume();
    let answers = timeout(PATIENCE, read).await.unwrap().unwrap();
    assert!(answers.windows(2).any(|bytes| bytes == b"ok"), "what came first was answered");
}

fn large() -> Router {
    Router::new().route("/", get(async || vec![b'x'; LARGE]))
}

#[tokio::test]
async fn an_answer_that_nobody_reads_ends_its_connection() {
    let address = start(large());
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    assert_eq!(socket.read_u8().await.unwrap(), b'H');
    tokio::time::pause();
    for _ in 0..300 {
        second().await;
    }
    tokio::time::resume();
    let mut rest = Vec::new();
    // The end, or a complaint that the other side hung up.
    let _ = timeout(PATIENCE, socket.read_to_end(&mut rest)).await.expect("the server hangs up");
    assert!(rest.len() < LARGE, "it is not the whole answer");
}

#[tokio::test]
async fn answering_pings_does_not_keep_an_unread_answer() {
    let address = start(large());
    let socket = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get(format!("http://{address}/")).body(Body::empty()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    tokio::time::pause();
    for _ in 0..300 {
        second().await;
    }
    tokio::time::resume();
    let _ = timeout(PATIENCE, connection).await.expect("the server hangs up");
    drop(answer);
}

/// A program; killed at the end.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn connections_never_take_all_open_files() {
    const FILES: usize = 80;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let program = env!("CARGO_BIN_EXE_poolwright");
    let mut child = Command::new("sh")
        .args(["-c", &format!("ulimit -n {FILES} && exec \"$0\" \"$@\""), program])
        .args(["serve", "--listen=127.0.0.1:0", "--policy=policies/quickstart.yaml"])
        .args(["--prometheus=http://127.0.0.1:1", "--kubernetes=off"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let program = Program(child);
    let first = lines.next().unwrap().unwrap();
    let address = first.split("://").nth(1).and_then(|rest| rest.split('/').next()).unwrap().to_owned();
    // Keep reading, or the daemon would wait for a full pipe.
    std::thread::spawn(move || lines.for_each(drop));
    let mut flood = Vec::new();
    for _ in 0..FILES {
        flood.push(timeout(PATIENCE, TcpStream::connect(&address)).await.unwrap().unwrap());
    }
    // The first ones are taken when one of them is answered.
    flood[0].write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    assert_eq!(timeout(PATIENCE, flood[0].read_u8()).await.unwrap().unwrap(), b'H');
    let open = std::fs::read_dir(format!("/proc/{}/fd", program.0.id())).unwrap().count();
    assert!(open < FILES * 3 / 4, "{open} of {FILES} files are open");
    drop(flood);
    let health = timeout(PATIENCE, reqwest::get(format!("http://{address}/livez"))).await.unwrap().unwrap();
    assert_eq!(health.status().as_u16(), 200);
}

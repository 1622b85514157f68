//! Many requests at once, requests without measure, clients that leave, and a writer that never rests.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use futures::future::join_all;
use poolwright::control::Decision;
use poolwright::serve::{Http2, Listener, StopTimes, run};
use serde_json::Value;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use crate::serve_support::{AT, Answer, Daemon, EM, decision, pool, published};

const METRIC: &str = "poolwright_desired_replicas";

/// Time that anything may take on a busy machine; nothing waits for it when it works.
const PATIENCE: Duration = Duration::from_secs(60);

/// A listener that ends with the test.
struct Running {
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
    _task: JoinHandle<std::io::Result<()>>,
}

fn start(daemon: &Daemon, router: Router) -> Running {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async move {
        let _ = stopped.await;
    };
    let times = StopTimes { drain: Duration::ZERO, grace: Duration::ZERO };
    let listeners = vec![Listener { socket, router, tls: None, http2: Http2::default() }];
    let task = tokio::spawn(run(listeners, daemon.state.readiness().clone(), shutdown, times));
    Running { address, _stop: stop, _task: task }
}

#[tokio::test]
async fn discovery_answers_while_hundreds_of_requests_run() {
    let daemon = Daemon::new(decision());
    let (entered, release) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
    let (seen, gate) = (entered.clone(), release.clone());
    let held = get(async move || {
        seen.store(true, Ordering::SeqCst);
        gate.notified().await;
        "late"
    });
    let server = start(&daemon, daemon.router.clone().route("/held", held));
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().unwrap();
    let base = format!("http://{}", server.address);
    let ask = |path: String| {
        let request = client.get(format!("{base}{path}")).timeout(PATIENCE).send();
        async move { request.await.unwrap().status().as_u16() }
    };
    let late: Vec<_> = (0..200).map(|_| tokio::spawn(ask("/held".into()))).collect();
    while !entered.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
    let data: Vec<_> = (0..400).map(|_| tokio::spawn(ask(format!("{EM}/namespaces/inference/{METRIC}")))).collect();
    let discovery = join_all((0..5).map(|_| ask(EM.to_owned()))).await;
    assert_eq!(discovery, [200; 5], "answered although others wait");
    for status in join_all(data).await {
        assert_eq!(status.unwrap(), 200);
    }
    assert!(late.iter().all(|request| !request.is_finished()));
    late.iter().for_each(JoinHandle::abort);
}

/// One reader at a time sees one decision: all pools of a list carry its number and its time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_list_is_of_one_decision() {
    let of = |number: u32| Decision {
        at_seconds: AT - 40.0 + f64::from(number % 40),
        pools: (0..500).map(|index| pool("n", &format!("p{index:04}"), number)).collect(),
        ..decision()
    };
    let daemon = Arc::new(Daemon::new(of(1)));
    let done = Arc::new(AtomicBool::new(false));
    let (writer, finished) = (daemon.clone(), done.clone());
    let writing = std::thread::spawn(move || {
        for number in 2..80 {
            writer.published.store(Arc::new(published(of(number))));
        }
        finished.store(true, Ordering::SeqCst);
    });
    let whole = |answer: &Answer, count: usize| {
        let list = answer.json();
        let items = list["items"].as_array().unwrap();
        assert_eq!(items.len(), count);
        let same = |key: &str| items.iter().all(|item| item[key] == items[0][key]);
        assert!(same("value") && same("timestamp"), "a list of two decisions");
        items[0]["value"].clone()
    };
    let read = async |reader: usize| {
        let path = format!("{EM}/namespaces/n/{METRIC}");
        let mut last = Value::Null;
        while !done.load(Ordering::SeqCst) {
            let query = if reader == 0 { "" } else { "?labelSelector=pool+in+(p0001,p0250,p0499)" };
            last = whole(&daemon.get(&format!("{path}{query}")).await, if reader == 0 { 500 } else { 3 });
        }
        last
    };
    tokio::join!(read(0), read(1));
    writing.join().unwrap();
    assert_eq!(whole(&daemon.get(&format!("{EM}/namespaces/n/{METRIC}")).await, 500), "79");
}

/// Sets a flag when it is dropped.
struct OnDrop(Arc<Notify>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tokio::test]
async fn the_work_for_a_client_that_left_ends() {
    let daemon = Daemon::new(decision());
    let (entered, dropped) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (enter, guard) = (entered.clone(), dropped.clone());
    let endless = get(async move || {
        let _guard = OnDrop(guard);
        enter.notify_one();
        std::future::pending::<&str>().await
    });
    let server = start(&daemon, daemon.router.clone().route("/endless", endless));
    let mut socket = TcpStream::connect(server.address).unwrap();
    write!(socket, "GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    tokio::time::timeout(PATIENCE, entered.notified()).await.expect("the request arrives");
    drop(socket);
    tokio::time::timeout(PATIENCE, dropped.notified()).await.expect("its work is cancelled");
}

/// One HTTP/1.1 request on its own connection; the status line.
async fn status_line(address: SocketAddr, path: String) -> String {
    let work = move || {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        // The server may answer and close before all is written.
        let _ = write!(socket, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
    };
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test]
async fn selectors_without_measure_are_refused_and_harm_nobody() {
    let daemon = Daemon::new(decision());
    let server = start(&daemon, daemon.router.clone());
    let with = |selector: &str| format!("{EM}/namespaces/inference/{METRIC}?labelSelector={selector}");
    let many = with(&vec!["!abcdefghijklmnopqrstuvwxyz0123"; 2000].join(","));
    assert!(many.len() > 60_000);
    let lines = join_all((0..100).map(|_| status_line(server.address, many.clone()))).await;
    assert!(lines.iter().all(|line| line.starts_with("HTTP/1.1 400")), "{lines:?}");
    let huge = status_line(server.address, with(&"a".repeat(1 << 20))).await;
    assert!(["HTTP/1.1 414", "HTTP/1.1 431"].iter().any(|code| huge.starts_with(code)), "{huge}");
    let fine = status_line(server.address, with("pool")).await;
    assert!(fine.starts_with("HTTP/1.1 200"), "{fine}");
}

/// Frames of HTTP/2, written by hand: client libraries refuse to send such a path.
mod frames {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const GOAWAY: u8 = 7;
    const SETTINGS: u8 = 4;
    const CONTINUATION: u8 = 9;
    const END_HEADERS: u8 = 4;
    const END_STREAM: u8 = 1;

    pub fn write(socket: &mut TcpStream, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        socket.write_all(&[&head, payload].concat()).unwrap();
    }

    pub fn open(socket: &mut TcpStream) {
        socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        write(socket, SETTINGS, 0, 0, &[]);
    }

    /// A GET request whose path is a literal without index.
    pub fn get(socket: &mut TcpStream, stream: u32, path: &str) {
        let mut block = vec![0x82, 0x86, 0x04];
        // Length in 7 bits, then the rest in groups of 7.
        let mut rest = path.len();
        if rest < 127 {
            block.push(rest as u8);
        } else {
            block.push(127);
            rest -= 127;
            while rest >= 128 {
                block.push((rest % 128) as u8 | 0x80);
                rest /= 128;
            }
            block.push(rest as u8);
        }
        block.extend_from_slice(path.as_bytes());
        let chunks: Vec<&[u8]> = block.chunks(16_384).collect();
        for (index, chunk) in chunks.iter().enumerate() {
            let end = if index + 1 == chunks.len() { END_HEADERS } else { 0 };
            match index {
                0 => write(socket, HEADERS, end | END_STREAM, stream, chunk),
                _ => write(socket, CONTINUATION, end, stream, chunk),
            }
        }
    }

    /// Kind and payload of the first frame of this stream, or of the end of the connection.
    pub fn first(socket: &mut TcpStream, stream: u32) -> (u8, Vec<u8>) {
        loop {
            let mut head = [0; 9];
            socket.read_exact(&mut head).unwrap();
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            socket.read_exact(&mut payload).unwrap();
            let of = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            if of == stream || head[3] == GOAWAY {
                return (head[3], payload);
            }
        }
    }
}

#[tokio::test]
async fn a_path_too_long_for_any_server_ends_its_stream_and_not_the_connection() {
    let daemon = Daemon::new(decision());
    let server = start(&daemon, daemon.router.clone());
    let work = move || {
        let mut socket = TcpStream::connect(server.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        frames::open(&mut socket);
        let path = format!("{EM}/namespaces/inference/{METRIC}?labelSelector=");
        frames::get(&mut socket, 1, &format!("{path}{}", "a".repeat(200_000)));
        let (kind, _) = frames::first(&mut socket, 1);
        assert!([frames::RST_STREAM, frames::HEADERS].contains(&kind), "frame {kind}");
        frames::get(&mut socket, 3, &format!("{path}pool"));
        let (kind, payload) = frames::first(&mut socket, 3);
        assert_eq!((kind, payload[0]), (frames::HEADERS, 0x88), "200 on the same connection");
        server
    };
    tokio::task::spawn_blocking(work).await.unwrap();
}

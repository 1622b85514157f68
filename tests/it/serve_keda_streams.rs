//! What the external scaler pushes, and who may keep a stream open. Where time matters it is virtual: the client
//! calls the router without a socket, and the clock jumps to whatever is waited for.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use poolwright::control::{Decision, Published};
use poolwright::policy::Mode;
use poolwright::serve::{Http2, KEDA_METRIC, KedaOptions, keda_router};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tonic::{Code, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::serve_keda_support::proto::IsActiveResponse;
use crate::serve_keda_support::proto::external_scaler_client::ExternalScalerClient;
use crate::serve_keda_support::{Channel, Running, object, until};
use crate::serve_support::{AT, Daemon, decision, published};

const MINUTE: Duration = Duration::from_secs(60);

type Stream = Streaming<IsActiveResponse>;

fn client(daemon: &Daemon) -> ExternalScalerClient<Router> {
    ExternalScalerClient::new(keda_router(daemon.state.clone(), KedaOptions::default()))
}

async fn open(client: &mut ExternalScalerClient<Router>) -> Stream {
    client.stream_is_active(object("inference", "llama-a100")).await.unwrap().into_inner()
}

/// The next word of a stream within a virtual minute, and how long it took.
async fn word(stream: &mut Stream) -> Option<(bool, Duration)> {
    let before = Instant::now();
    let answer = timeout(MINUTE, stream.message()).await.ok()?;
    Some((answer.unwrap().expect("the stream is open").result, before.elapsed()))
}

/// Publish another number for the pool.
fn publish(daemon: &Daemon, desired: u32) {
    let mut next = decision();
    next.pools[0].desired = Some(desired);
    daemon.published.store(Arc::new(published(next)));
}

#[tokio::test(start_paused = true)]
async fn the_state_at_open_every_change_and_true_every_ten_seconds() {
    let daemon = Daemon::new(decision());
    let mut client = client(&daemon);
    let mut stream = open(&mut client).await;
    assert_eq!(word(&mut stream).await.unwrap(), (true, Duration::ZERO));
    let (again, first) = word(&mut stream).await.unwrap();
    assert!(again && first <= Duration::from_secs(10), "{first:?}");
    for _ in 0..5 {
        let (again, gap) = word(&mut stream).await.unwrap();
        assert!(again && gap.abs_diff(Duration::from_secs(10)) < Duration::from_millis(500), "{gap:?}");
    }
    publish(&daemon, 0);
    let (off, delay) = word(&mut stream).await.unwrap();
    assert!(!off && delay < Duration::from_secs(1), "{delay:?}");
    assert_eq!(word(&mut stream).await, None, "false is not repeated");
    publish(&daemon, 3);
    let (on, delay) = word(&mut stream).await.unwrap();
    assert!(on && delay < Duration::from_secs(1), "{delay:?}");
    // Another number above zero changes nothing for KEDA; the next `true` is a repetition.
    publish(&daemon, 4);
    assert!(word(&mut stream).await.unwrap().1 > Duration::from_secs(1));
    let mut idle = open(&mut client).await;
    assert!(word(&mut idle).await.unwrap().0);
}

#[tokio::test(start_paused = true)]
async fn without_a_number_a_stream_stays_open_and_says_nothing() {
    let daemon = Daemon::new(decision());
    let mut client = client(&daemon);
    let mut before = open(&mut client).await;
    assert!(word(&mut before).await.unwrap().0);
    let blind = Decision { source_error: Some("lost".into()), ..decision() };
    let mut zero = blind.clone();
    zero.pools[0].desired = Some(0);
    let mut mute = blind;
    mute.pools[0].desired = None;
    for lack in [published(zero), published(mute), Published::empty(60.0)] {
        daemon.published.store(Arc::new(lack));
        assert_eq!(word(&mut before).await, None);
        let mut during = open(&mut client).await;
        assert_eq!(word(&mut during).await, None);
        publish(&daemon, 2);
        assert!(word(&mut during).await.unwrap().0 && word(&mut before).await.unwrap().0);
    }
    daemon.clock.set(AT + 61.0);
    assert_eq!(word(&mut before).await, None);
    daemon.clock.set(AT + 4.0);
    assert!(word(&mut before).await.unwrap().0);
}

#[tokio::test(start_paused = true)]
async fn what_no_data_can_mend_ends_the_stream_with_the_reason() {
    let daemon = Daemon::new(decision());
    let mut client = client(&daemon);
    for (namespace, pool, code) in [
        ("inference", "nobody", Code::NotFound),
        ("inference", "small-off", Code::FailedPrecondition),
        ("inference", "", Code::InvalidArgument),
    ] {
        assert_eq!(client.stream_is_active(object(namespace, pool)).await.unwrap_err().code(), code);
    }
    let mut stream = open(&mut client).await;
    let mut gone = client.stream_is_active(object("other", "llama-a100")).await.unwrap().into_inner();
    assert!(word(&mut stream).await.unwrap().0 && word(&mut gone).await.unwrap().0);
    let mut next = decision();
    next.pools[0].mode = Mode::Advise;
    next.pools.truncate(4);
    daemon.published.store(Arc::new(published(next)));
    assert_eq!(stream.message().await.unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(gone.message().await.unwrap_err().code(), Code::NotFound);
    until(&daemon, "poolwright_keda_open_streams", 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_read_holds_no_queue() {
    let daemon = Daemon::new(decision());
    let mut client = client(&daemon);
    let mut stream = open(&mut client).await;
    for round in 0..200 {
        publish(&daemon, round % 2);
        tokio::time::sleep(Duration::from_secs(15)).await;
    }
    publish(&daemon, 0);
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(word(&mut stream).await.unwrap(), (false, Duration::ZERO), "the newest state, not 200 old ones");
    assert_eq!(word(&mut stream).await, None);
}

#[tokio::test(start_paused = true)]
async fn streams_are_limited_and_a_closed_one_makes_room() {
    let daemon = Daemon::new(decision());
    let options = KedaOptions { max_streams: 2, ..KedaOptions::default() };
    let mut client = ExternalScalerClient::new(keda_router(daemon.state.clone(), options));
    let (first, _second) = (open(&mut client).await, open(&mut client).await);
    let full = client.stream_is_active(object("inference", "llama-a100")).await.unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted);
    assert!(client.is_active(object("inference", "llama-a100")).await.is_ok(), "calls are still answered");
    drop(first);
    open(&mut client).await;
}

#[tokio::test]
async fn the_stop_ends_every_stream_and_waits_for_none() {
    let daemon = Daemon::new(decision());
    let server = Running::start(&daemon, KedaOptions::default(), None);
    let mut client = server.client().await;
    let mut active = client.stream_is_active(object("inference", "llama-a100")).await.unwrap().into_inner();
    let mut specs = client.stream_metric_spec(object("inference", "llama-a100")).await.unwrap().into_inner();
    let channel = Channel::plain(server.address).await;
    let mut health = HealthClient::with_origin(channel, "http://localhost".parse().unwrap());
    let mut watch = health.watch(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner();
    assert!(active.message().await.unwrap().unwrap().result);
    let spec = specs.message().await.unwrap().unwrap();
    assert_eq!(spec, client.get_metric_spec(object("inference", "llama-a100")).await.unwrap().into_inner());
    assert_eq!(spec.metric_specs[0].metric_name, KEDA_METRIC);
    assert!(watch.message().await.unwrap().is_some());

    server.stop().await;
    while active.message().await.unwrap().is_some() {}
    assert_eq!(specs.message().await.unwrap(), None);
    while watch.message().await.unwrap().is_some() {}
}

/// A socket that stops reading when told to.
struct Deaf {
    socket: TcpStream,
    deaf: Arc<AtomicBool>,
}

impl AsyncRead for Deaf {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        if self.deaf.load(Ordering::SeqCst) { Poll::Pending } else { Pin::new(&mut self.socket).poll_read(cx, buf) }
    }
}

impl AsyncWrite for Deaf {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_client_that_reads_nothing_loses_its_connection() {
    let daemon = Daemon::new(decision());
    let router = keda_router(daemon.state.clone(), KedaOptions::default());
    let soon = Duration::from_millis(100);
    let server = Running::serve(&daemon, router, None, Http2 { streams: 100, window: None, ping: Some((soon, soon)) });
    let deaf = Arc::new(AtomicBool::new(false));
    let socket = TcpStream::connect(server.address).await.unwrap();
    let mut client = Channel::over(Deaf { socket, deaf: deaf.clone() }).await.unwrap().client();
    let mut streams = Vec::new();
    for _ in 0..50 {
        streams.push(client.stream_is_active(object("inference", "llama-a100")).await.unwrap());
    }
    until(&daemon, "poolwright_keda_open_streams", 50).await;
    deaf.store(true, Ordering::SeqCst);
    until(&daemon, "poolwright_keda_open_streams", 0).await;
    drop(streams);
}

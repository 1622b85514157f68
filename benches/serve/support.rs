//! A server on a thread of its own, a load at a fixed rate, and what the operating system says of both.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use hdrhistogram::Histogram;
use poolwright::serve::{ClientCertificates, Http2, Listener, Readiness, StopTimes, Tls};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

const NAME: &str = "localhost";

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime needs only the operating system")
}

/// Our listener with a certificate of its own, served by one thread.
pub struct Server {
    pub address: SocketAddr,
    pub certificate_pem: String,
    /// The thread, as the kernel numbers it.
    thread: u64,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(router: Router) -> Self {
        let tls = Tls::self_signed(&[NAME.into()], ClientCertificates::Ignored).expect("a certificate can be made");
        let certificate_pem = tls.certificate_pem().expect("self-signed certificates are known").to_owned();
        let socket = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        socket.set_nonblocking(true).expect("sockets can be non-blocking");
        let address = socket.local_addr().expect("a bound socket has an address");
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = mpsc::channel();
        let serve = move || {
            tell.send(this_thread()).expect("the starter waits for this");
            let shutdown = async move {
                let _ = stopped.await;
            };
            let times = StopTimes { drain: Duration::ZERO, grace: Duration::ZERO };
            let listeners = vec![Listener { socket, router, tls: Some(tls), http2: Http2::default() }];
            runtime()
                .block_on(poolwright::serve::run(listeners, Readiness::default(), shutdown, times))
                .expect("the listener works");
        };
        let serving = std::thread::spawn(serve);
        let thread = told.recv().expect("the server's thread starts");
        Self { address, certificate_pem, thread, stop: Some(stop), serving: Some(serving) }
    }

    /// Processor time of the server's thread since its start.
    pub fn cpu(&self) -> Duration {
        let text = std::fs::read_to_string(format!("/proc/self/task/{}/schedstat", self.thread)).unwrap_or_default();
        Duration::from_nanos(text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or_default())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
        if let Some(Err(panic)) = self.serving.take().map(JoinHandle::join) {
            eprintln!("the server panicked: {panic:?}");
        }
    }
}

fn this_thread() -> u64 {
    let link = std::fs::read_link("/proc/thread-self").unwrap_or_default();
    link.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok()).unwrap_or_default()
}

/// Resident memory of the whole process, server and load generator, MiB.
pub fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|kib| kib.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or_default() / 1024
}

/// GET requests that begin at fixed times, whether or not the ones before have ended.
pub struct Load<'a> {
    /// Requests per second.
    pub rate: u32,
    /// Time before anything is measured.
    pub warm_up: Duration,
    pub duration: Duration,
    /// Path of the n-th request.
    pub path: &'a dyn Fn(usize) -> String,
    pub headers: &'a [(&'static str, &'static str)],
}

/// What a load found.
#[derive(Debug)]
pub struct Figures {
    /// From the time a request was due until its whole answer was there, microseconds.
    pub latency: Histogram<u64>,
    pub failed: u64,
    /// Processor time of the server's thread by time passed.
    pub cpu_share: f64,
    pub resident_mib: u64,
}

impl Default for Figures {
    fn default() -> Self {
        let latency = Histogram::new_with_max(60_000_000, 3).expect("a minute in three digits is possible");
        Self { latency, failed: 0, cpu_share: 0.0, resident_mib: 0 }
    }
}

impl Figures {
    fn count(&mut self, outcome: Option<(Instant, Duration)>, measured_from: Instant) {
        match outcome {
            Some((due, taken)) if due >= measured_from => {
                self.latency.saturating_record(u64::try_from(taken.as_micros()).unwrap_or(u64::MAX));
            }
            Some(_) => {}
            None => self.failed += 1,
        }
    }
}

/// Send a load from this thread, over one connection as kube-apiserver's aggregator does.
pub fn load(server: &Server, load: &Load<'_>) -> Figures {
    runtime().block_on(generate(server, load))
}

async fn generate(server: &Server, load: &Load<'_>) -> Figures {
    let client = client(server);
    let base = format!("https://{NAME}:{}", server.address.port());
    let request = |index: usize| {
        let request = client.get(format!("{base}{}", (load.path)(index)));
        load.headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    };
    // The connection is made before the clock starts.
    let first = request(0).send().await.expect("the server answers");
    assert_eq!((first.status().as_u16(), first.version()), (200, reqwest::Version::HTTP_2));

    let gap = Duration::from_secs(1) / load.rate;
    let start = Instant::now();
    let measured_from = start + load.warm_up;
    let (mut tasks, mut figures, mut before) = (JoinSet::new(), Figures::default(), None);
    for (index, due) in std::iter::successors(Some(start), |due| Some(*due + gap)).enumerate() {
        if due >= measured_from + load.duration {
            break;
        }
        // A timer is too coarse: ask again and again, and let the answers in between.
        while Instant::now() < due {
            tokio::task::yield_now().await;
        }
        if due >= measured_from && before.is_none() {
            before = Some((Instant::now(), server.cpu()));
        }
        tasks.spawn(timed(request(index), due));
        while let Some(outcome) = tasks.try_join_next() {
            figures.count(outcome.ok().flatten(), measured_from);
        }
    }
    if let Some((began, cpu)) = before {
        figures.cpu_share = (server.cpu() - cpu).as_secs_f64() / began.elapsed().as_secs_f64();
    }
    while let Some(outcome) = tasks.join_next().await {
        figures.count(outcome.ok().flatten(), measured_from);
    }
    figures.resident_mib = resident_mib();
    figures
}

/// When a request was due and how long its whole answer took from then; `None` when it failed.
async fn timed(request: reqwest::RequestBuilder, due: Instant) -> Option<(Instant, Duration)> {
    let answer = request.send().await.ok()?.error_for_status().ok()?;
    answer.bytes().await.ok()?;
    Some((due, due.elapsed()))
}

fn client(server: &Server) -> reqwest::Client {
    let certificate = reqwest::Certificate::from_pem(server.certificate_pem.as_bytes()).expect("our own certificate");
    reqwest::Client::builder()
        .tls_certs_only([certificate])
        .resolve(NAME, server.address)
        .no_proxy()
        .build()
        .expect("a client needs nothing but its certificate")
}

/// Head of the table.
pub fn header() -> String {
    format!(
        "{:<34} {:>9} {:>9} {:>9} {:>9} {:>7} {:>6} {:>9}",
        "", "p50", "p99", "p99.9", "most", "failed", "CPU", "RSS MiB"
    )
}

/// A row of the table; latencies in milliseconds, and whether the 99th percentile keeps its limit.
pub fn row(name: &str, figures: &Figures, limit_p99: Option<Duration>) -> String {
    let at = |quantile: f64| figures.latency.value_at_quantile(quantile) as f64 / 1000.0;
    let mut row = format!("{name:<34}");
    for milliseconds in [at(0.5), at(0.99), at(0.999), figures.latency.max() as f64 / 1000.0] {
        let _ = write!(row, " {milliseconds:>7.3}ms");
    }
    let _ = write!(row, " {:>7} {:>5.1}% {:>9}", figures.failed, figures.cpu_share * 100.0, figures.resident_mib);
    match limit_p99 {
        Some(limit) if at(0.99) < limit.as_secs_f64() * 1000.0 => row + "  kept",
        Some(_) => row + "  MISSED",
        None => row,
    }
}

//! A server on a thread of its own, a load at a fixed rate, and what the operating system says of both.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use hdrhistogram::Histogram;
use poolwright::serve::{ClientCertificates, Listener, Readiness, StopTimes, Tls};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{oneshot, watch};

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
            let listeners = vec![Listener { socket, router, tls: Some(tls) }];
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
pub struct Figures {
    /// From the time a request was due until its whole answer was there, microseconds.
    pub latency: Histogram<u64>,
    pub failed: u64,
    /// Processor time of the server's thread by time passed.
    pub cpu_share: f64,
    pub resident_mib: u64,
}

/// Send a load from this thread, over one connection as kube-apiserver's aggregator does.
pub fn load(server: &Server, load: &Load<'_>) -> Figures {
    runtime().block_on(generate(server, load))
}

async fn generate(server: &Server, load: &Load<'_>) -> Figures {
    let client = client(server);
    let base = format!("https://{NAME}:{}", server.address.port());
    let latency = Arc::new(std::sync::Mutex::new(Histogram::<u64>::new(3).expect("three digits are possible")));
    let failed = Arc::new(AtomicU64::new(0));
    let (running, mut ended) = watch::channel(());
    // The connection is made before the clock starts.
    let _ = client.get(format!("{base}{}", (load.path)(0))).send().await;
    let gap = Duration::from_secs(1) / load.rate;
    let (start, total) = (Instant::now(), load.warm_up + load.duration);
    let mut measuring = None;
    for index in 0.. {
        let due = start + gap * u32::try_from(index).unwrap_or(u32::MAX);
        if due > start + total {
            break;
        }
        // A timer is too coarse: ask again and again, and let the answers in between.
        while Instant::now() < due {
            tokio::task::yield_now().await;
        }
        let measured = due >= start + load.warm_up;
        if measured && measuring.is_none() {
            measuring = Some((Instant::now(), server.cpu()));
        }
        let request =
            load.headers.iter().fold(client.get(format!("{base}{}", (load.path)(index))), |r, (k, v)| r.header(*k, *v));
        let (latency, failed, mark) = (latency.clone(), failed.clone(), ended.clone());
        tokio::spawn(async move {
            let fine = matches!(request.send().await, Ok(answer) if answer.status().is_success() && answer.bytes().await.is_ok());
            if !fine {
                failed.fetch_add(1, Ordering::Relaxed);
            }
            if measured && let Ok(mut latency) = latency.lock() {
                latency.saturating_record(u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX));
            }
            drop(mark);
        });
    }
    let (began, before) = measuring.unwrap_or((start, Duration::ZERO));
    let cpu_share = (server.cpu() - before).as_secs_f64() / began.elapsed().as_secs_f64();
    // Every request holds a receiver: when the last is gone, all have ended.
    ended.mark_unchanged();
    drop(ended);
    running.closed().await;
    let latency = latency.lock().map(|found| found.clone()).unwrap_or_else(|broken| broken.into_inner().clone());
    Figures { latency, failed: failed.load(Ordering::Relaxed), cpu_share, resident_mib: resident_mib() }
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

//! A load at fixed times, and what came of it.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use crate::client::{CALLER, FrontProxy, NAME};
use crate::server::Server;

pub fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime needs only the operating system")
}

/// When requests begin, whether or not the ones before have ended.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Evenly, per second.
    pub rate: u32,
    /// That many more at once, each second.
    pub burst: usize,
    /// Time before anything is measured.
    pub warm_up: Duration,
    pub duration: Duration,
}

impl Schedule {
    /// Times since the start, in order.
    pub fn times(&self) -> Vec<Duration> {
        let end = self.warm_up + self.duration;
        let gap = Duration::from_secs(1) / self.rate;
        let evenly = std::iter::successors(Some(Duration::ZERO), |due| Some(*due + gap)).take_while(|due| *due < end);
        let seconds = (0..end.as_secs()).map(|second| Duration::from_millis(second * 1000 + 500));
        let mut times: Vec<Duration> =
            evenly.chain(seconds.flat_map(|at| std::iter::repeat_n(at, self.burst))).collect();
        times.sort_unstable();
        times
    }
}

/// GET requests to a server.
pub struct Load<'a> {
    pub schedule: Schedule,
    /// Path of the n-th request.
    pub path: &'a dyn Fn(usize) -> String,
    pub accept: &'static str,
}

/// What a load found.
#[derive(Debug)]
pub struct Figures {
    /// From the time a request was due until its whole answer was there, microseconds.
    pub latency: Histogram<u64>,
    pub failed: u64,
    /// Processor time of the server, and the time in which it was spent.
    pub cpu: (Duration, Duration),
    pub peak_mib: f64,
}

impl Default for Figures {
    fn default() -> Self {
        let latency = Histogram::new_with_max(60_000_000, 3).expect("a minute in three digits is possible");
        Self { latency, failed: 0, cpu: Default::default(), peak_mib: f64::NAN }
    }
}

impl Figures {
    /// Count a request by how long it took from when it was due; `None` when it failed.
    pub fn count(&mut self, taken: Option<Duration>) {
        match taken {
            Some(taken) => self.latency.saturating_record(u64::try_from(taken.as_micros()).unwrap_or(u64::MAX)),
            None => self.failed += 1,
        }
    }

    pub fn milliseconds(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1000.0
    }

    pub fn cpu_share(&self) -> f64 {
        self.cpu.0.as_secs_f64() / self.cpu.1.as_secs_f64()
    }

    /// Processor time of the server for one answer.
    pub fn cpu_microseconds(&self) -> f64 {
        self.cpu.0.as_secs_f64() * 1e6 / self.latency.len() as f64
    }
}

/// Send a load from this thread, over one connection as kube-apiserver's aggregator does.
pub fn load(server: &Server, front: &FrontProxy, load: &Load<'_>) -> Figures {
    runtime().block_on(generate(server, front, load))
}

async fn generate(server: &Server, front: &FrontProxy, load: &Load<'_>) -> Figures {
    let client = client(server, front);
    let base = format!("https://{NAME}:{}", server.address.port());
    let request = |index: usize| {
        let request = client.get(format!("{base}{}", (load.path)(index))).header("accept", load.accept);
        CALLER.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    };
    // The connection is made before the clock starts.
    let first = request(0).send().await.expect("the server answers");
    assert_eq!((first.status().as_u16(), first.version()), (200, reqwest::Version::HTTP_2));

    let (start, warm_up) = (Instant::now(), load.schedule.warm_up);
    let (mut tasks, mut figures, mut before) = (JoinSet::new(), Figures::default(), None);
    for (index, since) in load.schedule.times().into_iter().enumerate() {
        let due = start + since;
        // A timer is too coarse: ask again and again, and let the answers in between.
        while Instant::now() < due {
            tokio::task::yield_now().await;
        }
        if since >= warm_up && before.is_none() {
            before = Some((Instant::now(), server.cpu()));
        }
        let answer = timed(request(index), due);
        tasks.spawn(async move { (since >= warm_up, answer.await) });
        while let Some(outcome) = tasks.try_join_next() {
            take(&mut figures, outcome);
        }
    }
    while let Some(outcome) = tasks.join_next().await {
        take(&mut figures, outcome);
    }
    if let Some((began, cpu)) = before {
        figures.cpu = (server.cpu() - cpu, began.elapsed());
    }
    figures.peak_mib = server.peak_mib();
    figures
}

/// Count an outcome if its time has come, and every failure.
fn take(figures: &mut Figures, outcome: Result<(bool, Option<Duration>), tokio::task::JoinError>) {
    let (measured, taken) = outcome.unwrap_or((true, None));
    if measured || taken.is_none() {
        figures.count(taken);
    }
}

/// How long a whole answer took from when its request was due; `None` when it failed.
async fn timed(request: reqwest::RequestBuilder, due: Instant) -> Option<Duration> {
    let answer = request.send().await.ok()?.error_for_status().ok()?;
    answer.bytes().await.ok()?;
    Some(due.elapsed())
}

fn client(server: &Server, front: &FrontProxy) -> reqwest::Client {
    reqwest::Client::builder()
        .tls_backend_preconfigured(front.config(&server.certificate_pem))
        .resolve(NAME, server.address)
        .no_proxy()
        .build()
        .expect("a client needs nothing but its certificate")
}

/// How busy the machine is, as the kernel says it: of the last 1, 5 and 15 minutes; and the processor time that its
/// host has taken away since it started.
pub fn busy() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = text.split(' ').take(3).collect::<Vec<_>>().join(" ");
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    // Columns of the first line: cpu user nice system idle iowait irq softirq steal; hundredths of a second.
    let stolen = stat.split_whitespace().nth(8).and_then(|n| n.parse::<f64>().ok()).unwrap_or(f64::NAN);
    format!("load average {load}, stolen by the host so far {:.1} s", stolen / 100.0)
}

/// Head of the table.
pub fn header() -> String {
    format!(
        "{:<40} {:>9} {:>9} {:>9} {:>9} {:>7} {:>6} {:>8} {:>9}",
        "", "p50", "p90", "p99", "most", "failed", "CPU", "µs/req", "peak MiB"
    )
}

/// A row of the table; latencies in milliseconds, and whether the 99th percentile keeps its limit.
pub fn row(name: &str, figures: &Figures, limit_p99: Option<Duration>) -> String {
    let mut row = format!("{name:<40}");
    let most = figures.latency.max() as f64 / 1000.0;
    for milliseconds in [figures.milliseconds(0.5), figures.milliseconds(0.9), figures.milliseconds(0.99), most] {
        let _ = write!(row, " {milliseconds:>7.3}ms");
    }
    let (share, each) = (figures.cpu_share() * 100.0, figures.cpu_microseconds());
    let _ = write!(row, " {:>7} {share:>5.1}% {each:>8.1} {:>9.1}", figures.failed, figures.peak_mib);
    match limit_p99 {
        Some(limit) => row + &verdict(figures, limit),
        None => row,
    }
}

/// Whether every request was answered and the 99th percentile is below this.
pub fn verdict(figures: &Figures, limit_p99: Duration) -> String {
    let kept = figures.failed == 0 && figures.milliseconds(0.99) < limit_p99.as_secs_f64() * 1000.0;
    format!("  p99 < {limit_p99:?} {}", if kept { "kept" } else { "MISSED" })
}

//! The server: this program again, in a process of its own, with one thread.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use axum::Router;
use axum::routing::get;
use futures::FutureExt;
use futures::future::BoxFuture;
use poolwright::control::{Published, SystemClock};
use poolwright::serve::auth::{AccessQuestion, AccessVerdict, Limits, ReviewError, Reviews, TokenVerdict, Trust};
use poolwright::serve::{
    Access, ClientCertificates, Http2, KEDA_HTTP2, KedaOptions, Listener, ServeState, StopTimes, Tls, api_router,
    keda_router, run,
};
use tempfile::TempDir;

use crate::client::{FrontProxy, NAME};
use crate::{affinity, fleet};

/// Argument after which this program is the server.
pub const SERVE: &str = "--serve";

/// A route that does nothing.
pub const FLOOR: &str = "/floor";

/// Time between two decisions of the external scaler's fleet.
const CHANGE: Duration = Duration::from_secs(2);

/// How long the cluster takes to say whether a user may; asked again every ten seconds for each namespace.
const REVIEW: Duration = Duration::from_millis(5);

const AUTHORITY: &str = "front-proxy-ca.crt";
const CERTIFICATE: &str = "server.crt";

/// What is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The external metrics API behind its checks, and [`FLOOR`] without them.
    Api,
    /// KEDA's external scaler; the decision changes all the time.
    Keda,
}

/// A running server; ends when it is dropped.
pub struct Server {
    pub address: SocketAddr,
    pub certificate_pem: String,
    process: Child,
}

impl Server {
    /// Start this program as a server that believes this front proxy.
    pub fn start(what: What, pools: usize, front: &FrontProxy) -> Self {
        let folder = TempDir::new().expect("the system has a folder for temporary files");
        std::fs::write(folder.path().join(AUTHORITY), &front.authority_pem).expect("it can be written to");
        let program = std::env::current_exe().expect("this program has a path");
        let kind = if what == What::Api { "api" } else { "keda" };
        let mut process = Command::new(program)
            .args([SERVE, kind, &pools.to_string()])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started twice");
        let mut line = String::new();
        let said = process.stdout.take().expect("its output is a pipe");
        BufReader::new(said).read_line(&mut line).expect("it says where it listens");
        let address = line.trim().parse().expect("an address");
        let certificate_pem = std::fs::read_to_string(folder.path().join(CERTIFICATE)).expect("written before");
        Self { address, certificate_pem, process }
    }

    /// Processor time since its start, of all its threads.
    pub fn cpu(&self) -> Duration {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).into_iter().flatten().flatten();
        let times = threads.filter_map(|thread| {
            let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(times.sum())
    }

    /// Most memory it ever held, MiB; not a number where the kernel does not say.
    pub fn peak_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|kib| kib.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        kib.map_or(f64::NAN, |kib| kib / 1024.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its end of the pipe closes, and it stops.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// Be the server until the starter is gone.
pub fn serve(arguments: &[String]) {
    affinity::pin(affinity::SERVER);
    let [kind, pools, folder] = arguments else { panic!("{SERVE} api|keda POOLS FOLDER, not {arguments:?}") };
    let (pools, folder) = (pools.parse().expect("a number of pools"), Path::new(folder));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _guard = runtime.enter();
    let published = Arc::new(ArcSwap::from_pointee(fleet::published(pools, 0)));
    let state = ServeState::new(published.clone(), Arc::new(SystemClock));
    let (router, clients, http2) = if kind == "api" {
        (api(&state, &access(folder)), ClientCertificates::Unjudged, Http2::default())
    } else {
        runtime.spawn(change(published, pools));
        let router = keda_router(state.clone(), KedaOptions::default());
        (router, ClientCertificates::Ignored, KEDA_HTTP2)
    };
    let tls = Tls::self_signed(&[NAME.into()], clients).expect("a plain name");
    let pem = tls.certificate_pem().expect("it is self-signed");
    std::fs::write(folder.join(CERTIFICATE), pem).expect("the starter's folder");
    let socket = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    println!("{}", socket.local_addr().expect("it is bound"));
    std::io::stdout().flush().expect("the starter reads it");
    std::thread::spawn(|| {
        // The starter writes nothing: this ends together with it.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let listeners = vec![Listener { socket, router, tls: Some(tls), http2 }];
    let times = StopTimes { drain: Duration::ZERO, grace: Duration::ZERO };
    runtime.block_on(run(listeners, state.readiness().clone(), std::future::pending(), times)).expect("it listens");
}

/// The API of HPA behind its checks.
pub fn api(state: &ServeState, access: &Access) -> Router {
    api_router(state.clone(), access).route(FLOOR, get(async || "ok"))
}

fn access(folder: &Path) -> Access {
    access_for(&std::fs::read_to_string(folder.join(AUTHORITY)).expect("the starter wrote it"))
}

/// Checks as in a cluster, with a cluster that allows everything after a moment.
pub fn access_for(front_authority_pem: &str) -> Access {
    let data = [
        ("client-ca-file", front_authority_pem),
        ("requestheader-client-ca-file", front_authority_pem),
        ("requestheader-allowed-names", r#"["front-proxy-client"]"#),
        ("requestheader-username-headers", r#"["X-Remote-User"]"#),
        ("requestheader-group-headers", r#"["X-Remote-Group"]"#),
        ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#),
    ];
    let data = data.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let trust = ArcSwapOption::from_pointee(Trust::from_data(&data).expect("the authority is made here"));
    Access::delegated(Arc::new(trust), Arc::new(Allowing), Arc::new(SystemClock), Limits::default())
}

struct Allowing;

impl Reviews for Allowing {
    fn token<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<TokenVerdict, ReviewError>> {
        async { Ok(TokenVerdict::Refused) }.boxed()
    }

    fn access<'a>(&'a self, _: &'a AccessQuestion) -> BoxFuture<'a, Result<AccessVerdict, ReviewError>> {
        async {
            tokio::time::sleep(REVIEW).await;
            Ok(AccessVerdict { allowed: true, reason: String::new() })
        }
        .boxed()
    }
}

/// Publish another decision again and again. As in the daemon another thread makes it.
async fn change(published: Arc<ArcSwap<Published>>, pools: usize) {
    for round in 1.. {
        tokio::time::sleep(CHANGE).await;
        let next = tokio::task::spawn_blocking(move || fleet::published(pools, round)).await;
        published.store(Arc::new(next.expect("it does not panic")));
    }
}

//! Certificates change while HPAs ask every two seconds: ours and our authority's, and the front proxy's with its
//! authority's. Not one sync may fail.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Event};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use reqwest::Certificate;
use serde_json::json;
use tokio_util::task::AbortOnDropHandle;

use crate::daemon::rights_are_enough;
use crate::harness::World;
use crate::harness::audit::Audit;
use crate::harness::daemon::{Daemon, LARGE, POOLS, SMALL, available, before_installation, overlay};
use crate::harness::hpa::Status;
use crate::harness::pki::Authority;
use crate::harness::process::free_port;
use crate::harness::wait::until;

const LIFETIME: &str = "--api-tls-lifetime=20s";
/// Leaf certificates are renewed after 13 s, their authority after 53 s and has to settle.
const ROTATED: Duration = Duration::from_secs(120);
const HOST: &str = "poolwright.poolwright-system.svc";

/// What went wrong anywhere, in words.
type Failures = Arc<Mutex<Vec<String>>>;

fn note(failures: &Failures, what: String) {
    failures.lock().expect("nobody panics with the lock").push(what);
}

async fn bundle(client: &Client) -> Vec<u8> {
    let api: Api<APIService> = Api::all(client.clone());
    let found = api.get("v1beta1.external.metrics.k8s.io").await.expect("it is there");
    found.spec.and_then(|s| s.ca_bundle).map(|b| b.0).unwrap_or_default()
}

/// A strict client with no memory: at every moment it has to trust us by what the APIService says then.
async fn strict(client: Client, port: u16, failures: Failures, handshakes: Arc<Mutex<u64>>) {
    loop {
        let trusted = Certificate::from_pem_bundle(&bundle(&client).await).expect("PEM");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let strict = reqwest::Client::builder().tls_certs_only(trusted).no_proxy().resolve(HOST, address);
        let strict = strict.build().expect("a client can be made");
        match strict.get(format!("https://{HOST}:{port}/healthz")).send().await {
            Ok(_) => *handshakes.lock().expect("nobody panics with the lock") += 1,
            Err(error) => note(&failures, format!("a new connection: {error:?}")),
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Every HPA says at every moment that its metric is valid.
async fn syncs(client: Client, failures: Failures) {
    let api: Api<HorizontalPodAutoscaler> = Api::namespaced(client, POOLS);
    loop {
        for hpa in api.list(&Default::default()).await.into_iter().flatten() {
            let conditions = hpa.status.and_then(|s| s.conditions).unwrap_or_default();
            for condition in conditions.iter().filter(|c| c.type_ == "ScalingActive" && c.status != "True") {
                note(&failures, format!("{:?}: {:?}", hpa.metadata.name, condition.message));
            }
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
}

/// How often HPAs have complained so far.
async fn complaints(client: &Client) -> i32 {
    let api: Api<Event> = Api::namespaced(client.clone(), POOLS);
    let all = api.list(&Default::default()).await.expect("events can be listed");
    let failed = all.items.iter().filter(|e| e.reason.as_deref().is_some_and(|r| r.starts_with("Failed")));
    failed.map(|e| e.count.unwrap_or(1)).sum()
}

pub async fn no_sync_fails_while_certificates_change(world: &mut World) {
    let engines = before_installation(world).await;
    engines.set_rate(2.0);
    let port = free_port();
    world.kubectl.ok(&["apply", "-k", &overlay(world, port).display().to_string()]);
    let audit = Audit::start(world.plane.folder());
    let daemon = Daemon::start_at(world, "rotating", port, &[LIFETIME]).await;
    available(world).await;
    let status = Status::of(&world.client, POOLS);
    for pool in [LARGE, SMALL] {
        status.wait_condition(pool, "ScalingActive", "True ValidMetricFound").await;
    }
    let before = complaints(&world.client).await;
    let (failures, handshakes) = (Failures::default(), Arc::<Mutex<u64>>::default());
    let client = world.client.clone();
    let probe = strict(client.clone(), port, failures.clone(), handshakes.clone());
    let _tasks = [
        AbortOnDropHandle::new(tokio::spawn(probe)),
        AbortOnDropHandle::new(tokio::spawn(syncs(client.clone(), failures.clone()))),
    ];
    tokio::join!(rotated(&daemon), front_proxy(world));
    let handshakes = *handshakes.lock().expect("nobody panics with the lock");
    println!("  {handshakes} new connections");
    assert!(handshakes > 100, "{handshakes}");
    rights_are_enough(&audit, &daemon);
    assert_eq!(*failures.lock().expect("nobody panics with the lock"), Vec::<String>::new());
    assert_eq!(complaints(&world.client).await, before);
    drop(daemon);
    world.server.restart();
    world.register();
}

/// Wait until several certificates of ours have followed each other, and one authority another.
async fn rotated(daemon: &Daemon) {
    let (mut leaves, mut authorities, mut overlap) = (BTreeSet::new(), BTreeSet::new(), false);
    let start = Instant::now();
    until("three certificates and an authority are new", ROTATED, async || {
        let certificate = daemon.get("/v1/cluster").await.1["certificate"].take();
        leaves.insert(certificate["expires_at_seconds"].to_string());
        authorities.insert(certificate["authority_expires_at_seconds"].to_string());
        overlap |= certificate["authorities"].as_u64() >= Some(2);
        // The new authority signs what is served, and the old one is forgotten again.
        let over = overlap && certificate["authorities"] == 1;
        if leaves.len() > 3 && authorities.len() > 1 && over { Ok(()) } else { Err(format!("{certificate}")) }
    })
    .await;
    let seconds = start.elapsed().as_secs_f64();
    println!("  {} certificates and {} authorities in {seconds:.0} s", leaves.len(), authorities.len());
}

/// Give kube-apiserver another front-proxy certificate by another authority, with an overlap; then the old authority
/// goes. kube-apiserver reads its files by itself.
async fn front_proxy(world: &World) {
    let folder = world.plane.folder();
    let api: Api<ConfigMap> = Api::namespaced(world.client.clone(), "kube-system");
    let key = "requestheader-client-ca-file";
    let (name, start) = ("extension-apiserver-authentication", Instant::now());
    let authority = Authority::new(folder, "front-proxy-ca-2");
    let new = fs::read_to_string(authority.certificate()).expect("it was written");
    let file = folder.join("front-proxy-ca.crt");
    let old = fs::read_to_string(&file).expect("the control plane has one");
    fs::write(&file, format!("{old}\n{new}")).expect("a file can be written");
    until("the new authority is trusted", Duration::from_secs(75), async || {
        let data = api.get(name).await.map_err(|e| e.to_string())?.data.unwrap_or_default();
        let trusted = data.get(key).is_some_and(|text| text.contains(new.trim()));
        if trusted { Ok(()) } else { Err("not yet".into()) }
    })
    .await;
    println!("  kube-apiserver publishes the new front-proxy authority after {:.0} s", start.elapsed().as_secs_f64());
    let pair = authority.client("front-proxy-client-2", "front-proxy-client", None);
    for (from, to) in [(pair.key, "front-proxy-client.key"), (pair.certificate, "front-proxy-client.crt")] {
        fs::rename(from, folder.join(to)).expect("a file can be moved");
    }
    // It is told of the change of a file; the pair is two of them.
    tokio::time::sleep(Duration::from_secs(40)).await;
    fs::write(&file, &new).expect("a file can be written");
    tokio::time::sleep(Duration::from_secs(5)).await;
    // kube-apiserver only adds to the list: whoever rotates takes the old one away.
    let patch = json!({"data": {key: new}});
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("the admin may");
    tokio::time::sleep(Duration::from_secs(20)).await;
    let data = api.get(name).await.expect("it is there").data.unwrap_or_default();
    assert!(!data[key].contains(old.trim()), "the old authority is gone");
}

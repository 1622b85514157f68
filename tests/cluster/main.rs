//! Tests against a real control plane: etcd, kube-apiserver with its aggregator, kube-controller-manager with
//! HPA, and KEDA, all on loopback and without nodes. `make cluster-test` builds them first and runs this.
//!
//! This program has a `main` of its own: one control plane serves all tests, which run one after the other in
//! the order below, and it stops when the last of them has ended, whatever happened. Arguments are parts of
//! test names: `cargo test --test cluster follow`. The whole chain (`chain::`) takes long and runs only when named.

mod access;
mod aggregation;
mod chain;
mod daemon;
mod daemon_keda;
mod daemon_owner;
mod daemon_remove;
mod daemon_rotation;
mod doctor;
mod follow;
mod harness;
mod hold;
mod keda;
mod keda_scaler;
mod outage;
#[allow(dead_code)] // Shared with the other test program, which uses all of it.
#[path = "../it/prometheus_support.rs"]
mod prometheus_support;
mod shipped;
mod table;

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::Instant;

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use harness::World;
use harness::assets::Assets;

type Test = (&'static str, for<'a> fn(&'a mut World) -> LocalBoxFuture<'a, ()>);

/// A test by the path of its function.
macro_rules! test {
    ($room:ident::$name:ident) => {
        (concat!(stringify!($room), "::", stringify!($name)), |world| $room::$name(world).boxed_local())
    };
}

/// In the order they run: what breaks something goes last, KEDA takes over the API at the very end.
const TESTS: &[Test] = &[
    test!(aggregation::the_api_is_available),
    test!(aggregation::kubectl_lists_the_metrics_without_a_warning),
    test!(aggregation::kubectl_reads_a_value_as_json),
    test!(aggregation::kubectl_is_refused_as_kubernetes_refuses),
    test!(aggregation::a_namespace_can_be_deleted),
    test!(access::rights_decide_who_reads_values),
    test!(access::discovery_is_for_all_and_health_for_everybody),
    test!(hold::errors_and_empty_lists_begin_to_hold),
    test!(follow::a_deployment_follows_exactly),
    test!(follow::value_targets_do_not_follow),
    test!(table::every_step_counts_at_tolerance_zero),
    test!(table::the_default_tolerance_hides_small_steps),
    test!(table::the_default_tolerance_rounds_fractions_up),
    test!(table::surge_pods_do_not_count_at_tolerance_zero),
    test!(hold::errors_and_empty_lists_hold_for_forty_syncs),
    test!(hold::a_stale_decision_holds),
    test!(doctor::nothing_is_found_where_nothing_is_wrong),
    test!(doctor::scalers_that_do_not_follow_are_found),
    test!(doctor::a_foreign_api_and_missing_rights_are_found),
    test!(doctor::wrong_series_are_found),
    test!(shipped::the_shipped_objects_are_accepted_and_followed),
    test!(shipped::the_shipped_objects_for_keda_are_accepted),
    test!(daemon::five_commands_lead_to_an_hpa_that_follows),
    test!(daemon_rotation::no_sync_fails_while_certificates_change),
    test!(outage::a_killed_daemon_holds_and_recovers),
    test!(outage::a_restarted_apiserver_needs_no_help),
    test!(keda::keda_serves_its_own_metrics_beside_ours),
    test!(keda_scaler::keda_follows_exactly),
    test!(keda_scaler::without_an_answer_keda_holds),
    test!(daemon_keda::five_commands_lead_to_keda_that_follows),
    test!(daemon_owner::what_keda_owns_is_left_alone),
    test!(daemon_owner::a_lost_api_is_reported_and_not_fought_for),
    test!(daemon_remove::the_api_goes_only_if_it_is_ours),
];

/// Timed apart: they run only when asked for by name.
const APART: &[Test] = &[test!(chain::everything_is_real_but_the_gpu)];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let asked_for = |name: &str| wanted.iter().any(|w| name.contains(w.as_str()));
    let usual = TESTS.iter().filter(|(name, _)| wanted.is_empty() || asked_for(name));
    let chosen: Vec<&Test> = usual.chain(APART.iter().filter(|(name, _)| asked_for(name))).collect();
    if std::env::args().any(|a| a == "--list") {
        chosen.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let assets = match Assets::find() {
        Ok(assets) => assets,
        Err(why) => {
            println!("\n*** ALL {} CLUSTER TESTS ARE SKIPPED: {why}\n", chosen.len());
            return ExitCode::SUCCESS;
        }
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be made");
    runtime.block_on(async {
        tokio::select! {
            // Everything that was started ends with the future that owns it.
            code = run(assets, &chosen) => code,
            _ = tokio::signal::ctrl_c() => ExitCode::FAILURE,
        }
    })
}

async fn run(assets: Assets, chosen: &[&Test]) -> ExitCode {
    let start = Instant::now();
    let mut world = World::start(assets).await;
    println!("control plane up after {:.1} s, running {} tests", start.elapsed().as_secs_f64(), chosen.len());
    let mut failed = Vec::new();
    for (name, test) in chosen {
        let start = Instant::now();
        let ended = AssertUnwindSafe(test(&mut world)).catch_unwind().await;
        let seconds = start.elapsed().as_secs_f64();
        match ended {
            Ok(()) => println!("test {name} ... ok ({seconds:.1} s)"),
            Err(_) => {
                println!("test {name} ... FAILED ({seconds:.1} s)");
                failed.push(*name);
            }
        }
    }
    println!(
        "{} passed, {} failed in {:.0} s",
        chosen.len() - failed.len(),
        failed.len(),
        start.elapsed().as_secs_f64()
    );
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("failed: {}", failed.join(", "));
    world.keep_logs();
    ExitCode::FAILURE
}

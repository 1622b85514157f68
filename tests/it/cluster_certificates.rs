//! Self-made certificates: made once, shared, renewed, trusted before they are served.

use std::sync::Arc;

use axum::http::StatusCode;
use poolwright::cluster::{CertificateSettings, Lifetimes, StandingSettings};
use poolwright::control::{Clock, ManualClock};
use serde_json::json;

use crate::cluster_support::*;
use crate::fake_kube::FakeKube;

fn advance(clock: &Arc<ManualClock>, seconds: f64) {
    clock.set(clock.now_seconds() + seconds);
}

#[tokio::test]
async fn two_replicas_starting_together_make_one_authority() {
    for _ in 0..5 {
        let (fake, clock) = (FakeKube::start().await, clock());
        register(&fake, "poolwright-system", "poolwright");
        let mut one = Replica::new(&fake, settings(), &clock);
        let mut two = Replica::new(&fake, settings(), &clock);
        tokio::join!(one.settle(), two.settle());
        tokio::join!(one.settle(), two.settle());
        assert_eq!(one.shown(), two.shown());
        assert_eq!(bundle(&fake).len(), 1, "one authority");
        assert!(verifies(&bundle(&fake), &one.shown(), clock.now_seconds()));
        let secret = fake.get(SECRETS, SECRET).unwrap();
        assert_eq!(secret["type"], "Opaque");
        for key in ["ca.crt", "ca.key", "tls.crt", "tls.key"] {
            assert!(secret["data"][key].is_string(), "{key}");
        }
        let before = writes(&fake).len();
        tokio::join!(one.settle(), two.settle());
        assert_eq!(writes(&fake).len(), before, "nothing is written when all is in step");
        assert_eq!(one.status().certificate.as_ref().unwrap().error, None);
    }
}

#[tokio::test]
async fn until_the_first_certificate_is_there_the_listener_is_not_ready() {
    let (fake, clock) = (FakeKube::start().await, clock());
    fake.fail("/", Some(StatusCode::INTERNAL_SERVER_ERROR));
    let mut replica = Replica::new(&fake, settings(), &clock);
    replica.settle().await;
    assert!(replica.tls.is_expiring(clock.now_seconds()));
    let error = replica.status().certificate.clone().unwrap().error.unwrap();
    assert!(error.contains("the Secret poolwright-tls cannot be read"), "{error}");
    fake.fail("/", None);
    replica.settle().await;
    assert!(!replica.tls.is_expiring(clock.now_seconds()));
    assert_eq!(replica.tls.expires_at_seconds(), clock.now_seconds() + 24.0 * HOUR);
}

/// Three lives of an authority, two replicas that look at different times: the `caBundle` verifies what each shows,
/// before and after every look, and also as it was before the last look.
#[tokio::test]
async fn the_bundle_verifies_both_replicas_through_all_rotations() {
    let (fake, clock) = (FakeKube::start().await, clock());
    register(&fake, "poolwright-system", "poolwright");
    let mut replicas = [Replica::new(&fake, settings(), &clock), Replica::new(&fake, settings(), &clock)];
    for replica in &mut replicas {
        replica.settle().await;
    }
    let (mut leaves, mut authorities, mut two_at_once) = (vec![], vec![], 0);
    for step in 0..300_usize {
        let before = bundle(&fake);
        advance(&clock, HOUR);
        // Not always one after the other: each in turn, with some looks left out.
        for which in [step % 2, (step / 3) % 2] {
            replicas[which].standing.look().await;
            let now = bundle(&fake);
            for replica in &replicas {
                let shown = replica.shown();
                assert!(verifies(&now, &shown, clock.now_seconds()), "step {step}");
                assert!(verifies(&before, &shown, clock.now_seconds()), "step {step}: a slow kube-apiserver");
            }
            leaves.extend([replicas[which].shown()].into_iter().filter(|l| !leaves.contains(l)).collect::<Vec<_>>());
            authorities.extend(now.iter().filter(|a| !authorities.contains(*a)).cloned().collect::<Vec<_>>());
            two_at_once = two_at_once.max(now.len());
        }
    }
    assert!(leaves.len() >= 15, "{} certificates in 300 hours", leaves.len());
    assert_eq!((authorities.len(), two_at_once), (5, 2), "one each 64 hours, two while one follows the other");
    let secret_writes = writes(&fake).iter().filter(|w| w.contains(SECRET)).count();
    assert!(secret_writes < 40, "{secret_writes} writes of the Secret");
}

#[tokio::test]
async fn a_deleted_secret_is_made_anew_and_nobody_is_cut_off() {
    let (fake, clock) = (FakeKube::start().await, clock());
    register(&fake, "poolwright-system", "poolwright");
    let mut replica = Replica::new(&fake, settings(), &clock);
    replica.settle().await;
    let old = replica.shown();
    fake.remove(SECRETS, SECRET);
    replica.settle().await;
    assert_eq!(replica.shown(), old, "the new authority has to be trusted first");
    assert_eq!(bundle(&fake).len(), 2);
    let mut late = Replica::new(&fake, settings(), &clock);
    late.settle().await;
    assert!(late.tls.is_expiring(clock.now_seconds()), "a new replica waits too and is not ready");
    advance(&clock, 61.0);
    replica.settle().await;
    late.settle().await;
    assert_ne!(replica.shown(), old);
    assert_eq!(replica.shown(), late.shown());
    assert!(verifies(&bundle(&fake), &replica.shown(), clock.now_seconds()));
}

#[tokio::test]
async fn a_half_written_secret_is_repaired_and_the_old_certificate_served_meanwhile() {
    let (fake, clock) = (FakeKube::start().await, clock());
    register(&fake, "poolwright-system", "poolwright");
    let mut replica = Replica::new(&fake, settings(), &clock);
    replica.settle().await;
    for (key, value) in [
        ("tls.key", json!("bm8ga2V5")),
        ("tls.crt", json!("")),
        ("ca.key", json!("bm8ga2V5")),
        ("ca.crt", json!("LS0tLS1CRUdJTg==")),
        ("ca.key", json!(null)),
    ] {
        let mut secret = fake.get(SECRETS, SECRET).unwrap();
        secret["data"][key] = value.clone();
        fake.put(SECRETS, secret);
        for _ in 0..4 {
            replica.standing.look().await;
            assert!(verifies(&bundle(&fake), &replica.shown(), clock.now_seconds()), "{key} {value}");
        }
        advance(&clock, 300.0);
        for _ in 0..3 {
            replica.settle().await;
            assert!(verifies(&bundle(&fake), &replica.shown(), clock.now_seconds()), "{key} {value}");
        }
        let data = fake.get(SECRETS, SECRET).unwrap()["data"].clone();
        assert_ne!(data[key], value, "{key} was repaired");
        assert_eq!(replica.status().certificate.clone().unwrap().error, None);
    }
}

#[tokio::test]
async fn a_secret_of_somebody_else_is_left_alone_and_an_empty_one_is_filled() {
    let (fake, clock) = (FakeKube::start().await, clock());
    let secret = |data| {
        json!({"apiVersion": "v1", "kind": "Secret", "data": data,
            "metadata": {"name": SECRET, "namespace": "poolwright-system"}})
    };
    fake.put(SECRETS, secret(json!({"password": "c2VjcmV0"})));
    let mut replica = Replica::new(&fake, settings(), &clock);
    replica.settle().await;
    assert_eq!(writes(&fake), Vec::<String>::new());
    let error = replica.status().certificate.clone().unwrap().error.unwrap();
    assert!(error.contains("left alone") && !error.contains("c2VjcmV0"), "{error}");
    fake.put(SECRETS, secret(json!({})));
    replica.settle().await;
    assert_eq!(writes(&fake), [format!("PUT {SECRETS}/{SECRET}")]);
    assert!(!replica.tls.is_expiring(clock.now_seconds()));
}

#[tokio::test]
async fn host_names_are_added_and_replicas_of_different_settings_do_not_fight() {
    let (fake, clock) = (FakeKube::start().await, clock());
    register(&fake, "poolwright-system", "poolwright");
    let with = |extra: &str| {
        let mut names = certificates().names;
        names.push(extra.to_owned());
        StandingSettings { certificates: Some(CertificateSettings { names, ..certificates() }), ..settings() }
    };
    let mut one = Replica::new(&fake, with("one.example"), &clock);
    let mut two = Replica::new(&fake, with("127.0.0.1"), &clock);
    one.settle().await;
    two.settle().await;
    one.settle().await;
    let before = writes(&fake).len();
    for _ in 0..3 {
        two.settle().await;
        one.settle().await;
    }
    assert_eq!(writes(&fake).len(), before);
    assert_eq!(one.shown(), two.shown());
    assert!(verifies(&bundle(&fake), &one.shown(), clock.now_seconds()));
}

#[tokio::test]
async fn a_bundle_that_somebody_keeps_emptying_is_written_ever_more_rarely() {
    let (fake, clock) = (FakeKube::start().await, clock());
    register(&fake, "poolwright-system", "poolwright");
    let mut replica = Replica::new(&fake, settings(), &clock);
    for _ in 0..600 {
        replica.settle().await;
        register(&fake, "poolwright-system", "poolwright");
        advance(&clock, 10.0);
    }
    let patches = writes(&fake).iter().filter(|w| w.starts_with("PATCH")).count();
    assert!((3..=8).contains(&patches), "{patches} patches in 100 minutes");
    let error = replica.status().certificate.clone().unwrap().error.unwrap();
    assert!(error.contains("keeps changing"), "{error}");
}

#[tokio::test]
async fn a_bundle_that_cert_manager_writes_is_not_touched() {
    let (fake, clock) = (FakeKube::start().await, clock());
    register(&fake, "poolwright-system", "poolwright");
    let mut object = api_service(&fake);
    object["metadata"]["annotations"] = json!({"cert-manager.io/inject-ca-from": "x/y"});
    fake.put(API_SERVICES, object);
    let mut replica = Replica::new(&fake, settings(), &clock);
    replica.settle().await;
    assert!(writes(&fake).iter().all(|w| !w.starts_with("PATCH")));
    let error = replica.status().certificate.clone().unwrap().error.unwrap();
    assert!(error.contains("cert-manager"), "{error}");
}

#[tokio::test]
async fn an_unverified_api_service_of_ours_becomes_verified() {
    let (fake, clock) = (FakeKube::start().await, clock());
    register(&fake, "poolwright-system", "poolwright");
    let mut object = api_service(&fake);
    object["spec"]["insecureSkipTLSVerify"] = json!(true);
    fake.put(API_SERVICES, object);
    let mut replica = Replica::new(&fake, settings(), &clock);
    replica.settle().await;
    let spec = &api_service(&fake)["spec"];
    assert_eq!(spec["insecureSkipTLSVerify"], false);
    assert_eq!(spec["versionPriority"], 100, "the rest stays");
    assert!(verifies(&bundle(&fake), &replica.shown(), clock.now_seconds()));
}

#[tokio::test]
async fn short_lives_rotate_too() {
    let (fake, clock) = (FakeKube::start().await, clock());
    register(&fake, "poolwright-system", "poolwright");
    let certificates = CertificateSettings { lifetimes: Lifetimes { leaf_seconds: 30.0 }, ..certificates() };
    let settings = StandingSettings { certificates: Some(certificates), ..settings() };
    let mut replica = Replica::new(&fake, settings, &clock);
    let mut seen = vec![];
    for step in 0..240 {
        replica.settle().await;
        assert!(verifies(&bundle(&fake), &replica.shown(), clock.now_seconds()), "second {step}");
        let newest = bundle(&fake)[0].clone();
        if !seen.contains(&newest) {
            seen.push(newest);
        }
        advance(&clock, 1.0);
    }
    assert!(seen.len() >= 3, "{} authorities in 240 s", seen.len());
}

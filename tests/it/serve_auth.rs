//! Who it is: front proxy, client certificates, tokens, nobody, in this order and judged per request.

use std::sync::Arc;

use axum::http::Method;
use poolwright::serve::auth::{Action, ReviewError, TokenVerdict, Trust};
use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::serve_auth_support::{Api, Ask, Ca, HPA, Shown, client_params, trust_data, user, values};
use crate::serve_support::{AT, EM};

#[tokio::test]
async fn nobody_is_anonymous_whatever_they_claim() {
    let api = Api::new();
    let answer = api.send(Ask::get(EM)).await;
    answer.status_error(403, "Forbidden");
    assert_eq!(api.reviews.last().user, user("system:anonymous", &["system:unauthenticated"]));
    let forged = Ask::get(&values()).header("x-remote-user", "admin").header("x-remote-group", "system:masters");
    api.send(forged).await.status_error(403, "Forbidden");
    assert_eq!(api.reviews.last().user, user("system:anonymous", &["system:unauthenticated"]));
}

#[tokio::test]
async fn health_is_free_and_what_is_below_it_is_not() {
    let api = Api::new();
    let stranger = Ca::new("somebody").client("stranger", "");
    for path in ["/healthz", "/livez", "/readyz"] {
        for ask in [Ask::get(path), Ask::get(path).with(&stranger), Ask::get(path).header("authorization", "Bearer x")]
        {
            let answer = api.send(ask).await;
            assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "ok"));
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
            assert!(answer.header("content-type").starts_with("text/plain"));
        }
    }
    assert_eq!((api.reviews.asked(), api.reviews.tokens.lock().unwrap().len()), (0, 0));
    let message = api.send(Ask::get("/readyz/x")).await.status_error(403, "Forbidden");
    assert_eq!(message, "forbidden: User \"system:anonymous\" cannot get path \"/readyz/x\"");
    for path in ["/%72eadyz", "/healthz/", "//healthz"] {
        assert_eq!(api.send(Ask::get(path)).await.status.as_u16(), 403, "{path}");
    }
}

#[tokio::test]
async fn the_front_proxy_names_users_with_everything_about_them() {
    let api = Api::new();
    let answer = api.send(api.proxied(EM, "system:kube-aggregator", &[])).await;
    assert_eq!(answer.status.as_u16(), 200);
    let question = api.reviews.last();
    assert_eq!(question.user, user("system:kube-aggregator", &["system:authenticated"]));
    assert_eq!(question.action, Action::Path { verb: "get".into(), path: EM.into() });

    let ask = api.proxied(&values(), "jane", &["a", "b"]);
    let ask = ask.header("x-remote-uid", "7").header("x-remote-extra-scopes%2Fa", "v").header("x-remote-extra-b", "w");
    assert_eq!(api.send(ask).await.status.as_u16(), 200);
    let jane = api.reviews.last().user;
    assert_eq!((jane.uid.as_str(), jane.groups.len()), ("7", 3));
    assert_eq!((&jane.extra["scopes/a"], &jane.extra["b"]), (&vec!["v".to_owned()], &vec!["w".to_owned()]));

    api.send(api.proxied(EM, "system:anonymous", &["system:unauthenticated"])).await.status_error(403, "Forbidden");
    assert_eq!(api.reviews.last().user, user("system:anonymous", &["system:unauthenticated"]));
    let unnamed = Ask::get(EM).with(&api.front.client("front-proxy-client", ""));
    // The certificate is not one of the clients' authority, so it proves nothing else.
    assert_eq!(api.send(unnamed).await.status.as_u16(), 401);
}

#[tokio::test]
async fn a_front_proxy_that_names_nobody_falls_to_what_else_proves_the_caller() {
    let api = Api::new();
    let mut data = trust_data(&api.front.pem(), "", &["front-proxy-client"]);
    data.remove("client-ca-file");
    api.trust(&data);
    let unnamed = || Ask::get(EM).with(&api.front.client("front-proxy-client", "")).header("x-remote-group", "g");
    api.send(unnamed()).await.status_error(403, "Forbidden");
    assert_eq!(api.reviews.last().user, user("system:anonymous", &["system:unauthenticated"]));
    api.reviews.answer_tokens(|_| Ok(TokenVerdict::Accepted(user("by-token", &[]))));
    assert_eq!(api.send(unnamed().header("authorization", "Bearer t")).await.status.as_u16(), 200);
    assert_eq!(api.reviews.last().user, user("by-token", &["system:authenticated"]));
}

#[tokio::test]
async fn a_client_certificate_is_its_own_user_and_headers_do_not_count() {
    let api = Api::new();
    let bob = api.clients.client("bob", "dev");
    let ask = Ask::get(EM).with(&bob).header("x-remote-user", "admin").header("x-remote-group", "system:masters");
    assert_eq!(api.send(ask).await.status.as_u16(), 200);
    let asked = api.reviews.last().user;
    assert_eq!((asked.name.as_str(), asked.groups), ("bob", vec!["dev".to_owned(), "system:authenticated".into()]));
    assert!(asked.extra["authentication.kubernetes.io/credential-id"][0].starts_with("X509SHA256="));
}

#[tokio::test]
async fn certificates_that_prove_nothing_are_refused() {
    let api = Api::new();
    let with = |change: &dyn Fn(&mut rcgen::CertificateParams)| {
        let mut params = client_params("front-proxy-client", "");
        change(&mut params);
        params
    };
    let own = |params: rcgen::CertificateParams| {
        let key = rcgen::KeyPair::generate().unwrap();
        Shown { chain: vec![params.self_signed(&key).unwrap().der().clone()], key: key.into() }
    };
    let cases = [
        ("a name not allowed", api.front.client("somebody", "")),
        ("expired", api.front.sign(with(&|p| p.not_after = date_time_ymd(2026, 11, 22)))),
        ("not yet valid", api.front.sign(with(&|p| p.not_before = date_time_ymd(2026, 11, 23)))),
        ("another authority", Ca::new("front-proxy-ca").client("front-proxy-client", "")),
        ("for servers", api.front.sign(with(&|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]))),
        ("self-signed", own(with(&|_| {}))),
        ("no certificate", Shown { chain: vec![CertificateDer::from(vec![1, 2, 3])], ..own(with(&|_| {})) }),
    ];
    for (why, shown) in cases {
        let answer = api.send(Ask::get(EM).with(&shown).header("x-remote-user", HPA)).await;
        assert_eq!(answer.status_error(401, "Unauthorized"), "Unauthorized", "{why}");
    }
    assert_eq!(api.reviews.asked(), 0);
}

#[tokio::test]
async fn one_proof_that_fails_does_not_stop_the_next() {
    let api = Api::new();
    let stranger = Ca::new("somebody").client("stranger", "");
    api.reviews.answer_tokens(|_| Ok(TokenVerdict::Accepted(user("by-token", &["system:masters"]))));
    let ask = Ask::get(EM).with(&stranger).header("authorization", "Bearer t");
    assert_eq!(api.send(ask).await.status.as_u16(), 200);
    assert_eq!(api.reviews.asked(), 0, "administrators are not asked about");
    api.send(api.proxied(EM, "root", &["system:masters"])).await;
    assert_eq!(api.reviews.asked(), 0);
}

#[tokio::test]
async fn the_front_proxy_wins_over_a_token_that_nobody_sees() {
    let api = Api::new();
    let ask = api.proxied(EM, HPA, &[]).header("authorization", "Bearer secret");
    assert_eq!(api.send(ask).await.status.as_u16(), 200);
    assert_eq!(api.reviews.last().user.name, HPA);
    assert!(api.reviews.tokens.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_empty_list_of_names_admits_all_and_a_shared_authority_is_reported() {
    let api = Api::new();
    api.trust(&trust_data(&api.front.pem(), &api.clients.pem(), &[]));
    let ask = || Ask::get(EM).with(&api.front.client("any", "")).header("x-remote-user", HPA);
    assert_eq!(api.send(ask()).await.status.as_u16(), 200);
    let state = api.daemon.state.clone().with_access_report(api.access.report());
    let metric = async || {
        let page = Ask::get("/metrics").send(&poolwright::serve::web_router(state.clone())).await.body;
        page.lines().find(|l| l.starts_with("poolwright_api_front_proxy_unguarded ")).map(str::to_owned)
    };
    assert_eq!(metric().await.as_deref(), Some("poolwright_api_front_proxy_unguarded 0.0"));
    let both = format!("{}{}", api.clients.pem(), api.front.pem());
    let shared = trust_data(&api.front.pem(), &both, &[]);
    api.trust(&shared);
    assert_eq!(api.send(ask()).await.status.as_u16(), 200);
    assert_eq!(metric().await.as_deref(), Some("poolwright_api_front_proxy_unguarded 1.0"));
    assert!(Trust::from_data(&shared).unwrap().warnings()[0].contains("can pose as any user"));
}

#[tokio::test]
async fn other_header_names_are_honoured() {
    let api = Api::new();
    let mut data = trust_data(&api.front.pem(), &api.clients.pem(), &["front-proxy-client"]);
    data.insert("requestheader-username-headers".into(), r#"["X-Custom-User","X-Other-User"]"#.into());
    api.trust(&data);
    let ask = api.proxied(EM, "ignored", &[]).header("x-custom-user", "").header("x-other-user", "jane");
    assert_eq!(api.send(ask).await.status.as_u16(), 200);
    assert_eq!(api.reviews.last().user.name, "jane");
}

#[tokio::test]
async fn a_uid_counts_only_where_the_cluster_names_its_header() {
    let api = Api::new();
    let mut data = trust_data(&api.front.pem(), &api.clients.pem(), &[]);
    data.remove("requestheader-uid-headers");
    api.trust(&data);
    api.send(api.proxied(EM, "jane", &[]).header("x-remote-uid", "forged")).await;
    assert_eq!(api.reviews.last().user.uid, "");
}

#[tokio::test]
async fn trust_changes_and_certificates_age_between_two_requests() {
    let api = Api::new();
    let (old, new) = (api.front.client("front-proxy-client", ""), Ca::new("next"));
    let renewed = new.client("front-proxy-client", "");
    let connection = |shown: &Shown| Ask::get(EM).with(shown).header("x-remote-user", HPA);
    let (first, second) = (connection(&old), connection(&renewed));
    let codes = async || {
        let (a, b) = (api.send(first.clone()).await, api.send(second.clone()).await);
        (a.status.as_u16(), b.status.as_u16())
    };
    assert_eq!(codes().await, (200, 401));
    let both = format!("{}{}", api.front.pem(), new.pem());
    api.trust(&trust_data(&both, &api.clients.pem(), &["front-proxy-client"]));
    assert_eq!(codes().await, (200, 200));
    api.trust(&trust_data(&new.pem(), &api.clients.pem(), &["front-proxy-client"]));
    assert_eq!(codes().await, (401, 200));
    // The month is over: 2026-12-01T00:00:01Z.
    api.clock().set(1_796_083_201.0);
    assert_eq!(codes().await, (401, 401));
    api.clock().set(1_796_083_200.0);
    assert_eq!(codes().await, (401, 200));
    api.trust.store(None);
    assert_eq!(codes().await, (401, 401), "nothing is known yet");
}

#[tokio::test]
async fn tokens_are_reviewed_once_and_errors_are_not_remembered() {
    let api = Api::new();
    let reviewed = || api.reviews.tokens.lock().unwrap().len();
    let ask = || Ask::get(EM).header("authorization", "Bearer good");
    api.reviews.answer_tokens(|token| match token {
        "good" => Ok(TokenVerdict::Accepted(user("sa", &["g"]))),
        "broken" => Err(ReviewError("down".into())),
        _ => Ok(TokenVerdict::Refused),
    });
    let answers = futures::future::join_all((0..100).map(|_| api.send(ask()))).await;
    assert!(answers.iter().all(|answer| answer.status.as_u16() == 200));
    assert_eq!(reviewed(), 1);
    api.clock().set(AT + 13.9);
    api.send(ask()).await;
    assert_eq!(reviewed(), 1);
    api.clock().set(AT + 14.0);
    api.send(ask()).await;
    assert_eq!(reviewed(), 2);
    assert_eq!(api.reviews.last().user, user("sa", &["g", "system:authenticated"]));
    for (token, reviews) in [("bad", 1), ("broken", 2)] {
        let before = reviewed();
        for _ in 0..2 {
            let ask = Ask::get(EM).header("authorization", &format!("Bearer {token}"));
            api.send(ask).await.status_error(401, "Unauthorized");
        }
        assert_eq!(reviewed() - before, reviews, "{token}");
    }
}

#[tokio::test]
async fn methods_are_judged_after_the_caller() {
    let api = Api::new();
    for (method, verb) in [("HEAD", "list"), ("POST", "create"), ("PUT", "update"), ("PATCH", "patch"), ("OPTIONS", "")]
    {
        let method: Method = method.parse().unwrap();
        let anonymous = api.send(Ask::get(&values()).method(method.clone())).await;
        assert_eq!(anonymous.status.as_u16(), 403, "{method}");
        let known = api.send(api.proxied(&values(), HPA, &[]).method(method.clone())).await;
        assert_eq!(known.status.as_u16(), 405, "{method}");
        let Action::Resource(action) = api.reviews.last().action else { panic!("a resource") };
        assert_eq!(action.verb, verb);
    }
}

/// A key of RSA as kubeadm makes them, several names, and shapes that the verifier refuses.
#[tokio::test]
async fn shapes_of_certificates() {
    let api = Api::new();
    // The files are valid from 2026-11-23 on, for a hundred years.
    api.clock().set(AT + 30.0 * 86_400.0);
    let authority = include_str!("../fixtures/certificates/ca.crt");
    api.trust(&trust_data(authority, authority, &["front-proxy-client"]));
    let shown = |pem: &str| {
        let key = rcgen::KeyPair::generate().unwrap().into();
        Arc::new(Shown { chain: vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()], key })
    };
    let proxy =
        Ask::get(EM).with(&shown(include_str!("../fixtures/certificates/proxy.crt"))).header("x-remote-user", HPA);
    assert_eq!(api.send(proxy).await.status.as_u16(), 200);
    let several = Ask::get(EM).with(&shown(include_str!("../fixtures/certificates/multi.crt")));
    assert_eq!(api.send(several).await.status.as_u16(), 200);
    let asked = api.reviews.last().user;
    assert_eq!((asked.name.as_str(), &asked.groups[..2]), ("last", &["dev".to_owned(), "ops".into()][..]));
    for refused in [include_str!("../fixtures/certificates/v1.crt"), include_str!("certificates/sha1.crt")] {
        let ask = Ask::get(EM).with(&shown(refused)).header("x-remote-user", HPA);
        assert_eq!(api.send(ask).await.status.as_u16(), 401);
    }
}

#[test]
fn unusable_settings_are_named() {
    let ca = Ca::new("ca").pem();
    for (key, value, expected) in [
        ("client-ca-file", "no pem", "client-ca-file: no usable PEM certificate"),
        ("requestheader-allowed-names", "x", "requestheader-allowed-names: not a JSON array of names"),
        ("requestheader-username-headers", r#"["a b"]"#, "\"a b\" is no header"),
    ] {
        let mut data = trust_data(&ca, &ca, &[]);
        data.insert(key.into(), value.into());
        let error = Trust::from_data(&data).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let nothing = Trust::from_data(&Default::default()).unwrap();
    assert!(nothing.warnings()[0].contains("every aggregated request is anonymous"));
}

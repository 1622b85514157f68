//! The dry run through the program where it cannot work: one clear line, the right exit code.

use std::process::Output;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};

use crate::prometheus_stage::policy_path;
use crate::prometheus_support::{poolwright, text_of};

/// The one line on standard error of a run that failed with `code` and printed nothing.
fn complaint(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}", text_of(output));
    assert!(output.stdout.is_empty(), "{}", text_of(output));
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "one line expected:\n{text}");
    text
}

async fn plan(url: &str, more: &[&str]) -> Output {
    let policy = policy_path();
    let arguments = ["plan", "--policy", policy.to_str().unwrap(), "--prometheus", url];
    poolwright(&[&arguments[..], more].concat()).await
}

#[tokio::test]
async fn a_wrong_address_is_one_line() {
    let line = complaint(&plan("http://127.0.0.1:1", &[]).await, 1);
    assert!(line.contains("http://127.0.0.1:1") && line.to_lowercase().contains("connect"), "{line}");
    let line = complaint(&plan("127.0.0.1:9090", &[]).await, 1);
    assert!(line.contains("127.0.0.1:9090") && line.contains("http://"), "{line}");
}

/// What Prometheus behind a proxy does: it answers those who know the token.
async fn guarded() -> String {
    let answer = async |headers: HeaderMap| match headers.get(header::AUTHORIZATION) {
        Some(value) if value == "Bearer right" => {
            let empty = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
            (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], empty)
        }
        _ => (StatusCode::UNAUTHORIZED, [(header::CONTENT_TYPE, "text/plain")], "unauthorized\n"),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_one_line_and_the_right_one_is_sent() {
    let url = guarded().await;
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    let with = ["--source-token-file", token.to_str().unwrap()];
    for arguments in [&[][..], &with[..]] {
        std::fs::write(&token, "wrong\n").unwrap();
        let line = complaint(&plan(&url, arguments).await, 1);
        assert!(line.contains("401") && line.contains(&url) && !line.contains("wrong"), "{line}");
    }
    std::fs::write(&token, "right\n").unwrap();
    let held = plan(&url, &with).await;
    assert_eq!(held.status.code(), Some(3), "nothing is known, everything is held: {}", text_of(&held));
}

#[tokio::test]
async fn a_broken_policy_names_file_and_line() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/policies/fail/keys.yaml");
    let output = poolwright(&["plan", "--policy", file, "--prometheus", "http://127.0.0.1:1"]).await;
    assert_eq!(output.status.code(), Some(2), "{}", text_of(&output));
    assert!(output.stdout.is_empty());
    let place = regex::Regex::new(r"^\S+keys\.yaml:\d+: \S").unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.lines().count() > 1 && text.lines().all(|line| place.is_match(line)), "{text}");
}

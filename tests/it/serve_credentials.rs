//! Credentials of the JSON API: what is accepted, what is asked for nothing, and how a secret is replaced.

use std::path::PathBuf;

use axum::http::Method;
use poolwright::serve::Credentials;

use crate::serve_support::{AT, Daemon, decision, published};

const POOL: &str = "/v1/namespaces/inference/pools/llama-a100";

/// Two files of secrets in a folder of their own.
struct Files {
    _folder: tempfile::TempDir,
    keys: PathBuf,
    tokens: PathBuf,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (keys, tokens) = (folder.path().join("keys"), folder.path().join("tokens"));
        std::fs::write(&keys, "first-key\n\n  second-key \r\n").unwrap();
        std::fs::write(&tokens, "the-token").unwrap();
        Self { _folder: folder, keys, tokens }
    }

    fn both(&self, metrics: bool) -> Daemon {
        let credentials = Credentials::from_files(Some(&self.keys), Some(&self.tokens), metrics).unwrap();
        Daemon::of(published(decision()), |state| state.with_credentials(credentials))
    }
}

async fn status(daemon: &Daemon, path: &str, headers: &[(&str, &str)]) -> u16 {
    daemon.ask(Method::GET, path, headers).await.status.as_u16()
}

#[tokio::test]
async fn a_key_or_a_token_opens_the_json_api() {
    let files = Files::new();
    let daemon = files.both(false);
    for headers in [
        &[("x-api-key", "first-key")][..],
        &[("X-API-KEY", "second-key")],
        &[("authorization", "Bearer the-token")],
        &[("authorization", "bearer  the-token ")],
        &[("x-api-key", "wrong"), ("authorization", "Bearer the-token")],
    ] {
        assert_eq!(status(&daemon, POOL, headers).await, 200, "{headers:?}");
    }
    for query in ["api_key=first-key", "a=b&api_key=second-key", "api_key=second%2Dkey"] {
        assert_eq!(status(&daemon, &format!("{POOL}?{query}"), &[]).await, 200, "{query}");
    }
}

#[tokio::test]
async fn anything_else_is_401_and_is_not_repeated() {
    let files = Files::new();
    let daemon = files.both(false);
    for headers in [
        &[][..],
        &[("x-api-key", "")],
        &[("x-api-key", "first-ke")],
        &[("x-api-key", "first-key2")],
        &[("x-api-key", "first-key\tsecond-key")],
        &[("x-api-key", "the-token")],
        &[("authorization", "first-key")],
        &[("authorization", "Bearer first-key")],
        &[("authorization", "Bearer ")],
        &[("authorization", "Basic the-token")],
        &[("cookie", "api_key=first-key")],
    ] {
        for path in [POOL, "/v1/decision", "/v1/pools", "/v1/history", "/v1/status", "/v1/namespaces/x/pools/y"] {
            let answer = daemon.ask(Method::GET, path, headers).await;
            assert_eq!(answer.status.as_u16(), 401, "{path} {headers:?}");
            assert_eq!(answer.json()["error"]["reason"], "unauthorized");
            assert!(answer.header("www-authenticate").starts_with("Bearer"));
            assert!(!answer.body.contains("first-key") && !answer.body.contains("desired"), "{}", answer.body);
        }
    }
    for query in ["api_key=", "api_key=wrong-secret", "API_KEY=first-key", "token=the-token"] {
        let answer = daemon.get(&format!("{POOL}?{query}")).await;
        assert!(answer.status.as_u16() == 401 && !answer.body.contains("wrong-secret"), "{query}");
    }
    let shown = format!("{:?}", Credentials::from_files(Some(&files.keys), None, false).unwrap());
    assert!(!shown.contains("first-key"), "{shown}");
}

#[tokio::test]
async fn health_the_page_and_metrics_ask_for_nothing_unless_told() {
    let files = Files::new();
    let open = files.both(false);
    for path in ["/", "/healthz", "/livez", "/readyz", "/metrics", "/apis"] {
        assert_eq!(status(&open, path, &[]).await, 200, "{path}");
    }
    let closed = files.both(true);
    assert_eq!(status(&closed, "/metrics", &[]).await, 401);
    assert_eq!(status(&closed, "/metrics", &[("authorization", "Bearer the-token")]).await, 200);
    assert_eq!(status(&closed, "/readyz", &[]).await, 200);
    assert!(Credentials::from_files(None, None, true).unwrap().is_none(), "nothing to ask for");
}

#[tokio::test]
async fn a_secret_is_replaced_without_a_moment_in_which_neither_works() {
    let files = Files::new();
    let daemon = files.both(false);
    let mut second = 0.0;
    let mut accepted = async |keys: [&str; 3]| {
        second += 2.0;
        daemon.clock.set(AT + second);
        let mut answers = Vec::new();
        for key in keys {
            answers.push(status(&daemon, POOL, &[("x-api-key", key)]).await == 200);
        }
        answers
    };
    let keys = ["first-key", "second-key", "third-key"];
    assert_eq!(accepted(keys).await, [true, true, false]);
    std::fs::write(&files.keys, "second-key\nthird-key\n").unwrap();
    assert_eq!(accepted(keys).await, [false, true, true]);
    std::fs::write(&files.keys, "third-key\n").unwrap();
    assert_eq!(accepted(keys).await, [false, false, true]);
    // What cannot be used changes nothing.
    std::fs::write(&files.keys, "\n \n").unwrap();
    assert_eq!(accepted(keys).await, [false, false, true]);
    std::fs::remove_file(&files.keys).unwrap();
    assert_eq!(accepted(keys).await, [false, false, true]);
    std::fs::write(&files.keys, "first-key\n").unwrap();
    assert_eq!(accepted(keys).await, [true, false, false]);
}

#[test]
fn files_without_a_secret_are_refused_by_name() {
    let files = Files::new();
    let error = |path: &PathBuf| Credentials::from_files(Some(path), None, false).unwrap_err().to_string();
    std::fs::write(&files.keys, " \n\n").unwrap();
    assert!(error(&files.keys).contains("keys: it holds no secret"));
    std::fs::remove_file(&files.keys).unwrap();
    assert!(error(&files.keys).contains("keys: No such file"));
}

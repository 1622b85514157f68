//! The web page: one file that carries its own style and script and reads the JSON API.

use axum::Router;
use axum::response::{Html, IntoResponse};
use axum::routing::get;

const PAGE: &str = include_str!("page/index.html");

/// Nothing from elsewhere is loaded, the page is framed by nobody and talks to its own origin only.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; \
                                       form-action 'none'; frame-ancestors 'none'";

pub fn routes() -> Router {
    Router::new().route("/", get(page))
}

async fn page() -> impl IntoResponse {
    let headers = [
        ("content-security-policy", CONTENT_SECURITY_POLICY),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-cache"),
    ];
    (headers, Html(PAGE))
}

//! What serving costs: real requests over TLS and HTTP/2 on loopback, at a fixed rate, to a server that has
//! one thread. `make bench-serve` prints the tables.
//!
//! Each figure stands beside the same load on a route that does nothing: the floor that TLS, HTTP/2, the
//! client and this machine set in the same run.

mod lists;
mod streams;
mod support;

fn main() {
    // `cargo test --benches` asks every benchmark to run; this one has nothing to test.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    lists::run();
    streams::run();
}

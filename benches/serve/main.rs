//! What serving costs: real requests over TLS and HTTP/2 on loopback, at a fixed rate, to a server that is a process
//! of its own with one thread. `make bench-serve` prints the tables.
//!
//! Client and server have a processor each where the machine has two: the one that asks again and again whether a
//! request is due would otherwise stand in the way of the one that answers.
//!
//! Each figure stands beside the same load on a route that does nothing: the floor that TLS, HTTP/2, the
//! client and this machine set in the same run. Memory and processor time are the server's alone.

mod affinity;
mod client;
mod fleet;
mod lists;
mod load;
mod server;
mod streams;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    // `cargo test --benches` asks every benchmark to run; this one has nothing to test.
    if arguments.iter().any(|argument| argument == "--test") {
        return;
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    if let Some(at) = arguments.iter().position(|argument| argument == server::SERVE) {
        return server::serve(&arguments[at + 1..]);
    }
    affinity::pin(affinity::CLIENT);
    // A word chooses one of the two.
    let wanted = |name: &str| {
        let named = |argument: &String| argument == "lists" || argument == "streams";
        !arguments.iter().any(named) || arguments.iter().any(|argument| argument == name)
    };
    if wanted("lists") {
        lists::run();
    }
    if wanted("streams") {
        streams::run();
    }
}

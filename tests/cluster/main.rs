//! Tests against a real control plane. Run by `make cluster-test`.
fn main() {}

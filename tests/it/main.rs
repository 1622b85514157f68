//! One binary for all integration tests.

mod observe_assemble; // judgement over readings
mod observe_dialect; // real metrics pages, read completely
mod observe_fake_prometheus; // a Prometheus for tests
mod observe_prometheus; // the Prometheus source
mod observe_scrape; // direct scrape against small HTTP servers
mod observe_support; // policies and pages for the tests of `observe`
mod observe_tls; // TLS towards Prometheus

//! The one integration binary; a file per subject.

mod cluster_trust; // the cluster's trust and reviews: followed, kept, asked with patience
mod decide; // the pure function: repeats, holds, keeps limits, survives nonsense
mod demo; // the demo: repeats, keeps its promises, plays every shipped policy
mod fake_kube; // a kube-apiserver for tests
mod house; // rules of the house that a compiler does not check
mod manifests_files; // the folder manifests/: what the verb prints
mod manifests_follow; // rendered HPAs reach every number in one sync
mod manifests_objects; // rendered objects: known fields, names, versions, rights
mod manifests_program; // the verb as a program
mod observe_assemble; // judgement over readings
mod observe_dialect; // real metrics pages, read completely
mod observe_fake_prometheus; // a Prometheus for tests
mod observe_prometheus; // the Prometheus source
mod observe_scrape; // direct scrape against small HTTP servers
mod observe_support; // policies and pages for the tests of `observe`
mod observe_tls; // TLS towards Prometheus
mod policy; // policy files: what loads, what is refused with which lines, what a reload does
mod prometheus_files; // dashboard and alert rules: whole, and about metrics that exist
mod prometheus_live; // a real Prometheus: same plan as by direct scrape, queries, dry run, its death
mod prometheus_plan; // the dry run against a Prometheus that does not answer
mod prometheus_stage; // a fleet in wall-clock time, a Prometheus and the daemon
mod prometheus_support; // starts and stops a Prometheus
mod serve_auth; // who it is: front proxy, certificates, tokens, nobody
mod serve_auth_access; // may they: questions, what is remembered, refusals, limits
mod serve_auth_support; // certificates and a cluster's answers for the tests of authentication
mod serve_external; // the external metrics API: discovery, data path, errors
mod serve_json; // health and the JSON API
mod serve_metrics; // the daemon's own metrics
mod serve_program; // the daemon as a program: starts, publishes, reloads, stops, comes back
mod serve_selector; // the selector parser against an independent evaluator
mod serve_server; // listeners, certificates, the orderly stop
mod serve_support; // a published snapshot to serve, and how to ask for it
mod simulate_engine; // one simulated replica against the performance model
mod simulate_fleet; // pools, stock, routing, accounts and determinism of the simulated fleet
mod simulate_http; // a simulated fleet over real HTTP: pages, discovery, readiness, the HPA follower
mod simulate_page; // the simulated metrics page against a real server's
mod simulate_policy; // the policy that the tests of the simulated fleet share
mod simulate_workload; // traces played as workloads

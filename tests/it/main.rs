//! The one integration binary; a file per subject.

mod capacity_program; // the verb `capacity` as a program: tables, JSON, what is refused
mod cluster_certificates; // self-made certificates: made once, shared, renewed, trusted before they are served
mod cluster_registration; // whose APIService it is: reported, never taken without being told to
mod cluster_support; // replicas of the daemon in a fake cluster, looked at step by step
mod cluster_trust; // the cluster's trust and reviews: followed, kept, asked with patience
mod decide; // the pure function: repeats, holds, keeps limits, survives nonsense
mod decide_limits; // budget, power, quotas, floors and schedules, work that may wait: kept, named
mod demo; // the demo: repeats, keeps its promises, plays every shipped policy
mod doctor_judge; // the check-up's judgement: each fault alone, with what to do
mod explain_decide; // reasons of a decision: they change nothing, hold what they say, and are made again
mod explain_program; // the verb `explain`: journal, demo, names, what is refused
mod fake_kube; // a kube-apiserver for tests
mod fit_formats; // benchmark files of every tool: what is read, what is refused with which line
mod fit_program; // `fit` as a program: table, profile, picture, exit codes
mod fit_vllm; // a profile of a real vLLM predicts runs that it has not seen
mod house; // rules of the house that a compiler does not check
mod live_decide; // servers that are not what the policy says: learnt, bounded, remembered, told
mod live_fleet; // the same with simulated servers in the whole loop
mod live_shown; // where a correction is shown: JSON, metrics
mod live_support; // a pool of wrongly described servers for these tests
mod manifests_arguments; // the Deployment's arguments against the program's own parser
mod manifests_files; // the folder manifests/: what the verb prints
mod manifests_follow; // rendered HPAs reach every number in one sync
mod manifests_objects; // rendered objects: known fields, names, versions, rights
mod manifests_program; // the verb as a program
mod observe_assemble; // judgement over readings
mod observe_cluster; // the cluster's state: pods and targets judged, and what the planner gets of it
mod observe_cluster_follow; // the check of HPAs and ScaledObjects
mod observe_cluster_watch; // the watches against a kube-apiserver: changes, faults, reload, one look
mod observe_dialect; // real metrics pages, read completely
mod observe_engines; // the dialects of other engines, by both ways
mod observe_fake_prometheus; // a Prometheus for tests
mod observe_limits; // limits from the arguments of pods, to the decision
mod observe_prometheus; // the Prometheus source
mod observe_scrape; // direct scrape against small HTTP servers
mod observe_support; // policies and pages for the tests of `observe`
mod observe_tls; // TLS towards Prometheus
mod perf_accuracy; // `poolwright accuracy`: achieved marks on the shipped points, refusals
mod perf_config; // the reader of config.json: real files, families, refusals, nonsense
mod perf_grid; // replicas, shapes and loads on which percentiles are checked
mod perf_percentiles; // percentiles against an iteration-by-iteration server
mod perf_stepper; // that server, for the test and the benchmark
mod perf_vectors; // published results of the queueing models
mod plan_instance; // planning problems in files: published optima, what is refused
mod plan_peers; // rules of other projects: the answers that their projects published
mod policy; // policy files: what loads, what is refused with which lines, what a reload does
mod policy_architecture; // the architecture in it: config.json, quantisation beside it, names that tell a format
mod policy_set; // values set beside it: where they go, what is refused
mod prometheus_files; // dashboard and alert rules: whole, and about metrics that exist
mod prometheus_live; // a real Prometheus: same plan as by direct scrape, queries, dry run, its death
mod prometheus_plan; // the dry run against a Prometheus that does not answer
mod prometheus_stage; // a fleet in wall-clock time, a Prometheus and the daemon
mod prometheus_support; // starts and stops a Prometheus
mod replay_gates; // what the benches of the gates rest on: policies, hopeless runs
mod serve_auth; // who it is: front proxy, certificates, tokens, nobody
mod serve_auth_access; // may they: questions, what is remembered, refusals, limits
mod serve_auth_program; // the daemon's own listener for kube-apiserver, as a program
mod serve_auth_support; // certificates and a cluster's answers for the tests of authentication
mod serve_connection; // how connections end: clients that neither leave nor read, floods
mod serve_credentials; // credentials of the JSON API
mod serve_encoding; // JSON, YAML and protobuf of lists, errors and discovery
mod serve_external; // the external metrics API: discovery, data path, errors
mod serve_hpa; // what an HPA makes of the answers
mod serve_json; // health and the JSON API
mod serve_keda; // KEDA's external scaler over a real socket: answers and refusals
mod serve_keda_streams; // what it pushes, when a stream ends, how many there may be
mod serve_keda_support; // KEDA's operator for tests
mod serve_keda_tls; // its certificates, namespaces in them, and the program's flags
mod serve_load; // many requests, requests without measure, clients that leave
mod serve_metrics; // the daemon's own metrics
mod serve_openapi; // OpenAPI documents as the aggregator and kubectl read them
mod serve_program; // the daemon as a program: starts, publishes, reloads, stops, comes back
mod serve_selector; // the selector parser against an independent evaluator
mod serve_server; // listeners, certificates, the orderly stop
mod serve_support; // a published snapshot to serve, and how to ask for it
mod serve_transport; // real connections to the protected API: certificates, endings, floods
mod serve_upstream; // metrics that are not ours, passed on to another server
mod simulate_chain; // the scenario of the whole-chain test, in virtual time
mod simulate_chain_support; // a cluster, HPA and the daemon around a fleet of given pods
mod simulate_engine; // one simulated replica against the performance model
mod simulate_faults; // what goes wrong in a replay on purpose, and that it is not made worse
mod simulate_fleet; // pools, stock, routing, accounts and determinism of the simulated fleet
mod simulate_http; // a simulated fleet over real HTTP: pages, discovery, readiness, the HPA follower
mod simulate_journal; // the daemon's journal as traffic, and what of it is refused
mod simulate_page; // the simulated metrics page against a real server's
mod simulate_pods; // pods that somebody else creates: life, requests, addresses
mod simulate_policy; // the policy that the tests of the simulated fleet share
mod simulate_program; // the verb `simulate` as a program: what it compares, repeats, refuses
mod simulate_reality;
mod simulate_report; // the report of a replay: its files, their figures, the same bytes
mod simulate_workload; // traces played as workloads
mod solve_program; // the verb `solve` as a program

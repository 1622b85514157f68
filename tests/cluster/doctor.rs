//! `poolwright doctor` as a program on the real control plane: silent where all is well, and each fault found alone.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use serde_json::{Value, json};

use crate::harness::hpa::{AVERAGE, DEPLOYMENT, Hpa, Status};
use crate::harness::published::Say;
use crate::harness::wait::{SOON, until, until_equal};
use crate::harness::{NAMESPACE, SERVICE, World};
use crate::prometheus_support::{Prometheus, installed, poolwright, text_of};

const POOLS: [&str; 2] = ["large", "small"];
const MOST: u32 = 12;

/// A metrics page for each pool, by name.
type Pages = Arc<Mutex<BTreeMap<String, String>>>;

/// An installation in one namespace in which nothing is wrong: two pools, their HPAs, their servers' pages and a
/// Prometheus that reads them.
struct Ward {
    namespace: &'static str,
    policy: PathBuf,
    pages: Pages,
    port: u16,
    /// Name of each pool's pod.
    pods: BTreeMap<&'static str, String>,
    /// Without one installed the pages are read directly.
    prometheus: Option<Prometheus>,
    /// Scrape jobs: a name and the pools that it reads.
    jobs: Pages,
}

impl Ward {
    async fn open(world: &mut World, namespace: &'static str) -> Self {
        world.namespace(namespace);
        for pool in POOLS {
            world.deployment(namespace, pool, 1);
            world.server.say(namespace, pool, Say::Number(1));
            hpa(namespace, pool).apply(&world.kubectl);
        }
        let policy = world.plane.folder().join(format!("{namespace}.yaml"));
        let pages = Pages::default();
        let jobs = Pages::default();
        let port = serve(pages.clone(), jobs.clone()).await;
        let mut ward = Self { namespace, policy, pages, port, pods: BTreeMap::new(), prometheus: None, jobs };
        ward.write_policy("");
        for pool in POOLS {
            ward.page(pool, 0.5);
            let pod = until("the pool's pod is there", SOON, async || {
                let args = ["get", "pods", "-n", namespace, "-l", &format!("app={pool}"), "-o", "name"];
                let name = world.kubectl.run(&args).out.trim().trim_start_matches("pod/").to_owned();
                if name.is_empty() { Err("none yet".into()) } else { Ok(name) }
            })
            .await;
            ward.pods.insert(pool, pod);
        }
        rights(world, &ward).await;
        until_equal("the API is available", "True Passed".to_owned(), || world.api_service_condition()).await;
        for pool in POOLS {
            Status::of(&world.client, namespace).wait_condition(pool, "ScalingActive", "True ValidMetricFound").await;
        }
        ward.scrape(&[("servers", &POOLS)]).await;
        ward
    }

    /// Write the policy; `series` goes into the pool `small`.
    fn write_policy(&self, series: &str) {
        let text = format!(
            r#"
apiVersion: poolwright.dev/v1alpha1
kind: Fleet
metadata: {{name: doctor}}
spec:
  accelerators:
    - {{name: H100, pricePerHour: 4.10, stock: {MOST}}}
    - {{name: L40S, pricePerHour: 1.15, stock: {MOST}}}
  classes:
    - {{name: interactive, priority: 10, percentile: 99, ttft: 2s, itl: 60ms}}
---
apiVersion: poolwright.dev/v1alpha1
kind: ServedModel
metadata: {{name: llama, namespace: {}}}
spec:
  model: meta-llama/Llama-3.1-8B-Instruct
  classes: [{{name: interactive}}]
  pools:
    - {{name: large, accelerator: H100, min: 0, mode: act}}
    - {{name: small, accelerator: L40S, min: 0, mode: act{series}}}
"#,
            self.namespace
        );
        std::fs::write(&self.policy, text).expect("a policy can be written");
    }

    /// What a pool's server prints.
    fn page(&self, pool: &str, kv_use: f64) {
        let labels = "engine=\"0\",model_name=\"meta-llama/Llama-3.1-8B-Instruct\"";
        let text = format!(
            "vllm:num_requests_running{{{labels}}} 4\nvllm:num_requests_waiting{{{labels}}} 0\n\
             vllm:kv_cache_usage_perc{{{labels}}} {kv_use}\n\
             vllm:request_success_total{{{labels},finished_reason=\"stop\"}} 100\n"
        );
        self.pages.lock().expect("nobody panics with the lock").insert(pool.to_owned(), text);
    }

    /// Read the pools by these jobs.
    async fn scrape(&mut self, jobs: &[(&str, &[&str])]) {
        let target = |job: &str, pool: &str| {
            let instance = format!("{job}-{pool}:8000");
            json!({"targets": [format!("127.0.0.1:{}", self.port)], "labels": {"namespace": self.namespace,
                "pod": self.pods[pool], "instance": instance, "__metrics_path__": format!("/{job}/{pool}")}})
        };
        let of = |job: &str, pools: &[&str]| pools.iter().map(|pool| target(job, pool)).collect::<Vec<_>>();
        let listed: Vec<Value> = jobs.iter().flat_map(|(job, pools)| of(job, pools)).collect();
        self.jobs.lock().expect("nobody panics with the lock").insert("sd".into(), json!(listed).to_string());
        if !installed() {
            return;
        }
        let config = jobs.iter().map(|(job, pools)| json!({"job_name": job, "static_configs": of(job, pools)}));
        self.prometheus = Some(Prometheus::start(config.collect()).await);
        self.wait_value("count(vllm:num_requests_running)", &listed.len().to_string()).await;
    }

    async fn wait_value(&self, query: &str, wanted: &str) {
        let Some(prometheus) = &self.prometheus else { return };
        until(query, SOON, async || {
            let seen = prometheus.query(query).await?;
            if seen.first().is_some_and(|s| s["value"][1] == wanted) { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await;
    }

    async fn run(&self, world: &World, output: &str) -> std::process::Output {
        let (policy, admin) = (self.policy.display().to_string(), world.plane.admin_kubeconfig().display().to_string());
        let sd = format!("http://127.0.0.1:{}/jobs/sd", self.port);
        let source = self.prometheus.as_ref().map_or(["--scrape-sd", &sd], |p| ["--prometheus", p.url()]);
        let mut args = vec!["doctor", "--policy", &policy, "--kubeconfig", &admin, "-o", output];
        args.extend(["--own-namespace", NAMESPACE, "--own-service", SERVICE]);
        args.extend(source);
        poolwright(&args).await
    }

    async fn is_healthy(&self, world: &World) {
        until("the check-up finds nothing", SOON, async || {
            let said = self.run(world, "table").await;
            let text = text_of(&said);
            let nothing = said.status.success() && said.stdout.starts_with(b"nothing found: ");
            if nothing && text.lines().count() == 2 { Ok(()) } else { Err(text) }
        })
        .await;
    }

    /// Wait until this is all that is wrong: kind, part of the object, part of the message.
    async fn finds(&self, world: &World, kind: &str, object: &str, message: &str) {
        until(&format!("the check-up finds {kind} alone"), SOON, async || {
            let said = self.run(world, "json").await;
            let report: Value = serde_json::from_slice(&said.stdout).map_err(|_| text_of(&said))?;
            let findings = report["findings"].as_array().cloned().unwrap_or_default();
            let wrong: Vec<&Value> = findings.iter().filter(|f| f["severity"] != "info").collect();
            let has =
                |finding: &Value, field: &str, part: &str| finding[field].as_str().is_some_and(|t| t.contains(part));
            match wrong.as_slice() {
                [one]
                    if one["kind"] == kind
                        && has(one, "object", object)
                        && has(one, "message", message)
                        && one["action"].as_str().is_some_and(|action| !action.is_empty())
                        && said.status.code() == Some(1) =>
                {
                    println!("  {}: {}\n    do: {}", one["object"], one["message"], one["action"]);
                    Ok(())
                }
                _ => Err(text_of(&said)),
            }
        })
        .await;
    }
}

fn hpa<'a>(namespace: &'a str, name: &'a str) -> Hpa<'a> {
    Hpa { namespace, name, target: DEPLOYMENT, max: MOST, tolerance: Some("0"), goal: AVERAGE }
}

/// The pages of the servers under any job's name, and the list of targets.
async fn serve(pages: Pages, jobs: Pages) -> u16 {
    let answer = |State((pages, jobs)): State<(Pages, Pages)>, Path((job, name)): Path<(String, String)>| async move {
        if job == "jobs" {
            let text = jobs.lock().expect("nobody panics with the lock").get(&name).cloned();
            return ([("content-type", "application/json")], text.unwrap_or_default());
        }
        let text = pages.lock().expect("nobody panics with the lock").get(&name).cloned();
        ([("content-type", "text/plain; version=0.0.4")], text.unwrap_or_default())
    };
    let app = Router::new().route("/{job}/{name}", get(answer)).with_state((pages, jobs));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move { axum::serve(listener, app).await });
    port
}

/// The roles and bindings that the manifests give the daemon; nothing that runs.
async fn rights(world: &World, ward: &Ward) {
    let policy = ward.policy.display().to_string();
    let said = poolwright(&["manifests", "--policy", &policy, "--part", "daemon,api", "-o", "json"]).await;
    let list: Value = serde_json::from_slice(&said.stdout).unwrap_or_else(|_| panic!("{}", text_of(&said)));
    let is_right = |object: &&Value| object["kind"].as_str().is_some_and(|kind| kind.contains("Role"));
    let items: Vec<Value> = list["items"].as_array().expect("a list").iter().filter(is_right).cloned().collect();
    world.kubectl.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string());
}

pub async fn nothing_is_found_where_nothing_is_wrong(world: &mut World) {
    let ward = Ward::open(world, "doctor-healthy").await;
    ward.is_healthy(world).await;
    world.forget_namespace(ward.namespace);
}

pub async fn scalers_that_do_not_follow_are_found(world: &mut World) {
    let ward = Ward::open(world, "doctor-scalers").await;
    ward.is_healthy(world).await;
    let good = hpa(ward.namespace, "large");
    let object = "HorizontalPodAutoscaler doctor-scalers/large";
    let (selector, max) = (", selector: {matchLabels: {pool: large}}", format!("maxReplicas: {MOST}"));
    let replaced = |from: &str, to: &str| {
        let yaml = good.yaml();
        assert!(yaml.contains(from), "{from} in {yaml}");
        yaml.replace(from, to)
    };
    let faults = [
        (Hpa { goal: r#"type: Value, value: "1""#, ..good }.yaml(), "scaler-metric", "target type Value"),
        (Hpa { tolerance: None, ..good }.yaml(), "scaler-tolerance", "tolerance 0.1 up and 0.1 down"),
        (replaced(&max, "maxReplicas: 7"), "scaler-limits", "maxReplicas is 7, the policy allows 12"),
        (replaced(selector, ""), "scaler-selector", "has no selector"),
    ];
    for (yaml, kind, message) in faults {
        world.kubectl.apply(&yaml);
        ward.finds(world, kind, object, message).await;
        // Replaced, not merged: what was removed must come back.
        good.apply(&world.kubectl);
    }
    world.kubectl.apply(&replaced("metadata: {name: large,", "metadata: {name: second,"));
    ward.finds(world, "two-scalers", object, "scale the same target").await;
    world.forget_namespace(ward.namespace);
}

pub async fn a_foreign_api_and_missing_rights_are_found(world: &mut World) {
    let ward = Ward::open(world, "doctor-rights").await;
    ward.is_healthy(world).await;
    let (api, theirs) = (
        "v1beta1.external.metrics.k8s.io",
        json!({"spec": {"service": {"namespace": "monitoring", "name": "prometheus-adapter"}}}).to_string(),
    );
    world.kubectl.ok(&["patch", "apiservice", api, "--type=merge", "--patch", &theirs]);
    ward.finds(world, "api-service-foreign", api, "monitoring/prometheus-adapter").await;
    world.register();
    until_equal("the API is ours again", "True Passed".to_owned(), || world.api_service_condition()).await;
    ward.is_healthy(world).await;

    // One is the harness's own, the other one that of the manifests.
    let readers = ["poolwright-auth-reader", "poolwright-authentication-reader"];
    let kept = readers.map(|name| {
        let yaml = world.kubectl.ok(&["get", "rolebinding", name, "-n", "kube-system", "-o", "json"]);
        world.kubectl.ok(&["delete", "rolebinding", name, "-n", "kube-system"]);
        let object: Value = serde_json::from_str(&yaml).expect("kubectl writes JSON");
        json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "roleRef": object["roleRef"],
            "subjects": object["subjects"], "metadata": {"name": name, "namespace": "kube-system"}})
    });
    let binding = "RoleBinding kube-system/poolwright-authentication-reader";
    ward.finds(world, "right-missing", binding, "configmaps extension-apiserver-authentication").await;
    kept.iter().for_each(|object| world.kubectl.apply(&object.to_string()));
    ward.is_healthy(world).await;
    world.forget_namespace(ward.namespace);
}

pub async fn wrong_series_are_found(world: &mut World) {
    let mut ward = Ward::open(world, "doctor-series").await;
    ward.is_healthy(world).await;
    ward.write_policy(", series: {matches: {pod: \"other-.*\"}}");
    ward.finds(world, "no-series", "pool doctor-series/small", "match no pool").await;
    ward.write_policy("");

    ward.page("large", 73.0);
    ward.wait_value("max(vllm:kv_cache_usage_perc)", "73").await;
    ward.finds(world, "implausible", "doctor-series/large-", "looks like percent: 73").await;
    ward.page("large", 0.5);
    ward.wait_value("max(vllm:kv_cache_usage_perc)", "0.5").await;

    ward.scrape(&[("servers", &POOLS), ("again", &["large"])]).await;
    ward.finds(world, "duplicate-series", "doctor-series/large-", "is measured twice").await;
    world.forget_namespace(ward.namespace);
}

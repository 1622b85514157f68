//! A Prometheus small enough for tests: it knows the handful of query forms that the source sends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use crate::observe_support::{MODEL, NOW};

/// One stored series.
#[derive(Clone, Debug)]
pub struct Series {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub samples: Vec<(f64, f64)>,
    /// Its target failed or went away: instant queries do not show it.
    pub ended: bool,
}

#[derive(Default)]
pub struct Store {
    pub series: Vec<Series>,
    /// Answers that replace the proper one where the query contains the text.
    pub faults: Vec<(String, ResponseTemplate)>,
    pub warnings: Vec<String>,
    /// How far the server's clock is ahead of the test's, seconds.
    pub clock_ahead_seconds: f64,
    /// Parameters of the requests so far.
    pub requests: Vec<BTreeMap<String, String>>,
}

#[derive(Clone)]
pub struct FakePrometheus {
    pub server: Arc<MockServer>,
    store: Arc<Mutex<Store>>,
}

/// Labels of a pod's target, the model's series or not.
pub fn target(pod: &str, further: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<String, String> =
        further.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    for (name, value) in
        [("namespace", "inference"), ("pod", pod), ("job", "vllm"), ("instance", &format!("{pod}:8000"))]
    {
        labels.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }
    labels
}

impl FakePrometheus {
    pub async fn start() -> Self {
        let fake = Self { server: Arc::new(MockServer::start().await), store: Arc::default() };
        let responder = Responder(Arc::clone(&fake.store));
        Mock::given(any()).respond_with(responder).mount(&fake.server).await;
        fake
    }

    pub fn change<T>(&self, change: impl FnOnce(&mut Store) -> T) -> T {
        change(&mut self.store.lock().unwrap())
    }

    pub fn add(&self, name: &str, labels: BTreeMap<String, String>, samples: &[(f64, f64)]) {
        let series = Series { name: name.to_owned(), labels, samples: samples.to_vec(), ended: false };
        self.change(|store| store.series.push(series));
    }

    /// A server with one engine whose counter of finished requests has these samples (seconds before [`NOW`], count).
    pub fn serve(&self, pod: &str, finished: &[(f64, f64)], running: f64, waiting: f64) {
        let samples = |of: &dyn Fn(f64) -> f64| finished.iter().map(|(ago, n)| (NOW - ago, of(*n))).collect::<Vec<_>>();
        let engine = [("engine", "0"), ("model_name", MODEL)];
        let with = |further: &[(&str, &str)]| target(pod, &[&engine[..], further].concat());
        self.add("vllm:num_requests_running", with(&[]), &samples(&|_| running));
        self.add("vllm:num_requests_waiting", with(&[]), &samples(&|_| waiting));
        self.add("vllm:kv_cache_usage_perc", with(&[]), &samples(&|_| 0.5));
        self.add("vllm:request_success_total", with(&[("finished_reason", "stop")]), &samples(&|n| n));
        self.add("vllm:request_success_total", with(&[("finished_reason", "abort")]), &samples(&|_| 0.0));
        self.add("vllm:time_to_first_token_seconds_bucket", with(&[("le", "0.25")]), &samples(&|n| n / 2.0));
        self.add("vllm:time_to_first_token_seconds_bucket", with(&[("le", "+Inf")]), &samples(&|n| n));
        self.add("vllm:time_to_first_token_seconds_sum", with(&[]), &samples(&|n| n * 0.3));
        let config = [("engine", "0"), ("num_gpu_blocks", "1000"), ("block_size", "16")];
        self.add("vllm:cache_config_info", target(pod, &config), &samples(&|_| 1.0));
        self.add("up", target(pod, &[]), &samples(&|_| 1.0));
    }
}

struct Responder(Arc<Mutex<Store>>);

impl Respond for Responder {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let body = String::from_utf8_lossy(&request.body);
        let parsed = reqwest::Url::parse(&format!("http://x/?{body}")).unwrap();
        let mut parameters: BTreeMap<String, String> = parsed.query_pairs().into_owned().collect();
        parameters.insert("path".into(), request.url.path().into());
        let query = parameters.get("query").cloned().unwrap_or_default();
        let mut store = self.0.lock().unwrap();
        store.requests.push(parameters);
        if let Some((_, fault)) = store.faults.iter().find(|(part, _)| query.contains(part.as_str())) {
            return fault.clone();
        }
        let (kind, result) = store.evaluate(&query);
        let mut answer = json!({"status": "success", "data": {"resultType": kind, "result": result}});
        if !store.warnings.is_empty() {
            answer["warnings"] = json!(store.warnings);
        }
        #[allow(clippy::cast_possible_truncation)]
        let date = chrono::DateTime::from_timestamp((NOW + store.clock_ahead_seconds) as i64, 0).unwrap();
        ResponseTemplate::new(200)
            .insert_header("date", date.format("%a, %d %b %Y %H:%M:%S GMT").to_string())
            .set_body_json(answer)
    }
}

impl Store {
    fn evaluate(&self, query: &str) -> (&'static str, Vec<Value>) {
        let named = |s: &&Series| query.contains(&s.name);
        let text = |value: f64| if value.is_nan() { "NaN".to_owned() } else { value.to_string() };
        if query.ends_with("ms]") {
            let series = self.series.iter().filter(named).map(|s| {
                let values: Vec<Value> = s
                    .samples
                    .iter()
                    .filter(|(time, _)| *time > NOW - 126.0 && *time <= NOW)
                    .map(|(time, value)| json!([time, text(*value)]))
                    .collect();
                let mut metric = s.labels.clone();
                metric.insert("__name__".into(), s.name.clone());
                json!({"metric": metric, "values": values})
            });
            return ("matrix", series.filter(|s| s["values"] != json!([])).collect());
        }
        let live = self.series.iter().filter(named).filter(|s| !s.ended);
        let vector =
            |labels: &BTreeMap<String, String>, value: f64| json!({"metric": labels, "value": [NOW, text(value)]});
        if let Some((left, right)) = query.split_once(" * ") {
            let of = |side: &str| live.clone().filter(|s| side.contains(&s.name)).collect::<Vec<_>>();
            let (left, right) = (of(left), of(right));
            let pairs = left.iter().flat_map(|a| right.iter().filter(|b| b.labels == a.labels).map(move |b| (a, b)));
            let product =
                |(a, b): (&&Series, &&Series)| Some(vector(&a.labels, a.samples.last()?.1 * b.samples.last()?.1));
            return ("vector", pairs.filter_map(product).collect());
        }
        if query.contains("increase(") {
            let mut sums: BTreeMap<BTreeMap<String, String>, f64> = BTreeMap::new();
            for s in live {
                let (Some(first), Some(last)) = (s.samples.first(), s.samples.last()) else { continue };
                let mut labels = s.labels.clone();
                labels.retain(|n, _| ["namespace", "model_name", "pod", "le"].contains(&n.as_str()));
                if s.name.ends_with("_sum") {
                    labels.insert("le".into(), "sum".into());
                }
                *sums.entry(labels).or_default() += last.1 - first.1;
            }
            return ("vector", sums.iter().map(|(labels, sum)| vector(labels, *sum)).collect());
        }
        let result = live.filter_map(|s| {
            let last = s.samples.last()?;
            let mut labels = s.labels.clone();
            if query.starts_with("timestamp(") {
                return Some(vector(&labels, last.0));
            }
            labels.insert("__name__".into(), s.name.clone());
            Some(vector(&labels, last.1))
        });
        ("vector", result.collect())
    }
}

//! A kube-apiserver for tests: objects of any kind in memory, with get, list, watch, create, replace, merge
//! patch and delete; reviews answered by the test; calls recorded; failures on request. No admission, no
//! defaults, no rights.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::sync::broadcast;

/// Answers a created review (TokenReview, SubjectAccessReview): its status, or a failure.
pub type Reviewer = Arc<dyn Fn(&Value) -> Result<Value, StatusCode> + Send + Sync>;

#[derive(Clone)]
pub struct FakeKube {
    inner: Arc<Mutex<Inner>>,
    pub url: String,
}

struct Inner {
    version: u64,
    /// By collection path and name: `/api/v1/namespaces/ns/pods` (or `/apis/apps/v1/...`) and `pod-0`.
    objects: BTreeMap<(String, String), Value>,
    history: Vec<(u64, String, Value)>,
    changes: broadcast::Sender<()>,
    reviewers: BTreeMap<String, Reviewer>,
    /// Path prefixes that answer this status.
    failing: BTreeMap<String, StatusCode>,
    calls: Vec<Call>,
}

/// One request that arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub method: String,
    /// With the query.
    pub path: String,
    pub body: Value,
    pub authorization: Option<String>,
}

impl FakeKube {
    /// Starts it on a free loopback port; it ends with the runtime.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let inner = Inner {
            version: 1,
            objects: BTreeMap::new(),
            history: Vec::new(),
            changes: broadcast::channel(64).0,
            reviewers: BTreeMap::new(),
            failing: BTreeMap::new(),
            calls: Vec::new(),
        };
        let fake = Self { inner: Arc::new(Mutex::new(inner)), url };
        let app = Router::new().fallback(answer).with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        fake
    }

    /// A client for it.
    pub fn client(&self) -> kube::Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut config = kube::Config::new(self.url.parse().unwrap());
        // As the program's own client: a failure is heard of at once.
        config.default_retry = false;
        kube::Client::try_from(config).unwrap()
    }

    /// Put an object at its collection's path, e.g. `/api/v1/namespaces/x/pods`; watchers hear of it.
    pub fn put(&self, collection: &str, object: Value) -> Value {
        self.lock().put(collection, object)
    }

    /// Remove an object; watchers hear of it.
    pub fn remove(&self, collection: &str, name: &str) -> Option<Value> {
        self.lock().remove(collection, name)
    }

    pub fn get(&self, collection: &str, name: &str) -> Option<Value> {
        self.lock().objects.get(&(collection.to_owned(), name.to_owned())).cloned()
    }

    /// Answer creations at this path (`/apis/authentication.k8s.io/v1/tokenreviews`) with this status.
    pub fn review(&self, path: &str, reviewer: impl Fn(&Value) -> Result<Value, StatusCode> + Send + Sync + 'static) {
        self.lock().reviewers.insert(path.to_owned(), Arc::new(reviewer));
    }

    /// Answer everything under this path with this status; `None` ends it. Running watches are not cut.
    pub fn fail(&self, prefix: &str, status: Option<StatusCode>) {
        let mut inner = self.lock();
        match status {
            Some(status) => inner.failing.insert(prefix.to_owned(), status),
            None => inner.failing.remove(prefix),
        };
    }

    /// End all open watches, as a restart or a broken connection does.
    pub fn cut_watches(&self) {
        self.lock().changes = broadcast::channel(64).0;
    }

    /// The requests so far whose path begins so.
    pub fn calls(&self, prefix: &str) -> Vec<Call> {
        self.lock().calls.iter().filter(|c| c.path.starts_with(prefix)).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }
}

impl Inner {
    fn put(&mut self, collection: &str, mut object: Value) -> Value {
        self.version += 1;
        let name = object["metadata"]["name"].as_str().expect("an object has a name").to_owned();
        let key = (collection.to_owned(), name.clone());
        let old = self.objects.get(&key);
        let uid = old.map_or_else(|| json!(format!("uid-{}", self.version)), |o| o["metadata"]["uid"].clone());
        object["metadata"]["uid"] = uid;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
        self.objects.insert(key, object.clone());
        self.tell(collection, kind, object.clone());
        object
    }

    fn remove(&mut self, collection: &str, name: &str) -> Option<Value> {
        let mut object = self.objects.remove(&(collection.to_owned(), name.to_owned()))?;
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.tell(collection, "DELETED", object.clone());
        Some(object)
    }

    fn tell(&mut self, collection: &str, kind: &str, object: Value) {
        self.history.push((self.version, collection.to_owned(), json!({"type": kind, "object": object})));
        let _ = self.changes.send(());
    }
}

/// Whether an object stored under `stored` is in the list of `asked`: the same collection, or the same of all
/// namespaces.
fn listed(stored: &str, asked: &str) -> bool {
    if stored == asked {
        return true;
    }
    let Some((prefix, rest)) = stored.split_once("/namespaces/") else { return false };
    rest.split_once('/').is_some_and(|(_, plural)| format!("{prefix}/{plural}") == asked)
}

/// Whether the query's `fieldSelector=metadata.name=…` and equality `labelSelector` admit it.
fn selected(object: &Value, query: &BTreeMap<String, String>) -> bool {
    let field = query.get("fieldSelector").and_then(|f| f.strip_prefix("metadata.name="));
    let by_name = field.is_none_or(|name| object["metadata"]["name"] == name);
    let labels = query.get("labelSelector").map_or("", String::as_str);
    by_name
        && labels
            .split(',')
            .filter_map(|l| l.split_once('='))
            .all(|(key, value)| object["metadata"]["labels"][key] == value)
}

async fn answer(State(fake): State<FakeKube>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, 16 << 20).await.unwrap_or_default();
    let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let path = parts.uri.path().trim_end_matches('/').to_owned();
    let query: BTreeMap<String, String> =
        form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let mut inner = fake.lock();
    inner.calls.push(Call {
        method: parts.method.to_string(),
        path: parts.uri.to_string(),
        body: body.clone(),
        authorization: parts.headers.get("authorization").and_then(|v| v.to_str().ok()).map(str::to_owned),
    });
    if let Some((_, &status)) = inner.failing.iter().find(|(prefix, _)| path.starts_with(prefix.as_str())) {
        return failure(status);
    }
    if parts.method == Method::POST {
        return create(inner, &path, body);
    }
    if parts.method == Method::GET {
        let (collection, name) = path.rsplit_once('/').unwrap_or_default();
        if let Some(object) = inner.objects.get(&(collection.to_owned(), name.to_owned())) {
            return axum::Json(object).into_response();
        }
        let is_collection = is_collection(&path);
        if is_collection && query.get("watch").is_some_and(|w| w != "false" && w != "0") {
            return watch(&fake, &inner, path, query);
        }
        return if is_collection { list(&inner, &path, &query) } else { failure(StatusCode::NOT_FOUND) };
    }
    change(inner, &parts.method, &path, body)
}

/// By the number of segments: `/api/v1[/namespaces/ns]/plural`, `/apis/group/version[/namespaces/ns]/plural`.
fn is_collection(path: &str) -> bool {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let rest = if segments[0] == "api" { &segments[2..] } else { segments.get(3..).unwrap_or_default() };
    rest.len() == 1 || (rest.len() == 3 && rest[0] == "namespaces")
}

fn create(mut inner: MutexGuard<'_, Inner>, path: &str, mut body: Value) -> Response {
    if let Some(reviewer) = inner.reviewers.get(path).cloned() {
        drop(inner);
        return match reviewer(&body) {
            Ok(status) => {
                body["status"] = status;
                (StatusCode::CREATED, axum::Json(body)).into_response()
            }
            Err(status) => failure(status),
        };
    }
    if body["metadata"]["name"].is_null() {
        let prefix = body["metadata"]["generateName"].as_str().unwrap_or("object-").to_owned();
        body["metadata"]["name"] = json!(format!("{prefix}{}", inner.version));
    }
    let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if inner.objects.contains_key(&(path.to_owned(), name)) {
        return failure(StatusCode::CONFLICT);
    }
    (StatusCode::CREATED, axum::Json(inner.put(path, body))).into_response()
}

fn change(mut inner: MutexGuard<'_, Inner>, method: &Method, path: &str, body: Value) -> Response {
    let path = path.strip_suffix("/status").unwrap_or(path);
    let (collection, name) = path.rsplit_once('/').unwrap_or_default();
    let stored = inner.objects.get(&(collection.to_owned(), name.to_owned())).cloned();
    match (method.as_str(), stored) {
        ("DELETE", Some(_)) => axum::Json(inner.remove(collection, name)).into_response(),
        ("PUT" | "PATCH", Some(old)) => {
            let expected = &body["metadata"]["resourceVersion"];
            if !expected.is_null() && *expected != old["metadata"]["resourceVersion"] {
                return failure(StatusCode::CONFLICT);
            }
            let mut new = if method == Method::PUT { json!({}) } else { old };
            merge(&mut new, &body);
            axum::Json(inner.put(collection, new)).into_response()
        }
        _ => failure(StatusCode::NOT_FOUND),
    }
}

/// JSON merge patch, RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}

fn list(inner: &Inner, path: &str, query: &BTreeMap<String, String>) -> Response {
    let items: Vec<&Value> = inner
        .objects
        .iter()
        .filter(|((collection, _), object)| listed(collection, path) && selected(object, query))
        .map(|(_, object)| object)
        .collect();
    let version = inner.version.to_string();
    axum::Json(json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": items}))
        .into_response()
}

fn watch(fake: &FakeKube, inner: &Inner, path: String, query: BTreeMap<String, String>) -> Response {
    let since: u64 = query.get("resourceVersion").and_then(|v| v.parse().ok()).unwrap_or(inner.version);
    let changes = inner.changes.subscribe();
    let fake = fake.clone();
    let state = (fake, changes, since, true);
    let lines = futures::stream::unfold(state, move |(fake, mut changes, since, first)| {
        let (path, query) = (path.clone(), query.clone());
        async move {
            if !first && matches!(changes.recv().await, Err(broadcast::error::RecvError::Closed)) {
                return None;
            }
            let mut text = String::new();
            let mut newest = since;
            for (version, collection, event) in &fake.lock().history {
                if *version > since && listed(collection, &path) && selected(&event["object"], &query) {
                    text += &format!("{event}\n");
                }
                newest = newest.max(*version);
            }
            Some((Ok::<_, Infallible>(Bytes::from(text)), (fake, changes, newest, false)))
        }
    });
    Response::new(Body::from_stream(lines.filter(|l| std::future::ready(!matches!(l, Ok(b) if b.is_empty())))))
}

fn failure(status: StatusCode) -> Response {
    let reason = match status.as_u16() {
        404 => "NotFound",
        409 => "Conflict",
        403 => "Forbidden",
        _ => "InternalError",
    };
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "reason": reason, "message": format!("the fake answers {status}"), "code": status.as_u16()});
    (status, axum::Json(body)).into_response()
}

/// The client really lists, watches, patches and hears of removals.
#[tokio::test]
async fn the_fake_speaks_to_the_real_client() {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::{Api, Patch, PatchParams, PostParams};
    use kube::runtime::{WatchStreamExt, watcher};

    let fake = FakeKube::start().await;
    let collection = "/api/v1/namespaces/kube-system/configmaps";
    let object = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "kube-system"}});
    fake.put(collection, object("first"));
    let api: Api<ConfigMap> = Api::namespaced(fake.client(), "kube-system");
    let mut seen =
        Box::pin(watcher(Api::<ConfigMap>::all(fake.client()), watcher::Config::default()).touched_objects());
    assert_eq!(seen.next().await.unwrap().unwrap().metadata.name.unwrap(), "first");
    let made = serde_json::from_value(object("second")).unwrap();
    api.create(&PostParams::default(), &made).await.unwrap();
    assert_eq!(seen.next().await.unwrap().unwrap().metadata.name.unwrap(), "second");
    api.patch("first", &PatchParams::default(), &Patch::Merge(json!({"data": {"a": "b"}}))).await.unwrap();
    assert_eq!(seen.next().await.unwrap().unwrap().data.unwrap()["a"], "b");
    fake.remove(collection, "second");
    assert_eq!(seen.next().await.unwrap().unwrap().metadata.name.unwrap(), "second");
    fake.fail(collection, Some(StatusCode::FORBIDDEN));
    assert!(matches!(api.get("first").await, Err(kube::Error::Api(status)) if status.code == 403));
    assert!(fake.calls(collection).iter().any(|c| c.method == "PATCH"));
}

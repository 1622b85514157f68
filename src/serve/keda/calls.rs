//! Counts of what KEDA asked and got, for `/metrics`. The labels come from the protocol, never from a caller.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use crate::serve::metrics::{Labels, Page};

/// Last part of the path; what is none of them counts as the last.
const METHODS: [&str; 8] =
    ["IsActive", "StreamIsActive", "GetMetricSpec", "GetMetrics", "StreamMetricSpec", "Check", "Watch", "other"];

/// Names of the gRPC codes 0 to 16.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Calls by method and code, and the streams that are open.
#[derive(Debug, Default)]
pub struct Calls {
    listening: AtomicBool,
    counts: [[AtomicU64; CODES.len()]; METHODS.len()],
    streams: AtomicUsize,
}

impl Calls {
    /// From now on the figures mean something.
    pub(super) fn listen(&self) {
        self.listening.store(true, Ordering::Relaxed);
    }

    /// Room for one more stream, if fewer than `most` are open; given back on drop.
    pub(super) fn open(self: &Arc<Self>, most: usize) -> Option<Open> {
        let more = |open: usize| (open < most).then_some(open + 1);
        self.streams.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Open(Arc::clone(self)))
    }

    /// Write the families, if anything listens for KEDA.
    pub fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        if !self.listening.load(Ordering::Relaxed) {
            return Ok(());
        }
        let help = "Calls of KEDA's external scaler protocol, by method and gRPC code; a stream counts when it opens.";
        let samples = self.counts.iter().zip(METHODS).flat_map(|(counts, method)| {
            counts.iter().zip(CODES).map(move |(count, code)| {
                let labels: Labels<'_> = vec![("method", method), ("code", code)];
                (labels, count.load(Ordering::Relaxed))
            })
        });
        page.counters("poolwright_keda_calls", help, samples.filter(|(_, count)| *count > 0))?;
        let open = self.streams.load(Ordering::Relaxed) as f64;
        page.gauge("poolwright_keda_open_streams", "Streams that KEDA holds open.", open)
    }
}

/// One open stream.
#[derive(Debug)]
pub(super) struct Open(Arc<Calls>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Count a call by its answer's code. An answer without one in its head is whole, or a stream that began.
pub(super) async fn count(State(calls): State<Arc<Calls>>, request: Request, next: Next) -> Response {
    let last = request.uri().path().rsplit('/').next().unwrap_or_default();
    let method = METHODS.iter().position(|known| *known == last).unwrap_or(METHODS.len() - 1);
    let response = next.run(request).await;
    let code = match response.headers().get("grpc-status") {
        // Only a panic answers without the protocol's own code.
        None if !response.status().is_success() => 13,
        None => 0,
        Some(code) => code.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(2),
    };
    if let Some(counter) = calls.counts[method].get(code) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
    response
}

//! One measured point: a load of one shape and the latencies it met. It knows no file format.

use serde::Serialize;

use super::super::Shape;

/// Where a point was read, for people who have to find it again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Origin {
    pub file: String,
    /// Place inside the file, e.g. `line 7` or `benchmarks[2]`; empty when the file is one point.
    pub place: String,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.place.as_str() {
            "" => f.write_str(&self.file),
            place => write!(f, "{}, {place}", self.file),
        }
    }
}

/// How the requests of a point came.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Load {
    /// A fixed number of clients, each of which sends its next request when the last is answered.
    Closed { concurrency: u32 },
    /// Requests come at a rate, whatever became of those before; burstiness 1 is Poisson, a smaller number comes in
    /// bursts (the shape of a gamma distribution).
    Open { rate: f64, burstiness: f64 },
    /// So many requests decode all the time and nothing is prefilled: the context length is the input.
    Decode { batch: f64 },
}

impl Load {
    /// Number that grows with the load, for points of the same kind.
    pub fn size(self) -> f64 {
        match self {
            Self::Closed { concurrency } => f64::from(concurrency),
            Self::Open { rate, .. } => rate,
            Self::Decode { batch } => batch,
        }
    }
}

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed { concurrency } => write!(f, "{concurrency} at a time"),
            Self::Open { rate, .. } => write!(f, "{rate:.4}/s"),
            Self::Decode { batch } => write!(f, "{batch:.0} decoding"),
        }
    }
}

/// A latency over the requests of a point, seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    pub mean_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p95_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_seconds: Option<f64>,
}

impl Latency {
    /// A mean of which nothing else is known.
    pub const fn mean(mean_seconds: f64) -> Self {
        Self { mean_seconds, p50_seconds: None, p95_seconds: None, p99_seconds: None }
    }
}

/// One measured point.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    pub origin: Origin,
    pub load: Load,
    /// Mean lengths, tokens.
    pub shape: Shape,
    /// Coefficient of variation of the prompt length; 0 when all are equal.
    pub input_spread: f64,
    /// Coefficient of variation of the output length.
    pub output_spread: f64,
    /// Time to the first token.
    pub ttft: Option<Latency>,
    /// Mean time between the output tokens of a request.
    pub itl: Option<Latency>,
    /// Mean time from sending a request to its last token, where nothing finer was measured, seconds.
    pub response_seconds: Option<f64>,
    pub duration_seconds: Option<f64>,
    pub completed: Option<u64>,
    /// The target under which the point was chosen, when the file says so.
    pub target: Option<String>,
}

/// Mean lengths that differ by less than this are one shape: random prompts do not all have the same length.
const SAME_SHAPE: f64 = 1.03;

/// The shapes among the points in order of appearance, and which of them each point has.
pub fn shapes(points: &[Point]) -> (Vec<Shape>, Vec<usize>) {
    let near = |a: f64, b: f64| a < SAME_SHAPE * b && b < SAME_SHAPE * a;
    let mut all: Vec<Shape> = Vec::new();
    let of = points.iter().map(|p| {
        let (l, k) = (p.shape.input_tokens, p.shape.output_tokens);
        let known = all.iter().position(|s| near(s.input_tokens, l) && near(s.output_tokens, k));
        known.unwrap_or_else(|| {
            all.push(p.shape);
            all.len() - 1
        })
    });
    let of = of.collect();
    (all, of)
}

impl Point {
    /// A closed-loop point with means only.
    pub fn closed(origin: Origin, concurrency: u32, shape: Shape, ttft_seconds: f64, itl_seconds: f64) -> Self {
        Self::new(origin, Load::Closed { concurrency }, shape).with(Some(ttft_seconds), Some(itl_seconds))
    }

    /// A point without any latency yet.
    pub fn new(origin: Origin, load: Load, shape: Shape) -> Self {
        Self {
            origin,
            load,
            shape,
            input_spread: 0.0,
            output_spread: 0.0,
            ttft: None,
            itl: None,
            response_seconds: None,
            duration_seconds: None,
            completed: None,
            target: None,
        }
    }

    /// The same point with mean latencies.
    pub fn with(mut self, ttft_seconds: Option<f64>, itl_seconds: Option<f64>) -> Self {
        self.ttft = ttft_seconds.map(Latency::mean);
        self.itl = itl_seconds.map(Latency::mean);
        self
    }

    /// Requests finished per second, where the file says so.
    pub fn served_rate(&self) -> Option<f64> {
        Some(self.completed? as f64 / self.duration_seconds.filter(|d| *d > 0.0)?)
    }

    /// KV tokens in use with everything in execution, and with every answer complete.
    pub fn kv_demand(&self) -> Option<(f64, f64)> {
        let (l, k) = (self.shape.input_tokens, self.shape.output_tokens);
        match self.load {
            Load::Closed { concurrency } => {
                Some((f64::from(concurrency) * (l + k / 2.0), f64::from(concurrency) * (l + k)))
            }
            Load::Decode { batch } => Some((batch * l, batch * l)),
            Load::Open { .. } => None,
        }
    }

    /// What is wrong with the numbers themselves.
    pub fn fault(&self) -> Option<String> {
        let positive = |name: &str, value: f64| {
            (!value.is_finite() || value <= 0.0).then(|| format!("{name} is {value}, which is not above zero"))
        };
        let latency = |name: &str, l: Option<Latency>| l.and_then(|l| positive(name, l.mean_seconds));
        positive("the load", self.load.size())
            .or_else(|| positive("the prompt length", self.shape.input_tokens))
            .or_else(|| positive("the output length", self.shape.output_tokens))
            .or_else(|| latency("the mean TTFT", self.ttft))
            .or_else(|| latency("the mean ITL", self.itl))
            .or_else(|| self.response_seconds.and_then(|s| positive("the mean response time", s)))
            .or_else(|| {
                (self.ttft.is_none() && self.itl.is_none() && self.response_seconds.is_none())
                    .then(|| "it holds no latency".to_owned())
            })
    }
}

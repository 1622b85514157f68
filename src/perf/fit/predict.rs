//! The latencies that parameters predict for a measured point.

use super::super::queue::Chain;
use super::super::{Curve, Evidence, Experts, Limits, Parameters, Prompts, Quantiles, Replica, Service, Traffic};
use super::closed::{self, Clients, Run, SIZE, Server, Theta, Work, seconds};
use super::point::{Latency, Load, Point};

/// Names of the parameters, in the order of [`Work`].
pub const NAMES: [&str; SIZE] = ["alpha", "beta", "decode", "gamma", "experts", "attention", "overhead"];

/// Requests that may wait when the mean of an open loop is computed: a finite queue gives a finite answer above
/// saturation too.
const QUEUE: usize = 256;

pub fn to_array(p: &Parameters) -> Theta {
    [
        p.alpha_seconds,
        p.beta_seconds_per_token,
        p.decode_seconds_per_token,
        p.gamma_seconds_per_token,
        p.experts.all_seconds,
        p.prompts.attention_seconds_per_pair,
        p.prompts.overhead_seconds,
    ]
}

pub fn from_array(theta: &Theta, left_out: f64) -> Parameters {
    Parameters {
        alpha_seconds: theta[0],
        beta_seconds_per_token: theta[1],
        decode_seconds_per_token: theta[2],
        gamma_seconds_per_token: theta[3],
        experts: Experts { all_seconds: theta[4], left_out: if theta[4] > 0.0 { left_out } else { 0.0 } },
        prompts: Prompts { attention_seconds_per_pair: theta[5], overhead_seconds: theta[6] },
    }
}

/// Mean latencies, seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Means {
    pub ttft_seconds: f64,
    /// `None` where answers have one token.
    pub itl_seconds: Option<f64>,
}

/// A point made ready: what does not depend on the parameters is worked out once.
#[derive(Clone, Debug)]
pub enum Predictor {
    /// Times are weighted sums of the parameters.
    Linear { first: Work, rest: Option<Work> },
    /// Times come from the queue in front of the replica.
    Queue { service: Service, concurrency: u32, rate: f64, left_out: f64 },
}

impl Predictor {
    pub fn new(point: &Point, server: &Server) -> Self {
        match point.load {
            Load::Closed { .. } => {
                let (first, rest) = run(point, server).means();
                Self::Linear { first, rest }
            }
            Load::Decode { batch } => {
                let experts = if server.left_out > 0.0 { 1.0 - server.left_out.powf(batch) } else { 0.0 };
                let work = [1.0, 0.0, batch, batch * point.shape.input_tokens, experts, 0.0, 0.0];
                Self::Linear { first: work, rest: Some(work) }
            }
            Load::Open { rate, .. } => {
                let mean = point.shape.input_tokens + point.shape.output_tokens / 2.0;
                let fitting = (server.kv_tokens / mean).floor().clamp(1.0, 1e6) as u32;
                Self::Queue {
                    service: Service {
                        parameters: Parameters::uniform(1.0, 0.0, 0.0),
                        shape: point.shape,
                        token_budget: f64::from(server.limits.max_num_batched_tokens),
                    },
                    concurrency: fitting.min(server.limits.max_num_seqs.max(1)),
                    rate,
                    left_out: server.left_out,
                }
            }
        }
    }

    pub fn means(&self, theta: &Theta) -> Means {
        match self {
            Self::Linear { first, rest } => {
                Means { ttft_seconds: seconds(first, theta), itl_seconds: rest.as_ref().map(|r| seconds(r, theta)) }
            }
            Self::Queue { service, concurrency, rate, left_out } => {
                let mut parameters = from_array(theta, *left_out);
                // The queue knows tokens only; all prompts have one length, so pairs are tokens too.
                parameters.beta_seconds_per_token +=
                    0.5 * parameters.prompts.attention_seconds_per_pair * service.shape.input_tokens;
                let chain = Chain::new(Service { parameters, ..*service }, *concurrency);
                let state = chain.steady_state(*rate, QUEUE);
                let overhead = parameters.prompts.overhead_seconds;
                Means { ttft_seconds: state.ttft_seconds + overhead, itl_seconds: Some(state.itl_seconds) }
            }
        }
    }
}

fn run(point: &Point, server: &Server) -> Run {
    let concurrency = match point.load {
        Load::Closed { concurrency } => concurrency,
        Load::Open { .. } | Load::Decode { .. } => 1,
    };
    let clients = Clients {
        concurrency,
        shape: point.shape,
        input_spread: point.input_spread,
        output_spread: point.output_spread,
        requests: point.completed,
    };
    closed::run(&clients, server)
}

/// What a replica with these figures would have measured instead of `point`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Predicted {
    pub ttft: Latency,
    /// `None` where answers have one token.
    pub itl: Option<Latency>,
    /// Requests finished per second.
    pub throughput: f64,
}

/// Latencies of `point` at a replica with these figures; `None` when it could not keep up.
pub fn predict(point: &Point, parameters: &Parameters, limits: Limits, kv_tokens: f64) -> Option<Predicted> {
    let theta = to_array(parameters);
    let server = Server { limits, kv_tokens, left_out: parameters.experts.left_out };
    match point.load {
        Load::Closed { .. } => Some(of_run(&run(point, &server), &theta)),
        Load::Decode { batch } => {
            let means = Predictor::new(point, &server).means(&theta);
            let itl = means.itl_seconds?;
            Some(Predicted { ttft: Latency::mean(itl), itl: Some(Latency::mean(itl)), throughput: batch / itl })
        }
        Load::Open { rate, .. } => {
            let replica = Replica::new(*parameters, limits, kv_tokens, Evidence::Curve);
            let curve = Curve::new(&replica, &point.shape, &traffic(point))?;
            let moments = curve.moments(rate)?;
            let at = |quantile| curve.latencies(rate, quantile);
            let (p50, p95, p99) = (at(0.5)?, at(0.95)?, at(0.99)?);
            let latency = |mean, of: fn(&Quantiles) -> f64| Latency {
                mean_seconds: mean,
                p50_seconds: Some(of(&p50)),
                p95_seconds: Some(of(&p95)),
                p99_seconds: Some(of(&p99)),
            };
            Some(Predicted {
                ttft: latency(moments.ttft_mean_seconds(), |q| q.ttft_seconds),
                itl: (point.shape.output_tokens > 1.0).then(|| latency(moments.itl.mean, |q| q.itl_seconds)),
                throughput: rate,
            })
        }
    }
}

/// Arrivals and lengths of the measurement.
fn traffic(point: &Point) -> Traffic {
    let burstiness = match point.load {
        // The shape of the gaps' gamma distribution.
        Load::Open { burstiness, .. } => 1.0 / burstiness,
        Load::Closed { .. } | Load::Decode { .. } => 1.0,
    };
    Traffic { burstiness, input_cv: point.input_spread, output_cv: point.output_spread }
}

fn of_run(run: &Run, theta: &Theta) -> Predicted {
    let ttft = run.requests.iter().map(|r| seconds(&r.first, theta)).collect();
    let itl: Vec<f64> = run
        .requests
        .iter()
        .filter(|r| r.output_tokens > 1.0)
        .map(|r| seconds(&r.rest, theta) / (r.output_tokens - 1.0))
        .collect();
    Predicted {
        ttft: distribution(ttft),
        itl: (!itl.is_empty()).then(|| distribution(itl)),
        throughput: run.requests.len() as f64 / seconds(&run.total, theta),
    }
}

fn distribution(mut values: Vec<f64>) -> Latency {
    values.sort_by(f64::total_cmp);
    let at = |q: f64| values.get(((values.len() as f64 - 1.0) * q).round() as usize).copied();
    Latency {
        mean_seconds: values.iter().sum::<f64>() / values.len().max(1) as f64,
        p50_seconds: at(0.5),
        p95_seconds: at(0.95),
        p99_seconds: at(0.99),
    }
}

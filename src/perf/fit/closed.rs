//! What an engine does for a fixed number of clients: iteration by iteration, counted and not timed.
//!
//! In a closed loop the order of events does not depend on how long an iteration takes: a client's next request
//! reaches the engine while the iteration after its last answer is already running, and is seen by the one behind.
//! So one run of the scheduler tells how many iterations, prompt tokens, decoded tokens and KV reads lie between a
//! request and its first and its last token, and every time is a weighted sum of the parameters. The waves that
//! equal lengths make (all prompts at once, then all answers at once) come out by themselves; a formula of means
//! does not have them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::super::{Limits, Shape};

/// Number of parameters.
pub const SIZE: usize = 7;
/// The parameters as a vector, seconds.
pub type Theta = [f64; SIZE];
/// How often each parameter is paid: iterations, prompt tokens, decoded tokens, KV tokens read, experts read, pairs of
/// prompt tokens, requests that begin.
pub type Work = [f64; SIZE];

/// Requests a client sends when the measurement does not say how many there were: ten are usual.
const REQUESTS_PER_CLIENT: u64 = 10;
/// Most requests a client is followed for: later ones repeat the pattern.
const MOST_REQUESTS_PER_CLIENT: u64 = 12;

/// Clients and what they send.
#[derive(Clone, Copy, Debug)]
pub struct Clients {
    pub concurrency: u32,
    pub shape: Shape,
    pub input_spread: f64,
    pub output_spread: f64,
    /// Requests of the whole measurement.
    pub requests: Option<u64>,
}

/// What the server allows.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    pub limits: Limits,
    pub kv_tokens: f64,
    /// Share of the experts that one token leaves out, 0 for a dense model.
    pub left_out: f64,
}

/// Work from sending a request to its first token, and from there to its last.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub first: Work,
    pub rest: Work,
    pub output_tokens: f64,
}

/// A whole run.
#[derive(Clone, Debug)]
pub struct Run {
    pub requests: Vec<Request>,
    pub total: Work,
}

/// Weighted sum.
pub fn seconds(work: &Work, parameters: &Theta) -> f64 {
    work.iter().zip(parameters).map(|(w, p)| w * p).sum()
}

impl Run {
    /// Mean work to the first token, and per token after it; `None` for the latter when answers have one token.
    pub fn means(&self) -> (Work, Option<Work>) {
        let n = self.requests.len().max(1) as f64;
        let (mut first, mut rest) = ([0.0; SIZE], [0.0; SIZE]);
        let mut decoded = false;
        for request in &self.requests {
            add(&mut first, &request.first, 1.0 / n);
            let gaps = request.output_tokens - 1.0;
            if gaps > 0.0 {
                decoded = true;
                add(&mut rest, &request.rest, 1.0 / (n * gaps));
            }
        }
        (first, decoded.then_some(rest))
    }
}

fn add(sum: &mut Work, work: &Work, weight: f64) {
    for (s, w) in sum.iter_mut().zip(work) {
        *s += weight * w;
    }
}

/// Requests of the run, as lengths that fill their range evenly (uniform with the given spread) without chance.
fn lengths(clients: &Clients, index: usize) -> (f64, f64) {
    let spread_over = |mean: f64, spread: f64, step: f64| {
        let position = ((index as f64 + 0.5) * step).fract();
        (mean * (1.0 + spread * 3f64.sqrt() * (2.0 * position - 1.0))).round().max(1.0)
    };
    let shape = &clients.shape;
    (
        spread_over(shape.input_tokens, clients.input_spread, 0.618_033_988_749_895),
        spread_over(shape.output_tokens, clients.output_spread, 0.754_877_666_246_693),
    )
}

/// The scheduler's books.
struct Engine {
    server: Server,
    /// Highest number in execution that fits the KV memory.
    fitting: usize,
    now: Work,
    step: u64,
    /// Seen from the next iteration but one.
    arriving: Vec<usize>,
    waiting: VecDeque<usize>,
    /// Prompts being computed: request and tokens left.
    prefilling: VecDeque<(usize, f64)>,
    /// Requests that decode, by the step of their last token.
    decoding: BinaryHeap<Reverse<(u64, usize)>>,
    /// KV tokens of those that decode.
    kv: f64,
}

struct Flight {
    input: f64,
    output: f64,
    sent: Work,
    first: Work,
}

/// Runs `clients` against `server`.
pub fn run(clients: &Clients, server: &Server) -> Run {
    let concurrency = clients.concurrency.max(1) as usize;
    let wanted = clients.requests.unwrap_or(REQUESTS_PER_CLIENT * concurrency as u64);
    let total = wanted.clamp(concurrency as u64, MOST_REQUESTS_PER_CLIENT * concurrency as u64) as usize;
    let mean = clients.shape.input_tokens + clients.shape.output_tokens / 2.0;
    let mut engine = Engine {
        server: *server,
        fitting: (server.kv_tokens / mean).floor().clamp(1.0, 1e9) as usize,
        now: [0.0; SIZE],
        step: 0,
        arriving: Vec::new(),
        waiting: VecDeque::new(),
        prefilling: VecDeque::new(),
        decoding: BinaryHeap::new(),
        kv: 0.0,
    };
    let mut flights: Vec<Flight> = Vec::with_capacity(total);
    let mut done = Vec::with_capacity(total);
    let send = |flights: &mut Vec<Flight>, engine: &mut Engine| {
        if flights.len() < total {
            let (input, output) = lengths(clients, flights.len());
            engine.arriving.push(flights.len());
            flights.push(Flight { input, output, sent: engine.now, first: engine.now });
        }
    };
    for _ in 0..concurrency {
        send(&mut flights, &mut engine);
    }
    while done.len() < total {
        for index in engine.iterate(&mut flights) {
            let flight = &flights[index];
            let mut first = minus(&flight.first, &flight.sent);
            first[6] = 1.0;
            done.push(Request { first, rest: minus(&engine.now, &flight.first), output_tokens: flight.output });
            send(&mut flights, &mut engine);
        }
    }
    if concurrency == 1 {
        // Nobody else keeps the engine at work meanwhile.
        engine.now[6] = done.len() as f64;
    }
    Run { requests: done, total: engine.now }
}

fn minus(a: &Work, b: &Work) -> Work {
    std::array::from_fn(|i| a[i] - b[i])
}

impl Engine {
    /// One iteration, or as many equal ones as only decode; the requests that ended with it.
    fn iterate(&mut self, flights: &mut [Flight]) -> Vec<usize> {
        let running = self.prefilling.len() + self.decoding.len();
        if running == 0 && self.waiting.is_empty() && !self.arriving.is_empty() {
            // An idle engine starts with the first request that comes; the others find it at work.
            self.waiting.push_back(self.arriving.remove(0));
        }
        let batch = self.decoding.len() as f64;
        let chunks = self.schedule(flights);
        let prompt: f64 = chunks.iter().map(|(_, tokens, _)| tokens).sum();
        let prompt_kv: f64 = chunks.iter().map(|(_, _, end)| end).sum();
        let pairs: f64 = chunks.iter().map(|(_, tokens, end)| tokens * (end - 0.5 * tokens)).sum();
        let repeat = match self.decoding.peek() {
            Some(Reverse((last, _))) if chunks.is_empty() && self.arriving.is_empty() => {
                last.saturating_sub(self.step).max(1)
            }
            _ => 1,
        };
        let n = repeat as f64;
        let experts = if self.server.left_out > 0.0 { 1.0 - self.server.left_out.powf(prompt + batch) } else { 0.0 };
        let read = n * (self.kv + prompt_kv) + batch * n * (n - 1.0) / 2.0;
        add(&mut self.now, &[n, n * prompt, n * batch, read, n * experts, n * pairs, 0.0], 1.0);
        self.kv += batch * n;
        self.step += repeat;
        let mut ended = self.first_tokens(&chunks, flights);
        while let Some(Reverse((_, index))) = self.decoding.peek().copied().filter(|Reverse((l, _))| *l <= self.step) {
            self.decoding.pop();
            self.kv -= flights[index].input + flights[index].output;
            ended.push(index);
        }
        self.waiting.extend(self.arriving.drain(..));
        ended
    }

    /// Prompt tokens of the next iteration: (request, tokens, context at their end).
    fn schedule(&mut self, flights: &[Flight]) -> Vec<(usize, f64, f64)> {
        let mut budget = (f64::from(self.server.limits.max_num_batched_tokens) - self.decoding.len() as f64).max(1.0);
        let most = self.fitting.min(self.server.limits.max_num_seqs.max(1) as usize);
        let mut chunks = Vec::new();
        for (index, left) in &mut self.prefilling {
            if budget < 1.0 {
                break;
            }
            let tokens = left.min(budget);
            *left -= tokens;
            budget -= tokens;
            chunks.push((*index, tokens, flights[*index].input - *left));
        }
        while budget >= 1.0 && self.prefilling.len() + self.decoding.len() < most {
            let Some(index) = self.waiting.pop_front() else { break };
            let tokens = flights[index].input.min(budget);
            budget -= tokens;
            self.prefilling.push_back((index, flights[index].input - tokens));
            chunks.push((index, tokens, tokens));
        }
        chunks
    }

    /// Requests whose prompt is complete have their first token now; those of one token have ended.
    fn first_tokens(&mut self, chunks: &[(usize, f64, f64)], flights: &mut [Flight]) -> Vec<usize> {
        let mut ended = Vec::new();
        for (index, _, end) in chunks {
            let flight = &mut flights[*index];
            if *end < flight.input {
                continue;
            }
            flight.first = self.now;
            if flight.output <= 1.0 {
                ended.push(*index);
            } else {
                self.kv += flight.input + 1.0;
                self.decoding.push(Reverse((self.step + flight.output as u64 - 1, *index)));
            }
        }
        self.prefilling.retain(|(_, left)| *left > 0.0);
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Server =
        Server { limits: Limits { max_num_seqs: 256, max_num_batched_tokens: 2048 }, kv_tokens: 1e9, left_out: 0.0 };

    fn clients(concurrency: u32, input: f64, output: f64) -> Clients {
        Clients {
            concurrency,
            shape: Shape { input_tokens: input, output_tokens: output },
            input_spread: 0.0,
            output_spread: 0.0,
            requests: None,
        }
    }

    #[test]
    fn one_client_pays_its_own_prompt_and_its_own_tokens() {
        let (first, rest) = run(&clients(1, 100.0, 11.0), &OPEN).means();
        let close = |got: Work, wanted: Work| {
            assert!(
                got.iter().zip(wanted).all(|(g, w)| (g - w).abs() < 1e-9 * (1.0 + w)),
                "{got:?} against {wanted:?}"
            );
        };
        close(first, [1.0, 100.0, 0.0, 100.0, 0.0, 5000.0, 1.0]);
        // Contexts 101..110 are read for tokens 2..11.
        close(rest.unwrap(), [1.0, 0.0, 1.0, 105.5, 0.0, 0.0, 0.0]);
        let (long, none) = run(&clients(1, 5000.0, 1.0), &OPEN).means();
        close(long, [3.0, 5000.0, 0.0, 2048.0 + 4096.0 + 5000.0, 0.0, 12.5e6, 1.0]);
        assert_eq!(none, None);
    }

    #[test]
    fn every_token_is_computed_once_and_every_request_ends() {
        for (c, l, k, input_spread) in [(7, 300.0, 40.0, 0.0), (64, 1000.0, 5.0, 0.4), (33, 64.0, 1.0, 0.2)] {
            let clients = Clients { input_spread, output_spread: input_spread, ..clients(c, l, k) };
            let run = run(&clients, &OPEN);
            let n = run.requests.len();
            assert_eq!(n as u64, REQUESTS_PER_CLIENT * u64::from(c));
            let (input, output) =
                (0..n).map(|i| lengths(&clients, i)).fold((0.0, 0.0), |(a, b), (l, k)| (a + l, b + k));
            assert_eq!(run.total[1], input);
            assert_eq!(run.total[2], output - n as f64);
            assert!((input / n as f64 / l - 1.0).abs() < 0.05);
        }
    }

    /// Equal requests come in waves: the mean wait for the first token grows with the clients.
    #[test]
    fn prompts_of_a_wave_wait_for_each_other() {
        let of = |c| run(&clients(c, 256.0, 64.0), &OPEN).means().0[1];
        assert!(of(16) > 8.0 * of(1), "{} against {}", of(16), of(1));
    }

    #[test]
    fn a_full_memory_makes_requests_queue_and_freezes_the_batch() {
        let small = Server { kv_tokens: 8.0 * 1050.0, ..OPEN };
        let (open, tight) = (run(&clients(32, 1000.0, 100.0), &OPEN), run(&clients(32, 1000.0, 100.0), &small));
        assert!(tight.means().0[0] > 5.0 * open.means().0[0], "iterations to the first token");
        assert!(tight.means().1.unwrap()[3] < 9.0 * 1100.0, "KV reads per token");
    }
}

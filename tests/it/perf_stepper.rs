//! A continuous-batching server for tests, one iteration after the other, written for itself: it shares no
//! code with the model that it checks, nor with the simulated fleet.
//!
//! An iteration gives every decoding request one token and spends what is left of the token budget on prompts
//! in the order of their arrival; a request is admitted while sequences, budget and KV memory last. When the
//! decoding requests outgrow the memory, the youngest goes back to the queue and is computed again.

use std::collections::{BTreeMap, VecDeque};

use rand::SeedableRng;
use rand::distr::Distribution;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Gamma, LogNormal};

use poolwright::perf::{Limits, Parameters};

pub struct Server {
    pub parameters: Parameters,
    pub limits: Limits,
    pub kv_tokens: u64,
    /// Share of every prompt that the prefix cache spares.
    pub hit_ratio: f64,
}

/// Mean and coefficient of variation of a length; log-normal, equal lengths at 0.
#[derive(Clone, Copy)]
pub struct Length {
    pub mean: f64,
    pub cv: f64,
}

/// Arrivals with gamma-distributed gaps: `burstiness` is the squared coefficient of variation of the gaps and,
/// over long times, the index of dispersion of the counts.
pub struct Stream {
    pub rate: f64,
    pub burstiness: f64,
    pub input: Length,
    pub output: Length,
    pub requests: usize,
    pub seed: u64,
}

/// What one request saw, seconds; no ITL for an answer of one token.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    pub ttft: f64,
    pub itl: Option<f64>,
}

struct Request {
    arrival: f64,
    prompt: u64,
    computed_from_cache: u64,
    output: u64,
    /// Tokens to compute before the next one can be made.
    target: u64,
    prefilled: u64,
    produced: u64,
    since: u64,
    decoding: bool,
    first: Option<f64>,
    last: f64,
}

fn lengths(length: Length, rng: &mut ChaCha8Rng) -> u64 {
    if length.cv <= 0.0 {
        return length.mean.round().max(1.0) as u64;
    }
    let sigma2 = (1.0 + length.cv * length.cv).ln();
    let law = LogNormal::new(length.mean.ln() - sigma2 / 2.0, sigma2.sqrt()).unwrap();
    law.sample(rng).round().clamp(1.0, 20.0 * length.mean) as u64
}

fn draw(server: &Server, stream: &Stream) -> Vec<Request> {
    let mut rng = ChaCha8Rng::seed_from_u64(stream.seed);
    let shape = 1.0 / stream.burstiness;
    let gaps = Gamma::new(shape, 1.0 / (shape * stream.rate)).unwrap();
    let mut now = 0.0;
    (0..stream.requests)
        .map(|_| {
            now += gaps.sample(&mut rng);
            let prompt = lengths(stream.input, &mut rng);
            let cached = ((prompt as f64 * server.hit_ratio) as u64).min(prompt - 1);
            Request {
                arrival: now,
                prompt,
                computed_from_cache: cached,
                output: lengths(stream.output, &mut rng),
                target: prompt,
                prefilled: cached,
                produced: 0,
                since: 0,
                decoding: false,
                first: None,
                last: 0.0,
            }
        })
        .collect()
}

/// Serve the whole stream; what the requests saw in the order of arrival, without the first tenth.
pub fn serve(server: &Server, stream: &Stream) -> Vec<Served> {
    let mut run = Run {
        server,
        all: draw(server, stream),
        waiting: VecDeque::new(),
        running: vec![],
        ends: BTreeMap::new(),
        decoding: 0,
        context: 0,
        reserved: 0,
        iteration: 0,
        now: 0.0,
    };
    let (mut arrived, mut left) = (0, run.all.len());
    while left > 0 {
        while arrived < run.all.len() && run.all[arrived].arrival <= run.now {
            run.waiting.push_back(arrived);
            arrived += 1;
        }
        if run.waiting.is_empty() && run.running.is_empty() {
            run.now = run.all[arrived].arrival;
            continue;
        }
        left -= run.step();
    }
    let seen = run.all.iter().skip(stream.requests / 10);
    seen.map(|r| {
        let first = r.first.unwrap();
        Served { ttft: first - r.arrival, itl: (r.output > 1).then(|| (r.last - first) / (r.output - 1) as f64) }
    })
    .collect()
}

struct Run<'s> {
    server: &'s Server,
    all: Vec<Request>,
    waiting: VecDeque<usize>,
    /// In the order of admission.
    running: Vec<usize>,
    /// Iteration after which decoding requests are finished.
    ends: BTreeMap<u64, Vec<usize>>,
    decoding: u64,
    /// KV tokens of the decoding requests.
    context: u64,
    /// KV tokens held, or promised to prompts.
    reserved: u64,
    iteration: u64,
    now: f64,
}

impl Run<'_> {
    /// One iteration; how many requests it finished.
    fn step(&mut self) -> usize {
        let Limits { max_num_seqs, max_num_batched_tokens } = self.server.limits;
        let mut evicted = false;
        while self.reserved + self.decoding > self.server.kv_tokens && self.running.len() > 1 {
            self.evict();
            evicted = true;
        }
        let mut budget = u64::from(max_num_batched_tokens).saturating_sub(self.decoding);
        let (mut prompt_tokens, mut read) = (0, self.context + self.decoding);
        let mut chunks: Vec<usize> = vec![];
        let mut take = |request: &mut Request, id: usize, budget: &mut u64| {
            let tokens = (*budget).min(request.target - request.prefilled);
            if tokens > 0 {
                *budget -= tokens;
                request.prefilled += tokens;
                prompt_tokens += tokens;
                read += request.prefilled;
                chunks.push(id);
            }
        };
        for &id in &self.running {
            if !self.all[id].decoding {
                take(&mut self.all[id], id, &mut budget);
            }
        }
        while !evicted && budget > 0 && self.running.len() < max_num_seqs as usize {
            let Some(&id) = self.waiting.front() else { break };
            if self.reserved + self.all[id].target + self.decoding > self.server.kv_tokens {
                break;
            }
            self.waiting.pop_front();
            self.reserved += self.all[id].target;
            self.running.push(id);
            take(&mut self.all[id], id, &mut budget);
        }
        let p = &self.server.parameters;
        self.now += p.iteration_seconds(prompt_tokens as f64, self.decoding as f64, read as f64);
        self.finish(&chunks)
    }

    fn finish(&mut self, chunks: &[usize]) -> usize {
        self.iteration += 1;
        self.context += self.decoding;
        self.reserved += self.decoding;
        let mut done = self.ends.remove(&self.iteration).unwrap_or_default();
        for &id in &done {
            let r = &self.all[id];
            self.context -= r.target + (self.iteration - r.since);
            self.reserved -= r.target + (self.iteration - r.since);
            self.decoding -= 1;
        }
        for &id in chunks {
            let (now, iteration) = (self.now, self.iteration);
            let r = &mut self.all[id];
            if r.prefilled < r.target {
                continue;
            }
            r.first.get_or_insert(now);
            r.produced += 1;
            if r.produced >= r.output {
                self.reserved -= r.target;
                done.push(id);
                continue;
            }
            (r.decoding, r.since) = (true, iteration);
            self.decoding += 1;
            self.context += r.target;
            self.ends.entry(iteration + r.output - r.produced).or_default().push(id);
        }
        for &id in &done {
            self.all[id].last = self.now;
            self.running.retain(|r| *r != id);
        }
        done.len()
    }

    /// The youngest request gives its memory back.
    fn evict(&mut self) {
        let Some(id) = self.running.pop() else { return };
        let iteration = self.iteration;
        let r = &mut self.all[id];
        if r.decoding {
            let made = iteration - r.since;
            self.context -= r.target + made;
            self.reserved -= r.target + made;
            self.decoding -= 1;
            let end = r.since + r.output - r.produced;
            r.produced += made;
            if let Some(ids) = self.ends.get_mut(&end) {
                ids.retain(|other| *other != id);
            }
            r.target = r.prompt + r.produced;
        } else {
            self.reserved -= r.target;
        }
        r.decoding = false;
        r.prefilled = r.computed_from_cache;
        self.waiting.push_front(id);
    }
}

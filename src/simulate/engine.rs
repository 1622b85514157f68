//! One replica: a continuous-batching engine without a clock.
//!
//! Every iteration computes one token for each decoding request and spends the rest of its token budget
//! on prompt chunks; it lasts `alpha + beta x tokens computed + gamma x KV tokens read`. KV memory is
//! finite: a request is admitted only when its whole prompt fits, and when the decodes outgrow the memory
//! the latest request of the lowest priority is thrown out and computed again later. An iteration costs
//! constant time however many requests decode: their ends are known in advance as iteration numbers. As long as
//! requests only decode, nothing changes but the context, which grows evenly: such iterations are one step, whose
//! length is known in closed form. So the cost of a run grows with its requests, not with its iterations.

mod flight;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::meters::{Meter, Meters};
use super::workload::Request;
use crate::perf::{Limits, Parameters};
use flight::Flight;

/// What an engine is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EngineSpec {
    /// What the server really does, error included.
    pub parameters: Parameters,
    pub limits: Limits,
    /// KV memory, tokens.
    pub kv_tokens: u64,
    /// Every iteration's time is multiplied by a factor within ± this share; then each is a step of its own.
    pub noise: f64,
    /// Share of every prompt that the prefix cache spares, 0..1. It takes its memory all the same.
    pub prefix_hit_ratio: f64,
}

/// One request that left the fleet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Completion {
    pub request: Request,
    /// Last token, or failure, seconds since the start of the run.
    pub finish_seconds: f64,
    /// First token minus arrival at the gateway; `None` for a failed request.
    pub ttft_seconds: Option<f64>,
    /// (last token - first token) / (output tokens - 1); `None` for one token or a failed request.
    pub itl_seconds: Option<f64>,
    /// Times it was thrown out of the memory.
    pub preemptions: u32,
    /// Pool that served it, once the fleet has booked it.
    pub pool: Option<usize>,
}

impl Completion {
    /// A request that was refused at `now_seconds`.
    pub fn failed(request: Request, now_seconds: f64) -> Self {
        Self { request, finish_seconds: now_seconds, ttft_seconds: None, itl_seconds: None, preemptions: 0, pool: None }
    }
}

/// A continuous-batching engine; see the module.
#[derive(Debug)]
pub struct Engine {
    spec: EngineSpec,
    rng: ChaCha8Rng,
    now_seconds: f64,
    idle_since_seconds: f64,
    /// Finished iterations.
    iteration: u64,
    flight: Option<Flight>,
    /// Waiting requests: higher priority first, then in the order of submission.
    waiting: BTreeMap<(Reverse<i32>, u64), Sequence>,
    submitted: u64,
    /// Requests in execution by the order of their admission.
    running: BTreeMap<u64, Sequence>,
    admitted: u64,
    /// Running requests whose prompt is not computed yet, in the order of admission.
    prefilling: Vec<u64>,
    /// (iteration of the last token, order of admission) of the decoding requests.
    ends: BTreeSet<(u64, u64)>,
    /// KV tokens of the decoding requests.
    decode_context: u64,
    /// KV tokens held or promised to a prompt that is being computed.
    reserved: u64,
    meters: Meters,
    done: Vec<Completion>,
}

/// One request inside the engine.
#[derive(Debug)]
struct Sequence {
    request: Request,
    /// Order of submission.
    ticket: u64,
    submitted_seconds: f64,
    scheduled_seconds: Option<f64>,
    first_token_seconds: Option<f64>,
    last_token_seconds: f64,
    /// Tokens to compute before the next token can come: the prompt, after a preemption also the answer so far.
    prefill_target: u64,
    prefilled: u64,
    /// Answer tokens made before decoding (re)started, the one from the prefill included.
    produced: u64,
    /// Iteration after which it began to decode.
    decoding_since: Option<u64>,
    preemptions: u32,
}

impl Sequence {
    fn new(request: Request, ticket: u64, now_seconds: f64) -> Self {
        Self {
            request,
            ticket,
            submitted_seconds: now_seconds,
            scheduled_seconds: None,
            first_token_seconds: None,
            last_token_seconds: now_seconds,
            prefill_target: u64::from(request.input_tokens),
            prefilled: 0,
            produced: 0,
            decoding_since: None,
            preemptions: 0,
        }
    }

    /// Decode steps done since decoding (re)started.
    fn steps(&self, iteration: u64) -> u64 {
        self.decoding_since.map_or(0, |since| iteration - since)
    }

    fn key(&self) -> (Reverse<i32>, u64) {
        (Reverse(self.request.priority), self.ticket)
    }
}

impl Engine {
    /// An idle engine that starts at `now_seconds`.
    pub fn new(spec: EngineSpec, rng: ChaCha8Rng, now_seconds: f64) -> Self {
        Self {
            spec,
            rng,
            now_seconds,
            idle_since_seconds: now_seconds,
            iteration: 0,
            flight: None,
            waiting: BTreeMap::new(),
            submitted: 0,
            running: BTreeMap::new(),
            admitted: 0,
            prefilling: Vec::new(),
            ends: BTreeSet::new(),
            decode_context: 0,
            reserved: 0,
            meters: Meters::default(),
            done: Vec::new(),
        }
    }

    /// Hand over a request at `now_seconds`, up to which the engine was advanced. A request that can
    /// never fit into the KV memory fails at once, as a server refuses it.
    pub fn submit(&mut self, request: Request, now_seconds: f64) {
        let peak_tokens = u64::from(request.input_tokens) + u64::from(request.output_tokens.max(1)) - 1;
        if peak_tokens > self.spec.kv_tokens || request.input_tokens == 0 {
            self.meters.failed += 1;
            self.done.push(Completion::failed(request, now_seconds));
            return;
        }
        // what is computed now ends with its iteration: the next one may take the request in
        self.catch_up(now_seconds);
        if let Some(flight) = &mut self.flight {
            flight.steps = 1;
        }
        let sequence = Sequence::new(request, self.submitted, now_seconds);
        self.submitted += 1;
        self.waiting.insert(sequence.key(), sequence);
    }

    /// Let everything end that ends at or before `to_seconds`. Decoding requests may be further than they are
    /// counted: [`catch_up`](Self::catch_up) counts every token.
    pub fn advance(&mut self, to_seconds: f64) {
        loop {
            if self.flight.is_none() && !self.schedule() {
                self.now_seconds = self.now_seconds.max(to_seconds);
                return;
            }
            match self.flight.take_if(|flight| flight.end_seconds() <= to_seconds) {
                Some(flight) => self.complete(&flight, flight.steps),
                None => return,
            }
        }
    }

    /// [`advance`](Self::advance), every iteration that is over counted.
    pub fn catch_up(&mut self, to_seconds: f64) {
        self.advance(to_seconds);
        let Some(mut flight) = self.flight.take_if(|flight| flight.steps > 1) else { return };
        let done = flight.steps_by(to_seconds).min(flight.steps - 1);
        if done > 0 {
            self.complete(&flight, done);
            flight.start_seconds = self.now_seconds;
            flight.first_seconds += flight.growth_seconds * done as f64;
            flight.steps -= done;
        }
        self.flight = Some(flight);
    }

    /// Choose what the next iteration computes; false when there is nothing to do.
    fn schedule(&mut self) -> bool {
        if self.running.is_empty() && self.waiting.is_empty() {
            return false;
        }
        let preempted = self.make_room_for_decodes();
        let decodes = self.ends.len() as u64;
        let mut budget = u64::from(self.spec.limits.max_num_batched_tokens.max(1)).saturating_sub(decodes);
        let mut read_tokens = self.decode_context + decodes;
        let mut chunks = Vec::new();
        for &order in &self.prefilling {
            if let Some(sequence) = self.running.get(&order) {
                read_tokens += take_chunk(order, sequence, &mut budget, &mut chunks);
            }
        }
        if !preempted {
            read_tokens += self.admit(&mut budget, &mut chunks);
        }
        let prompt = chunks.iter().map(|(_, tokens)| tokens).sum::<u64>();
        let parameters = &self.spec.parameters;
        let work = parameters.iteration_seconds(prompt as f64, decodes as f64, read_tokens as f64);
        let growth_seconds = parameters.gamma_seconds_per_token * decodes as f64;
        // who was thrown out may come back with the next iteration
        let is_even = chunks.is_empty() && !preempted && self.spec.noise <= 0.0;
        let steps = if is_even { self.undisturbed(decodes) } else { 1 };
        let first_seconds = work * self.noise_factor();
        self.flight = Some(Flight { start_seconds: self.now_seconds, steps, first_seconds, growth_seconds, chunks });
        true
    }

    /// Iterations until a decoding request ends or memory has to be given back, at least 1. Nobody who waits can be
    /// admitted before: memory only gets less.
    fn undisturbed(&self, decodes: u64) -> u64 {
        let until_end = self.ends.first().map_or(1, |(end, _)| end.saturating_sub(self.iteration));
        let fit = self.spec.kv_tokens.saturating_sub(self.reserved) / decodes.max(1);
        // a request alone always fits
        if self.running.len() > 1 { until_end.min(fit).max(1) } else { until_end.max(1) }
    }

    fn noise_factor(&mut self) -> f64 {
        if self.spec.noise > 0.0 { 1.0 + self.spec.noise * (2.0 * self.rng.random::<f64>() - 1.0) } else { 1.0 }
    }

    /// Admit waiting requests while sequences, budget and memory last. Returns the KV tokens their chunks read.
    fn admit(&mut self, budget: &mut u64, chunks: &mut Vec<(u64, u64)>) -> u64 {
        let Limits { max_num_seqs, max_num_batched_tokens } = self.spec.limits;
        // every running request must get its decode token out of one iteration's budget
        let most_running = max_num_seqs.min(max_num_batched_tokens).max(1) as usize;
        let mut read_tokens = 0;
        while *budget > 0 && self.running.len() < most_running {
            let Some(head) = self.waiting.first_entry() else { break };
            let next_decodes = self.ends.len() as u64;
            if self.reserved + head.get().prefill_target + next_decodes > self.spec.kv_tokens {
                break;
            }
            let mut sequence = head.remove();
            self.reserved += sequence.prefill_target;
            sequence.scheduled_seconds.get_or_insert(self.now_seconds);
            sequence.prefilled = self.cached(&sequence);
            let order = self.admitted;
            self.admitted += 1;
            read_tokens += take_chunk(order, &sequence, budget, chunks);
            self.prefilling.push(order);
            self.running.insert(order, sequence);
        }
        read_tokens
    }

    /// Throw requests out until every decoding one has room for its next token; true if any had to go.
    fn make_room_for_decodes(&mut self) -> bool {
        let mut preempted = false;
        while self.reserved + self.ends.len() as u64 > self.spec.kv_tokens && self.running.len() > 1 {
            let victim = self.running.iter().min_by_key(|(order, s)| (s.request.priority, Reverse(**order)));
            let Some(order) = victim.map(|(order, _)| *order) else { break };
            self.preempt(order);
            preempted = true;
        }
        preempted
    }

    fn preempt(&mut self, order: u64) {
        let Some(mut sequence) = self.running.remove(&order) else { return };
        self.release(order, &sequence);
        sequence.produced += sequence.steps(self.iteration);
        if sequence.produced > 0 {
            sequence.prefill_target = u64::from(sequence.request.input_tokens) + sequence.produced;
            if sequence.decoding_since.is_some() {
                sequence.last_token_seconds = self.now_seconds;
            }
        }
        sequence.decoding_since = None;
        sequence.prefilled = 0;
        sequence.preemptions += 1;
        self.meters.preemptions += 1;
        self.waiting.insert(sequence.key(), sequence);
    }

    /// Give back the memory of a request that leaves the running ones.
    fn release(&mut self, order: u64, sequence: &Sequence) {
        if let Some(since) = sequence.decoding_since {
            let context = sequence.prefill_target + sequence.steps(self.iteration);
            self.decode_context -= context;
            self.reserved -= context;
            let left = u64::from(sequence.request.output_tokens) - sequence.produced;
            self.ends.remove(&(since + left, order));
        } else {
            self.reserved -= sequence.prefill_target;
            self.prefilling.retain(|o| *o != order);
        }
    }

    /// Tokens of a prompt that the prefix cache spares; the last one is always computed.
    fn cached(&mut self, sequence: &Sequence) -> u64 {
        let prompt = u64::from(sequence.request.input_tokens);
        let cached = ((prompt as f64 * self.spec.prefix_hit_ratio) as u64).min(prompt.saturating_sub(1));
        self.meters.prefix_queries += prompt;
        self.meters.prefix_hits += cached;
        cached
    }

    /// The first `steps` iterations are over: one token each for every decoding request, progress for the prompts.
    fn complete(&mut self, flight: &Flight, steps: u64) {
        let span_seconds = flight.span_seconds(steps);
        self.now_seconds = flight.start_seconds + span_seconds;
        self.iteration += steps;
        let decodes = self.ends.len() as u64;
        let tokens = decodes * steps;
        self.decode_context += tokens;
        self.reserved += tokens;
        self.meters.generation_tokens += tokens;
        if decodes > 0 {
            self.meters.observe_times(Meter::Gap, span_seconds / steps as f64, tokens);
        }
        let prompt = flight.chunks.iter().map(|(_, tokens)| tokens).sum::<u64>();
        self.meters.observe_times(Meter::Iteration, (decodes + prompt) as f64, steps);
        while let Some(&(end, order)) = self.ends.first()
            && end <= self.iteration
        {
            self.finish(order);
        }
        for &(order, tokens) in &flight.chunks {
            let Some(sequence) = self.running.get_mut(&order) else { continue };
            sequence.prefilled += tokens;
            if sequence.prefilled == sequence.prefill_target {
                self.prompt_computed(order);
            }
        }
        if self.running.is_empty() && self.waiting.is_empty() {
            self.idle_since_seconds = self.now_seconds;
        }
    }

    /// The last chunk of a prompt yields a token: the first, or the next one after a preemption.
    fn prompt_computed(&mut self, order: u64) {
        let Some(sequence) = self.running.get_mut(&order) else { return };
        if sequence.first_token_seconds.is_none() {
            sequence.first_token_seconds = Some(self.now_seconds);
            self.meters.observe(Meter::Ttft, self.now_seconds - sequence.submitted_seconds);
            self.meters.prompt_tokens += u64::from(sequence.request.input_tokens);
        } else {
            self.meters.observe(Meter::Gap, self.now_seconds - sequence.last_token_seconds);
        }
        self.meters.generation_tokens += 1;
        sequence.last_token_seconds = self.now_seconds;
        sequence.produced += 1;
        sequence.decoding_since = Some(self.iteration);
        let left = u64::from(sequence.request.output_tokens).saturating_sub(sequence.produced);
        self.decode_context += sequence.prefill_target;
        self.ends.insert((self.iteration + left, order));
        self.prefilling.retain(|o| *o != order);
        if left == 0 {
            self.finish(order);
        }
    }

    fn finish(&mut self, order: u64) {
        let Some(sequence) = self.running.remove(&order) else { return };
        self.release(order, &sequence);
        let Sequence { request, submitted_seconds, .. } = sequence;
        let now = self.now_seconds;
        let first = sequence.first_token_seconds.unwrap_or(now);
        let scheduled = sequence.scheduled_seconds.unwrap_or(submitted_seconds);
        let gaps = request.output_tokens.saturating_sub(1);
        let itl_seconds = (gaps > 0).then(|| (now - first) / f64::from(gaps));
        self.done.push(Completion {
            request,
            finish_seconds: now,
            ttft_seconds: Some(first - request.arrival_seconds),
            itl_seconds,
            preemptions: sequence.preemptions,
            pool: None,
        });
        self.meters.finished += 1;
        for (meter, value) in [
            (Meter::Prompt, f64::from(request.input_tokens)),
            (Meter::Generation, f64::from(request.output_tokens)),
            (Meter::Answers, 1.0),
            // the server counts a zero for an answer of one token
            (Meter::Tpot, itl_seconds.unwrap_or(0.0)),
            (Meter::EndToEnd, now - submitted_seconds),
            (Meter::HttpFine, now - submitted_seconds),
            (Meter::HttpCoarse, now - submitted_seconds),
            (Meter::Queue, scheduled - submitted_seconds),
            (Meter::Inference, now - scheduled),
            (Meter::Prefill, first - scheduled),
            (Meter::Decode, now - first),
            (Meter::Preemptions, f64::from(sequence.preemptions)),
        ] {
            self.meters.observe(meter, value);
        }
    }

    /// Requests in execution.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Requests that wait for execution.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Arrival of the request that has waited longest for its first token, of those not in execution.
    pub fn oldest_waiting_seconds(&self) -> Option<f64> {
        let untouched = self.waiting.values().filter(|s| s.first_token_seconds.is_none());
        untouched.map(|s| s.request.arrival_seconds).min_by(f64::total_cmp)
    }

    /// Requests inside.
    pub fn outstanding(&self) -> usize {
        self.running.len() + self.waiting.len()
    }

    /// Requests inside, each with the time of its first token.
    pub fn unfinished(&self) -> impl Iterator<Item = (&Request, Option<f64>)> {
        self.running.values().chain(self.waiting.values()).map(|s| (&s.request, s.first_token_seconds))
    }

    /// KV tokens in use.
    pub fn kv_tokens_used(&self) -> u64 {
        let prompts = self.prefilling.iter().filter_map(|order| self.running.get(order));
        self.decode_context + prompts.map(|s| s.prefilled).sum::<u64>()
    }

    /// KV memory in use, 0..=1.
    pub fn kv_usage(&self) -> f64 {
        self.kv_tokens_used() as f64 / self.spec.kv_tokens.max(1) as f64
    }

    /// Time of the last finished request, or of the start, seconds.
    pub fn idle_since_seconds(&self) -> f64 {
        self.idle_since_seconds
    }

    /// Requests that left since the last call, in the order of leaving.
    pub fn take_completions(&mut self) -> Vec<Completion> {
        std::mem::take(&mut self.done)
    }

    pub fn spec(&self) -> &EngineSpec {
        &self.spec
    }

    pub(super) fn meters(&self) -> &Meters {
        &self.meters
    }
}

/// Give a prompt its part of the budget. Returns the KV tokens that computing it reads: its whole
/// context up to the end of the chunk.
fn take_chunk(order: u64, sequence: &Sequence, budget: &mut u64, chunks: &mut Vec<(u64, u64)>) -> u64 {
    let tokens = (*budget).min(sequence.prefill_target - sequence.prefilled);
    if tokens == 0 {
        return 0;
    }
    *budget -= tokens;
    chunks.push((order, tokens));
    sequence.prefilled + tokens
}

#[cfg(test)]
mod tests;

//! What an iteration and a request cost: the constants of a replica and a shape.

use super::traffic::Traffic;
use crate::perf::{Parameters, Shape};

/// What a replica does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Prompt and answer.
    Both,
    /// The prompt and the first token; another replica goes on.
    Prompt,
    /// The tokens after the first; the KV cache of the prompt is received.
    Decode,
}

/// How many requests and tokens a replica takes at a time; requests need not be whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Room {
    /// Requests in execution at which arrivals have to wait.
    pub places: f64,
    /// Requests in execution on average when more wait: fewer where memory is taken back from running requests.
    pub sustained: f64,
    /// How much more the taken part of the room varies than the number of requests: 1 when all take the same.
    pub crowding: f64,
    /// Token budget of one iteration.
    pub budget: f64,
}

/// A replica that serves requests of one shape.
#[derive(Clone, Copy, Debug)]
pub struct Stage {
    pub(super) parameters: Parameters,
    pub(super) traffic: Traffic,
    /// Prompt tokens to compute: prefix-cache hits are taken off.
    pub(super) input: f64,
    /// Decode iterations of a request: the first token comes with the prompt.
    pub(super) gaps: f64,
    /// Token budget of one iteration.
    pub(super) budget: f64,
    pub(super) places: f64,
    sustained: f64,
    pub(super) crowding: f64,
    /// Time of one prompt without the fixed time of its iterations, seconds.
    pub(super) prompt: f64,
    /// Time of one prompt token, seconds: the mean over the prompt.
    pub(super) prompt_token: f64,
    /// Time of a request before its first token that takes nothing from others, seconds.
    pub(super) overhead: f64,
    /// Time of one decoded token of a request in the middle of its answer, seconds.
    pub(super) token: f64,
    /// Time of a request's own work, seconds.
    pub(super) work: f64,
    /// Iterations of a request: its prompt's chunks and its decode steps.
    pub(super) steps: f64,
}

impl Stage {
    /// `hit_ratio` is the share of the prompt that the prefix cache spares: it costs no computation but is read and
    /// held in full.
    pub fn new(
        parameters: &Parameters,
        shape: &Shape,
        traffic: &Traffic,
        hit_ratio: f64,
        room: &Room,
        work: Work,
    ) -> Self {
        let traffic = traffic.bounded();
        let (length, answer) = (shape.input_tokens.max(1.0), shape.output_tokens.max(1.0));
        let (places, budget) = (room.places.max(1.0), room.budget.max(1.0));
        let input = if work == Work::Decode { 0.0 } else { (length * (1.0 - hit_ratio.clamp(0.0, 0.95))).max(1.0) };
        let gaps = if work == Work::Prompt { 0.0 } else { answer - 1.0 };
        let chunks = if input > 0.0 { (input / budget).max(1.0) } else { 0.0 };
        // Every chunk reads the prompt up to its own end, the cached part included.
        let read = (length - input) * chunks + input * (chunks + 1.0) / 2.0;
        let tokens = parameters.beta_seconds_per_token * input + parameters.prompts.attention_seconds(length, input);
        let prompt = if input > 0.0 { tokens + parameters.gamma_seconds_per_token * read } else { 0.0 };
        let token = parameters.decode_seconds_per_token
            + parameters.gamma_seconds_per_token * (length + mean_answer_held(answer, traffic.output_cv));
        Self {
            parameters: *parameters,
            traffic,
            input,
            gaps,
            budget,
            places,
            sustained: room.sustained.clamp(1.0, places),
            crowding: room.crowding.max(1.0),
            prompt,
            prompt_token: if input > 0.0 { tokens / input } else { 0.0 },
            overhead: if input > 0.0 { parameters.prompts.overhead_seconds } else { 0.0 },
            token: if gaps > 0.0 { token } else { 0.0 },
            work: prompt + gaps * token,
            steps: (gaps + chunks).max(1.0),
        }
    }

    /// Share of the requests in execution that decode.
    pub(super) fn decoding_share(&self) -> f64 {
        self.gaps / self.steps
    }

    /// Time of an iteration without prompts with `decoding` requests, seconds.
    pub(super) fn decode_iteration(&self, decoding: f64) -> f64 {
        let p = &self.parameters;
        p.alpha_seconds + p.experts.seconds(decoding) + decoding * self.token
    }

    /// Time that one prompt adds to an iteration with `decoding` other requests, seconds: its own, and that of the
    /// experts which only it needs.
    pub(super) fn prompt_in(&self, decoding: f64) -> f64 {
        let experts = &self.parameters.experts;
        let tokens = self.input.min(self.budget);
        self.prompt + experts.seconds(decoding + tokens) - experts.seconds(decoding)
    }

    /// Time a request spends in execution beside `batch` requests, itself included, seconds.
    pub(super) fn residence(&self, batch: f64) -> f64 {
        let decoding = batch * self.decoding_share();
        let fixed = self.parameters.alpha_seconds + self.parameters.experts.seconds(decoding);
        self.steps * fixed + batch * (self.gaps * self.token + self.prompt_in(decoding))
    }

    /// Requests per second that fill all places.
    pub fn rate_of_places(&self) -> f64 {
        self.sustained / self.residence(self.sustained)
    }

    /// Requests per second whose tokens fill every iteration's budget.
    pub fn rate_of_budget(&self) -> f64 {
        let fixed = self.parameters.alpha_seconds + self.parameters.experts.seconds(self.budget);
        self.budget / ((self.input + self.gaps) * fixed + self.budget * self.work)
    }

    /// Highest rate that can be sustained, requests per second.
    pub fn full_rate(&self) -> f64 {
        self.rate_of_places().min(self.rate_of_budget())
    }
}

/// Mean length of the answer so far of a request in execution, tokens: long answers are met more often.
pub(in crate::perf) fn mean_answer_held(answer: f64, cv: f64) -> f64 {
    answer * (1.0 + cv * cv) / 2.0
}

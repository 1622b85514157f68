//! What one replica counts about itself: the counters and histograms of a vLLM server. Which of them
//! is printed under which name is the page's business.

/// Histograms, by what they measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meter {
    /// Prompt length of finished requests, tokens.
    Prompt,
    /// Answer length of finished requests, tokens.
    Generation,
    /// Tokens computed per iteration.
    Iteration,
    /// Answers asked for per request.
    Answers,
    /// Time to first token since the server got the request, seconds.
    Ttft,
    /// Gap between two tokens, seconds.
    Gap,
    /// Mean time per output token of finished requests, seconds.
    Tpot,
    /// Time in the server of finished requests, seconds.
    EndToEnd,
    /// Time until first scheduled, seconds.
    Queue,
    /// Time from first scheduled to the last token, seconds.
    Inference,
    /// Time from first scheduled to the first token, seconds.
    Prefill,
    /// Time from the first to the last token, seconds.
    Decode,
    /// Preemptions per finished request.
    Preemptions,
    /// Duration of HTTP requests, many buckets, seconds.
    HttpFine,
    /// Duration of HTTP requests, few buckets, seconds.
    HttpCoarse,
}

const TOKENS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0];
const BATCH: &[f64] = &[1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0];
const ANSWERS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0];
const FIRST_TOKEN: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
];
const PER_TOKEN: &[f64] =
    &[0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0];
const PHASE: &[f64] = &[
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
];
const PREEMPTIONS: &[f64] = &[1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0];
const HTTP_FINE: &[f64] = &[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 7.5, 10.0, 30.0, 60.0,
];
const HTTP_COARSE: &[f64] = &[0.1, 0.5, 1.0];

impl Meter {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 15] = [
        Self::Prompt,
        Self::Generation,
        Self::Iteration,
        Self::Answers,
        Self::Ttft,
        Self::Gap,
        Self::Tpot,
        Self::EndToEnd,
        Self::Queue,
        Self::Inference,
        Self::Prefill,
        Self::Decode,
        Self::Preemptions,
        Self::HttpFine,
        Self::HttpCoarse,
    ];

    /// Finite upper bounds of the buckets, ascending.
    pub const fn bounds(self) -> &'static [f64] {
        match self {
            Self::Prompt | Self::Generation => TOKENS,
            Self::Iteration => BATCH,
            Self::Answers => ANSWERS,
            Self::Ttft => FIRST_TOKEN,
            Self::Gap | Self::Tpot => PER_TOKEN,
            Self::EndToEnd | Self::Queue | Self::Inference | Self::Prefill | Self::Decode => PHASE,
            Self::Preemptions => PREEMPTIONS,
            Self::HttpFine => HTTP_FINE,
            Self::HttpCoarse => HTTP_COARSE,
        }
    }
}

/// One histogram.
#[derive(Clone, Debug)]
pub struct Tally {
    bounds: &'static [f64],
    /// Observations per bucket, not cumulative; the last one is the open bucket.
    buckets: Vec<u64>,
    pub sum: f64,
    pub count: u64,
}

impl Tally {
    fn new(meter: Meter) -> Self {
        let bounds = meter.bounds();
        Self { bounds, buckets: vec![0; bounds.len() + 1], sum: 0.0, count: 0 }
    }

    /// Count `times` observations of `value`.
    pub fn observe(&mut self, value: f64, times: u64) {
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        self.buckets[bucket] += times;
        self.sum += value * times as f64;
        self.count += times;
    }

    /// Observations per bucket, not cumulative, the open one last.
    pub fn buckets(&self) -> &[u64] {
        &self.buckets
    }
}

/// Everything one replica counts.
#[derive(Clone, Debug)]
pub struct Meters {
    tallies: Vec<Tally>,
    pub prompt_tokens: u64,
    pub generation_tokens: u64,
    /// Prompt tokens looked up in the prefix cache, and found there.
    pub prefix_queries: u64,
    pub prefix_hits: u64,
    pub finished: u64,
    pub failed: u64,
    pub preemptions: u64,
}

impl Default for Meters {
    fn default() -> Self {
        let tallies = Meter::ALL.into_iter().map(Tally::new).collect();
        Self {
            tallies,
            prompt_tokens: 0,
            generation_tokens: 0,
            prefix_queries: 0,
            prefix_hits: 0,
            finished: 0,
            failed: 0,
            preemptions: 0,
        }
    }
}

impl Meters {
    pub fn tally(&self, meter: Meter) -> &Tally {
        &self.tallies[meter as usize]
    }

    pub fn observe(&mut self, meter: Meter, value: f64) {
        self.observe_times(meter, value, 1);
    }

    pub fn observe_times(&mut self, meter: Meter, value: f64, times: u64) {
        self.tallies[meter as usize].observe(value, times);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_belongs_below_it() {
        let mut meters = Meters::default();
        meters.observe(Meter::HttpCoarse, 0.5);
        meters.observe_times(Meter::HttpCoarse, 7.0, 3);
        let tally = meters.tally(Meter::HttpCoarse);
        assert_eq!((tally.buckets(), tally.count, tally.sum), (&[0, 1, 0, 3][..], 4, 21.5));
    }

    #[test]
    fn the_list_of_meters_is_in_the_order_of_their_numbers() {
        for (index, meter) in Meter::ALL.into_iter().enumerate() {
            assert_eq!(meter as usize, index);
        }
    }
}

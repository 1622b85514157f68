//! Three factors with their covariance, and how a window changes them.

#![allow(clippy::needless_range_loop)] // rows and columns of small matrices

use serde::{Deserialize, Serialize};

use super::Sample;
use crate::perf::{Evidence, Experts, Parameters, Prompts};

/// Fixed time and experts; tokens; KV memory.
const FACTORS: usize = 3;
/// Those, and what the model's form misses of the time to first token: it is the same in all windows, so that no
/// number of them makes it evidence against a factor.
const STATES: usize = 4;
type Vector = [f64; STATES];
type Matrix = [Vector; STATES];
/// Logarithm of what would be seen if this were true.
type Predict<'a> = &'a dyn Fn(&Vector) -> Option<f64>;

/// Largest factor, either way.
const MOST: f64 = 3.0;
/// Error of the model's form on a mean ITL that its parameters cannot mend, relative.
const ITL_ERROR: f64 = 0.06;
/// The same of a mean TTFT, which also depends on how arrivals cluster: what changes from window to window.
const TTFT_ERROR: f64 = 0.3;
/// And what does not, standard deviation of the logarithm.
const TTFT_BIAS: f64 = 0.3;
/// Spread of single requests around the mean, relative.
const REQUEST_ERROR: f64 = 0.5;
/// Requests without which a window says nothing.
const FEWEST_REQUESTS: f64 = 20.0;
/// Standard deviations beyond which a window is not believed at once.
const GATE: f64 = 3.0;
/// Windows in a row, all on one side, after which the server has changed and is believed.
const CHANGED: u32 = 3;
/// How far a server may have changed then, standard deviation of the logarithm.
const CHANGE: f64 = 0.4;
/// How far a server wanders in an hour, standard deviation of the logarithm.
const WANDER: f64 = 0.05;
/// Time in which a correction that nothing renews loses most of itself, seconds.
const FADE_SECONDS: f64 = 86_400.0;
/// Windows without which nobody speaks of live evidence.
const FEWEST_WINDOWS: u32 = 5;
/// Steps of the logarithm in which a correction enters a plan, and how far it must be off to move, so that noise
/// moves nothing.
const STEP: f64 = 0.02;
/// The same of the doubt that is left.
const DOUBT_STEP: f64 = 0.1;
/// How much busier than seen the pool may become; what a quiet pool shows says less of a busy one.
const BUSIER: f64 = 4.0;
/// Error that stays however much was seen, relative.
const FLOOR: f64 = 0.04;
/// The same of a capacity, whose percentiles and queues no factor on the parameters mends.
const CAPACITY_FLOOR: f64 = 0.1;
/// Standard deviations of the prior beyond which parameters are wrong rather than rough.
const ALARM: f64 = 2.5;

/// What is believed before anything was seen: standard deviations of the logarithms of the factors.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prior {
    /// Of all three together: the server is faster or slower as a whole.
    pub common: f64,
    /// Of each on its own.
    pub own: f64,
}

impl Prior {
    /// The measured spread of predictions that this evidence has.
    pub fn of(evidence: Evidence) -> Self {
        match evidence {
            Evidence::OutsideIn | Evidence::Range => Self { common: 0.2, own: 0.15 },
            Evidence::Curve | Evidence::Live => Self { common: 0.1, own: 0.07 },
        }
    }

    fn covariance(&self) -> Matrix {
        let mut matrix = [[0.0; STATES]; STATES];
        for i in 0..FACTORS {
            matrix[i][..FACTORS].fill(self.common.powi(2));
            matrix[i][i] += self.own.powi(2);
        }
        matrix[FACTORS][FACTORS] = TTFT_BIAS.powi(2);
        matrix
    }
}

/// What became of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The factors have moved towards it.
    Accepted,
    /// It is too far off; the next ones will tell.
    Doubted,
    /// Several in a row were far off on one side: the server has changed, and is followed.
    Changed,
    /// Too few requests, or not a number.
    Useless,
}

/// Parameters that are further off than their evidence allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drift {
    /// Measured over believed time between tokens.
    pub factor: f64,
    /// The largest deviation that the evidence allows, as a factor above 1.
    pub allowed: f64,
}

/// The correction of one pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// What the factors apply to; with other parameters one begins anew.
    base: Parameters,
    prior: Prior,
    log_factors: Vector,
    covariance: Matrix,
    /// End of the last window, seconds.
    at_seconds: Option<f64>,
    /// Time up to which the fading is reckoned, seconds.
    aged_seconds: Option<f64>,
    /// Windows that moved the factors.
    windows: u32,
    /// Windows in a row that did not fit; negative when they were faster than expected.
    doubts: i32,
    effect: Option<Effect>,
    in_force: InForce,
}

/// What a plan gets: it follows the factors in steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct InForce {
    log_factors: Vector,
    /// Doubt that is left, 0..=1; 1 before anything was seen.
    doubt: f64,
}

/// What the correction does to the time between tokens at the last operating point; logarithms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Effect {
    change: f64,
    /// Standard deviation now, there or where the pool is busier, whichever is larger.
    deviation: f64,
    /// Standard deviation before anything was seen.
    believed: f64,
    /// Part of the doubt that is left, 0..=1.
    doubt: f64,
}

/// Factors of a correction that are in force.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factors {
    /// Of the fixed time of an iteration and of reading experts.
    pub iteration: f64,
    /// Of the time per token computed.
    pub tokens: f64,
    /// Of the time per KV token read.
    pub kv: f64,
}

impl Calibration {
    pub fn new(base: Parameters, prior: Prior) -> Self {
        Self {
            base,
            prior,
            log_factors: [0.0; STATES],
            covariance: prior.covariance(),
            at_seconds: None,
            aged_seconds: None,
            windows: 0,
            doubts: 0,
            effect: None,
            in_force: InForce { log_factors: [0.0; STATES], doubt: 1.0 },
        }
    }

    /// True when this belongs to these parameters and every number in it can be reckoned with; a stored one may
    /// come from another policy or from a damaged file.
    pub fn fits(&self, base: &Parameters, prior: Prior) -> bool {
        let diagonal = (0..STATES).all(|i| self.covariance[i][i] > 0.0);
        let numbers = self.covariance.iter().flatten().all(|v| v.is_finite());
        let bound = MOST.ln() + 1e-9;
        let bounded = self.log_factors.iter().chain(&self.in_force.log_factors).all(|v| v.abs() <= bound);
        let doubt = (0.0..=1.0).contains(&self.in_force.doubt);
        self.base == *base && self.prior == prior && diagonal && numbers && bounded && doubt
    }

    /// Learn from a window. `sample` must end after the last one.
    pub fn observe(&mut self, sample: &Sample) -> Outcome {
        if !sample.is_sound() || sample.requests < FEWEST_REQUESTS {
            return Outcome::Useless;
        }
        if self.at_seconds.is_some_and(|last| sample.at_seconds <= last) {
            return Outcome::Useless;
        }
        if self.aged_seconds.is_none_or(|aged| sample.at_seconds > aged) {
            self.pass(sample.at_seconds);
        }
        self.at_seconds = Some(sample.at_seconds);
        let noise = |error: f64| error.powi(2) + REQUEST_ERROR.powi(2) / sample.requests;
        let base = self.base;
        let itl = |state: &Vector| Some(sample.itl_of(&multiplied(&base, state)).ln());
        let mut outcome = Outcome::Accepted;
        if let Some(side) = self.is_far(&itl, sample.itl_seconds.ln(), noise(ITL_ERROR)) {
            self.doubts = if self.doubts * side > 0 { self.doubts + side } else { side };
            if self.doubts.unsigned_abs() < CHANGED {
                return Outcome::Doubted;
            }
            self.widen();
            outcome = Outcome::Changed;
        }
        self.doubts = 0;
        self.update(&itl, sample.itl_seconds.ln(), noise(ITL_ERROR));
        if let Some(seen) = sample.ttft_seconds {
            let ttft = |state: &Vector| Some(sample.ttft_of(&multiplied(&base, state))?.ln() + state[FACTORS]);
            // What does not fit here is a queue that nobody saw.
            if self.is_far(&ttft, seen.ln(), noise(TTFT_ERROR)).is_none() {
                self.update(&ttft, seen.ln(), noise(TTFT_ERROR));
            }
        }
        self.windows = self.windows.saturating_add(1);
        self.judge(sample);
        self.enforce();
        outcome
    }

    /// Time passes: the correction fades, and what is known of the server gets old.
    pub fn pass(&mut self, now_seconds: f64) {
        let Some(before) = self.aged_seconds.replace(now_seconds) else { return };
        if now_seconds < before {
            // The clock was set back; a window of the future would keep all others out.
            self.at_seconds = self.at_seconds.map(|at| at.min(now_seconds));
            return;
        }
        self.age(now_seconds - before);
        self.enforce();
    }

    /// Parameters as the servers showed them, in small steps.
    pub fn corrected(&self) -> Parameters {
        multiplied(&self.base, &self.in_force.log_factors)
    }

    /// What the corrected parameters are multiplied by.
    pub fn factors(&self) -> Factors {
        let [iteration, tokens, kv, _] = self.in_force.log_factors.map(f64::exp);
        Factors { iteration, tokens, kv }
    }

    /// Share of a capacity to keep in reserve where `uncorrected` is kept without this: less as more was seen,
    /// but not where the parameters are wrong rather than rough.
    pub fn reserve(&self, uncorrected: f64) -> f64 {
        let least = Evidence::Live.safety_margin().min(uncorrected);
        if self.drift().is_some() { uncorrected } else { (uncorrected * self.in_force.doubt).max(least) }
    }

    /// Windows that moved the factors.
    pub fn windows(&self) -> u32 {
        self.windows
    }

    /// End of the last window, seconds; `None` before the first.
    pub fn last_seconds(&self) -> Option<f64> {
        self.at_seconds
    }

    /// Corrected over believed time between tokens at the last operating point.
    pub fn factor(&self) -> f64 {
        self.effect.map_or(1.0, |effect| effect.change.exp())
    }

    /// Relative standard deviation of a prediction at the last operating point; `None` while too little was seen.
    pub fn spread(&self) -> Option<f64> {
        self.effect.filter(|_| self.windows >= FEWEST_WINDOWS).map(|effect| effect.deviation.hypot(FLOOR))
    }

    /// Set when the parameters are wrong rather than rough.
    pub fn drift(&self) -> Option<Drift> {
        let Effect { change, believed, .. } = self.effect.filter(|_| self.windows >= FEWEST_WINDOWS)?;
        let allowed = ALARM * believed;
        (change.abs() > allowed).then(|| Drift { factor: change.exp(), allowed: allowed.exp() })
    }

    /// Let the plan follow where the factors left the step they are in.
    fn enforce(&mut self) {
        let most = MOST.ln();
        for (used, found) in self.in_force.log_factors.iter_mut().zip(self.log_factors) {
            if (found - *used).abs() > STEP {
                *used = ((found / STEP).round() * STEP).clamp(-most, most);
            }
        }
        let known = self.effect.filter(|_| self.windows >= FEWEST_WINDOWS);
        let doubt = known.map_or(1.0, |effect| effect.doubt);
        if (doubt - self.in_force.doubt).abs() > DOUBT_STEP || doubt >= 1.0 {
            self.in_force.doubt = ((doubt / DOUBT_STEP).ceil() * DOUBT_STEP).clamp(0.0, 1.0);
        }
    }

    fn age(&mut self, passed: f64) {
        let kept = (-passed / FADE_SECONDS).exp();
        let prior = self.prior.covariance();
        let wander = WANDER.powi(2) * passed / 3600.0;
        for i in 0..STATES {
            self.log_factors[i] *= kept;
            for j in 0..STATES {
                let faded = prior[i][j] + (self.covariance[i][j] - prior[i][j]) * kept.powi(2);
                let together = if i == FACTORS || j == FACTORS { 0.0 } else { 0.5 };
                self.covariance[i][j] = faded + wander * if i == j { 1.0 } else { together };
            }
        }
        self.limit(&prior);
        if let Some(effect) = &mut self.effect {
            effect.change *= kept;
            effect.doubt = 1.0 - (1.0 - effect.doubt) * kept;
            effect.deviation = effect.believed + (effect.deviation - effect.believed) * kept;
        }
    }

    /// Nothing is less certain than before anything was seen.
    fn limit(&mut self, prior: &Matrix) {
        for i in 0..STATES {
            let ratio = prior[i][i] / self.covariance[i][i];
            if ratio < 1.0 {
                for j in 0..STATES {
                    self.covariance[i][j] *= ratio.sqrt();
                    self.covariance[j][i] *= ratio.sqrt();
                }
            }
        }
    }

    /// The server is another one: all of it may have changed, by one factor most likely.
    fn widen(&mut self) {
        for (i, row) in self.covariance.iter_mut().take(FACTORS).enumerate() {
            for (j, value) in row.iter_mut().take(FACTORS).enumerate() {
                *value += CHANGE.powi(2) * if i == j { 1.0 } else { 0.9 };
            }
        }
    }

    /// How the prediction moves with each factor.
    fn slope(&self, predict: Predict<'_>) -> Option<Vector> {
        const STEP: f64 = 0.01;
        let mut slope = [0.0; STATES];
        for i in 0..STATES {
            let (mut up, mut down) = (self.log_factors, self.log_factors);
            up[i] += STEP;
            down[i] -= STEP;
            slope[i] = (predict(&up)? - predict(&down)?) / (2.0 * STEP);
        }
        slope.iter().all(|v| v.is_finite()).then_some(slope)
    }

    /// -1 or 1 when the observation is not believed: faster or slower than expected.
    fn is_far(&self, predict: Predict<'_>, seen: f64, noise: f64) -> Option<i32> {
        let slope = self.slope(predict)?;
        let miss = seen - predict(&self.log_factors)?;
        let variance = quadratic(&self.covariance, &slope) + noise;
        (miss.abs() > GATE * variance.sqrt()).then_some(if miss > 0.0 { 1 } else { -1 })
    }

    fn update(&mut self, predict: Predict<'_>, seen: f64, noise: f64) {
        let Some((slope, expected)) = self.slope(predict).zip(predict(&self.log_factors)) else { return };
        let lever = times(&self.covariance, &slope);
        let variance = quadratic(&self.covariance, &slope) + noise;
        let miss = seen - expected;
        for i in 0..STATES {
            let moved = self.log_factors[i] + lever[i] * miss / variance;
            self.log_factors[i] = moved.clamp(-MOST.ln(), MOST.ln());
        }
        for i in 0..STATES {
            for j in 0..STATES {
                self.covariance[i][j] -= lever[i] * lever[j] / variance;
            }
        }
        let prior = self.prior.covariance();
        self.limit(&prior);
    }

    /// What the correction means where the pool is operated, and where it may be soon.
    fn judge(&mut self, sample: &Sample) {
        let busy = Sample { rate: sample.rate * BUSIER, ..*sample };
        let prior = self.prior.covariance();
        let mut effect = Effect { change: 0.0, deviation: 0.0, believed: 0.0, doubt: 0.0 };
        for (i, sample) in [*sample, busy].iter().enumerate() {
            let itl = |state: &Vector| Some(sample.itl_of(&multiplied(&self.base, state)).ln());
            let (now, before) = (itl(&self.log_factors), itl(&[0.0; STATES]));
            let Some((slope, change)) = self.slope(&itl).zip(now.zip(before).map(|(a, b)| a - b)) else { return };
            let deviation = |matrix: &Matrix| quadratic(matrix, &slope).max(0.0).sqrt();
            let (deviation, believed) = (deviation(&self.covariance), deviation(&prior));
            if i == 0 {
                (effect.change, effect.believed) = (change, believed);
            }
            effect.deviation = effect.deviation.max(deviation);
            effect.doubt = effect.doubt.max(deviation.hypot(CAPACITY_FLOOR) / believed.hypot(CAPACITY_FLOOR)).min(1.0);
        }
        self.effect = Some(effect);
    }
}

fn multiplied(base: &Parameters, state: &Vector) -> Parameters {
    let [fixed, tokens, memory, _] = state.map(f64::exp);
    Parameters {
        alpha_seconds: base.alpha_seconds * fixed,
        beta_seconds_per_token: base.beta_seconds_per_token * tokens,
        decode_seconds_per_token: base.decode_seconds_per_token * tokens,
        gamma_seconds_per_token: base.gamma_seconds_per_token * memory,
        experts: Experts { all_seconds: base.experts.all_seconds * fixed, ..base.experts },
        prompts: Prompts {
            attention_seconds_per_pair: base.prompts.attention_seconds_per_pair * tokens,
            ..base.prompts
        },
    }
}

fn times(matrix: &Matrix, vector: &Vector) -> Vector {
    std::array::from_fn(|i| matrix[i].iter().zip(vector).map(|(a, b)| a * b).sum())
}

fn quadratic(matrix: &Matrix, vector: &Vector) -> f64 {
    times(matrix, vector).iter().zip(vector).map(|(a, b)| a * b).sum()
}

//! Synthetic fleets, so that solvers are judged on instances nobody has seen.
//!
//! The distributions are those of the generator that defines `hetero-alloc/1`: a roofline over public data-sheet
//! figures gives the rates, Zipf over models and log-normal over cells gives the demand. Nothing in it is a measurement.
//! The random numbers are our own, so that a seed makes another fleet here than there.

use rand::seq::SliceRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, LogNormal};

use super::hetero::{Accelerator, FORMAT, Fleet, FleetCell, Model, Variant};
use crate::plan::Problem;

/// What a fleet is made from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recipe {
    pub models: usize,
    /// Accelerator types, at most 12.
    pub accelerators: usize,
    pub cells: usize,
    pub most_variants: usize,
    /// Mean load of a model, in replicas of the cheapest variants.
    pub load: f64,
    /// Stock over need.
    pub tight: f64,
    pub seed: u64,
}

/// Data sheet of an accelerator.
struct Sheet {
    name: &'static str,
    price: f64,
    memory_gb: f64,
    bandwidth_tbs: f64,
    tflops: f64,
    /// Share of speed lost at each doubling of the accelerators of one replica.
    link_loss: f64,
}

const fn sheet(name: &'static str, price: f64, memory_gb: f64, speed: (f64, f64), link_loss: f64) -> Sheet {
    Sheet { name, price, memory_gb, bandwidth_tbs: speed.0, tflops: speed.1, link_loss }
}

const SHEETS: [Sheet; 12] = [
    sheet("L4", 0.70, 24.0, (0.30, 121.0), 0.18),
    sheet("A10G", 1.01, 24.0, (0.60, 70.0), 0.18),
    sheet("A100-80", 3.67, 80.0, (2.0, 312.0), 0.06),
    sheet("H100", 7.516, 80.0, (3.35, 989.0), 0.06),
    sheet("L40S", 2.24, 48.0, (0.864, 362.0), 0.18),
    sheet("MI300X", 10.4, 192.0, (5.3, 1307.0), 0.06),
    sheet("H200", 9.8, 141.0, (4.8, 989.0), 0.06),
    sheet("A40", 1.10, 48.0, (0.696, 150.0), 0.18),
    sheet("TPUv5e", 1.30, 16.0, (0.82, 197.0), 0.06),
    sheet("Gaudi2", 3.2, 96.0, (2.45, 432.0), 0.06),
    sheet("B200", 16.5, 192.0, (8.0, 2250.0), 0.06),
    sheet("V100", 2.2, 32.0, (0.9, 112.0), 0.18),
];
/// Parameters of the models, thousand millions.
const SIZES: [f64; 13] = [1.5, 3.0, 7.0, 8.0, 13.0, 14.0, 24.0, 27.0, 32.0, 34.0, 70.0, 72.0, 110.0];
/// Name, TTFT and time per token in seconds, penalty over the cheapest cost of service.
const TARGETS: [(&str, f64, f64, f64); 4] = [
    ("interactive", 0.8, 0.035, 30.0),
    ("standard", 2.0, 0.070, 10.0),
    ("relaxed", 6.0, 0.120, 5.0),
    ("batch", 60.0, 0.500, 2.5),
];
const INPUTS: [f64; 5] = [64.0, 256.0, 1024.0, 4096.0, 16384.0];
const OUTPUTS: [f64; 3] = [32.0, 128.0, 512.0];
const PARALLEL: [u32; 4] = [1, 2, 4, 8];
/// Share of the modelled rate that a plan may use.
const HEADROOM: f64 = 0.85;
/// Deviation of the running replicas from the need, of the logarithm.
const CHURN: f64 = 0.3;
/// Time over which a start or a stop is spread, seconds.
const SPREAD_SECONDS: f64 = 600.0;

/// Make a fleet.
pub fn generate(recipe: &Recipe) -> Fleet {
    let rng = &mut ChaCha8Rng::seed_from_u64(recipe.seed);
    let sheets = &SHEETS[..recipe.accelerators.clamp(1, SHEETS.len())];
    let models = recipe.models.max(1);
    let part = |of: usize, m: usize| of / models + usize::from(m < of % models);
    let mut fleet = Fleet {
        format: FORMAT,
        name: format!(
            "M{models}-A{}-C{}-L{}-T{}-s{}",
            sheets.len(),
            recipe.cells,
            recipe.load,
            recipe.tight,
            recipe.seed
        ),
        accels: vec![],
        models: vec![],
        variants: vec![],
        cells: vec![],
    };
    let mut sizes = vec![];
    for m in 0..models {
        let size = SIZES[rng.random_range(0..SIZES.len())];
        sizes.push(size);
        fleet.models.push(Model { name: format!("m{m}-{size}b"), min_replicas: 0 });
        let first = fleet.variants.len();
        for (accel, gpus) in variants(rng, size, sheets, part(recipe.most_variants, m).max(1)) {
            let cost = round(sheets[accel].price * f64::from(gpus));
            fleet.variants.push(Variant { model: m, accel, gpus, cost, y0: 0, up: 0.0, down: 0.0, max: 0 });
        }
        let mine = first..fleet.variants.len();
        let cells = cells(rng, m, size, &fleet.variants, mine, sheets, part(recipe.cells, m));
        fleet.cells.extend(cells);
    }
    demand(rng, &mut fleet, recipe, sheets, &sizes);
    fleet
}

/// (accelerator, how many) that can hold the model, a random choice of `most`.
fn variants(rng: &mut impl Rng, size: f64, sheets: &[Sheet], most: usize) -> Vec<(usize, u32)> {
    let all = (0..sheets.len()).flat_map(|a| PARALLEL.map(|gpus| (a, gpus)));
    let mut fit: Vec<_> = all.filter(|&(a, n)| rate(size, &sheets[a], n, (256.0, 128.0), (60.0, 0.5)) > 0.0).collect();
    if fit.len() > most {
        fit.shuffle(rng);
        fit.truncate(most);
        fit.sort_unstable();
    }
    fit
}

fn cells(
    rng: &mut impl Rng,
    model: usize,
    size: f64,
    variants: &[Variant],
    mine: std::ops::Range<usize>,
    sheets: &[Sheet],
    wanted: usize,
) -> Vec<FleetCell> {
    let targets = TARGETS.iter();
    let mut kinds: Vec<_> = targets.flat_map(|t| INPUTS.map(|i| OUTPUTS.map(|o| (t, i, o)))).flatten().collect();
    kinds.shuffle(rng);
    let mut found = vec![];
    for (target, inp, out) in kinds {
        if found.len() == wanted {
            break;
        }
        let (mut v, mut t) = (vec![], vec![]);
        for i in mine.clone() {
            let modelled = rate(size, &sheets[variants[i].accel], variants[i].gpus, (inp, out), (target.1, target.2));
            // Kernels differ; this breaks ties.
            let here = significant(modelled * rng.random_range(0.9..1.1));
            if here > 1e-3 {
                v.push(i);
                t.push(here);
            }
        }
        if !v.is_empty() {
            found.push(FleetCell { model, slo: target.0.into(), inp, out, rate: 0.0, penalty: target.3, v, t });
        }
    }
    found
}

/// Requests per second of one replica within (TTFT, time per token) in seconds; 0 when they cannot be kept.
fn rate(size: f64, sheet: &Sheet, gpus: u32, (input, output): (f64, f64), (ttft, tpot): (f64, f64)) -> f64 {
    let n = f64::from(gpus);
    let weights_gb = 2.0 * size;
    let free_gb = sheet.memory_gb * n * 0.90 - weights_gb * 1.05 - n;
    let token_gb = 40e-6 * size.sqrt();
    let places = (free_gb / (token_gb * (input + output))).trunc();
    if places < 1.0 {
        return 0.0;
    }
    let together = 1.0 / (1.0 + sheet.link_loss * n.log2());
    let flops = sheet.tflops * 1e12 * n * together * 0.5;
    let gb_per_second = sheet.bandwidth_tbs * 1e3 * n * together * 0.75;
    let prefill = 2e9 * size * input / flops + 0.004;
    if prefill > ttft {
        return 0.0;
    }
    let (mut best, mut batch) = (0.0_f64, 1u32);
    while f64::from(batch) <= places.min(512.0) {
        let b = f64::from(batch);
        let read = (weights_gb + b * token_gb * (input + output / 2.0)) / gb_per_second;
        let step = read + b * 2e9 * size / flops + 0.003;
        let token = step + b / output * prefill;
        if token <= tpot {
            best = best.max(b / (output * token));
        }
        batch += if batch < 16 { 1 } else { (batch / 8).max(1) };
    }
    best * HEADROOM
}

/// Rates, penalties, stock and what runs now.
fn demand(rng: &mut ChaCha8Rng, fleet: &mut Fleet, recipe: &Recipe, sheets: &[Sheet], sizes: &[f64]) {
    let models = fleet.models.len();
    let mut weight: Vec<f64> = (1..=models).map(|rank| (rank as f64).powf(-0.9)).collect();
    weight.shuffle(rng);
    let of_cells = log_normal(1.0);
    let share: Vec<f64> = fleet.cells.iter().map(|_| of_cells.sample(rng)).collect();
    let mut sum = vec![0.0; models];
    for (cell, share) in fleet.cells.iter().zip(&share) {
        sum[cell.model] += share;
    }
    // Work of each cell in replicas of its cheapest variant.
    let work: Vec<f64> = fleet.cells.iter().zip(&share).map(|(c, s)| weight[c.model] * s / sum[c.model]).collect();
    let scale = recipe.load * models as f64 / work.iter().sum::<f64>().max(1e-9);
    let mut need = vec![0.0; sheets.len()];
    let mut running = vec![0.0; fleet.variants.len()];
    let churn = log_normal(CHURN);
    for (cell, work) in fleet.cells.iter_mut().zip(&work) {
        let price = |i: &usize| fleet.variants[cell.v[*i]].cost / cell.t[*i];
        let Some(best) = (0..cell.v.len()).min_by(|a, b| price(a).total_cmp(&price(b))) else { continue };
        let variant = &fleet.variants[cell.v[best]];
        cell.rate = significant(work * scale * cell.t[best]);
        cell.penalty = significant(cell.penalty * variant.cost / cell.t[best]);
        let replicas = cell.rate / cell.t[best];
        need[variant.accel] += replicas * f64::from(variant.gpus);
        running[cell.v[best]] += replicas * churn.sample(rng);
    }
    let mean = need.iter().sum::<f64>() / need.len() as f64;
    let stock: Vec<u32> = need
        .iter()
        .map(|n| ((recipe.tight * (0.5 * n + 0.5 * mean) * rng.random_range(0.8..1.2)).ceil() as u32).max(8))
        .collect();
    let mut left = stock.clone();
    for (v, running) in fleet.variants.iter_mut().zip(running) {
        let fits = left[v.accel] / v.gpus;
        v.y0 = if running > 0.2 { ((running - 0.2).ceil() as u32).min(fits) } else { 0 };
        left[v.accel] -= v.y0 * v.gpus;
        let load_seconds = 60.0 + 4.0 * sizes[v.model] / f64::from(v.gpus);
        v.up = round(v.cost * load_seconds / SPREAD_SECONDS);
        v.down = round(v.cost * 30.0 / SPREAD_SECONDS);
        v.max = stock[v.accel] / v.gpus;
    }
    let accel = |(s, inventory): (&Sheet, u32)| Accelerator { name: s.name.into(), price: s.price, inventory };
    fleet.accels = sheets.iter().zip(stock).map(accel).collect();
}

/// The next tick of a fleet that runs `replicas`: every cell's demand times a log-normal factor of this deviation.
pub fn drifted(problem: &Problem, replicas: &[u32], deviation: f64, seed: u64) -> Problem {
    let rng = &mut ChaCha8Rng::seed_from_u64(seed);
    let factor = log_normal(deviation);
    let mut next = problem.clone();
    for cell in &mut next.cells {
        cell.rate *= factor.sample(rng);
    }
    for (pool, &n) in next.pools.iter_mut().zip(replicas) {
        pool.running = n;
    }
    next
}

fn log_normal(deviation: f64) -> LogNormal<f64> {
    LogNormal::new(0.0, deviation).expect("a finite deviation of 0 or more makes a distribution")
}

fn round(x: f64) -> f64 {
    (x * 1e4).round() / 1e4
}

/// Four significant digits, as the files have them.
fn significant(x: f64) -> f64 {
    format!("{x:.3e}").parse().unwrap_or(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of the generator that defines the format: (size, accelerator, how many, prompt, answer, TTFT, time per
    /// token), then requests per second.
    #[test]
    fn rates_are_those_of_the_format() {
        let vectors = [
            (8.0, "L4", 1, (256.0, 128.0), (60.0, 0.5), 3.494152721009225),
            (70.0, "H100", 4, (1024.0, 512.0), (0.8, 0.035), 2.522603984582736),
            (13.0, "A100-80", 1, (4096.0, 128.0), (2.0, 0.07), 0.7837494703586825),
            (110.0, "B200", 2, (16384.0, 32.0), (6.0, 0.12), 0.3479696378037334),
            (34.0, "L40S", 8, (64.0, 512.0), (2.0, 0.07), 9.885890741116347),
            // It does not fit; the prompt alone takes too long.
            (70.0, "L4", 4, (256.0, 128.0), (60.0, 0.5), 0.0),
            (72.0, "V100", 8, (16384.0, 128.0), (0.8, 0.035), 0.0),
        ];
        for (size, name, gpus, lengths, target, wanted) in vectors {
            let sheet = SHEETS.iter().find(|s| s.name == name).unwrap();
            let got = rate(size, sheet, gpus, lengths, target);
            assert!((got - wanted).abs() <= 1e-12 * wanted, "{size} on {gpus}x{name}: {got} for {wanted}");
        }
    }

    #[test]
    fn four_digits_are_kept() {
        assert_eq!([significant(0.123_456), significant(98_765.4), significant(0.0)], [0.1235, 98_770.0, 0.0]);
    }
}

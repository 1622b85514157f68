//! Predicted percentiles of TTFT and ITL against an iteration-by-iteration server, over a grid of shapes, loads and
//! burstiness. `make bench-percentiles` prints the table; the exit code tells whether the mark is met.

#[path = "../tests/it/perf_grid.rs"]
mod perf_grid;
#[path = "../tests/it/perf_stepper.rs"]
mod perf_stepper;

use perf_grid::{Found, QUANTILES, cases, compare, error};

const LOADS: [f64; 6] = [0.3, 0.5, 0.7, 0.8, 0.9, 0.95];
const BURSTS: [f64; 3] = [1.0, 4.0, 16.0];
/// 95th percentile of TTFT, Poisson arrivals, loads up to this one.
const MARK: f64 = 0.20;
const MARK_LOAD: f64 = 0.8;

/// Absolute errors of one percentile, and the worst with its place.
#[derive(Default)]
struct Errors {
    all: Vec<f64>,
    worst: (f64, String),
}

impl Errors {
    fn note(&mut self, error: f64, place: &str) {
        self.all.push(error.abs());
        if error.abs() > self.worst.0.abs() {
            self.worst = (error, place.to_owned());
        }
    }

    fn line(&mut self, name: &str) {
        self.all.sort_by(f64::total_cmp);
        let at = |q: f64| self.all[((self.all.len() - 1) as f64 * q) as usize] * 100.0;
        let (worst, place) = &self.worst;
        println!(
            "  {name:<9} median {:4.1} %, p90 {:5.1} %, worst {:+.1} % ({place})",
            at(0.5),
            at(0.9),
            worst * 100.0
        );
    }
}

fn row(name: &str, load: f64, found: &Found) {
    print!("{name:<26} {load:4.2} {:8.2}/s ", found.rate);
    for (pairs, scale) in [(&found.ttft, 1e3), (&found.itl, 1e3)] {
        for pair in pairs {
            print!("{:9.1} {:+5.0}%", pair.0 * scale, error(*pair) * 100.0);
        }
        print!("  |");
    }
    println!();
}

fn main() {
    let mut met = true;
    for burstiness in BURSTS {
        println!("\nburstiness {burstiness}: simulated milliseconds and error of the prediction, p50 p95 p99");
        println!("{:<26} {:>4} {:>10} {:^46} {:^46}", "in/out", "load", "rate", "TTFT", "ITL");
        let mut low: [Errors; 6] = Default::default();
        let mut high: [Errors; 6] = Default::default();
        for case in cases() {
            for load in LOADS {
                let found = compare(&case, load, burstiness, case.requests);
                row(case.name, load, &found);
                let place = format!("{} at {load}", case.name);
                let errors = if load <= MARK_LOAD { &mut low } else { &mut high };
                for (i, pair) in found.ttft.iter().chain(&found.itl).enumerate() {
                    errors[i].note(error(*pair), &place);
                }
            }
        }
        for (title, errors) in [("loads up to 0.8", &mut low), ("loads of 0.9 and 0.95", &mut high)] {
            println!("{title}");
            for (i, errors) in errors.iter_mut().enumerate() {
                let what = if i < 3 { "TTFT" } else { "ITL" };
                errors.line(&format!("{what} p{}", QUANTILES[i % 3] * 100.0));
            }
        }
        if burstiness == 1.0 {
            let within = low[1].all.iter().filter(|e| **e <= MARK).count();
            met = within == low[1].all.len();
            println!("mark: p95 TTFT within 20 % at loads up to 0.8: {within} of {}", low[1].all.len());
        }
    }
    if !met {
        std::process::exit(1);
    }
}

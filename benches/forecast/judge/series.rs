//! The recorded services as requests per second, minute by minute.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// Range of seven independent normal values over their standard deviation, on average.
const RANGE_OF_SEVEN: f64 = 2.704;

pub struct Series {
    pub name: String,
    pub rates: Vec<f64>,
    /// Minutes before the first origin.
    pub warm_up: usize,
    /// Whether it counts.
    pub gated: bool,
}

/// All series; the digitised ones once for each of `seeds`.
pub fn all(dir: &Path, seeds: &[u64]) -> Result<Vec<Series>> {
    let mut series = vec![];
    for (name, file) in [
        ("azure24-conv", "azure2024_conv_week_rpm_digitised.csv.gz"),
        ("azure24-code", "azure2024_code_week_rpm_digitised.csv.gz"),
    ] {
        let rows = rows(&dir.join(file))?;
        for seed in seeds {
            let name = format!("{name} seed {seed}");
            series.push(Series { name, rates: redrawn(&rows, *seed), warm_up: 3600, gated: true });
        }
    }
    let serve_gen = rows(&dir.join("servegen_1min_renewal_synth.csv.gz"))?;
    for (name, column) in [("servegen m-large", 1), ("servegen m-small", 2)] {
        let rates = serve_gen.iter().map(|row| row[column] / 60.0).collect();
        series.push(Series { name: name.into(), rates, warm_up: 3600, gated: true });
    }
    let r1 = rows(&dir.join("servegen_r1_1min_renewal_synth.csv.gz"))?;
    let rates = r1.iter().map(|row| row[1] / 60.0).collect();
    series.push(Series { name: "servegen r1".into(), rates, warm_up: 360, gated: true });
    for (name, file) in
        [("azure23-conv", "azure2023_conv_requests.csv.gz"), ("azure23-code", "azure2023_code_requests.csv.gz")]
    {
        let times: Vec<f64> = rows(&dir.join(file))?.iter().map(|row| row[0]).collect();
        let mut rates = vec![0.0; (times.last().copied().unwrap_or(0.0) / 60.0) as usize];
        for time in times {
            // The last minute is not whole.
            if let Some(rate) = rates.get_mut((time / 60.0) as usize) {
                *rate += 1.0 / 60.0;
            }
        }
        series.push(Series { name: name.into(), rates, warm_up: 20, gated: false });
    }
    Ok(series)
}

/// Numbers of a table with a header.
fn rows(file: &Path) -> Result<Vec<Vec<f64>>> {
    let bytes = std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes.as_slice()).read_to_string(&mut text)?;
    text.lines()
        .skip(1)
        .map(|line| line.split(',').map(|cell| Ok(cell.parse()?)).collect::<Result<Vec<f64>>>())
        .collect::<Result<_>>()
        .with_context(|| format!("{} holds something that is not a number", file.display()))
}

/// Minutes from the middle and the edges of a drawn line, with independent noise of the width of the line.
fn redrawn(rows: &[Vec<f64>], seed: u64) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let last = rows.last().map_or(0.0, |row| row[0]) as usize;
    let mut at = 0;
    (rows[0][0] as usize..last)
        .map(|minute| {
            let minute = minute as f64;
            while at + 2 < rows.len() && rows[at + 1][0] <= minute {
                at += 1;
            }
            let (a, b) = (&rows[at], &rows[at + 1]);
            let share = ((minute - a[0]) / (b[0] - a[0])).clamp(0.0, 1.0);
            let of = |i: usize| a[i] + share * (b[i] - a[i]);
            let noise: f64 = StandardNormal.sample(&mut rng);
            (of(1) + noise * (of(3) - of(2)) / RANGE_OF_SEVEN).max(0.0) / 60.0
        })
        .collect()
}

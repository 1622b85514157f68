//! The forecast by itself: bounds of the peak minute of the next minutes beside the published rules. `make
//! bench-forecast` prints every rule on every series.

use std::path::Path;

use anyhow::Result;

use crate::Bench;
use crate::judge::{Contest, series};
use crate::table::{Section, Table};

/// Share of the peaks that a bound has to hold.
const QUANTILE: f64 = 0.95;
/// Minutes ahead.
const HORIZONS: [usize; 3] = [1, 5, 15];
/// Seeds of the noise of the digitised weeks.
const SEEDS: [u64; 3] = [11, 12, 13];

pub fn play(bench: &Bench) -> Result<Section> {
    let mut section = Section::new(
        "7. Forecasts",
        "pinball loss at 0.95 at most 3 % above that of the best method on every series, coverage 93 to 97 %.",
    );
    let seeds = if bench.is_quick { &SEEDS[..1] } else { &SEEDS[..] };
    let all = series::all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("data/traces"), seeds)?;
    let cells: Vec<_> = all.iter().flat_map(|s| HORIZONS.map(|h| (s, h))).collect();
    let contests = contests(&cells);
    let mut table = Table::new(&[
        "series",
        "ahead",
        "loss",
        "best of the others",
        "its loss",
        "over it",
        "coverage",
        "over peak",
        "change",
    ]);
    for ((series, horizon), contest) in cells.iter().zip(&contests) {
        let ours = contest.ours;
        let Some((name, best)) = contest.best() else { continue };
        let over = format!("{:+.1} %", 100.0 * (ours.loss / best.loss - 1.0));
        let coverage = format!("{:.1} %", ours.coverage);
        if series.gated {
            let figure = format!("{}, {horizon} min: {over} over the best, coverage {coverage}", series.name);
            section.judge(contest.met() == (true, true), figure);
        }
        let (loss, least) = (format!("{:.3}", ours.loss), format!("{:.3}", best.loss));
        let (above, change) = (format!("{:.1} %", ours.over), format!("{:.2}", ours.change));
        table.row(vec![
            series.name.clone(),
            format!("{horizon} min"),
            loss,
            name.into(),
            least,
            over,
            coverage,
            above,
            change,
        ]);
    }
    let seconds: f64 = contests.iter().map(|c| c.seconds).sum();
    eprintln!("{seconds:8.1} s  {} series of our own bounds", contests.len());
    section.say("Loss and the mean change from minute to minute in % of the mean rate. Every minute after a warm-up of sixty hours (six for r1) is an origin; series of one hour are shown, not judged.");
    section.table(&table);
    Ok(section)
}

/// All contests, two at a time where there are two processors.
fn contests(cells: &[(&series::Series, usize)]) -> Vec<Contest> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let share = cells.len().div_ceil(threads).max(1);
        let played = |part: &[(&series::Series, usize)]| {
            part.iter().map(|(series, horizon)| Contest::play(series, *horizon, QUANTILE)).collect::<Vec<_>>()
        };
        let threads: Vec<_> = cells.chunks(share).map(|part| scope.spawn(move || played(part))).collect();
        let finished = threads.into_iter().map(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        finished.flatten().collect()
    })
}

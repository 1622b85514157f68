//! The forecast by itself.

use anyhow::Result;

use crate::Bench;
use crate::table::{Section, Verdict};

pub fn play(_bench: &Bench) -> Result<Section> {
    let mut section = Section::new(
        "7. Forecasts",
        "pinball loss at 0.95 at most 3 % above that of the best method on every series, coverage 93 to 97 %.",
    );
    section.verdict = Verdict::Elsewhere;
    section.say("Run `make bench-forecast`: it prints every method on every series.");
    Ok(section)
}

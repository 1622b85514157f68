//! The live table, or plain lines where there is no terminal.

use std::fmt::Write as _;
use std::io::{Stdout, Write, stdout};

use anyhow::Result;
use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::terminal::{Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, size};
use crossterm::{execute, queue};

use super::fleet_lines;
use crate::cli::table;
use crate::simulate::{Scene, Stage, Summary};

/// Where the demo draws.
pub struct Screen {
    out: Stdout,
    live: bool,
    quiet: bool,
    /// Simulated time between two plain lines, seconds.
    line_seconds: f64,
    next_line_seconds: f64,
    head: String,
    last: Option<String>,
}

impl Screen {
    pub fn new(live: bool, quiet: bool, line_seconds: f64) -> Self {
        Self { out: stdout(), live, quiet, line_seconds, next_line_seconds: 0.0, head: String::new(), last: None }
    }

    pub fn greet(&mut self, stage: &Stage) -> Result<()> {
        let address = stage.address();
        let policy = stage.policy();
        self.head = format!(
            "poolwright demo: {} models, {} pools, {} accelerator types; page http://{address}/\n\
             replicas to scrape: {}\n\
             what HPA reads: curl 'http://{address}/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/poolwright_desired_replicas'\n",
            policy.models.len(),
            policy.pools.len(),
            policy.accelerators.len(),
            stage.discovery_url(),
            policy.models.first().map_or("default", |m| m.namespace.as_str()),
        );
        if self.live {
            execute!(self.out, EnterAlternateScreen, Hide)?;
        } else if !self.quiet {
            write!(self.out, "{}", self.head)?;
        }
        Ok(())
    }

    pub fn show(&mut self, scene: &Scene, speed: f64) -> Result<()> {
        if self.live {
            return self.draw(scene, speed);
        }
        if self.quiet || scene.at_seconds < self.next_line_seconds {
            return Ok(());
        }
        self.next_line_seconds = scene.at_seconds + self.line_seconds;
        writeln!(self.out, "{}", plain(scene))?;
        self.out.flush()?;
        Ok(())
    }

    fn draw(&mut self, scene: &Scene, speed: f64) -> Result<()> {
        let (width, height) = size()?;
        let mut text = format!("{}simulated {}, {speed}x\n\n", self.head, clock(scene.at_seconds));
        if let Some(decision) = &scene.decision {
            let _ = writeln!(text, "{}", table::pools(decision, Some(width)));
        }
        for line in fleet_lines(scene) {
            let _ = writeln!(text, "{line}");
        }
        let _ = writeln!(text, "\nCtrl-C ends with a summary");
        queue!(self.out, MoveTo(0, 0))?;
        for line in text.lines().take(usize::from(height.saturating_sub(1))) {
            queue!(self.out, Clear(ClearType::UntilNewLine))?;
            write!(self.out, "{line}\r\n")?;
        }
        queue!(self.out, Clear(ClearType::FromCursorDown))?;
        self.out.flush()?;
        self.last = Some(text);
        Ok(())
    }

    /// Give the terminal back, with the last picture above the summary.
    pub fn leave(&mut self) -> Result<()> {
        if self.live {
            self.live = false;
            execute!(self.out, LeaveAlternateScreen, Show)?;
            if let Some(text) = self.last.take() {
                writeln!(self.out, "{text}")?;
            }
        }
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // The terminal must not stay hidden when a step failed; a second failure here has no reader.
        let _ = self.leave();
    }
}

fn clock(seconds: f64) -> String {
    let minutes = (seconds / 60.0).floor();
    format!("{minutes:.0} min {:02.0} s", seconds - 60.0 * minutes)
}

/// One line: time, replicas, rate, cost, attainment.
fn plain(scene: &Scene) -> String {
    let mut text = clock(scene.at_seconds);
    if let Some(decision) = &scene.decision {
        for pool in &decision.pools {
            let number = |n: Option<u32>| n.map_or_else(|| "?".into(), |n| n.to_string());
            let _ = write!(text, "  {} {}→{}", pool.pool, number(pool.ready), number(pool.desired));
        }
        // An empty sum of floats is -0.
        let rate = decision.models.iter().filter_map(|m| m.offered_rate).sum::<f64>() + 0.0;
        let _ = write!(text, "  {rate:.1} req/s  {:.2} {}/h", scene.fleet.cost_per_hour, decision.currency);
        let _ = write!(text, " (static {:.2})", scene.fixed_cost_per_hour);
    }
    for class in &scene.fleet.classes {
        if let Some(attainment) = class.attainment {
            let _ = write!(text, "  {} {:.2} %", class.class, attainment * 100.0);
        }
    }
    text
}

/// The summary as text.
pub fn summary(summary: &Summary) -> String {
    let mut text = format!(
        "summary: seed {}, {} simulated, {} scale changes\n",
        summary.seed,
        clock(summary.simulated_seconds),
        summary.scale_changes
    );
    let c = &summary.currency;
    let _ = writeln!(
        text,
        "cost {:.2} {c}, static fleet for the busiest minute {:.2} {c}: {:.1} % {}",
        summary.cost,
        summary.static_cost,
        summary.saving.abs() * 100.0,
        if summary.saving < 0.0 { "more" } else { "saved" }
    );
    let share = |a: Option<f64>| a.map_or_else(|| "-".into(), |a| format!("{:.3} %", a * 100.0));
    for class in &summary.classes {
        let _ = writeln!(
            text,
            "class {}: attainment {} ({} of {} requests, {} missed); static fleet {}",
            class.class,
            share(class.attainment),
            class.met,
            class.arrived,
            class.missed,
            share(class.static_attainment)
        );
    }
    for pool in &summary.pools {
        let _ = writeln!(
            text,
            "pool {}: {} replicas on {} at the end; static fleet {}",
            pool.pool, pool.replicas, pool.accelerator, pool.static_replicas
        );
    }
    text
}

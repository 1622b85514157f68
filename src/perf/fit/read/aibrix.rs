//! The profile of AIBrix's GPU optimizer: rates, and what requests of each shape met at them. A row is an output
//! length, a column a prompt length; times are means in seconds.

use super::super::super::Shape;
use super::super::point::{Latency, Load, Point};
use super::json::At;
use super::{Measurements, ReadError};

const HINT: &str = "write the file with `aibrix_gen_profile`";

pub fn read(at: &At) -> Result<Measurements, ReadError> {
    let indexes = at.get("indexes", HINT)?;
    let axes = indexes.list()?;
    let [outputs, inputs] = &axes[..] else {
        return Err(indexes.refuse("must be two lists", "output lengths, then prompt lengths"));
    };
    let (outputs, inputs) = (outputs.list()?, inputs.list()?);
    let grid = |key: &str| at.maybe(key).map(|g| cells(&g, outputs.len(), inputs.len())).transpose();
    let rates = cells(&at.get("tputs", HINT)?, outputs.len(), inputs.len())?;
    let (response, ttft) = (grid("e2e")?, grid("ttft")?);
    let tpot = grid("tpot")?;
    if response.is_none() && tpot.is_none() {
        return Err(at.refuse("neither `e2e` nor `tpot` is there", "rates alone say nothing about latency"));
    }
    let target = at.maybe("slos").map(|s| s.value.to_string());
    let mut found = Measurements {
        format: "AIBrix profile",
        accelerator: at.maybe("gpu").and_then(|g| g.text()),
        ..Measurements::default()
    };
    let mut empty = 0;
    for (i, output) in outputs.iter().enumerate() {
        for (j, input) in inputs.iter().enumerate() {
            let rate = rates[i][j].number()?;
            if rate <= 0.0 {
                empty += 1;
                continue;
            }
            let shape = Shape { input_tokens: input.positive()?, output_tokens: output.positive()? };
            let mut point = Point::new(rates[i][j].origin(), Load::Open { rate, burstiness: 1.0 }, shape);
            let at_cell = |grid: &Option<Vec<Vec<At>>>| grid.as_ref().map(|g| g[i][j].positive()).transpose();
            point.ttft = at_cell(&ttft)?.map(Latency::mean);
            point.response_seconds = at_cell(&response)?;
            point.itl = at_cell(&tpot)?.map(Latency::mean);
            if let (None, Some(ttft), Some(response)) = (point.itl, point.ttft, point.response_seconds)
                && shape.output_tokens > 1.0
                && response > ttft.mean_seconds
            {
                let itl = (response - ttft.mean_seconds) / (shape.output_tokens - 1.0);
                point.itl = Some(Latency::mean(itl));
            }
            point.target.clone_from(&target);
            found.points.push(point);
        }
    }
    if empty > 0 {
        found.notes.push(format!("{}: {empty} cells without a rate that met the targets are left out", at.file));
    }
    if found.points.is_empty() {
        return Err(at.refuse("no cell has a rate", "profile with a looser target"));
    }
    Ok(found)
}

fn cells<'v>(grid: &At<'v>, rows: usize, columns: usize) -> Result<Vec<Vec<At<'v>>>, ReadError> {
    let cells = grid.list()?.iter().map(At::list).collect::<Result<Vec<_>, _>>()?;
    if cells.len() != rows || cells.iter().any(|row| row.len() != columns) {
        let message = format!("is not {rows} x {columns} as `indexes` says");
        return Err(grid.refuse(&message, "a row per output length, a column per prompt length"));
    }
    Ok(cells)
}

//! One pair of axes with its series: from values to what the plotting crate draws.

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Area, FONT, GRID, Guide, INK, Mark, Panel, PlotError, Series, colour, error};

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Share of the room between two x that bars fill together.
const BARS: f64 = 0.8;
/// Lengths of a dash and of the gap after it, pixels.
const DASH: (u32, u32) = (6, 4);

type Range = (f64, f64);

/// Draws a panel; its axes count placed values, the labels say what was measured.
pub(super) fn draw(panel: &Panel, area: &Area) -> Result<(), PlotError> {
    let nothing = || PlotError(format!("`{}` has no point", panel.title));
    let room = bar_room(panel);
    // A bar has a width beside its x.
    let reach = |s: &Series| if s.mark == Mark::Bars { room / 2.0 } else { 0.0 };
    let ends = |s: &Series| s.points.iter().flat_map(|p| [p.0 - reach(s), p.0 + reach(s)]).collect::<Vec<_>>();
    let xs = panel.x_axis.range(panel.series.iter().flat_map(ends)).ok_or_else(nothing)?;
    let ys = panel.y_axis.range(panel.series.iter().flat_map(|s| s.points.iter().map(|p| p.1))).ok_or_else(nothing)?;
    let mut chart = ChartBuilder::on(area)
        .margin(14)
        .x_label_area_size(48)
        .y_label_area_size(64)
        .caption(&panel.title, (FONT, 16).into_font().color(&INK))
        .build_cartesian_2d(xs.0..xs.1, ys.0..ys.1)
        .map_err(error)?;
    chart
        .configure_mesh()
        .disable_mesh()
        .x_labels(0)
        .y_labels(0)
        .axis_style(INK)
        .x_desc(&panel.x)
        .y_desc(&panel.y)
        .axis_desc_style((FONT, 14).into_font().color(&INK))
        .draw()
        .map_err(error)?;
    draw_grid(&chart, panel, xs, ys)?;
    for guide in &panel.guides {
        if let Some(x) = panel.x_axis.place(guide.at).filter(|x| *x > xs.0 && *x < xs.1) {
            draw_guide(&mut chart, guide, x, ys)?;
        }
    }
    let bars = panel.series.iter().filter(|s| s.mark == Mark::Bars).count();
    let mut bar = 0_u16;
    for series in &panel.series {
        let place = |p: &(f64, f64)| Some((panel.x_axis.place(p.0)?, panel.y_axis.place(p.1)?));
        let shown: Vec<(f64, f64)> = series.points.iter().filter_map(place).collect();
        if series.mark == Mark::Bars {
            let width = BARS * room / bars.max(1) as f64;
            let from = width * (f64::from(bar) - bars as f64 / 2.0);
            draw_bars(&mut chart, &shown, series, (from, width), ys.0)?;
            bar += 1;
        } else {
            draw_series(&mut chart, shown, series, ys.0)?;
        }
    }
    Ok(())
}

fn draw_series(chart: &mut Chart, shown: Vec<(f64, f64)>, series: &Series, bottom: f64) -> Result<(), PlotError> {
    let ink = colour(series.colour);
    match series.mark {
        Mark::Line => {
            chart.draw_series(LineSeries::new(shown, ink.stroke_width(2))).map_err(error)?;
        }
        Mark::Steps => {
            chart.draw_series(LineSeries::new(steps(&shown), ink.stroke_width(2))).map_err(error)?;
        }
        Mark::Dashes => {
            let dashes = DashedLineSeries::new(shown, DASH.0, DASH.1, ink.stroke_width(2));
            chart.draw_series(dashes).map_err(error)?;
        }
        Mark::Area => {
            let (Some(first), Some(last)) = (shown.first(), shown.last()) else { return Ok(()) };
            let ends = ((first.0, bottom), (last.0, bottom));
            let outline: Vec<_> = [ends.0].into_iter().chain(steps(&shown)).chain([ends.1]).collect();
            chart.draw_series([Polygon::new(outline, ink.filled())]).map_err(error)?;
        }
        Mark::Dots => {
            chart.draw_series(shown.into_iter().map(|p| Circle::new(p, 4, ink.filled()))).map_err(error)?;
        }
        Mark::Rings => {
            chart.draw_series(shown.into_iter().map(|p| Circle::new(p, 4, ink.stroke_width(1)))).map_err(error)?;
        }
        Mark::Halos => {
            chart.draw_series(shown.into_iter().map(|p| Circle::new(p, 9, ink.stroke_width(2)))).map_err(error)?;
        }
        Mark::Bars => {}
    }
    Ok(())
}

/// The corners of a staircase.
fn steps(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut corners: Vec<(f64, f64)> = Vec::with_capacity(2 * points.len());
    for &(x, y) in points {
        if let Some(&(_, before)) = corners.last()
            && before != y
        {
            corners.push((x, before));
        }
        corners.push((x, y));
    }
    corners
}

/// The least distance between two bars of a series; 1 where there are no two.
fn bar_room(panel: &Panel) -> f64 {
    let bars = panel.series.iter().filter(|s| s.mark == Mark::Bars);
    let gaps = bars.flat_map(|s| s.points.windows(2).map(|pair| pair[1].0 - pair[0].0));
    Some(gaps.filter(|gap| *gap > 0.0).fold(f64::INFINITY, f64::min)).filter(|gap| gap.is_finite()).unwrap_or(1.0)
}

/// Bars of one series, each from this far beside its x and this wide.
fn draw_bars(
    chart: &mut Chart,
    shown: &[(f64, f64)],
    series: &Series,
    (from, width): (f64, f64),
    bottom: f64,
) -> Result<(), PlotError> {
    let ink = colour(series.colour);
    let bar = |&(x, y): &(f64, f64)| Rectangle::new([(x + from, bottom), (x + from + width, y)], ink.filled());
    chart.draw_series(shown.iter().map(bar)).map_err(error)?;
    Ok(())
}

/// Grid lines and their labels.
fn draw_grid(chart: &Chart, panel: &Panel, xs: Range, ys: Range) -> Result<(), PlotError> {
    let area = chart.plotting_area();
    let style = |h, v| (FONT, 13).into_font().color(&INK).pos(Pos::new(h, v));
    for (at, label) in panel.x_axis.ticks(xs) {
        area.draw(&PathElement::new(vec![(at, ys.0), (at, ys.1)], GRID)).map_err(error)?;
        let text = EmptyElement::at((at, ys.0)) + Text::new(label, (0, 8), style(HPos::Center, VPos::Top));
        area.draw(&text).map_err(error)?;
    }
    for (at, label) in panel.y_axis.ticks(ys) {
        area.draw(&PathElement::new(vec![(xs.0, at), (xs.1, at)], GRID)).map_err(error)?;
        let text = EmptyElement::at((xs.0, at)) + Text::new(label, (-8, 0), style(HPos::Right, VPos::Center));
        area.draw(&text).map_err(error)?;
    }
    Ok(())
}

fn draw_guide(chart: &mut Chart, guide: &Guide, x: f64, (low, high): Range) -> Result<(), PlotError> {
    let ink = colour(guide.colour);
    let line = DashedLineSeries::new([(x, low), (x, high)], DASH.0, DASH.1, ink.stroke_width(1));
    chart.draw_series(line).map_err(error)?;
    let style = (FONT, 12).into_font().transform(FontTransform::Rotate270).color(&ink);
    let text = EmptyElement::at((x, high))
        + Text::new(guide.label.clone(), (-15, 6), style.pos(Pos::new(HPos::Right, VPos::Top)));
    chart.plotting_area().draw(&text).map_err(error)
}

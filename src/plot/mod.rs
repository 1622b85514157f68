//! Pictures: series over axes, as SVG text. It knows points, lines and scales and not what they mean; whoever draws
//! brings names, units and colours. The same input gives the same bytes.

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Colours that people with any colour vision can tell apart (Okabe and Ito); more series begin again.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(90, 90, 90),
    RGBColor(160, 140, 0),
];
const INK: RGBColor = RGBColor(51, 51, 51);
const GRID: RGBColor = RGBColor(228, 228, 228);
const FONT: &str = "sans-serif";

/// Size of one panel and of what stands around the panels, pixels.
const PANEL: (u32, u32) = (560, 400);
const TITLE: u32 = 46;
const LEGEND_LINE: u32 = 24;
/// Entries of the legend beside each other.
const LEGEND_COLUMNS: usize = 4;

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Dots,
    /// Dots without filling: what is shown but was not used.
    Rings,
    Line,
}

/// Points of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub points: Vec<(f64, f64)>,
    pub mark: Mark,
    /// Number of the colour.
    pub colour: usize,
}

/// A vertical line.
#[derive(Clone, Debug, PartialEq)]
pub struct Guide {
    pub at: f64,
    pub label: String,
    pub colour: usize,
}

/// One pair of axes; both are logarithmic.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Panel {
    pub title: String,
    pub x: String,
    pub y: String,
    pub series: Vec<Series>,
    pub guides: Vec<Guide>,
}

/// A line of the legend.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub name: String,
    pub mark: Option<Mark>,
    pub colour: Option<usize>,
}

/// A whole picture: panels two beside each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Picture {
    pub title: String,
    pub panels: Vec<Panel>,
    pub legend: Vec<Entry>,
}

/// A picture cannot be drawn.
#[derive(Debug, thiserror::Error)]
#[error("the picture cannot be drawn: {0}")]
pub struct PlotError(String);

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn error(e: impl std::fmt::Display) -> PlotError {
    PlotError(e.to_string())
}

fn colour(index: usize) -> RGBColor {
    COLOURS[index % COLOURS.len()]
}

/// Draws `picture`.
///
/// # Errors
/// A panel has no point that a logarithmic axis can show.
pub fn svg(picture: &Picture) -> Result<String, PlotError> {
    let columns = picture.panels.len().clamp(1, 2);
    let rows = picture.panels.len().div_ceil(2).max(1);
    let legend = LEGEND_LINE * picture.legend.len().div_ceil(LEGEND_COLUMNS) as u32 + 14;
    let size = (PANEL.0 * columns as u32, TITLE + PANEL.1 * rows as u32 + legend);
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        root.fill(&WHITE).map_err(error)?;
        let title = (FONT, 20).into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
        root.draw(&Text::new(picture.title.clone(), (18, TITLE as i32 / 2 + 4), title)).map_err(error)?;
        let (_, rest) = root.split_vertically(TITLE);
        let (middle, bottom) = rest.split_vertically(PANEL.1 * rows as u32);
        for (panel, area) in picture.panels.iter().zip(middle.split_evenly((rows, columns))) {
            draw_panel(panel, &area)?;
        }
        draw_legend(&picture.legend, &bottom)?;
        root.present().map_err(error)?;
    }
    Ok(text)
}

/// From below the smallest to above the largest value, wide enough to see.
fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let usable = values.filter(|v| v.is_finite() && *v > 0.0);
    let (low, high) = usable.fold((f64::INFINITY, 0.0f64), |(l, h), v| (l.min(v), h.max(v)));
    (high > 0.0).then(|| {
        let pad = (high / low).powf(0.06).max(1.15);
        (low / pad, high * pad)
    })
}

/// 1, 2, 5, 10, … within a range; only the tens where there would be too many.
fn ticks((low, high): (f64, f64)) -> Vec<f64> {
    let (from, to) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let steps: &[f64] = if high / low > 3e3 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let all = (from..=to).flat_map(|e| steps.iter().map(move |s| s * 10f64.powi(e)));
    all.filter(|v| *v >= low && *v <= high).collect()
}

fn label(value: f64) -> String {
    let digits = if value >= 1.0 { 0 } else { (-value.log10()).ceil() as usize };
    match value {
        v if v >= 1e6 => format!("{}M", v / 1e6),
        v if v >= 1e4 => format!("{}k", v / 1e3),
        v => format!("{v:.digits$}"),
    }
}

fn draw_panel(panel: &Panel, area: &Area) -> Result<(), PlotError> {
    let points = || panel.series.iter().flat_map(|s| s.points.iter().copied());
    let nothing = || PlotError(format!("`{}` has no point", panel.title));
    let xs = range(points().map(|p| p.0)).ok_or_else(nothing)?;
    let ys = range(points().map(|p| p.1)).ok_or_else(nothing)?;
    let mut chart = ChartBuilder::on(area)
        .margin(14)
        .x_label_area_size(48)
        .y_label_area_size(64)
        .caption(&panel.title, (FONT, 16).into_font().color(&INK))
        .build_cartesian_2d(xs.0.log10()..xs.1.log10(), ys.0.log10()..ys.1.log10())
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
    draw_grid(&chart, xs, ys)?;
    for guide in panel.guides.iter().filter(|g| g.at > xs.0 && g.at < xs.1) {
        draw_guide(&mut chart, guide, ys)?;
    }
    for series in &panel.series {
        let shown = series.points.iter().filter(|p| p.0 > 0.0 && p.1 > 0.0).map(|p| (p.0.log10(), p.1.log10()));
        let ink = colour(series.colour);
        match series.mark {
            Mark::Line => {
                chart.draw_series(LineSeries::new(shown, ink.stroke_width(2))).map_err(error)?;
            }
            Mark::Dots => {
                chart.draw_series(shown.map(|p| Circle::new(p, 4, ink.filled()))).map_err(error)?;
            }
            Mark::Rings => {
                chart.draw_series(shown.map(|p| Circle::new(p, 4, ink.stroke_width(1)))).map_err(error)?;
            }
        }
    }
    Ok(())
}

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Grid lines and their labels: the axes count logarithms, the labels say what was measured.
fn draw_grid(chart: &Chart, xs: (f64, f64), ys: (f64, f64)) -> Result<(), PlotError> {
    let area = chart.plotting_area();
    let style = |h, v| (FONT, 13).into_font().color(&INK).pos(Pos::new(h, v));
    for tick in ticks(xs) {
        let line = PathElement::new(vec![(tick.log10(), ys.0.log10()), (tick.log10(), ys.1.log10())], GRID);
        area.draw(&line).map_err(error)?;
        let at = EmptyElement::at((tick.log10(), ys.0.log10()))
            + Text::new(label(tick), (0, 8), style(HPos::Center, VPos::Top));
        area.draw(&at).map_err(error)?;
    }
    for tick in ticks(ys) {
        let line = PathElement::new(vec![(xs.0.log10(), tick.log10()), (xs.1.log10(), tick.log10())], GRID);
        area.draw(&line).map_err(error)?;
        let at = EmptyElement::at((xs.0.log10(), tick.log10()))
            + Text::new(label(tick), (-8, 0), style(HPos::Right, VPos::Center));
        area.draw(&at).map_err(error)?;
    }
    Ok(())
}

fn draw_guide(chart: &mut Chart, guide: &Guide, ys: (f64, f64)) -> Result<(), PlotError> {
    let x = guide.at.log10();
    let (low, high) = (ys.0.log10(), ys.1.log10());
    let ink = colour(guide.colour);
    let line = DashedLineSeries::new([(x, low), (x, high)], 6, 4, ink.stroke_width(1));
    chart.draw_series(line).map_err(error)?;
    let style = (FONT, 12).into_font().transform(FontTransform::Rotate270).color(&ink);
    let text = EmptyElement::at((x, high))
        + Text::new(guide.label.clone(), (-15, 6), style.pos(Pos::new(HPos::Right, VPos::Top)));
    chart.plotting_area().draw(&text).map_err(error)
}

fn draw_legend(legend: &[Entry], area: &Area) -> Result<(), PlotError> {
    let (width, _) = area.dim_in_pixel();
    let step = (width as i32 - 36) / LEGEND_COLUMNS as i32;
    for (index, entry) in legend.iter().enumerate() {
        let x = 18 + step * (index % LEGEND_COLUMNS) as i32;
        let y = (LEGEND_LINE as usize * (index / LEGEND_COLUMNS)) as i32 + 12;
        let ink = entry.colour.map_or(INK, colour);
        let centre = (x + 12, y);
        match entry.mark {
            Some(Mark::Dots) => area.draw(&Circle::new(centre, 4, ink.filled())).map_err(error)?,
            Some(Mark::Rings) => area.draw(&Circle::new(centre, 4, ink.stroke_width(1))).map_err(error)?,
            Some(Mark::Line) => {
                area.draw(&PathElement::new(vec![(x, y), (x + 24, y)], ink.stroke_width(2))).map_err(error)?;
            }
            None => area.draw(&Rectangle::new([(x + 4, y - 6), (x + 20, y + 6)], ink.filled())).map_err(error)?,
        }
        let style = (FONT, 14).into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw(&Text::new(entry.name.clone(), (x + 32, y), style)).map_err(error)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(points: Vec<(f64, f64)>) -> Picture {
        let series = vec![Series { points, mark: Mark::Dots, colour: 0 }];
        let guides = vec![Guide { at: 4.0, label: "full <here>".to_owned(), colour: 1 }];
        Picture {
            title: "T".to_owned(),
            panels: vec![Panel { title: "P".to_owned(), series, guides, ..Panel::default() }],
            legend: vec![Entry { name: "one".to_owned(), mark: Some(Mark::Dots), colour: Some(0) }],
        }
    }

    #[test]
    fn the_same_picture_is_the_same_text() {
        let drawn = svg(&picture(vec![(1.0, 10.0), (8.0, 300.0)])).unwrap();
        assert_eq!(drawn, svg(&picture(vec![(1.0, 10.0), (8.0, 300.0)])).unwrap());
        assert!(drawn.starts_with("<svg") && drawn.trim_end().ends_with("</svg>"));
        assert!(drawn.contains("full &lt;here&gt;") && drawn.matches("<circle").count() == 3);
    }

    #[test]
    fn nothing_to_show_is_an_error_and_one_point_is_not() {
        assert!(svg(&picture(vec![])).is_err());
        assert!(svg(&picture(vec![(0.0, 1.0)])).is_err());
        assert!(svg(&picture(vec![(1.0, 1.0)])).is_ok());
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(ticks((0.9, 33.0)), [1.0, 2.0, 5.0, 10.0, 20.0]);
        assert_eq!(ticks((0.9, 1e5)), [1.0, 10.0, 100.0, 1000.0, 1e4, 1e5]);
        assert_eq!([0.05, 0.5, 1.0, 2000.0, 2e4].map(label), ["0.05", "0.5", "1", "2000", "20k"]);
    }
}

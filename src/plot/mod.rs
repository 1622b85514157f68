//! Pictures: series over axes, as SVG text. It knows points, marks and scales and not what they mean; whoever draws
//! brings names, units and colours. The same input gives the same bytes.

mod axis;
mod panel;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

pub use axis::Axis;

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
/// Number of the grey among the colours: targets and what is not compared.
pub const GREY: usize = 6;
const INK: RGBColor = RGBColor(51, 51, 51);
const GRID: RGBColor = RGBColor(228, 228, 228);
const FONT: &str = "sans-serif";

/// What a page with a dark background shows in the place of paper, ink, grid and the darker colours.
const DARK: [(RGBColor, &str); 5] =
    [(WHITE, "#16191d"), (INK, "#d6d9dd"), (GRID, "#31363d"), (COLOURS[0], "#3d9be0"), (COLOURS[GREY], "#9aa1a9")];

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
    /// Larger rings around what is to be noticed.
    Halos,
    Line,
    Dashes,
    /// Every value holds until the next one.
    Steps,
    /// As steps, filled down to 0. Of several the tallest comes first: those after it are drawn over it.
    Area,
    /// A bar around every x, which ascend evenly; those of several series stand beside each other.
    Bars,
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

/// One pair of axes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Panel {
    pub title: String,
    pub x: String,
    pub y: String,
    pub x_axis: Axis,
    pub y_axis: Axis,
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

/// A whole picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Picture {
    pub title: String,
    pub panels: Vec<Panel>,
    pub legend: Vec<Entry>,
    pub layout: Layout,
}

/// How panels stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Panels beside each other, at least 1.
    pub columns: usize,
    /// Width and height of one, pixels.
    pub panel: (u32, u32),
}

impl Default for Layout {
    fn default() -> Self {
        Self { columns: 2, panel: (560, 400) }
    }
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
/// A panel has no point that its axes can show.
pub fn svg(picture: &Picture) -> Result<String, PlotError> {
    let Layout { columns, panel } = picture.layout;
    let columns = picture.panels.len().clamp(1, columns.max(1));
    let rows = picture.panels.len().div_ceil(columns).max(1);
    let legend = LEGEND_LINE * picture.legend.len().div_ceil(LEGEND_COLUMNS) as u32 + 14;
    let size = (panel.0 * columns as u32, TITLE + panel.1 * rows as u32 + legend);
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        root.fill(&WHITE).map_err(error)?;
        let title = (FONT, 20).into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
        root.draw(&Text::new(picture.title.clone(), (18, TITLE as i32 / 2 + 4), title)).map_err(error)?;
        let (_, rest) = root.split_vertically(TITLE);
        let (middle, bottom) = rest.split_vertically(panel.1 * rows as u32);
        for (panel, area) in picture.panels.iter().zip(middle.split_evenly((rows, columns))) {
            panel::draw(panel, &area)?;
        }
        draw_legend(&picture.legend, &bottom)?;
        root.present().map_err(error)?;
    }
    Ok(text)
}

/// Rules of a style sheet that show pictures inside `selector` on a dark background.
pub fn dark_style(selector: &str) -> String {
    let rule = |(from, to): &(RGBColor, &str)| {
        let RGBColor(r, g, b) = from;
        let from = format!("#{r:02X}{g:02X}{b:02X}");
        format!("{selector} [fill=\"{from}\"]{{fill:{to}}}{selector} [stroke=\"{from}\"]{{stroke:{to}}}")
    };
    DARK.iter().map(rule).collect()
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
            Some(Mark::Halos) => area.draw(&Circle::new(centre, 8, ink.stroke_width(2))).map_err(error)?,
            Some(Mark::Line | Mark::Steps) => {
                area.draw(&PathElement::new(vec![(x, y), (x + 24, y)], ink.stroke_width(2))).map_err(error)?;
            }
            Some(Mark::Dashes) => {
                for from in [x, x + 9, x + 18] {
                    area.draw(&PathElement::new(vec![(from, y), (from + 6, y)], ink.stroke_width(2))).map_err(error)?;
                }
            }
            None | Some(Mark::Area | Mark::Bars) => {
                area.draw(&Rectangle::new([(x + 4, y - 6), (x + 20, y + 6)], ink.filled())).map_err(error)?;
            }
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
            ..Picture::default()
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
    fn every_mark_is_drawn_and_every_neutral_colour_has_a_dark_one() {
        let mut picture = picture(vec![]);
        let series = |mark| Series { points: vec![(0.0, 1.0), (1.0, 3.0), (2.0, 0.0)], mark, colour: 2 };
        picture.panels[0].series = [Mark::Area, Mark::Steps, Mark::Bars, Mark::Bars].map(series).to_vec();
        (picture.panels[0].x_axis, picture.panels[0].y_axis) = (Axis::Span, Axis::Linear);
        let drawn = svg(&picture).unwrap();
        assert_eq!((drawn.matches("<polygon").count(), drawn.matches("<polyline").count() > 1), (1, true));
        // The paper and two bars for each of three points.
        assert_eq!(drawn.matches("<rect").count(), 7, "{drawn}");
        let style = dark_style(".p");
        for neutral in ["#FFFFFF", "#333333", "#E4E4E4"] {
            assert!(drawn.contains(neutral) && style.contains(&format!("[fill=\"{neutral}\"]")), "{neutral}");
        }
    }
}

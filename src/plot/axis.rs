//! Axes: where on a line a value stands, and what is written beside it.

/// How an axis counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Axis {
    /// Tenfold steps; shows values above 0.
    #[default]
    Log,
    /// From 0 to above the largest value; shows values from 0.
    Linear,
    /// From the smallest to the largest value, for example time.
    Span,
    /// Shares from 0 to below 1; every nine takes as much room as the one before it.
    Nines,
    /// One name beside the other; the first stands at 0, the second at 1.
    Names(Vec<String>),
}

/// Room left of the first and right of the last name, in names.
const BESIDE_NAMES: f64 = 0.6;
/// Ticks of a linear axis, at most.
const MOST_TICKS: f64 = 6.0;
/// Ticks of an axis of shares.
/// Those that come later are left out where there is no room beside the earlier ones.
const NINES: [f64; 11] = [0.9, 0.99, 0.999, 0.9999, 0.99999, 0.0, 0.5, 0.95, 0.995, 0.8, 0.98];
/// Room that a label needs, share of the axis.
const LABEL: f64 = 0.11;

impl Axis {
    /// Where a value stands; `None` when the axis cannot show it.
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        let placed = match self {
            Self::Log if value > 0.0 => value.log10(),
            Self::Linear if value >= 0.0 => value,
            Self::Nines if (0.0..1.0).contains(&value) => -(1.0 - value).log10(),
            Self::Span | Self::Names(_) => value,
            _ => return None,
        };
        placed.is_finite().then_some(placed)
    }

    /// From where to where the axis goes, as placed; `None` without a value that it can show.
    pub(super) fn range(&self, values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
        let usable = values.filter_map(|value| self.place(value));
        let (low, high) = usable.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if low > high {
            return None;
        }
        Some(match self {
            // Wide enough to see.
            Self::Log => {
                let pad = (0.06 * (high - low)).max(1.15_f64.log10());
                (low - pad, high + pad)
            }
            Self::Linear => (0.0, if high > 0.0 { 1.08 * high } else { 1.0 }),
            Self::Span => (low, if high > low { high } else { low + 1.0 }),
            Self::Nines => {
                let pad = (0.06 * (high - low)).max(0.1);
                ((low - pad).max(0.0), high + pad)
            }
            Self::Names(names) => (-BESIDE_NAMES, names.len().max(1) as f64 - 1.0 + BESIDE_NAMES),
        })
    }

    /// Round values within a range as placed, each with its label.
    pub(super) fn ticks(&self, (low, high): (f64, f64)) -> Vec<(f64, String)> {
        let inside = |(at, _): &(f64, String)| *at >= low && *at <= high;
        let all: Vec<(f64, String)> = match self {
            Self::Log => {
                let (from, to) = (low.floor() as i32, high.ceil() as i32);
                // Only the tens where there would be too many.
                let steps: &[f64] = match high - low {
                    width if width > 3e3_f64.log10() => &[1.0],
                    width if width > 6_f64.log10() => &[1.0, 2.0, 5.0],
                    _ => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0],
                };
                let values = (from..=to).flat_map(|e| steps.iter().map(move |s| s * 10f64.powi(e)));
                values.map(|value| (value.log10(), label(value))).collect()
            }
            Self::Linear | Self::Span => {
                let step = step(high - low);
                let (from, to) = ((low / step).ceil() as i64, (high / step).floor() as i64);
                let digits = (-step.log10()).ceil().max(0.0) as usize;
                (from..=to)
                    .map(|n| {
                        let value = n as f64 * step;
                        (value, if value >= 1e4 { label(value) } else { format!("{value:.digits$}") })
                    })
                    .collect()
            }
            Self::Nines => {
                let mut chosen: Vec<(f64, f64)> = vec![];
                for share in NINES {
                    let Some(at) = self.place(share).filter(|at| *at >= low && *at <= high) else { continue };
                    if chosen.iter().all(|(other, _)| (other - at).abs() >= LABEL * (high - low)) {
                        chosen.push((at, share));
                    }
                }
                chosen.sort_by(|a, b| a.0.total_cmp(&b.0));
                chosen.into_iter().map(|(at, share)| (at, format!("{} %", (1e5 * share).round() / 1e3))).collect()
            }
            Self::Names(names) => names.iter().enumerate().map(|(i, name)| (i as f64, name.clone())).collect(),
        };
        all.into_iter().filter(inside).collect()
    }
}

/// 1, 2 or 5 times a power of ten.
fn step(width: f64) -> f64 {
    let least = width / MOST_TICKS;
    let ten = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|s| s * ten).find(|s| *s >= least).unwrap_or(10.0 * ten)
}

fn label(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{}M", v / 1e6),
        v if v >= 1e4 => format!("{}k", v / 1e3),
        // Without the noise of the last bits, and then as short as can be.
        v => format!("{v:.1e}").parse::<f64>().unwrap_or(v).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis, low: f64, high: f64) -> Vec<String> {
        axis.ticks((low, high)).into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(labels(&Axis::Log, 0.9_f64.log10(), 33_f64.log10()), ["1", "2", "5", "10", "20"]);
        assert_eq!(labels(&Axis::Log, -0.1, 5.0), ["1", "10", "100", "1000", "10k", "100k"]);
        assert_eq!([0.05, 0.15, 1.0, 1.5, 2000.0, 2e4].map(label), ["0.05", "0.15", "1", "1.5", "2000", "20k"]);
        assert_eq!(labels(&Axis::Linear, 0.0, 23.0), ["0", "5", "10", "15", "20"]);
        assert_eq!(labels(&Axis::Linear, 0.0, 0.5), ["0.0", "0.1", "0.2", "0.3", "0.4", "0.5"]);
        assert_eq!(labels(&Axis::Span, 30.0, 33.0), ["30.0", "30.5", "31.0", "31.5", "32.0", "32.5", "33.0"]);
        assert_eq!(labels(&Axis::Nines, 0.9, 3.1), ["90 %", "95 %", "98 %", "99 %", "99.5 %", "99.9 %"]);
        assert_eq!(labels(&Axis::Nines, 0.0, 5.3), ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"]);
        assert_eq!(labels(&Axis::Log, 21_f64.log10(), 90_f64.log10()), ["30", "40", "50", "60", "80"]);
    }

    #[test]
    fn what_an_axis_cannot_show_has_no_place() {
        assert_eq!((Axis::Log.place(0.0), Axis::Linear.place(-1.0), Axis::Nines.place(1.0)), (None, None, None));
        assert_eq!(Axis::Span.place(f64::NAN), None);
        assert_eq!(Axis::Log.range([0.0, -1.0].into_iter()), None);
        assert_eq!(Axis::Linear.range([0.0].into_iter()), Some((0.0, 1.0)));
        let names = Axis::Names(vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(names.range([0.0].into_iter()), Some((-0.6, 1.6)));
        assert_eq!(names.ticks((-0.6, 1.6)), [(0.0, "a".to_owned()), (1.0, "b".to_owned())]);
    }
}

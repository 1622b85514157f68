//! How numbers are told to people, and how figures are rounded. Knows nothing of what they mean.

/// With its thousands apart: `1,234.50`.
pub(super) fn grouped(value: f64, digits: usize) -> String {
    let text = format!("{:.digits$}", value.abs());
    let (whole, rest) = text.split_once('.').map_or((text.as_str(), None), |(w, r)| (w, Some(r)));
    let mut told = if value < 0.0 { "-".to_owned() } else { String::new() };
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            told.push(',');
        }
        told.push(digit);
    }
    match rest {
        Some(rest) => format!("{told}.{rest}"),
        None => told,
    }
}

/// A share with as many digits as tell it from 100 %: `99.891 %`; below 1 it is never rounded up to 100.
pub(super) fn percent(share: f64) -> String {
    match share {
        s if s < 0.99 => format!("{:.1} %", 100.0 * s),
        s if s < 1.0 => format!("{:.3} %", (100.0 * s).min(99.999)),
        s => format!("{:.3} %", 100.0 * s),
    }
}

/// Six digits are enough for figures; fewer bytes, and no noise of the last bits.
pub(super) fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let scale = 10f64.powi(5 - value.abs().log10().floor() as i32);
    if scale.is_finite() && scale > 0.0 { (value * scale).round() / scale } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_as_people_read_them() {
        assert_eq!(
            [grouped(1_234_567.0, 0), grouped(999.5, 2), grouped(-1000.0, 0)],
            ["1,234,567", "999.50", "-1,000"]
        );
        assert_eq!([0.999_999_9, 1.0, 0.999, 0.875].map(percent), ["99.999 %", "100.000 %", "99.900 %", "87.5 %"]);
        assert_eq!([0.0, 123.456_789, 0.000_123_456_78, f64::NAN].map(rounded), [0.0, 123.457, 0.000_123_457, 0.0]);
    }
}

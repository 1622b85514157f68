//! Reading single values out of an object of the cluster, whatever is in it.

use std::collections::BTreeMap;

use serde_json::Value;

/// The text at a JSON pointer; nothing where it is empty or something else.
pub fn text(value: &Value, pointer: &str) -> Option<String> {
    value.pointer(pointer)?.as_str().filter(|t| !t.is_empty()).map(str::to_owned)
}

/// The whole number at a JSON pointer.
pub fn int(value: &Value, pointer: &str) -> Option<i64> {
    value.pointer(pointer)?.as_i64()
}

/// A number of replicas.
pub fn count(value: &Value, pointer: &str) -> Option<u32> {
    u32::try_from(int(value, pointer)?).ok()
}

/// A list; nothing there is an empty one.
pub fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A map of texts; what is no text is left out.
pub fn texts(value: &Value, pointer: &str) -> BTreeMap<String, String> {
    let map = value.pointer(pointer).and_then(Value::as_object);
    let pair = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    map.into_iter().flatten().filter_map(pair).collect()
}

/// A quantity as Kubernetes writes it (`1`, `1500m`, `0.1`), or a JSON number.
pub fn quantity(value: &Value, pointer: &str) -> Option<f64> {
    let number = match value.pointer(pointer)? {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => parse_quantity(text),
        _ => None,
    };
    number.filter(|n| n.is_finite())
}

fn parse_quantity(text: &str) -> Option<f64> {
    let text = text.trim();
    if let Ok(number) = text.parse::<f64>() {
        return Some(number);
    }
    let suffix = text.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '+' | '-'));
    let factor = match suffix {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        _ => return None,
    };
    text.strip_suffix(suffix)?.parse::<f64>().ok().map(|number| number * factor)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn quantities_are_read_in_every_form() {
        for (given, expected) in [
            (json!("1"), Some(1.0)),
            (json!("1000m"), Some(1.0)),
            (json!("1e0"), Some(1.0)),
            (json!("0.1"), Some(0.1)),
            (json!(2), Some(2.0)),
            (json!("2Ki"), Some(2048.0)),
            (json!("one"), None),
            (json!("m"), None),
            (json!("NaN"), None),
            (json!([1]), None),
        ] {
            assert_eq!(quantity(&json!({ "q": given }), "/q"), expected, "{given}");
        }
    }
}

//! Rows of measured latencies in the columns of aiconfigurator's `silicon_sample.csv`.

use std::collections::HashMap;

/// One side of a measured system: a replica, or the prefill or decode workers of a disaggregated one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    /// Requests in flight at one worker, or at each group of attention data parallelism if there are several.
    pub batch: Option<u32>,
    pub tensor: u32,
    pub pipeline: u32,
    pub attention_data: Option<u32>,
}

/// How the latencies were measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    Aggregated(Side),
    /// The decode side.
    Disaggregated(Side),
}

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Line of the file, from 1.
    pub line: u64,
    pub backend: String,
    pub model: String,
    pub system: String,
    pub gemm_format: String,
    pub expert_format: String,
    pub input_tokens: u32,
    pub output_tokens: u32,
    pub serving: Serving,
    pub expert_tensor: u32,
    pub expert_parallel: u32,
    pub ttft_seconds: f64,
    pub tpot_seconds: f64,
}

/// Why a file is no file of points.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PointError {
    #[error("line {line}: {what}")]
    Unreadable { line: u64, what: String },
    #[error("line 1: there is no column `{0}`; wanted are the columns of aiconfigurator's silicon_sample.csv")]
    NoColumn(&'static str),
    #[error("line {line}, column `{column}`: `{value}` is wrong, {wanted} is right")]
    Value { line: u64, column: &'static str, value: String, wanted: &'static str },
    #[error("there are no rows after the header")]
    Empty,
}

const COLUMNS: [&str; 20] = [
    "backend",
    "model_path",
    "system",
    "mode",
    "isl",
    "osl",
    "gemm_quant_mode",
    "moe_quant_mode",
    "batch_size",
    "tp_size",
    "pp_size",
    "attention_dp_size",
    "moe_tp_size",
    "moe_ep_size",
    "decode_batch_size",
    "decode_tp_size",
    "decode_pp_size",
    "decode_attention_dp_size",
    "silicon_ttft_ms",
    "silicon_tpot_ms",
];

/// The points of a file.
///
/// # Errors
/// The first row that cannot be read, with its line, column and value.
pub fn read_points(text: &[u8]) -> Result<Vec<Measured>, PointError> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text);
    let header = reader.headers().map_err(|e| unreadable(&e))?.clone();
    let mut columns = HashMap::new();
    for name in COLUMNS {
        let place = header.iter().position(|h| h.trim_start_matches('\u{feff}') == name);
        columns.insert(name, place.ok_or(PointError::NoColumn(name))?);
    }
    let mut points = vec![];
    for record in reader.records() {
        let record = record.map_err(|e| unreadable(&e))?;
        let line = record.position().map_or(0, csv::Position::line);
        points.push(Fields { columns: &columns, record: &record, line }.point()?);
    }
    if points.is_empty() { Err(PointError::Empty) } else { Ok(points) }
}

fn unreadable(error: &csv::Error) -> PointError {
    let line = error.position().map_or(1, csv::Position::line);
    let what = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} fields where the header has {expected_len}")
        }
        csv::ErrorKind::Utf8 { .. } => "no UTF-8 text".to_owned(),
        _ => error.to_string(),
    };
    PointError::Unreadable { line, what }
}

struct Fields<'a> {
    columns: &'a HashMap<&'static str, usize>,
    record: &'a csv::StringRecord,
    line: u64,
}

impl Fields<'_> {
    fn text(&self, column: &'static str) -> &str {
        self.columns.get(column).and_then(|i| self.record.get(*i)).unwrap_or_default()
    }

    fn wrong(&self, column: &'static str, wanted: &'static str) -> PointError {
        PointError::Value { line: self.line, column, value: self.text(column).to_owned(), wanted }
    }

    fn name(&self, column: &'static str) -> Result<String, PointError> {
        match self.text(column) {
            "" => Err(self.wrong(column, "a name")),
            name => Ok(name.to_owned()),
        }
    }

    /// A whole number; some writers print `8.0`.
    fn maybe_count(&self, column: &'static str) -> Result<Option<u32>, PointError> {
        let text = self.text(column);
        let whole = text.strip_suffix(".0").unwrap_or(text);
        match whole {
            "" | "nan" | "NaN" => Ok(None),
            digits => digits
                .parse::<u32>()
                .ok()
                .filter(|n| *n <= MOST)
                .map(Some)
                .ok_or_else(|| self.wrong(column, "a whole number up to 100000000 or nothing")),
        }
    }

    fn count(&self, column: &'static str) -> Result<u32, PointError> {
        match self.maybe_count(column)? {
            Some(n) if n > 0 => Ok(n),
            _ => Err(self.wrong(column, "a whole number from 1")),
        }
    }

    fn seconds(&self, column: &'static str) -> Result<f64, PointError> {
        let ms = self.text(column).parse::<f64>().ok().filter(|ms| ms.is_finite() && *ms > 0.0 && *ms < 1e9);
        ms.map(|ms| ms / 1e3).ok_or_else(|| self.wrong(column, "a positive number of milliseconds"))
    }

    fn side(&self, columns: [&'static str; 4]) -> Result<Side, PointError> {
        let [batch, tensor, pipeline, data] = columns;
        Ok(Side {
            batch: self.maybe_count(batch)?.filter(|b| *b > 0),
            tensor: self.count(tensor)?,
            pipeline: self.maybe_count(pipeline)?.unwrap_or(1).max(1),
            attention_data: self.maybe_count(data)?.filter(|n| *n > 0),
        })
    }

    fn point(&self) -> Result<Measured, PointError> {
        let serving = match self.text("mode") {
            "agg" | "aggregated" => {
                Serving::Aggregated(self.side(["batch_size", "tp_size", "pp_size", "attention_dp_size"])?)
            }
            "disagg" | "disaggregated" => Serving::Disaggregated(self.side([
                "decode_batch_size",
                "decode_tp_size",
                "decode_pp_size",
                "decode_attention_dp_size",
            ])?),
            _ => return Err(self.wrong("mode", "`agg` or `disagg`")),
        };
        Ok(Measured {
            line: self.line,
            backend: self.name("backend")?,
            model: self.name("model_path")?,
            system: self.name("system")?,
            gemm_format: self.text("gemm_quant_mode").to_owned(),
            expert_format: self.text("moe_quant_mode").to_owned(),
            input_tokens: self.count("isl")?,
            output_tokens: self.count("osl")?,
            serving,
            expert_tensor: self.maybe_count("moe_tp_size")?.unwrap_or(0),
            expert_parallel: self.maybe_count("moe_ep_size")?.unwrap_or(0),
            ttft_seconds: self.seconds("silicon_ttft_ms")?,
            tpot_seconds: self.seconds("silicon_tpot_ms")?,
        })
    }
}

const MOST: u32 = 100_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "backend,backend_version,model_path,system,precision,mode,isl,osl,gemm_quant_mode,\
        moe_quant_mode,batch_size,tp_size,pp_size,attention_dp_size,moe_tp_size,moe_ep_size,prefill_batch_size,\
        prefill_num_workers,prefill_tp_size,prefill_pp_size,prefill_attention_dp_size,decode_batch_size,\
        decode_num_workers,decode_tp_size,decode_pp_size,decode_attention_dp_size,silicon_ttft_ms,silicon_tpot_ms";
    const AGG: &str =
        "vllm,,meta-llama/Llama-3.1-70B,h100_sxm,fp8,agg,1024,1024,fp8,fp8,16,2,1,1,2,1,,,,,,,,,,,253.1,19.74";

    fn read(rows: &str) -> Result<Vec<Measured>, PointError> {
        read_points(format!("{HEADER}\n{rows}\n").as_bytes())
    }

    #[test]
    fn a_row_becomes_seconds_and_counts() {
        let point = &read(AGG).unwrap()[0];
        assert_eq!((point.line, point.input_tokens, point.output_tokens), (2, 1024, 1024));
        assert!((point.ttft_seconds - 0.2531).abs() < 1e-12 && (point.tpot_seconds - 0.01974).abs() < 1e-12);
        let Serving::Aggregated(side) = point.serving else { panic!("{point:?}") };
        assert_eq!(side, Side { batch: Some(16), tensor: 2, pipeline: 1, attention_data: Some(1) });
    }

    #[test]
    fn what_is_wrong_is_named_in_one_line() {
        for (rows, wanted) in [
            (AGG.replace(",agg,", ",both,"), "line 2, column `mode`: `both` is wrong, `agg` or `disagg` is right"),
            (
                AGG.replace(",agg,1024", ",agg,-5"),
                "line 2, column `isl`: `-5` is wrong, a whole number up to 100000000 or nothing is right",
            ),
            (
                format!("{AGG}\n{}", AGG.replace("19.74", "nan")),
                "line 3, column `silicon_tpot_ms`: `nan` is wrong, a positive number of milliseconds is right",
            ),
            ("vllm,,x".to_owned(), "line 2: 3 fields where the header has 28"),
            (String::new(), "there are no rows after the header"),
        ] {
            assert_eq!(read(&rows).unwrap_err().to_string(), wanted);
        }
        let other = read_points(b"a,b\n1,2\n").unwrap_err().to_string();
        assert!(other.starts_with("line 1: there is no column `backend`"), "{other}");
    }
}

//! Recorded traffic as it is read from a file: single requests, rates over time, or the rates of single clients.
//!
//! This room owns the layouts of trace files and refuses what is wrong in them with file and line. It knows no
//! policy and draws no random numbers; how a recording is played is said elsewhere.

use std::path::Path;
use std::sync::Arc;

mod clients;
mod rates;
mod requests;
mod table;
#[cfg(test)]
mod tests;

pub use clients::{Client, ClientTrace, ClientWindow, WINDOW_SECONDS};
pub use rates::{RateStep, RateTrace};
pub use requests::RequestTrace;

use crate::simulate::trace::{read_bytes, unpacked};
use crate::simulate::{Trace, TraceError};
use table::Table;

/// Highest rate believed, per second or per minute.
const MAX_RATE: f64 = 1e9;
/// Latest time believed: ten years, seconds.
const MAX_SECONDS: f64 = 315_360_000.0;

const REQUESTS: [&str; 3] = ["t_s", "input_tokens", "output_tokens"];
const BLOCKS: [&str; 4] = ["t_ms", "input_tokens", "output_tokens", "hash_ids"];
const ENVELOPE: [&str; 4] = ["minute", "rpm_mid", "rpm_lo", "rpm_hi"];
const CLIENTS: [&str; 4] = ["client", "t_s", "rate_rps", "cv"];
const WORKLOADS: [&str; 6] = ["workload", "t_s", "rate_rps", "active_clients", "top_client_rps", "client_cv_weighted"];
const RATES: [&str; 2] = ["t_s", "rate_rps"];

/// All layouts, for messages.
const LAYOUTS: &str = "`t_s,input_tokens,output_tokens`, `t_ms,input_tokens,output_tokens[,hash_ids]`, \
     `t_s,rate_rps`, `minute,NAME[,NAME...]`, `minute,rpm_mid,rpm_lo,rpm_hi`, `client,t_s,rate_rps,cv`, \
     `workload,t_s,rate_rps,active_clients,top_client_rps,client_cv_weighted`";

/// Recorded traffic.
#[derive(Clone, Debug)]
pub enum Recording {
    /// Every request with its lengths.
    Requests(RequestTrace),
    /// Mean rates.
    Rates(RateTrace),
    /// Mean rates and rhythms of single clients.
    Clients(ClientTrace),
}

impl Recording {
    /// Read a trace file, plain CSV or gzip (told by its first bytes); the layout is told by the header. `column`
    /// chooses where a file holds several services.
    ///
    /// # Errors
    /// The file cannot be read, is in no known layout, or a row is wrong; see [`TraceError`].
    pub fn read(path: &Path, column: Option<&str>) -> Result<Self, TraceError> {
        let (file, bytes) = read_bytes(path)?;
        Self::parse(&file, &bytes, column)
    }

    /// Parse the bytes of a trace file; `name` stands for the file in messages.
    ///
    /// # Errors
    /// As [`Self::read`], the reading excepted.
    pub fn parse(name: &str, bytes: &[u8], column: Option<&str>) -> Result<Self, TraceError> {
        let text = unpacked(name, bytes)?;
        let table = Table::open(name, &text)?;
        if table.has(&WORKLOADS) {
            return rates::of_workload(table, column).map(Self::Rates);
        }
        let is_envelope = table.has(&ENVELOPE);
        if !is_envelope && table.columns().len() > 1 && table.columns()[0] == "minute" {
            return rates::per_minute(table, column).map(Self::Rates);
        }
        if let Some(column) = column {
            let what = format!("column `{column}` is chosen, but this layout holds nothing to choose from");
            return Err(TraceError::Row { file: name.to_owned(), line: 1, what });
        }
        if is_envelope {
            rates::envelope(table).map(Self::Rates)
        } else if table.has(&REQUESTS) {
            Ok(Self::Requests(RequestTrace::new(Arc::new(Trace::parse(name, &text)?))))
        } else if table.has(&BLOCKS) || table.has(&BLOCKS[..3]) {
            requests::in_milliseconds(table).map(Self::Requests)
        } else if table.has(&CLIENTS) {
            clients::parse(table).map(Self::Clients)
        } else if table.has(&RATES) {
            rates::plain(table).map(Self::Rates)
        } else {
            let found = table.columns().join(",");
            Err(TraceError::Layout { file: name.to_owned(), found, expected: LAYOUTS })
        }
    }

    /// Name of the file.
    pub fn name(&self) -> &str {
        match self {
            Self::Requests(list) => list.trace().name(),
            Self::Rates(rates) => &rates.name,
            Self::Clients(clients) => &clients.name,
        }
    }

    /// Where it begins on its own clock, seconds.
    pub fn begin_seconds(&self) -> f64 {
        match self {
            Self::Requests(_) => 0.0,
            Self::Rates(rates) => rates.steps[0].at_seconds,
            Self::Clients(clients) => clients.begin_seconds(),
        }
    }

    /// Where it ends on its own clock, seconds; after [`Self::begin_seconds`].
    pub fn end_seconds(&self) -> f64 {
        match self {
            Self::Requests(list) => list.trace().period_seconds(),
            Self::Rates(rates) => rates.end_seconds,
            Self::Clients(clients) => clients.end_seconds(),
        }
    }

    /// Requests per second over the whole recording.
    pub fn mean_rate(&self) -> f64 {
        let requests = match self {
            Self::Requests(list) => list.trace().rows().len() as f64,
            Self::Rates(rates) => rates.requests(),
            Self::Clients(clients) => clients.requests(),
        };
        requests / (self.end_seconds() - self.begin_seconds())
    }
}

impl From<Trace> for Recording {
    fn from(trace: Trace) -> Self {
        Self::Requests(RequestTrace::new(Arc::new(trace)))
    }
}

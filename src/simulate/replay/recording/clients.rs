//! Rates and spreads of single clients in windows of ten minutes.
//!
//! It owns the layout `client,t_s,rate_rps,cv`: each client sends by a rhythm of its own, and a window that is absent
//! is one in which it sent nothing.

use std::collections::BTreeMap;

use super::table::Table;
use super::{MAX_RATE, MAX_SECONDS};
use crate::simulate::TraceError;

/// Length of a window, seconds.
pub const WINDOW_SECONDS: f64 = 600.0;
/// Coefficients of variation believed.
const CV: (f64, f64) = (0.01, 1000.0);

/// Clients of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientTrace {
    pub(super) name: String,
    pub(super) clients: Vec<Client>,
}

/// One client.
#[derive(Clone, Debug, PartialEq)]
pub struct Client {
    pub name: String,
    /// Ascending, without those in which it sent nothing.
    pub windows: Vec<ClientWindow>,
}

/// What a client sends in [`WINDOW_SECONDS`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClientWindow {
    /// Begin, seconds since the start of the recording.
    pub at_seconds: f64,
    /// Requests per second.
    pub rate: f64,
    /// Coefficient of variation of the times between its requests.
    pub cv: f64,
}

impl ClientTrace {
    /// In the order of their first rows.
    pub fn clients(&self) -> &[Client] {
        &self.clients
    }

    pub(super) fn begin_seconds(&self) -> f64 {
        self.clients.iter().map(|c| c.windows[0].at_seconds).fold(f64::INFINITY, f64::min)
    }

    pub(super) fn end_seconds(&self) -> f64 {
        let last = |c: &Client| c.windows[c.windows.len() - 1].at_seconds + WINDOW_SECONDS;
        self.clients.iter().map(last).fold(0.0, f64::max)
    }

    pub(super) fn requests(&self) -> f64 {
        self.clients.iter().flat_map(|c| &c.windows).map(|w| w.rate * WINDOW_SECONDS).sum()
    }
}

pub(super) fn parse(mut table: Table<'_>) -> Result<ClientTrace, TraceError> {
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    let mut clients: Vec<Client> = vec![];
    while table.advance()? {
        let name = table.text(0);
        if name.is_empty() {
            return Err(table.wrong(0, "the name of a client"));
        }
        let at_seconds = table.number(1, 0.0, MAX_SECONDS)?;
        if at_seconds % WINDOW_SECONDS != 0.0 {
            return Err(table.wrong(1, "the begin of a window, a multiple of 600"));
        }
        let window =
            ClientWindow { at_seconds, rate: table.number(2, 0.0, MAX_RATE)?, cv: table.number(3, CV.0, CV.1)? };
        let number = *numbers.entry(name.to_owned()).or_insert(clients.len());
        if number == clients.len() {
            clients.push(Client { name: name.to_owned(), windows: vec![] });
        }
        let windows = &mut clients[number].windows;
        if let Some(before) = windows.last().map(|w| w.at_seconds).filter(|&before| before >= at_seconds) {
            return Err(table.refuse(format!(
                "t_s of client {name} goes from {before} to {at_seconds}, expected ascending times, each once"
            )));
        }
        windows.push(window);
    }
    if clients.is_empty() {
        return Err(table.too_few(1));
    }
    Ok(ClientTrace { name: table.file().to_owned(), clients })
}

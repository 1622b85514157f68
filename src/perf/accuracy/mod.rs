//! How far predictions are from measured points: reads points in the columns of aiconfigurator's
//! `silicon_sample.csv`, models each row or says why it cannot, scores the predictions with and without
//! points of the same group, and fits the constants of the roofline. It knows no file and no terminal.

mod calibrate;
mod fitting;
mod point;
mod score;
mod subject;

pub use calibrate::Calibration;
pub use fitting::{By, FitError, Fitted, fit_constants, is_queue_dominated};
pub use point::{Measured, PointError, read_points};
pub use score::{Errors, Kind, KvBand, Options, Report, Score, Unmodelled, score};
pub use subject::{Group, Mode, Models, Subject, subject};

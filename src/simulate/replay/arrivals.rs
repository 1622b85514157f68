//! The requests of a play, one after the other in time order, drawn as they are asked for.
//!
//! This room owns when requests come, of which class they are and how long. Times, lengths and classes have random
//! streams of their own: another choice for one leaves the others as they were. It knows no fleet.

mod list;
mod order;
mod rhythm;
#[cfg(test)]
mod tests;

use std::fmt::Debug;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::lengths::LengthLaw;
use super::play::{Play, PlayError};
use super::recording::Recording;
use crate::policy::Policy;
use crate::simulate::Request;
use list::List;
use order::{InOrder, Timed};
use rhythm::Rhythm;
pub(super) use rhythm::staircases;

/// The requests of one play.
#[derive(Debug)]
pub struct Arrivals {
    model: usize,
    times: Times,
    lengths: LengthLaw,
    lengths_rng: ChaCha8Rng,
    classes: Vec<ClassShare>,
    classes_rng: ChaCha8Rng,
}

#[derive(Debug)]
enum Times {
    List(Box<List>),
    Rhythms(InOrder<Rhythm>),
}

#[derive(Clone, Copy, Debug)]
struct ClassShare {
    class: usize,
    priority: i32,
    /// Sum of the shares up to and including this class.
    cumulative: f64,
}

impl Arrivals {
    /// Begin a play; the same seed gives the same requests.
    ///
    /// # Errors
    /// A figure of the play is out of range; see [`PlayError`].
    pub fn new(play: &Play, policy: &Policy, seed: u64) -> Result<Self, PlayError> {
        let lengths = play.check(policy)?;
        let times = match &*play.recording {
            Recording::Requests(list) => Times::List(Box::new(List::new(play, list, seed))),
            Recording::Rates(_) | Recording::Clients(_) => {
                let rhythm = |(number, steps)| Rhythm::new(steps, play.stream(seed, "gaps", number as u64));
                Times::Rhythms(InOrder::new(staircases(play, seed).into_iter().enumerate().map(rhythm).collect()))
            }
        };
        let mut cumulative = 0.0;
        let mut classes = vec![];
        for (&(class, _), share) in policy.models[play.model].classes.iter().zip(play.shares(policy)) {
            cumulative += share;
            if share > 0.0 {
                classes.push(ClassShare { class, priority: policy.classes[class].priority, cumulative });
            }
        }
        let (lengths_rng, classes_rng) = (play.stream(seed, "lengths", 0), play.stream(seed, "classes", 0));
        Ok(Self { model: play.model, times, lengths, lengths_rng, classes, classes_rng })
    }
}

impl Iterator for Arrivals {
    type Item = Request;

    fn next(&mut self) -> Option<Request> {
        let (arrival_seconds, own) = match &mut self.times {
            Times::List(list) => {
                let (at, row) = list.next()?;
                (at, list.lengths(row))
            }
            // rates without lengths to draw are refused at the start
            Times::Rhythms(rhythms) => (rhythms.next()?.0, (1, 1)),
        };
        let (input_tokens, output_tokens) = self.lengths.draw(&mut self.lengths_rng).unwrap_or(own);
        let pick: f64 = self.classes_rng.random();
        let &ClassShare { class, priority, .. } =
            self.classes.iter().find(|c| pick < c.cumulative).or(self.classes.last())?;
        let model = self.model;
        Some(Request { id: 0, model, class, priority, arrival_seconds, input_tokens, output_tokens })
    }
}

impl Timed for Request {
    fn at_seconds(&self) -> f64 {
        self.arrival_seconds
    }
}

/// Several plays in time order; of two requests at the same time, the one of the earlier play comes first.
pub fn merge(plays: Vec<Arrivals>) -> impl Iterator<Item = Request> + Debug + Send {
    InOrder::new(plays)
}

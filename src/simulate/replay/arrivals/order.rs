//! Several streams, each in time order, merged into one. It knows of the items only when they are.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

/// Something that happens at a time.
pub(in crate::simulate::replay) trait Timed {
    /// Seconds, 0 or more.
    fn at_seconds(&self) -> f64;
}

/// Streams merged in time order; of two at the same time, the one of the earlier stream comes first.
#[derive(Debug)]
pub(in crate::simulate::replay) struct InOrder<I: Iterator> {
    streams: Vec<I>,
    next: Vec<Option<I::Item>>,
    /// Bits of the time, which ascend with a time that is not negative, and number of the stream.
    heads: BinaryHeap<Reverse<(u64, usize)>>,
}

impl<I: Iterator<Item: Timed>> InOrder<I> {
    pub fn new(mut streams: Vec<I>) -> Self {
        let next: Vec<Option<I::Item>> = streams.iter_mut().map(Iterator::next).collect();
        let head = |(number, item): (usize, &Option<I::Item>)| Some(Reverse((bits(item.as_ref()?), number)));
        let heads = next.iter().enumerate().filter_map(head).collect();
        Self { streams, next, heads }
    }

    /// Time of the next item.
    pub fn next_seconds(&self) -> Option<f64> {
        self.heads.peek().map(|Reverse((bits, _))| f64::from_bits(*bits))
    }
}

impl<I: Iterator<Item: Timed>> Iterator for InOrder<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        let mut head = self.heads.peek_mut()?;
        let Reverse((_, number)) = *head;
        let following = self.streams[number].next();
        match &following {
            Some(item) => *head = Reverse((bits(item), number)),
            None => drop(PeekMut::pop(head)),
        }
        std::mem::replace(&mut self.next[number], following)
    }
}

fn bits(item: &impl Timed) -> u64 {
    // no negative zero: its bits would come last
    (item.at_seconds() + 0.0).to_bits()
}

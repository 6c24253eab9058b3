//! How long something lives without a word from the harness.

use std::time::{Duration, Instant};

/// A lease runs out unless it is renewed.
#[derive(Debug)]
pub struct Lease {
    length: Duration,
    ends: Instant,
}

impl Lease {
    /// It runs from now.
    pub fn new(length: Duration) -> Self {
        Self {
            length,
            ends: Instant::now() + length,
        }
    }

    /// It runs from now again.
    pub fn renew(&mut self) {
        self.ends = Instant::now() + self.length;
    }

    /// Time left; `None` once it has lapsed.
    pub fn left(&self) -> Option<Duration> {
        let left = self.ends.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }
}

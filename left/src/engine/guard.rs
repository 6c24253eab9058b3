//! Whether removals are so many that they may be a mistake.
//!
//! A share that was emptied, a disk that was not mounted, a script that went
//! wrong: the peer tells of it in good faith. More than half of the share, and
//! at least a hundred paths, or everything in a share of ten or more, is held
//! back until a person says that it is meant. What the peer deletes while
//! something is held back joins it.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

/// What was removed this recently counts with what is to be removed now, so
/// that half of a share that goes little by little is noticed as well.
const WINDOW: Duration = Duration::from_secs(600);

/// Fewer are never more than a mishap.
const MANY: u64 = 100;

/// With fewer in all, emptying the share is nothing unusual.
const SMALL_SHARE: u64 = 10;

/// Removals that are held back.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Held {
    /// Names exactly this set of paths and versions.
    pub set: String,
    /// How many paths.
    pub count: u64,
    /// Some of them, for a person.
    pub examples: Vec<String>,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the peer deleted {} paths, which may be a mistake, so they stay here for now: {}{}. \
             If it is meant: `left confirm {}`; if not, put them back there",
            self.count,
            self.examples.join(", "),
            if self.count > self.examples.len() as u64 {
                ", …"
            } else {
                ""
            },
            self.set
        )
    }
}

/// What the guard remembers.
#[derive(Debug)]
pub(super) struct Guard {
    /// When how many were removed, oldest first.
    recent: VecDeque<(Instant, u64)>,
    pub held: Option<Held>,
    /// The removals that are wanted, or what they are measured by, changed.
    pub is_stale: bool,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            recent: VecDeque::new(),
            held: None,
            is_stale: true,
        }
    }
}

impl Guard {
    /// Removals wait for the rest of a listing.
    pub fn waits_for_rest(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.set.is_empty())
    }

    /// Removals wait for a person, and not only for the rest of a listing.
    pub fn holds(&self) -> bool {
        self.held.as_ref().is_some_and(|held| !held.set.is_empty())
    }

    /// One is removed now.
    pub fn count(&mut self, now: Instant) {
        match self.recent.back_mut() {
            Some((at, removed)) if *at == now => *removed += 1,
            _ => self.recent.push_back((now, 1)),
        }
    }

    /// One was not removed after all, or came back under another name.
    pub fn count_back(&mut self) {
        let counted = self.recent.iter_mut().rev();
        if let Some((_, removed)) = counted.into_iter().find(|(_, removed)| *removed > 0) {
            *removed -= 1;
        }
    }

    /// Whether `wanted` removals are too many in a share of which `live` paths
    /// are left.
    pub fn is_too_much(&mut self, now: Instant, wanted: u64, live: u64) -> bool {
        while self
            .recent
            .front()
            .is_some_and(|(at, _)| now.saturating_duration_since(*at) > WINDOW)
        {
            self.recent.pop_front();
        }
        let recent: u64 = self.recent.iter().map(|(_, removed)| removed).sum();
        is_too_much(wanted + recent, live + recent)
    }
}

/// Whether it is alarming that `gone` of `all` paths go.
fn is_too_much(gone: u64, all: u64) -> bool {
    (gone >= MANY && gone > all / 2) || (gone >= all && all >= SMALL_SHARE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_many_and_all_of_few_are_too_much() {
        for (gone, all, expected) in [
            (0, 0, false),
            (9, 9, false),
            (10, 10, true),
            (9, 10, false),
            (99, 150, false),
            (100, 200, false),
            (101, 200, true),
            (100, 199, true),
            (499, 1000, false),
            (501, 1000, true),
        ] {
            assert_eq!(is_too_much(gone, all), expected, "{gone} of {all}");
        }
    }

    #[test]
    fn guard_rm_rf_slow_is_noticed_and_forgotten_after_a_while() {
        let start = Instant::now();
        let mut guard = Guard::default();
        let mut live = 1000;
        for minute in 0..9 {
            let now = start + Duration::from_secs(60 * minute);
            assert!(!guard.is_too_much(now, 50, live), "minute {minute}");
            (0..50).for_each(|_| guard.count(now));
            live -= 50;
        }
        let now = start + Duration::from_secs(540);
        assert!(guard.is_too_much(now, 51, live));
        assert!(!guard.is_too_much(now + WINDOW, 51, live));
    }
}

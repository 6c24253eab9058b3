//! What a program does on the wire while nothing happens.

use std::time::Duration;

/// How much of the traffic on the link means nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quiet {
    /// Sent to keep a connection alive, in each quiet window; for a program that works
    /// by interval, what one interval costs, both ways together.
    pub bytes: u64,
    /// The same again for each entry of the tree: some programs send lists of it.
    pub bytes_per_entry: u64,
    /// How often it looks whether there is anything to do; `None`: always.
    pub every: Option<Duration>,
}

/// A program that works by interval was quiet only when it had two of them.
const INTERVALS: u32 = 2;

impl Quiet {
    /// How long nothing may happen before a program counts as quiet, where `asked` is
    /// enough for one that never pauses.
    pub fn lasts(&self, asked: Duration) -> Duration {
        let intervals = self.every.map(|every| every.saturating_mul(INTERVALS));
        asked.max(intervals.unwrap_or_default())
    }

    /// The bytes that may move on the link in so much time, with a tree of so many
    /// entries, and mean nothing.
    pub fn allows(&self, during: Duration, entries: u64) -> u64 {
        let listed = self.bytes_per_entry.saturating_mul(entries);
        let once = self.bytes.saturating_add(listed);
        let Some(every) = self.every.filter(|every| !every.is_zero()) else {
            return once;
        };
        // Of those it touches, the first and the last are not in it whole.
        let intervals = during.as_millis().div_ceil(every.as_millis().max(1)) + 1;
        once.saturating_mul(u64::try_from(intervals).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BY_INTERVAL: Quiet = Quiet {
        bytes: 1000,
        bytes_per_entry: 10,
        every: Some(Duration::from_secs(3)),
    };

    #[test]
    fn a_program_that_works_by_interval_is_given_two_of_them() {
        let quiet = Duration::from_secs(2);
        assert_eq!(Quiet::default().lasts(quiet), quiet);
        assert_eq!(BY_INTERVAL.lasts(quiet), Duration::from_secs(6));
        assert_eq!(
            BY_INTERVAL.lasts(Duration::from_secs(9)),
            Duration::from_secs(9)
        );
    }

    #[test]
    fn what_an_interval_costs_may_move_in_each_that_is_touched() {
        let second = Duration::from_secs(1);
        let steady = Quiet {
            bytes: 4096,
            ..Quiet::default()
        };
        assert_eq!(steady.allows(second * 60, 99), 4096);
        assert_eq!(BY_INTERVAL.allows(second, 0), 2000);
        assert_eq!(BY_INTERVAL.allows(second * 6, 0), 3000);
        assert_eq!(BY_INTERVAL.allows(second * 7, 100), 8000);
        assert_eq!(BY_INTERVAL.allows(Duration::MAX, u64::MAX), u64::MAX);
    }
}

//! How often all wants are walked through again.
//!
//! Whatever changes may let a want be started that had to wait, so that each change
//! asks for another walk. When a tree of a million files was renamed, each of its
//! wants waits for a removal, and a walk for each batch of removals would take hours.

use std::time::{Duration, Instant};

use crate::path::RelPath;

/// Passing over so few costs nothing.
const FREE: u64 = 256;

/// So many wants are passed over, at most, for each job that ended meanwhile.
const FOR_EACH_JOB: u64 = 8;

/// Some times what passing over a want takes: when the jobs on their way are
/// large, a new want does not wait for their end.
const PAUSE_EACH: Duration = Duration::from_micros(200);

/// A walk over the wants, in the order of paths.
pub(super) struct Walk {
    /// Wants up to here were looked at.
    pub(super) cursor: Option<RelPath>,
    pub(super) at_end: bool,
    /// Another one was asked for since this one began.
    again: bool,
    began: Instant,
    /// Wants that were looked at and not started.
    passed_over: u64,
    /// Jobs that ended since it began.
    ended: u64,
}

impl Walk {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            cursor: None,
            at_end: false,
            again: false,
            began: now,
            passed_over: 0,
            ended: 0,
        }
    }

    /// Something changed: wants that were passed over may be started now.
    pub(super) fn ask_again(&mut self) {
        self.again = true;
    }

    /// A job ended.
    pub(super) fn count_job(&mut self) {
        self.ended += 1;
    }

    /// This many wants were looked at, and so many of them started.
    pub(super) fn count(&mut self, looked_at: usize, started: usize) {
        self.passed_over += looked_at.saturating_sub(started) as u64;
    }

    /// Begins anew if that was asked for and is worth it; always when nothing is
    /// on its way, because then nothing else would.
    pub(super) fn begin_again(&mut self, now: Instant, nothing_on_its_way: bool) {
        let is_worth_it = self.passed_over <= FREE
            || self.ended.saturating_mul(FOR_EACH_JOB) >= self.passed_over
            || now >= self.due();
        if self.again && (nothing_on_its_way || is_worth_it) {
            *self = Self::new(now);
        }
    }

    /// When it begins anew though nothing happens.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        self.again.then(|| self.due())
    }

    /// It is at its end, and another one was asked for.
    pub(super) fn is_to_begin_again(&self) -> bool {
        self.at_end && self.again
    }

    /// Nothing is left to be looked at.
    pub(super) fn is_over(&self) -> bool {
        self.at_end && !self.again
    }

    fn due(&self) -> Instant {
        let times = u32::try_from(self.passed_over).unwrap_or(u32::MAX);
        self.began + PAUSE_EACH * times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_past_many_wants_is_made_again_for_many_jobs_or_after_a_while() {
        let now = Instant::now();
        let mut walk = Walk::new(now);
        let begins = |walk: &mut Walk, now, idle| {
            walk.at_end = true;
            walk.begin_again(now, idle);
            !walk.at_end
        };
        assert!(!begins(&mut walk, now, true), "nobody asked");
        walk.count(600, 400);
        walk.ask_again();
        assert!(begins(&mut walk, now, false), "few were passed over");
        walk.count(80_000, 0);
        walk.ask_again();
        assert!(!begins(&mut walk, now, false));
        assert!(!walk.is_over());
        (0..10_000).for_each(|_| walk.count_job());
        assert!(begins(&mut walk, now, false), "many jobs ended");
        walk.count(80_000, 0);
        walk.ask_again();
        assert_eq!(walk.wakes_at(), Some(now + Duration::from_secs(16)));
        assert!(begins(&mut walk, now + Duration::from_secs(16), false));
        walk.count(80_000, 0);
        walk.ask_again();
        assert!(begins(&mut walk, now, true), "nothing is on its way");
        assert_eq!(walk.wakes_at(), None);
    }
}

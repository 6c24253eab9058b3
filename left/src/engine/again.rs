//! What is tried again, and when: a path that failed after a pause that grows,
//! and all of them slowly while the whole disk is in trouble.

use std::io;
use std::time::{Duration, Instant};

use super::{Action, Engine, IN_FLIGHT_MAX, News};
use crate::apply::{How, Job};
use crate::index::Store;
use crate::path::RelPath;
use crate::trouble::Trouble;

/// The first and the longest pause before a path is tried again.
const RETRY_FIRST: Duration = Duration::from_millis(200);
pub(super) const RETRY_MAX: Duration = Duration::from_secs(30);

/// The longest pause where it is somebody's next change that is waited for.
pub(super) const RETRY_SOON_MAX: Duration = Duration::from_secs(1);

/// Paths whose pauses are remembered. When more fail, all wants are gone through
/// slowly instead.
const DELAYED_MAX: usize = 4096;

/// For each so many that wait, the pauses become longer by the longest once more.
const DELAYED_STEP: usize = 256;

/// While the disk is in trouble, one job at a time shows whether it still is,
/// after a pause that grows to this: so that there is room again shows soon.
const PROBE_MAX: Duration = Duration::from_secs(5);

/// Where only more paths fail than are remembered, so many are tried at once, and
/// after this time the next.
const UNREMEMBERED_AT_ONCE: usize = 16;
const UNREMEMBERED_EVERY: Duration = Duration::from_secs(1);

/// A path that waits.
pub(super) struct Delay {
    /// For this time, which is over when there is none.
    until: Option<Instant>,
    pub(super) pause: Duration,
}

impl Delay {
    /// Whether its time has not come.
    #[cfg(test)]
    pub(super) fn waits(&self) -> bool {
        self.until.is_some()
    }
}

/// The disk is in trouble, or was just now.
pub(super) struct Slow {
    until: Instant,
    pause: Duration,
    /// Jobs on their way at once.
    most: usize,
}

impl<S: Store> Engine<S> {
    /// The system refused a job.
    pub(super) fn fail(&mut self, job: &Job, error: &io::Error) {
        let path = &job.path;
        let trouble = Trouble::of(error);
        let advice = trouble.advice();
        let text = match job.how {
            How::Remove => format!("cannot remove {path}: {error}; {advice}"),
            _ => format!("cannot put {path} in place: {error}; {advice}"),
        };
        self.tell_problem(path.as_bytes(), text);
        let crowd = (self.delayed.len() / DELAYED_STEP) as u32;
        let remembered = self.delay(path, RETRY_MAX * (1 + crowd));
        if trouble.is_of_all() {
            self.probe();
        } else if !remembered {
            let until = self.now + UNREMEMBERED_EVERY;
            let slow = self.slow.get_or_insert(Slow {
                until,
                pause: UNREMEMBERED_EVERY,
                most: UNREMEMBERED_AT_ONCE,
            });
            slow.until = slow.until.max(until);
        }
        if matches!(
            trouble,
            Trouble::NoSpace | Trouble::NoInodes | Trouble::Quota
        ) {
            self.lacks_room = true;
        }
    }

    /// Tries a path again later, after `most` at most. Answers whether it is
    /// remembered.
    pub(super) fn delay(&mut self, path: &RelPath, most: Duration) -> bool {
        let pause = match self.delayed.get(path) {
            Some(known) => (known.pause * 2).min(most),
            None if self.delayed.len() >= DELAYED_MAX => return false,
            None => RETRY_FIRST,
        };
        let until = Some(self.now + pause);
        self.delayed.insert(path.clone(), Delay { until, pause });
        true
    }

    /// Whether a path is not to be tried yet.
    pub(super) fn is_delayed(&self, path: &RelPath) -> bool {
        let delay = self.delayed.get(path);
        delay.is_some_and(|delay| delay.until.is_some())
    }

    /// Nothing waits for its time.
    pub(super) fn is_none_delayed(&self) -> bool {
        self.delayed.values().all(|delay| delay.until.is_none())
    }

    /// Whatever stood in the way of a path is of no interest any more.
    pub(super) fn forget_delay(&mut self, path: &RelPath) {
        if self.delayed.remove(path).is_some() {
            self.tell(News::Solved(path.clone()));
        }
    }

    /// From now on one job at a time shows whether the disk still is in trouble.
    fn probe(&mut self) {
        let known = self.slow.take();
        // Those that were on their way together failed together.
        let pause = match &known {
            Some(known) if known.until > self.now => known.pause,
            Some(known) => (known.pause * 2).min(PROBE_MAX),
            None => RETRY_FIRST,
        };
        self.slow = Some(Slow {
            until: self.now + pause,
            pause,
            most: 1,
        });
    }

    /// Something was put in place.
    pub(super) fn speed_up(&mut self) {
        if let Some(slow) = &mut self.slow {
            slow.most *= 2;
            slow.pause = RETRY_FIRST;
            if slow.most >= IN_FLIGHT_MAX {
                self.slow = None;
            }
        }
    }

    /// How many jobs may be on their way for wants.
    pub(super) fn in_flight_max(&self) -> usize {
        match &self.slow {
            None => IN_FLIGHT_MAX,
            Some(slow) if slow.until > self.now => 0,
            Some(slow) => slow.most,
        }
    }

    /// When the next step is due though nothing happens.
    pub fn wakes_at(&self) -> Option<Instant> {
        let delays = self.delayed.values().filter_map(|delay| delay.until);
        let slow = self.slow.as_ref().map(|slow| slow.until);
        let slow = slow.filter(|until| *until > self.now);
        // With nothing on its way it would have begun.
        let walk = self.wants.wakes_at().filter(|_| {
            let receives = self.session.as_ref().is_some_and(|known| known.receives);
            receives && self.scanned && !self.in_flight.is_empty()
        });
        delays.chain(slow).chain(walk).min()
    }

    /// Lets those go on whose time has come.
    pub(super) fn wake_delayed(&mut self) {
        let now = self.now;
        let mut any = false;
        for delay in self.delayed.values_mut() {
            // The pause stays: it grows if the path fails again.
            any |= delay.until.take_if(|until| *until <= now).is_some();
        }
        if any {
            self.is_due = true;
            self.look_at_all_wants();
            self.look_at_all_removals();
        }
    }

    /// When all were gone through, those whose time had come are on their way, or
    /// are not wanted any more.
    pub(super) fn forget_delays(&mut self) {
        if !self.is_due || !self.wants.is_over() || !self.removals_at_end {
            return;
        }
        self.is_due = false;
        let idle = |path: &RelPath| !self.in_flight.contains_key(path);
        let due = self
            .delayed
            .iter()
            .filter(|(_, delay)| delay.until.is_none());
        let mut over: Vec<RelPath> = due
            .map(|(path, _)| path.clone())
            .filter(|path| idle(path))
            .collect();
        // What is told does not hang on the order in a table.
        over.sort();
        for path in &over {
            self.forget_delay(path);
        }
    }

    /// Room is made once for all that failed together.
    pub(super) fn make_room(&mut self) {
        if std::mem::take(&mut self.lacks_room) {
            self.actions.push(Action::MakeRoom);
        }
    }

    /// The wants, or what they mean, changed.
    pub(super) fn look_at_all_wants(&mut self) {
        self.wants.ask_again();
    }
}

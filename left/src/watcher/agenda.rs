//! What is to be looked at, and when: marks of paths and folders, coalesced
//! and bounded, and the quiet time of files that are being written.
//!
//! Without I/O and without a clock of its own.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use crate::path::RelPath;

/// A single change is looked at after this time: the chmod after a close and
/// the rename after a save then are part of the same look.
const GATHER: Duration = Duration::from_millis(4);

/// How long a file must be quiet that is open for writing or was changed again
/// soon, at first and at most.
const QUIET_FIRST: Duration = Duration::from_millis(20);
const QUIET_MAX: Duration = Duration::from_secs(2);

/// Removals are looked at together, when there was none for this long, but at
/// last after that. Nobody waits for a removal; but some programs remove a file
/// just before they write it anew, and whether many of them may be a mistake is
/// best judged of all at once.
const REMOVALS_QUIET: Duration = Duration::from_millis(50);
const REMOVALS_WAIT_MAX: Duration = Duration::from_secs(1);

/// A file that is never quiet is looked at after this time all the same.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// What changes within this time of the last look is changing again.
const AGAIN_WITHIN: Duration = Duration::from_secs(1);

/// What was told of is looked at again, at first and at most after this time,
/// until there is nothing left to tell: who was told may have been at work on
/// the same path, and a young stamp is not trusted.
const RECHECK_FIRST: Duration = Duration::from_millis(50);
const RECHECK_MAX: Duration = Duration::from_secs(5);

/// What this program put in place itself is looked at this much later, when
/// that is on record.
const SETTLE: Duration = Duration::from_millis(20);

/// Marks kept one by one. Past this, names become marks of their folders, and
/// past that everything is looked at: ten thousand events a second must not
/// fill the memory.
const MARKS_MAX: usize = 8192;

/// Something to look at. The order is that of paths.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// Every name in a folder; `None` is the share itself.
    Folder(Option<RelPath>),
    /// One name.
    Name(RelPath),
}

/// What happened to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// It is complete: closed after writing, moved to another name or here, a
    /// folder made, its metadata changed.
    Complete,
    /// Somebody is at it and will be for a while.
    Writing,
    /// It was removed.
    Gone,
}

/// The marks.
#[derive(Debug, Default)]
pub struct Agenda {
    marks: BTreeMap<Mark, Wait>,
    /// Paths that this program itself is changing.
    held: HashSet<RelPath>,
    /// The first and the last removal that was not looked at yet.
    removals: Option<(Instant, Instant)>,
    /// There were more marks than are kept.
    everything: bool,
}

#[derive(Debug)]
struct Wait {
    /// When to look; `None` when it was and the mark only remembers that.
    due: Option<Instant>,
    /// The first event that was not looked at yet.
    since: Option<Instant>,
    /// When it was looked at last because of an event.
    looked: Option<Instant>,
    /// That was a short while before `since`.
    again: bool,
    /// What happened last was that it went.
    gone: bool,
    pause: Duration,
    recheck: Duration,
}

impl Agenda {
    /// Takes note of an event at `path`.
    pub fn note(&mut self, path: RelPath, happened: Happened, now: Instant) {
        self.make_room(now);
        let gone = happened == Happened::Gone;
        if gone {
            self.removals.get_or_insert((now, now)).1 = now;
        }
        let wait = self.wait(Mark::Name(path));
        wait.gone = gone;
        let since = match wait.since {
            Some(since) => since,
            None => {
                wait.again = !wait.is_old(now);
                if !wait.again {
                    wait.pause = QUIET_FIRST;
                }
                *wait.since.insert(now)
            }
        };
        let pause = match happened {
            Happened::Complete if !wait.again => GATHER,
            Happened::Complete | Happened::Writing => wait.pause,
            Happened::Gone => REMOVALS_QUIET,
        };
        wait.due = Some((now + pause).min(since + WAIT_MAX));
    }

    /// Every name in a folder is to be looked at.
    pub fn note_folder(&mut self, folder: Option<RelPath>, now: Instant) {
        self.make_room(now);
        let wait = self.wait(Mark::Folder(folder));
        wait.since.get_or_insert(now);
        wait.due.get_or_insert(now + GATHER);
    }

    /// A look at `path` had something to tell, or could not tell yet.
    pub fn look_again(&mut self, path: RelPath, now: Instant) {
        self.make_room(now);
        let wait = self.wait(Mark::Name(path));
        if wait.since.is_none() {
            wait.due = Some(now + wait.recheck);
            wait.recheck = (wait.recheck * 2).min(RECHECK_MAX);
        }
    }

    /// What was told of can be looked at again now.
    pub fn hasten(&mut self, now: Instant) {
        for wait in self.marks.values_mut() {
            if wait.since.is_none() && wait.due.is_some() {
                wait.due = Some(now);
                wait.recheck = RECHECK_FIRST;
            }
        }
    }

    /// Only a look at everything helps now.
    pub fn note_everything(&mut self) {
        self.everything = true;
        self.marks.clear();
    }

    /// Everything is looked at anyway.
    pub fn forget_marks(&mut self) {
        self.everything = false;
        self.removals = None;
        self.marks.clear();
    }

    /// Whether everything is to be looked at; asked once.
    pub fn take_everything(&mut self) -> bool {
        std::mem::take(&mut self.everything)
    }

    /// Nothing is handed out for these paths until they are released: this
    /// program is changing them itself.
    pub fn hold(&mut self, paths: impl IntoIterator<Item = RelPath>) {
        self.held.extend(paths);
    }

    /// The opposite of [`Agenda::hold`].
    pub fn release<'a>(&mut self, paths: impl IntoIterator<Item = &'a RelPath>, now: Instant) {
        for path in paths {
            self.held.remove(path);
            if let Some(wait) = self.marks.get_mut(&Mark::Name(path.clone())) {
                wait.due = wait.due.map(|due| due.max(now + SETTLE));
            }
        }
    }

    /// When something is due next.
    pub fn next_due(&self) -> Option<Instant> {
        let removals = self.removals_due();
        self.marks
            .iter()
            .filter(|(mark, _)| !is_held(&self.held, mark))
            .filter_map(|(_, wait)| wait.due(removals))
            .min()
    }

    /// What is to be looked at now, in the order of paths.
    pub fn take_due(&mut self, now: Instant) -> Vec<Mark> {
        let mut taken = Vec::new();
        let removals = self.removals_due();
        self.removals
            .take_if(|_| removals.is_some_and(|due| due <= now));
        let held = &self.held;
        self.marks.retain(|mark, wait| {
            let Some(due) = wait.due(removals) else {
                return !wait.is_old(now);
            };
            if due > now || is_held(held, mark) {
                return true;
            }
            taken.push(mark.clone());
            wait.due = None;
            if wait.since.take().is_some() {
                if wait.again {
                    wait.pause = (wait.pause * 2).min(QUIET_MAX);
                }
                wait.looked = Some(now);
            }
            matches!(mark, Mark::Name(_))
        });
        taken
    }

    fn wait(&mut self, mark: Mark) -> &mut Wait {
        self.marks.entry(mark).or_insert(Wait {
            due: None,
            since: None,
            looked: None,
            again: false,
            gone: false,
            pause: QUIET_FIRST,
            recheck: RECHECK_FIRST,
        })
    }

    fn removals_due(&self) -> Option<Instant> {
        let (first, last) = self.removals?;
        Some((last + REMOVALS_QUIET).min(first + REMOVALS_WAIT_MAX))
    }

    fn make_room(&mut self, now: Instant) {
        if self.marks.len() < MARKS_MAX {
            return;
        }
        self.marks
            .retain(|_, wait| wait.due.is_some() || !wait.is_old(now));
        if self.marks.len() < MARKS_MAX {
            return;
        }
        let names = std::mem::take(&mut self.marks);
        for (mark, wait) in names {
            if wait.due.is_none() {
                continue;
            }
            let folder = match mark {
                Mark::Name(path) => path.parent(),
                Mark::Folder(folder) => folder,
            };
            let known = self.wait(Mark::Folder(folder));
            known.since.get_or_insert(now);
            known.due.get_or_insert(now + GATHER);
        }
        if self.marks.len() > MARKS_MAX / 2 {
            self.note_everything();
        }
    }
}

fn is_held(held: &HashSet<RelPath>, mark: &Mark) -> bool {
    matches!(mark, Mark::Name(path) if held.contains(path))
}

impl Wait {
    /// When to look, if removals are due at that time.
    fn due(&self, removals: Option<Instant>) -> Option<Instant> {
        self.due
            .map(|due| removals.filter(|_| self.gone).unwrap_or(due))
    }

    /// Whether the last look is too long ago to say anything.
    fn is_old(&self, now: Instant) -> bool {
        self.looked
            .is_none_or(|looked| now.saturating_duration_since(looked) >= AGAIN_WITHIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    fn name(text: &str) -> Mark {
        Mark::Name(path(text))
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// When the marks that `happen` makes are handed out, in milliseconds.
    fn looks(happen: &[(u64, Happened)], until: u64) -> Vec<u64> {
        let start = Instant::now();
        let mut agenda = Agenda::default();
        let mut events = happen.iter().peekable();
        let mut looks = Vec::new();
        for now in 0..until {
            while let Some((_, happened)) = events.next_if(|(at, _)| *at == now) {
                agenda.note(path("x"), *happened, start + ms(now));
            }
            if !agenda.take_due(start + ms(now)).is_empty() {
                looks.push(now);
            }
        }
        looks
    }

    #[test]
    fn a_closed_file_is_looked_at_at_once_and_what_follows_directly_is_the_same_look() {
        use Happened::*;
        let saved = [(0, Writing), (1, Writing), (2, Complete), (3, Complete)];
        assert_eq!(looks(&saved, 1000), [7]);
    }

    #[test]
    fn a_file_that_stays_open_is_looked_at_once_it_is_quiet() {
        use Happened::Writing;
        assert_eq!(looks(&[(0, Writing), (15, Writing)], 1000), [35]);
    }

    #[test]
    fn a_file_that_is_never_quiet_is_looked_at_every_five_seconds() {
        let always: Vec<_> = (0..30_000)
            .step_by(10)
            .map(|at| (at, Happened::Writing))
            .collect();
        let looks = looks(&always, 40_000);
        assert_eq!(looks[0], 5000);
        assert!((6..=8).contains(&looks.len()), "{looks:?}");
        // And within five seconds of quiet.
        assert!(*looks.last().unwrap() < 35_000, "{looks:?}");
    }

    #[test]
    fn src_hot_log_waits_longer_and_longer_and_is_looked_at_soon_after_it_ends() {
        let log: Vec<_> = (0..30_000)
            .step_by(50)
            .map(|at| (at, Happened::Complete))
            .collect();
        let looks = looks(&log, 40_000);
        assert_eq!(looks[..3], [4, 70, 140]);
        assert!(looks.len() < 12, "{looks:?}");
        assert!(
            (29_950..35_000).contains(looks.last().unwrap()),
            "{looks:?}"
        );
    }

    #[test]
    fn removals_are_looked_at_together() {
        let start = Instant::now();
        let mut agenda = Agenda::default();
        for n in 0..60 {
            let now = start + ms(n);
            agenda.note(path(&format!("f{n}")), Happened::Gone, now);
            assert!(agenda.take_due(now).is_empty());
        }
        // One that is written anew is no removal.
        agenda.note(path("f7"), Happened::Writing, start + ms(60));
        agenda.note(path("f7"), Happened::Complete, start + ms(61));
        assert_eq!(agenda.take_due(start + ms(65)), [name("f7")]);
        let due = agenda.next_due().unwrap();
        assert_eq!(due, start + ms(59) + REMOVALS_QUIET);
        assert_eq!(agenda.take_due(due).len(), 59);
        assert_eq!(agenda.next_due(), None);
        // But one after the other without end are not waited for.
        let removals: Vec<_> = (0..3000)
            .step_by(30)
            .map(|at| (at, Happened::Gone))
            .collect();
        assert_eq!(looks(&removals, 3500), [1000, 2020, 3020]);
    }

    #[test]
    fn others_do_not_wait_for_a_file_that_never_rests() {
        let start = Instant::now();
        let mut agenda = Agenda::default();
        agenda.note(path("hot"), Happened::Writing, start);
        agenda.note(path("other"), Happened::Complete, start);
        assert_eq!(agenda.take_due(start + GATHER), [name("other")]);
        assert_eq!(agenda.take_due(start + QUIET_FIRST), [name("hot")]);
    }

    #[test]
    fn what_was_told_of_is_looked_at_again_until_there_is_nothing_to_tell() {
        let start = Instant::now();
        let mut agenda = Agenda::default();
        agenda.look_again(path("x"), start);
        assert_eq!(agenda.next_due(), Some(start + RECHECK_FIRST));
        let second = start + RECHECK_FIRST;
        assert_eq!(agenda.take_due(second), [name("x")]);
        agenda.look_again(path("x"), second);
        // Unless whoever was told says that it is done.
        assert!(agenda.take_due(second + RECHECK_FIRST).is_empty());
        agenda.hasten(second + RECHECK_FIRST);
        assert_eq!(agenda.take_due(second + RECHECK_FIRST), [name("x")]);
        assert_eq!(agenda.next_due(), None);
    }

    #[test]
    fn what_is_put_in_place_here_is_looked_at_after_it_is_on_record() {
        let start = Instant::now();
        let mut agenda = Agenda::default();
        agenda.hold([path("x")]);
        agenda.note(path("x"), Happened::Complete, start);
        assert_eq!(agenda.next_due(), None);
        assert!(agenda.take_due(start + ms(900)).is_empty());
        agenda.release([&path("x")], start + ms(900));
        assert!(agenda.take_due(start + ms(900)).is_empty());
        assert_eq!(agenda.take_due(start + ms(900) + SETTLE), [name("x")]);
    }

    #[test]
    fn many_names_become_their_folders_and_many_folders_become_everything() {
        let start = Instant::now();
        let mut agenda = Agenda::default();
        for n in 0..100_000 {
            agenda.note(path(&format!("d{}/f{n}", n % 3)), Happened::Complete, start);
            assert!(agenda.marks.len() <= MARKS_MAX);
        }
        assert!(!agenda.take_everything());
        let due = agenda.take_due(start + GATHER);
        assert_eq!(due[0], Mark::Folder(Some(path("d0"))));
        for n in 0..100_000 {
            agenda.note(path(&format!("d{n}/f")), Happened::Complete, start);
            assert!(agenda.marks.len() <= MARKS_MAX);
        }
        assert!(agenda.take_everything());
        assert!(!agenda.take_everything());
    }
}

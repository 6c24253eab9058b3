//! Coming to rest after the last step, and what must hold then and always.

use std::collections::BTreeSet;

use super::{Checked, Run, Seen, Violation};
use crate::engine::Event;
use crate::ignore::RULES_FILE;
use crate::index::Sums;
use crate::plan::copied_name;
use crate::sim::people::files;
use crate::sim::plan::At;
use crate::sim::side::Process;
use crate::sim::{Item, Machine};

/// Rounds after the last step in which everything has to come to rest.
const SETTLE_ROUNDS: usize = 400;

impl Run {
    /// No torn file is ever seen under a real name.
    pub(super) fn check_whole(&self, when: &str) -> Checked {
        for at in At::BOTH {
            for (path, found) in files(&self.sides[at as usize].machine) {
                if !self.people.is_whole(&found) {
                    return Err(Violation(format!("{path} at {at:?} is torn after {when}")));
                }
            }
        }
        Ok(())
    }

    /// Nothing is removed that nobody removed, not even for a while.
    pub(super) fn check_trash(&self, at: At) -> Checked {
        let Some(process) = &self.sides[at as usize].process else {
            return Ok(());
        };
        let trash = process.index.trash_after(b"", usize::MAX);
        for (_, trashed) in trash.unwrap_or_default() {
            let version = trashed.id.map(|id| id.to_string()).unwrap_or_default();
            if self.people.is_in_use(&version) {
                let path = trashed.path;
                return Err(Violation(format!("nobody deleted {path}, and it was")));
            }
        }
        Ok(())
    }

    /// All faults end, and everything comes to rest.
    pub(super) fn settle(&mut self) -> Checked {
        for at in At::BOTH {
            let machine = &self.side(at).machine;
            machine.heal();
            machine.crash_at(u64::MAX);
        }
        let mut quiet = 0;
        let mut speaks = self.waiting.is_none();
        for _ in 0..SETTLE_ROUNDS {
            self.wait(1_000)?;
            for at in At::BOTH {
                self.start(at)?;
            }
            if self.are_strangers() {
                // Only people can mend that.
                self.forget(At::A)?;
            }
            self.connect()?;
            let before = self.trees();
            self.trace(|run| format!("round: {:?}", run.trees()));
            let mut silent = true;
            for at in At::BOTH {
                self.scan(at)?;
            }
            for _ in 0..4 {
                for at in At::BOTH {
                    silent &= self.side(at).inbox.is_empty();
                    self.deliver(at, usize::MAX)?;
                    while self.has_fetches(at) {
                        silent = false;
                        self.fetch(at)?;
                    }
                    self.apply(at)?;
                    self.check_trash(at)?;
                    self.process(at, Process::look_again)?;
                    self.confirm(at)?;
                    // One side's word is enough.
                    if speaks && at as u64 == self.seed % 2 {
                        self.say_the_word(at)?;
                    }
                    silent &= self.is_idle(at);
                }
            }
            self.check_whole("settling")?;
            self.check_waiting("settling")?;
            quiet = match silent && self.connected && before == self.trees() {
                true => quiet + 1,
                false => 0,
            };
            if quiet == 5 && !speaks {
                // It rests, and waits for a word.
                speaks = true;
                quiet = 0;
            } else if quiet == 5 {
                return self.check_end();
            }
        }
        let problems: Vec<_> = self
            .sides
            .iter()
            .filter_map(|side| side.process.as_ref())
            .map(Process::problems)
            .collect();
        Err(Violation(format!("it does not settle: {problems:?}")))
    }

    pub(super) fn has_fetches(&self, at: At) -> bool {
        let process = self.sides[at as usize].process.as_ref();
        process.is_some_and(|process| !process.fetches.is_empty())
    }

    pub(super) fn is_idle(&self, at: At) -> bool {
        let process = self.sides[at as usize].process.as_ref();
        process.is_some_and(Process::is_idle)
    }

    /// Whoever emptied a share means it.
    pub(super) fn confirm(&mut self, at: At) -> Checked {
        self.process(at, |process| match process.held.take() {
            Some(set) => process.tell(vec![Event::Confirmed { ask: 0, set }]),
            None => Ok(()),
        })
    }

    pub(super) fn trees(&self) -> [Seen; 2] {
        [0, 1].map(|at: usize| seen(&self.sides[at].machine))
    }

    pub(super) fn check_end(&self) -> Checked {
        let [a, b] = self.trees();
        let ignored = self.ignored_at_the_end()?;
        if let Some(path) = ignored.difference() {
            return Err(Violation(format!(
                "the trees differ in {path}: {a:?} {b:?}"
            )));
        }
        let [share, same] = self.share_ids();
        if share.is_none() || share != same {
            let text = format!("they are not one share: {share:?} {same:?}");
            return Err(Violation(text));
        }
        let files = self.sides.each_ref().map(|side| files(&side.machine));
        let there: BTreeSet<_> = files
            .into_iter()
            .flat_map(|all| all.into_values())
            .collect();
        if let Some(what) = self.people.lost(&there) {
            return Err(Violation(format!("lost: {what}; there is {a:?} {b:?}")));
        }
        if self.one_writer && a.keys().any(|path| path.contains("conflict")) {
            return Err(Violation(format!("a conflict with nobody: {a:?}")));
        }
        for (at, side) in self.sides.iter().enumerate() {
            let Some(process) = &side.process else {
                continue;
            };
            let mut problems = process.problems();
            // A power cut can leave zeros in what a person had just written, and then
            // that is a problem until somebody writes it again.
            let rules = side.machine.user().read(RULES_FILE).unwrap_or_default();
            if rules.contains(&0) {
                problems.retain(|problem| !problem.contains("NUL byte"));
            }
            if !problems.is_empty() && !ignored.blocks_anything() {
                return Err(Violation(format!(
                    "it is over and still is a problem: {problems:?}"
                )));
            }
            let sums = process.index.sums().map(|sums| {
                let Sums {
                    live_bytes,
                    copies,
                    wanted_bytes,
                    ..
                } = sums;
                (live_bytes, copies, wanted_bytes)
            });
            let is = sums_of(&side.machine, |path| !ignored.is_ignored(at, path));
            if sums.as_ref().ok().is_some_and(|sums| *sums != is) && !ignored.blocks_anything() {
                return Err(Violation(format!("the sums are {is:?} and not {sums:?}")));
            }
            let open = process.open_ends().unwrap_or_default();
            let open: Vec<_> = open
                .into_iter()
                .filter(|path| !ignored.is_in_the_way(path))
                .collect();
            if !open.is_empty() {
                return Err(Violation(format!("tombstones or wants are left: {open:?}")));
            }
        }
        Ok(())
    }
}

/// Bytes of all files, conflict copies, and what is still to be taken at the end.
fn sums_of(machine: &Machine, counts: impl Fn(&str) -> bool) -> (u64, u64, u64) {
    let mut tree = machine.tree().0;
    tree.retain(|path, _| counts(path));
    let sizes = tree.values().map(|item| match item {
        Item::File { size, .. } => *size,
        _ => 0,
    });
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let copies = tree
        .keys()
        .filter(|path| copied_name(name(path).as_bytes()).is_some());
    (sizes.sum(), copies.count() as u64, 0)
}

/// What must be the same on both sides.
pub(super) fn seen(machine: &Machine) -> Seen {
    let all = machine.tree().0.into_iter();
    all.map(|(path, item)| {
        let text = match item {
            Item::File {
                mode, mtime, hash, ..
            } => format!(
                "file {mode:o} {}.{:09} {}",
                mtime.secs,
                mtime.nanos,
                &hash[..8]
            ),
            Item::Dir { mode, .. } => format!("dir {mode:o}"),
            Item::Link { target } => format!("link {target}"),
        };
        (path, text)
    })
    .collect()
}

//! Following the peer's deletions: what is in a folder before the folder, into
//! the trash, and not without a person when it is too much.

use super::guard::Held;
use super::jobs::SOURCES_MAX;
use super::listing::doom_if_theirs;
use super::{Action, Engine, IN_FLIGHT_MAX, News, PAGE_WANTS, Stage};
use crate::apply::{How, Job};
use crate::entry::{Body, Entry};
use crate::index::{Change, IndexError, Removal, Store};
use crate::merge::made_again;
use crate::path::RelPath;
use crate::plan::{Decision, plan};
use crate::record::{Record, encode_entry};

/// Paths that are named when removals are held back.
const EXAMPLES_MAX: usize = 5;

/// What the index knows in a folder that is to go, or to become something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inside {
    /// Nothing.
    Nothing,
    /// Only what the applier was told to remove already.
    Leaving,
    /// Only what is to go as well.
    OnItsWay,
    /// Something that stays.
    Stays,
}

/// Removals that may be a mistake.
struct Alarming {
    /// What confirms them.
    set: Vec<Change>,
    /// What a person is told of them.
    held: Option<Held>,
    /// How many are no folders.
    files: u64,
}

impl<S: Store> Engine<S> {
    /// Starts removals, from the last path to the first.
    pub(super) fn dispatch_removals(&mut self) -> Result<(), IndexError> {
        if !self.scanned || self.joined().is_none() {
            return Ok(());
        }
        self.look_at_guard()?;
        loop {
            self.removals_pass()?;
            if !std::mem::take(&mut self.revived) {
                return Ok(());
            }
            // What is wanted of those folders means something else now.
            self.look_at_all_wants();
            self.look_at_all_removals();
        }
    }

    /// What is wanted to be removed, or what it means, changed. With many that are
    /// held back this is costly, so it is not said of every change.
    pub(super) fn look_at_all_removals(&mut self) {
        self.go_on_with_removals();
        self.guard.is_stale = true;
    }

    /// Some were followed, and others may be next. For the guard that is nothing
    /// new: what it counts as wanted is now counted as removed.
    pub(super) fn go_on_with_removals(&mut self) {
        self.removal_cursor = None;
        self.removals_at_end = false;
    }

    fn removals_pass(&mut self) -> Result<(), IndexError> {
        if self.guard.waits_for_rest() {
            return Ok(());
        }
        let store = self.store.clone();
        let mut changes = Vec::new();
        let mut has_changed = false;
        'pages: while !self.removals_at_end {
            let page = store.removals_before(self.removal_cursor.as_ref(), PAGE_WANTS)?;
            self.removals_at_end = page.is_empty();
            for (path, removal) in page {
                if self.in_flight.len() >= IN_FLIGHT_MAX {
                    break 'pages;
                }
                self.removal_cursor = Some(path.clone());
                self.dispatch_removal(&mut changes, path, removal)?;
            }
            has_changed |= !changes.is_empty();
            store.commit(&std::mem::take(&mut changes))?;
        }
        if !has_changed && changes.is_empty() {
            return Ok(());
        }
        store.commit(&changes)?;
        self.unlisted = true;
        // The peer may have acknowledged long ago what both turned out to have.
        let acknowledged = self.session.as_ref().map(|known| known.acknowledged_upto);
        self.drop_tombstones(acknowledged.unwrap_or(0))
    }

    fn dispatch_removal(
        &mut self,
        changes: &mut Vec<Change>,
        path: RelPath,
        removal: Removal,
    ) -> Result<(), IndexError> {
        if self.in_flight.contains_key(&path) || self.is_delayed(&path) {
            return Ok(());
        }
        let theirs = removal.entry;
        let known = self.store.get(&path)?;
        let (known, target) = match plan(known.as_ref().map(|record| &record.entry), &theirs) {
            Decision::Record(entry) => {
                self.record(changes, &path, known, entry);
                doom_if_theirs(changes, &path, &theirs);
                self.undelay(&path);
                changes.push(Change::Unwant { path });
                return Ok(());
            }
            Decision::Remove(target) => match known {
                Some(known) => (known, target),
                None => return Ok(()),
            },
            // Ours is at least as new.
            _ => {
                doom_if_theirs(changes, &path, &theirs);
                self.undelay(&path);
                changes.push(Change::Unwant { path });
                return Ok(());
            }
        };
        if self.guard.held.is_some() && !removal.is_confirmed {
            return Ok(());
        }
        if known.entry.body == Body::Dir {
            match self.inside(&path)? {
                // Jobs are done in the order in which they are given.
                Inside::Nothing | Inside::Leaving => {}
                Inside::OnItsWay => return Ok(()),
                Inside::Stays => return self.revive(changes, path, known),
            }
        }
        let counts = !removal.is_confirmed && !self.is_renamed(&path, &known.entry)?;
        if counts {
            self.guard.count(self.now);
        }
        let slot = self.next_slot();
        self.in_flight
            .insert(path.clone(), Stage::Removing { counts });
        self.actions.push(Action::Apply(Box::new(Job {
            path,
            known: Some(known),
            theirs,
            target,
            how: How::Remove,
            slot,
            source: None,
        })));
        Ok(())
    }

    /// What the index knows below a folder.
    pub(super) fn inside(&self, folder: &RelPath) -> Result<Inside, IndexError> {
        // What is being taken out of the trash is put in place even if nobody wants it
        // any more, and would make the folder anew.
        let is_copied = |(path, stage): (&RelPath, &Stage)| {
            matches!(stage, Stage::Copying(_)) && path.is_below(folder)
        };
        if self.in_flight.iter().any(is_copied) {
            return Ok(Inside::OnItsWay);
        }
        let mut found = Inside::Nothing;
        let mut cursor = folder.clone();
        loop {
            let page = self.store.records_after(Some(&cursor), PAGE_WANTS)?;
            for (path, record) in &page {
                if !path.is_below(folder) {
                    return Ok(found);
                }
                if record.entry.is_deleted() {
                    continue;
                }
                if matches!(self.in_flight.get(path), Some(Stage::Removing { .. })) {
                    if found == Inside::Nothing {
                        found = Inside::Leaving;
                    }
                    continue;
                }
                if !self.is_to_go(path, &record.entry)? {
                    // Perhaps the peer has not said all yet.
                    return Ok(match self.has_heard_all() {
                        true => Inside::Stays,
                        false => Inside::OnItsWay,
                    });
                }
                found = Inside::OnItsWay;
            }
            match page.last() {
                Some((path, _)) => cursor = path.clone(),
                None => return Ok(found),
            }
        }
    }

    pub(super) fn has_heard_all(&self) -> bool {
        let session = self.session.as_ref();
        session.is_some_and(|session| session.heard_all)
    }

    /// Whether the peer's deletion of what is here will be followed.
    pub(super) fn is_to_go(&self, path: &RelPath, ours: &Entry) -> Result<bool, IndexError> {
        let want = self.store.want(path)?;
        Ok(want.is_some_and(|want| matches!(plan(Some(ours), &want), Decision::Remove(_))))
    }

    /// A folder that the peer deleted, or replaced, holds something that stays:
    /// so the folder stays. That is a change of this side which does not know of
    /// the peer's, as somebody who saved a file into the folder did not.
    pub(super) fn revive(
        &mut self,
        changes: &mut Vec<Change>,
        path: RelPath,
        known: Record,
    ) -> Result<(), IndexError> {
        let number = self.next_number(changes)?;
        let entry = made_again(&known.entry, self.store.replica(), number);
        let stamp = known.stamp;
        changes.push(Change::Put { path, entry, stamp });
        self.revived = true;
        Ok(())
    }

    /// Whether the content is, or is to be, somewhere else in the share as well.
    fn is_renamed(&self, path: &RelPath, ours: &Entry) -> Result<bool, IndexError> {
        let Body::File { id, size: 1.., .. } = ours.body else {
            return Ok(false);
        };
        if self.store.is_wanted(id)? {
            return Ok(true);
        }
        for other in self.store.paths_of(id, SOURCES_MAX)? {
            let Some(record) = self.store.get(&other)?.filter(|_| other != *path) else {
                continue;
            };
            if !self.is_to_go(&other, &record.entry)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Finds out whether removals have to be held back.
    fn look_at_guard(&mut self) -> Result<(), IndexError> {
        if !std::mem::take(&mut self.guard.is_stale) {
            return Ok(());
        }
        let (wanted, live) = (self.store.removals()?, self.store.live()?);
        let was_held = self.guard.held.is_some();
        let held = if !was_held && !self.guard.is_too_much(self.now, wanted, live) {
            None
        } else if self.has_heard_all() {
            let alarming = self.alarming()?;
            let files_left = was_held && alarming.files > 0;
            // Once held back it stays so to the last path: somebody who is putting
            // things back must not be overtaken by the deletion of the others.
            alarming
                .held
                .filter(|held| files_left || self.guard.is_too_much(self.now, held.count, live))
        } else {
            // What was renamed shows when the peer has said all.
            self.guard.held.clone().or_else(|| Some(Held::default()))
        };
        if held == self.guard.held {
            return Ok(());
        }
        if let Some(held) = held.as_ref().filter(|held| !held.set.is_empty()) {
            self.tell(News::Held(Some(held.clone())));
        } else if held.is_none() {
            self.tell(News::Held(None));
        }
        self.guard.held = held;
        self.look_at_all_wants();
        self.look_at_all_removals();
        // It was looked at just now.
        self.guard.is_stale = false;
        Ok(())
    }

    /// The removals that were not confirmed and are no renames.
    fn alarming(&self) -> Result<Alarming, IndexError> {
        let mut hasher = blake3::Hasher::new();
        let mut set = Vec::new();
        let mut examples = Vec::new();
        let (mut folders, mut others) = (0, 0);
        let mut cursor = None;
        loop {
            let page = self.store.removals_before(cursor.as_ref(), PAGE_WANTS)?;
            for (path, removal) in &page {
                let known = self.store.get(path)?;
                let Some(known) = known.filter(|known| !known.entry.is_deleted()) else {
                    continue;
                };
                let goes = matches!(
                    plan(Some(&known.entry), &removal.entry),
                    Decision::Remove(_)
                );
                if removal.is_confirmed || !goes {
                    continue;
                }
                if self.is_renamed(path, &known.entry)? {
                    continue;
                }
                match known.entry.body {
                    Body::Dir => folders += 1,
                    _ => others += 1,
                }
                hasher.update(&path.key());
                hasher.update(&encode_entry(&removal.entry));
                if examples.len() < EXAMPLES_MAX {
                    examples.push(path.to_string());
                }
                set.push(Change::Confirm {
                    path: path.clone(),
                    entry: removal.entry.clone(),
                });
            }
            match page.last() {
                Some((path, _)) => cursor = Some(path.clone()),
                None => break,
            }
        }
        // Nothing is lost with folders: one goes only when it is empty. Those of a
        // tree that was renamed are left when all that was in them has moved.
        let count = match others {
            0 => 0,
            _ => folders + others,
        };
        let held = (count > 0).then(|| Held {
            set: hasher.finalize().to_hex()[..8].to_owned(),
            count,
            examples,
        });
        Ok(Alarming {
            set,
            held,
            files: others,
        })
    }

    /// A person said that this set is meant.
    pub(super) fn confirm(&mut self, ask: u64, set: &str) -> Result<(), IndexError> {
        let alarming = self.alarming()?;
        let held = alarming.held.filter(|_| self.guard.held.is_some());
        let answer = match held.filter(|held| held.set == set) {
            Some(held) => {
                self.store.commit(&alarming.set)?;
                self.look_at_all_removals();
                self.look_at_all_wants();
                Ok(format!(
                    "{} deletions of the peer are followed now",
                    held.count
                ))
            }
            None => Err(format!(
                "no set {set} of deletions is held back, or it has changed; see `left status`"
            )),
        };
        self.actions.push(Action::Answer { ask, answer });
        Ok(())
    }
}

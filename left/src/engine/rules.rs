//! What becomes ignored is forgotten, and the peer is not told; what is ignored no
//! more is heard of again.

use std::sync::Arc;

use super::{Engine, News, PAGE_WANTS};
use crate::entry::{Body, Entry};
use crate::ignore::Rules;
use crate::index::{Change, Heard, IndexError, Store};
use crate::merge::changed_here;
use crate::path::RelPath;
use crate::planted::{Bug, makes};
use crate::scanner::{Observation, Seen};

/// Changes committed at a time: few enough to hold in memory.
const CHANGES_MAX: usize = 4096;

impl<S: Store> Engine<S> {
    /// Takes what was seen, each by the rules that held then.
    pub(super) fn take_seen(&mut self, observations: Vec<Observation>) -> Result<(), IndexError> {
        let mut together = Vec::new();
        let mut forgotten = Vec::new();
        for observation in observations {
            match observation.seen {
                Seen::Rules(rules) => {
                    self.take_observations(std::mem::take(&mut together))?;
                    self.take_rules(rules)?;
                }
                Seen::Ignored => {
                    let path = observation.path;
                    let known = self.store.get(&path)?;
                    let is_it = known.is_some_and(|it| Some(it.seq) == observation.compared_with);
                    if is_it && !self.in_flight.contains_key(&path) {
                        forgotten.push(Change::Drop { path });
                    }
                }
                Seen::Present { .. } | Seen::Absent => together.push(observation),
            }
        }
        self.take_observations(together)?;
        self.store.commit(&forgotten)
    }

    /// Whether this side ignores such an entry.
    pub(super) fn ignores(&self, path: &RelPath, entry: &Entry) -> bool {
        let rules = self.store.rules();
        rules.is_some_and(|rules| rules.ignores(path, entry.body == Body::Dir))
    }

    fn take_rules(&mut self, rules: Arc<Rules>) -> Result<(), IndexError> {
        let store = self.store.clone();
        let old = store.rules().unwrap_or_default();
        if *old == *rules {
            return Ok(());
        }
        let ignores_less = !rules.ignore_all_of(&old);
        let hears_again = ignores_less || self.forgets_half(&rules)?;
        let mut changes = vec![Change::Rules(rules)];
        if hears_again && !makes(Bug::HearsNothingAgain) {
            // What the peer told of such paths meanwhile was not listened to.
            changes.push(Change::Heard(Heard {
                upto: 0,
                partial: true,
                ..store.heard()?
            }));
        }
        store.commit(&changes)?;
        self.forget_ignored()?;
        if hears_again {
            let sessions = self.session.iter().chain(&self.next_session);
            let ids: Vec<u64> = sessions.map(|session| session.id).collect();
            for id in ids {
                self.end_session(
                    id,
                    "other paths are ignored now, and it is to list all again",
                );
            }
            self.early.clear();
        }
        // What is here already is looked at before the peer's is wanted.
        self.scanned &= !ignores_less;
        Ok(())
    }

    /// Whether something will be forgotten at a path where another kind of thing is
    /// not ignored: whether the peer has one there is forgotten with it.
    fn forgets_half(&self, rules: &Rules) -> Result<bool, IndexError> {
        let mut cursor: Option<RelPath> = None;
        while rules.tell_folders() {
            let page = self.store.records_after(cursor.as_ref(), PAGE_WANTS)?;
            for (path, record) in &page {
                let is_dir = record.entry.body == Body::Dir;
                if rules.ignores(path, is_dir) && !rules.ignores(path, !is_dir) {
                    return Ok(true);
                }
            }
            match page.last() {
                Some((path, _)) => cursor = Some(path.clone()),
                None => break,
            }
        }
        Ok(false)
    }

    /// Forgets all that the rules in force ignore. Nothing of it is deleted anywhere:
    /// no tombstone is made, and nothing on the disk is touched. A path that a job
    /// is at work on is forgotten at its end.
    pub(super) fn forget_ignored(&mut self) -> Result<(), IndexError> {
        let store = self.store.clone();
        let Some(rules) = store.rules() else {
            return Ok(());
        };
        self.drop_ignored(&rules)?;
        let mut void = Void::new(&*store, &rules);
        let mut cursor: Option<RelPath> = None;
        loop {
            let page = store.wants_after(cursor.as_ref(), PAGE_WANTS)?;
            let Some((last, _)) = page.last() else { break };
            cursor = Some(last.clone());
            for (path, want) in page {
                void.unwant(path, want.body == Body::Dir)?;
            }
        }
        let mut cursor: Option<RelPath> = None;
        loop {
            let page = store.removals_before(cursor.as_ref(), PAGE_WANTS)?;
            let Some((last, _)) = page.last() else { break };
            cursor = Some(last.clone());
            for (path, _) in page {
                void.unwant(path, false)?;
            }
        }
        let mut changes = void.changes;
        changes.push(Change::Clean);
        store.commit(&changes)?;
        let is_either = |path: &RelPath| rules.ignores(path, true) || rules.ignores(path, false);
        let tried = self.delayed.keys();
        let void: Vec<_> = tried.filter(|path| is_either(path)).cloned().collect();
        for path in void {
            self.undelay(&path);
            self.tell(News::Solved(path));
        }
        self.unlisted = true;
        self.tell(News::Changed);
        self.look_at_all_wants();
        self.look_at_all_removals();
        Ok(())
    }

    fn drop_ignored(&self, rules: &Rules) -> Result<(), IndexError> {
        let store = &self.store;
        let mut changes = Vec::new();
        let mut cursor: Option<RelPath> = None;
        loop {
            let page = store.records_after(cursor.as_ref(), PAGE_WANTS)?;
            let Some((last, _)) = page.last() else { break };
            cursor = Some(last.clone());
            for (path, record) in page {
                let is_ignored = rules.ignores(&path, record.entry.body == Body::Dir);
                if !is_ignored || self.in_flight.contains_key(&path) {
                    continue;
                }
                if makes(Bug::IgnoredIsDeleted) && !record.entry.is_deleted() {
                    let number = store.seq()? + 1 + changes.len() as u64;
                    let (known, here) = (Some(&record.entry), store.replica());
                    let entry = changed_here(known, Body::Deleted, 0, here, number);
                    let stamp = None;
                    changes.push(Change::Put { path, entry, stamp });
                    continue;
                }
                changes.push(Change::Drop { path });
            }
            if changes.len() >= CHANGES_MAX {
                store.commit(&std::mem::take(&mut changes))?;
            }
        }
        store.commit(&changes)
    }
}

/// Wants that are void, some of which may be committed already.
struct Void<'a, S> {
    store: &'a S,
    rules: &'a Rules,
    changes: Vec<Change>,
}

impl<'a, S: Store> Void<'a, S> {
    fn new(store: &'a S, rules: &'a Rules) -> Self {
        let changes = Vec::new();
        Self {
            store,
            rules,
            changes,
        }
    }

    fn unwant(&mut self, path: RelPath, is_dir: bool) -> Result<(), IndexError> {
        if self.rules.ignores(&path, is_dir) {
            self.changes.push(Change::Unwant { path });
        }
        if self.changes.len() >= CHANGES_MAX {
            self.store.commit(&std::mem::take(&mut self.changes))?;
        }
        Ok(())
    }
}

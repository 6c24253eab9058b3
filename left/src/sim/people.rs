//! What people do on both sides, and what they may therefore rely on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::plan::{At, Op, PATHS};
use super::{Item, Machine};
use crate::entry::Mtime;

/// What is known of all versions. Clones are the same people.
#[derive(Clone)]
pub(crate) struct People(Arc<Mutex<Known>>);

struct Known {
    /// Versions that must be somewhere in the end, by hash, with what made them.
    owed: BTreeMap<String, String>,
    /// Whole contents that ever were, by hash.
    whole: BTreeSet<String>,
    /// Versions that had another name once.
    renamed: BTreeSet<String>,
    /// Contents that were written on a side and not made durable.
    unsynced: [BTreeSet<String>; 2],
    /// Anything was done on a side that was not made durable.
    dirty: [bool; 2],
    written: u64,
    /// Operations that could be done.
    done: u64,
    /// What was written on a side since the last snapshot of its disk.
    since_snapshot: [BTreeSet<String>; 2],
}

impl People {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Known {
            owed: BTreeMap::new(),
            whole: BTreeSet::from([hash(b"")]),
            renamed: BTreeSet::new(),
            unsynced: [BTreeSet::new(), BTreeSet::new()],
            dirty: [false; 2],
            written: 0,
            done: 0,
            since_snapshot: Default::default(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does it. Whoever replaces or deletes a version has seen it; a full disk may
    /// take half of what is written.
    pub(crate) fn act(&self, at: At, machine: &Machine, op: Op) {
        let mut known = self.lock();
        known.written += 1;
        let before = files(machine);
        known.done += u64::from(perform(at, machine, op, known.written, &before));
        let after = files(machine);
        let moved = before
            .iter()
            .filter(|(path, had)| after.get(*path) != Some(*had));
        known.renamed.extend(moved.map(|(_, had)| had.clone()));
        let had: BTreeSet<_> = before.into_values().collect();
        let has: BTreeSet<_> = after.into_values().collect();
        for gone in had.difference(&has) {
            known.owed.remove(gone);
        }
        for new in has.difference(&had) {
            // A content that was there before, as the empty one always was, does not
            // tell one version from another.
            match known.whole.insert(new.clone()) {
                true => known.owed.insert(new.clone(), format!("{op:?} at {at:?}")),
                false => known.owed.remove(new),
            };
            known.unsynced[at as usize].insert(new.clone());
            known.since_snapshot[at as usize].insert(new.clone());
        }
        known.dirty[at as usize] = true;
    }

    /// How many operations could be done so far.
    pub(crate) fn operations(&self) -> u64 {
        self.lock().done
    }

    /// What was done on a side is durable now.
    pub(crate) fn sync(&self, at: At, machine: &Machine) {
        machine.user().sync();
        let mut known = self.lock();
        known.unsynced[at as usize].clear();
        known.dirty[at as usize] = false;
    }

    /// What people had not made durable may be gone, or torn.
    pub(crate) fn after_power_cut(&self, at: At, machine: &Machine) {
        let mut known = self.lock();
        for version in std::mem::take(&mut known.unsynced[at as usize]) {
            known.owed.remove(&version);
        }
        if std::mem::take(&mut known.dirty[at as usize]) {
            known.whole.extend(files(machine).into_values());
        }
    }

    /// A snapshot is taken of the disk of a side.
    pub(crate) fn after_snapshot(&self, at: At) {
        self.lock().since_snapshot[at as usize].clear();
    }

    /// The snapshot was put back. What the side had or wrote since then, and nobody
    /// has now, is gone.
    pub(crate) fn after_rollback(
        &self,
        at: At,
        machine: &Machine,
        before: &BTreeMap<String, String>,
        elsewhere: &BTreeMap<String, String>,
    ) {
        let there: BTreeSet<_> = files(machine).into_values().collect();
        let there_too: BTreeSet<_> = elsewhere.values().cloned().collect();
        let mut known = self.lock();
        let mut had = std::mem::take(&mut known.since_snapshot[at as usize]);
        had.extend(before.values().cloned());
        for version in had {
            if !there.contains(&version) && !there_too.contains(&version) {
                known.owed.remove(&version);
            }
        }
    }

    /// Whether a content, by its hash, was ever whole somewhere.
    pub(crate) fn is_whole(&self, content: &str) -> bool {
        self.lock().whole.contains(content)
    }

    /// Whether somebody relies on a version that always had the name it was given.
    pub(crate) fn is_in_use(&self, version: &str) -> bool {
        let known = self.lock();
        known.owed.contains_key(version) && !known.renamed.contains(version)
    }

    /// What made a version that is not among these.
    pub(crate) fn lost(&self, there: &BTreeSet<String>) -> Option<String> {
        let known = self.lock();
        let mut owed = known.owed.iter();
        owed.find(|(version, _)| !there.contains(*version))
            .map(|(_, what)| what.clone())
    }
}

/// Answers whether it could be done.
fn perform(
    at: At,
    machine: &Machine,
    op: Op,
    number: u64,
    before: &BTreeMap<String, String>,
) -> bool {
    let user = machine.user();
    let is_file = |path: usize| before.contains_key(PATHS[path]);
    // Different from all others.
    let text = |size: u64| {
        let mut bytes = format!("{number}:{at:?}:").into_bytes();
        bytes.resize(size.max(bytes.len() as u64) as usize, b'.');
        match size {
            0 => Vec::new(),
            _ => bytes,
        }
    };
    // What cannot be done is not done, as everywhere.
    let done = match op {
        Op::Write(path, size) => user.write(PATHS[path], &text(size)),
        Op::Append(path) if is_file(path) => user.append(PATHS[path], &text(1)),
        Op::Truncate(path) if is_file(path) => {
            let len = user.read(PATHS[path]).map_or(0, |bytes| bytes.len());
            user.truncate(PATHS[path], len as u64 / 2)
        }
        Op::Save(path, size) => {
            let saved = user
                .write("~", &text(size))
                .and_then(|()| user.rename("~", PATHS[path]));
            if saved.is_err() {
                let _ = user.delete("~");
            }
            saved
        }
        Op::Delete(path) => user.delete(PATHS[path]),
        Op::DeleteTree(path) => {
            delete_tree(machine, PATHS[path]);
            Ok(())
        }
        Op::Rename(from, to) => user.rename(PATHS[from], PATHS[to]),
        Op::Swap(from, to) => user.exchange(PATHS[from], PATHS[to]),
        Op::Mkdir(path) => user.mkdir(PATHS[path]),
        Op::Rmdir(path) => user.rmdir(PATHS[path]),
        Op::Symlink(path) => user.symlink(PATHS[path], PATHS[path]),
        Op::Chmod(path, mode) if is_file(path) => user.chmod(PATHS[path], mode),
        Op::Touch(path, secs) if is_file(path) => user.touch(PATHS[path], Mtime { secs, nanos: 0 }),
        Op::Append(_) | Op::Truncate(_) | Op::Chmod(..) | Op::Touch(..) => return false,
    };
    done.is_ok()
}

fn delete_tree(machine: &Machine, path: &str) {
    let below = format!("{path}/");
    let tree = machine.tree().0;
    let user = machine.user();
    for (name, item) in tree.iter().rev() {
        if name == path || name.starts_with(&below) {
            let _ = match item {
                Item::Dir { .. } => user.rmdir(name),
                _ => user.delete(name),
            };
        }
    }
}

/// The hashes of all files by path.
pub(crate) fn files(machine: &Machine) -> BTreeMap<String, String> {
    let all = machine.tree().0.into_iter();
    all.filter_map(|(path, item)| match item {
        Item::File { hash, .. } => Some((path, hash)),
        _ => None,
    })
    .collect()
}

fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

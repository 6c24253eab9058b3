//! Changes of names that are not durable yet.

use std::collections::BTreeMap;

use super::inode::{Id, Inode, Name};
use super::rng::Rng;

/// Which changes of names a power cut can lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameOrder {
    /// Any of them.
    Reordered,
    /// The last ones, as with a journal.
    Journaled,
}

/// One change of one name.
#[derive(Debug, Clone)]
pub(super) struct Effect {
    pub(super) folder: Id,
    pub(super) name: Name,
    pub(super) now: Option<Id>,
}

/// What one call did to names; kept or lost as a whole.
#[derive(Debug, Clone)]
pub(super) struct NameChange {
    pub(super) effects: Vec<Effect>,
    /// The folder that it removed.
    pub(super) removed: Option<Id>,
    /// It gave a folder another parent.
    pub(super) moves_folder: bool,
}

impl NameChange {
    fn is_in(&self, folder: Id) -> bool {
        self.effects.iter().any(|effect| effect.folder == folder)
    }

    /// Whether this one cannot be on the disk without that earlier one.
    fn needs(&self, earlier: &NameChange) -> bool {
        let same_name = self.effects.iter().any(|mine| {
            let mut theirs = earlier.effects.iter();
            theirs.any(|other| (mine.folder, &mine.name) == (other.folder, &other.name))
        });
        same_name || self.moves_folder || self.removed.is_some_and(|removed| earlier.is_in(removed))
    }
}

/// All changes of names since they were durable, the oldest first.
#[derive(Debug, Clone, Default)]
pub(super) struct NameLog(Vec<NameChange>);

impl NameLog {
    pub(super) fn push(&mut self, change: NameChange) {
        self.0.push(change);
    }

    /// Makes the names in a folder durable.
    pub(super) fn sync(&mut self, inodes: &mut BTreeMap<Id, Inode>, folder: Id, order: NameOrder) {
        let mut kept: Vec<bool> = match order {
            NameOrder::Reordered => self.0.iter().map(|change| change.is_in(folder)).collect(),
            NameOrder::Journaled => vec![true; self.0.len()],
        };
        self.close(&mut kept);
        self.make_durable(inodes, &kept);
    }

    /// Makes all names durable.
    pub(super) fn sync_all(&mut self, inodes: &mut BTreeMap<Id, Inode>) {
        let kept = vec![true; self.0.len()];
        self.make_durable(inodes, &kept);
    }

    /// Keeps some and loses the others.
    pub(super) fn cut_power(
        &mut self,
        inodes: &mut BTreeMap<Id, Inode>,
        rng: &mut Rng,
        order: NameOrder,
    ) {
        let count = self.0.len() as u64;
        let mut kept: Vec<bool> = match order {
            NameOrder::Journaled => {
                let upto = rng.below(count + 1);
                (0..count).map(|n| n < upto).collect()
            }
            NameOrder::Reordered => {
                let bias = rng.below(5);
                (0..count).map(|_| rng.chance(bias, 4)).collect()
            }
        };
        self.close(&mut kept);
        self.make_durable(inodes, &kept);
        self.0.clear();
    }

    /// What is needed by what is kept is kept.
    fn close(&self, kept: &mut [bool]) {
        for later in (0..self.0.len()).rev().filter(|n| *n > 0) {
            if !kept[later] {
                continue;
            }
            for (kept, earlier) in kept.iter_mut().zip(&self.0[..later]) {
                *kept |= self.0[later].needs(earlier);
            }
        }
    }

    fn make_durable(&mut self, inodes: &mut BTreeMap<Id, Inode>, kept: &[bool]) {
        let mut kept = kept.iter();
        self.0.retain(|change| {
            if kept.next() != Some(&true) {
                return true;
            }
            for effect in &change.effects {
                let Some(folder) = inodes.get_mut(&effect.folder) else {
                    continue;
                };
                match effect.now {
                    Some(id) => folder.disk_names.insert(effect.name.clone(), id),
                    None => folder.disk_names.remove(&effect.name),
                };
            }
            false
        });
    }

    /// Everything that a power cut could bring back.
    pub(super) fn mentioned(&self) -> impl Iterator<Item = Id> {
        let effects = self.0.iter().flat_map(|change| &change.effects);
        effects.flat_map(|effect| effect.now.into_iter().chain([effect.folder]))
    }
}

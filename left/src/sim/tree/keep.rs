//! What is kept of it all: by a sync, by a power cut, and for ever.

use std::collections::BTreeMap;

use super::{FileSystem, ROOT};
use crate::sim::inode::Id;

impl FileSystem {
    /// Makes a file's content durable, or a folder's names, and the metadata.
    pub(in crate::sim) fn sync(&mut self, id: Id) {
        if self.config.lies_about_syncs {
            return;
        }
        self.get_mut(id).sync();
        if self.get(id).is_dir() {
            self.log.sync(&mut self.inodes, id, self.config.name_order);
        }
    }

    pub(in crate::sim) fn sync_all(&mut self) {
        if self.config.lies_about_syncs {
            return;
        }
        self.log.sync_all(&mut self.inodes);
        for inode in self.inodes.values_mut() {
            inode.sync();
        }
    }

    /// What a sync does that fails.
    pub(in crate::sim) fn fail_to_sync(&mut self, id: Id) {
        let mut rng = self.rng.clone();
        let inode = self.get_mut(id);
        if !inode.is_dir() {
            inode.fail_to_sync(&mut rng);
        }
        self.rng = rng;
    }

    /// Frees what neither a name nor a handle nor a power cut can bring back.
    pub(super) fn forget_unreachable(&mut self, but: Id) {
        let mut kept: std::collections::BTreeSet<Id> = self.log.mentioned().collect();
        kept.extend([ROOT, but]);
        for (id, inode) in &self.inodes {
            if inode.open > 0 {
                kept.insert(*id);
            }
            kept.extend(inode.names.values().chain(inode.disk_names.values()));
        }
        let free = &mut self.free_inos;
        self.inodes.retain(|id, inode| {
            let keep = kept.contains(id);
            if !keep {
                free.push(inode.ino);
            }
            keep
        });
    }

    /// After a power cut: who has which name, and who has none any more.
    pub(in crate::sim) fn count_links(&mut self) {
        let mut links: BTreeMap<Id, (u64, Id)> = BTreeMap::new();
        let mut todo = vec![ROOT];
        links.insert(ROOT, (1, ROOT));
        while let Some(id) = todo.pop() {
            let below: Vec<Id> = self.get(id).names.values().copied().collect();
            for child in below {
                let known = links.entry(child).or_insert((0, id));
                known.0 += 1;
                if known.0 == 1 {
                    todo.push(child);
                }
            }
        }
        let free = &mut self.free_inos;
        self.inodes.retain(|id, inode| match links.get(id) {
            Some((count, parent)) => {
                (inode.links, inode.parent) = (*count, *parent);
                true
            }
            None => {
                free.push(inode.ino);
                false
            }
        });
    }
}

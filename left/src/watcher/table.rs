//! Which folder each watch is of: a tree, so that a folder that moves takes
//! what is in it along.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::path::{PATH_BYTES_MAX, RelPath};

/// The number the kernel gave a watch.
pub(super) type Wd = i32;

/// The watched folders.
#[derive(Default)]
pub(super) struct Table {
    root: Option<Wd>,
    folders: HashMap<Wd, Folder>,
}

struct Folder {
    /// `None` of the share itself.
    above: Option<(Wd, Arc<[u8]>)>,
    below: BTreeMap<Arc<[u8]>, Wd>,
}

impl Table {
    /// How many watches there are.
    pub(super) fn len(&self) -> usize {
        self.folders.len()
    }

    /// The watch of a folder; `None` is the share itself.
    pub(super) fn find(&self, path: Option<&RelPath>) -> Option<Wd> {
        let mut wd = self.root?;
        for name in path.into_iter().flat_map(RelPath::names) {
            wd = *self.folders.get(&wd)?.below.get(name)?;
        }
        Some(wd)
    }

    /// The folder of a watch, as `Some(None)` for the share itself; `None` of
    /// a watch that was forgotten.
    pub(super) fn path(&self, wd: Wd) -> Option<Option<RelPath>> {
        let mut names: Vec<&[u8]> = Vec::new();
        let mut folder = self.folders.get(&wd)?;
        // The bound is for a loop that cannot be; see `put`.
        while let Some((above, name)) = folder
            .above
            .as_ref()
            .filter(|_| names.len() < PATH_BYTES_MAX)
        {
            names.push(name);
            folder = self.folders.get(above)?;
        }
        if names.is_empty() {
            return Some(None);
        }
        names.reverse();
        RelPath::parse(&names.join(&b'/')).ok().map(Some)
    }

    /// Notes that `wd` is the watch of `path`. Watches that thereby are nobody's
    /// any more are returned; `None` when the folder above is not watched.
    pub(super) fn put(&mut self, path: Option<&RelPath>, wd: Wd) -> Option<Vec<Wd>> {
        let known = self.find(path);
        if known == Some(wd) {
            return Some(Vec::new());
        }
        let above = match path {
            None => None,
            Some(path) => {
                let above = self.find(path.parent().as_ref())?;
                // Where a move was not heard of yet, a folder could end up in itself.
                let mut at = Some(above);
                while let Some(folder) = at {
                    if folder == wd {
                        return None;
                    }
                    at = self.folders[&folder]
                        .above
                        .as_ref()
                        .map(|(above, _)| *above);
                }
                Some((above, Arc::<[u8]>::from(path.name())))
            }
        };
        // Detached first: it may have been in the folder that it replaces.
        self.detach(wd);
        let replaced = known.map(|known| self.forget(known)).unwrap_or_default();
        match &above {
            None => self.root = Some(wd),
            Some((above, name)) => {
                let above = self.folders.get_mut(above)?;
                above.below.insert(name.clone(), wd);
            }
        }
        self.folders
            .entry(wd)
            .or_insert_with(|| Folder {
                above: None,
                below: BTreeMap::new(),
            })
            .above = above;
        Some(replaced)
    }

    /// Forgets a watch and all below it; which they are.
    pub(super) fn forget(&mut self, wd: Wd) -> Vec<Wd> {
        self.detach(wd);
        let mut forgotten = Vec::new();
        let mut open = vec![wd];
        while let Some(wd) = open.pop() {
            if let Some(folder) = self.folders.remove(&wd) {
                open.extend(folder.below.into_values());
                forgotten.push(wd);
            }
        }
        forgotten
    }

    /// Takes a folder out of the one above it.
    fn detach(&mut self, wd: Wd) {
        if self.root == Some(wd) {
            self.root = None;
        }
        let above = self
            .folders
            .get(&wd)
            .and_then(|folder| folder.above.clone());
        if let Some((above, name)) = above
            && let Some(above) = self.folders.get_mut(&above)
        {
            above.below.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    fn table() -> Table {
        let mut table = Table::default();
        assert!(table.put(Some(&path("a")), 9).is_none());
        assert_eq!(table.put(None, 1), Some(vec![]));
        for (wd, folder) in [(2, "a"), (3, "a/b"), (4, "a/b/c"), (5, "d")] {
            assert_eq!(table.put(Some(&path(folder)), wd), Some(vec![]));
        }
        table
    }

    #[test]
    fn a_watch_is_found_by_its_folder_and_the_reverse() {
        let table = table();
        assert_eq!(table.find(None), Some(1));
        assert_eq!(table.path(1), Some(None));
        assert_eq!(table.find(Some(&path("a/b/c"))), Some(4));
        assert_eq!(table.path(4), Some(Some(path("a/b/c"))));
        assert_eq!(table.path(77), None);
        assert_eq!(table.find(Some(&path("a/x"))), None);
    }

    #[test]
    fn what_is_forgotten_goes_with_all_below_it() {
        let mut table = table();
        assert_eq!(table.forget(2), [2, 3, 4]);
        assert_eq!(table.find(Some(&path("a"))), None);
        assert_eq!(table.path(4), None);
        assert_eq!(table.len(), 2);
        assert_eq!(table.forget(2), [] as [Wd; 0]);
    }

    #[test]
    fn a_folder_that_moves_takes_what_is_in_it_along() {
        let mut table = table();
        assert_eq!(table.put(Some(&path("d/new")), 3), Some(vec![]));
        assert_eq!(table.path(4), Some(Some(path("d/new/c"))));
        assert_eq!(table.find(Some(&path("a/b"))), None);
        // Another folder under the name of a watched one.
        assert_eq!(table.put(Some(&path("d")), 6), Some(vec![5, 3, 4]));
        assert_eq!(table.find(Some(&path("d"))), Some(6));
    }

    #[test]
    fn a_folder_can_replace_the_one_it_was_in() {
        let mut table = table();
        assert_eq!(table.put(Some(&path("a")), 3), Some(vec![2]));
        assert_eq!(table.path(4), Some(Some(path("a/c"))));
    }

    #[test]
    fn no_folder_is_ever_in_itself() {
        let mut table = table();
        assert_eq!(table.put(Some(&path("a/b/x")), 2), None);
        assert_eq!(table.path(4), Some(Some(path("a/b/c"))));
    }
}

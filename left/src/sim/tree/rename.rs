//! Renaming, with all that Linux refuses.

use rustix::io::Errno;

use super::{FileSystem, ROOT};
use crate::disk::Rename;
use crate::sim::inode::Id;

impl FileSystem {
    pub(in crate::sim) fn rename(
        &mut self,
        from: (Id, &[u8]),
        to: (Id, &[u8]),
        how: Rename,
    ) -> Result<(), Errno> {
        if how != Rename::Plain && !self.config.has_rename_flags {
            return Err(Errno::INVAL);
        }
        let moved = self.lookup(from.0, from.1)?;
        let there = self.find(to.0, to.1)?;
        match (how, there) {
            (Rename::NoReplace, Some(_)) => return Err(Errno::EXIST),
            (Rename::Exchange, None) => return Err(Errno::NOENT),
            _ => {}
        }
        // No folder goes into itself, and none over what it is in.
        if from.0 != to.0 {
            if self.is_in(to.0, moved) {
                return Err(Errno::INVAL);
            }
            if there.is_some_and(|there| self.is_in(from.0, there)) {
                return Err(match how {
                    Rename::Exchange => Errno::INVAL,
                    _ => Errno::NOTEMPTY,
                });
            }
        }
        if there == Some(moved) {
            return Ok(());
        }
        let is_dir = self.get(moved).is_dir();
        self.may_take(from.0, moved, is_dir)?;
        let to_dir = there.is_some_and(|there| self.get(there).is_dir());
        match there {
            None => self.may_add(to.0)?,
            Some(there) if how == Rename::Exchange => self.may_take(to.0, there, to_dir)?,
            Some(there) => self.may_take(to.0, there, is_dir)?,
        }
        if from.0 != to.0 {
            if is_dir {
                self.may(moved, 2)?;
            }
            if let (Rename::Exchange, true, Some(there)) = (how, to_dir, there) {
                self.may(there, 2)?;
            }
        }
        let back = there.filter(|_| how == Rename::Exchange);
        let replaced = there.filter(|_| how != Rename::Exchange);
        if replaced.is_some_and(|there| !self.get(there).names.is_empty()) {
            return Err(Errno::NOTEMPTY);
        }
        let removed = replaced.filter(|_| to_dir);
        let moves_folder = from.0 != to.0 && (is_dir || back.is_some() && to_dir);
        let effects = vec![(from.0, from.1, back), (to.0, to.1, Some(moved))];
        self.change_names(effects, removed, moves_folder);
        for id in [Some(moved), there].into_iter().flatten() {
            self.touch_ctime(id);
        }
        Ok(())
    }

    /// Whether a folder is `above`, or somewhere below it.
    fn is_in(&self, mut folder: Id, above: Id) -> bool {
        while folder != above {
            if folder == ROOT || self.get(folder).links == 0 {
                return false;
            }
            folder = self.get(folder).parent;
        }
        true
    }
}

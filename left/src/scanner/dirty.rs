//! Looks at what is marked and at nothing else, by the same rules.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use rustix::io::Errno;

use super::cursor::Cursor;
use super::look::Look;
use super::rules::News;
use super::{Into, Level, ScanEnd, Scanner, Sink};
use crate::disk::Disk;
use crate::ignore::RULES_FILE;
use crate::index::{IndexError, Store};
use crate::path::RelPath;
use crate::record::Record;
use crate::watcher::Mark;

/// A name that was not found, and what is known of it.
type Gone<'a> = (&'a RelPath, Option<Record>);

impl<D: Disk, S: Store> Scanner<D, S> {
    /// Looks at what is marked. Folders that nobody watches yet are walked to
    /// their end; the others make marks of their own.
    pub fn scan_dirty(&mut self, marks: &[Mark], sink: Sink<'_>) -> Result<ScanEnd, IndexError> {
        let began = self.begin();
        let is_rules = |path: &RelPath| path.as_bytes() == RULES_FILE.as_bytes();
        let mut marked = marks.iter();
        self.is_quiet = marked.any(|mark| matches!(mark, Mark::Name(path) if is_rules(path)));
        match self.look_at_rules() {
            News::Nothing => {}
            News::IgnoresLess => return self.scan_all(began, sink),
            News::Unsure => {
                self.again.everything = true;
                return Ok(self.end(began, sink));
            }
        }
        // Names of one folder are looked at together: it is opened once, and
        // listed once when some of them are gone.
        let mut by_folder: BTreeMap<Option<RelPath>, Vec<&RelPath>> = BTreeMap::new();
        for mark in marks {
            match mark {
                Mark::Name(path) => by_folder.entry(path.parent()).or_default().push(path),
                Mark::Folder(Some(folder)) if self.ignores(folder, true) => {
                    self.unwatch_ignored(folder);
                }
                Mark::Folder(folder) => {
                    self.is_quiet = false;
                    if let Some(top) = self.list(folder.as_ref())
                        && self.walk(top, Into::Unwatched, sink)?.is_err()
                    {
                        return Ok(ScanEnd::Stopped);
                    }
                }
            }
        }
        // What is gone is told of last: where it went to is known by then.
        let mut gone = Vec::new();
        for (folder, paths) in &by_folder {
            match self.scan_names(folder.as_ref(), paths, sink)? {
                Ok(of_folder) => gone.push((folder.as_ref(), of_folder)),
                Err(()) => return Ok(ScanEnd::Stopped),
            }
        }
        for (folder, gone) in gone {
            if self.note_gone(folder, gone, sink)?.is_err() {
                return Ok(ScanEnd::Stopped);
            }
        }
        Ok(self.end(began, sink))
    }

    /// Which of the names are gone; all else is told.
    fn scan_names<'a>(
        &mut self,
        folder: Option<&RelPath>,
        paths: &[&'a RelPath],
        sink: Sink<'_>,
    ) -> Result<Result<Vec<Gone<'a>>, ()>, IndexError> {
        let mut gone = Vec::new();
        if let Some(folder) = folder.filter(|folder| self.ignores(folder, true)) {
            self.unwatch_ignored(folder);
            return Ok(Ok(gone));
        }
        let opened = match self.share.open_dir(folder) {
            Ok(opened) => opened,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                // What became of the folder is told of above it, with all that
                // was in it.
                if let Some(folder) = folder {
                    self.again.told(folder);
                }
                return Ok(Ok(gone));
            }
            Err(_) => {
                // Tells why, and nothing of what is in it.
                if self.list(folder).is_some() {
                    paths.iter().for_each(|path| self.again.told(path));
                }
                return Ok(Ok(gone));
            }
        };
        let mut level = Level {
            path: folder.cloned(),
            folder: Some(opened),
            names: Vec::new().into_iter(),
        };
        for path in paths {
            self.is_quiet = true;
            let record = self.index.get(path)?;
            let look = self.look(&mut level, path, record.as_ref());
            if matches!(look, Look::Same | Look::Differs(_) | Look::Ignored) {
                // Nothing can be below what is no folder, or is to be known there.
                let mut below = Cursor::below(Some((*path).clone()));
                if self.note_rest_absent(&mut below, sink)?.is_err() {
                    return Ok(Err(()));
                }
            }
            match look {
                Look::Same => self.reporter.solved_seen(path.as_bytes()),
                Look::Gone => {
                    self.reporter.solved_seen(path.as_bytes());
                    gone.push((*path, record));
                }
                Look::Restless => self.again.restless((*path).clone()),
                Look::Differs(seen) => {
                    self.observe((*path).clone(), record.as_ref(), seen);
                }
                Look::Unknown => {}
                Look::Ignored => {
                    let live = record.filter(|record| !record.entry.is_deleted());
                    if let Some(known) = live {
                        let seen = self.seen_instead(path, &known);
                        self.observe((*path).clone(), Some(&known), seen);
                    }
                }
                Look::Folder(seen) => {
                    if let Some(seen) = seen {
                        self.observe((*path).clone(), record.as_ref(), seen);
                    }
                    self.is_quiet = false;
                    if !self.is_watched(path)
                        && let Some(below) = self.list(Some(path))
                        && self.walk(below, Into::All, sink)?.is_err()
                    {
                        return Ok(Err(()));
                    }
                }
            }
            if self.stop.load(Ordering::Relaxed) || self.hand_over_if_due(sink).is_err() {
                return Ok(Err(()));
            }
        }
        Ok(Ok(gone))
    }

    /// Only what is not in the complete list of its folder either is absent.
    fn note_gone(
        &mut self,
        folder: Option<&RelPath>,
        mut gone: Vec<Gone<'_>>,
        sink: Sink<'_>,
    ) -> Result<Result<(), ()>, IndexError> {
        let mut unheard = Ok(());
        gone.retain(|(path, record)| {
            let is_known = record
                .as_ref()
                .is_some_and(|record| !record.entry.is_deleted());
            is_known
                || match Cursor::below(Some((*path).clone())).front(&*self.index) {
                    Ok(below) => below.is_some(),
                    Err(error) => {
                        unheard = Err(error);
                        false
                    }
                }
        });
        unheard?;
        if gone.is_empty() {
            return Ok(Ok(()));
        }
        let Some(listed) = self.list(folder) else {
            return Ok(Ok(()));
        };
        let names = listed.names.as_slice();
        for (path, record) in gone {
            if names
                .binary_search_by(|name| (**name).cmp(path.name()))
                .is_ok()
            {
                self.again.told(path);
                continue;
            }
            if let Some(record) = &record {
                self.note_absent(path, record);
            }
            let mut below = Cursor::below(Some(path.clone()));
            if self.note_rest_absent(&mut below, sink)?.is_err() {
                return Ok(Err(()));
            }
        }
        Ok(Ok(()))
    }
}
